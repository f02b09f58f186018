"""Every sentence and label of the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from selfreg.report.worth import BudgetWorth, enough, mean_of, prices_of

# ---- headings

TITLE = "When to request help: {}"
WORTH = "What a request is worth"
SITUATIONS = "When to request help"
RULES = "Rules to print"
EVIDENCE = "Evidence"
NOTES = "Notes"
EVALUATION = "Results on held-out tasks"
FORECASTS = "Predicted and realised"
PLAN = "In-sample: the plan in the model that it was made from"
COVERAGE = "Data behind the plan"
REQUESTS = "Where the plan requests help"
SKIPPED = "Skipped records"
SETTINGS = "Settings"
FIGURES = {
    "prm": "Process reward model: figures on its held-out tasks",
    "helper": "Helper: figures on its held-out tasks",
}
BASELINES = "Process reward model beside other models"
SAVE = "Save this picture (SVG)"
LOW_COUNTS = (
    "{:.0f}% of the planned success depends on states that were seen fewer than {} times: what the plan gains there is "
    "uncertain. The forecast is not of these numbers."
)
NONE_PAYS = "No budget adds more than it costs, by more than chance."
NOT_SURE = "but among all policies that were compared this may be chance. More logs can tell."
ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")
PAYS = {"yes": "worth it", "no": "not worth it", "unsure": "too uncertain to say whether it is worth it"}
ADDS = {"yes": "more success", "less": "less success", "unsure": "no significant difference"}

# ---- captions

EVALUATION_CAPTION = (
    "Closed loop on {} tasks that were not used for training. All policies run with the same random numbers. Intervals "
    "are 95% bootstrap intervals over tasks. Random and PRM threshold have no limit; they are shown at the helper's "
    "mean cost. The plan was made with logs of these tasks: it is a reference for the helper, not a competitor."
)
FORECASTS_CAPTION = (
    "Success and help that the plan predicted for these tasks, and their realised values when the plan was followed. "
    "A prediction outside of its interval is marked."
)
OUTLOOK_CAPTION = (
    "Forecast for new tasks, with {:.0f}% intervals. Each point is a policy under a budget: further right it costs "
    "more requests, further up it succeeds more often."
)
BOUNDS_CAPTION = "A pale bar without a marker shows bounds: no logged episode shows what the policy would attain."
RULES_CAPTION = (
    "last-k requests help in the last steps of an episode of usual length, every-n at every n-th step, while the "
    "budget lasts."
)
OUTLOOK_ALT = "Success against requests a task, as forecast."
WORTH_CAPTION = (
    "Policy: {}. Success per request is against going alone: a request that costs more than that, in success, does "
    "not pay. Prices are in the unit of --price and --worth."
)
PLAN_CAPTION = (
    "Planned success and units of budget used, from the start distribution. The values are computed in the estimated "
    "model, on the data that it was estimated from. They are optimistic if many rows have low counts."
)
BOUND = "The solver's error is proven to be at most {:.1e}."
INTERVALS = (
    "Intervals are for the success that the plan will realise. They are computed from {} resampled logs (whole tasks "
    "are drawn). They are corrected for the optimism of a choice between rows with few visits, so they may lie below "
    "the planned success."
)
CROSS_FIT = (
    "The last two columns are means over {} random splits of the tasks. A plan is made from one half; its success is "
    "predicted by the model of the same half, and by the model of the other half. The difference is optimism."
)
TIMING_CAPTION = (
    "Planned success of the first request of an episode, by the step at which it is made, with a budget for one "
    "request of this help; means over logged moments that no help came before. Where help in the middle has to read "
    "what was done, handing over now is worth less from step to step."
)
COVERAGE_CAPTION = "A row is a state and an action. Rows with fewer than {} visits are low-count rows."
REQUESTS_CAPTION = "Share of logged steps at which the plan requests help, among steps where help is available."
SITUATIONS_CAPTION = (
    "Where help gains most, by the number of visits and the gain at each, in the model of these logs (in-sample), with "
    "an example of the text that the agent saw. Steps are counted from 1."
)
SUPPORT = {"often": "Seen often", "some": "Seen sometimes", "few": "Seen rarely, so not sure"}
RULES_UNKNOWN = "The logs cannot tell how much of the plan's gain that is."
NO_REQUESTS = "The plan never requests help: help is not available, or it never raises success."
RELIABILITY_CAPTION = (
    "Reliability on test tasks: on the dotted line, predicted probabilities equal observed rates. Bars are 95% "
    "bootstrap intervals over tasks. The area of a dot is the share of states."
)
SETTINGS_CAPTION = "{} settings and versions"

# ---- pictures for who cannot see them

VALUE_ALT = "Planned success and planned help by budget; the table below has the numbers."
EVALUATION_ALT = "Success against help used on held-out tasks; the table below has the numbers."
FORECASTS_ALT = "Predicted and realised success and help by budget; the table below has the numbers."
STEPS_ALT = "Share of steps at which the plan requests help, by step of the episode and budget left."
COVERAGE_ALT = "Share of visits on rows with few visits, by action, and share of success on such rows, by budget."
RELIABILITY_ALT = "Observed success rate against predicted probability, with a diagonal where both are equal."
SWEEP_ALT = "Planned success by budget, a line for each model."
EFFECT_ALT = "Planned success by {}, at three budgets."

# ---- columns of tables

OUTLOOK_TABLE = "Forecast of all {} policies"
OUTLOOK_COLUMNS = ("policy", "budget", "success", "requests a task")
BASIS_COLUMN, ESTIMATE, BOUNDS_ONLY = "success is", "an estimate", "bounds only"
OUTCOME_COLUMNS = ("policy", "limit", "success", "help used", "steps", "unseen states")
AT_BUDGET = "budget {}"
DIFFERENCE_COLUMN = "success of the helper minus success of ..., in points"
FORECAST_COLUMNS = (
    "budget",
    "predicted success",
    "realised success",
    "interval",
    "predicted help used",
    "realised help used",
    "interval",
)
TIMING, TIMING_COLUMNS = "Early or late", ("help", "step", "moments", "handed over now", "best later", "alone")
PLAN_COLUMNS = ("budget", "planned success", "planned help used")
INTERVAL_COLUMN = "success, {:.0f}% interval"
CROSS_FIT_COLUMNS = ("plan of half of the tasks, same half", "other half")
FIGURE_COLUMNS, SETTING_COLUMNS = ("figure", "value"), ("setting", "value")
PRM_COLUMNS = ("model", "AUROC", "Brier score", "calibration error")
NO_LIMIT, INSIDE, OUTSIDE, UNKNOWN = "none", "inside", "outside", "unknown"

# ---- labels of plots

REQUESTS_A_TASK, RECOMMENDED = "requests a task", "recommended"
FORECAST_SUCCESS = "success on new tasks (%), {:.0f}% intervals"

BUDGET, BUDGET_LEFT, STEP = "budget", "budget left", "episode step"
PLANNED, PLANNED_SUCCESS, PLANNED_HELP = "planned", "planned success", "planned help used"
OTHER_HALF = "on the other tasks"
LOGGED = "logged, {} episodes"
MEAN_HELP, HELD_OUT_SUCCESS = "help used per episode (mean)", "success on held-out tasks"
ALWAYS = "always (help {:.1f})"
REALISED, PREDICTED, PLAN_ON_OWN_TASKS = "realised", "predicted", "{}, plan on its own tasks"
REQUEST_SHARE = "share of steps with a request"
ROW_LIMIT, LOW_COUNT_VISITS = "visits of a row", "share of visits on rows\nwith fewer visits"
LOW_COUNT_SUCCESS = "share of planned success\non low-count rows"
MEAN_PROBABILITY, OBSERVED = "mean P(success)", "share of successes"
MODEL, MEDIAN = "model {}", "median of {} models"
EFFECT = "planned success (mean, range)"


def lead(summary: Mapping[str, Any]) -> str:
    """First sentences of the report: the size of the data, and success without and with help."""
    text = (
        f"{summary['episodes']} episodes of {summary['tasks']} tasks, {summary['steps']} steps, {summary['states']} "
        f"states; actions {', '.join(summary['actions'])}. "
    )
    alone, helped = summary["unhelped"], summary["helped"]
    if alone["success"] is None:
        text += "There are no episodes without help."
    else:
        text += f"Success without help: {100 * alone['success']:.1f}% of {alone['episodes']} episodes."
    if helped["success"] is not None:
        text += f" Success with help: {100 * helped['success']:.1f}% of {helped['episodes']} episodes."
    return text


def policy_name(one: Mapping[str, Any]) -> str:
    """Name of a policy of the forecast: with its rule and the help that it requests."""
    name = one["rule"] or one["policy"]
    return name if one["help"] is None else f"{name} ({one['help']})"


def numbers(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Values and their labels: success alone and as recommended, requests, and what they cost."""
    alone, chosen = summary["forecast"][0], summary["recommendation"]
    same = [one for one in summary["forecast"] if policy_name(one) == policy_name(chosen)]
    entry = next((one for one in same if one["budget"] == chosen["budget"]), alone)
    requests = chosen["requests"]
    found = [
        (_percent(alone), "success alone"),
        (_percent(entry), "success as recommended"),
        (f"{requests['mean']:.1f}", "requests a task"),
    ]
    given, mix = prices_of(summary), entry.get("mix") or {}
    price, minutes = (mean_of(given.get(name, {}), mix) for name in ("money", "minutes"))
    if price is not None:
        found.append((f"{price * requests['mean']:.2f}", "cost a task"))
    if price is not None and given.get("worth") is not None:
        net = given["worth"] * (entry["success"]["mean"] - alone["success"]["mean"]) - price * requests["mean"]
        found.append((f"{net:+.2f}", f"gain a task at {given['worth']:g} a success"))
    if minutes is not None:
        found.append((f"{minutes * requests['mean']:.1f} min", "time of helpers a task"))
    return found


