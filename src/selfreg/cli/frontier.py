"""`selfreg frontier`: the best success for every expected usage, in a run's model."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
import typer

from selfreg.cli import options
from selfreg.cli.terminal import say, table
from selfreg.planning.frontiers import frontier
from selfreg.runs import RunFolder

# Vertices that are printed; JSON has all.
SHOWN = 20


def command(
    run: options.RunArgument,
    usage: Annotated[
        list[float] | None,
        typer.Option("--at", metavar="UNITS", help="Also the best success at this expected usage. May repeat.", min=0),
    ] = None,
) -> dict[str, Any]:
    """Best success for every expected usage of help (a budget on the mean), in the run's model (in-sample).

    The value of a unit is what one more unit of expected help adds to success, per unit.
    """
    folder = RunFolder.open(run)
    model = folder.model()
    kinds = {len(cost) for cost in model.mdp.costs.values()}
    if kinds - {1}:
        raise ValueError(f"{folder.path} has {max(kinds)} budgets; expected one")
    front = frontier(model.mdp, model.start)
    worth = [front.penalty_for(float(one)) for one in front.usage]
    points = [(float(one), front.at(one).success, front.penalty_for(one)) for one in usage or ()]
    _show(front.usage, front.success, worth, points)
    names = ("usage", "success", "value_of_a_unit")
    return {
        "run": folder.path,
        **dict(zip(names, (front.usage, front.success, worth), strict=True)),
        "at": [dict(zip(names, point, strict=True)) for point in points],
        "gap": front.gap,
    }


def _show(usage: Any, success: Any, worth: list[float], points: list[tuple[float, float, float]]) -> None:
    chosen = np.unique(np.linspace(0, len(usage) - 1, min(SHOWN, len(usage))).round().astype(int))
    columns = ["units of help an episode", "success", "one more unit adds"]
    rows = [[f"{usage[i]:.3f}", f"{100 * success[i]:.1f}%", f"{100 * worth[i]:.2f} points"] for i in chosen]
    table("best success for an expected budget, in the model of the same tasks (in-sample)", columns, rows)
    if len(chosen) < len(usage):
        say(f"{len(chosen)} of {len(usage)} vertices; --json prints all")
    for one, value, slope in points:
        say(f"at {one:g} units: success {100 * value:.1f}%, one more unit adds {100 * slope:.2f} points")
