"""Pure-Python twin of `_graph.pyx`: same names, same arguments, same order of the result."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt


def strongly_connected(
    indptr: list[npt.NDArray[np.int64]],
    indices: list[npt.NDArray[np.int32]],
    terminal: npt.NDArray[np.uint8],
    members: npt.NDArray[np.int32],
    component: npt.NDArray[np.int32],
) -> int:
    """Number of components; fills `members` and `component`."""
    n = len(terminal)
    successors = [
        [] if terminal[s] else [int(j) for p, i in zip(indptr, indices, strict=True) for j in i[p[s] : p[s + 1]]]
        for s in range(n)
    ]
    number, low, cursor = [0] * n, [0] * n, [0] * n
    waiting: list[int] = []
    counter = n_components = n_members = 0
    component[:] = -1
    for root in range(n):
        if number[root]:
            continue
        path: list[int] = []
        s = j = root
        while True:
            if j < 0:  # all edges of s are visited
                path.pop()
                if path:
                    low[path[-1]] = min(low[path[-1]], low[s])
                if low[s] == number[s]:
                    first = waiting.index(s)
                    found = waiting[first:][::-1]
                    del waiting[first:]
                    component[found] = n_components
                    members[n_members : n_members + len(found)] = found
                    n_members += len(found)
                    n_components += 1
                if not path:
                    break
            elif not number[j]:
                counter += 1
                number[j] = low[j] = counter
                path.append(j)
                waiting.append(j)
            elif component[j] < 0:
                low[s] = min(low[s], number[j])
            s = path[-1]
            j = successors[s][cursor[s]] if cursor[s] < len(successors[s]) else -1
            cursor[s] += 1
    return n_components


def levels(
    indptr: list[npt.NDArray[np.int64]],
    indices: list[npt.NDArray[np.int32]],
    terminal: npt.NDArray[np.uint8],
    order: npt.NDArray[np.int32],
    level: npt.NDArray[np.int32],
) -> int:
    """Number of levels, or -1 if a state leads to itself or to one that comes later in `order`."""
    level[:] = -1
    for s in order.tolist() if len(order) else range(len(terminal) - 1, -1, -1):
        successors = [level[i[p[s] : p[s + 1]]] for p, i in zip(indptr, indices, strict=True) if not terminal[s]]
        below = np.concatenate([np.empty(0, np.int32), *successors])
        if np.any(below < 0):
            return -1
        level[s] = below.max(initial=-1) + 1
    return int(level.max(initial=-1)) + 1


def bucket(
    label: npt.NDArray[np.int32],
    starts: npt.NDArray[np.int64],
    members: npt.NDArray[np.int32],
) -> None:
    """Counting sort: states by label."""
    starts[0] = 0
    starts[1:] = np.cumsum(np.bincount(label, minlength=len(starts) - 1))
    members[:] = np.argsort(label, kind="stable")


def allocate_slots(
    indptr: list[npt.NDArray[np.int64]],
    indices: list[npt.NDArray[np.int32]],
    terminal: npt.NDArray[np.uint8],
    level: npt.NDArray[np.int32],
    starts: npt.NDArray[np.int64],
    members: npt.NDArray[np.int32],
    slot: npt.NDArray[np.int32],
) -> int:
    """Number of memory slots if the values of a state are dropped after the last level that reads them."""
    last_use = level.copy()
    for p, i in zip(indptr, indices, strict=True):
        for s in np.flatnonzero(terminal == 0):
            for j in i[p[s] : p[s + 1]]:
                last_use[j] = max(last_use[j], level[s])
    free: list[int] = []
    n_slots = 0
    for k in range(len(starts) - 1):
        for s in members[starts[k] : starts[k + 1]]:
            if not free:
                free.append(n_slots)
                n_slots += 1
            slot[s] = free.pop()
        free += slot[np.flatnonzero(last_use == k)].tolist()
    return n_slots


def prune_rows(
    indptr: list[npt.NDArray[np.int64]],
    indices: list[npt.NDArray[np.int32]],
    label: npt.NDArray[np.int32],
    remaining: npt.NDArray[np.uint8],
) -> int:
    """Remove rows that may leave the label of their state, then those that may lead to a state without rows."""
    closed, moved = label.copy(), True
    while moved:
        moved = False
        for a, (p, i) in enumerate(zip(indptr, indices, strict=True)):
            for s in np.flatnonzero(remaining[a]):
                if np.any(closed[i[p[s] : p[s + 1]]] != label[s]):
                    remaining[a, s] = 0
                    moved = True
        closed[~remaining.any(axis=0)] = -1
    return int(np.count_nonzero(remaining))


def longest_chain(
    indptr: list[npt.NDArray[np.int64]],
    indices: list[npt.NDArray[np.int32]],
    terminal: npt.NDArray[np.uint8],
    members: npt.NDArray[np.int32],
    component: npt.NDArray[np.int32],
    counted: npt.NDArray[np.uint8],
) -> int:
    """Most counted components on a path."""
    length = counted.astype(np.int64)
    for s in members.tolist():
        c = component[s]
        for p, i in () if terminal[s] else zip(indptr, indices, strict=True):
            later = component[i[p[s] : p[s + 1]]]
            length[c] = max(length[c], counted[c] + length[later[later != c]].max(initial=0))
    return int(length.max(initial=0))


def order_sweeps(
    indptr: list[npt.NDArray[np.int64]],
    indices: list[npt.NDArray[np.int32]],
    data: list[npt.NDArray[np.float64]],
    component: npt.NDArray[np.int32],
    starts: npt.NDArray[np.int64],
    members: npt.NDArray[np.int32],
) -> None:
    """Order every component so that states come after their most likely successors by free actions."""
    visited: set[int] = set()

    def edges(s: int) -> list[int]:
        """Successors in the component, the most likely last."""
        found = []
        for p, i, d in zip(indptr, indices, data, strict=True):
            found += [(d[e], -int(i[e])) for e in range(p[s], p[s + 1]) if component[i[e]] == component[s]]
        return [-j for _, j in sorted(found)]

    for start, stop in pairwise(starts.tolist()):
        left: list[int] = []
        for root in members[start:stop][::-1].tolist() if stop - start >= 3 else ():
            path = [] if root in visited else [(root, edges(root))]
            visited.add(root)
            while path:
                s, rest = path[-1]
                if not rest:
                    left.append(s)
                    path.pop()
                elif (j := rest.pop()) not in visited:
                    visited.add(j)
                    path.append((j, edges(j)))
        if left:
            members[start:stop] = left
