"""The helper as a policy in the filled model of its labels: its success and usage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from selfreg.helper.helper import Helper
from selfreg.helper.labels import Labels
from selfreg.helper.models.transformer import lattice
from selfreg.mdp import InterventionMDP
from selfreg.planning.evaluation import evaluate_policy
from selfreg.planning.solution import Solution
from selfreg.planning.usage import expected_charges

Floats = NDArray[np.float64]

TEXTS_A_STATE = 3


class ModelRollout(NamedTuple):
    """The filled model's states that parts of the tasks reach, and terminal ones, with the helper's P(action) there.

    Attributes
    ----------
    budgets : int64 (points, budgets)
        Those of the labels.
    plan : Solution
        Of the labels, in these states of the filled model; its values are those of the estimated model.
    start : float64 (states,)
        Share of the episodes that begin there.
    shown : int64 (k,)
        States that have a text.
    probability : float64 (k, points of the helper, actions)
    inside : int64 (points,)
        Point of the helper for each point of the labels.
    """

    budgets: NDArray[np.int64]
    plan: Solution
    start: Floats
    shown: NDArray[np.int64]
    probability: Floats
    inside: NDArray[np.int64]

    @classmethod
    def create(cls, helper: Helper, labels: Labels, *parts: str) -> ModelRollout:
        """Evaluate the helper in the states reachable from the first states of some parts of its split.

        Raises
        ------
        ValueError
            The labels have no task of these parts, or other actions, costs or budgets.
        """
        check_labels(helper, labels)
        wanted = [task for part in parts for task in helper.split.get(part, [])]
        start = first_states(labels, wanted)
        if start is None:
            raise ValueError(f"the labels have no {' or '.join(parts)} task of the helper")
        mdp = labels.filled
        reached = np.union1d(_find_reachable(mdp.transitions, np.flatnonzero(start)), np.flatnonzero(mdp.terminal))
        tasks = labels.are_of(wanted)
        texts, states = _texts(labels, helper, np.argsort(~tasks, kind="stable"), reached)
        states = np.searchsorted(reached, states)
        points = lattice(helper.limits)
        every = helper.request_probabilities(np.repeat(texts, len(points)).tolist(), np.tile(points, (len(texts), 1)))
        total = np.zeros((len(reached), len(points), len(helper.actions)))
        np.add.at(total, states, every.reshape(len(texts), len(points), -1))
        count = np.bincount(states, minlength=len(reached))
        shown = np.flatnonzero(count)
        inside = np.ravel_multi_index(
            tuple(np.minimum(labels.budgets, helper.limits).T), tuple(top + 1 for top in helper.limits)
        )
        probability = total[shown] / count[shown, None, None]
        plan = _restrict(replace(labels.solution, mdp=mdp), reached)
        return cls(labels.budgets, plan, start[reached], shown, probability, np.asarray(inside))

    def candidates(self, point: int) -> Floats:
        """Thresholds that separate the states, float64 (at most states + 1,), increasing."""
        request = np.unique(self.probability[:, point, 1:].sum(axis=1))
        return np.concatenate([[0.0], (request[1:] + request[:-1]) / 2, [1.0]])

    def policy(self, thresholds: Floats | None) -> NDArray[np.int8]:
        """Actions, int8 (states, points of the labels): nohelp in states without text."""
        policy = np.zeros((len(self.start), len(self.budgets)), dtype=np.int8)
        help_types = self.probability[..., 1:]
        if thresholds is None:
            chosen = self.probability.argmax(axis=2)
        else:
            requests = (help_types.sum(axis=2) > thresholds) & (help_types > 0).any(axis=2)
            chosen = np.where(requests, help_types.argmax(axis=2) + 1, 0)
        policy[self.shown] = chosen[:, self.inside]
        return policy

    @property
    def planned(self) -> NDArray[np.int8]:
        """The plan's actions, int8 (states, points of the labels)."""
        return self.plan.policy.reshape(len(self.start), -1)

    def usage(self, policy: NDArray[np.int8], charges: Floats | None = None) -> Floats:
        """Expected usage from the start, (points of the labels, budgets); or `charges`, as of `expected_charges`."""
        played = replace(self.plan, policy=policy.reshape(self.plan.policy.shape))
        used = expected_charges(played, self.plan.mdp.cost_table if charges is None else charges)
        return np.asarray(self.start @ used.reshape(len(self.start), -1)).reshape(len(self.budgets), -1)

    def value(self, policy: NDArray[np.int8]) -> Floats:
        """P(success) from every state, (states, points of the labels)."""
        table = evaluate_policy(self.plan.mdp, policy.reshape(self.plan.policy.shape))
        return table.success.reshape(policy.shape)

    def point(self, budget: NDArray[np.int64]) -> int:
        """Index of a budget in the lattice of the labels."""
        return int(np.flatnonzero((self.budgets == budget).all(axis=1))[0])


