"""Every sentence and label of the report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# ---- headings

TITLE = "When to request help: {}"
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
    "Forecast for new tasks: success against requests for help a task, with {:.0f}% intervals. Plan and helper were "
    "made without the tasks that they are evaluated on. A pale bar without a marker shows bounds: no logged episode "
    "shows what the policy would attain."
)
PLAN_CAPTION = (
    "Planned success and help from the start distribution, for every budget. The values are computed in the estimated "
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
COVERAGE_CAPTION = "A row is a state and an action. Rows with fewer than {} visits are low-count rows."
REQUESTS_CAPTION = "Share of logged steps at which the plan requests help, among steps where help is available."
STATES_CAPTION = "States with the largest gain from help times visits, at the largest budget."
NO_REQUESTS = "The plan never requests help: help is not available, or it never raises success."
RELIABILITY_CAPTION = (
    "Reliability on test tasks: on the dotted line, predicted probabilities equal observed rates. Bars are 95% "
    "bootstrap intervals over tasks. The area of a dot is the share of states."
)
SETTINGS_CAPTION = "{} settings and versions"

# ---- columns of tables

OUTLOOK_TABLE = "Forecast of all {} policies"
OUTLOOK_COLUMNS = ("policy", "budget", "success", "requests a task", "")
BOUNDS_ONLY = "bounds"
OUTCOME_COLUMNS = ("policy", "limit", "success", "help used", "steps", "unseen states")
STATE, VISITS, AT_BUDGET = "state", "visits {}", "budget {}"
DIFFERENCE_COLUMN = "success of the helper minus success of"
FORECAST_COLUMNS = ("budget", "predicted success", "realised", "", "predicted help", "realised", "")
PLAN_COLUMNS = ("budget", "planned success", "planned help used")
INTERVAL_COLUMN = "success, {:.0f}% interval"
CROSS_FIT_COLUMNS = ("plan of half of the tasks, same half", "other half")
STATE_COLUMNS = ("success without help now", "success with help now", "requests help from budget")
SHARE_COLUMN = "resampled plans that request help"
PRM_COLUMNS = ("model", "AUROC", "Brier score", "calibration error")
NO_LIMIT, OUTSIDE, UNKNOWN = "none", "outside", "unknown"

# ---- labels of plots

REQUESTS_A_TASK, FORECAST_SUCCESS, RECOMMENDED = "requests a task", "success on new tasks", "recommended"

BUDGET, BUDGET_LEFT, STEP = "budget", "budget left", "episode step"
PLANNED, PLANNED_SUCCESS, PLANNED_HELP = "planned", "planned success", "planned help used"
OTHER_HALF = "on the other tasks"
LOGGED = "logged, {} episodes"
MEAN_HELP, HELD_OUT_SUCCESS = "help used per episode (mean)", "success on held-out tasks"
ALWAYS = "always (help {:.1f})"
REALISED, PREDICTED, PLAN_ON_OWN_TASKS = "realised", "predicted", "{}, plan on its own tasks"
REQUEST_SHARE = "share of steps with a request"
ROW_LIMIT, LOW_COUNT_VISITS = "m", "share of visits on rows\nwith fewer than m"
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


def three_numbers(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Labels and values: success alone, success as recommended, and requests a task."""
    alone, chosen = summary["forecast"][0], summary["recommendation"]
    same = [one for one in summary["forecast"] if policy_name(one) == policy_name(chosen)]
    entry = next((one for one in same if one["budget"] == chosen["budget"]), alone)
    return [
        ("success alone", _percent(alone)),
        ("success as recommended", _percent(entry)),
        ("requests a task as recommended", f"{chosen['requests']['mean']:.1f}"),
    ]


def _percent(one: Mapping[str, Any]) -> str:
    """Success of a policy; bounds alone where there is no estimate."""
    mean, low, high = (100 * one["success"][name] for name in ("mean", "low", "high"))
    return f"{mean:.0f}% ({low:.0f} to {high:.0f})" if one["identified"] else f"{low:.0f} to {high:.0f}%"


def difference(words: str, mean: float, low: float, high: float) -> str:
    """A difference between two policies, with its interval."""
    return f"{words} by {mean:+.3f} [{low:+.3f}, {high:+.3f}]."
