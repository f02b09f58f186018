"""Axes and lines of the plots of solutions and frontiers."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from selfreg._util import validate
from selfreg._util.extras import require_extra

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from selfreg.planning.solution import Solution

MOST_LINES = 7


def new_axes() -> Axes:
    """Axes of a new figure: in notebooks, and where pyplot is imported, one of pyplot, which shows it."""
    with require_extra("logs", "plotting"):
        from matplotlib.figure import Figure
    if "ipykernel" in sys.modules:
        importlib.import_module("matplotlib.pyplot")
    pyplot: Any = sys.modules.get("matplotlib.pyplot")
    size: dict[str, Any] = {"figsize": (5.0, 3.5), "layout": "constrained"}
    figure = Figure(**size) if pyplot is None else pyplot.figure(**size)
    axes: Axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def draw_values(solution: Solution, states: Sequence[Any] | None, axes: Axes | None) -> Axes:
    """Success against the budget, one line a state; with two budgets an image of one state."""
    mdp = solution.mdp
    live = np.flatnonzero(~mdp.terminal)[:MOST_LINES].tolist()
    chosen = live if states is None else [mdp.state_index(s) for s in validate.items("states", states, "states")]
    if mdp.n_budgets == 2 and len(chosen) > 1 and states is None:
        chosen = chosen[:1]
    if mdp.n_budgets > 2 or (mdp.n_budgets == 2 and len(chosen) != 1):
        raise ValueError(
            f"{len(chosen)} states and {mdp.n_budgets} budgets; a plot has one budget, or two and one state"
        )
    axes = new_axes() if axes is None else axes
    if mdp.n_budgets == 2:
        return _image(axes, solution.value[chosen[0]], f"success from {mdp.state_name(chosen[0])}")
    for s in chosen:
        axes.plot(
            np.arange(solution.budget[0] + 1), solution.value[s], marker="o", markersize=4, label=str(mdp.state_name(s))
        )
    axes.set(xlabel="budget left", ylabel="success")
    axes.locator_params(axis="x", integer=True)
    if chosen:
        axes.legend(frameon=False, title="state")
    return axes


def _image(axes: Axes, value: npt.NDArray[Any], title: str) -> Axes:
    image = axes.imshow(value, origin="lower", aspect="auto", cmap="viridis")
    axes.set(xlabel="second budget left", ylabel="first budget left", title=title)
    axes.figure.colorbar(image, ax=axes, label="success")
    return axes
