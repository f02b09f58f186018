"""One pool of help for many tasks: the split with most expected successes, in expectation or in whole units.

In expectation every task has a concave frontier. The optimal split has one slope on all frontiers, the common penalty;
merging their segments in descending order of slope gives it. Whole units are a multiple-choice knapsack, since success
under a hard budget need not be concave in the budget. It is solved exactly: if all curves are concave, unit by unit in
descending order of the gains; else by dynamic programming over the choices that the relaxation (concave majorants,
common penalty) does not exclude. The exclusion by reduced cost is that of Pisinger, "A minimal algorithm for the
multiple-choice knapsack problem", European Journal of Operational Research 83 (1995).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from selfreg._util import validate
from selfreg._util.showing import ShortRepr
from selfreg.planning.frontiers import Frontier
from selfreg.planning.solution import Solution, StartSolution

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

# Rounding error when choices are excluded, relative to the total success. A larger value only keeps more choices.
SLACK = 1e-9


@dataclass(frozen=True, eq=False, repr=False)
class Allocation(ShortRepr):
    """Split of a pool of help over tasks.

    Attributes
    ----------
    share : float64 or int64 (tasks,)
        Help of each task: expected usage for frontiers, whole units for hard budgets.
    success : float64 (tasks,)
        Success of each task with its share.
    penalty : float
        Marginal success of one more unit of help: the common slope of all frontiers (hard budgets: of the concave
        majorants of the curves); 0 if more help would add nothing.
    bound : float
        Upper bound of the total success of every split, randomised ones included. For frontiers it is attained up to
        their own gaps (`Frontier.gap`).
    baseline_share, baseline_success : as `share` and `success`
        Equal shares: total / tasks, or, in whole units, that rounded down and one more for the first
        total mod tasks tasks. No share exceeds what the frontier or curve of the task can use.
    """

    share: npt.NDArray[Any]
    success: Floats
    penalty: float
    bound: float
    baseline_share: npt.NDArray[Any]
    baseline_success: Floats

    @property
    def total_success(self) -> float:
        """Expected number of tasks that succeed."""
        return float(self.success.sum())

    @property
    def baseline_total_success(self) -> float:
        """Expected number of tasks that succeed with equal shares."""
        return float(self.baseline_success.sum())


def allocate(items: Iterable[Any], total: float) -> Allocation:
    """Split a pool of `total` help over tasks so that the expected number of successes is largest.

    Parameters
    ----------
    items : sequence of Frontier, or of hard-budget curves
        One entry per task. Either all are frontiers (`selfreg.frontier`): the pool is then spent in expectation. Or
        each is success by whole units of help, in one of three forms: a pair (`Solution`, start), a `StartSolution`
        (`solve(..., keep="start")`), or a row of numbers, entry b for a share of b; an array or data frame
        (tasks, budget + 1) is a sequence of rows. Curves need be neither concave nor increasing; a share never exceeds
        the length of the curve.
    total : float, or int for hard budgets
        Size of the pool, >= 0.

    Returns
    -------
    Allocation
        The exact optimum (up to rounding). Of several optimal splits, the one that spends least of the pool; of
        these the one with the smallest share for the last task, then for the last but one, and so on. Help that no
        task can use stays in the pool. With frontiers at most one task ends between two of its vertices.

    Raises
    ------
    ValueError, TypeError
        If there are no items, items differ in kind or have several budgets, a curve has entries that are not finite, or
        `total` is negative, or not an integer for hard budgets.

    Notes
    -----
    In expectation: maximise sum_i f_i(u_i) over shares with sum_i u_i <= total, where f_i is the frontier of task i; at
    the optimum there is one penalty that is a slope of every f_i at u_i. In whole units the optimum over b_i is taken
    by the recursion F_i(t) = max_b F_{i-1}(t - b) + v_i(b). The equations are ours.

    Examples
    --------
    The first task needs two units at once; the second gains a little from one.

    >>> import selfreg
    >>> split = selfreg.allocate([[0, 0, .9], [.5, .7, .7]], total=2)
    >>> split.share.tolist(), split.total_success, split.baseline_total_success
    ([2, 0], 1.4, 0.7)
    """
    if not isinstance(items, Iterable):
        raise TypeError(f"items is a {type(items).__name__}; expected a sequence with one entry per task")
    entries = list(items.to_numpy() if hasattr(items, "to_numpy") else items)  # data frames iterate over columns
    if not entries:
        raise ValueError("items is empty; expected at least one task")
    pool = validate.nonneg_float("total", total)
    frontiers = [isinstance(item, Frontier) for item in entries]
    if not any(frontiers):
        curves = [_curve(f"items[{i}]", item) for i, item in enumerate(entries)]
        return _in_units(curves, validate.nonneg_ints("total", total)[0])
    if not all(frontiers):
        raise TypeError(
            f"items[{frontiers.index(not frontiers[0])}] and items[0] are of different kinds: "
            "the items must be all frontiers, or all hard-budget curves"
        )
    return _in_expectation(entries, pool)


def _curve(label: str, item: Any) -> Floats:
    """Success by whole units of help, float64 (budget + 1,)."""
    if isinstance(item, Solution):
        raise TypeError(f"{label} is a Solution; expected it with its start: (solution, start)")
    if isinstance(item, tuple) and item and isinstance(item[0], Solution):
        if len(item) != 2:
            raise TypeError(f"{label} is a tuple of {len(item)}; expected (solution, start)")
        solution, start = item
        curve = np.tensordot(solution.mdp.start_distribution(start), solution.value, axes=1)
    elif isinstance(item, StartSolution):
        curve = item.value
    else:
        curve = validate.unmasked_array(label, item)
        if curve.dtype.kind not in "fiub":
            forms = "a Frontier, (Solution, start), a StartSolution or a row of numbers"
            raise TypeError(f"{label} is a {type(item).__name__} of dtype {curve.dtype}; expected {forms}")
    if curve.ndim != 1 or not len(curve):
        raise ValueError(f"{label} has shape {curve.shape}; expected (budget + 1,): success by units of one budget")
    bad = np.flatnonzero(~np.isfinite(curve))
    if len(bad):
        raise ValueError(f"{label}[{bad[0]}] is {curve[bad[0]]}; expected finite numbers")
    return curve.astype(np.float64, copy=False)


# ---- in expectation -----------------------------------------------------------------------------------------------


def _in_expectation(frontiers: Sequence[Frontier], total: float) -> Allocation:
    lengths = [np.diff(front.usage) for front in frontiers]
    # Rounding can put the slopes of short segments out of order; a segment never precedes the one below it.
    slopes = [np.minimum.accumulate(np.diff(f.success) / d) for f, d in zip(frontiers, lengths, strict=True)]
    owner = np.repeat(np.arange(len(frontiers)), [len(length) for length in lengths])
    length, slope = np.concatenate(lengths), np.concatenate(slopes)
    order = np.argsort(-slope, kind="stable")
    before = np.concatenate([[0.0], np.cumsum(length[order])])
    taken = np.clip(total - before[:-1], 0.0, length[order])
    partial = int(np.searchsorted(before[1:], total, side="right"))  # the first segment that is not used completely
    most = np.array([front.usage[-1] for front in frontiers])
    share = np.minimum(np.bincount(owner[order], taken, minlength=len(frontiers)), most)
    same = np.minimum(total / len(frontiers), most)
    success, baseline = _success_at(frontiers, share), _success_at(frontiers, same)
    penalty = float(slope[order[partial]]) if partial < len(order) else 0.0
    bound = float(success.sum()) + sum(front.gap for front in frontiers)
    return Allocation(share, success, penalty, bound, same, baseline)


def _success_at(frontiers: Sequence[Frontier], share: Floats) -> Floats:
    return np.array([np.interp(u, front.usage, front.success) for front, u in zip(frontiers, share, strict=True)])


# ---- in whole units -----------------------------------------------------------------------------------------------


class _Relaxation(NamedTuple):
    """The optimum over concave majorants, unit by unit."""

    share: Ints
    penalty: float
    cut: int  # task that ends inside a segment of its majorant; -1 if there is none
    vertex: int  # where that segment begins


def _in_units(rows: Sequence[Floats], total: int) -> Allocation:
    curves = _padded(rows)
    relaxed = _relaxation(curves, total)
    best = curves - relaxed.penalty * np.arange(curves.shape[1])
    bound = float(best.max(axis=1).sum() + relaxed.penalty * total)
    share = relaxed.share
    if relaxed.cut >= 0:
        share = share.copy()
        share[relaxed.cut] = relaxed.vertex
        _fill(curves, share, total)
        share = _exact(curves, best, share, total, bound)
    each, more = divmod(total, len(rows))
    same = np.full(len(rows), each, np.int64)
    same[:more] += 1
    same = np.minimum(same, [len(row) - 1 for row in rows])
    task = np.arange(len(rows))
    success = curves[task, share]
    return Allocation(share, success, relaxed.penalty, max(bound, float(success.sum())), same, curves[task, same])


def _padded(rows: Sequence[Floats]) -> Floats:
    """float64 (tasks, units + 1): curves are extended by their last entry, so that more units add nothing."""
    result = np.empty((len(rows), max(map(len, rows))))
    for line, row in zip(result, rows, strict=True):
        line[: len(row)] = row
        line[len(row) :] = row[-1]
    return result


def _relaxation(curves: Floats, total: int) -> _Relaxation:
    """Units in the order of the slopes of the least concave majorants, ties to the earlier task."""
    n, width = curves.shape[0], curves.shape[1] - 1
    slopes = np.diff(curves)
    nonconcave = np.flatnonzero((np.diff(slopes) > 0.0).any(axis=1))
    if len(nonconcave):
        from scipy.optimize import isotonic_regression

        for i in nonconcave:  # the slopes of a majorant are the antitonic regression of the gains
            slopes[i] = isotonic_regression(slopes[i], increasing=False).x
    flat = slopes.ravel()
    order = np.argsort(-flat, kind="stable")
    spent = min(total, int(np.count_nonzero(flat > 0.0)))
    share = np.bincount(order[:spent] // max(width, 1), minlength=n)
    if spent == len(flat) or flat[order[spent]] <= 0.0:
        return _Relaxation(share, 0.0, -1, 0)
    penalty = float(flat[order[spent]])
    last = order[spent - 1] // width if spent else 0
    inside = (
        spent > 0 and last in nonconcave and slopes[last, share[last] - 1] == slopes[last, min(share[last], width - 1)]
    )
    if not inside or share[last] == width:
        return _Relaxation(share, penalty, -1, 0)
    vertex = int(np.argmax(slopes[last] == slopes[last, share[last]]))
    return _Relaxation(share, penalty, int(last), vertex)


def _fill(curves: Floats, share: Ints, total: int) -> None:
    """Spend the remaining units on one task after the other, each time with the largest gain."""
    unit, task = np.arange(curves.shape[1]), np.arange(len(curves))
    while True:
        left = total - int(share.sum())
        gain = np.where(unit <= share[:, None] + left, curves, -np.inf) - curves[task, share][:, None]
        i, b = np.unravel_index(int(np.argmax(gain)), gain.shape)
        if gain[i, b] <= 0.0:
            return
        share[i] = b


def _exact(curves: Floats, best: Floats, share: Ints, total: int, bound: float) -> Ints:
    """The optimum, given any feasible `share`: choices that cost more than its distance to `bound` are excluded.

    A split that makes choice b for task i is worth at most bound - (max(best[i]) - best[i, b]).
    """
    gap = bound - float(curves[np.arange(len(curves)), share].sum()) + SLACK * max(1.0, abs(bound))
    candidates = best >= best.max(axis=1, keepdims=True) - gap
    # A larger share without more success is never needed.
    candidates[:, 1:] &= curves[:, 1:] > np.maximum.accumulate(curves, axis=1)[:, :-1]
    share = np.argmax(candidates, axis=1)
    undecided = np.flatnonzero(candidates.sum(axis=1) > 1)
    choices = []
    for i in undecided:
        options = np.flatnonzero(candidates[i])
        choices.append((options - options[0], curves[i, options]))
    share[undecided] += _knapsack(choices, total - int(share.sum()))
    return share


Choices = tuple[Ints, Floats]  # units above the least choice, ascending, and the value of each


def _knapsack(choices: Sequence[Choices], room: int) -> Ints:
    """Multiple-choice knapsack by dynamic programming, exactly; units for each task.

    Rows of values are stored for every sqrt(tasks)-th task and recomputed between them on the way back.
    """
    step = int(np.ceil(np.sqrt(len(choices)))) or 1
    blocks = [choices[first : first + step] for first in range(0, len(choices), step)]
    starts = [np.zeros(1)]
    for block in blocks:
        starts.append(_rows(starts[-1], block, room)[-1])
    left = int(np.argmax(starts[-1]))  # the first: least spent
    taken: list[int] = []
    for begin, block in zip(starts[-2::-1], blocks[::-1], strict=True):
        rows = _rows(begin, block, room)
        for (units, values), before, after in zip(block[::-1], rows[-2::-1], rows[:0:-1], strict=True):
            rest = left - units
            possible = np.flatnonzero((rest >= 0) & (rest < len(before)))
            hit = before[rest[possible]] + values[possible] == after[left]
            spent = int(units[possible[np.argmax(hit)]])
            taken.append(spent)
            left -= spent
    return np.array(taken[::-1], np.int64)


def _rows(row: Floats, block: Sequence[Choices], room: int) -> list[Floats]:
    """Best value by number of spent units, before the first and after each task of a block."""
    rows = [row]
    for units, values in block:
        row = rows[-1]
        after = np.full(min(len(row) + int(units[-1]), room + 1), -np.inf)
        for b, v in zip(units.tolist(), values, strict=True):
            part = after[b : b + len(row)]
            np.maximum(part, row[: len(part)] + v, out=part)
        rows.append(after)
    return rows
