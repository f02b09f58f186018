"""Transition counts over abstract states."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from selfreg.data import NOHELP, Trajectory
from selfreg.estimate.abstraction import BRANCH, ExactKey, Key, StateAbstraction, episode_step

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

# Steps that are kept as they are before they are summed up.
STEPS_HELD = 1 << 17
# A transition is one int64: state, action, next state plus 2.
_STATE_BITS, _STATE_SHIFT, _LARGEST_ACTION = 28, 35, 127

_KEY, _INTERVENTION = attrgetter("key"), attrgetter("intervention")

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
        success = _success(trajectory, terminal_score)
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
    for trajectory in trajectories:
        counter.add(trajectory)
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
        self._exact = abstraction if type(abstraction) is ExactKey else None
        self._keys: list[Key] = []
        self._index: dict[Any, int] = {}
        self._of_task: dict[str, dict[Any, int]] = {}
        self._actions = _Numbers([None])
        self._sums = _Sums()
        self._starts: dict[tuple[int, bool], int] = {}
        self._known = 0
        self._forget()

    def _forget(self) -> None:
        """Steps not yet summed: states and actions one after another, lengths and outcomes of episodes."""
        self._path: list[int] = []
        self._taken: list[int] = []
        self._lengths: list[int] = []
        self._outcomes: list[float] = []

    def add(self, trajectory: Trajectory) -> None:
        """Count one episode; ValueError, and nothing counted, where it has no outcome."""
        success = _success(trajectory, self._terminal_score)
        path = self._states(trajectory)
        taken = list(map(self._actions.__getitem__, map(_INTERVENTION, trajectory.steps)))
        start = (path[0], any(taken))
        if BRANCH not in trajectory.fields:
            self._starts[start] = self._starts.get(start, 0) + 1
        self._path += path
        self._taken += taken
        self._lengths.append(len(path))
        self._outcomes.append(success)
        if len(self._path) >= STEPS_HELD:
            self._sum_up()

    def _states(self, trajectory: Trajectory) -> list[int]:
        if self._exact is None:
            keys: list[Any] = [self._abstraction.encode(trajectory, t) for t in range(len(trajectory.steps))]
            index = self._index
        else:
            # The keys of `ExactKey.encode` without its call a step, by task and then by what is left of the key.
            keys = list(map(_KEY, trajectory.steps))
            if None in keys:
                keys = [step.state if step.key is None else step.key for step in trajectory.steps]
            if self._exact.step:
                keys = [(key, t) for t, key in enumerate(keys, episode_step(trajectory, 0))]
            index = self._of_task.setdefault(trajectory.task, {})
        path: list[Any] = list(map(index.get, keys))  # loops in C: most of the work of counting is here
        if None in path:
            for t, key in enumerate(keys):
                if path[t] is None:
                    path[t] = index.setdefault(key, self._known + len(self._keys))
                    if path[t] == self._known + len(self._keys):
                        self._keys.append(key if self._exact is None else self._exact.encode(trajectory, t))
        return path

    def _sum_up(self) -> None:
        if not self._path:
            return
        state, action = np.array(self._path, np.int64), np.array(self._taken, np.int64)
        success = np.array(self._outcomes)
        last = np.cumsum(self._lengths) - 1
        inner = np.ones(len(state), np.bool_)
        inner[last] = False
        here = np.flatnonzero(inner)
        steps = np.stack([state[here], action[here], state[here + 1]], axis=1)
        ends = np.stack([state[last], action[last]], axis=1)
        won, lost = (np.column_stack([ends, np.full(len(last), after)]) for after in (-2, -1))
        self._sums.add(np.concatenate([steps, won, lost]), np.concatenate([np.ones(len(here)), success, 1 - success]))
        self._forget()

    def take(self) -> Partial:
        """What was counted since the last call; states and actions keep their numbers."""
        self._sum_up()
        starts = [(state, helped, times) for (state, helped), times in self._starts.items()]
        names = [name or NOHELP for name in self._actions]
        place, weight = self._sums.result()
        part = Partial(self._known, self._keys, names, place, weight, np.array(starts, np.int64).reshape(-1, 3))
        self._known += len(self._keys)
        self._keys, self._sums, self._starts = [], _Sums(), {}
        return part


class Merger:
    """Sum of the parts of a log, from several sources, in the order in which they are added.

    States are numbered by first appearance, as if one source had read it all: a part names the states that are new to
    its source in that order, and all others were in parts of the same source that came before.
    """

    def __init__(self) -> None:
        self._index: dict[Key, int] = {}
        self._numbers: dict[Hashable, npt.NDArray[np.int64]] = {}
        self._actions = _Numbers([NOHELP])
        self._sums = _Sums()
        self._starts: list[npt.NDArray[np.int64]] = []

    def add(self, part: Partial, source: Hashable) -> Partial:
        """Add the part that comes next; returned in the numbers of the sum, which is a source like others."""
        index, known = self._index, len(self._index)
        named = np.array([index.setdefault(key, len(index)) for key in part.keys], np.int64)
        before = self._numbers.get(source, named[:0])
        if len(before) != part.known:
            raise ValueError(f"a part follows {part.known} states of its source; {len(before)} were added")
        state = self._numbers[source] = np.concatenate([before, named])
        action = np.array([self._actions[name] for name in part.actions], np.int64)
        s, a, j = part.place.T
        place = np.stack([state[s], action[a], np.where(j < 0, j, state[np.maximum(j, 0)])], axis=1)
        self._sums.add(place, part.weight)
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


class _Numbers(dict[Any, int]):
    """Numbers of names, given out when first asked for."""

    def __init__(self, names: Iterable[Any]) -> None:
        super().__init__((name, i) for i, name in enumerate(names))

    def __missing__(self, name: Any) -> int:
        if len(self) > _LARGEST_ACTION:
            raise ValueError(f"there are more than {_LARGEST_ACTION} help types; {name!r} is one too many")
        number = self[name] = len(self)
        return number


class _Sums:
    """Weights by (state, action, next state); what repeats is added up whenever as much again has come."""

    def __init__(self) -> None:
        self._code, self._weight = np.empty(0, np.int64), np.empty(0)
        self._codes: list[npt.NDArray[np.int64]] = []
        self._weights: list[Floats] = []
        self._waiting = 0

    def add(self, place: npt.NDArray[np.int64], weight: Floats) -> None:
        s, a, j = place[weight != 0].T
        self._codes.append((s << _STATE_SHIFT) | (a << _STATE_BITS) | (j + 2))
        self._weights.append(weight[weight != 0])
        self._waiting += len(s)
        if self._waiting > max(STEPS_HELD, len(self._code)):
            self._add_up()

    def _add_up(self) -> None:
        weights = np.concatenate([self._weight, *self._weights])
        self._code, number = np.unique(np.concatenate([self._code, *self._codes]), return_inverse=True)
        self._weight = np.bincount(number, weights, len(self._code)).astype(np.float64)
        self._codes, self._weights, self._waiting = [], [], 0

    def result(self) -> tuple[npt.NDArray[np.int64], Floats]:
        """Places int64 (entries, 3), sorted, and their weights."""
        self._add_up()
        mask = (1 << _STATE_BITS) - 1
        action = (self._code >> _STATE_BITS) & _LARGEST_ACTION
        return np.stack([self._code >> _STATE_SHIFT, action, (self._code & mask) - 2], axis=1), self._weight


def _success(trajectory: Trajectory, terminal_score: TerminalScore | None) -> float:
    if trajectory.truncated and terminal_score is not None:
        return terminal_score(trajectory)
    if trajectory.outcome is None:
        raise ValueError(
            f"episode {trajectory.episode!r} was cut off and has no outcome; it takes a PRM to say what it was worth"
        )
    return trajectory.outcome
