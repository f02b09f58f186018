"""Pure-Python twin of `_robust.pyx`: same names, same arguments, same results up to rounding."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def backup_robust(
    indptr: list[npt.NDArray[np.int64]],
    indices: list[npt.NDArray[np.int32]],
    low: list[Floats],
    room: list[Floats],
    rest: list[Floats],
    offset: npt.NDArray[np.int64],
    runs: npt.NDArray[np.int64],
    terminal: npt.NDArray[np.uint8],
    members: npt.NDArray[np.int32],
    sweeps: int,
    target: float,
    value: Floats,
    policy: npt.NDArray[np.int8],
) -> tuple[int, float]:
    """Sweep over `members` in place; the number of sweeps made and the largest change in the last one."""
    change = 0.0
    for sweep in range(sweeps if len(members) else 0):
        change = 0.0
        for s in members[terminal[members] == 0].tolist():
            parts = [indptr[0][s], indptr[0][s + 1]]
            best = _worst_expectation(slice(*parts), indices[0], low[0], room[0], rest[0][s], value)
            choice = np.zeros(len(best), np.int8)
            for a, start, length in runs.tolist():
                parts = [indptr[a][s], indptr[a][s + 1]]
                if parts[0] == parts[1]:
                    continue
                below = value[:, start - offset[a] : start - offset[a] + length]
                new = _worst_expectation(slice(*parts), indices[a], low[a], room[a], rest[a][s], below)
                better = np.flatnonzero(new > best[start : start + length])
                best[start + better], choice[start + better] = new[better], a
            if len(policy):
                policy[s] = np.where(best > value[s], choice, policy[s])
            change = max(change, float(np.abs(best - value[s]).max()))
            value[s] = best
        if change <= target:
            return sweep + 1, change
    return (sweeps if len(members) else 0), change


def expect_robust(
    indptr: npt.NDArray[np.int64],
    indices: npt.NDArray[np.int32],
    low: Floats,
    room: Floats,
    rest: Floats,
    value: Floats,
    out: Floats,
) -> None:
    """Worst expectation of `value` for every row of one action; 0 for empty rows."""
    for s in range(len(rest)):
        out[s] = _worst_expectation(slice(indptr[s], indptr[s + 1]), indices, low, room, rest[s], value)


def _worst_expectation(
    row: slice, indices: npt.NDArray[np.int32], low: Floats, room: Floats, rest: float, value: Floats
) -> Floats:
    """Least expectation at every lattice point: successors are filled in ascending order of value."""
    values = value[indices[row]]
    order = np.argsort(values, axis=0, kind="stable")
    rooms = room[row][order]
    before = np.cumsum(rooms, axis=0) - rooms
    mass = low[row][order] + np.clip(rest - before, 0.0, rooms)
    return np.asarray((mass * np.take_along_axis(values, order, axis=0)).sum(axis=0))
