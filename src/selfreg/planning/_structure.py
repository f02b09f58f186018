"""Structure of a model for backward induction: solving order, levels, components, end components, budget lattice."""

from __future__ import annotations

import os
from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from selfreg._core import chooser

if TYPE_CHECKING:
    from selfreg.mdp import InterventionMDP

Ints = npt.NDArray[np.int32]
Mask = npt.NDArray[np.bool_]

EMPTY = np.empty(0, dtype=np.int32)
NONE_CERTAIN = np.empty(0, np.uint8), np.empty(0, np.int8)


class Arrays(NamedTuple):
    """CSR parts of every action in kernel dtypes: int64 row pointers, int32 columns, float64 values."""

    indptr: list[npt.NDArray[np.int64]]
    indices: list[Ints]
    data: list[npt.NDArray[np.float64]]


class Levels(NamedTuple):
    """Solving order of a model without cycles.

    Attributes
    ----------
    level : int32 (n,)
        Longest path to a state without successors.
    starts : int64 (levels + 1,)
        Where each level begins in `members`.
    members : int32 (n,)
        States by level, then by index.
    """

    level: Ints
    starts: npt.NDArray[np.int64]
    members: Ints


class Components(NamedTuple):
    """Solving order of a model with cycles.

    Attributes
    ----------
    members : int32 (n,)
        States, component by component, successors first; states of one group are neighbours.
    starts : int64 (components + 1,)
        Where each component begins in `members`.
    component, group : int32 (n,)
        Label of every state. States of one end component under free actions share a group; others are alone in theirs.
    exact : bool
        Whether every component is a single group, so that no iteration is needed.
    chain : int
        Most components of several groups on a path: errors of the values add up along it.
    certain : uint8 (n,), or (0,) if there are none or they were not looked for
        States whose value follows from the graph alone have it here, 0 or 1; all others 2. Their rows are not part of
        the graph, like those of terminal states.
    action : int8 (n,), or (0,)
        For value 1 an action of a policy that attains it with every budget.
    """

    members: Ints
    starts: npt.NDArray[np.int64]
    component: Ints
    group: Ints
    exact: bool
    chain: int
    certain: npt.NDArray[np.uint8]
    action: npt.NDArray[np.int8]


def strides(shape: tuple[int, ...]) -> npt.NDArray[np.int64]:
    """Distance of neighbours along every axis of a lattice flattened in C order."""
    return np.array([prod(shape[i + 1 :]) for i in range(len(shape))], dtype=np.int64)


def row_of_entry(indptr: npt.NDArray[np.integer[Any]]) -> Ints:
    """int32 (nnz,): row of each entry of a CSR matrix."""
    return np.repeat(np.arange(len(indptr) - 1, dtype=np.int32), np.diff(indptr))


def kernel_arrays(matrices: Sequence[sp.csr_array]) -> Arrays:
    """CSR parts of `matrices` in kernel dtypes; copied only where the dtype differs."""
    return Arrays(
        [np.ascontiguousarray(matrix.indptr, dtype=np.int64) for matrix in matrices],
        [np.ascontiguousarray(matrix.indices, dtype=np.int32) for matrix in matrices],
        [np.ascontiguousarray(matrix.data, dtype=np.float64) for matrix in matrices],
    )


def load_structure(
    mdp: InterventionMDP, implementation: str | None, free: Sequence[int] | None = None, *, certain: bool = False
) -> tuple[Arrays, Levels | Components]:
    """Arrays and structure of a model, cached with it.

    `free` are actions that may be repeated without limit; by default those of cost 0. `certain`: look for states whose
    value follows from the graph alone.
    """
    cache = mdp.derived
    if "arrays" not in cache:
        cache["arrays"] = kernel_arrays([mdp.transitions[name] for name in mdp.actions])
    if free is None:
        free = np.flatnonzero(~mdp.cost_table.any(axis=1)).tolist()
    key = ("structure", implementation or os.environ.get("SELFREG_IMPLEMENTATION"), tuple(free))
    if (*key, certain) not in cache:
        value = mdp.terminal_value if certain else None
        structure = analyse(cache["arrays"], mdp.terminal, free, implementation, value)
        cache[(*key, certain)] = structure
        if isinstance(structure, Levels) or (certain and not len(structure.certain)):
            cache[(*key, not certain)] = structure
    return cache["arrays"], cache[(*key, certain)]


