"""The decision rule: thresholds on P(request) with which a helper spends what the plan would."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from selfreg.data import NOHELP
from selfreg.helper.labels import Labels
from selfreg.helper.models import lattice
from selfreg.helper.runtime import Helper
from selfreg.mdp import InterventionMDP
from selfreg.policy import expected_usage

Floats = NDArray[np.float64]

TEXTS_A_STATE = 3


class Spending(NamedTuple):
    """Expected help spent from the first states of some tasks, in the estimated model.

    Attributes
    ----------
    budgets : ndarray of int64, shape (n_points, m)
    helper, plan : ndarray of float64, shape (n_points, m)
        Units of each budget, by the helper and by the plan.
    """

    budgets: NDArray[np.int64]
    helper: Floats
    plan: Floats


def calibrate(helper: Helper, labels: Labels, budget: int | Sequence[int] | None = None) -> Helper:
    """The same helper with thresholds, one for each budget, at which it spends as much as the plan.

    What the helper spends is computed exactly, in the model behind the labels, from the first states of the helper's
    validation tasks. Budgets are taken in rising order, and each threshold is found by halving, with those of smaller
    budgets in place; of those tried the one that comes nearest is taken. Where there are several budgets, spending is
    the sum of the shares of each that are spent. Where help was never tried in the logs the plan does not ask; the
    helper may, and pays, and the model takes its help to change nothing there.

    Parameters
    ----------
    helper : Helper
    labels : Labels
        Of logs that hold the helper's validation tasks, at budgets up to its limits at least.
    budget : int or sequence of int, optional
        Largest budget to calibrate for; larger ones use its threshold. By default the helper's limits.

    Returns
    -------
    Helper
        `figures` gains `spent` and `spent_plan`, at `budget` on validation tasks, in units of all budgets.

    Raises
    ------
    ValueError
        The labels hold no validation task of the helper, or are of other actions, costs or budgets.

    Examples
    --------
    Help saves red states and spoils green ones, and half of the states are red. A helper that always asks spends too
    much.

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
    states = _States.of(helper, labels, "validation")
    points, thresholds = lattice(helper.limits), np.full(len(lattice(helper.limits)), 0.5)
    plan = states.usage(labels.solution.policy.reshape(labels.model.mdp.n_states, -1))
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
    """What helper and plan spend in the estimated model from the first states of a part of the helper's split.

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
    states = _States.of(helper, labels, part)
    points = lattice(helper.limits)
    at = [states.point(point) for point in points]
    thresholds = None if helper.thresholds is None else np.array(helper.thresholds)
    plan = states.usage(labels.solution.policy.reshape(labels.model.mdp.n_states, -1))
    return Spending(points, states.usage(states.policy(thresholds))[at], plan[at])


class _States(NamedTuple):
    """The states that can be reached from a part of the tasks, with what the helper thinks there."""

    labels: Labels
    mdp: InterventionMDP
    start: Floats
    reached: NDArray[np.int64]
    probability: Floats  # (reached, points of the helper, actions)
    inside: NDArray[np.int64]  # point of the helper for each point of the labels

    @classmethod
    def of(cls, helper: Helper, labels: Labels, part: str) -> _States:
        _check(helper, labels)
        tasks = np.isin(labels.tasks, helper.split.get(part, []))
        first = tasks & (labels.step == 0)
        alone = first & np.array([not labels.trajectories[int(e)].helped for e in labels.episode])
        first = alone if alone.any() else first
        if not first.any():
            raise ValueError(f"the labels hold no {part} task of the helper")
        n = labels.model.mdp.n_states
        start = np.bincount(labels.state[first], minlength=n) / first.sum()
        reached = _reached(labels.model.mdp.transitions, np.flatnonzero(start))
        texts, states = _texts(labels, helper.history, np.argsort(~tasks, kind="stable"), reached)
        points = lattice(helper.limits)
        every = helper.request_probabilities(np.repeat(texts, len(points)).tolist(), np.tile(points, (len(texts), 1)))
        total = np.zeros((n, len(points), len(helper.actions)))
        np.add.at(total, states, every.reshape(len(texts), len(points), -1))
        count = np.bincount(states, minlength=n)
        live = reached[count[reached] > 0]
        inside = np.ravel_multi_index(
            tuple(np.minimum(labels.budgets, helper.limits).T), tuple(top + 1 for top in helper.limits)
        )
        return cls(
            labels,
            _with_all_help(labels.model.mdp),
            start,
            live,
            total[live] / count[live, None, None],
            np.asarray(inside),
        )

    def candidates(self, point: int) -> Floats:
        """Thresholds that tell any two states apart, float64 (at most states + 1,), rising."""
        request = np.unique(self.probability[:, point, 1:].sum(axis=1))
        return np.concatenate([[0.0], (request[1:] + request[:-1]) / 2, [1.0]])

    def policy(self, thresholds: Floats | None) -> NDArray[np.int8]:
        """Actions, int8 (n_states, points of the labels): nohelp where nothing is known."""
        policy = np.zeros((self.labels.model.mdp.n_states, len(self.labels.budgets)), dtype=np.int8)
        help_types = self.probability[..., 1:]
        if thresholds is None:
            chosen = self.probability.argmax(axis=2)
        else:
            asks = (help_types.sum(axis=2) > thresholds) & (help_types > 0).any(axis=2)
            chosen = np.where(asks, help_types.argmax(axis=2) + 1, 0)
        policy[self.reached] = chosen[:, self.inside]
        return policy

    def usage(self, policy: NDArray[np.int8]) -> Floats:
        """Expected usage from the start, (points of the labels, budgets)."""
        solution = self.labels.solution
        played = replace(solution, mdp=self.mdp, policy=policy.reshape(solution.policy.shape))
        used = expected_usage(played)
        return np.asarray(self.start @ used.reshape(len(self.start), -1)).reshape(len(self.labels.budgets), -1)

    def point(self, budget: NDArray[np.int64]) -> int:
        """Place of a budget in the lattice of the labels."""
        return int(np.flatnonzero((self.labels.budgets == budget).all(axis=1))[0])


def _with_all_help(mdp: InterventionMDP) -> InterventionMDP:
    """The model with help everywhere: where it was never tried it costs, and changes nothing.

    A helper asks in such states too, and what it pays there counts.
    """
    alone = mdp.transitions[NOHELP]
    rows = {NOHELP: alone}
    for name, matrix in mdp.transitions.items():
        if name != NOHELP:
            untried = sp.diags_array((np.diff(matrix.indptr) == 0).astype(np.float64))
            rows[name] = sp.csr_array(matrix + untried @ alone)
    return InterventionMDP(rows, mdp.terminal_value, mdp.costs)


def _check(helper: Helper, labels: Labels) -> None:
    costs = dict(labels.model.mdp.costs)
    if labels.actions != helper.actions or costs != helper.costs:
        raise ValueError(f"the labels have costs {costs}; the helper has {helper.costs}")
    largest = tuple(labels.budgets.max(axis=0).tolist())
    if any(have < need for have, need in zip(largest, helper.limits, strict=True)):
        raise ValueError(f"the labels have budgets up to {largest}; the helper needs {helper.limits}")


def _reached(transitions: Mapping[str, sp.csr_array], start: NDArray[np.intp]) -> NDArray[np.int64]:
    """States that can be reached from `start`, itself included."""
    matrices = list(transitions.values())
    seen = np.zeros(matrices[0].shape[0], dtype=bool)
    edge = start
    while len(edge):
        seen[edge] = True
        following = np.unique(np.concatenate([matrix[edge].indices for matrix in matrices]))
        edge = following[~seen[following]]
    return np.flatnonzero(seen)


def _texts(
    labels: Labels, history: int, order: NDArray[np.intp], states: NDArray[np.int64]
) -> tuple[list[str], NDArray[np.int64]]:
    """A few texts of each of some states, the first in `order`, and the states that they belong to."""
    wanted, every = set(states.tolist()), labels.texts(history)
    found: dict[int, list[str]] = {}
    for i in order:
        state = int(labels.state[i])
        known = found.setdefault(state, [])
        if state in wanted and len(known) < TEXTS_A_STATE and every[i] not in known:
            known.append(every[i])
    pairs = [(text, state) for state, texts in found.items() for text in texts]
    return [text for text, _ in pairs], np.array([state for _, state in pairs], dtype=np.int64)


def _share(spent: Floats, limits: Sequence[int]) -> float:
    return float(sum(unit / most for unit, most in zip(spent, limits, strict=True) if most))
