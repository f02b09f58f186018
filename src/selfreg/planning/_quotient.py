"""Models with cycles and a price on help: rows over groups of states, policy iteration, and the proof of its result.

States that free actions can keep among themselves for ever (an end component) reach each other at no cost: they form a
group with one value, that of its best exit, or of staying. Free rows that partly stay in their group are divided by the
mass that leaves. The quotient has no end component of free actions: for positive prices every policy that improves on
another one leaves eventually, and every linear system is regular.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from selfreg._core import chooser
from selfreg.planning._elimination import AbsorbingChain
from selfreg.planning._structure import Components, kernel_arrays

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
# (policy, reward (rows,), value where a group stays (groups,)) -> values (groups,), gain of every row in one step
Evaluation: TypeAlias = Callable[[Ints, Floats, Floats], tuple[Floats, Floats]]

STAY = -1  # instead of a row: stay in the group for ever
ROUNDS = 1000  # of policy iteration; it takes about ten
EPSILON = float(np.finfo(np.float64).eps)
REFINEMENTS = 6


@dataclass(frozen=True, eq=False)
class Quotient:
    """Rows of a model over its groups, the groups in solving order.

    Attributes
    ----------
    group : int64 (n,)
        Group of every state.
    matrix : csr_array (rows, groups)
        One row for each action of each state that can leave the group, by group, then action, then state.
    action, state, row_group : int64 (rows,)
    starts : int64 (groups + 1,)
        Where the rows of each group begin.
    components : int64 (components + 1,)
        Where each strongly connected component of the model begins among the groups.
    stays : dict of int to bool (n,)
        For every free action, the states whose row stays in their group.
    waits : bool (groups,)
        Whether staying in the group for ever is free.
    fixed : float64 (groups,)
        Terminal value; NaN elsewhere.
    """

    group: Ints
    matrix: sp.csr_array
    action: Ints
    state: Ints
    row_group: Ints
    starts: Ints
    components: Ints
    stays: dict[int, npt.NDArray[np.bool_]]
    waits: npt.NDArray[np.bool_]
    fixed: Floats
    chains: dict[bytes, AbsorbingChain] = field(default_factory=dict, repr=False)  # of the last policy

    @cached_property
    def entries(self) -> tuple[Ints, npt.NDArray[np.int32], Floats]:
        """Row pointers, columns and values of `matrix` in the dtypes of the kernels."""
        parts = kernel_arrays([self.matrix])
        return parts.indptr[0], parts.indices[0], parts.data[0]

    @cached_property
    def rounding(self) -> float:
        """Largest error of a backup of values in [0, 1]: rounding, and rows whose sums miss 1 by rounding."""
        longest = int(np.diff(self.matrix.indptr).max(initial=0))
        missing = np.abs(np.asarray(self.matrix.sum(axis=1)) - 1.0).max(initial=0.0)
        return (2 * longest + 3) * EPSILON + float(missing)

    def best_row(self, gain: Floats) -> tuple[Floats, Ints]:
        """Largest `gain` (rows,) of every group and its first row; -inf and STAY for groups without rows."""
        best, row = np.full(len(self.fixed), -np.inf), np.full(len(self.fixed), STAY)
        has = np.flatnonzero(np.diff(self.starts))
        if len(has):
            best[has] = np.maximum.reduceat(gain, self.starts[has])
            numbers = np.where(gain >= best[self.row_group], np.arange(len(gain)), len(gain))
            row[has] = np.minimum.reduceat(numbers, self.starts[has])
        return best, row

    def evaluate(self, choice: Ints, reward: Floats, stay: Floats) -> Floats:
        """Solve x = reward + matrix x for the chosen rows, with x = `stay` where a group stays or is terminal.

        `reward` is (rows, k) and `stay` (groups, k).
        """
        result, moving = stay.copy(), np.flatnonzero(choice != STAY)
        rows, chain = self.matrix[choice[moving]], self._chain(choice, moving)
        result[moving] = 0.0
        right = reward[choice[moving]] + rows @ result
        solved = chain.solve(right)
        if chain.error is None:
            solved += chain.solve(right + rows[:, moving] @ solved - solved)
        result[moving] = solved
        return result

    def _chain(self, choice: Ints, moving: npt.NDArray[np.intp]) -> AbsorbingChain:
        """The chain of a policy over the groups that do not stay."""
        key = choice.tobytes()
        chain = self.chains.get(key)
        if chain is None:
            rows, outside = self.matrix[choice[moving]], np.ones(len(choice))
            outside[moving] = 0.0
            chain = AbsorbingChain(sp.csr_array(rows[:, moving]), rows @ outside)
            self.chains.clear()
            self.chains[key] = chain
        return chain

    def evaluate_plainly(self, choice: Ints, reward: Floats, stay: Floats) -> tuple[Floats, Floats]:
        """Values of a policy, and the gain of every row in one step, in double precision; see `Evaluation`."""
        value = self.evaluate(choice, reward[:, None], stay[:, None])[:, 0]
        return value, self.matrix @ value + reward - value[self.row_group]

    def evaluate_in_pairs(self, choice: Ints, reward: Floats, stay: Floats) -> tuple[Floats, Floats]:
        """The same with twice the digits."""
        high, _, gain = self.pairs(choice, reward, stay)
        return high, gain

    def pairs(self, choice: Ints, reward: Floats, stay: Floats) -> tuple[Floats, Floats, Floats]:
        """Values high + low of a policy, and the gain of every row in one step.

        Gains are off by a few EPSILON of the reward. That costs this part of all that is paid, however many the steps.
        """
        high, low, moving = stay.copy(), np.zeros(len(stay)), np.flatnonzero(choice != STAY)
        taken, chain = choice[moving], self._chain(choice, moving)
        high[moving] = 0.0
        enough = 1e-26 + 4 * EPSILON * float(np.abs(reward[taken]).max(initial=0.0))
        for _ in range(REFINEMENTS):
            gain = self.gains(high, low) + reward
            if np.abs(gain[taken]).max(initial=0.0) <= enough:
                return high, low, gain
            change = chain.solve(gain[taken])
            total = high[moving] + change
            part = total - high[moving]
            low[moving] += (high[moving] - (total - part)) + (change - part)
            high[moving] = total
        return high, low, self.gains(high, low) + reward

    def gains(self, high: Floats, low: Floats) -> Floats:
        """sum_j matrix[r, j] (x(j) - x(own group)) of every row for x = high + low (groups,), without rounding of x."""
        gain = np.empty(len(self.row_group))
        own = self.row_group.astype(np.int32)
        chooser.kernel("elimination", None).row_gains(*self.entries, own, high, low, gain)
        return gain


def quotient(
    matrices: Sequence[sp.csr_array], terminal_value: Floats, structure: Components, free: Sequence[int]
) -> Quotient:
    """Rows of the model over the groups of `structure`, computed for the `free` actions."""
    label = structure.group[structure.members]
    number = np.cumsum(np.concatenate([[0], label[1:] != label[:-1]])).astype(np.int64)
    group, n = np.empty(len(label), np.int64), int(number[-1]) + 1
    group[structure.members] = number
    terminal = ~np.isnan(terminal_value)
    together = sp.csr_array((np.ones(len(group)), (np.arange(len(group)), group)), shape=(len(group), n))
    stays, parts = {a: np.zeros(len(group), np.bool_) for a in free}, []
    for a, matrix in enumerate(matrices):
        states = np.flatnonzero((np.diff(matrix.indptr) > 0) & ~terminal)
        rows = sp.csr_array(matrix[states] @ together)
        if a in free:
            rows, leaves = _condition_on_leaving(rows, group[states])
            stays[a][states[~leaves]] = True
            rows, states = rows[np.flatnonzero(leaves)], states[leaves]
        parts.append((rows, np.full(len(states), a), states))
    action, state = (np.concatenate([part[i] for part in parts]) for i in (1, 2))
    order = np.lexsort((state, action, group[state]))
    stacked = sp.csr_array(sp.vstack([part[0] for part in parts], format="csr"))[order]
    starts = np.searchsorted(group[state[order]], np.arange(n + 1))
    waits, fixed = np.zeros(n, np.bool_), np.full(n, np.nan)
    for mask in stays.values():
        waits[group[mask]] = True
    fixed[group[terminal]] = terminal_value[terminal]
    components = np.append(number, n)[structure.starts]
    action, state = action[order], state[order]
    return Quotient(group, stacked, action, state, group[state], starts, components, stays, waits, fixed)


def _condition_on_leaving(rows: sp.csr_array, own: Ints) -> tuple[sp.csr_array, npt.NDArray[np.bool_]]:
    """`rows` conditional on leaving the `own` group, and whether any mass leaves."""
    length = np.diff(rows.indptr)
    stays = rows.indices == np.repeat(own, length)
    data = np.where(stays, 0.0, rows.data)
    mass = np.asarray(sp.csr_array((data, rows.indices, rows.indptr), shape=rows.shape).sum(axis=1))
    partly = np.zeros(len(own), np.bool_)
    partly[np.repeat(np.arange(len(own)), length)[stays]] = True
    data /= np.repeat(np.where(partly & (mass > 0), mass, 1.0), length)
    result = sp.csr_array((data, rows.indices, rows.indptr), shape=rows.shape)
    result.eliminate_zeros()
    return result, mass > 0


# ---- policy iteration ---------------------------------------------------------------------------------------------


class Optimum(NamedTuple):
    """Best policy for one vector of prices.

    Attributes
    ----------
    choice : int64 (groups,)
        Row taken, or STAY.
    success : float64 (groups,)
    usage : float64 (groups, dims)
    """

    choice: Ints
    success: Floats
    usage: Floats


def initial_choice(rows: Quotient) -> Ints:
    """A policy that leaves at no cost: the first free row of every group, STAY if there is none."""
    best, row = rows.best_row(np.isin(rows.action, list(rows.stays)).astype(np.float64))
    return np.where(best > 0.0, row, STAY)


def expand_policy(rows: Quotient, matrices: Sequence[sp.csr_array], choice: Ints) -> npt.NDArray[np.int8]:
    """Action of every state: that of the group's row in its state, actions towards it elsewhere; nohelp for STAY."""
    policy = np.zeros(len(rows.group), np.int8)
    taken = choice[choice != STAY]
    policy[rows.state[taken]] = rows.action[taken]
    moving = (choice != STAY)[rows.group]
    directed = np.zeros(len(policy), np.bool_)
    directed[rows.state[taken]] = True
    last: int = -1
    while last < (last := int(np.count_nonzero(directed))):
        for a, stays in rows.stays.items():
            approaching = moving & ~directed & stays & (matrices[a] @ directed.astype(np.float64) > 0)
            policy[approaching] = a
            directed |= approaching
    return policy


