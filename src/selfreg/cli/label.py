"""`selfreg label`: the plan's decision and its advantage for every logged step and budget."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from selfreg.cli import options
from selfreg.cli.terminal import say
from selfreg.data import Trajectory
from selfreg.estimate import EstimatedModel
from selfreg.helper import Labels
from selfreg.helper import label as label_steps
from selfreg.planning.hard import Solution
from selfreg.runs import RunFolder


def label(run: RunFolder, trajectories: Sequence[Trajectory], model: EstimatedModel, solution: Solution) -> Labels:
    """Label the trajectories and write labels.parquet."""
    labels = label_steps(trajectories, model, solution)
    labels.write(run.path / "labels.parquet")
    return labels


def command(run: options.RunArgument) -> dict[str, Any]:
    """Label every step of the run's trajectories at every budget."""
    folder = RunFolder.open(run)
    model = folder.model()
    labels = label(folder, folder.trajectories(), model, folder.solution(model))
    path = folder.path / "labels.parquet"
    say(f"{labels.decision.size} labels -> {path}")
    return {"run": folder.path, "labels": labels.decision.size, "file": path}
