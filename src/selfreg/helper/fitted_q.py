"""Fitted Q iteration: labels from values that are regressed over the logged steps of all tasks.

The plan of a task knows what its log shows, and with few episodes most of its actions were tried once or never. Here
the value of an action is a regression on what the text says, over the steps of all tasks: extremely randomised trees in
fitted Q iteration (Ernst, Geurts & Wehenkel 2005), one forest for each action, all budgets at once. An episode is
followed as long as it did what the policy would do, from where it departs the regression goes on: tree backup (Precup,
Sutton & Singh 2000). Without it, what waiting costs is lost between similar texts. In the iteration the regression
values a step by trees that were grown on other tasks, so that what only its task knows does not count; the labels at
the end are of all trees.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from selfreg._util.extras import require_extra
from selfreg._util.text_features import LEVELS, LONGEST_TEXT
from selfreg.helper.config import HelperConfig
from selfreg.helper.helper import Helper
from selfreg.helper.labels import Labels, best_actions, points_after
from selfreg.helper.models.transformer import deduplicate
from selfreg.helper.models.trees import FittedQDecider, informative_groups, read_all

Floats = NDArray[np.float64]
Numbers = NDArray[np.int64]
Numbers8 = NDArray[np.int8]

# Steps and characters of their texts that take part at most: of larger logs, a random sample of episodes.
MOST_STEPS, MOST_CHARACTERS = 30_000, 30_000_000
# Trees of an action; each is grown on this share of the tasks, and on so many of their steps at most.
TREES, TREE_TASKS, TREE_STEPS = 40, 0.63, 4_000
# Each split is the best of this share of the groups, which are in this share of the tasks at least.
GROUP_SHARE, TASK_SHARE, LEAF = 0.2, 0.2, 10
# The trees are grown anew in each phase, by the values of the one before; their leaves learn anew in each sweep.
PHASES, SWEEPS, SETTLED = 3, 6, 1e-3


class PooledSteps(NamedTuple):
    """Logged steps of several tasks, with the groups of words in their texts.

    Attributes
    ----------
    labels : Labels
        n steps.
    place : int64 (n,)
        Text and number of each step.
    present : csr (places, all groups)
        Ones at the groups of each distinct text, as `FittedQDecider` reads them.
    number : int64 (places,)
        Number of the step in its episode.
    """

    labels: Labels
    place: Numbers
    present: sp.csr_array
    number: Numbers

    @classmethod
    def of(cls, labels: Labels, history: int, seed: int) -> PooledSteps:
        """The labelled steps; of more than `MOST_STEPS`, or longer ones, those of a random sample of episodes.

        Raises
        ------
        ValueError
            All episodes have one decision.
        """
        if not labels.step.any():
            raise ValueError("all episodes have one decision; the form 'gain' learns from their outcomes")
        lengths = np.bincount(labels.episode, minlength=len(labels.trajectories))
        order, taken = np.random.default_rng(seed).permutation(len(lengths)), np.zeros(len(lengths), bool)
        texts = np.array([sum(min(len(one.state), LONGEST_TEXT) for one in t.steps) for t in labels.trajectories])
        size = np.maximum(lengths / MOST_STEPS, texts / MOST_CHARACTERS)[order]
        taken[order] = (np.cumsum(size) <= 1.0) | (np.arange(len(order)) == 0)
        some = labels.select_rows(np.flatnonzero(taken[labels.episode]))
        pairs, place = deduplicate(list(zip(some.texts(history), some.step.tolist(), strict=True)))
        different, where = deduplicate([text for text, _ in pairs])
        present = read_all(different, FittedQDecider.readers)[where]
        return cls(some, place, present, np.array([number for _, number in pairs], dtype=np.int64))

    def of_tasks(self, tasks: Sequence[str]) -> PooledSteps:
        """The steps of some tasks."""
        rows = np.flatnonzero(self.labels.are_of(tasks))
        used, place = np.unique(self.place[rows], return_inverse=True)
        return PooledSteps(self.labels.select_rows(rows), place, self.present[used], self.number[used])

    def read(self, groups: Numbers) -> NDArray[np.bool_]:
        """What the regression reads, bool (places, size): these groups, and the levels that the step number reaches.

        What a policy is worth depends on the time, also where texts do not show it.
        """
        return np.hstack([self.present[:, groups].toarray() > 0, self.number[:, None] >= np.array(LEVELS)])

    @property
    def informative(self) -> Numbers:
        """Numbers of the groups that separate success from failure in many tasks, sorted.

        Raises
        ------
        ValueError
            No episode has an outcome.
        """
        outcome, count = _outcomes(self.labels), self.present.shape[0]
        if np.isnan(outcome).all():
            raise ValueError("no episode has an outcome")
        votes, tasks = np.zeros((count, 2)), [dict[str, None]() for _ in range(count)]
        for side, weight in enumerate((1.0 - outcome, outcome)):
            np.add.at(votes[:, side], self.place, np.nan_to_num(weight))
        for i, task in zip(self.place.tolist(), self.labels.tasks, strict=True):
            tasks[i][task] = None
        return informative_groups(self.present, [list(one) for one in tasks], votes, TASK_SHARE)


def train_fitted_q(
    pooled: PooledSteps,
    split: Mapping[str, Sequence[str]],
    charges: Mapping[str, tuple[int, ...]],
    config: HelperConfig,
) -> tuple[Helper, Labels]:
    """A helper of the form "fitted-q", and the labels of its training and validation tasks, in success.

    Boosted trees learn the decisions of the regression, weighted by their advantage.

    Raises
    ------
    ValueError
        No episode has an outcome, one of going on alone and help was never logged, or no decision matters.
    """
    parts = {name: list(tasks) for name, tasks in split.items()}
    pooled = pooled.of_tasks([*parts["train"], *parts["validation"]])
    labels, place, size = pooled.labels, pooled.place, pooled.present.shape[0]
    limits = tuple(int(top) for top in labels.budgets.max(axis=0))
    model = FittedQDecider.build(labels.actions, limits, [], config)
    model.read_groups(pooled.informative, config.seed)
    read, prices = pooled.read(model.groups), labels.prices(config.price)
    fitted, present = FittedQ.fit(labels, read, place, prices, config.seed), read[:, : len(model.groups)]
    priced, success = fitted.label(labels, prices), fitted.label(labels, np.zeros_like(prices))
    weight, points = np.nan_to_num(np.abs(priced.advantage)), np.arange(len(labels.budgets))
    votes = {name: np.zeros((size, len(points), len(labels.actions))) for name in ("train", "validation")}
    for name, mine in votes.items():
        rows = np.flatnonzero(labels.are_of(parts[name]))
        np.add.at(mine, (place[rows, None], points, priced.decision[rows]), weight[rows])
    learnt, checked = (np.flatnonzero(one.any(axis=(1, 2))) for one in votes.values())
    if not len(learnt):
        raise ValueError("no decision matters in the training tasks")
    loss = sum(
        model.fit_point(
            p, present[learnt], votes["train"][learnt, p], present[checked], votes["validation"][checked, p]
        )
        for p in points.tolist()
    )
    total = votes["validation"].sum()
    figures = {"epochs": 0.0, "validation_loss": loss / total if total else 0.0, "train_examples": float(len(learnt))}
    return Helper(model, labels.actions, dict(charges), limits, config.history, figures, parts), success


class FittedQ(NamedTuple):
    """Values of actions in logged steps, by regression.

    Attributes
    ----------
    steps : _Steps
    forests : dict
        Of each action that was logged.
    value : float64 (n, points)
        Success less price of the best policy.
    policy : int8 (n, points)
        Its actions.
    """

    steps: _Steps
    forests: dict[int, _Forest]
    value: Floats
    policy: Numbers8

    @classmethod
    def fit(cls, labels: Labels, present: NDArray[np.bool_], place: Numbers, prices: Floats, seed: int) -> FittedQ:
        """Fit to all steps of some labels; `present` is what is read at each place, bool (places, size).

        Raises
        ------
        ValueError
            One of going on alone and help was never logged.
        """
        steps, rng = _Steps.of(labels), np.random.default_rng(seed)
        logged = steps.logged
        if 0 not in logged or len(logged) == 1:
            raise ValueError("the logs must have steps with and without help, and what followed")
        known = np.where(np.isnan(steps.outcome), np.nanmean(steps.outcome), steps.outcome)
        value, forests = np.repeat(known[:, None], len(labels.budgets), axis=1), dict[int, _Forest]()
        fitted = cls(steps, forests, value, np.zeros(value.shape, np.int8))
        for _ in range(PHASES):
            for a, rows in logged.items():
                target = steps.target(fitted.value, a, prices)
                forests[a] = _Forest.grow(present, place, rows, target, steps.task, rng)
            fitted = fitted._replace(value=fitted.evaluate(prices, None))
        return fitted._replace(policy=best_actions(fitted.q(fitted.value, prices)))

    def evaluate(self, prices: Floats, policy: Numbers8 | None) -> Floats:
        """Success less price, (n, points), of a policy; without one, of the best."""
        value = self.value
        for _ in range(SWEEPS):
            q = self.q(value, prices)
            value, before = self.steps.follow(q, best_actions(q) if policy is None else policy, prices), value
            if np.abs(value - before).max() < SETTLED:
                break
        return value

    def q(self, value: Floats, prices: Floats, held_out: bool = True) -> Floats:
        """Q, (n, points, actions), if next steps are worth `value`: NaN where not affordable, or never logged."""
        q = np.full((*value.shape, len(prices)), np.nan)
        for a, forest in self.forests.items():
            q[:, self.steps.left[a] >= 0, a] = forest.predict(self.steps.target(value, a, prices), held_out)
        return q

    def label(self, labels: Labels, prices: Floats) -> Labels:
        """These labels with the regression's `q` at some prices where the best policy follows, and `visits` of 1."""
        q = self.q(self.evaluate(prices, self.policy), prices, held_out=False)
        return replace(labels, q=q, decision=best_actions(q), visits=np.ones_like(labels.visits))