def policy_iteration(
    rows: Quotient, price: Floats, cost: Floats, choice: Ints, tie: float, tie_usage: float, evaluate: Evaluation
) -> Optimum:
    """Largest success less prices, ties to less total usage; `price` (rows,) is positive where `cost` is.

    `cost` is (rows, dims). Howard's algorithm: first on the value, then, among rows that attain it, on the usage. A row
    is switched if that gains more than `tie`; the new policy leaves eventually if the last one did. Where rounding is
    more than `tie` a policy can come back: that ends the iteration, and the caller finds the error.
    """
    end, seen = np.nan_to_num(rows.fixed), {b""}
    rounding = 8 * EPSILON * price
    while not _repeats(choice, seen):
        value, gain = evaluate(choice, -price, end)
        choice, switched = _switch(rows, gain - rounding, value, choice, tie)
        if not switched:
            break
    total = cost.sum(axis=1)
    tight = gain + rounding >= -tie
    can_stay, seen = rows.waits & (value <= tie), {b""}
    while not _repeats(choice, seen):
        usage, more = evaluate(choice, total, 0 * end)
        choice, switched = _switch(rows, np.where(tight, -more, -np.inf), -usage, choice, tie_usage, can_stay)
        if not switched:
            break
    success, _ = evaluate(choice, 0 * price, end)
    usages = [evaluate(choice, column, 0 * end)[0] for column in cost.T]
    return Optimum(choice, success, np.array(usages).reshape(-1, len(end)).T.copy())