def worth_lines(rows: Sequence[BudgetWorth]) -> list[str]:
    """What each budget adds, in a sentence each."""
    return [_added(row) for row in rows if row.added is not None]


def where_to_stop(rows: Sequence[BudgetWorth], recommended: bool) -> str:
    """The budget up to which each request adds more than it costs; "" where that says nothing new."""
    known = [row for row in rows if row.added is not None]
    n = enough(known)
    if not n:
        return "" if recommended or not known else NONE_PAYS
    row = known[n - 1]
    attained = f"{_success(row.success)} success with {row.requests:.1f} requests a task"
    if not recommended:
        return f"Budget {row.budget} looks worth it ({attained}), {NOT_SURE}"
    if n == len(known):
        return ""
    why = "not worth its price" if known[n].verdict == "no" else "not significant"
    return f"Budget {row.budget} may be enough: {attained}. What a larger one adds is {why}."


def _added(row: BudgetWorth) -> str:
    assert row.added is not None
    mean, low, high = (100 * row.added[name] for name in ("mean", "low", "high"))
    one_more = row.by_request and row.budget == row.smaller + 1 and row.budget <= len(ORDINALS)
    name = ORDINALS[row.budget - 1] if one_more else ""
    text = f"The {name} request" if name else f"Budget {row.budget} instead of {row.smaller}"
    text += f" adds {mean:.0f} points of success ({low:.0f} to {high:.0f})"
    each = row.price is not None and row.added_requests > 0
    text += f" for {row.price:.2f} each" if each else f" for {max(row.added_requests, 0.0):.1f} requests a task"
    if row.price is not None and row.worth is not None:
        return f"{text}: {PAYS[row.verdict]} at {row.worth:g} a success."
    return f"{text}: {ADDS['less' if row.verdict == 'no' else row.verdict]}."