def allocate_slots(mdp: InterventionMDP, levels: Levels, implementation: str | None) -> tuple[Ints, int]:
    """Memory slot of every state's values while they are needed, and the number of slots; cached with the model."""
    cache = mdp.derived
    if "slots" not in cache:
        slot, graph = np.empty(mdp.n_states, np.int32), chooser.kernel("graph", implementation)
        arrays, _ = load_structure(mdp, implementation)
        cache["slots"] = slot, graph.allocate_slots(*arrays[:2], mdp.terminal.view(np.uint8), *levels, slot)
    result: tuple[Ints, int] = cache["slots"]
    return result


def analyse(
    arrays: Arrays,
    terminal: Mask,
    free: Sequence[int],
    implementation: str | None = None,
    terminal_value: npt.NDArray[np.float64] | None = None,
) -> Levels | Components:
    """Structure of the model; `free` are the actions of cost 0, including `nohelp`.

    If every state leads to later states only, no search for an order is needed. With `terminal_value`, states whose
    value follows from the graph alone are found in a model with cycles.
    """
    n = len(terminal)
    graph = chooser.kernel("graph", implementation)
    level = np.empty(n, np.int32)
    n_levels = graph.levels(arrays.indptr, arrays.indices, terminal.view(np.uint8), EMPTY, level)
    if n_levels < 0:
        order = _ordered_components(arrays, terminal, implementation)
        if len(order[1]) == n + 1:
            n_levels = graph.levels(arrays.indptr, arrays.indices, terminal.view(np.uint8), order[0], level)
        if n_levels < 0:
            if terminal_value is None:
                return _components(arrays, terminal, free, order, NONE_CERTAIN, implementation)
            found = _find_certain(arrays, terminal, free, order, terminal_value, implementation)
            if len(found[0]):
                terminal = terminal | (found[0] < 2)
                order = _ordered_components(arrays, terminal, implementation)
            return _components(arrays, terminal, free, order, found, implementation)
    starts, members = np.empty(n_levels + 1, np.int64), np.empty(n, np.int32)
    graph.bucket(level, starts, members)
    return Levels(level, starts, members)


def _ordered_components(
    arrays: Arrays, terminal: Mask, implementation: str | None
) -> tuple[Ints, npt.NDArray[np.int64], Ints]:
    """Members by component, successors first, where each component begins, and the component of every state."""
    members, component = np.empty(len(terminal), np.int32), np.empty(len(terminal), np.int32)
    n_components = chooser.kernel("graph", implementation).strongly_connected(
        *arrays[:2], terminal.view(np.uint8), members, component
    )
    starts = np.zeros(n_components + 1, np.int64)
    np.cumsum(np.bincount(component, minlength=n_components), out=starts[1:])
    return members, starts, component


def _find_certain(
    arrays: Arrays,
    terminal: Mask,
    free: Sequence[int],
    order: tuple[Ints, npt.NDArray[np.int64], Ints],
    terminal_value: npt.NDArray[np.float64],
    implementation: str | None,
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int8]]:
    """`certain` and `action` of `Components`."""
    certain = np.full(len(terminal), 2, np.uint8)
    certain[terminal_value == 0.0], certain[terminal_value == 1.0] = 0, 1
    action, is_free = np.zeros(len(terminal), np.int8), np.zeros(len(arrays.indptr), np.uint8)
    is_free[list(free)] = 1
    kernel = chooser.kernel("qualitative", implementation)
    if kernel.find_certain(*arrays[:2], is_free, terminal.view(np.uint8), *order, certain, action):
        return certain, action
    return NONE_CERTAIN


def _components(
    arrays: Arrays,
    terminal: Mask,
    free: Sequence[int],
    order: tuple[Ints, npt.NDArray[np.int64], Ints],
    certain: tuple[npt.NDArray[np.uint8], npt.NDArray[np.int8]],
    implementation: str | None,
) -> Components:
    members, starts, component = order
    n, n_components = len(terminal), len(starts) - 1
    graph = chooser.kernel("graph", implementation)
    graph.order_sweeps(*([part[a] for a in free] for part in arrays), component, starts, members)
    group = _groups(arrays, terminal, free, component, implementation)
    first_states = group == np.arange(n)  # a group is named after one of its states
    n_groups = int(np.count_nonzero(first_states))
    several = (np.bincount(component[first_states], minlength=n_components) > 1).view(np.uint8)
    if n_groups < n:
        # Preserve the order within a component, with the states of a group side by side.
        position, first = np.empty(n, np.int64), np.full(n, n, np.int64)
        position[members] = np.arange(n)
        np.minimum.at(first, group, position)
        members = np.lexsort((position, first[group])).astype(np.int32)
    chain = graph.longest_chain(*arrays[:2], terminal.view(np.uint8), members, component, several)
    return Components(members, starts, component, group, n_groups == n_components, chain, *certain)


