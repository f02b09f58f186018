"""Counts of parts of a log, and their sum."""

from __future__ import annotations

from collections.abc import Hashable
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from selfreg.data import NOHELP
from selfreg.estimate.abstraction import Key
from selfreg.estimate.ingest.sums import ActionNumbers, Floats, TransitionSums

if TYPE_CHECKING:
    from selfreg.estimate.counts import Counts


class PartialCounts(NamedTuple):
    """Counts of a part of a log, as they are sent between processes and saved.

    Attributes
    ----------
    n_named : int
        Number of states that its source named in earlier parts.
    keys : list of Key
        Keys of the states `n_named`, `n_named` + 1, ... in the order of first appearance.
    actions : list of str
        `nohelp`, then help types in the order of first appearance.
    place : int64 (entries, 3)
        State, action, next state of every transition; next state -2 is success and -1 failure.
    weight : float64 (entries,)
    starts : int64 (starts, 3)
        First state, whether the episode was helped, number of such episodes.
    """

    n_named: int
    keys: list[Key]
    actions: list[str]
    place: npt.NDArray[np.int64]
    weight: Floats
    starts: npt.NDArray[np.int64]

    @classmethod
    def from_counts(cls, counts: Counts) -> PartialCounts:
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


class CountMerger:
    """Sum of the parts of a log, from several sources, in the order in which they are added.

    States are numbered by first appearance, as if one source had read everything: a part names the states that are new
    to its source, in that order; all others were in earlier parts of the same source.
    """

    def __init__(self) -> None:
        self._index: dict[Key, int] = {}
        self._numbers: dict[Hashable, npt.NDArray[np.int64]] = {}
        self._actions = ActionNumbers([NOHELP])
        self._sums = TransitionSums()
        self._starts: list[npt.NDArray[np.int64]] = []

    def add(self, part: PartialCounts, source: Hashable) -> PartialCounts:
        """Add the next part, and return it in the numbers of the sum, as if that was its source.

        The source None has one part only.
        """
        index, known = self._index, len(self._index)
        named = np.array([index.setdefault(key, len(index)) for key in part.keys], np.int64)
        before = self._numbers.get(source, named[:0])
        if len(before) != part.n_named:
            raise ValueError(f"a part follows {part.n_named} states of its source; {len(before)} were added")
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
        return PartialCounts(known, list(islice(index, known, None)), list(self._actions), place, part.weight, starts)

    def result(self) -> tuple[tuple[Key, ...], dict[str, sp.csr_array], Floats]:
        """Keys, transitions and starts of everything added so far, for `Counts`."""
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
        return tuple(self._index), transitions, starts
