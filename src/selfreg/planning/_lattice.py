"""A model and a lattice of remaining budgets, as the kernels take them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from selfreg.planning._structure import Arrays, Components, Levels, prepared, strides

if TYPE_CHECKING:
    from selfreg.mdp import InterventionMDP


class Problem(NamedTuple):
    """A model and a lattice of budgets as the kernels take them; kept with the model for the next call."""

    arrays: Arrays
    structure: Levels | Components
    offset: npt.NDArray[np.int64]
    affordable: npt.NDArray[np.uint8]
    runs: npt.NDArray[np.int64]
    shape: tuple[int, ...]


def budget_lattice(mdp: InterventionMDP, budgets: tuple[int, ...], implementation: str | None) -> Problem:
    """Model and budgets as the kernels take them."""
    known: dict[Any, Any] = mdp.derived
    key = (budgets, implementation or os.environ.get("SELFREG_IMPLEMENTATION"))
    if key not in known:
        shape = tuple(b + 1 for b in budgets)
        offset, affordable, runs = lattice_moves(mdp.cost_table, shape)
        arrays, structure = prepared(mdp, implementation)
        known[key] = Problem(arrays, structure, offset, affordable, runs, shape)
    problem: Problem = known[key]
    return problem


def lattice_moves(
    costs: npt.NDArray[np.int64], shape: tuple[int, ...]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """The budget lattice, flattened in C order.

    Returns
    -------
    offset : int64 (actions,)
        How far each action moves a point down.
    affordable : uint8 (actions, lattice)
        Whether the action can be paid for at a point.
    runs : int64 (runs, 3)
        Action (help types only), start and length of every affordable stretch.
    """
    points = np.indices(shape).reshape(len(shape), -1)
    affordable = np.all(points[None] >= costs[:, :, None], axis=1).astype(np.uint8)
    runs: list[tuple[int, int, int]] = []
    for a in range(1, len(costs)):
        edges = np.flatnonzero(np.diff(np.concatenate([[0], affordable[a], [0]]).astype(np.int8)))
        runs += [(a, int(start), int(stop - start)) for start, stop in zip(edges[::2], edges[1::2], strict=True)]
    return costs @ strides(shape), affordable, np.array(runs, dtype=np.int64).reshape(-1, 3)
