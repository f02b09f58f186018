"""One component with a cycle by policy iteration: where sweeps are slow, or double precision does not prove enough.

For one budget layer, over groups g of states and their free rows r, with outer states j outside of the component:

    x(g) = max( stop(g), max over r of  (sum_h R[r, h] x(h) + sum_j R[r, j] V(j)) / (sum of the row) )

Rows are used as they are: the gain of a row, sum_j R[r, j] (x(j) - x(g)), does not depend on their sum. A policy is
evaluated by elimination without subtraction, or by Krylov methods where that causes too much fill-in, and refined to
twice the digits of a float. With w >= 1 + P w in all rows (the most steps until the component is left) and no gain
above delta, x + delta w does not grow under a backup; likewise from below for the gains of the policy. So x is within
delta max(w) of the optimum.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from selfreg._core import chooser
from selfreg._util.validate import EPSILON
from selfreg.planning._chains import Krylov
from selfreg.planning._component_rows import Rows
from selfreg.planning._elimination import elimination_order, factorise
from selfreg.planning._structure import Arrays, Problem

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Solver: TypeAlias = Callable[[Floats], Floats]

STOP = -1  # instead of a row: take the best costly help, or 0
ROUNDS = 200  # of policy iteration; it takes about ten
REFINEMENTS = 6
# Chains that take more steps than this need more than twice the digits of a float.
MOST_STEPS = 1e12
# Relative rounding error of a gain computed in twice the digits, for each entry of its row.
PAIR_EPSILON = 2.0**-98


class Layer(NamedTuple):
    """What one budget layer adds to the rows.

    Attributes
    ----------
    outer : float64 (outer,)
        Values of outer states.
    paid : float64 (rows,)
        Value of a row with costly help; -inf for those that are not affordable, and for free rows.
    stop : float64 (groups,)
        Best `paid`, 0 if there is none.
    """

    outer: Floats
    paid: Floats
    stop: Floats


class Optimum(NamedTuple):
    """Solution of a layer: values (groups,) with a proven error, the row that each group takes, or STOP, and gains.

    `rest` is what the values lose by rounding to floats.
    """

    value: Floats
    rest: Floats
    choice: Ints
    gain: Floats
    error: float


@dataclass(frozen=True, eq=False)
class Stopping:
    """Optimal stopping in one component."""

    rows: Rows
    implementation: str | None = None
    solvers: dict[bytes, Solver | None] = field(default_factory=dict)  # of the last policy

    @cached_property
    def n_groups(self) -> int:
        return len(self.rows.first) - 1

    @cached_property
    def free(self) -> Ints:
        return np.flatnonzero(self.rows.offset == 0)

    @cached_property
    def scale(self) -> Floats:
        """Sum of every row."""
        return np.asarray(self.rows.matrix.sum(axis=1))

    @cached_property
    def inner(self) -> sp.csr_array:
        return sp.csr_array(self.rows.matrix[:, : self.n_groups])

    @cached_property
    def exits(self) -> Floats:
        """Mass of every row that leaves the component: a sum, never 1 less the rest."""
        return np.asarray(self.rows.matrix[:, self.n_groups :].sum(axis=1))

    @cached_property
    def graph(self) -> sp.csr_array:
        """Number of free rows that lead from one group to another."""
        inner = self.inner[self.free].tocoo()
        edges = (np.ones(len(inner.row)), (self.rows.group[self.free][inner.row], inner.col))
        return sp.csr_array(edges, shape=(self.n_groups, self.n_groups))

    @cached_property
    def order(self) -> Ints | None:
        return elimination_order(self.graph)

    @property
    def fewest_products(self) -> float:
        """Products that eliminating all groups takes in any order: squares of degrees, which sum to the edges."""
        edges = 0.5 * float(self.graph.nnz - np.count_nonzero(self.graph.diagonal()))
        return edges * edges / max(self.n_groups, 1)

    @cached_property
    def kernel_rows(self) -> tuple[Any, ...]:
        """Free rows and their groups as `row_gains` takes them."""
        matrix = self.rows.matrix[self.free]
        own = self.rows.group[self.free].astype(np.int32)
        return matrix.indptr.astype(np.int64), matrix.indices.astype(np.int32), matrix.data, own

    @cached_property
    def first_choice(self) -> Ints:
        """The first free row of every group. Every policy leaves: the groups have no end component."""
        choice = np.full(self.n_groups, STOP)
        choice[self.rows.group[self.free][::-1]] = self.free[::-1]
        return choice

    @cached_property
    def rounding(self) -> float:
        """Relative error of a gain, and of the value of a row in double precision."""
        return PAIR_EPSILON * (int(np.diff(self.rows.matrix.indptr).max(initial=0)) + 3)

    @property
    def enough(self) -> float:
        """Gains of a policy's own rows below this are rounding."""
        return 1e-3 * EPSILON / self.steps

    def gains(self, high: Floats, low: Floats) -> Floats:
        """Gain of every row in one step, for values (groups + outer,); -inf for costly ones."""
        gain = np.empty(len(self.free))
        chooser.kernel("elimination", self.implementation).row_gains(*self.kernel_rows, high, low, gain)
        result = np.full(len(self.scale), -np.inf)
        result[self.free] = gain / self.scale[self.free]
        return result

    def solver(self, choice: Ints) -> Solver | None:
        """Solver of the linear system of a policy; None if it cannot be solved in bounded time."""
        key = choice.tobytes()
        if key not in self.solvers:
            self.solvers.clear()
            self.solvers[key] = self._prepare(choice)
        return self.solvers[key]

    def _prepare(self, choice: Ints) -> Solver | None:
        moving = choice != STOP
        rows = np.where(moving, choice, 0)
        inner = self.inner[rows]
        keep = np.repeat(moving, np.diff(inner.indptr))
        inner.data = np.where(keep, inner.data, 0.0)
        inner.eliminate_zeros()
        scale = np.where(moving, self.scale[rows], 1.0)
        if self.order is not None:
            exits = np.where(moving, self.exits[rows], 1.0)
            factors = factorise(inner, exits, self.order, self.implementation)
            if factors is not None:
                return lambda right: factors.solve_signed(right * scale)
        inner.data = inner.data / np.repeat(scale, np.diff(inner.indptr))
        krylov = Krylov(inner)
        return krylov.solve if krylov.converges() else None

    @cached_property
    def leaves_too_slowly(self) -> bool:
        """Whether some policy is known to take more than MOST_STEPS steps: then sweeps prove nothing either."""
        if not len(self.free) or (solver := self.solver(self.first_choice)) is None:
            return False
        return not bool(solver((self.first_choice != STOP).astype(np.float64)).max() <= MOST_STEPS)

    @cached_property
    def steps(self) -> float:
        """Largest entry of some w >= 1 + P w in all free rows; inf if none was found."""
        if not len(self.free):
            return 1.0
        none, choice = np.zeros(len(self.rows.outer)), self.first_choice
        right = (choice != STOP).astype(np.float64)
        seen: set[bytes] = set()
        for _ in range(ROUNDS):
            solver = self.solver(choice)
            if solver is None or choice.tobytes() in seen:
                return np.inf
            seen.add(choice.tobytes())
            w = solver(right)
            if not (np.isfinite(w).all() and w.min() >= 0.0 and w.max() <= MOST_STEPS):
                return np.inf
            high = np.concatenate([w, none])
            short = 1.0 + self.gains(high, 0 * high)
            if short.max() <= 0.5:
                return 2.0 * max(1.0, float(w.max()))
            best, row = self.best_rows(short)
            choice = np.where(best > 0.25, row, choice)
        return np.inf

    def best_rows(self, gain: Floats) -> tuple[Floats, Ints]:
        """Largest gain of every group and the first row that has it; -inf and STOP for groups without rows."""
        best, row = np.full(self.n_groups, -np.inf), np.full(self.n_groups, STOP)
        np.maximum.at(best, self.rows.group, gain)
        has = np.flatnonzero((gain >= best[self.rows.group]) & (gain > -np.inf))[::-1]
        row[self.rows.group[has]] = has
        return best, row

    def solve(self, layer: Layer, choice: Ints, tolerance: float) -> Optimum | None:
        """Policy iteration from `choice`; None if the tolerance was not reached. Stops at a repeated policy."""
        least = tolerance / (4.0 * self.steps)
        seen: set[bytes] = set()
        for _ in range(ROUNDS):
            values = self._evaluate(choice, layer)
            if values is None or choice.tobytes() in seen:
                return None
            seen.add(choice.tobytes())
            high, low = values
            gain = self.gains(high, low)
            best, row = self.best_rows(gain)
            value = high[: self.n_groups]
            stops = layer.stop - value > np.maximum(best, least)
            switched = np.where(stops, STOP, np.where(best > least, row, choice))
            if np.array_equal(switched, choice):
                taken = np.abs(gain[choice[choice != STOP]])
                delta = max(float(taken.max(initial=0.0)), float(best.max()), float((layer.stop - value).max()), 0.0)
                error = (delta + self.rounding) * self.steps
                return Optimum(value, low[: self.n_groups], choice, gain, error) if error <= tolerance else None
            choice = switched
        return None

    def _evaluate(self, choice: Ints, layer: Layer) -> tuple[Floats, Floats] | None:
        """Values (groups + outer,) of a policy, to twice the digits of a float: two parts."""
        solver, moving = self.solver(choice), choice != STOP
        if solver is None:
            return None
        high = np.concatenate([np.where(moving, 0.0, layer.stop), layer.outer])
        low = np.zeros(len(high))
        rows = choice[moving]
        right = np.zeros(self.n_groups)
        for _ in range(REFINEMENTS):
            right[moving] = self.gains(high, low)[rows]
            if np.abs(right).max(initial=0.0) <= self.enough:
                break
            change = np.where(moving, solver(right), 0.0)
            total = high[: self.n_groups] + change
            part = total - high[: self.n_groups]
            rest = (high[: self.n_groups] - (total - part)) + (change - part)
            high[: self.n_groups], low[: self.n_groups] = total, low[: self.n_groups] + rest
        return high, low


