"""Transition counts over abstract states."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, islice
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from selfreg.data import NOHELP, Scalar, Step, Trajectory
from selfreg.estimate._tally import Numbers, PairNumbers, Sums, TextNumbers
from selfreg.estimate.abstraction import BRANCH, ExactKey, Key, StateAbstraction, episode_step

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

# Steps, and characters of their texts, that are kept as they are before they are summed up.
STEPS_HELD, CHARACTERS_HELD = 1 << 17, 1 << 25

_KEY, _INTERVENTION, _STEPS = attrgetter("key"), attrgetter("intervention"), attrgetter("steps")
_TASK, _OUTCOME, _FIELDS = attrgetter("task"), attrgetter("outcome"), attrgetter("fields")
# Episodes that are added at a time.
_EPISODES = 256

# P(success) of a truncated episode, from its last state on.
TerminalScore = Callable[[Trajectory], float]


@dataclass(frozen=True, eq=False)
class Counts:
    """N(s, a, s') from trajectories.

    States 0..n-3 are abstract states in the order of first appearance; n-2 is success and n-1 failure. An episode ends
    in success with the weight of its outcome and in failure with the rest.

    Attributes
    ----------
    keys : tuple of Key
        Keys of the abstract states, n-2 of them.
    transitions : dict of action to csr_array (n, n)
        Counts, `nohelp` first; help types in alphabetical order.
    starts : float64 (2, n)
        Episodes by first state: unhelped ones, then helped ones.
    """

    keys: tuple[Key, ...]
    transitions: dict[str, sp.csr_array]
    starts: Floats

    @cached_property
    def visits(self) -> dict[str, Floats]:
        """Per action, float64 (n,): how often it was taken in each state."""
        return {name: np.asarray(matrix.sum(axis=1)).ravel() for name, matrix in self.transitions.items()}

    @classmethod
    def merge(cls, parts: Iterable[Counts]) -> Counts:
        """Sum of counts of parts of a log: what `count` finds in all of it, in the same order of states.

        Sums are exact; where outcomes lie between 0 and 1, up to rounding.

        Examples
        --------
        >>> from selfreg.data import Step, Trajectory
        >>> from selfreg.estimate import Counts, ExactKey, count
        >>> logs = [Trajectory("t", str(i), float(i), (Step("a"), Step("b"))) for i in range(2)]
        >>> merged = Counts.merge([count(logs[:1], ExactKey()), count(logs[1:], ExactKey())])
        >>> merged.keys == count(logs, ExactKey()).keys, merged.visits["nohelp"].tolist()
        (True, [2.0, 2.0, 0.0, 0.0])
        """
        merger = Merger()
        for source, part in enumerate(parts):
            merger.add(Partial.of(part), source)
        return merger.counts()


class Moves(NamedTuple):
    """Every logged transition with the task that it comes from: counts of any part of the tasks are sums over it.

    Attributes
    ----------
    keys : tuple of Key
        Keys of the abstract states, n-2 of them; then come success and failure.
    actions, tasks : tuple of str
    task, state, action, successor : intp (moves,)
    weight : float64 (moves,)
        1; less where an outcome between failure and success splits the last move of an episode.
    start_task, start_helped, start_state : intp (episodes,)
    """

    keys: tuple[Key, ...]
    actions: tuple[str, ...]
    tasks: tuple[str, ...]
    task: Indices
    state: Indices
    action: Indices
    successor: Indices
    weight: Floats
    start_task: Indices
    start_helped: Indices
    start_state: Indices

    def counts(self, times: Floats | None = None) -> Counts:
        """Counts, every task taken `times` (tasks,) times; once by default."""
        n = len(self.keys) + 2
        weight, start_weight = self.weight, np.ones(len(self.start_task))
        if times is not None:
            weight, start_weight = weight * times[self.task], times[self.start_task]
        transitions = {}
        for a, name in enumerate(self.actions):
            chosen = np.flatnonzero((self.action == a) & (weight > 0))
            places = (self.state[chosen].astype(np.int32), self.successor[chosen].astype(np.int32))
            transitions[name] = sp.csr_array(sp.coo_array((weight[chosen], places), shape=(n, n)))
        starts = np.zeros((2, n))
        np.add.at(starts, (self.start_helped, self.start_state), start_weight)
        return Counts(self.keys, transitions, starts)


def record(
    trajectories: Sequence[Trajectory], abstraction: StateAbstraction, terminal_score: TerminalScore | None = None
) -> Moves:
    """List the transitions of `trajectories`; arguments as of `count`."""
    index: dict[Key, int] = {}
    tasks: dict[str, int] = {}
    types = sorted({step.intervention for t in trajectories for step in t.steps if step.intervention is not None})
    actions = {name: a for a, name in enumerate([NOHELP, *types])}
    moves: list[tuple[int, int, int, int, float]] = []
    starts: list[tuple[int, int, int]] = []
    for trajectory in trajectories:
        task = tasks.setdefault(trajectory.task, len(tasks))
        path = [index.setdefault(abstraction.encode(trajectory, t), len(index)) for t in range(len(trajectory.steps))]
        if BRANCH not in trajectory.fields:
            starts.append((task, int(trajectory.helped), path[0]))
        taken = [actions[step.intervention or NOHELP] for step in trajectory.steps]
        success = success_of(trajectory, terminal_score)
        moves += [(task, s, a, j, 1.0) for s, a, j in zip(path, taken, path[1:], strict=False)]
        ends = ((-2, success), (-1, 1.0 - success))
        moves += [(task, path[-1], taken[-1], end, weight) for end, weight in ends if weight]
    table, first = np.array(moves).reshape(-1, 5), np.array(starts, dtype=np.intp).reshape(-1, 3)
    task, state, action, successor = table[:, :4].astype(np.intp).T
    successor = np.where(successor < 0, successor + len(index) + 2, successor)
    return Moves(
        tuple(index), tuple(actions), tuple(tasks), task, state, action, successor, table[:, 4].copy(), *first.T.copy()
    )


def count(
    trajectories: Iterable[Trajectory], abstraction: StateAbstraction, terminal_score: TerminalScore | None = None
) -> Counts:
    """Count the transitions of `trajectories`, in one pass.

    Parameters
    ----------
    trajectories : iterable of Trajectory
    abstraction : StateAbstraction
        Already fitted.
    terminal_score : callable, optional
        P(success) of a truncated episode (a PRM's score of its last state). Without it the logged outcome stands.

    Raises
    ------
    ValueError
        For a truncated episode without an outcome where there is no `terminal_score`.
    """
    counter, merger = Counter(abstraction, terminal_score), Merger()
    stream = iter(trajectories)
    while some := list(islice(stream, _EPISODES)):
        counter.add(some)
    merger.add(counter.take(), None)
    return merger.counts()


class Partial(NamedTuple):
    """Counts of a part of a log, as they travel between processes and lie on disk.

    Attributes
    ----------
    known : int
        States that its source named before, in earlier parts.
    keys : list of Key
        Keys of the states `known`, `known` + 1, ... in the order of first appearance.
    actions : list of str
        `nohelp`, then help types in the order of first appearance.
    place : int64 (entries, 3)
        State, action, next state of every transition seen; next state -2 is success and -1 failure.
    weight : float64 (entries,)
    starts : int64 (starts, 3)
        First state, whether the episode was helped, number of such episodes.
    """

    known: int
    keys: list[Key]
    actions: list[str]
    place: npt.NDArray[np.int64]
    weight: Floats
    starts: npt.NDArray[np.int64]

    @classmethod
    def of(cls, counts: Counts) -> Partial:
        """All of `counts` as one part."""
        n = len(counts.keys) + 2
        places, weights = [], []
        for a, matrix in enumerate(counts.transitions.values()):
            found = matrix.tocoo()
            after = np.where(found.col >= n - 2, found.col - n, found.col)
            places.append(np.stack([found.row, np.full(found.nnz, a), after], axis=1).astype(np.int64))
            weights.append(found.data)
        helped, state = np.nonzero(counts.starts)
        starts = np.stack([state, helped, counts.starts[helped, state].astype(np.int64)], axis=1)
        place, weight = np.concatenate(places).reshape(-1, 3), np.concatenate(weights)
        return cls(0, list(counts.keys), list(counts.transitions), place, weight, starts)


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


class Merger:
    """Sum of the parts of a log, from several sources, in the order in which they are added.

    States are numbered by first appearance, as if one source had read it all: a part names the states that are new to
    its source in that order, and all others were in parts of the same source that came before.
    """

    def __init__(self) -> None:
        self._index: dict[Key, int] = {}
        self._numbers: dict[Hashable, npt.NDArray[np.int64]] = {}
        self._actions = Numbers([NOHELP])
        self._sums = Sums()
        self._starts: list[npt.NDArray[np.int64]] = []

    def add(self, part: Partial, source: Hashable) -> Partial:
        """Add the part that comes next; returned in the numbers of the sum, which is a source like others.

        The source None has one part only, and is forgotten.
        """
        index, known = self._index, len(self._index)
        named = np.array([index.setdefault(key, len(index)) for key in part.keys], np.int64)
        before = self._numbers.get(source, named[:0])
        if len(before) != part.known:
            raise ValueError(f"a part follows {part.known} states of its source; {len(before)} were added")
        state = np.concatenate([before, named])
        if source is not None:
            self._numbers[source] = state
        action = np.array([self._actions[name] for name in part.actions], np.int64)
        s, a, j = part.place.T
        columns = (state[s], action[a], np.where(j < 0, j, state[np.maximum(j, 0)]))
        self._sums.add(*columns, part.weight)
        place = np.stack(columns, axis=1)
        starts = np.column_stack([state[part.starts[:, 0]], part.starts[:, 1:]])
        self._starts.append(starts)
        return Partial(known, list(islice(index, known, None)), list(self._actions), place, part.weight, starts)

    def counts(self) -> Counts:
        """Everything added so far."""
        n = len(self._index) + 2
        place, weight = self._sums.result()
        transitions = {}
        for name in [NOHELP, *sorted(list(self._actions)[1:])]:
            chosen = place[:, 1] == self._actions[name]
            s, j = place[chosen, 0].astype(np.int32), (place[chosen, 2] % n).astype(np.int32)
            transitions[name] = sp.csr_array(sp.coo_array((weight[chosen], (s, j)), shape=(n, n)))
        starts = np.zeros((2, n))
        for part in self._starts:
            np.add.at(starts, (part[:, 1], part[:, 0]), part[:, 2])
        return Counts(tuple(self._index), transitions, starts)


def success_of(trajectory: Trajectory, terminal_score: TerminalScore | None = None) -> float:
    """What an episode was worth; ValueError where nothing says so."""
    if trajectory.truncated and terminal_score is not None:
        return terminal_score(trajectory)
    if trajectory.outcome is None:
        raise ValueError(
            f"episode {trajectory.episode!r} was cut off and has no outcome; it takes a PRM to say what it was worth"
        )
    return trajectory.outcome
