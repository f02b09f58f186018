"""Models of a sweep on their way through Ray: one block of bytes, against plain arrays, against joined arrays.

Whole sweeps on a local Ray with two workers, ways in alternate order, and the answers compared.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

import selfreg
from benchmarks import instances
from selfreg.sweeps import executors
from selfreg.sweeps.batches import Case, Group, Job, Results, grouped
from selfreg.sweeps.packing import Packed, Packer

BUDGET = 8


def labelled(cases: Sequence[Case], groups: list[Group]) -> Packed:
    """A batch in which all models are there."""
    return Packed(np.array([case.label.place for case in cases], np.int64), None, {}, groups)


def unexpected(error: Exception, i: int) -> None:
    raise error


class Plain:
    """The models' arrays as they are."""

    def pack(self, cases: Sequence[Case]) -> Packed:
        return labelled(cases, grouped(enumerate(cases), unexpected))


class Joined:
    """Arrays of the same kind joined by NumPy."""

    def __init__(self) -> None:
        self._memory: list[Any] = []

    def pack(self, cases: Sequence[Case]) -> Packed:
        groups = []
        for group in grouped(enumerate(cases), unexpected):
            kinds = [*zip(*group.models, strict=True)]
            n = np.fromiter(map(len, kinds[0]), np.int64, len(kinds[0]))
            nnz = [np.fromiter(map(len, arrays), np.int64, len(n)) for arrays in kinds[3::3]]
            lengths = [n]
            for some in nnz:
                lengths += [n + 1, some, some]
            joined = []
            for k, (arrays, length) in enumerate(zip(kinds, lengths, strict=True)):
                total = int(length.sum())
                if len(self._memory) <= k:
                    self._memory.append(np.empty(0, arrays[0].dtype))
                if len(self._memory[k]) < total:
                    self._memory[k] = np.empty(total, arrays[0].dtype)
                joined.append(np.concatenate(arrays, out=self._memory[k][:total]))
            groups.append(group._replace(models=("joined", joined, (n, nnz))))
        return labelled(cases, groups)


def solve_any(packed: Packed, job: Job) -> Results:
    """What a worker does."""
    groups = []
    for group in packed.groups:
        models: Any = group.models
        if models[0] is not None and isinstance(models[0], str):
            n, nnz = models[2]
            lengths = [n]
            for some in nnz:
                lengths += [n + 1, some, some]
            kinds = []
            for array, length in zip(models[1], lengths, strict=True):
                ends = [0, *np.cumsum(length).tolist()]
                kinds.append([array[a:b] for a, b in pairwise(ends)])
            models = [*zip(*kinds, strict=True)]
        groups.append(group._replace(models=models))
    return packed._replace(groups=groups).solve(job)


def main(argv: Sequence[str] = ()) -> None:
    """Print seconds and ratios."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks packing", description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args(argv)
    import ray

    ray.init(num_cpus=2, include_dashboard=False, logging_level="error", log_to_driver=False)
    executors._solve_packed = solve_any
    ways = {"block": Packer, "plain": Plain, "joined": Joined}
    for states, models in ((50, 20_000), (200, 20_000), (2000, 2_000)):
        made = [instances.layered(f"M{i}", states, 10, budget=BUDGET, successors=3, seed=i).mdp for i in range(models)]
        seconds: dict[str, list[float]] = {name: [] for name in [*ways, "local"]}
        values = {}
        for run in range(-1, options.runs):
            for name in [*seconds] if run % 2 else [*seconds][::-1]:
                if name in ways:
                    executors.Packer = ways[name]
                executor = selfreg.RayExecutor(n_workers=2) if name in ways else selfreg.LocalExecutor(2)
                begin = time.perf_counter()
                values[name] = selfreg.sweep(made, BUDGET, executor=executor).value
                if run >= 0:
                    seconds[name].append(time.perf_counter() - begin)
        assert all(np.array_equal(value, values["block"]) for value in values.values())
        medians = {name: float(np.median(some)) for name, some in seconds.items()}
        ratios = {name: float(np.median(np.array(seconds[name]) / np.array(seconds["block"]))) for name in seconds}
        print(f"{models} models of {states} states:")
        for name in seconds:
            print(f"  {name:7s} {medians[name]:.3f} s, {ratios[name]:.2f} times the block", flush=True)
    ray.shutdown()


if __name__ == "__main__":
    main()
