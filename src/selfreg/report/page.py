"""The page of the report: tables and plots from the files of a run folder."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from selfreg._util.bootstrap import as_texts
from selfreg._util.extras import require_extra
from selfreg._util.files import atomic_write
from selfreg.data.log_files import open_arrow
from selfreg.envs import World
from selfreg.estimate import Coverage, EstimatedModel, coverage
from selfreg.evaluate.policies import policy_order
from selfreg.report import plots, words
from selfreg.report.situations import find_situations
from selfreg.report.timing import time_handoffs
from selfreg.report.worth import budget_worths, chosen_policy
from selfreg.runs import RunFolder

with require_extra("logs", "the report"):
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

if TYPE_CHECKING:
    import jinja2

# Differences between the helper and these are also written as sentences.
RIVALS = ("random at equal cost", "PRM threshold at equal cost")
# Share of the planned success on low-count rows from which the report says so before the evidence.
MUCH = 0.5
FORMATS = ("html", "md", "json")
HERE = Path(__file__).parent
SHOWN_STEPS = 40


def write_report(run: RunFolder, format: str = "html") -> Path:
    """Write report.html, report.md or report.json: what to buy, when to ask, and the evidence.

    Parts of stages that have not run are left out.

    Parameters
    ----------
    run : RunFolder
        A run with a solved model.
    format : {"html", "md", "json"}
        A page with pictures, which prints well; text; or the numbers behind both, for programs.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    ValueError
        If model.npz, solution.npz or summary.json is missing or damaged, or the format is unknown.
    ImportError
        Without the extra `logs`.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from selfreg.cli.main import main
    >>> from selfreg.data import Step, Trajectory, write_trajectories
    >>> from selfreg.report import write_report
    >>> from selfreg.runs import RunFolder
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> write_trajectories(folder / "log.jsonl", [Trajectory("a", "0", 1.0, (Step("start"),))])
    >>> main(["fit", str(folder / "log.jsonl"), "--out", str(folder / "run"), "--budget", "0"])  # doctest: +ELLIPSIS
    no forecast...
    0
    >>> write_report(RunFolder.open(folder / "run")).name
    'report.html'
    """
    if format not in FORMATS:
        raise ValueError(f"format is {format!r}; expected one of {', '.join(FORMATS)}")
    summary = run.summary()
    model = run.model()
    found = _content(run, summary, model)
    if format == "json":
        text = json.dumps(_as_json(found), indent=1) + "\n"
    else:
        pictures = _pictures(run, summary, model, found["coverage"]) if format == "html" else {}
        text = _template(format).render(words=words, **found, **pictures)
    path = run.path / f"report.{format}"
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def _content(run: RunFolder, summary: dict[str, Any], model: EstimatedModel) -> dict[str, Any]:
    """All that every format shows."""
    solution, settings, trajectories = run.solution(model), run.settings(), run.trajectories()
    covered = coverage(model, trajectories, solution)
    worths = budget_worths(summary)
    columns, rows = words.worth_table(worths)
    chosen = chosen_policy(summary) if worths else []
    plan_columns, plan_rows = _plan_table(summary)
    return {
        "title": _title(settings),
        "summary": summary,
        "numbers": words.numbers(summary) if summary.get("recommendation") else [],
        "worth_lines": words.worth_lines(worths),
        "where_to_stop": words.where_to_stop(worths, bool(chosen) and summary["recommendation"]["policy"] != "never"),
        "worth_columns": columns,
        "worth_rows": rows,
        "worth_policy": words.policy_name(chosen[0]) if chosen else "",
        "situations": find_situations(model, solution, trajectories, run.request_shares()),
        "timing": [one._asdict() for one in time_handoffs(model, solution, trajectories)],
        "notes": [*summary["notes"], *_low_counts(covered)],
        "coverage": covered,
        "plan_columns": plan_columns,
        "plan_rows": plan_rows,
        "trust": summary.get("uncertainty"),
        "settings": _flat(settings),
        "skipped": settings.get("import", {}).get("skipped", []),
    }


def _low_counts(covered: Coverage) -> list[str]:
    """A note where most of the planned success depends on rows with few visits: it says how far to trust the plan."""
    shares = covered.low_count_share
    share = 0.0 if shares is None else float(np.ravel(shares)[-1])  # at the largest budget
    return [words.LOW_COUNTS.format(100 * share, covered.fewer_than)] if share >= MUCH else []


def _as_json(found: dict[str, Any]) -> dict[str, Any]:
    names = ("title", "worth_lines", "where_to_stop", "notes", "situations", "timing", "settings", "skipped")
    table = [dict(zip(found["worth_columns"], row, strict=True)) for row in found["worth_rows"]]
    return {**{name: found[name] for name in names}, "numbers": {label: shown for shown, label in found["numbers"]},
            "worth": table, "summary": found["summary"]}  # fmt: skip


def _pictures(run: RunFolder, summary: dict[str, Any], model: EstimatedModel, covered: Coverage) -> dict[str, Any]:
    """Pictures, and what only the page shows."""
    solution, settings = run.solution(model), run.settings()
    single = len(solution.budget) == 1
    return {
        "style": (HERE / "report.css").read_text(encoding="utf-8"),
        "script": (HERE / "report.js").read_text(encoding="utf-8"),
        "outlook_plot": _outlook_plot(summary),
        "value_plot": plots.value_by_budget(summary) if single else None,
        "step_plot": _step_plot(run) if single and len(model.mdp.actions) > 1 else None,
        "coverage_plot": plots.coverage(covered, summary["budgets"] if single else None),
        "evaluation": _evaluation(summary),
        "figures": {part: _figures(settings[part]["figures"]) for part in ("prm", "helper") if part in settings},
        "prm": _prm(run),
    }


def _template(format: str) -> jinja2.Template:
    with require_extra("logs", "the report"):
        import jinja2

    loader = jinja2.PackageLoader("selfreg", "report")
    environment = jinja2.Environment(
        loader=loader, autoescape=format == "html", undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    environment.filters |= {"md": _escape_markdown, "rows": _markdown_rows, "quoted": _quote}
    return environment.get_template(f"report.{format}")


def _escape_markdown(text: object) -> str:
    """Text of logs as it is: no markup and no HTML."""
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", str(text).replace("\n", " "))


def _markdown_rows(rows: Sequence[Sequence[object]], heading: bool = True) -> str:
    lines = [f"| {' | '.join(map(_escape_markdown, row))} |" for row in rows]
    return "\n".join([*lines, f"|{' --- |' * len(rows[0])}"] if heading else lines)


def _quote(text: str) -> str:
    """A block of code inside of a list."""
    return "\n".join(f"       {line}" for line in text.splitlines())


def _plan_table(summary: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Planned success and help by budget, in-sample, with intervals and cross-fitted values where there are any."""
    trust, columns = summary.get("uncertainty"), [*words.PLAN_COLUMNS]
    crossed = trust["cross_fit"] if trust else None
    columns += [words.INTERVAL_COLUMN.format(100 * trust["confidence"])] if trust else []
    columns += words.CROSS_FIT_COLUMNS if crossed else []
    rows = []
    for i, (budget, success, usage) in enumerate(
        zip(summary["budgets"], summary["success"], summary["usage"], strict=True)
    ):
        row = [_joined(budget, "{}"), f"{100 * success:.1f}%", _joined(usage, "{:.2f}")]
        if trust:
            low, high = (100 * trust["success"][end][i] for end in ("low", "high"))
            row.append(f"{low:.1f} to {high:.1f}%")
        row += [f"{100 * crossed[name][i]:.1f}%" for name in ("naive_half", "crossed")] if crossed else []
        rows.append(row)
    return columns, rows


