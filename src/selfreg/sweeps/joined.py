"""Batches for another process: the arrays of all models joined, a few long ones instead of many short ones."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from selfreg.mdp import InterventionMDP
from selfreg.sweeps.batches import (
    BatchResults,
    ModelEntry,
    ModelGroup,
    ModelLabel,
    SweepSpec,
    estimate_work,
    group_models,
    solve_batch,
)

FLOAT = np.dtype(np.float64)


class JoinedGroup(NamedTuple):
    """A `ModelGroup` with joined arrays.

    Attributes
    ----------
    kind, members, starts
        As of `ModelGroup`.
    arrays : list of arrays
        Terminal values, then indptr, indices, data of every action; each of all models, one after another.
    sizes : int64 (1 + actions, models)
        Number of states, and of entries of every action.
    """

    kind: Any
    members: list[int]
    starts: dict[int, Any]
    arrays: list[npt.NDArray[Any]]
    sizes: npt.NDArray[np.int64]

    def split(self) -> ModelGroup:
        """The group with the arrays of every model, which are views."""
        split = []
        for array, length in zip(self.arrays, _lengths(self.sizes), strict=True):
            ends = [0, *np.cumsum(length).tolist()]
            split.append([array[start:stop] for start, stop in pairwise(ends)])
        return ModelGroup(self.kind, self.members, [*zip(*split, strict=True)], self.starts)


class JoinedBatch(NamedTuple):
    """A batch for another process; `unmade` are the models that are made there."""

    indices: npt.NDArray[np.int64]
    names: list[str | None] | None
    unmade: dict[int, Any]
    groups: list[JoinedGroup]


class Joiner:
    """Joins one batch after another in the same memory: a `JoinedBatch` is valid until the next one is joined."""

    def __init__(self) -> None:
        self._memory: dict[tuple[int, int], npt.NDArray[np.uint8]] = {}

    def join(self, entries: Sequence[ModelEntry]) -> JoinedBatch:
        """Join the arrays of the models that are made already."""
        unmade = {
            i: entry.model
            for i, entry in enumerate(entries)
            if type(entry.model) is not InterventionMDP and estimate_work(entry.model, 1) is None
        }
        groups = group_models(((i, entry) for i, entry in enumerate(entries) if i not in unmade), _reraise)
        names = [entry.label.name for entry in entries]
        return JoinedBatch(
            np.array([entry.label.model_index for entry in entries], np.int64),
            names if any(name is not None for name in names) else None,
            unmade,
            [self._join_group(number, group) for number, group in enumerate(groups)],
        )

    def _join_group(self, number: int, group: ModelGroup) -> JoinedGroup:
        columns = [*zip(*group.models, strict=True)]
        sizes = np.array([[*map(len, arrays)] for arrays in (columns[0], *columns[3::3])], np.int64)
        joined = []
        for k, (arrays, length) in enumerate(zip(columns, _lengths(sizes), strict=True)):
            # Indices are int32 or int64, model by model.
            kind = FLOAT if k % 3 == 0 else np.result_type(*{array.dtype for array in arrays})
            joined.append(np.concatenate(arrays, out=self._buffer((number, k), int(length.sum()), kind)))
        return JoinedGroup(group.kind, group.members, group.starts, joined, sizes)

    def _buffer(self, slot: tuple[int, int], items: int, kind: np.dtype[Any]) -> npt.NDArray[Any]:
        size = items * kind.itemsize
        if slot not in self._memory or len(self._memory[slot]) < size:
            self._memory[slot] = np.empty(size, np.uint8)
        return self._memory[slot][:size].view(kind)


def solve_joined(spec: SweepSpec, batch: JoinedBatch) -> BatchResults:
    """Solve a batch; results without labels, which stay where the batch came from."""
    indices = batch.indices.tolist()
    labels = map(ModelLabel, indices) if batch.names is None else map(ModelLabel, indices, batch.names)
    entries = [ModelEntry(label, batch.unmade.get(i)) for i, label in enumerate(labels)]
    return solve_batch(spec, entries, groups=[group.split() for group in batch.groups])._replace(labels=[])


def _lengths(sizes: npt.NDArray[np.int64]) -> list[npt.NDArray[np.int64]]:
    """Length of every array of every model, in the order of the arrays."""
    n, *entries = sizes
    return [n, *(length for some in entries for length in (n + 1, some, some))]


def _reraise(error: Exception, i: int) -> None:
    raise error
