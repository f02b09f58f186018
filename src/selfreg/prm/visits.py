"""Training data of a PRM: states of trajectories with the outcome, or with the label of the last action."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from selfreg.data import Step, Trajectory
from selfreg.prm.transformer import Examples

# Text of the state at the last of the steps.
StateTextOf: TypeAlias = Callable[[Sequence[Step]], str]
# Cap, so that a rare unhelped continuation does not outweigh all others.
MOST_WEIGHT = 20.0


@dataclass(frozen=True)
class Visits:
    """One entry for each state that counts.

    Attributes
    ----------
    texts : list of str, length n
    outcomes, weights : ndarray of float64, shape (n,)
    tasks : list of str, length n
    steps : ndarray of int64, shape (n,)
        Number of the step in its episode.
    """

    texts: list[str]
    outcomes: NDArray[np.float64]
    weights: NDArray[np.float64]
    tasks: list[str]
    steps: NDArray[np.int64]

    def select_tasks(self, tasks: Sequence[str]) -> Visits:
        """The visits of some tasks."""
        wanted = set(tasks)
        return self.select(np.array([task in wanted for task in self.tasks], dtype=np.bool_))

    def select(self, mask: NDArray[np.bool_]) -> Visits:
        """The visits where `mask` is true."""
        i = np.flatnonzero(mask)
        texts, tasks = [self.texts[k] for k in i], [self.tasks[k] for k in i]
        return Visits(texts, self.outcomes[i], self.weights[i], tasks, self.steps[i])

    def merge(self) -> Examples:
        """Distinct texts, with their mean outcome as target and their summed weight."""
        place = {text: i for i, text in enumerate(dict.fromkeys(self.texts))}
        index = [place[text] for text in self.texts]
        total = np.bincount(index, weights=self.weights).astype(np.float64)
        return Examples(list(place), (np.bincount(index, weights=self.weights * self.outcomes) / total)[:, None], total)


def join_visits(first: Visits, second: Visits, weight: float) -> Visits:
    """Both; the weights of the second are multiplied by `weight`."""
    return Visits(
        first.texts + second.texts,
        np.concatenate([first.outcomes, second.outcomes]),
        np.concatenate([first.weights, weight * second.weights]),
        first.tasks + second.tasks,
        np.concatenate([first.steps, second.steps]),
    )


def unhelped_visits(
    trajectories: Sequence[Trajectory], text: StateTextOf, helped_weight: float = 0.0, propensity: str | None = None
) -> Visits:
    """States with the outcome of their episode, where the agent continued without help.

    A step counts with weight 1 if it and all later steps are unhelped, else with `helped_weight`. Where help was drawn
    at random, a long continuation is unhelped less often than a short one; if long ones mostly fail, success is
    overestimated. With `propensity`, the episode field with the chance r of help at a step, a continuation of L
    unhelped steps weighs 1 / (1 - r)^L (at most 20): inverse propensity weighting.

    Raises
    ------
    ValueError
        No step counts, or `propensity` is not a field with a chance in [0, 1).
    """
    rows: list[tuple[str, float, float, str, int]] = []
    for trajectory in trajectories:
        if trajectory.outcome is None:
            continue
        helped = [i for i, step in enumerate(trajectory.steps) if step.intervention is not None]
        first, length = helped[-1] + 1 if helped else 0, len(trajectory.steps)
        rate = _rate(trajectory, propensity) if first < length else 0.0
        for last in range(0 if helped_weight else first, length):
            weight = min((1 - rate) ** (last - length), MOST_WEIGHT) if last >= first else helped_weight
            rows.append((text(trajectory.steps[: last + 1]), trajectory.outcome, weight, trajectory.task, last))
    if not rows:
        raise ValueError(
            f"none of {len(trajectories)} trajectories has a known outcome and steps after which no help came; "
            "a PRM learns from unhelped continuations"
        )
    return _visits(rows)


def labelled_visits(trajectories: Sequence[Trajectory], text: StateTextOf) -> Visits:
    """States with the label of the action that led to them.

    The state after the last action has an empty observation; it counts only where its text is not empty (history is
    shown).

    Raises
    ------
    ValueError
        No step has a label.
    """
    rows: list[tuple[str, float, float, str, int]] = []
    for trajectory in trajectories:
        following = [*trajectory.steps[1:], Step(state="")]
        for i, step in enumerate(trajectory.steps):
            if step.label is not None and (shown := text((*trajectory.steps[: i + 1], following[i]))):
                rows.append((shown, step.label, 1.0, trajectory.task, i + 1))
    if not rows:
        raise ValueError(f"no step of {len(trajectories)} trajectories has a label; map one (--map label=FIELD)")
    return _visits(rows)


def _visits(rows: Sequence[tuple[str, float, float, str, int]]) -> Visits:
    texts, outcomes, weights, tasks, steps = zip(*rows, strict=True)
    return Visits(list(texts), np.array(outcomes), np.array(weights), list(tasks), np.array(steps, dtype=np.int64))


def _rate(trajectory: Trajectory, propensity: str | None) -> float:
    if propensity is None:
        return 0.0
    rate = trajectory.fields.get(propensity)
    if not isinstance(rate, (int, float)) or isinstance(rate, bool) or not 0 <= rate < 1:
        raise ValueError(
            f"propensity field {propensity!r} of episode {trajectory.episode!r} is {rate!r}; expected a chance of help "
            "in [0, 1)"
        )
    return float(rate)
