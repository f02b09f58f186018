"""Transition counts over abstract states."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from selfreg._util.showing import ShortRepr
from selfreg.data import NOHELP, Trajectory
from selfreg.estimate.abstraction import BRANCH, Key, StateAbstraction
from selfreg.estimate.ingest.counter import Counter, TerminalScore, episode_success
from selfreg.estimate.ingest.partial import CountMerger, PartialCounts
from selfreg.estimate.ingest.sums import Floats

Indices = npt.NDArray[np.intp]

# Episodes added at a time.
_EPISODES = 256


@dataclass(frozen=True, eq=False, repr=False)
class Counts(ShortRepr):
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
        """Visits of each state by action, float64 (n,) each."""
        return {name: np.asarray(matrix.sum(axis=1)).ravel() for name, matrix in self.transitions.items()}

    @classmethod
    def merge(cls, parts: Iterable[Counts]) -> Counts:
        """Sum of the counts of parts of a log: as `count` of all of it, with the same order of states.

        Sums are exact, except for rounding of outcomes between 0 and 1.

        Examples
        --------
        >>> from selfreg.data import Step, Trajectory
        >>> from selfreg.estimate import Counts, ExactKey, count
        >>> logs = [Trajectory("t", str(i), float(i), (Step("a"), Step("b"))) for i in range(2)]
        >>> merged = Counts.merge([count(logs[:1], ExactKey()), count(logs[1:], ExactKey())])
        >>> merged.keys == count(logs, ExactKey()).keys, merged.visits["nohelp"].tolist()
        (True, [2.0, 2.0, 0.0, 0.0])
        """
        merger = CountMerger()
        for source, part in enumerate(parts):
            merger.add(PartialCounts.from_counts(part), source)
        return Counts(*merger.result())


class Moves(NamedTuple):
    """All logged transitions with their tasks, from which the counts of any sample of tasks are summed.

    Attributes
    ----------
    keys : tuple of Key
        Keys of the abstract states, n-2 of them; then come success and failure.
    actions, tasks : tuple of str
    task, state, action, successor : intp (moves,)
    weight : float64 (moves,)
        1; less if an outcome between 0 and 1 splits the last move of an episode.
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
        """Counts with every task taken `times` (tasks,) times; once by default."""
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


def list_moves(
    trajectories: Sequence[Trajectory], abstraction: StateAbstraction, terminal_score: TerminalScore | None = None
) -> Moves:
    """List the transitions of `trajectories`; arguments as for `count`."""
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
        success = episode_success(trajectory, terminal_score)
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
        P(success) of a truncated episode (a PRM's score of its last state); by default its logged outcome.

    Raises
    ------
    ValueError
        For a truncated episode without an outcome, if there is no `terminal_score`.
    """
    counter, merger = Counter(abstraction, terminal_score), CountMerger()
    stream = iter(trajectories)
    while some := list(islice(stream, _EPISODES)):
        counter.add(some)
    merger.add(counter.take_counts(), None)
    return Counts(*merger.result())