def worth_table(rows: Sequence[BudgetWorth]) -> tuple[list[str], list[list[str]]]:
    """Columns and cells: a row a budget."""
    priced, valued = any(row.cost is not None for row in rows), any(row.worth is not None for row in rows)
    columns = ["budget", "success", "requests a task", "success per request"]
    columns += ["break-even price of a request"] if valued else []
    columns += ["cost a task"] if priced else []
    columns += ["gain a task over going alone"] if priced and valued else []
    cells = []
    for row in rows:
        cell = [str(row.budget), _success(row.success), f"{row.requests:.2f}", _points(row.per_request)]
        cell += [_money(row.break_even)] if valued else []
        cell += [_money(row.cost)] if priced else []
        cell += [_money(row.net)] if priced and valued else []
        cells.append(cell)
    return columns, cells


def _points(value: float | None) -> str:
    return UNKNOWN if value is None else f"{100 * value:+.1f} points"


def _money(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.2f}"


def _success(one: Mapping[str, float]) -> str:
    return f"{100 * one['mean']:.0f}% ({100 * one['low']:.0f} to {100 * one['high']:.0f})"


def outlook_caption(summary: Mapping[str, Any]) -> str:
    """What the first picture shows."""
    rows = summary["forecast"]
    parts = [OUTLOOK_CAPTION.format(100 * summary["recommendation"]["confidence"])]
    parts += [BOUNDS_CAPTION] if _has_bounds(summary) else []
    parts += [RULES_CAPTION] if any(one["policy"] == "rule" for one in rows) else []
    return " ".join(parts)