def _outcomes(labels: Labels) -> Floats:
    """Of the episode of each step, NaN where it has none."""
    return np.array([np.nan if one.outcome is None else one.outcome for one in labels.trajectories])[labels.episode]


class _Steps(NamedTuple):
    """The logged steps as transitions.

    Attributes
    ----------
    action : int64 (n,)
        Index of the logged action; -1 where it is not one of the labels'.
    following : int64 (n,)
        Row of the next step of the episode; -1 at its end, or where the next step has no label.
    outcome : float64 (n,)
        Of the episode; NaN where it has none.
    known : bool (n,)
        Whether it is known what followed.
    task : int64 (n,)
        Number of the task.
    left : int64 (actions, points)
        Point of the budget after an action; -1 where it is not affordable.
    """

    action: Numbers
    following: Numbers
    outcome: Floats
    known: NDArray[np.bool_]
    task: Numbers
    left: Numbers

    @classmethod
    def of(cls, labels: Labels) -> _Steps:
        episode, step = labels.episode, labels.step
        follows = np.zeros(len(episode), bool)
        follows[:-1] = (episode[1:] == episode[:-1]) & (step[1:] == step[:-1] + 1)
        following = np.where(follows, np.arange(1, len(episode) + 1), -1)
        lengths = np.array([len(one.steps) for one in labels.trajectories])[episode]
        outcome = _outcomes(labels)
        known = follows | ((step + 1 == lengths) & ~np.isnan(outcome))
        left = points_after(labels.budgets, labels.model.mdp.cost_table)
        task = np.unique(labels.tasks, return_inverse=True)[1]
        return cls(labels.logged_action, following, outcome, known, task, left)

    @property
    def logged(self) -> dict[int, Numbers]:
        """Of each action that was logged, the rows from which it is learnt."""
        rows = {a: np.flatnonzero(self.known & (self.action == a)) for a in range(len(self.left))}
        return {a: one for a, one in rows.items() if len(one)}

    def after(self, value: Floats, rows: Numbers | slice = slice(None)) -> Floats:
        """What is worth the next step of the episode, or its outcome, (rows, points)."""
        following = self.following[rows]
        return np.where((following >= 0)[:, None], value[following], self.outcome[rows][:, None])

    def target(self, value: Floats, action: int, prices: Floats) -> Floats:
        """What an action led to, if it is the logged one, less its price, (n, points where it is affordable)."""
        left = self.left[action]
        return np.asarray(self.after(value)[:, left[left >= 0]] - prices[action])

    def follow(self, q: Floats, policy: Numbers8, prices: Floats) -> Floats:
        """Values (n, points) of a policy: what the episode led to while it did the same, else by q."""
        chosen = policy.astype(np.int64)
        value = np.take_along_axis(q, chosen[..., None], axis=2)[..., 0]
        value = np.where(np.isnan(value), q[..., 0] - prices[chosen], value)  # never logged: it changes nothing
        same = (chosen == self.action[:, None]) & self.known[:, None]
        left = self.left[chosen, np.arange(chosen.shape[1])]
        for rows in self._from_the_end():
            led = np.take_along_axis(self.after(value, rows), left[rows], axis=1) - prices[chosen[rows]]
            value[rows] = np.where(same[rows], led, value[rows])
        return value

    def _from_the_end(self) -> list[Numbers]:
        """All rows, in parts: the next step of a row is in an earlier part."""
        ends, every = np.flatnonzero(self.following < 0), np.arange(len(self.following))
        distance = ends[np.searchsorted(ends, every)] - every
        return np.split(np.argsort(distance, kind="stable"), np.cumsum(np.bincount(distance))[:-1])


