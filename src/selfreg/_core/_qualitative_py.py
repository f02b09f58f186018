"""Pure-Python twin of `_qualitative.pyx`: same names, same arguments, same results, with sets."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Row: TypeAlias = tuple[int, int]  # state, action


def find_certain(
    indptr: list[npt.NDArray[np.int64]],
    indices: list[npt.NDArray[np.int32]],
    is_free: npt.NDArray[np.uint8],
    terminal: npt.NDArray[np.uint8],
    members: npt.NDArray[np.int32],
    starts: npt.NDArray[np.int64],
    component: npt.NDArray[np.int32],
    certain: npt.NDArray[np.uint8],
    action: npt.NDArray[np.int8],
) -> int:
    """Number of states that are not terminal and certainly have the value 0 or 1; fills `certain` and `action`."""
    found = 0
    for start, stop in pairwise(starts.tolist()):
        states = members[start:stop].tolist()
        if len(states) == 1 and terminal[states[0]]:
            continue
        rows = {
            (s, a): i[p[s] : p[s + 1]].tolist()
            for s in states
            for a, (p, i) in enumerate(zip(indptr, indices, strict=True))
            if p[s] < p[s + 1]
        }
        inside = set(states)
        positive = any(j not in inside and certain[j] for heads in rows.values() for j in heads)
        usable = {
            (s, a): inside.intersection(heads)
            for (s, a), heads in rows.items()
            if is_free[a] and all(j in inside or certain[j] == 1 for j in heads)
        }
        exits = [row for row, inner in usable.items() if len(inner) < len(rows[row])]
        ones = _ones(usable, exits, inside)
        certain[states], action[states] = 2 if positive else 0, 0
        for s, a in _approaching(usable, exits, ones, len(indptr)):
            certain[s], action[s] = 1, a
        found += len(ones) if positive else len(states)
    return found


def _ones(usable: Mapping[Row, set[int]], exits: list[Row], inside: set[int]) -> set[int]:
    """Largest set of states that can reach an exit by rows that do not leave the set."""
    ones = set(inside)
    while True:
        rows = {row: inner for row, inner in usable.items() if row[0] in ones and inner <= ones}
        reached = {row[0] for row in exits if row in rows}
        while more := {row[0] for row, inner in rows.items() if inner & reached} - reached:
            reached |= more
        if reached == ones:
            return ones
        ones = reached


def _approaching(usable: Mapping[Row, set[int]], exits: list[Row], ones: set[int], n_actions: int) -> list[Row]:
    """Rows of the states `ones` that lead towards an exit, lowest actions first, then the row that was found last."""
    rows = {row: inner for row, inner in usable.items() if row[0] in ones and inner <= ones}
    offered: list[list[Row]] = [[] for _ in range(n_actions)]
    taken: dict[int, int] = {}
    seen = set()

    def offer(row: Row) -> None:
        if row in rows and row not in seen and row[0] not in taken:
            seen.add(row)
            offered[row[1]].append(row)

    for row in exits:
        offer(row)
    while any(offered):
        s, a = next(some for some in offered if some).pop()
        if s not in taken:
            taken[s] = a
            for row, inner in rows.items():
                if s in inner:
                    offer(row)
    return list(taken.items())
