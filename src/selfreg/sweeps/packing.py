"""Batches of models in a block, on their way to another process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from selfreg._core import chooser
from selfreg.mdp import InterventionMDP
from selfreg.sweeps.batches import Case, Group, Job, Label, Results, grouped, solve_batch, work


class Packed(NamedTuple):
    """A batch for another process: its models side by side in one block; models yet to be made as they are."""

    places: npt.NDArray[np.int64]
    names: list[str | None] | None
    unmade: dict[int, Any]
    groups: list[Group]

    def solve(self, job: Job, implementation: str | None = None) -> Results:
        """Results without labels: those stay where the batch came from."""
        places = self.places.tolist()
        labels = map(Label, places) if self.names is None else map(Label, places, self.names)
        cases = [Case(label, self.unmade.get(i)) for i, label in enumerate(labels)]
        return solve_batch(cases, job, implementation, self.groups)._replace(labels=[])


class Packer:
    """Packs batches, one after another through the same memory: a `Packed` is good until the next one is packed."""

    def __init__(self) -> None:
        self._memory = np.empty(0, np.uint8)

    def pack(self, cases: Sequence[Case], implementation: str | None = None) -> Packed:
        """A batch; what cannot be packed is left to the process that solves it."""
        kernel = chooser.kernel("batch", implementation)
        made = [
            (i, case)
            for i, case in enumerate(cases)
            if type(case.item) is InterventionMDP or work(case.item, 1) is not None
        ]
        groups = grouped(made, _unexpected)
        tables = [np.empty((len(group.models), len(group.models[0]), 3), np.int64) for group in groups]
        sizes = [kernel.measure(group.models, table) for group, table in zip(groups, tables, strict=True)]
        first = np.cumsum([0, *sizes])
        if first[-1] > len(self._memory):
            self._memory = np.empty(first[-1], np.uint8)
        packed = []
        for k, group in enumerate(groups):
            block = self._memory[first[k] : first[k + 1]]
            kernel.gather(group.models, tables[k], block)
            packed.append(group._replace(models=(block, tables[k])))
        there = {i for i, _ in made}
        unmade = {i: case.item for i, case in enumerate(cases) if i not in there} if len(made) < len(cases) else {}
        names = [case.label.name for case in cases]
        places = np.array([case.label.place for case in cases], np.int64)
        return Packed(places, names if any(name is not None for name in names) else None, unmade, packed)


def _unexpected(error: Exception, i: int) -> None:
    raise error
