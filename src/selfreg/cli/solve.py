"""`selfreg solve`: the plan for every budget up to the one given, and summary.json."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from selfreg.cli import options
from selfreg.cli.terminal import table
from selfreg.data import Trajectory
from selfreg.estimate import EstimatedModel
from selfreg.policy import expected_usage
from selfreg.runs import RunFolder
from selfreg.solve import Solution
from selfreg.solve import solve as solve_mdp

SCHEMA = "selfreg.summary/1"


def solve(
    run: RunFolder, trajectories: Sequence[Trajectory], model: EstimatedModel, budget: int | tuple[int, ...]
) -> Solution:
    """Solve the run's model and write solution.npz and summary.json."""
    if len(model.mdp.actions) == 1 and not isinstance(budget, int):
        budget = budget[0]  # without help there is nothing to tell several budgets apart
    solution = solve_mdp(model.mdp, budget)
    run.write_solution(solution)
    run.write_summary(summarise(trajectories, model, solution))
    run.record("solve", {"budget": list(solution.budget)})
    return solution


def summarise(trajectories: Sequence[Trajectory], model: EstimatedModel, solution: Solution) -> dict[str, Any]:
    """What summary.json holds: planned success and usage at every budget, and what they rest on.

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
    """Print planned success and usage."""
    rows = [
        [str(b), f"{s:.4f}", f"{u:.3f}" if isinstance(u, float) else " ".join(f"{x:.3f}" for x in u)]
        for b, s, u in zip(summary["budgets"], summary["success"], summary["usage"], strict=True)
    ]
    table("planned", ["budget", "success", "help used"], rows)


def command(run: options.RunArgument, budget: options.Budget = "5") -> None:
    """Solve the run's model for every budget up to the one given."""
    folder = RunFolder.open(run)
    solve(folder, folder.trajectories(), folder.model(), options.integers("--budget", budget))
    show(folder.summary())
