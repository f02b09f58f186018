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
    """

    members: Ints
    starts: npt.NDArray[np.int64]
    component: Ints
    group: Ints
    exact: bool


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
    mdp: InterventionMDP, implementation: str | None, free: Sequence[int] | None = None
) -> tuple[Arrays, Levels | Components]:
    """Arrays and structure of a model, cached with it.

    `free` are actions that may be repeated without limit; by default those of cost 0.
    """
    cache = mdp.derived
    if "arrays" not in cache:
        cache["arrays"] = kernel_arrays([mdp.transitions[name] for name in mdp.actions])
    if free is None:
        free = np.flatnonzero(~mdp.cost_table.any(axis=1)).tolist()
    key = ("structure", implementation or os.environ.get("SELFREG_IMPLEMENTATION"), tuple(free))
    if key not in cache:
        cache[key] = analyse(cache["arrays"], mdp.terminal, free, implementation)
    return cache["arrays"], cache[key]


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
    arrays: Arrays, terminal: Mask, free: Sequence[int], implementation: str | None = None
) -> Levels | Components:
    """Structure of the model; `free` are the actions of cost 0, including `nohelp`.

    If every state leads to later states only, no search for an order is needed.
    """
    n = len(terminal)
    graph = chooser.kernel("graph", implementation)
    level = np.empty(n, np.int32)
    n_levels = graph.levels(arrays.indptr, arrays.indices, terminal.view(np.uint8), EMPTY, level)
    if n_levels < 0:
        members, component = np.empty(n, np.int32), np.empty(n, np.int32)
        n_components = graph.strongly_connected(
            arrays.indptr, arrays.indices, terminal.view(np.uint8), members, component
        )
        if n_components == n:
            n_levels = graph.levels(arrays.indptr, arrays.indices, terminal.view(np.uint8), members, level)
        if n_levels < 0:
            return _components(arrays, terminal, free, members, component, n_components, implementation)
    starts, members = np.empty(n_levels + 1, np.int64), np.empty(n, np.int32)
    graph.bucket(level, starts, members)
    return Levels(level, starts, members)


def _components(
    arrays: Arrays,
    terminal: Mask,
    free: Sequence[int],
    members: Ints,
    component: Ints,
    n_components: int,
    implementation: str | None,
) -> Components:
    n = len(terminal)
    sizes = np.bincount(component, minlength=n_components)
    starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    graph = chooser.kernel("graph", implementation)
    graph.order_sweeps(*_free_mass(arrays, free, n), component, starts, members)
    group = _groups(arrays, terminal, free, sizes[component] > 1, implementation)
    n_groups = int(np.count_nonzero(group == np.arange(n)))  # a group is named after one of its states
    if n_groups < n:
        # Preserve the order within a component, with the states of a group side by side.
        position, first = np.empty(n, np.int64), np.full(n, n, np.int64)
        position[members] = np.arange(n)
        np.minimum.at(first, group, position)
        members = np.lexsort((position, first[group])).astype(np.int32)
    return Components(members, starts, component, group, exact=n_groups == n_components)


def _free_mass(
    arrays: Arrays, free: Sequence[int], n: int
) -> tuple[npt.NDArray[np.int64], Ints, npt.NDArray[np.float64]]:
    """CSR parts of the sum of the `free` matrices: sweeps of a layer follow all of them."""
    if len(free) == 1:
        a = free[0]
        return arrays.indptr[a], arrays.indices[a], arrays.data[a]
    parts = [np.concatenate([part[a] for a in free]) for part in (arrays.indices, arrays.data)]
    tail = np.concatenate([row_of_entry(arrays.indptr[a]) for a in free])
    total = kernel_arrays([sp.csr_array((parts[1], (tail, parts[0])), shape=(n, n))])
    return total.indptr[0], total.indices[0], total.data[0]


def _groups(arrays: Arrays, terminal: Mask, free: Sequence[int], on_cycle: Mask, implementation: str | None) -> Ints:
    """Label (n,): for maximal end components under free actions their first state, for other states the state itself.

    An end component is a set of states with some actions in each that never leave the set and connect it. Actions that
    leave their strongly connected component are removed, then states without actions, until nothing changes.
    """
    n = len(terminal)
    remaining = [~terminal & (np.diff(arrays.indptr[a]) > 0) & (on_cycle | _self_loops(arrays, a)) for a in free]
    label = np.arange(n, dtype=np.int32)
    while any(mask.any() for mask in remaining):
        label = _candidate_components(arrays, free, remaining, terminal, implementation)
        leaving = [_leaves_component(arrays, a, mask, label) for a, mask in zip(free, remaining, strict=True)]
        if not any(mask.any() for mask in leaving):
            break
        # If every state of a component has one action and one of these leaves, all mass leaves eventually.
        choices = np.sum(remaining, axis=0)
        several = np.bincount(label[choices > 1], minlength=n) > 0
        leaking = np.bincount(label[np.any(leaving, axis=0)], minlength=n) > 0
        drained = (leaking & ~several)[label]
        remaining = [mask & ~left & ~drained for mask, left in zip(remaining, leaving, strict=True)]
    closed = np.any(remaining, axis=0)
    group = np.arange(n, dtype=np.int32)
    first = np.full(n, n, dtype=np.int32)
    np.minimum.at(first, label[closed], group[closed])
    group[closed] = first[label[closed]]
    return group


def _self_loops(arrays: Arrays, a: int) -> Mask:
    rows = row_of_entry(arrays.indptr[a])
    result = np.zeros(len(arrays.indptr[a]) - 1, dtype=np.bool_)
    result[rows[rows == arrays.indices[a]]] = True
    return result


def _candidate_components(
    arrays: Arrays, free: Sequence[int], remaining: Sequence[Mask], terminal: Mask, implementation: str | None
) -> Ints:
    """Component of every state in the graph of the remaining free actions."""
    indptr, indices = [], []
    for a, mask in zip(free, remaining, strict=True):
        length = np.where(mask, np.diff(arrays.indptr[a]), 0)
        indptr.append(np.concatenate([[0], np.cumsum(length)]).astype(np.int64))
        indices.append(arrays.indices[a][np.repeat(mask, np.diff(arrays.indptr[a]))])
    members, component = np.empty(len(terminal), np.int32), np.empty(len(terminal), np.int32)
    graph = chooser.kernel("graph", implementation)
    graph.strongly_connected(indptr, indices, terminal.view(np.uint8), members, component)
    return component


def _leaves_component(arrays: Arrays, a: int, remaining: Mask, label: Ints) -> Mask:
    rows = row_of_entry(arrays.indptr[a])
    result = np.zeros(len(remaining), dtype=np.bool_)
    result[rows[label[rows] != label[arrays.indices[a]]]] = True
    return result & remaining


# ---- lattice of remaining budgets ----------------------------------------------------------------------------------


class Problem(NamedTuple):
    """A model and its budget lattice in the form that kernels read."""

    arrays: Arrays
    structure: Levels | Components
    offset: npt.NDArray[np.int64]
    affordable: npt.NDArray[np.uint8]
    runs: npt.NDArray[np.int64]
    shape: tuple[int, ...]


def budget_lattice(mdp: InterventionMDP, budgets: tuple[int, ...], implementation: str | None) -> Problem:
    """Model and budget lattice in kernel form, cached with the model."""
    cache: dict[Any, Any] = mdp.derived
    key = (budgets, implementation or os.environ.get("SELFREG_IMPLEMENTATION"))
    if key not in cache:
        shape = tuple(b + 1 for b in budgets)
        offset, affordable, runs = lattice_moves(mdp.cost_table, shape)
        arrays, structure = load_structure(mdp, implementation)
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
    points = np.indices(shape).reshape(len(shape), -1)
    affordable = np.all(points[None] >= costs[:, :, None], axis=1).astype(np.uint8)
    runs: list[tuple[int, int, int]] = []
    for a in range(1, len(costs)):
        edges = np.flatnonzero(np.diff(np.concatenate([[0], affordable[a], [0]]).astype(np.int8)))
        runs += [(a, int(start), int(stop - start)) for start, stop in zip(edges[::2], edges[1::2], strict=True)]
    return costs @ strides(shape), affordable, np.array(runs, dtype=np.int64).reshape(-1, 3)
