"""Logs as arrays of steps and episodes, for evaluating policies from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from selfreg.data import NOHELP, Trajectory
from selfreg.estimate.abstraction import BRANCH

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Actions = npt.NDArray[np.int8]


@dataclass(frozen=True, eq=False)
class LoggedSteps:
    """Episodes with an outcome, and their steps one after the other.

    Attributes
    ----------
    episodes : tuple of Trajectory
        Those that begin at their first step and have an outcome.
    omitted : int
        The others.
    tasks, actions : tuple of str
        `actions` begins with "nohelp".
    costs : int64 (actions, kinds)
        Units of each budget that an action takes.
    task, length, first : int64 (episodes,)
        Task, number of steps, and index of the first step.
    outcome : float64 (episodes,)
    episode, time, action, earlier : int64 (steps,)
        Episode, number of the step, action by index, and number of helped steps before it.
    spent : int64 (steps, kinds)
        Units spent before the step.
    """

    episodes: tuple[Trajectory, ...]
    omitted: int
    tasks: tuple[str, ...]
    actions: tuple[str, ...]
    costs: Ints
    task: Ints
    length: Ints
    first: Ints
    outcome: Floats
    episode: Ints
    time: Ints
    action: Ints
    earlier: Ints
    spent: Ints

    @classmethod
    def of(cls, trajectories: Sequence[Trajectory], costs: Mapping[str, tuple[int, ...]]) -> LoggedSteps:
        """Arrays of `trajectories`; `costs` as of the model, one number for each kind of budget.

        Raises
        ------
        ValueError
            If no episode has an outcome.
        """
        episodes = tuple(t for t in trajectories if t.outcome is not None and BRANCH not in t.fields)
        if not episodes:
            raise ValueError("no episode has an outcome; a forecast needs some")
        tasks: dict[str, int] = {}
        task = np.array([tasks.setdefault(t.task, len(tasks)) for t in episodes])
        actions = (NOHELP, *costs)
        index = {name: a for a, name in enumerate(actions)}
        kinds = max((len(cost) for cost in costs.values()), default=1)
        table = np.array([(0,) * kinds, *costs.values()], dtype=np.int64)
        length = np.array([len(t.steps) for t in episodes])
        first = np.concatenate([[0], np.cumsum(length)[:-1]])
        action = np.array([index[step.intervention or NOHELP] for t in episodes for step in t.steps])
        episode = np.repeat(np.arange(len(episodes)), length)
        return cls(
            episodes, len(trajectories) - len(episodes), tuple(tasks), actions, table, task, length, first,
            np.array([float(t.outcome or 0.0) for t in episodes]), episode, np.arange(len(action)) - first[episode],
            action, _sum_before(action > 0, first, episode), _sum_before(table[action], first, episode),
        )  # fmt: skip

    @cached_property
    def earlier_by_kind(self) -> Ints:
        """Number of earlier steps of the episode that each help type helped, (steps, actions - 1)."""
        taken = self.action[:, None] == np.arange(1, len(self.actions))
        return _sum_before(taken, self.first, self.episode)

    @cached_property
    def helped(self) -> npt.NDArray[np.bool_]:
        """Whether any step of the episode was helped, (episodes,)."""
        return np.bincount(self.episode, self.action > 0, len(self.episodes)) > 0

    @cached_property
    def last(self) -> Ints:
        """Index of the last step of every episode."""
        return self.first + self.length - 1

    def left(self, budget: tuple[int, ...]) -> Ints:
        """Units left before each step of an episode that began with `budget`, int64 (steps, kinds); 0 if overspent."""
        return np.maximum(np.array(budget) - self.spent, 0)

    def affordable(self, wanted: Actions, left: Ints) -> Actions:
        """`wanted`, or 0 ("nohelp") where it costs more than is left."""
        return np.where((self.costs[wanted] <= left).all(axis=1), wanted, 0).astype(np.int8)

    def by_task(self, by_episode: Floats) -> Floats:
        """Sums over the episodes of each task, (tasks, ...)."""
        result = np.zeros((len(self.tasks), *by_episode.shape[1:]))
        np.add.at(result, self.task, by_episode)
        return result

    def sum_episodes(self, by_step: Floats) -> Floats:
        """Sums over the steps of each episode, (episodes, ...)."""
        return np.add.reduceat(by_step, self.first, axis=0)


def _sum_before(values: npt.NDArray[Any], first: Ints, episode: Ints) -> Ints:
    """Sum of `values` (steps, ...) over the earlier steps of the same episode."""
    total = np.cumsum(values, axis=0, dtype=np.int64)
    before = total - values
    result: Ints = before - before[first][episode]
    return result
