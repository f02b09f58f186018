"""`selfreg estimate`: trajectories to a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from selfreg.cli import options
from selfreg.cli.terminal import remark, say, table
from selfreg.data import Trajectory
from selfreg.envs.worlds import parse_help
from selfreg.estimate import (
    Coverage,
    EstimatedModel,
    ExactKey,
    Features,
    ScoreBins,
    StateAbstraction,
    coverage,
    estimate_mdp,
    load_classes,
)
from selfreg.estimate.default_state import choose_features
from selfreg.estimate.score_bins import SCORE
from selfreg.estimate.support import FEWER_THAN
from selfreg.runs import RunFolder


def uses_score(state: str | None) -> bool:
    """Whether the abstract state contains the PRM's score."""
    return state is not None and SCORE in state.split(",")


def abstraction(
    run: RunFolder,
    trajectories: Sequence[Trajectory],
    state: str | None,
    classes: Path | None,
    with_step: bool = False,
    bins: int = 5,
) -> StateAbstraction:
    """Abstraction that the options describe; by default the exact key where the log has keys, else the best."""
    if state is not None:
        if with_step:
            raise ValueError("--with-step is for exact keys; with --state, name `step` among the features")
        names = [name for name in state.split(",") if name != SCORE]
        if not names:
            raise ValueError(f"--state {state}: name another feature besides `score`, such as `step`")
        features = Features(names, {} if classes is None else load_classes(classes))
        return ScoreBins(features, run.prm(), bins) if uses_score(state) else features
    if any(step.key is not None for trajectory in trajectories for step in trajectory.steps):
        if classes is not None:
            raise ValueError(f"--classes {classes} is not used: these logs have exact keys; name --state ...,class")
        return ExactKey(step=with_step)
    chosen = choose_features(trajectories, None if classes is None else load_classes(classes))
    remark(f"note: {chosen.describe()}")
    return chosen.features


def estimate(
    run: RunFolder,
    trajectories: Sequence[Trajectory],
    states: StateAbstraction,
    kappa: float = 0.0,
    costs: Mapping[str, int | tuple[int, ...]] | None = None,
) -> EstimatedModel:
    """Estimate the model; a PRM of the run scores truncated episodes and, with `kappa`, every row."""
    prm = None
    if run.has("prm"):
        prm = run.prm()
    elif kappa:
        raise ValueError(f"--kappa {kappa:g} needs a PRM; run `selfreg train --part prm` first")
    elif missing := sum(one.outcome is None for one in trajectories):
        raise ValueError(
            f"{missing} of {len(trajectories)} episodes have no outcome; run `selfreg train {run.path} --part prm` "
            "first: the PRM scores their last states"
        )
    model = estimate_mdp(trajectories, states, kappa=kappa, prm=prm, costs=costs)
    run.write_model(model)
    settings = {"abstraction": states.describe(), "kappa": kappa}
    run.record("estimate", settings | {"costs": {name: list(cost) for name, cost in model.mdp.costs.items()}})
    for note in model.notes:
        remark(f"note: {note}")
    return model


def _costs_of_world(run: RunFolder) -> dict[str, int | tuple[int, ...]] | None:
    """Costs of the help of a run that was collected here, where it has several budgets: a log holds only their sum."""
    helps = run.settings().get("collect", {}).get("world", {}).get("helps", [])
    costs = {one.name: one.cost for one in map(parse_help, helps)}
    return costs if any(isinstance(cost, tuple) for cost in costs.values()) else None


def show(report: Coverage) -> None:
    """Print counts of visits, rows and states by action."""
    few = f"rows under {report.fewer_than}"
    columns = ["action", "visits", "states", few, "their visits", "median visits", "successors", "effective tasks"]
    rows = []
    for one in report.summary()["actions"]:
        middle = ["-" if value is None else f"{value:.1f}" for value in one["median"].values()]
        share = "-" if one["low_count_visits"] is None else f"{100 * one['low_count_visits']:.1f}%"
        low_count = str(one["low_count_rows"])
        rows.append([one["action"], f"{one['visits']:.0f}", str(one["states"]), low_count, share, *middle])
    table("coverage", columns, rows)


def command(
    run: options.RunArgument,
    state: options.State = None,
    classes: options.Classes = None,
    with_step: Annotated[
        bool, typer.Option("--with-step", help="With exact keys: the step is part of the state.")
    ] = False,
    bins: options.Bins = 5,
    kappa: Annotated[
        float,
        typer.Option(help="Pseudo-counts of the run's PRM on each nohelp row.", callback=options.pseudo_counts),
    ] = 0.0,
    cost: options.Cost = None,
    fewer_than: Annotated[int, typer.Option(help="Rows with fewer visits are low-count rows.")] = FEWER_THAN,
) -> dict[str, Any]:
    """Estimate a model from the run's trajectories and print its coverage."""
    folder = RunFolder.open(run)
    trajectories = folder.trajectories()
    states = abstraction(folder, trajectories, state, classes, with_step, bins)
    charges = options.costs(cost) or _costs_of_world(folder)
    model = estimate(folder, trajectories, states, kappa, charges)
    say(model.mdp)
    covered = coverage(model, trajectories, fewer_than=fewer_than)
    show(covered)
    return {"run": folder.path, "states": len(model.counts.keys), "notes": model.notes} | covered.summary()
