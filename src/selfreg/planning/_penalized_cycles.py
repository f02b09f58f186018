"""Optimal policies for many vectors of prices in a model with cycles, each with a proven error.

All prices (lanes) are swept together. Where that fails, or a tie must be broken, policy iteration with exact linear
systems solves the lane.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from selfreg._core import chooser
from selfreg.mdp import InterventionMDP
from selfreg.planning._quotient import (
    EPSILON,
    STAY,
    Ints,
    Optimum,
    Quotient,
    error_in_pairs,
    expand_policy,
    initial_choice,
    optimality_gap,
    policy_error,
    policy_iteration,
    quotient,
)
from selfreg.planning._structure import Components, load_structure
from selfreg.planning.solution import ConvergenceError

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

# Smaller differences are rounding: of penalized values of two actions, and of the usages that break a tie.
TIE, TIE_USAGE = 2.0**-46, 1e-12
# Prices for help without a price, tried in this order: they only break ties.
SMALL_PRICES = (1e-8, 1e-10, 1e-12)
# Largest difference of a possible tie, given the error of swept values; smallest usage that is worth breaking it.
NEAR, SAVING = 1e-11, 1e-9
MAX_SWEEPS = 2000
# Chains that take more steps than this need more than twice the digits of a float.
MOST_STEPS = 1e12
# Positive prices below this may count as 0 where nothing is proven otherwise.
LEAST_PRICE = 1e-12


class Lanes(NamedTuple):
    """Policies of all lanes, and their success and usage from every group.

    Attributes
    ----------
    choice : int64 (groups, L)
        Row taken, or STAY.
    success : float64 (groups, L)
    usage : float64 (groups, dims, L)
    errors : float64 (L,)
        Proven error of success less penalties paid.
    """

    choice: Ints
    success: Floats
    usage: Floats
    errors: Floats


class PenalizedGroups:
    """A model with cycles whose actions have costs (actions, dims); each kind of cost has a price per lane."""

    def __init__(self, mdp: InterventionMDP, cost: Floats, tol: float, implementation: str | None) -> None:
        self.mdp, self.cost, self.tol, self.implementation = mdp, cost, tol, implementation
        self.units = cost.sum(axis=1)
        self.rows = self._quotient(np.flatnonzero(self.units == 0.0).tolist())
        self.needs_pairs = False  # the last lane that was solved on its own did
        self.last: tuple[Floats, Floats, Floats] | None = None  # penalties (L,), ascending, values, usages of a pass

    def solve(self, penalties: Floats) -> Lanes:
        """Optimal policies for finite `penalties` (L, dims)."""
        price = self.cost @ penalties.T
        lanes = self._sweep_lanes(price, penalties)
        again = np.flatnonzero(lanes.errors > self.tol)
        choice = initial_choice(self.rows)
        for lane in again.tolist():
            optimum, lanes.errors[lane] = self._solve_lane(penalties[lane], choice)
            choice = lanes.choice[:, lane] = optimum.choice
            lanes.success[:, lane], lanes.usage[:, :, lane] = optimum.success, optimum.usage
        return lanes

    def policies(self, choice: Ints) -> npt.NDArray[np.int8]:
        """int8 (n, L): actions of all states for `choice` (groups, L)."""
        matrices = list(self.mdp.transitions.values())
        return np.stack([expand_policy(self.rows, matrices, column) for column in choice.T], axis=1)

    def _quotient(self, free: list[int]) -> Quotient:
        cache, key = self.mdp.derived, ("quotient", tuple(free))
        if key not in cache:
            _, structure = load_structure(self.mdp, self.implementation, free)
            assert isinstance(structure, Components)
            cache[key] = quotient(list(self.mdp.transitions.values()), self.mdp.terminal_value, structure, free)
        result: Quotient = cache[key]
        return result

    # ---- all lanes together ---------------------------------------------------------------------------------------

    def _sweep_lanes(self, price: Floats, penalties: Floats) -> Lanes:
        """Solve all lanes by sweeps; the error is infinite for lanes without a proven policy."""
        rows, dims, count = self.rows, self.cost.shape[1], price.shape[1]
        steps = self._most_steps()
        target = min(max(self.tol / (4 * steps), 4 * EPSILON), 1e-11) if np.isfinite(steps) else 1e-14
        unpriced = (price == 0.0) & (self.units > 0)[:, None]
        charged = np.where(unpriced, SMALL_PRICES[-1] * self.units[:, None], price)
        value, usage = self._initial_values(penalties)
        value[~np.isnan(rows.fixed)] = rows.fixed[~np.isnan(rows.fixed), None]
        errors = np.full(count, np.inf)
        if not self._sweep(-charged, np.empty((0, 0), np.int64), target, value):
            return Lanes(np.full(value.shape, STAY), value, usage.reshape(-1, dims, count), errors)
        onward = rows.matrix @ value
        choice, slack = self._choose(value, onward - charged[rows.action])
        done = self._sweep(np.repeat(self.cost, count, axis=1), choice, target, usage)
        used = usage.reshape(-1, dims, count)
        paid = np.einsum("gdl,ld->gl", used, penalties)
        if done and dims == 1:
            order = np.argsort(penalties[:, 0])
            self.last = penalties[order, 0], value[:, order], usage[:, order]
        if done:
            errors = self._errors(price, value, onward, choice, paid, steps)
            errors[self._ties(value, slack <= max(NEAR, self.tol), choice, used.sum(axis=1))] = np.inf
        return Lanes(choice, value + paid, used, errors)

    def _initial_values(self, penalties: Floats) -> tuple[Floats, Floats]:
        """Initial values (groups, L) and usages (groups, dims * L), interpolated from the last pass."""
        count, dims = penalties.shape
        if self.last is None or len(self.last[0]) < 2 or dims > 1:
            return np.zeros((len(self.rows.fixed), count)), np.zeros((len(self.rows.fixed), dims * count))
        solved, value, usage = self.last
        right = np.clip(np.searchsorted(solved, penalties[:, 0]), 1, len(solved) - 1)
        width = solved[right] - solved[right - 1]
        share = np.clip((penalties[:, 0] - solved[right - 1]) / np.where(width > 0, width, 1.0), 0.0, 1.0)
        between = [(1 - share) * part[:, right - 1] + share * part[:, right] for part in (value, usage)]
        return np.ascontiguousarray(between[0]), np.ascontiguousarray(between[1])

    def _sweep(self, reward: Floats, choice: Ints, target: float, x: Floats) -> bool:
        rows = self.rows
        done: bool = chooser.kernel("sweeps", self.implementation).sweep_components(
            rows.components,
            rows.starts,
            *rows.entries,
            rows.action,
            np.ascontiguousarray(reward),
            rows.waits.view(np.uint8),
            np.ascontiguousarray(choice),
            target,
            MAX_SWEEPS,
            x,
        )
        return done and bool(np.isfinite(x).all())

    def _choose(self, value: Floats, gain: Floats) -> tuple[Ints, Floats]:
        """Row of largest `gain` of every group and lane, and the shortfall of every row (rows, L) against `value`."""
        rows = self.rows
        choice, has = np.full(value.shape, STAY), np.flatnonzero(np.diff(rows.starts))
        if len(has):
            best = np.full(value.shape, -np.inf)
            best[has] = np.maximum.reduceat(gain, rows.starts[has])
            row, lane = np.nonzero((gain >= best[rows.row_group])[::-1])
            row = len(gain) - 1 - row  # backwards, so that the first row of a group is assigned last
            choice[rows.row_group[row], lane] = row
            choice[rows.waits[:, None] & (best <= 0.0)] = STAY
        return choice, value[rows.row_group] - gain

    def _ties(self, value: Floats, near: Mask, choice: Ints, usage: Floats) -> Mask:
        """bool (L,): whether an equally good row, one of `near`, or staying uses less than the chosen row."""
        rows = self.rows
        stays: Mask = np.any((value <= max(NEAR, self.tol)) & (usage > SAVING) & rows.waits[:, None], axis=0)
        if np.count_nonzero(near) == np.count_nonzero(choice != STAY):
            return stays
        saved = usage[rows.row_group] - (rows.matrix @ usage + self.units[rows.action][:, None])
        less: Mask = np.any(near & (saved > SAVING), axis=0)
        return stays | less

    def _errors(self, price: Floats, value: Floats, onward: Floats, choice: Ints, paid: Floats, steps: float) -> Floats:
        """Proven errors (L,) of `value` and of the penalties `paid` (groups, L), those of the policies `choice`.

        As in `optimality_gap` and `policy_error`, with w for all rows.
        """
        if not np.isfinite(steps):
            lanes = range(value.shape[1])
            return np.array([self._error(price[:, i], value[:, i].copy(), choice[:, i].copy()) for i in lanes])
        rows = self.rows
        gain = onward - price[rows.action] - value[rows.row_group]
        owed = rows.matrix @ paid + price[rows.action] - paid[rows.row_group]
        above: Floats = (
            np.maximum(gain.max(axis=0, initial=0.0), 0.0)
            + _largest_change(gain, choice)
            + _largest_change(owed, choice)
        )
        return (above + 3 * rows.rounding) * steps

    def _most_steps(self) -> float:
        """Largest entry of some w >= 1 + matrix w in all rows; inf if none was found. Cached with the model."""
        cache, key = self.mdp.derived, ("steps", tuple(self.rows.stays))
        if key not in cache:
            rows, live = self.rows, np.isnan(self.rows.fixed)
            w = np.zeros((len(live), 1))
            cache[key] = np.inf
            if self._sweep(np.ones((len(self.cost), 1)), np.empty((0, 0), np.int64), 1e-3, w):
                short = float((1.0 + rows.matrix @ w[:, 0] - w[rows.row_group, 0]).max(initial=0.0))
                short += rows.rounding * float(w.max(initial=0.0))
                proven = short < 0.5 and float(w[live].min(initial=1.0)) >= 0.5  # mixing can overshoot below 0
                cache[key] = max(1.0, float(w.max(initial=0.0))) / (1.0 - short) if proven else np.inf
        result: float = cache[key]
        return result

    # ---- one lane -------------------------------------------------------------------------------------------------

    def _solve_lane(self, penalty: Floats, choice: Ints) -> tuple[Optimum, float]:
        """Optimum for one vector of penalties, and its proven error."""
        found = self._solve_prices(penalty, choice)
        tiny = (penalty > 0.0) & (penalty < LEAST_PRICE)
        if (found is None or found[1] > self.tol) and tiny.any():
            # Prices lower the optimum, by no more than what the optimal policy for the price 0 pays.
            plain = self._solve_prices(np.where(tiny, 0.0, penalty), choice)
            if plain is not None:
                error = plain[1] + float((plain[0].usage @ np.where(tiny, penalty, 0.0)).max(initial=0.0))
                found = (plain[0], error) if found is None or error < found[1] else found
        if found is None:
            raise ConvergenceError(f"tol={self.tol:g} was not reached; no policy is proven", 1.0)
        return found

    def _solve_prices(self, penalty: Floats, choice: Ints) -> tuple[Optimum, float] | None:
        """Optimum for one vector of penalties, and its proven error; None if no policy was found.

        Costs without a price would not determine which optimal policy uses least. They get a price so small that it
        only breaks ties; the proof is for the price 0.
        """
        price = self.cost @ penalty
        unpriced, found = (price == 0.0) & (self.units > 0), None
        for in_pairs in (False, True)[self.needs_pairs :]:
            for tiny in SMALL_PRICES if unpriced.any() else (0.0,):
                charged = np.where(unpriced, tiny * self.units, price)
                better = self._iterate(price, charged, penalty, choice, in_pairs)
                if better is not None and (found is None or better[1] < found[1]):
                    found = better
                if found is not None and found[1] <= self.tol:
                    self.needs_pairs = in_pairs
                    return found
        return self._solve_in_decimals(price) or found

    def _iterate(
        self, price: Floats, charged: Floats, penalty: Floats, choice: Ints, in_pairs: bool
    ) -> tuple[Optimum, float] | None:
        """Policy iteration for the prices `charged`, and its error for `price`; None if a policy never leaves."""
        rows, action = self.rows, self.rows.action
        tie, evaluate = (self.tol / MOST_STEPS, rows.evaluate_in_pairs) if in_pairs else (TIE, rows.evaluate_plainly)
        try:
            optimum = policy_iteration(rows, charged[action], self.cost[action], choice, tie, TIE_USAGE, evaluate)
            if in_pairs:
                return optimum, error_in_pairs(rows, self._merged(price), price, optimum.choice)
        except np.linalg.LinAlgError:  # rounding made a policy better that never leaves
            return None
        return optimum, self._error(price, optimum.success - optimum.usage @ penalty, optimum.choice)

    def _merged(self, price: Floats) -> Quotient:
        """The quotient in which all actions without a price (actions,) are free."""
        return self._quotient(np.flatnonzero(price == 0.0).tolist())

    def _solve_in_decimals(self, price: Floats) -> tuple[Optimum, float] | None:
        # Rarely needed.
        from selfreg.planning._penalized_decimals import solve_decimals

        coarse = self._merged(price)
        matrices = list(self.mdp.transitions.values())
        return solve_decimals(matrices, self.rows, coarse, price, self.units, self.cost, self.tol)

    def _error(self, price: Floats, value: Floats, choice: Ints) -> float:
        """Proven error of `value` (groups,) of the policy `choice`; the proof uses the groups of all free actions."""
        rows = self.rows
        own = policy_error(rows, price[rows.action], value, choice)
        if not ((price == 0.0) & (self.units > 0)).any():
            return own + optimality_gap(rows, price[rows.action], value, choice)
        coarse = self._merged(price)
        best = np.full(len(coarse.fixed), -np.inf)
        np.maximum.at(best, coarse.group, value[rows.group])
        below = float((best[coarse.group] - value[rows.group]).max())  # the proof is for the best state of a group
        return own + below + optimality_gap(coarse, price[coarse.action], best, np.full(len(best), STAY))


def _largest_change(change: Floats, choice: Ints) -> Floats:
    """Largest |change| (rows, L) of the chosen rows, lane by lane."""
    if not len(change):
        return np.zeros(choice.shape[1])
    taken = np.abs(np.take_along_axis(change, np.maximum(choice, 0), axis=0))
    result: Floats = np.where(choice != STAY, taken, 0.0).max(axis=0, initial=0.0)
    return result
