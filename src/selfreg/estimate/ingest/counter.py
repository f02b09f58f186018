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
from selfreg.estimate.ingest.partial import Partial
from selfreg.estimate.ingest.states import numbered_states
from selfreg.estimate.ingest.tally import Codes, Floats, Numbers, Sums

# Steps that are kept as they are before they are summed up.
STEPS_HELD = 1 << 17

_INTERVENTION, _STEPS = attrgetter("intervention"), attrgetter("steps")
_OUTCOME, _FIELDS = attrgetter("outcome"), attrgetter("fields")

# No places, weights and starts.
NOTHING = np.empty((0, 3), np.int64), np.empty(0), np.empty((0, 3), np.int64)

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
        self._terminal_score = terminal_score
        self._states = numbered_states(abstraction)
        self._actions = Numbers([None])
        self._sums = Sums()
        self._starts: list[Codes] = []
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

    def add_columns(self, columns: Columns) -> bool:
        """Count episodes with outcomes; False, and nothing counted, where they are to come as trajectories."""
        if not self._states.has(columns):
            return False
        self._sum_up()
        texts = columns.intervention.dictionary_encode(null_encoding="encode")
        named = np.array([self._actions[name] for name in texts.dictionary.to_pylist()], np.int64)
        begins = np.array([BRANCH not in fields for fields in columns.fields], np.bool_)[columns.fields_of]
        state, action = self._states.of(columns), named[np.from_dlpack(texts.indices)]
        self._sum(state, action, columns.length, columns.outcome, begins)
        return True

    def _sum_up(self) -> None:
        if self._taken:
            lengths, success = np.array(self._lengths, np.int64), np.array(self._outcomes)
            state, action = self._states.numbers(lengths), np.array(self._taken, np.int64)
            self._sum(state, action, lengths, success, np.array(self._begins, np.bool_))
            self._forget()

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

    def take(self, sums: bool = True) -> Partial:
        """What was counted since the last call; states and actions keep their numbers.

        Without `sums` states are named only, and what was counted stays for a later call.
        """
        self._sum_up()
        known, keys = self._states.take()
        names = [name or NOHELP for name in self._actions]
        if not sums:
            return Partial(known, keys, names, *NOTHING)
        place, weight = self._sums.result()
        starts = np.concatenate([NOTHING[2], *self._starts])
        self._sums, self._starts = Sums(), []
        return Partial(known, keys, names, place, weight, starts)
