"""Robust values of small components that take more steps than double precision can prove: the method of
`_robust_cycles.py` in decimal numbers, policies evaluated by elimination without subtraction.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Context, Decimal, localcontext
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from selfreg._core._components_py import (
    DIGITS,
    MOST_PRODUCTS,
    ONE,
    SPARE,
    ZERO,
    Choice,
    Row,
    TooSlow,
    evaluate,
    minimum_degree,
    row_gain,
)
from selfreg._util.validate import EPSILON
from selfreg.planning._component_rows import Rows
from selfreg.planning._stopping import STOP, Layer, Optimum

Floats = npt.NDArray[np.float64]
Value = Callable[[int], Decimal]
ROUNDS = 200


class Successor(NamedTuple):
    column: int
    mass: Decimal
    down: Decimal
    up: Decimal


class DecimalComponent:
    """The free rows of a component; `Row.action` is the number of the row, outer columns follow the groups."""

    def __init__(self, rows: Rows, down: Floats, up: Floats, lost: Floats) -> None:
        self.rows, self.n_groups = rows, len(rows.first) - 1
        self.sink = rows.matrix.shape[1] - 1
        self.free = np.flatnonzero(rows.offset == 0).tolist()
        self.lost = [Decimal(float(p)) for p in lost]
        self.successors = {r: self._successors(r, down, up) for r in self.free}
        heads: list[list[int]] = [[] for _ in range(self.n_groups)]
        for r in self.free:
            heads[rows.group[r]] += [one.column for one in self.successors[r] if one.column < self.n_groups]
        self.order = minimum_degree(heads, MOST_PRODUCTS)
        self.taken: dict[int, Row] = {}
        self.steps = ONE

    def _successors(self, r: int, down: Floats, up: Floats) -> list[Successor]:
        matrix = self.rows.matrix
        entries = [e for e in range(matrix.indptr[r], matrix.indptr[r + 1]) if matrix.indices[e] != self.sink]
        numbers = [(matrix.data[e], down[e], up[e]) for e in entries]
        columns = matrix.indices[entries].tolist()
        return [Successor(j, *(Decimal(float(p)) for p in three)) for j, three in zip(columns, numbers, strict=True)]

    def worst(self, r: int, value: Value) -> Row:
        """The worst distribution of a row for the values of all columns."""
        inside: list[tuple[int, Decimal]] = []
        outside = [(self.sink, self.lost[r])]
        left = self.lost[r] + sum((one.up for one in self.successors[r]), ZERO)
        for one in sorted(self.successors[r], key=lambda one: value(one.column), reverse=True):
            cut = min(left, one.down + one.up)
            left -= cut
            if (mass := one.mass + one.up - cut) > 0:
                (inside if one.column < self.n_groups else outside).append((one.column, mass))
        return Row(r, int(self.rows.group[r]), inside, outside, sum((p for _, p in inside + outside), ZERO))

    def solve(self, layers: Callable[[int], Layer], count: int, keep: Callable[[int, Layer, Optimum], None]) -> float:
        """Solve `count` layers in turn and `keep` each; the sum of their errors.

        Raises
        ------
        TooSlow
            If that takes too many rounds or digits.
        """
        for digits in DIGITS:
            with localcontext(Context(prec=digits)):
                choice: Choice = [None] * self.n_groups
                for r in reversed(self.free):
                    self.taken[r] = self.worst(r, lambda j: ZERO)
                    choice[self.rows.group[r]] = self.taken[r]
                steps = self._most_steps(choice)
                if steps is None or steps.adjusted() + SPARE > digits:
                    continue
                self.steps, total = steps, 0.0
                for b in range(count):
                    layer = layers(b)
                    choice, optimum = self._solve_layer(layer, choice)
                    keep(b, layer, optimum)
                    total += optimum.error
                return total
        raise TooSlow("a state takes too many steps")

    def _most_steps(self, choice: Choice) -> Decimal | None:
        """Largest entry of some w >= 1 + q w for all rows and choices of nature; None if the digits do not show it."""
        for _ in range(ROUNDS):
            w = evaluate(choice, self.order, [ONE] * self.n_groups, lambda row: row.total)
            ahead = [*(-steps for steps in w), *[ZERO] * (self.sink + 1 - self.n_groups)]
            longest = [self.worst(r, ahead.__getitem__) for r in self.free]
            gains = [(ONE + row_gain(row, w, row.state, _nothing), row) for row in longest]
            if max((gain for gain, _ in gains), default=ZERO) <= Decimal("0.5"):
                return 2 * max([ONE, *w])
            choice = _switched(choice, gains, Decimal("0.25"))
        return None

    def _solve_layer(self, layer: Layer, choice: Choice) -> tuple[Choice, Optimum]:
        least = Decimal("1e-18") / self.steps
        stop, outer = [Decimal(float(x)) for x in layer.stop], [Decimal(float(x)) for x in layer.outer]

        def value_outside(j: int) -> Decimal:
            return outer[j - self.n_groups]

        for _ in range(ROUNDS):
            choice, x = self._best_policy(choice, stop, value_outside, least)
            every = [*x, *outer]
            worst = {r: self.worst(r, every.__getitem__) for r in self.free}
            gains = {r: row_gain(row, x, row.state, value_outside) for r, row in worst.items()}
            before = {r: row_gain(self.taken[r], x, self.taken[r].state, value_outside) for r in self.free}
            worse = [r for r in self.free if gains[r] < before[r] - least]
            if not worse:
                return choice, self._optimum(layer, choice, x, gains, before, least)
            self.taken |= {r: worst[r] for r in worse}
            choice = [None if row is None else self.taken[row.action] for row in choice]
        raise TooSlow("nature's choices did not end")

    def _best_policy(
        self, choice: Choice, stop: list[Decimal], outer: Value, least: Decimal
    ) -> tuple[Choice, list[Decimal]]:
        """The agent's best policy from `choice` for the rows taken by nature, and its values."""
        for _ in range(ROUNDS):
            x = evaluate(choice, self.order, stop, lambda row: sum((p * outer(j) for j, p in row.outside), ZERO))
            gains = [(row_gain(row, x, row.state, outer), row) for row in map(self.taken.__getitem__, self.free)]
            switched = _switched(choice, gains, least)
            best = [least] * self.n_groups
            for gain, row in gains:
                best[row.state] = max(best[row.state], gain)
            for g, value in enumerate(x):
                if stop[g] - value > best[g]:
                    switched[g] = None
            if all(new is old for new, old in zip(switched, choice, strict=True)):
                return choice, x
            choice = switched
        raise TooSlow("policy iteration did not end")

    def _optimum(
        self,
        layer: Layer,
        choice: Choice,
        x: list[Decimal],
        gains: dict[int, Decimal],
        before: dict[int, Decimal],
        least: Decimal,
    ) -> Optimum:
        """The solution for `policy_of_layer`: ties have a gain of 0, all other rows -1.

        `gains` of the rows are under their worst distributions, `before` under those taken by nature.
        """
        stops = [Decimal(float(stop)) - value for stop, value in zip(layer.stop, x, strict=True)]
        below = [-gains[row.action] for row in choice if row is not None]
        delta = max([ZERO, *before.values(), *stops]) + max([ZERO, *below])
        tied = np.full(len(self.rows.action), -1.0)
        tied[[r for r in self.free if gains[r] >= -2 * least]] = 0.0
        value = np.array([float(one) for one in x])
        taken = np.array([STOP if row is None else row.action for row in choice], dtype=np.int64)
        return Optimum(value, np.zeros(len(value)), taken, tied, float(delta * self.steps) + 4 * EPSILON)


def _switched(choice: Choice, gains: list[tuple[Decimal, Row]], least: Decimal) -> Choice:
    """The first best row of every group where it gains more than `least`."""
    result, best = list(choice), [least] * len(choice)
    for gain, row in gains:
        if gain > best[row.state]:
            result[row.state], best[row.state] = row, gain
    return result


def _nothing(column: int) -> Decimal:
    return ZERO