def _joined(values: Any, form: str) -> str:
    return ", ".join(form.format(value) for value in np.ravel(values).tolist())


def _title(settings: dict[str, Any]) -> str:
    if "collect" in settings:
        return World.of(settings["collect"]["world"]).title
    return ", ".join(settings.get("import", {}).get("logs", ["a run"]))


def _outlook_plot(summary: dict[str, Any]) -> str | None:
    chosen = summary.get("recommendation")
    return plots.outlooks(summary["forecast"], chosen) if chosen else None


def _step_plot(run: RunFolder) -> str | None:
    if not run.has("labels.parquet"):
        return None
    with open_arrow(run.path / "labels.parquet") as file:
        labels = pq.read_table(file, columns=["step", "budget", "decision", "advantage"])
    labels = labels.filter(pc.is_valid(labels["advantage"]))
    if not labels.num_rows:
        return None
    step, budget = labels["step"].to_numpy(), labels["budget"].to_numpy()
    requested = pc.not_equal(labels["decision"], "nohelp").to_numpy()
    shown = step < SHOWN_STEPS
    shape = (int(budget.max()) + 1, int(step[shown].max()) + 1)
    total, requests = np.zeros(shape), np.zeros(shape)
    np.add.at(total, (budget[shown], step[shown]), 1.0)
    np.add.at(requests, (budget[shown], step[shown]), requested[shown])
    share: npt.NDArray[np.float64] = np.divide(requests, total, out=np.full(shape, np.nan), where=total > 0)
    return plots.help_by_step(share[1:], list(range(1, shape[0])))


