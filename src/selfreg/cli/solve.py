"""`selfreg solve`: the plan for every budget up to a largest one, and summary.json."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from selfreg.cli import options
from selfreg.cli.forecasting import SCHEMA, add_forecast, prices_of, show_forecast
from selfreg.cli.prices import parse_prices
from selfreg.cli.terminal import remark, table
from selfreg.data import Trajectory
from selfreg.estimate import EstimatedModel, ExactKey, cross_fit, uncertainty
from selfreg.planning.hard import Solution
from selfreg.planning.hard import solve as solve_mdp
from selfreg.planning.usage import expected_usage
from selfreg.runs import RunFolder

# Default number of resampled models, and the number of states up to which they take seconds.
SAMPLES, CHEAP_STATES = 200, 2000
# Seconds after which no further model is resampled.
SAMPLING_SECONDS = 60.0


def solve(
    run: RunFolder,
    trajectories: Sequence[Trajectory],
    model: EstimatedModel,
    budget: int | tuple[int, ...],
    samples: int | None = 0,
    seed: int = 0,
) -> Solution:
    """Solve the run's model and write solution.npz and summary.json; with `samples`, uncertainty.npz too."""
    if len(model.mdp.actions) == 1 and not isinstance(budget, int):
        budget = budget[0]  # without help, all budgets are alike
    solution = solve_mdp(model.mdp, budget)
    run.write_solution(solution)
    summary = summarise(trajectories, model, solution)
    n_samples = _choose_samples(run, model, summary["tasks"], samples)
    (run.path / "uncertainty.npz").unlink(missing_ok=True)
    notes: list[str] = []
    if n_samples:
        summary["uncertainty"], notes = _uncertainty(run, trajectories, model, budget, n_samples, seed)
    elif len(model.mdp.actions) > 1:
        notes = ["The planned success was not checked on resampled logs (`solve --samples N`) and has no interval."]
    for note in notes:
        remark(f"note: {note}")
    summary["notes"] += notes
    run.write_summary(summary)
    run.record("solve", {"budget": list(solution.budget), "samples": n_samples})
    return solution


def _choose_samples(run: RunFolder, model: EstimatedModel, tasks: int, samples: int | None) -> int:
    """`samples`, or the default: none where they take more than seconds, for one task, or with a PRM."""
    if samples is not None:
        return samples
    cheap = tasks > 1 and model.mdp.n_states <= CHEAP_STATES and not run.has("prm")
    return SAMPLES if cheap else 0


def _uncertainty(
    run: RunFolder,
    trajectories: Sequence[Trajectory],
    model: EstimatedModel,
    budget: int | tuple[int, ...],
    samples: int,
    seed: int,
) -> tuple[dict[str, Any], list[str]]:
    """Intervals and optimism for summary.json, and notes on what they lack; also writes uncertainty.npz."""
    prm = None
    if run.has("prm"):
        from selfreg.prm import PRM

        prm = PRM.load(run.path / "prm")
    notes = []
    how: dict[str, Any] = {
        "seed": seed,
        "kappa": model.kappa,
        "prm": prm,
        "costs": dict(model.mdp.costs) or None,
    }
    bands = uncertainty(trajectories, model.abstraction, budget, samples=samples, seconds=SAMPLING_SECONDS, **how)
    if bands.samples < samples:
        notes.append(
            f"Intervals are from {bands.samples} of {samples} resampled models, all that {SAMPLING_SECONDS:g} s allow."
        )
    run.write_request_shares(bands.help_share)
    crossed = None
    if not isinstance(model.abstraction, ExactKey):
        try:
            halves = cross_fit(trajectories, model.abstraction, budget, **how)
        except ValueError as error:  # the logs have no two halves to plan from and to evaluate on
            notes.append(f"The plan was not cross-fitted: {error}.")
        else:
            names = ("naive_half", "crossed", "low", "high")
            crossed = {name: getattr(halves, name).ravel().tolist() for name in names} | {"splits": halves.splits}
    result = {
        "method": bands.method,
        "confidence": bands.confidence,
        "samples": bands.samples,
        "success": {"low": bands.success.low.ravel().tolist(), "high": bands.success.high.ravel().tolist()},
        "usage": {"low": bands.usage.low.ravel().tolist(), "high": bands.usage.high.ravel().tolist()},
        "cross_fit": crossed,
    }
    return result, notes


