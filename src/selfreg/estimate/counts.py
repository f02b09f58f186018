"""Transition counts over abstract states."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from selfreg.data import NOHELP, Trajectory
from selfreg.estimate.abstraction import Key, StateAbstraction

Floats = npt.NDArray[np.float64]

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


def count(
    trajectories: Sequence[Trajectory], abstraction: StateAbstraction, terminal_score: TerminalScore | None = None
) -> Counts:
    """Count the transitions of `trajectories`.

    Parameters
    ----------
    trajectories : sequence of Trajectory
    abstraction : StateAbstraction
        Already fitted.
    terminal_score : callable, optional
        P(success) of a truncated episode (a PRM's score of its last state). Without it the logged outcome stands.

    Raises
    ------
    ValueError
        For a truncated episode without an outcome where there is no `terminal_score`.
    """
    index: dict[Key, int] = {}
    types = sorted({step.intervention for t in trajectories for step in t.steps if step.intervention is not None})
    actions = {name: a for a, name in enumerate([NOHELP, *types])}
    table: dict[tuple[int, int, int], float] = {}
    starts: list[tuple[bool, int]] = []
    for trajectory in trajectories:
        path = [index.setdefault(abstraction.encode(trajectory, t), len(index)) for t in range(len(trajectory.steps))]
        starts.append((trajectory.helped, path[0]))
        taken = [actions[step.intervention or NOHELP] for step in trajectory.steps]
        success = _success(trajectory, terminal_score)
        edges = [(s, a, j, 1.0) for s, a, j in zip(path, taken, path[1:], strict=False)]
        edges += [(path[-1], taken[-1], -2, success), (path[-1], taken[-1], -1, 1.0 - success)]
        for s, a, j, weight in edges:
            if weight:
                table[s, a, j] = table.get((s, a, j), 0.0) + weight
    n = len(index) + 2
    entries = np.array([(s, a, j % n, weight) for (s, a, j), weight in table.items()]).reshape(-1, 4)
    return Counts(tuple(index), {name: _matrix(entries, a, n) for name, a in actions.items()}, _starts(starts, n))


def _success(trajectory: Trajectory, terminal_score: TerminalScore | None) -> float:
    if trajectory.truncated and terminal_score is not None:
        return terminal_score(trajectory)
    if trajectory.outcome is None:
        raise ValueError(
            f"episode {trajectory.episode!r} was cut off and has no outcome; it takes a PRM to say what it was worth"
        )
    return trajectory.outcome


def _matrix(entries: Floats, action: int, n: int) -> sp.csr_array:
    chosen = entries[entries[:, 1] == action]
    places = (chosen[:, 0].astype(np.int32), chosen[:, 2].astype(np.int32))
    return sp.csr_array(sp.coo_array((chosen[:, 3], places), shape=(n, n)))


def _starts(starts: Sequence[tuple[bool, int]], n: int) -> Floats:
    result = np.zeros((2, n))
    for helped, state in starts:
        result[int(helped), state] += 1.0
    return result
