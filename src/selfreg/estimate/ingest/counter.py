"""Counting a stream of trajectories."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from itertools import chain
from operator import attrgetter

import numpy as np
import numpy.typing as npt

from selfreg.data import NOHELP, Trajectory
from selfreg.data.columns import Columns
from selfreg.estimate.abstraction import BRANCH, StateAbstraction
from selfreg.estimate.ingest.partial import PartialCounts
from selfreg.estimate.ingest.states import number_states
from selfreg.estimate.ingest.sums import ActionNumbers, Codes, Floats, TransitionSums

# Steps that are collected before they are summed up.
STEPS_HELD = 1 << 17

_INTERVENTION, _STEPS = attrgetter("intervention"), attrgetter("steps")
_OUTCOME, _FIELDS = attrgetter("outcome"), attrgetter("fields")

# Places, weights and starts of no transitions.
NO_COUNTS = np.empty((0, 3), np.int64), np.empty(0), np.empty((0, 3), np.int64)

# P(success) of a truncated episode, from its last state on.
TerminalScore = Callable[[Trajectory], float]


def episode_success(trajectory: Trajectory, terminal_score: TerminalScore | None = None) -> float:
    """Success of an episode; ValueError if it has no outcome and no score."""
    if trajectory.truncated and terminal_score is not None:
        return terminal_score(trajectory)
    if trajectory.outcome is None:
        raise ValueError(
            f"episode {trajectory.episode!r} is truncated and has no outcome; a PRM is needed to score its last state"
        )
    return trajectory.outcome


class Counter:
    """Counts a stream of trajectories, in memory that grows with distinct states and transitions only.

    Parameters
    ----------
    abstraction : StateAbstraction
        Already fitted.
    terminal_score : callable, optional
        As for `count`.
    """

    def __init__(self, abstraction: StateAbstraction, terminal_score: TerminalScore | None = None) -> None:
        self._terminal_score = terminal_score
        self._states = number_states(abstraction)
        self._actions = ActionNumbers([None])
        self._sums = TransitionSums()
        self._starts: list[Codes] = []
        self._clear()

    def _clear(self) -> None:
        """Drop steps that were summed up: actions in order; lengths, outcomes, and which episodes begin a run."""
        self._chosen = array("b")
        self._lengths = array("q")
        self._outcomes = array("d")
        self._begins = array("b")

    def add(self, trajectories: Sequence[Trajectory]) -> None:
        """Count some episodes; ValueError, and nothing counted, if one has no outcome."""
        success = list(map(_OUTCOME, trajectories))
        if self._terminal_score is not None or None in success:
            success = [episode_success(trajectory, self._terminal_score) for trajectory in trajectories]
        steps = [*chain.from_iterable(map(_STEPS, trajectories))]
        chosen = [*map(self._actions.__getitem__, map(_INTERVENTION, steps))]
        self._states.add(trajectories, steps)
        self._chosen.extend(chosen)
        self._lengths.extend(map(len, map(_STEPS, trajectories)))
        self._outcomes.extend(success)
        self._begins.extend([BRANCH not in fields for fields in map(_FIELDS, trajectories)])
        if len(self._chosen) >= STEPS_HELD or self._states.full:
            self._sum_up()

    def add_columns(self, columns: Columns) -> bool:
        """Count episodes with outcomes; False, and nothing counted, if they have to come as trajectories."""
        if not self._states.can_number(columns):
            return False
        self._sum_up()
        texts = columns.intervention.dictionary_encode(null_encoding="encode")
        named = np.array([self._actions[name] for name in texts.dictionary.to_pylist()], np.int64)
        begins = np.array([BRANCH not in fields for fields in columns.fields], np.bool_)[columns.fields_of]
        state, action = self._states.number_columns(columns), named[np.from_dlpack(texts.indices)]
        self._sum(state, action, columns.length, columns.outcome, begins)
        return True

    def _sum_up(self) -> None:
        if self._chosen:
            lengths, success = np.array(self._lengths, np.int64), np.array(self._outcomes)
            state, action = self._states.number_added(lengths), np.array(self._chosen, np.int64)
            self._sum(state, action, lengths, success, np.array(self._begins, np.bool_))
            self._clear()

    def _sum(self, state: Codes, action: Codes, lengths: Codes, success: Floats, begins: npt.NDArray[np.bool_]) -> None:
        last = np.cumsum(lengths) - 1
        inner = np.ones(len(state), np.bool_)
        inner[last] = False
        here = np.flatnonzero(inner)
        self._sums.add(state[here], action[here], state[here + 1])
        for after, weight in ((-2, success), (-1, 1 - success)):
            for at, some in ((np.flatnonzero(weight == 1), None), (np.flatnonzero(weight % 1), weight)):
                end = last[at]
                self._sums.add(state[end], action[end], np.full(len(at), after), None if some is None else some[at])
        first = last - lengths + 1
        helped = np.logical_or.reduceat(action != 0, first)
        start, times = np.unique(2 * state[first[begins]] + helped[begins], return_counts=True)
        self._starts.append(np.stack([start >> 1, start & 1, times], axis=1))

    def take_counts(self, sums: bool = True) -> PartialCounts:
        """Counts since the last call; states and actions keep their numbers.

        Without `sums` only new states are returned, and the counts stay for a later call.
        """
        self._sum_up()
        known, keys = self._states.take_new_keys()
        names = [name or NOHELP for name in self._actions]
        if not sums:
            return PartialCounts(known, keys, names, *NO_COUNTS)
        place, weight = self._sums.result()
        starts = np.concatenate([NO_COUNTS[2], *self._starts])
        self._sums, self._starts = TransitionSums(), []
        return PartialCounts(known, keys, names, place, weight, starts)