def summarise(trajectories: Sequence[Trajectory], model: EstimatedModel, solution: Solution) -> dict[str, Any]:
    """Contents of summary.json: planned success and usage at every budget, and the size of the data.

    With several budgets, `budgets` and `usage` hold lists, in C order of the lattice.
    """
    shape = solution.value.shape[1:]
    points = np.indices(shape).reshape(len(shape), -1).T
    usage = model.usage(expected_usage(solution)).reshape(-1, len(shape))
    single = len(shape) == 1
    helped = [t.outcome for t in trajectories if t.helped and t.outcome is not None]
    alone = [t.outcome for t in trajectories if not t.helped and t.outcome is not None]
    return {
        "schema": SCHEMA,
        "budgets": points[:, 0].tolist() if single else points.tolist(),
        "success": model.success(solution).ravel().tolist(),
        "usage": usage[:, 0].tolist() if single else usage.tolist(),
        "bound": solution.bound,
        "episodes": len(trajectories),
        "tasks": len({t.task for t in trajectories}),
        "steps": sum(len(t.steps) for t in trajectories),
        "unhelped": {"episodes": len(alone), "success": float(np.mean(alone)) if alone else None},
        "helped": {"episodes": len(helped), "success": float(np.mean(helped)) if helped else None},
        "states": len(model.counts.keys),
        "borrowed_states": int(np.count_nonzero(model.borrowed)),
        "actions": list(model.mdp.actions),
        "costs": {name: list(cost) for name, cost in model.mdp.costs.items()},
        "notes": list(model.notes),
    }


def show(summary: dict[str, Any]) -> None:
    """Print planned success and usage, with intervals if there are any."""
    rows = [
        [str(b), f"{s:.4f}", f"{u:.3f}" if isinstance(u, float) else " ".join(f"{x:.3f}" for x in u)]
        for b, s, u in zip(summary["budgets"], summary["success"], summary["usage"], strict=True)
    ]
    columns, trust = ["budget", "success", "help used"], summary.get("uncertainty")
    if trust:
        columns.append(f"success, {100 * trust['confidence']:.0f}% interval")
        for row, low, high in zip(rows, trust["success"]["low"], trust["success"]["high"], strict=True):
            row.append(f"{low:.4f} to {high:.4f}")
    if trust and trust["cross_fit"]:
        columns.append("on tasks not planned with")
        for row, crossed in zip(rows, trust["cross_fit"]["crossed"], strict=True):
            row.append(f"{crossed:.4f}")
    table("planned, in the model of the same tasks (in-sample)", columns, rows)


def command(
    run: options.RunArgument,
    budget: options.Budget = "5",
    price: options.Price = None,
    worth: options.Worth = None,
    minutes: options.Minutes = None,
    samples: options.Samples = None,
) -> dict[str, Any]:
    """Solve the run's model for every budget up to --budget, and forecast what the plan will attain on new tasks.

    Without --price, --worth and --minutes, a run keeps those that it has.
    """
    folder = RunFolder.open(run)
    given = price or worth is not None or minutes
    prices = parse_prices(price, worth, minutes) if given else prices_of(folder)
    trajectories, model, limit = folder.trajectories(), folder.model(), options.integers("--budget", budget)
    solve(folder, trajectories, model, limit, samples)
    add_forecast(folder, trajectories, model, limit, prices=prices)
    summary = folder.summary()
    show_forecast(summary)
    show(summary)
    return {"run": folder.path} | summary
