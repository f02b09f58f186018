"""A price on help in small models that leave slowly: policy iteration in decimal numbers, and the proof of its result.

The method is that of `_quotient.py`, where double precision loses too many digits. Policies are evaluated by
elimination without subtraction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Context, Decimal, getcontext, localcontext

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from selfreg._core._components_py import ONE, ZERO, Choice, Row, TooSlow, evaluate, minimum_degree, row_gain
from selfreg._util.validate import EPSILON
from selfreg.planning._quotient import STAY, Optimum, Quotient, initial_choice

Floats = npt.NDArray[np.float64]

DIGITS = (80, 200, 500)
ROUNDS = 200  # of policy iteration
MOST_PRODUCTS = 200_000  # for one policy: some tenths of a second


class Decimals:
    """A quotient in decimal numbers; its policies are lists of a row, or None to stay, for every group."""

    def __init__(self, rows: Quotient, matrices: Sequence[sp.csr_array]) -> None:
        self.rows, self.count = rows, len(rows.fixed)
        self.fixed = [ZERO if np.isnan(g) else Decimal(float(g)) for g in rows.fixed]
        self.live = np.isnan(rows.fixed).tolist()
        self.by_group: list[list[Row]] = [[] for _ in self.fixed]
        for r, (a, s, g) in enumerate(zip(rows.action, rows.state, rows.row_group, strict=True)):
            self.by_group[g].append(self._row(r, matrices[a], int(s), int(g) if a in rows.stays else STAY))
        successors = [[j for row in some for j, _ in row.inside] for some in self.by_group]
        self.order = minimum_degree(successors, MOST_PRODUCTS)

    def _row(self, r: int, matrix: sp.csr_array, s: int, own: int) -> Row:
        """The row of a state without what stays in its `own` group: not that of `rows`, which has been divided."""
        mass: dict[int, Decimal] = {}
        for e in range(matrix.indptr[s], matrix.indptr[s + 1]):
            h = int(self.rows.group[matrix.indices[e]])
            if h != own:
                mass[h] = mass.get(h, ZERO) + Decimal(float(matrix.data[e]))
        inside = [(h, p) for h, p in mass.items() if self.live[h]]
        outside = [(h, p) for h, p in mass.items() if not self.live[h]]
        return Row(r, s, inside, outside, sum(mass.values(), ZERO))

    def policy(self, choice: npt.NDArray[np.int64]) -> Choice:
        by_number = {row.action: row for some in self.by_group for row in some}
        return [None if r == STAY else by_number[r] for r in choice.tolist()]

    def success(self, policy: Choice) -> list[Decimal]:
        return evaluate(
            policy, self.order, self.fixed, lambda row: sum((p * self.fixed[j] for j, p in row.outside), ZERO)
        )

    def total(self, policy: Choice, cost: list[Decimal], end: Decimal = ZERO) -> list[Decimal]:
        """Expected sum of `cost` (rows,) over the steps; `end` where a live group stays."""
        stop = [end if live else ZERO for live in self.live]
        return evaluate(policy, self.order, stop, lambda row: cost[row.action] * row.total)

    def gains(self, x: list[Decimal], reward: Callable[[Row], Decimal]) -> list[list[tuple[Decimal, Row | None]]]:
        """Gain of every row of every live group in one step, and of staying for nothing where that is free."""
        end = self.fixed.__getitem__
        result: list[list[tuple[Decimal, Row | None]]] = []
        for g, some in enumerate(self.by_group):
            stays = [(-x[g], None)] if self.rows.waits[g] and self.live[g] else []
            result.append([*stays, *((row_gain(row, x, g, end) + reward(row), row) for row in some)])
        return result


def _switch(policy: Choice, gains: list[list[tuple[Decimal, Row | None]]], least: Decimal) -> Choice:
    """The best row wherever it gains more than `least`; the first one of equal rows."""
    best = [max(some, key=lambda pair: pair[0], default=(ZERO, None)) for some in gains]
    return [row if gain > least else old for old, (gain, row) in zip(policy, best, strict=True)]


def _iterate(policy: Choice, improve: Callable[[Choice], Choice]) -> Choice:
    """Improve a policy until it repeats."""
    seen: set[tuple[int, ...]] = set()
    while (key := tuple(map(id, policy))) not in seen:
        if len(seen) > ROUNDS:
            raise TooSlow(f"policy iteration did not end in {ROUNDS} rounds")
        seen.add(key)
        policy = improve(policy)
    return policy


def solve_decimals(
    matrices: Sequence[sp.csr_array],
    rows: Quotient,
    coarse: Quotient,
    price: Floats,
    units: Floats,
    cost: Floats,
    tol: float,
) -> tuple[Optimum, float] | None:
    """Best policy for a price (actions,) of each action, and its proven error; None if it takes too long.

    `units` (actions,) break ties where there is no price, `cost` is (actions, dims). The proof is for `coarse`, the
    quotient in which all actions without a price are free.
    """
    try:
        fine, merged = Decimals(rows, matrices), Decimals(coarse, matrices)
        for digits in DIGITS:
            with localcontext(Context(prec=digits)):
                optimum, error = _solve(fine, merged, price, units, cost, digits)
            if error <= tol:
                return optimum, error
    except ArithmeticError:  # too slow, or a policy that never leaves
        pass
    return None


def _solve(
    fine: Decimals, merged: Decimals, price: Floats, units: Floats, cost: Floats, digits: int
) -> tuple[Optimum, float]:
    action, least = fine.rows.action.tolist(), Decimal(10) ** -(digits // 2)
    tiny = Decimal(10) ** -(digits // 4)
    exact = [Decimal(float(price[a])) for a in action]
    charged = [p or tiny * Decimal(float(units[a])) for p, a in zip(exact, action, strict=True)]
    used = [Decimal(float(units[a])) for a in action]

    def value(policy: Choice, prices: list[Decimal]) -> list[Decimal]:
        paid = fine.total(policy, prices)
        return [gained - lost for gained, lost in zip(fine.success(policy), paid, strict=True)]

    def improve(policy: Choice) -> Choice:
        return _switch(policy, fine.gains(value(policy, charged), lambda row: -charged[row.action]), least)

    policy = _iterate(fine.policy(initial_choice(fine.rows)), improve)
    now = fine.gains(value(policy, charged), lambda row: -charged[row.action])
    tight = [{id(row) for gain, row in some if gain >= -2 * least} for some in now]

    def save(policy: Choice) -> Choice:
        spent = [-u for u in fine.total(policy, used)]
        gains = fine.gains(spent, lambda row: -used[row.action])
        ends = [[pair for pair in some if id(pair[1]) in tight[g]] for g, some in enumerate(gains)]
        ends = [[(gain if row else -spent[g], row) for gain, row in some] for g, some in enumerate(ends)]
        return _switch(policy, ends, least)

    policy = _iterate(policy, save)
    choice = np.array([STAY if row is None else row.action for row in policy], dtype=np.int64)
    usage = [fine.total(policy, [Decimal(float(cost[a, d])) for a in action]) for d in range(cost.shape[1])]
    result = Optimum(
        choice,
        np.array([float(x) for x in fine.success(policy)]),
        np.array([[float(u) for u in column] for column in usage]).reshape(-1, fine.count).T.copy(),
    )
    scale = 4 * EPSILON * (1.0 + float(price.max(initial=0.0)) * float(result.usage.max(initial=0.0)))
    return result, _gap(fine, merged, value(policy, exact), price) + scale


def _gap(fine: Decimals, merged: Decimals, x: list[Decimal], price: Floats) -> float:
    """Upper bound of the optimum less `x`, as in `optimality_gap`; inf if there is no proof."""
    best, groups = [Decimal(-1)] * merged.count, list(zip(merged.rows.group, fine.rows.group, strict=True))
    for g, own in groups:
        best[g] = max(best[g], x[own])
    below = max(best[g] - x[own] for g, own in groups)  # the proof is for the best state of a group
    exact = [Decimal(float(price[a])) for a in merged.rows.action.tolist()]
    gains = merged.gains(best, lambda row: -exact[row.action])
    delta = max([ZERO, *(gain for some in gains for gain, _ in some)]) + Decimal(10) ** -(getcontext().prec - 5)
    for power in range(4, getcontext().prec // 2, 4):
        margin = Decimal(10) ** -power
        if delta > margin:
            break
        near = [[row for gain, row in some if row is not None and gain >= -margin] for some in gains]
        steps = _most_steps(merged, near)
        if steps is not None and delta * steps <= margin / 2:
            return float(delta * steps + below)
    return np.inf


def _nothing(group: int) -> Decimal:
    return ZERO


def _most_steps(merged: Decimals, near: list[list[Row]]) -> Decimal | None:
    """Largest entry of some w >= 1 + P w in the rows `near`; None if none was found."""
    one = [ONE] * len(merged.rows.action)
    policy: Choice = [None] * merged.count
    for _ in range(ROUNDS):
        try:
            w = merged.total(policy, one, ONE)
        except ArithmeticError:  # a policy that never leaves
            return None
        gains = [[(ONE + row_gain(row, w, g, _nothing), row) for row in some] for g, some in enumerate(near)]
        if max((gain for some in gains for gain, _ in some), default=ZERO) <= Decimal("0.5"):
            return 2 * max([ONE, *w])
        policy = _switch(policy, [list(some) for some in gains], Decimal("0.25"))
    return None