def success_in_model(helper: Helper, labels: Labels, part: str = "test") -> dict[str, float]:
    """Success of helper and plan from the first states of a part of the tasks, mean over the budgets above 0."""
    states, paid = ModelRollout.create(helper, labels, part), labels.budgets.any(axis=1)
    helped = states.start @ states.value(states.policy(None))
    planned = states.start @ states.value(states.planned)
    if not paid.any():
        return {}
    return {"success": float(helped[paid].mean()), "success_plan": float(planned[paid].mean())}


class InModel(NamedTuple):
    """What a helper is forecast to do in some tasks, by the filled model.

    Attributes
    ----------
    success, requests, paid : float64 (points,)
        P(success), units used of all budgets, and the price of the requests, at each budget of the labels.
    """

    success: Floats
    requests: Floats
    paid: Floats


def forecast_in_model(helper: Helper, labels: Labels, prices: Floats, *parts: str) -> InModel:
    """What a helper does from the first states of some parts of its split; `prices` are as of `Labels.prices`."""
    states = ModelRollout.create(helper, labels, *parts)
    policy = states.policy(None if helper.thresholds is None else np.array(helper.thresholds))
    success, paid = states.start @ states.value(policy), states.usage(policy, prices[:, None])[:, 0]
    return InModel(success, states.usage(policy).sum(axis=1), paid)


def first_states(labels: Labels, tasks: Sequence[str]) -> Floats | None:
    """Share of the episodes of some tasks that begin in each state, (n_states,); None where there are no episodes.

    Only episodes without help count where there are any, as for the start of the model.
    """
    first = labels.are_of(tasks) & (labels.step == 0)
    helped = np.array([trajectory.helped for trajectory in labels.trajectories], dtype=bool)
    alone = first & ~helped[labels.episode]
    first = alone if alone.any() else first
    if not first.any():
        return None
    return np.asarray(np.bincount(labels.state[first], minlength=labels.model.mdp.n_states) / first.sum())


def check_labels(helper: Helper, labels: Labels) -> None:
    """Raise ValueError where the labels have other actions, costs or budgets than the helper."""
    costs = dict(labels.model.mdp.costs)
    if labels.actions != helper.actions or costs != helper.costs:
        raise ValueError(f"the labels have costs {costs}; the helper has {helper.costs}")
    largest = tuple(labels.budgets.max(axis=0).tolist())
    if any(have < need for have, need in zip(largest, helper.limits, strict=True)):
        raise ValueError(f"the labels have budgets up to {largest}; the helper needs {helper.limits}")


def _restrict(solution: Solution, states: NDArray[np.int64]) -> Solution:
    """A solution and its model in these states, which no action leaves."""
    mdp = solution.mdp
    rows = {name: sp.csr_array(matrix[states][:, states]) for name, matrix in mdp.transitions.items()}
    inside = InterventionMDP(rows, mdp.terminal_value[states], mdp.costs)
    return replace(solution, mdp=inside, value=solution.value[states], policy=solution.policy[states])


def _find_reachable(transitions: Mapping[str, sp.csr_array], start: NDArray[np.intp]) -> NDArray[np.int64]:
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
    labels: Labels, helper: Helper, order: NDArray[np.intp], states: NDArray[np.int64]
) -> tuple[list[str], NDArray[np.int64]]:
    """Up to TEXTS_A_STATE texts of each state, in `order`, and the states that they belong to."""
    found: dict[int, list[str]] = {}
    wanted, read = set(states.tolist()), helper.classifier.read
    places = (one[order].tolist() for one in (labels.state, labels.episode, labels.step))
    for state, episode, step in zip(*places, strict=True):
        known = found.setdefault(state, [])
        if state in wanted and len(known) < TEXTS_A_STATE:
            text = read(labels.trajectories[episode].steps[: step + 1], helper.history)
            if text not in known:
                known.append(text)
    pairs = [(text, state) for state, texts in found.items() for text in texts]
    return [text for text, _ in pairs], np.array([state for _, state in pairs], dtype=np.int64)