def _repeats(choice: Ints, seen: set[bytes]) -> bool:
    """Whether a policy was seen before, or too many were; it is added to `seen`."""
    key = choice.tobytes()
    if key in seen or len(seen) > ROUNDS:
        return True
    seen.add(key)
    return False


def _switch(
    rows: Quotient,
    gain: Floats,
    value: Floats,
    choice: Ints,
    tie: float,
    can_stay: npt.NDArray[np.bool_] | None = None,
) -> tuple[Ints, bool]:
    """Policy with the best row, or staying for 0, wherever that gains more than `tie` over `value`."""
    best, row = rows.best_row(gain)
    stays = rows.waits if can_stay is None else can_stay
    row = np.where(stays & (best <= -value), STAY, row)
    best = np.where(stays, np.maximum(best, -value), best)
    better = (best > tie) & np.isnan(rows.fixed)
    return np.where(better, row, choice), bool(better.any())


# ---- proof --------------------------------------------------------------------------------------------------------


def optimality_gap(rows: Quotient, price: Floats, value: Floats, choice: Ints) -> float:
    """Upper bound of optimum - `value` (groups,); inf if there is no proof. `choice` must leave eventually.

    Let no row gain more than `delta` over `value`. If w >= 1 + matrix w in all nearly optimal rows, a backup does not
    increase value + delta w, which is then above the optimum, the least such function. Rows that are worse by `margin`
    do not matter while delta max(w) stays below half of it.
    """
    return _gap(rows, rows.matrix @ value - price - value[rows.row_group], rows.rounding, choice)