def solve_component(
    problem: Problem,
    stopping: Stopping,
    component: npt.NDArray[np.int32],
    group: npt.NDArray[np.int32],
    c: int,
    tolerance: float,
    error: npt.NDArray[np.float32],
    value: Floats,
    policy: npt.NDArray[np.int8],
) -> bool:
    """Solve component `c`; those before it are solved. Whether every layer was proven to `tolerance`."""
    rows = stopping.rows
    if not np.isfinite(stopping.steps):
        return False
    choice, free = stopping.first_choice, np.flatnonzero(problem.offset == 0).tolist()
    for b in range(value.shape[1]):
        layer, inherited = _layer(problem, stopping, component, c, b, error, value)
        optimum = stopping.solve(layer, choice, tolerance)
        if optimum is None:
            return False
        choice = optimum.choice
        longest = int(np.diff(rows.matrix.indptr).max(initial=0))
        error[c, b] = (inherited + optimum.error + (longest + 4) * EPSILON) * (1 + 1e-6)
        best = np.clip(optimum.value, 0.0, 1.0)
        value[rows.members, b] = np.repeat(best, np.diff(rows.first))
        policy_of_layer(problem.arrays, free, stopping, layer, optimum, stopping.enough, group, b, policy)
    return True


def _layer(
    problem: Problem,
    stopping: Stopping,
    component: npt.NDArray[np.int32],
    c: int,
    b: int,
    error: npt.NDArray[np.float32],
    value: Floats,
) -> tuple[Layer, float]:
    """Constants of layer `b`, and the largest error of the values that they depend on."""
    rows, paid, inherited = stopping.rows, np.full(len(stopping.scale), -np.inf), 0.0
    outside = component[rows.outer]
    if len(rows.outer):
        inherited = float(error[outside, b].max())
    for a in np.unique(rows.action[rows.offset > 0]).tolist():
        if not problem.affordable[a, b]:
            continue
        taken, below = np.flatnonzero(rows.action == a), b - int(problem.offset[a])
        lower = np.concatenate([value[rows.members[rows.first[:-1]], below], value[rows.outer, below]])
        paid[taken] = rows.matrix[taken] @ lower / stopping.scale[taken]
        inherited = max([inherited, float(error[c, below]), *error[outside, below].tolist()])
    stop = np.zeros(stopping.n_groups)
    np.maximum.at(stop, rows.group, paid)
    return Layer(value[rows.outer, b], paid, stop), inherited


