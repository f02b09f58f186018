"""`selfreg train`: the PRM, before the estimate, and the helper, after the labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from selfreg._extras import needs
from selfreg.cli import options
from selfreg.cli.terminal import remark
from selfreg.data import Trajectory
from selfreg.helper import Labels
from selfreg.runs import RunFolder

Model = Annotated[
    str | None,
    typer.Option("--model", help="Model folder or hub id to start from; by default a small one from scratch."),
]
History = Annotated[int, typer.Option(help="Earlier steps shown to the PRM and the helper before the current one.")]


def train_prm(
    run: RunFolder, trajectories: Sequence[Trajectory], model: str | None, history: int, seed: int
) -> dict[str, float]:
    """Train and save the PRM; its figures on held-out tasks."""
    with needs("ml", "training a PRM"):
        from selfreg.prm import PRMConfig
        from selfreg.prm import train_prm as train
    prm = train(trajectories, PRMConfig(model=model, history=history, seed=seed))
    prm.save(run.path / "prm")
    run.record("prm", {"model": model, "history": history, "seed": seed, "figures": prm.figures})
    return prm.figures


def train_helper(
    run: RunFolder, labels: Labels, costs: dict[str, tuple[int, ...]], model: str | None, history: int, seed: int
) -> dict[str, float]:
    """Train and save the helper; its figures on held-out tasks."""
    with needs("ml", "training a helper"):
        from selfreg.helper import HelperConfig
        from selfreg.helper import train_helper as train
    if len(labels.actions) == 1:
        raise ValueError("no step of these logs was helped: there is no help for a helper to ask for")
    helper = train(labels, HelperConfig(model=model, history=history, seed=seed), costs=costs)
    helper.save(run.path / "helper")
    run.record("helper", {"model": model, "history": history, "seed": seed, "figures": helper.figures})
    return helper.figures


def command(
    run: options.RunArgument,
    part: Annotated[str, typer.Option(help="prm or helper.")] = "helper",
    model: Model = None,
    history: History = 0,
    seed: options.Seed = 0,
) -> None:
    """Train the run's PRM or helper; figures are those on held-out tasks."""
    folder = RunFolder.open(run)
    if part == "prm":
        figures = train_prm(folder, folder.trajectories(), model, history, seed)
    elif part == "helper":
        from selfreg.helper import label

        estimated = folder.model()
        labels = label(folder.trajectories(), estimated, folder.solution(estimated))
        figures = train_helper(folder, labels, dict(estimated.mdp.costs), model, history, seed)
    else:
        raise ValueError(f"--part {part!r}: expected prm or helper")
    for name, value in figures.items():
        remark(f"{name} {value:.4g}")
