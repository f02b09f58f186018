"""Pure-Python twin of `_budget.pyx`: same names, same arguments, same results up to rounding."""

from __future__ import annotations

from itertools import groupby, pairwise

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def backward_induction(
    indptr: list[npt.NDArray[np.int64]],
    indices: list[npt.NDArray[np.int32]],
    data: list[Floats],
    offset: npt.NDArray[np.int64],
    affordable: npt.NDArray[np.uint8],
    runs: npt.NDArray[np.int64],
    last_axis: int,
    terminal: npt.NDArray[np.uint8],
    members: npt.NDArray[np.int32],
    starts: npt.NDArray[np.int64],
    component: npt.NDArray[np.int32],
    group: npt.NDArray[np.int32],
    tolerance: float,
    max_sweeps: int,
    lower: Floats,
    upper: Floats,
    policy: npt.NDArray[np.int8],
) -> int:
    """Number of (component, layer) pairs that used up `max_sweeps`; fills `lower`, `upper`, `policy`."""
    rows = [
        [
            [(int(j), float(q)) for j, q in zip(i[p[s] : p[s + 1]], d[p[s] : p[s + 1]], strict=True)]
            for s in range(len(terminal))
        ]
        for p, i, d in zip(indptr, indices, data, strict=True)
    ]
    layers = _Layers(rows, offset, affordable, last_axis, component, group, tolerance, max_sweeps)
    unfinished = 0
    for start, stop in pairwise(starts.tolist()):
        states = [int(s) for s in members[start:stop]]
        if len(states) > 1 or not terminal[states[0]]:
            groups = [list(same) for _, same in groupby(states, key=lambda s: int(group[s]))]
            unfinished += layers.solve(groups, lower, upper, policy)
    return unfinished


class _Layers:
    """The layer-by-layer path of the kernel; a state on no cycle is a component of one group of one state."""

    def __init__(
        self,
        rows: list[list[list[tuple[int, float]]]],
        offset: npt.NDArray[np.int64],
        affordable: npt.NDArray[np.uint8],
        last_axis: int,
        component: npt.NDArray[np.int32],
        group: npt.NDArray[np.int32],
        tolerance: float,
        max_sweeps: int,
    ) -> None:
        self.rows, self.offset, self.affordable, self.last_axis = rows, offset, affordable, last_axis
        self.component, self.group, self.tolerance, self.max_sweeps = component, group, tolerance, max_sweeps
        self.free = [a for a in range(len(rows)) if offset[a] == 0]
        self.costly = [a for a in range(len(rows)) if offset[a] > 0]

    def solve(self, groups: list[list[int]], lower: Floats, upper: Floats, policy: npt.NDArray[np.int8]) -> int:
        unfinished = 0
        for layer in range(lower.shape[1]):
            unfinished += self.solve_layer(groups, layer, lower, upper)
            for states in groups:
                self.choose(states, layer, lower, policy)
        return unfinished

    def stop_value(self, a: int, s: int, value: Floats, layer: int) -> float:
        if not self.rows[a][s] or not self.affordable[a, layer]:
            return -1.0
        return sum(p * float(value[j, layer - self.offset[a]]) for j, p in self.rows[a][s])

    def exit_value(self, a: int, s: int, value: Floats, layer: int) -> float:
        outside = [(j, p) for j, p in self.rows[a][s] if self.group[j] != self.group[s]]
        mass = sum(p for _, p in outside)
        if mass == 0.0:
            return -1.0
        total = sum(p * float(value[j, layer]) for j, p in outside)
        return total if len(outside) == len(self.rows[a][s]) else total / mass

    def best_stop(self, states: list[int], value: Floats, layer: int) -> float:
        return max([0.0, *(self.stop_value(a, s, value, layer) for s in states for a in self.costly)])

    def best_exit(self, states: list[int], value: Floats, layer: int, stop: float) -> float:
        return max([stop, *(self.exit_value(a, s, value, layer) for s in states for a in self.free)])

    def solve_layer(self, groups: list[list[int]], layer: int, lower: Floats, upper: Floats) -> int:
        stop_lower = [self.best_stop(states, lower, layer) for states in groups]
        stop_upper = [self.best_stop(states, upper, layer) for states in groups]
        if len(groups) == 1:
            high = self.best_exit(groups[0], upper, layer, stop_upper[0])
            low = self.best_exit(groups[0], lower, layer, stop_lower[0])
            upper[groups[0], layer] = high
            lower[groups[0], layer] = low
            return 0
        outside = [
            (float(lower[j, layer]), float(upper[j, layer]))
            for states in groups
            for s in states
            for a in self.free
            for j, _ in self.rows[a][s]
            if self.component[j] != self.component[s]
        ]
        rests_on = [*outside, *zip(stop_lower, stop_upper, strict=True)]
        allowed = max(high - low for low, high in rests_on) + self.tolerance
        top = max(high for _, high in rests_on)
        for states, low in zip(groups, stop_lower, strict=True):
            upper[states, layer] = top
            below = lower[states[0], layer - 1] if layer % self.last_axis else 0.0
            lower[states, layer] = max(low, below)
        for sweep in range(self.max_sweeps):
            order = range(len(groups)) if sweep % 2 else reversed(range(len(groups)))
            gap = 0.0
            for g in order:
                states = groups[g]
                low = max(float(lower[states[0], layer]), self.best_exit(states, lower, layer, stop_lower[g]))
                high = min(float(upper[states[0], layer]), self.best_exit(states, upper, layer, stop_upper[g]))
                lower[states, layer], upper[states, layer] = low, high
                gap = max(gap, high - low)
            if gap <= allowed:
                return 0
        return 1

    def choose(self, states: list[int], layer: int, lower: Floats, policy: npt.NDArray[np.int8]) -> None:
        policy[states, layer] = 0
        best, best_state, best_action = 0.0, states[0], 0
        for a in range(len(self.rows)):
            evaluate = self.stop_value if self.offset[a] else self.exit_value
            for s in states:
                value = evaluate(a, s, lower, layer)
                if value > best:
                    best, best_state, best_action = value, s, a
        policy[best_state, layer] = best_action
        if best > 0.0 and len(self.free) > 1:
            self.steer(states, best_state, layer, policy)

    def steer(self, states: list[int], target: int, layer: int, policy: npt.NDArray[np.int8]) -> None:
        steered = {target}
        moved = True
        while moved:
            moved = False
            for a in self.free:
                for s in states:
                    if s not in steered and self.leads(a, s, steered):
                        policy[s, layer] = a
                        steered.add(s)
                        moved = True
                if moved:
                    break

    def leads(self, a: int, s: int, steered: set[int]) -> bool:
        successors = [j for j, _ in self.rows[a][s]]
        return all(self.group[j] == self.group[s] for j in successors) and any(j in steered for j in successors)
