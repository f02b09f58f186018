"""Counting a stream of trajectories."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from itertools import chain, islice
from operator import attrgetter
from typing import Any

import numpy as np
import numpy.typing as npt

from selfreg.data import NOHELP, Scalar, Step, Trajectory
from selfreg.estimate._parts import Partial
from selfreg.estimate._tally import Numbers, PairNumbers, Sums, TextNumbers
from selfreg.estimate.abstraction import BRANCH, ExactKey, Key, StateAbstraction, episode_step

# Steps, and characters of their texts, that are kept as they are before they are summed up.
STEPS_HELD, CHARACTERS_HELD = 1 << 17, 1 << 25

_KEY, _INTERVENTION, _STEPS = attrgetter("key"), attrgetter("intervention"), attrgetter("steps")
_TASK, _OUTCOME, _FIELDS = attrgetter("task"), attrgetter("outcome"), attrgetter("fields")

# P(success) of a truncated episode, from its last state on.
TerminalScore = Callable[[Trajectory], float]


def success_of(trajectory: Trajectory, terminal_score: TerminalScore | None = None) -> float:
    """What an episode was worth; ValueError where nothing says so."""
    if trajectory.truncated and terminal_score is not None:
        return terminal_score(trajectory)
    if trajectory.outcome is None:
        raise ValueError(
            f"episode {trajectory.episode!r} was cut off and has no outcome; it takes a PRM to say what it was worth"
        )
    return trajectory.outcome


class Counter:
    """Counts a stream of trajectories in memory for the states and transitions that differ.

    Parameters
    ----------
    abstraction : StateAbstraction
        Already fitted.
    terminal_score : callable, optional
        As for `count`.
    """

    def __init__(self, abstraction: StateAbstraction, terminal_score: TerminalScore | None = None) -> None:
        self._abstraction, self._terminal_score = abstraction, terminal_score
        self._states: _ExactStates | _States
        self._states = _ExactStates(abstraction) if type(abstraction) is ExactKey else _States(abstraction)
        self._actions = Numbers([None])
        self._sums = Sums()
        self._starts: list[npt.NDArray[np.int64]] = []
        self._forget()

    def _forget(self) -> None:
        """Steps not yet summed: actions one after another; lengths, outcomes, and which episodes branch off."""
        self._taken = array("b")
        self._lengths = array("q")
        self._outcomes = array("d")
        self._begins = array("b")

    def add(self, trajectories: Sequence[Trajectory]) -> None:
        """Count some episodes; ValueError, and nothing counted, where one has no outcome."""
        success = list(map(_OUTCOME, trajectories))
        if self._terminal_score is not None or None in success:
            success = [success_of(trajectory, self._terminal_score) for trajectory in trajectories]
        steps = [*chain.from_iterable(map(_STEPS, trajectories))]
        taken = [*map(self._actions.__getitem__, map(_INTERVENTION, steps))]
        self._states.add(trajectories, steps)
        self._taken.extend(taken)
        self._lengths.extend(map(len, map(_STEPS, trajectories)))
        self._outcomes.extend(success)
        self._begins.extend([BRANCH not in fields for fields in map(_FIELDS, trajectories)])
        if len(self._taken) >= STEPS_HELD or self._states.full:
            self._sum_up()

    def _sum_up(self) -> None:
        if not self._taken:
            return
        lengths, success = np.array(self._lengths, np.int64), np.array(self._outcomes)
        state, action = self._states.numbers(lengths), np.array(self._taken, np.int64)
        last = np.cumsum(lengths) - 1
        inner = np.ones(len(state), np.bool_)
        inner[last] = False
        here = np.flatnonzero(inner)
        self._sums.add(state[here], action[here], state[here + 1])
        for after, weight in ((-2, success), (-1, 1 - success)):
            at = np.flatnonzero(weight)
            self._sums.add(state[last[at]], action[last[at]], np.full(len(at), after), weight[at])
        first = last - lengths + 1
        helped = np.logical_or.reduceat(action != 0, first)
        begins = np.array(self._begins, np.bool_)
        start, times = np.unique(2 * state[first[begins]] + helped[begins], return_counts=True)
        self._starts.append(np.stack([start >> 1, start & 1, times], axis=1))
        self._forget()

    def take(self) -> Partial:
        """What was counted since the last call; states and actions keep their numbers."""
        self._sum_up()
        known, keys = self._states.take()
        names = [name or NOHELP for name in self._actions]
        place, weight = self._sums.result()
        starts = np.concatenate([np.empty((0, 3), np.int64), *self._starts])
        self._sums, self._starts = Sums(), []
        return Partial(known, keys, names, place, weight, starts)


class _States:
    """Numbers of the states of an abstraction, which says the key of every step."""

    full = False

    def __init__(self, abstraction: StateAbstraction) -> None:
        self._abstraction = abstraction
        self._index: dict[Key, int] = {}
        self._taken = 0
        self._path = array("q")

    def add(self, trajectories: Sequence[Trajectory], steps: Sequence[Step]) -> None:
        index, encode = self._index, self._abstraction.encode
        keys = (encode(trajectory, t) for trajectory in trajectories for t in range(len(trajectory.steps)))
        self._path.extend([index.setdefault(key, len(index)) for key in keys])

    def numbers(self, lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """States of the steps added since the last call."""
        state, self._path = np.array(self._path, np.int64), array("q")
        return state

    def take(self) -> tuple[int, list[Key]]:
        """How many states were named before, and the keys of those since."""
        known, self._taken = self._taken, len(self._index)
        return known, list(islice(self._index, known, None))


class _ExactStates:
    """The same for `ExactKey`, whose keys are texts: whole columns of them, without a call a step."""

    def __init__(self, abstraction: ExactKey) -> None:
        self._by_step = abstraction.step
        self._tasks, self._texts = TextNumbers(), TextNumbers()
        self._pairs, self._with_step = PairNumbers(), PairNumbers()
        self._taken = 0
        self._task: list[str] = []
        self._text: list[str] = []
        self._first: list[int] = []
        self._room = CHARACTERS_HELD

    @property
    def full(self) -> bool:
        """Whether the texts that wait are too long to wait on."""
        return self._room < 0

    def add(self, trajectories: Sequence[Trajectory], steps: Sequence[Step]) -> None:
        texts: list[Any] = [*map(_KEY, steps)]
        if None in texts:
            texts = [step.state if step.key is None else step.key for step in steps]
            self._room -= sum(map(len, texts))
        self._text += texts
        self._task.extend(map(_TASK, trajectories))
        if self._by_step:
            self._first.extend(episode_step(trajectory, 0) for trajectory in trajectories)

    def numbers(self, lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """States of the steps added since the last call."""
        task, text = np.repeat(self._tasks.of(self._task), lengths), self._texts.of(self._text)
        self._task, self._text, self._room = [], [], CHARACTERS_HELD
        state = self._pairs.of(task, text)
        if not self._by_step:
            return state
        first, self._first = np.array(self._first, np.int64), []
        step = np.arange(len(state)) - np.repeat(np.cumsum(lengths) - lengths - first, lengths)
        return self._with_step.of(state, step)

    def take(self) -> tuple[int, list[Key]]:
        """How many states were named before, and the keys of those since."""
        numbered = self._with_step if self._by_step else self._pairs
        known, self._taken = self._taken, len(numbered.pairs)
        first, second = _parts(numbered.pairs[known:])
        columns: list[list[Scalar]] = []
        if self._by_step:
            columns = [second.tolist()]
            first, second = _parts(self._pairs.pairs[first])
        tasks, texts = list(self._tasks), list(self._texts)
        named = ([names[i] for i in at.tolist()] for names, at in ((tasks, first), (texts, second)))
        return known, list(zip(*named, *columns, strict=True))


def _parts(pairs: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    return pairs >> 31, pairs & ((1 << 31) - 1)