def _gap(rows: Quotient, gain: Floats, rounding: float, choice: Ints) -> float:
    delta = max(0.0, float(gain.max(initial=0.0))) + rounding
    for margin in (1e-4, 1e-6, 1e-8, 1e-10, 1e-12):
        steps = _most_steps(rows, gain >= -margin, choice)
        if delta * steps <= margin / 2:
            return delta * steps
    return np.inf


def policy_error(rows: Quotient, price: Floats, value: Floats, choice: Ints) -> float:
    """Upper bound of the difference between `value` (groups,) and the value of the policy `choice`."""
    moving = choice[choice != STAY]
    change = (rows.matrix @ value - price)[moving] - value[rows.row_group[moving]]
    none = np.zeros(len(rows.action), np.bool_)
    return (float(np.abs(change).max(initial=0.0)) + rows.rounding) * _most_steps(rows, none, choice)


def error_in_pairs(rows: Quotient, merged: Quotient, price: Floats, choice: Ints) -> float:
    """Upper bound of optimum - value, and of the rounding of the value, of the policy `choice`; inf without a proof.

    `price` is (actions,). The optimum is that of `merged`, in which all actions without a price are free. Rounding of
    entries counts twice a group (see `factorise`), in success and in what is paid, which is at most 1 where it matters.
    """
    high, low, gain = rows.pairs(choice, -price[rows.action], np.nan_to_num(rows.fixed))
    taken = choice[choice != STAY]
    state_high, state_low = high[rows.group], low[rows.group]
    best, order = np.empty(len(merged.fixed), np.int64), np.lexsort((state_low, state_high))
    best[merged.group[order]] = order
    top_high, top_low = state_high[best], state_low[best]
    below = (top_high[merged.group] - state_high) + (top_low[merged.group] - state_low)
    rounding = 8 * EPSILON * price
    above = merged.gains(top_high, top_low) - (price + rounding)[merged.action]
    off = np.maximum(np.abs(gain[taken]) - rounding[rows.action[taken]], 0.0)
    none, longest = np.zeros(len(rows.action), np.bool_), int(np.diff(rows.matrix.indptr).max(initial=0))
    own = (float(off.max(initial=0.0)) + 2.0**-96 * longest) * _most_steps(rows, none, choice)
    gap = _gap(merged, above, 2.0**-96 * longest, np.full(len(best), STAY))
    return own + gap + float(below.max(initial=0.0)) + EPSILON * (8.0 * len(rows.fixed) + longest + 16.0)


def _most_steps(rows: Quotient, near: npt.NDArray[np.bool_], choice: Ints) -> float:
    """Largest entry of some w >= 1 + matrix w in the rows `near`; inf if none was found."""
    w, seen = np.where(np.isnan(rows.fixed), 1.0, 0.0), {b""}
    while not _repeats(choice, seen):
        try:
            after = rows.evaluate(choice, np.ones((len(near), 1)), np.where(np.isnan(rows.fixed), 1.0, 0.0)[:, None])
        except (RuntimeError, np.linalg.LinAlgError):  # singular: a policy that never leaves
            return np.inf
        w = after[:, 0]
        if not (np.isfinite(w).all() and w.min(initial=1.0) >= 0.0):
            return np.inf
        gain = np.where(near, 1.0 + rows.matrix @ w, -np.inf)
        best, row = rows.best_row(gain)
        better = (best > w + 1e-6 * np.maximum(w, 1.0)) & np.isnan(rows.fixed)
        if not better.any():
            short = float(np.max(best - w, initial=0.0, where=np.isnan(rows.fixed)))
            short += rows.rounding * float(w.max(initial=1.0))
            return float(w.max(initial=1.0)) / (1.0 - short) if short < 0.5 else np.inf
        choice = np.where(better, row, choice)
    return np.inf
