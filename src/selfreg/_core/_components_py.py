"""Pure-Python twin of `_components.pyx`: same names and arguments, same results within the error that both prove.

The kernel iterates. The twin solves each layer by policy iteration with a dense linear system per policy, refined in
long double: the two share the formulation (groups, rows, the proof by expected steps) but not the method. The twin
also solves single components on which the kernel does not converge (`solve_directly`).
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby, pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.linalg import lu_factor, lu_solve

Floats = npt.NDArray[np.float64]
Entries = list[dict[int, list[tuple[int, float]]]]  # per action: state -> (successor, probability)

EPSILON = float(np.finfo(np.float64).eps)
LONG_EPSILON = float(np.finfo(np.longdouble).eps)


class _Row(NamedTuple):
    action: int
    state: int
    inside: list[tuple[int, float]]  # (group, probability)
    outside: list[tuple[int, float]]  # (state, probability)


def solve_components(
    indptr: list[npt.NDArray[np.int64]],
    indices: list[npt.NDArray[np.int32]],
    data: list[Floats],
    offset: npt.NDArray[np.int64],
    runs: npt.NDArray[np.int64],
    affordable: npt.NDArray[np.uint8],
    last_axis: int,
    terminal: npt.NDArray[np.uint8],
    members: npt.NDArray[np.int32],
    starts: npt.NDArray[np.int64],
    component: npt.NDArray[np.int32],
    group: npt.NDArray[np.int32],
    first: int,
    tolerance: float,
    max_sweeps: int,
    error: npt.NDArray[np.float32],
    value: Floats,
    policy: npt.NDArray[np.int8],
) -> int:
    """Solve components `first`, ...; the first one that did not reach `tolerance`, or their number if all did."""
    for c, (start, stop) in enumerate(pairwise(starts.tolist())):
        states = members[start:stop]
        if c >= first and not (len(states) == 1 and terminal[states[0]]):
            solve_directly(indptr, indices, data, offset, affordable, states, component, group, c, error, value, policy)
    return len(starts) - 1


def solve_directly(
    indptr: list[npt.NDArray[np.int64]],
    indices: list[npt.NDArray[np.int32]],
    data: list[Floats],
    offset: npt.NDArray[np.int64],
    affordable: npt.NDArray[np.uint8],
    states: npt.NDArray[np.int32],
    component: npt.NDArray[np.int32],
    group: npt.NDArray[np.int32],
    c: int,
    error: npt.NDArray[np.float32],
    value: Floats,
    policy: npt.NDArray[np.int8],
) -> None:
    """Solve component `c`, whose states (groups together) are `states`; those before it are solved."""
    entries: Entries = [
        {s: list(zip(i[p[s] : p[s + 1]].tolist(), d[p[s] : p[s + 1]].tolist(), strict=True)) for s in states.tolist()}
        for p, i, d in zip(indptr, indices, data, strict=True)
    ]
    solver = _Solver(entries, offset, affordable, component, group, error, value, policy)
    solver.solve(c, [list(same) for _, same in groupby(states.tolist(), key=lambda s: int(group[s]))])


class _Solver:
    def __init__(
        self,
        entries: Entries,
        offset: npt.NDArray[np.int64],
        affordable: npt.NDArray[np.uint8],
        component: npt.NDArray[np.int32],
        group: npt.NDArray[np.int32],
        error: npt.NDArray[np.float32],
        value: Floats,
        policy: npt.NDArray[np.int8],
    ) -> None:
        self.entries, self.offset, self.affordable = entries, offset.tolist(), affordable
        self.component, self.group, self.error = component, group, error
        self.value, self.policy = value, policy
        self.free = [a for a in range(len(entries)) if not self.offset[a]]

    def solve(self, c: int, groups: list[list[int]]) -> None:
        local = {s: g for g, states in enumerate(groups) for s in states}
        rows = [self._rows(c, states, local) for states in groups]
        steps = 1.0
        if len(groups) > 1:
            steps = max(1.0, float(self._best(rows, np.ones(len(groups)), lambda row: 1.0).max()))
        for b in range(self.value.shape[1]):
            self._solve_layer(c, groups, rows, steps, b)

    def _rows(self, c: int, states: list[int], local: dict[int, int]) -> list[_Row]:
        """Rows that can leave the group, by action; a free row that partly stays is divided by the mass that leaves."""
        rows = []
        for a in range(len(self.entries)):
            for s in states:
                stay = {j for j, _ in self.entries[a][s] if not self.offset[a] and self.group[j] == self.group[s]}
                leaving = [(j, p) for j, p in self.entries[a][s] if j not in stay]
                mass = sum(p for _, p in leaving) if stay else 1.0
                if leaving:
                    inside = [(local[j], p / mass) for j, p in leaving if self.component[j] == c]
                    outside = [(j, p / mass) for j, p in leaving if self.component[j] != c]
                    rows.append(_Row(a, s, inside, outside))
        return rows

    def _solve_layer(self, c: int, groups: list[list[int]], rows: list[list[_Row]], steps: float, b: int) -> None:
        stop, inherited = np.zeros(len(groups)), 0.0
        for g, choices in enumerate(rows):
            for row in choices:
                below = b - self.offset[row.action]
                if not self.affordable[row.action, b]:
                    continue
                if len(self.error):
                    above = [self.error[self.component[j], below] for j, _ in row.outside]
                    if self.offset[row.action] and row.inside:
                        above.append(self.error[c, below])
                    inherited = max([inherited, *map(float, above)])
                if self.offset[row.action]:
                    inside = sum(p * float(self.value[groups[i][0], below]) for i, p in row.inside)
                    stop[g] = max(stop[g], inside + self._outside(row, below))
        x = self._best(rows, stop, lambda row: self._outside(row, b))
        for g, states in enumerate(groups):
            self.value[states, b] = min(max(x[g], 0.0), 1.0)
        if len(self.error):
            after = np.array([self._backup(choices, stop[g], x, b) for g, choices in enumerate(rows)])
            longest = max([0, *(len(row.inside) + len(row.outside) for choices in rows for row in choices)])
            change = float(np.abs(after - x).max()) + (longest + 3) * LONG_EPSILON
            own = steps * change + 4 * EPSILON if len(groups) > 1 else 0.0
            self.error[c, b] = (inherited + own) * (1 + 1e-6)
        for states, choices in zip(groups, rows, strict=True):
            self._choose_row(states, choices, groups, x, b)

    def _outside(self, row: _Row, b: int) -> float:
        return sum(p * float(self.value[j, b]) for j, p in row.outside)

    def _backup(self, choices: list[_Row], stop: float, x: npt.NDArray[Any], b: int) -> Any:
        free = [row for row in choices if not self.offset[row.action]]
        return max(
            [np.longdouble(stop), *(self._outside(row, b) + sum(p * x[i] for i, p in row.inside) for row in free)]
        )

    def _best(self, rows: list[list[_Row]], stop: Floats, constant: Callable[[_Row], float]) -> npt.NDArray[Any]:
        """Largest solution over policies of x = stop, or x = constant(row) + sum p x[group]: policy iteration."""
        n = len(rows)
        free = [[row for row in choices if not self.offset[row.action]] for choices in rows]
        taken: list[_Row | None] = [None] * n
        while True:
            matrix, right = np.eye(n), stop.copy()
            for g, row in enumerate(taken):
                if row is not None:
                    right[g] = constant(row)
                    for i, p in row.inside:
                        matrix[g, i] -= p
            x = _refined_solution(matrix, right)
            changed = False
            for g, choices in enumerate(free):
                for row in choices:
                    new = constant(row) + sum(p * x[i] for i, p in row.inside)
                    if new > x[g] + 64 * LONG_EPSILON * max(1.0, abs(x[g])):
                        taken[g], x[g], changed = row, new, True
            if not changed:
                return x

    def _choose_row(self, states: list[int], choices: list[_Row], groups: list[list[int]], x: Floats, b: int) -> None:
        self.policy[states, b] = 0
        best, target, action = 0.0, states[0], 0
        for row in choices:
            below = b - self.offset[row.action]
            if not self.affordable[row.action, b]:
                continue
            if self.offset[row.action]:
                inside = sum(p * float(self.value[groups[i][0], below]) for i, p in row.inside)
            else:
                inside = sum(p * float(x[i]) for i, p in row.inside)
            new = inside + self._outside(row, below)
            if new > best:
                best, target, action = new, row.state, row.action
        self.policy[target, b] = action
        if best > 0.0 and len(self.free) > 1:
            self._direct_to_exit(states, target, b)

    def _direct_to_exit(self, states: list[int], target: int, b: int) -> None:
        directed = {target}
        moved = True
        while moved:
            moved = False
            for a in self.free:
                for s in states:
                    if s not in directed and self._reaches_directed(a, s, directed):
                        self.policy[s, b] = a
                        directed.add(s)
                        moved = True
                if moved:
                    break

    def _reaches_directed(self, a: int, s: int, directed: set[int]) -> bool:
        successors = [j for j, _ in self.entries[a][s]]
        return all(self.group[j] == self.group[s] for j in successors) and any(j in directed for j in successors)


def _refined_solution(matrix: Floats, right: Floats) -> npt.NDArray[Any]:
    """matrix^-1 right in long double: a double factorisation, with residuals in long double."""
    factors = lu_factor(matrix)
    long = matrix.astype(np.longdouble)
    x: npt.NDArray[Any] = lu_solve(factors, right).astype(np.longdouble)
    for _ in range(4):
        x += lu_solve(factors, (right - long @ x).astype(np.float64))
    return x