def _groups(arrays: Arrays, terminal: Mask, free: Sequence[int], component: Ints, implementation: str | None) -> Ints:
    """Label (n,): for maximal end components under free actions their first state, for other states the state itself.

    An end component is a set of states with some actions in each that never leave the set and connect it. Actions that
    leave their strongly connected component are removed, then states without actions, until nothing changes.
    """
    n, label, rows = len(terminal), component, -1
    graph = chooser.kernel("graph", implementation)
    parts = [arrays.indptr[a] for a in free], [arrays.indices[a] for a in free]
    remaining = np.array([~terminal & (np.diff(indptr) > 0) for indptr in parts[0]]).view(np.uint8)
    while (left := graph.prune_rows(*parts, label, remaining)) not in (0, rows):
        rows, label = left, _candidate_components(*parts, remaining.view(np.bool_), terminal, implementation)
    group = np.arange(n, dtype=np.int32)
    if left:
        closed = remaining.view(np.bool_).any(axis=0)
        first = np.full(n, n, dtype=np.int32)
        np.minimum.at(first, label[closed], group[closed])
        group[closed] = first[label[closed]]
    return group


def _candidate_components(
    indptr: list[npt.NDArray[np.int64]],
    indices: list[Ints],
    remaining: Mask,
    terminal: Mask,
    implementation: str | None,
) -> Ints:
    """Component of every state in the graph of the remaining rows."""
    lengths = [np.where(mask, np.diff(p), 0) for p, mask in zip(indptr, remaining, strict=True)]
    starts = [np.concatenate([[0], np.cumsum(length)]).astype(np.int64) for length in lengths]
    columns = [i[np.repeat(mask, np.diff(p))] for p, i, mask in zip(indptr, indices, remaining, strict=True)]
    members, component = np.empty(len(terminal), np.int32), np.empty(len(terminal), np.int32)
    graph = chooser.kernel("graph", implementation)
    graph.strongly_connected(starts, columns, terminal.view(np.uint8), members, component)
    return component


# ---- lattice of remaining budgets ----------------------------------------------------------------------------------


class Problem(NamedTuple):
    """A model and its budget lattice in the form that kernels read."""

    arrays: Arrays
    structure: Levels | Components
    offset: npt.NDArray[np.int64]
    affordable: npt.NDArray[np.uint8]
    runs: npt.NDArray[np.int64]
    shape: tuple[int, ...]


def budget_lattice(
    mdp: InterventionMDP, budgets: tuple[int, ...], implementation: str | None, *, certain: bool = False
) -> Problem:
    """Model and budget lattice in kernel form, cached with the model; `certain` as for `load_structure`."""
    cache: dict[Any, Any] = mdp.derived
    key = (budgets, implementation or os.environ.get("SELFREG_IMPLEMENTATION"), certain)
    if key not in cache:
        shape = tuple(b + 1 for b in budgets)
        offset, affordable, runs = lattice_moves(mdp.cost_table, shape)
        arrays, structure = load_structure(mdp, implementation, certain=certain)
        cache[key] = Problem(arrays, structure, offset, affordable, runs, shape)
    problem: Problem = cache[key]
    return problem


def lattice_moves(
    costs: npt.NDArray[np.int64], shape: tuple[int, ...]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """The budget lattice, flattened in C order.

    Returns
    -------
    offset : int64 (actions,)
        Distance that each action moves a point down.
    affordable : uint8 (actions, lattice)
        Whether the action can be paid for at a point.
    runs : int64 (runs, 3)
        Action (help types only), start and length of every run of affordable points.
    """
    if len(shape) == 1:
        (size,), cost = shape, costs[:, 0]
        paid = np.flatnonzero(cost[1:] < size) + 1
        runs_of_one = np.stack([paid, cost[paid], size - cost[paid]], axis=1)
        return cost.copy(), (np.arange(size) >= costs).astype(np.uint8), runs_of_one
    points = np.indices(shape).reshape(len(shape), -1)
    affordable = np.all(points[None] >= costs[:, :, None], axis=1).astype(np.uint8)
    runs: list[tuple[int, int, int]] = []
    for a in range(1, len(costs)):
        edges = np.flatnonzero(np.diff(np.concatenate([[0], affordable[a], [0]]).astype(np.int8)))
        runs += [(a, int(start), int(stop - start)) for start, stop in zip(edges[::2], edges[1::2], strict=True)]
    return costs @ strides(shape), affordable, np.array(runs, dtype=np.int64).reshape(-1, 3)
