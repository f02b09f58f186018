"""The page of the report: tables and plots from the files of a run folder."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import numpy.typing as npt

from selfreg._util.bootstrap import as_texts
from selfreg._util.extras import require_extra
from selfreg._util.files import atomic_write
from selfreg.data import Trajectory
from selfreg.data.log_files import open_arrow
from selfreg.envs import World
from selfreg.estimate import EstimatedModel, coverage
from selfreg.evaluate.policies import policy_order
from selfreg.planning.solution import Solution
from selfreg.report import plots, words
from selfreg.runs import RunFolder

with require_extra("logs", "the report"):
    import jinja2
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

# Differences between the helper and these are also written as sentences.
RIVALS = ("random at equal cost", "PRM threshold at equal cost")
SHOWN_STATES = 12
SHOWN_TEXT = 600
SHOWN_STEPS = 40


def write_report(run: RunFolder) -> None:
    """Write report.html from the files of a run folder: plan, requests for help, evaluation, data and settings.

    Parts of stages that have not run are left out.

    Parameters
    ----------
    run : RunFolder
        A run with a solved model.

    Raises
    ------
    ValueError
        If model.npz, solution.npz or summary.json is missing or damaged.
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
    >>> write_report(RunFolder.open(folder / "run"))
    >>> (folder / "run" / "report.html").is_file()
    True
    """
    summary = run.summary()
    model = run.model()
    solution = run.solution(model)
    single = len(solution.budget) == 1
    settings = run.settings()
    trajectories = run.trajectories()
    covered = coverage(model, trajectories, solution)
    page = _template().render(
        words=words,
        summary=summary,
        title=_title(settings),
        rows=list(zip(summary["budgets"], summary["success"], summary["usage"], strict=True)),
        trust=summary.get("uncertainty"),
        outlook_plot=_outlook_plot(summary),
        value_plot=plots.value_by_budget(summary) if single else None,
        step_plot=_step_plot(run) if single and len(model.mdp.actions) > 1 else None,
        states=_states(model, solution, trajectories, run.request_shares()),
        coverage=covered,
        coverage_plot=plots.coverage(covered, summary["budgets"] if single else None),
        evaluation=_evaluation(summary),
        settings=_flat(settings),
        figures={part: as_texts(settings[part]["figures"]) for part in ("prm", "helper") if part in settings},
        prm=_prm(run),
        skipped=settings.get("import", {}).get("skipped", []),
    )
    with atomic_write(run.path / "report.html") as temporary:
        temporary.write_text(page, encoding="utf-8")


def _template() -> jinja2.Template:
    loader = jinja2.PackageLoader("selfreg", "report")
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    environment.filters["number"] = lambda x: " ".join(f"{v:.3f}" for v in np.ravel(x))
    environment.filters["interval"] = lambda values: (
        words.UNKNOWN if None in values else "{:.3f} [{:.3f}, {:.3f}]".format(*values)
    )
    return environment.get_template("report.html")


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


def _states(
    model: EstimatedModel,
    solution: Solution,
    trajectories: list[Trajectory],
    help_share: npt.NDArray[np.float64] | None,
) -> list[dict[str, Any]]:
    """Abstract states with the largest advantage of help times visits, at the largest budget."""
    actions, n = model.mdp.actions, model.mdp.n_states
    if len(actions) == 1:
        return []
    q = np.stack([solution.q(name).reshape(n, -1)[:-2, -1] for name in actions])
    best = np.where(np.isnan(q[1:]), -np.inf, q[1:]).max(axis=0)
    visits = np.sum([v[:-2] for v in model.counts.visits.values()], axis=0)
    advantage = np.where(np.isfinite(best), best - q[0], 0.0)
    chosen = [i for i in np.argsort(-advantage * visits, kind="stable")[:SHOWN_STATES] if advantage[i] > 0]
    texts = {} if hasattr(model.abstraction, "names") else _texts(model, trajectories, set(map(int, chosen)))
    requesting = (solution.policy.reshape(n, -1) > 0)[chosen]
    return [
        {
            "name": texts.get(int(i)) or _name(model, int(i)),
            "visits": {name: int(model.counts.visits[name][i]) for name in actions},
            "alone": float(q[0, i]),
            "helped": float(best[i]),
            "share": None if help_share is None else float(help_share[i].ravel()[-1]),
            "from_budget": int(np.argmax(row)) if len(solution.budget) == 1 and row.any() else None,
        }
        for i, row in zip(chosen, requesting, strict=True)
    ]


def _name(model: EstimatedModel, state: int) -> str:
    key = model.counts.keys[state]
    if names := getattr(model.abstraction, "names", None):
        return ", ".join(f"{name} {value}" for name, value in zip(names, key, strict=True))
    return " ".join(map(str, key))


def _texts(model: EstimatedModel, trajectories: list[Trajectory], states: set[int]) -> dict[int, str]:
    found: dict[int, str] = {}
    for trajectory in trajectories:
        for t, step in enumerate(trajectory.steps):
            state = model.state(trajectory, t)
            if state in states and state not in found:
                found[state] = step.state[:SHOWN_TEXT]
    return found


def _prm(run: RunFolder) -> dict[str, Any] | None:
    """Calibration of the PRM and comparison with baseline models, from the PRM's folder."""
    if not run.has("prm"):
        return None
    facts = json.loads((run.path / "prm" / "selfreg.json").read_text(encoding="utf-8"))["facts"]
    rows = facts.get("reliability")
    return {"plot": plots.reliability_diagram(rows) if rows else None, "baselines": facts.get("baselines")}


def _evaluation(summary: dict[str, Any]) -> dict[str, Any] | None:
    if "evaluation" not in summary:
        return None
    found = summary["evaluation"]
    gaps: dict[str, dict[int, Any]] = {}
    for difference in found["differences"]:
        gaps.setdefault(difference["other"], {})[difference["budget"]] = difference
    return {
        "plot": plots.success_by_usage(found["outcomes"]),
        "tasks": found["tasks"],
        "outcomes": sorted(
            found["outcomes"],
            key=lambda o: (np.inf if o["budget"] is None else o["budget"], policy_order(o["policy"])),
        ),
        "differences": found["differences"],
        "rivals": RIVALS,
        "gaps": gaps,
        "budgets": sorted({d["budget"] for d in found["differences"]}),
        "forecasts": found["forecasts"],
        "forecast_plot": plots.forecasts(found["forecasts"]),
    }


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