def policy_of_layer(
    arrays: Arrays,
    free: list[int],
    stopping: Stopping,
    layer: Layer,
    optimum: Optimum,
    enough: float,
    group: npt.NDArray[np.int32],
    b: int,
    policy: npt.NDArray[np.int8],
) -> None:
    """The first best row of every group, actions towards its state elsewhere; nohelp where the value is 0.

    `free` actions may be repeated without limit. Gains below `enough` are rounding.
    """
    rows, taken = stopping.rows, optimum.choice[optimum.choice != STOP]
    tie = max(2.0 * enough, float(np.abs(optimum.gain[taken]).max(initial=0.0)))
    policy[rows.members, b] = 0
    ahead = np.where(rows.offset > 0, layer.paid - optimum.value[rows.group], optimum.gain)
    best = np.flatnonzero((ahead >= -tie) & (optimum.value[rows.group] > 0.0))
    groups, where = np.unique(rows.group[best], return_index=True)
    for g, r in zip(groups.tolist(), best[where].tolist(), strict=True):
        policy[rows.state[r], b] = rows.action[r]
        if rows.first[g + 1] - rows.first[g] > 1:
            members = rows.members[rows.first[g] : rows.first[g + 1]].tolist()
            _direct_to_exit(arrays, free, members, int(rows.state[r]), group, b, policy)


def _direct_to_exit(
    arrays: Arrays,
    free: list[int],
    members: list[int],
    target: int,
    group: npt.NDArray[np.int32],
    b: int,
    policy: npt.NDArray[np.int8],
) -> None:
    """In every other member of a group take a free action that stays in the group and approaches `target`."""
    stays = [(a, s) for a in free for s in members if s != target]
    successors = {(a, s): arrays.indices[a][arrays.indptr[a][s] : arrays.indptr[a][s + 1]] for a, s in stays}
    stays = [pair for pair in stays if len(successors[pair]) and np.all(group[successors[pair]] == group[target])]
    directed, moved = {target}, True
    while moved:
        moved = False
        for a, s in stays:
            if s not in directed and not directed.isdisjoint(successors[a, s].tolist()):
                policy[s, b] = a
                directed.add(s)
                moved = True