def outlook_alt(rows: Sequence[Mapping[str, Any]], chosen: Mapping[str, Any]) -> str:
    """The first picture in words."""
    parts = []
    for one in rows:
        if one["policy"] in ("never", "always") or (policy_name(one), one["budget"]) == (
            policy_name(chosen),
            chosen["budget"],
        ):
            requests = one["requests"]["mean"]
            parts.append(f"{policy_name(one)}, budget {one['budget']}: {_percent(one)} with {requests:.1f} requests")
    return f"{OUTLOOK_ALT} {'; '.join(parts)}."


def _percent(one: Mapping[str, Any]) -> str:
    """Success of a policy; bounds alone where there is no estimate."""
    mean, low, high = (100 * one["success"][name] for name in ("mean", "low", "high"))
    return f"{mean:.0f}% ({low:.0f} to {high:.0f})" if one["identified"] else f"{low:.0f} to {high:.0f}%"


def situation(one: Mapping[str, Any]) -> str:
    """A situation: what it is, what helps, how much, and how sure."""
    name = f"{one['name']}: " if one["name"] else "Here "
    visits = one["visits"]
    text = f"{name}{one['help']} raises success from {100 * one['alone']:.0f}% to {100 * one['helped']:.0f}%. "
    text += f"{SUPPORT[one['support']]}: {visits['nohelp']} times alone, {visits[one['help']]} with {one['help']}"
    if one["share"] is not None:
        text += f"; {100 * one['share']:.0f}% of resampled plans request help here"
    if one["from_budget"] is not None:
        text += f". The plan requests it while the budget left is {one['from_budget']} or more"
    return text + "."


def timing_rows(timing: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Cells of the table of hand-offs by step."""
    return [
        [one["help"], str(one["step"] + 1), str(one["moments"])]
        + [f"{100 * one[name]:.1f}%" for name in ("now", "later", "alone")]
        for one in timing
    ]


def rules_worth(summary: Mapping[str, Any]) -> str:
    """What the printed rules attain, and how much of the plan's or helper's gain that is."""
    one = summary["rules"]
    text = f"On tasks that they were not made from the rules attain {_percent(one)} success"
    text += f" with {one['requests']['mean']:.1f} requests a task, with budget {one['budget']}."
    if one["kept"] is None:
        return f"{text} {RULES_UNKNOWN}"
    return f"{text} That is {100 * one['kept']:.0f}% of what the {one['of']} gains over going alone."


def outlook_columns(summary: Mapping[str, Any]) -> list[str]:
    """Columns of the table of forecasts; what a number is, only where some are bounds."""
    return [*OUTLOOK_COLUMNS, *([BASIS_COLUMN] if _has_bounds(summary) else [])]


def _has_bounds(summary: Mapping[str, Any]) -> bool:
    return not all(one["identified"] for one in summary["forecast"])


def outlook_rows(summary: Mapping[str, Any]) -> list[list[str]]:
    """Cells of the table of forecasts."""
    with_basis = _has_bounds(summary)
    return [
        [
            policy_name(one),
            str(one["budget"]) if isinstance(one["budget"], int) else ", ".join(map(str, one["budget"])),
            percents(one["success"]),
            count(one["requests"]),
            *([ESTIMATE if one["identified"] else BOUNDS_ONLY] if with_basis else []),
        ]
        for one in summary["forecast"]
    ]


def percents(one: Mapping[str, float]) -> str:
    """A rate with its interval, in percent."""
    return f"{100 * one['mean']:.1f}% ({100 * one['low']:.1f} to {100 * one['high']:.1f})"


def count(one: Mapping[str, float]) -> str:
    """A mean number with its interval."""
    return f"{one['mean']:.2f} ({one['low']:.2f} to {one['high']:.2f})"


def points(one: Mapping[str, float]) -> str:
    """A difference of rates with its interval, in percentage points."""
    return f"{100 * one['mean']:+.1f} ({100 * one['low']:+.1f} to {100 * one['high']:+.1f})"


def difference(words: str, mean: float, low: float, high: float) -> str:
    """A difference between two policies, with its interval."""
    return f"{words} by {points({'mean': mean, 'low': low, 'high': high})} points."
