"""Pure-Python twin of `_components.pyx`: same names and arguments, same results within the error that both prove.

The kernel iterates. The twin solves each layer by policy iteration, each policy by elimination without subtraction
(see `_elimination.pyx`), in decimal numbers of as many digits as the slowest policy needs: the two share the
formulation (groups, rows, the proof by expected steps) but not the method. The twin also solves single components on
which everything else does not converge (`solve_directly`).
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Context, Decimal, localcontext
from heapq import heapify, heappop, heappush
from itertools import groupby, pairwise
from math import inf
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Entries = list[dict[int, list[tuple[int, float]]]]  # per action: state -> (successor, probability)

EPSILON = float(np.finfo(np.float64).eps)
ZERO, ONE = Decimal(0), Decimal(1)
# Digits that are tried. A gain is exact to about all of them, and matters times the most steps.
DIGITS = (40, 80, 160, 320, 640)
SPARE = 25  # digits beyond those of the most steps
ROUNDS = 1000
# Most products for one policy, about a second, if the kernel calls the twin.
MOST_PRODUCTS = 1_000_000


class TooSlow(ArithmeticError):
    """The component needs more products, or more digits, than are allowed."""


class Row(NamedTuple):
    action: int
    state: int
    inside: list[tuple[int, Decimal]]  # (group, probability)
    outside: list[tuple[int, Decimal]]  # (state, probability)
    total: Decimal


Choice: TypeAlias = list[Row | None]  # of every group; None: take the best costly help, or 0


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
    most_products: float = inf,
) -> None:
    """Solve component `c`, whose states (groups together) are `states`; those before it are solved.

    Raises
    ------
    TooSlow
        If a policy takes more than `most_products` products, or more digits than are tried.
    """
    entries: Entries = [
        {s: list(zip(i[p[s] : p[s + 1]].tolist(), d[p[s] : p[s + 1]].tolist(), strict=True)) for s in states.tolist()}
        for p, i, d in zip(indptr, indices, data, strict=True)
    ]
    solver = _Solver(entries, offset, affordable, component, group, error, value, policy, most_products)
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
        most_products: float,
    ) -> None:
        self.entries, self.offset, self.affordable = entries, offset.tolist(), affordable
        self.component, self.group, self.error = component, group, error
        self.value, self.policy, self.most_products = value, policy, most_products
        self.free = [a for a in range(len(entries)) if not self.offset[a]]

    def solve(self, c: int, groups: list[list[int]]) -> None:
        local = {s: g for g, states in enumerate(groups) for s in states}
        rows = [self._rows(c, states, local) for states in groups]
        successors = [[i for row in self._free(choices) for i, _ in row.inside] for choices in rows]
        order = minimum_degree(successors, self.most_products)
        for digits in DIGITS:
            with localcontext(Context(prec=digits)):
                steps = self._most_steps(rows, order)
                if steps is not None and steps.adjusted() + SPARE <= digits:
                    choice: Choice = [next(iter(self._free(choices)), None) for choices in rows]
                    for b in range(self.value.shape[1]):
                        choice = self._solve_layer(c, groups, rows, order, choice, steps, b)
                    return
        raise TooSlow(f"a state takes more than 1e{DIGITS[-1] - SPARE} steps")

    def _free(self, choices: list[Row]) -> list[Row]:
        return [row for row in choices if not self.offset[row.action]]

    def _rows(self, c: int, states: list[int], local: dict[int, int]) -> list[Row]:
        """Rows that can leave the group, by action, without what stays in the group."""
        rows = []
        for a in range(len(self.entries)):
            for s in states:
                stay = {j for j, _ in self.entries[a][s] if not self.offset[a] and self.group[j] == self.group[s]}
                leaving = [(j, Decimal(p)) for j, p in self.entries[a][s] if j not in stay]
                if leaving:
                    inside = [(local[j], p) for j, p in leaving if self.component[j] == c]
                    outside = [(j, p) for j, p in leaving if self.component[j] != c]
                    rows.append(Row(a, s, inside, outside, sum((p for _, p in leaving), ZERO)))
        return rows

    def _most_steps(self, rows: list[list[Row]], order: list[int]) -> Decimal | None:
        """Largest entry of some w >= 1 + P w in all free rows; None if these digits do not show it."""
        if len(rows) == 1:
            return ONE
        free = [self._free(choices) for choices in rows]
        choice: Choice = [next(iter(choices), None) for choices in free]
        for _ in range(ROUNDS):
            w = evaluate(choice, order, [ONE] * len(rows), lambda row: row.total)
            worst = [
                max(((ONE + row_gain(row, w, g, _nothing), row) for row in some), key=_first, default=(ZERO, None))
                for g, some in enumerate(free)
            ]
            if max(short for short, _ in worst) <= Decimal("0.5"):
                return 2 * max([ONE, *w])
            choice = [row if short > Decimal("0.25") else old for old, (short, row) in zip(choice, worst, strict=True)]
        return None

    def _solve_layer(
        self,
        c: int,
        groups: list[list[int]],
        rows: list[list[Row]],
        order: list[int],
        choice: Choice,
        steps: Decimal,
        b: int,
    ) -> Choice:
        """Solve one layer by policy iteration from `choice`; its optimal policy."""
        paid = [[self._paid(row, groups, b) for row in choices] for choices in rows]
        stop = [max([ZERO, *(p for p in some if p is not None)]) for some in paid]
        free = [self._free(choices) for choices in rows]
        least, seen = Decimal("1e-18") / steps, set()

        def outer(j: int) -> Decimal:
            return Decimal(float(self.value[j, b]))

        while True:
            seen.add(tuple(map(id, choice)))
            x = evaluate(choice, order, stop, lambda row: sum((p * outer(j) for j, p in row.outside), ZERO))
            best = [
                max([(stop[g] - x[g], None), *((row_gain(row, x, g, outer), row) for row in some)], key=_first)
                for g, some in enumerate(free)
            ]
            switched = [row if gain > least else old for old, (gain, row) in zip(choice, best, strict=True)]
            if tuple(map(id, switched)) in seen:
                break
            choice = switched
        own = [abs(row_gain(row, x, g, outer)) for g, row in enumerate(choice) if row is not None]
        proven = float(steps * max([ZERO, *own, *(gain for gain, _ in best)])) + 4 * EPSILON
        for states, found in zip(groups, x, strict=True):
            self.value[states, b] = min(max(float(found), 0.0), 1.0)
        if len(self.error):
            inherited = self._inherited(c, rows, b)
            self.error[c, b] = (inherited + (proven if len(groups) > 1 else 0.0)) * (1 + 1e-6)
        for g, states in enumerate(groups):
            ahead = [(self._ahead(row, p, x, g, outer), row) for row, p in zip(rows[g], paid[g], strict=True)]
            usable = [row for gain, row in ahead if gain >= -2 * least]
            self._set_policy(states, usable[0] if usable and x[g] > 0 else None, b)
        return choice

    def _paid(self, row: Row, groups: list[list[int]], b: int) -> Decimal | None:
        """Value of a row with costly help; None for a free one, and where it is not affordable."""
        if not self.offset[row.action] or not self.affordable[row.action, b]:
            return None
        below = b - self.offset[row.action]
        states = [(groups[i][0], p) for i, p in row.inside] + row.outside
        return sum((p * Decimal(float(self.value[j, below])) for j, p in states), ZERO) / row.total

    def _ahead(
        self, row: Row, paid: Decimal | None, x: list[Decimal], g: int, outer: Callable[[int], Decimal]
    ) -> Decimal:
        """How much a row exceeds the value of its group in one step."""
        if self.offset[row.action]:
            return -ONE if paid is None else paid - x[g]
        return row_gain(row, x, g, outer)

    def _inherited(self, c: int, rows: list[list[Row]], b: int) -> float:
        """Largest error of the values that a layer depends on."""
        result = 0.0
        for row in (row for choices in rows for row in choices if self.affordable[row.action, b]):
            below = b - self.offset[row.action]
            result = max([result, *(float(self.error[self.component[j], below]) for j, _ in row.outside)])
            if self.offset[row.action] and row.inside:
                result = max(result, float(self.error[c, below]))
        return result

    def _set_policy(self, states: list[int], row: Row | None, b: int) -> None:
        """Policy of a group: `row` in its state, actions towards that state elsewhere; nohelp for None."""
        self.policy[states, b] = 0
        if row is not None:
            self.policy[row.state, b] = row.action
            if len(self.free) > 1:
                self._direct_to_exit(states, row.state, b)

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


# ---- policies --------------------------------------------------------------------------------------------------------


def _first(pair: tuple[Decimal, Any]) -> Decimal:
    return pair[0]


def _nothing(state: int) -> Decimal:
    return ZERO


def row_gain(row: Row, x: list[Decimal], g: int, outer: Callable[[int], Decimal]) -> Decimal:
    """How much taking `row` once changes the value of group `g`."""
    inside = sum((p * (x[i] - x[g]) for i, p in row.inside), ZERO)
    return (inside + sum((p * (outer(j) - x[g]) for j, p in row.outside), ZERO)) / row.total


def evaluate(
    choice: Choice, order: list[int], stop: list[Decimal], constant: Callable[[Row], Decimal]
) -> list[Decimal]:
    """Solution of x = `stop` where a group stops, and total x = constant + sum p x elsewhere, without subtraction."""
    chain: list[dict[int, Decimal]] = [{} if row is None else _merged(row.inside, g) for g, row in enumerate(choice)]
    exits = [ONE if row is None else sum((p for _, p in row.outside), ZERO) for row in choice]
    right = [stop[g] if row is None else constant(row) for g, row in enumerate(choice)]
    into: list[set[int]] = [set() for _ in choice]
    for i, entries in enumerate(chain):
        for j in entries:
            into[j].add(i)
    pivot = [ZERO] * len(choice)
    for k in order:
        pivot[k] = sum(chain[k].values(), exits[k])
        for i in into[k]:
            share = chain[i].pop(k) / pivot[k]
            exits[i] += share * exits[k]
            right[i] += share * right[k]
            for j, p in chain[k].items():
                if j != i:
                    chain[i][j] = chain[i].get(j, ZERO) + share * p
                    into[j].add(i)
        for j in chain[k]:
            into[j].discard(k)
    x = [ZERO] * len(choice)
    for k in reversed(order):
        x[k] = (right[k] + sum((p * x[j] for j, p in chain[k].items()), ZERO)) / pivot[k]
    return x


def _merged(entries: list[tuple[int, Decimal]], own: int) -> dict[int, Decimal]:
    """Entries to other groups, one each."""
    result: dict[int, Decimal] = {}
    for j, p in entries:
        if j != own:
            result[j] = result.get(j, ZERO) + p
    return result


def minimum_degree(successors: list[list[int]], most_products: float) -> list[int]:
    """Order of elimination: always a state with fewest neighbours in what is left."""
    near: list[set[int]] = [set() for _ in successors]
    for i, heads in enumerate(successors):
        for j in heads:
            if i != j:
                near[i].add(j)
                near[j].add(i)
    states, products = [], 0
    heap = [(len(some), i) for i, some in enumerate(near)]
    heapify(heap)
    done = [False] * len(near)
    while heap:
        degree, k = heappop(heap)
        if done[k] or degree != len(near[k]):
            continue
        done[k] = True
        states.append(k)
        products += degree * (degree + 2)
        if products > most_products:
            raise TooSlow(f"one policy takes more than {most_products:g} products")
        for i in near[k]:
            near[i] |= near[k]
            near[i] -= {i, k}
            heappush(heap, (len(near[i]), i))
    return states