def _prm(run: RunFolder) -> dict[str, Any] | None:
    """Calibration of the PRM and comparison with baseline models, from the PRM's folder."""
    if not run.has("prm"):
        return None
    facts = json.loads((run.path / "prm" / "selfreg.json").read_text(encoding="utf-8"))["facts"]
    rows = facts.get("reliability")
    baselines = facts.get("baselines")
    scored = baselines["rows"] if baselines else []
    scores = [[row["name"], *(_score(row[name]) for name in ("auroc", "brier", "ece"))] for row in scored]
    return {"plot": plots.reliability_diagram(rows) if rows else None, "baselines": baselines, "rows": scores}


def _figures(figures: dict[str, Any]) -> list[tuple[str, str]]:
    return [(name.replace("_", " "), text) for name, text in as_texts(figures).items()]


def _score(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    return words.UNKNOWN if len(known) < 3 else f"{known[0]:.3f} ({known[1]:.3f} to {known[2]:.3f})"


def _evaluation(summary: dict[str, Any]) -> dict[str, Any] | None:
    if "evaluation" not in summary:
        return None
    found = summary["evaluation"]
    budgets = sorted({d["budget"] for d in found["differences"]})
    gaps: dict[str, dict[int, Any]] = {}
    for difference in found["differences"]:
        gaps.setdefault(difference["other"], {})[difference["budget"]] = difference
    outcomes = sorted(
        found["outcomes"], key=lambda o: (np.inf if o["budget"] is None else o["budget"], policy_order(o["policy"]))
    )
    return {
        "plot": plots.success_by_usage(found["outcomes"]),
        "tasks": found["tasks"],
        "differences": found["differences"],
        "rivals": RIVALS,
        "budget_names": [words.AT_BUDGET.format(budget) for budget in budgets],
        "gaps": [[other, *(words.points(row[b]) if b in row else "" for b in budgets)] for other, row in gaps.items()],
        "outcomes": [_outcome(one) for one in outcomes],
        "forecasts": [_realised(one) for one in found["forecasts"]],
        "forecast_plot": plots.forecasts(found["forecasts"]),
    }


def _outcome(one: dict[str, Any]) -> list[str]:
    """Cells of a policy in closed loop."""
    limit = words.NO_LIMIT if one["budget"] is None else str(one["budget"])
    unseen = "" if one["unseen"] is None else f"{100 * one['unseen']:.0f}%"
    cells = [one["policy"], limit, words.percents(one["success"]), words.count(one["help"])]
    return [*cells, f"{one['steps']:.1f}", unseen]


def _realised(one: dict[str, Any]) -> list[str]:
    """Cells of predicted and realised success and help."""
    inside = [words.INSIDE if one[name] else words.OUTSIDE for name in ("success_inside", "usage_inside")]
    success = [f"{100 * one['planned_success']:.1f}%", words.percents(one["success"]), inside[0]]
    return [str(one["budget"]), *success, f"{one['planned_usage']:.2f}", words.count(one["usage"]), inside[1]]


def _flat(settings: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Settings as dotted names and short texts."""
    rows: list[tuple[str, str]] = []
    for name, value in settings.items():
        if isinstance(value, dict) and name != "figures":
            rows += _flat(value, f"{prefix}{name}.")
        elif name not in ("figures", "skipped"):
            text = str(value)
            rows.append((prefix + name, text if len(text) <= 160 else text[:157] + "..."))
    return rows