class _Forest(NamedTuple):
    """Trees whose leaves can learn other values than those that they were grown by.

    Attributes
    ----------
    learn : csr (leaves, n)
        Each leaf is the mean of its rows.
    held_out, every : csr (n, leaves)
        Mean of the trees that were grown on other tasks than the row's, and of all trees.
    """

    learn: sp.csr_array
    held_out: sp.csr_array
    every: sp.csr_array

    @classmethod
    def grow(
        cls,
        present: NDArray[np.bool_],
        place: Numbers,
        rows: Numbers,
        target: Floats,
        task: Numbers,
        rng: np.random.Generator,
    ) -> _Forest:
        """Trees that learn `target` (n, points) from what is read at each place, in some rows."""
        with require_extra("ml", "fitted Q iteration"):
            from sklearn.tree import ExtraTreeRegressor
        count, drawn = int(task.max()) + 1, list[tuple[NDArray[np.bool_], Numbers, Numbers, int]]()
        for _ in range(TREES):
            chosen = np.zeros(count, bool)
            chosen[rng.permutation(count)[: max(1, round(TREE_TASKS * count))]] = True
            mine = rows[chosen[task[rows]]]
            mine = mine if len(mine) else rows
            drawn.append((chosen, mine, rng.permutation(mine)[:TREE_STEPS], int(rng.integers(2**31))))

        def read(some: Numbers, seed: int) -> tuple[Numbers, int]:
            tree = ExtraTreeRegressor(min_samples_leaf=LEAF, max_features=GROUP_SHARE, random_state=seed)
            tree.fit(values[place[some]], target[some], check_input=False)
            return tree.apply(values, check_input=False), tree.tree_.node_count

        leaves, values = 0, present.astype(np.float32)  # as scikit-learn reads it
        learn, held_out, every = (list[tuple[Numbers, Numbers]]() for _ in range(3))
        with ThreadPoolExecutor(os.cpu_count()) as pool:  # scikit-learn grows a tree without the interpreter's lock
            grown = pool.map(read, *zip(*((some, seed) for _, _, some, seed in drawn), strict=True))
            for (chosen, mine, _, _), (at, size) in zip(drawn, grown, strict=True):
                leaf = leaves + at[place]
                leaves += size
                other = np.flatnonzero(~chosen[task])
                for pairs, known in ((learn, mine), (held_out, other), (every, np.arange(len(place)))):
                    pairs.append((known, leaf[known]))
        shape = len(place), leaves
        spread = [_matrix(pairs, shape) for pairs in (held_out, every)]
        lone = sp.diags_array((np.diff(spread[0].indptr) == 0) * 1.0)
        spread[0] = sp.csr_array(spread[0] + lone @ spread[1])
        return cls(_means(sp.csr_array(_matrix(learn, shape).T)), *map(_means, spread))

    def predict(self, target: Floats, held_out: bool) -> Floats:
        """Predictions (n, points) where the leaves learn `target`."""
        return np.asarray((self.held_out if held_out else self.every) @ (self.learn @ target))


def _matrix(pairs: Sequence[tuple[Numbers, Numbers]], shape: tuple[int, int]) -> sp.csr_array:
    """Ones at pairs of row and leaf."""
    row, leaf = (np.concatenate(part) for part in zip(*pairs, strict=True))
    return sp.csr_array((np.ones(len(row)), (row, leaf)), shape=shape)


def _means(matrix: sp.csr_array) -> sp.csr_array:
    """With rows that sum to 1, or to 0 where they are empty."""
    return sp.csr_array(sp.diags_array(1.0 / np.maximum(matrix.sum(axis=1), 1.0)) @ matrix)
