"""Rows of one component with a cycle, over its groups and the states outside of it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from selfreg.planning._structure import Arrays

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class Rows(NamedTuple):
    """Rows that can leave their group, by group, action, state; columns are groups, then outer states.

    Attributes
    ----------
    matrix : csr_array (rows, groups + outer)
    group, action, state, offset : int64 (rows,)
        `offset` is how far the action moves down the lattice; 0 for free actions.
    outer : int64 (outer,)
        Outer states.
    members : int64 (states,)
        States of the component, those of a group side by side.
    first : int64 (groups + 1,)
        First state of each group in `members`.
    """

    matrix: sp.csr_array
    group: Ints
    action: Ints
    state: Ints
    offset: Ints
    outer: Ints
    members: Ints
    first: Ints


def component_rows(
    arrays: Arrays, offset: Ints, states: Ints, component: npt.NDArray[np.int32], group: npt.NDArray[np.int32]
) -> Rows:
    """Rows of the component of `states`, which has the states of a group side by side."""
    label = group[states]
    number = np.concatenate([[0], np.cumsum(label[1:] != label[:-1])]).astype(np.int64)
    first = np.append(np.flatnonzero(np.diff(number, prepend=-1)), len(states))
    parts = [_action_rows(arrays, offset, a, states, group) for a in range(len(offset))]
    tail, action, head, data = (np.concatenate([part[i] for part in parts]) for i in range(4))
    inside = component[head] == component[states[0]]
    outer, outer_number = np.unique(head[~inside], return_inverse=True)
    of_label = np.argsort(label[first[:-1]])
    column = np.empty(len(head), np.int64)
    column[inside] = of_label[np.searchsorted(label[first[:-1]][of_label], group[head[inside]])]
    column[~inside] = len(first) - 1 + outer_number
    # One row for each pair of a position (by group, then in order) and an action, actions first within a group.
    key = (number[tail] * len(offset) + action) * len(states) + tail
    found, row = np.unique(key, return_inverse=True)
    shape = (len(found), len(first) - 1 + len(outer))
    matrix = sp.csr_array((data, (row, column)), shape=shape)
    taken, position = found // len(states) % len(offset), found % len(states)
    return Rows(matrix, number[position], taken, states[position].astype(np.int64), offset[taken], outer, states, first)


def _action_rows(
    arrays: Arrays, offset: Ints, a: int, states: Ints, group: npt.NDArray[np.int32]
) -> tuple[Ints, Ints, Ints, Floats]:
    """Position of the state, action, successor and probability of all entries of an action that leave the group."""
    begin, end = arrays.indptr[a][states], arrays.indptr[a][states + 1]
    length = end - begin
    tail = np.repeat(np.arange(len(states)), length)
    entry = np.arange(int(length.sum())) + np.repeat(begin - np.cumsum(length) + length, length)
    head, data = arrays.indices[a][entry].astype(np.int64), arrays.data[a][entry]
    leaves = np.ones(len(head), np.bool_) if offset[a] else group[head] != group[states[tail]]
    return tail[leaves], np.full(int(leaves.sum()), a), head[leaves], data[leaves]
