"""Thresholds on P(request) at which a helper spends as much as the plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from selfreg.helper.helper import Helper
from selfreg.helper.labels import Labels
from selfreg.helper.model_rollout import ModelRollout
from selfreg.helper.models.transformer import lattice

Floats = NDArray[np.float64]


class Spending(NamedTuple):
    """Expected usage from the first states of some tasks, in the filled model.

    Attributes
    ----------
    budgets : ndarray of int64, shape (n_points, m)
    helper, plan : ndarray of float64, shape (n_points, m)
        Usage of each budget, by the helper and by the plan.
    """

    budgets: NDArray[np.int64]
    helper: Floats
    plan: Floats


def calibrate(helper: Helper, labels: Labels, budget: int | Sequence[int] | None = None) -> Helper:
    """The same helper with thresholds, one for each budget, at which it spends as much as the plan.

    Usage is computed exactly in the filled model (`Labels.filled`), from the first states of the helper's validation
    tasks. Budgets are calibrated in increasing order, each by bisection, with the thresholds of smaller budgets fixed;
    the nearest of the thresholds tried is used. With several budgets, usage is the sum of the shares spent.

    Parameters
    ----------
    helper : Helper
    labels : Labels
        Of logs with the helper's validation tasks, for budgets up to its limits or larger.
    budget : int or sequence of int, optional
        Largest budget to calibrate for; larger ones use its threshold. By default the helper's limits.

    Returns
    -------
    Helper
        `figures` gains `spent` and `spent_plan`, at `budget` on validation tasks, in units of all budgets.

    Raises
    ------
    ValueError
        The labels have no validation task of the helper, or other actions, costs or budgets.

    Examples
    --------
    Help is right in red states and wrong in green ones; half of the states are red. A helper that always requests help
    spends too much.

    >>> from dataclasses import replace
    >>> import selfreg
    >>> from selfreg.data import Step, Trajectory
    >>> from selfreg.estimate import Features, estimate_mdp
    >>> from selfreg.helper import HelperConfig, calibrate, label, spending, train_helper
    >>> rows = [("red", None, 0.0), ("red", "help", 1.0), ("green", None, 1.0), ("green", "help", 0.0)]
    >>> logs = [
    ...     Trajectory(f"task {i}", f"{i}/{k}", won, (Step(f"{light} light", intervention=who),))
    ...     for i in range(12)
    ...     for k, (light, who, won) in enumerate(rows)
    ... ]
    >>> model = estimate_mdp(logs, Features(["class"], {"red": "red", "green": "green"}))
    >>> labels = label(logs, model, selfreg.solve(model.mdp, 1))
    >>> helper = train_helper(labels, HelperConfig(form="tfidf"))
    >>> eager = replace(helper, thresholds=(0.0, 0.0))
    >>> calibrated = calibrate(eager, labels)
    >>> [spending(one, labels).helper[1, 0].item() for one in (eager, calibrated)]
    [1.0, 0.5]
    """
    top = helper.limits if budget is None else tuple(np.atleast_1d(budget).tolist())
    if len(top) != len(helper.limits) or any(
        not 0 <= one <= most for one, most in zip(top, helper.limits, strict=True)
    ):
        raise ValueError(f"budget is {budget}; expected at most {helper.limits}")
    states = ModelRollout.create(helper, labels, "validation")
    points, thresholds = lattice(helper.limits), np.full(len(lattice(helper.limits)), 0.5)
    plan = states.usage(states.planned)
    for p in np.flatnonzero((points <= top).all(axis=1) & (points > 0).any(axis=1)):
        at = states.point(points[p])
        candidates, gaps = states.candidates(int(p)), dict[int, float]()
        low, high = 0, len(candidates)
        while low < high:
            middle = (low + high) // 2
            thresholds[p] = candidates[middle]
            spent = states.usage(states.policy(thresholds))[at]
            gaps[middle] = _share(spent, top) - _share(plan[at], top)
            low, high = (middle + 1, high) if gaps[middle] > 0 else (low, middle)
        thresholds[p] = candidates[min(gaps, key=lambda i: abs(gaps[i]))]
    inside = np.ravel_multi_index(tuple(np.minimum(points, top).T), tuple(most + 1 for most in helper.limits))
    found = replace(helper, thresholds=tuple(float(t) for t in thresholds[inside]))
    usage, at = states.usage(states.policy(thresholds)), states.point(np.array(top))
    figures = {"spent": float(usage[at].sum()), "spent_plan": float(plan[at].sum())}
    return replace(found, figures=helper.figures | figures)


def spending(helper: Helper, labels: Labels, part: str = "test") -> Spending:
    """Usage of helper and plan in the filled model, from the first states of a part of the helper's split.

    Parameters
    ----------
    helper : Helper
    labels : Labels
    part : {"test", "validation", "train"}

    Returns
    -------
    Spending

    Raises
    ------
    ValueError
        As for `calibrate`.

    Examples
    --------
    >>> import selfreg
    >>> from selfreg.data import Step, Trajectory
    >>> from selfreg.estimate import Features, estimate_mdp
    >>> from selfreg.helper import HelperConfig, label, spending, train_helper
    >>> rows = [("red", None, 0.0), ("red", "help", 1.0), ("green", None, 1.0), ("green", "help", 0.0)]
    >>> logs = [
    ...     Trajectory(f"task {i}", f"{i}/{k}", won, (Step(f"{light} light", intervention=who),))
    ...     for i in range(12)
    ...     for k, (light, who, won) in enumerate(rows)
    ... ]
    >>> model = estimate_mdp(logs, Features(["class"], {"red": "red", "green": "green"}))
    >>> labels = label(logs, model, selfreg.solve(model.mdp, 1))
    >>> helper = train_helper(labels, HelperConfig(form="tfidf"))
    >>> found = spending(helper, labels)
    >>> found.budgets.tolist(), found.helper.tolist(), found.plan.tolist()
    ([[0], [1]], [[0.0], [0.5]], [[0.0], [0.5]])
    """
    states = ModelRollout.create(helper, labels, part)
    points = lattice(helper.limits)
    at = [states.point(point) for point in points]
    thresholds = None if helper.thresholds is None else np.array(helper.thresholds)
    plan = states.usage(states.planned)
    return Spending(points, states.usage(states.policy(thresholds))[at], plan[at])


def _share(spent: Floats, limits: Sequence[int]) -> float:
    return float(sum(unit / most for unit, most in zip(spent, limits, strict=True) if most))
