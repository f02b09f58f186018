"""Models with cycles and a price on help: rows over groups of states, policy iteration, and the proof of its result.

States that free actions can keep among themselves for ever (an end component) reach each other at no cost: they form a
group with one value, that of its best exit, or of staying. Free rows that partly stay in their group are divided by the
mass that leaves. The quotient has no end component of free actions: for positive prices every policy that improves on
another one leaves eventually, and every linear system is regular.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from selfreg.planning._elimination import AbsorbingChain
from selfreg.planning._structure import Components, kernel_arrays

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

STAY = -1  # instead of a row: stay in the group for ever
ROUNDS = 1000  # of policy iteration; it takes about ten
EPSILON = float(np.finfo(np.float64).eps)


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
        rows = self.matrix[choice[moving]]
        result[moving] = 0.0
        outside = np.ones(len(choice))
        outside[moving] = 0.0
        chain = AbsorbingChain(sp.csr_array(rows[:, moving]), rows @ outside)
        right = reward[choice[moving]] + rows @ result
        solved = chain.solve(right)
        if chain.error is None:
            solved += chain.solve(right + rows[:, moving] @ solved - solved)
        result[moving] = solved
        return result


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
    rows: Quotient, price: Floats, cost: Floats, choice: Ints, tie: float, tie_usage: float
) -> Optimum:
    """Largest success less prices, ties to less total usage; `price` (rows,) is positive where `cost` is.

    `cost` is (rows, dims). Howard's algorithm: first on the value, then, among rows that attain it, on the usage. A row
    is switched if that gains more than `tie`; the new policy leaves eventually if the last one did. Where rounding is
    more than `tie` a policy can come back: that ends the iteration, and the caller finds the error.
    """
    end, seen = np.nan_to_num(rows.fixed)[:, None], {b""}
    while not _repeats(choice, seen):
        value = rows.evaluate(choice, -price[:, None], end)[:, 0]
        choice, switched = _switch(rows, rows.matrix @ value - price, value, choice, tie)
        if not switched:
            break
    total = cost.sum(axis=1)
    tight = rows.matrix @ value - price >= value[rows.row_group] - tie
    can_stay, seen = rows.waits & (value <= tie), {b""}
    while not _repeats(choice, seen):
        usage = rows.evaluate(choice, total[:, None], 0 * end)[:, 0]
        saved = np.where(tight, -(rows.matrix @ usage + total), -np.inf)
        choice, switched = _switch(rows, saved, -usage, choice, tie_usage, can_stay)
        if not switched:
            break
    reward = np.column_stack([np.zeros(len(price)), cost])
    result = rows.evaluate(choice, reward, np.column_stack([end, np.zeros((len(end), cost.shape[1]))]))
    return Optimum(choice, result[:, 0], result[:, 1:])


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
    current: Floats,
    choice: Ints,
    tie: float,
    can_stay: npt.NDArray[np.bool_] | None = None,
) -> tuple[Ints, bool]:
    """Policy with the best row, or staying for 0, wherever that exceeds `current` by more than `tie`."""
    best, row = rows.best_row(gain)
    stays = rows.waits if can_stay is None else can_stay
    row = np.where(stays & (best <= 0), STAY, row)
    best = np.where(stays, np.maximum(best, 0.0), best)
    better = (best > current + tie) & np.isnan(rows.fixed)
    return np.where(better, row, choice), bool(better.any())


# ---- proof --------------------------------------------------------------------------------------------------------


def optimality_gap(rows: Quotient, price: Floats, value: Floats, choice: Ints) -> float:
    """Upper bound of optimum - `value` (groups,); inf if there is no proof. `choice` must leave eventually.

    Let no row gain more than `delta` over `value`. If w >= 1 + matrix w in all nearly optimal rows, a backup does not
    increase value + delta w, which is then above the optimum, the least such function. Rows that are worse by `margin`
    do not matter while delta max(w) stays below half of it.
    """
    slack = value[rows.row_group] - (rows.matrix @ value - price)
    delta = max(0.0, -float(slack.min(initial=0.0))) + rows.rounding
    for margin in (1e-4, 1e-6, 1e-8, 1e-10, 1e-12):
        steps = _most_steps(rows, slack <= margin, choice)
        if delta * steps <= margin / 2:
            return delta * steps
    return np.inf


def policy_error(rows: Quotient, price: Floats, value: Floats, choice: Ints) -> float:
    """Upper bound of the difference between `value` (groups,) and the value of the policy `choice`."""
    moving = choice[choice != STAY]
    change = (rows.matrix @ value - price)[moving] - value[rows.row_group[moving]]
    none = np.zeros(len(rows.action), np.bool_)
    return (float(np.abs(change).max(initial=0.0)) + rows.rounding) * _most_steps(rows, none, choice)


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
