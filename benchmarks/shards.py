"""One model on many machines, simulated: what components, measured times and a network would give.

Levels of the condensation are worked off one after another; each level is cut into as many stretches of equal work as
there are workers. A worker fetches the values of the successors that others own, once a level, and all wait for the
slowest. What a state costs is measured here, on one thread; the network is told by the options. Nothing is sent.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

import selfreg
from benchmarks import instances
from benchmarks.instances import Floats
from benchmarks.solver import Figure, progress, table
from selfreg.mdp import InterventionMDP
from selfreg.planning._structure import Levels, load_structure

Ints = npt.NDArray[np.int64]
WORKERS = (2, 8, 32)


class Network(NamedTuple):
    """Bytes a second into one worker, and seconds until the next level begins when all are done."""

    bandwidth: float
    latency: float


class Shape(NamedTuple):
    """A model as a scheduler sees it.

    Attributes
    ----------
    component, level : int64 (n,)
        Of every state; components of a level do not look at each other.
    seconds : float64 (n,)
        Its share of the measured time.
    """

    component: Ints
    level: Ints
    seconds: Floats


def shape_of(mdp: InterventionMDP, budget: int) -> tuple[Shape, float]:
    """Components and levels of a model, and the seconds that it takes on one thread, shared out by entries."""
    begin = time.perf_counter()
    selfreg.solve(mdp, budget, n_threads=1)
    seconds = time.perf_counter() - begin
    entries = sum(np.diff(matrix.indptr) for matrix in mdp.transitions.values()) + 1.0
    share = seconds * entries / entries.sum()
    _, structure = load_structure(mdp, None)
    if isinstance(structure, Levels):
        return Shape(np.arange(mdp.n_states), structure.level.astype(np.int64), share), seconds
    component = structure.component.astype(np.int64)
    return Shape(component, _levels(mdp, component), share), seconds


def _levels(mdp: InterventionMDP, component: Ints) -> Ints:
    """Longest path to an end of the condensation, of the component of every state."""
    live = ~mdp.terminal
    edges = [(component[m.row], component[m.col]) for m in (p.tocoo() for p in mdp.transitions.values())]
    rows, columns = (np.concatenate(part) for part in zip(*edges, strict=True))
    count = int(component.max()) + 1
    graph = sp.csr_array((np.ones(len(rows), np.int8), (rows, columns)), shape=(count, count))
    live_component = np.bincount(component, live, count) > 0
    level = np.zeros(count, np.int64)
    while True:  # as many rounds as there are levels
        coo = graph.tocoo()
        after = np.zeros(count, np.int64)
        np.maximum.at(after, coo.row, np.where(coo.row == coo.col, 0, level[coo.col] + 1))
        after[~live_component] = 0
        if np.array_equal(after, level):
            return level[component]
        level = after


def simulated(mdp: InterventionMDP, shape: Shape, lattice: int, workers: int, network: Network) -> tuple[float, float]:
    """Seconds on so many workers, and the bytes that the busiest of them fetches."""
    owner = _owners(shape, workers)
    seconds, fetched = 0.0, np.zeros(workers)
    order = np.argsort(shape.level, kind="stable")
    ends = np.searchsorted(shape.level[order], np.arange(shape.level.max() + 2))
    for first, last in pairwise(ends.tolist()):
        states = order[first:last]
        compute = np.bincount(owner[states], shape.seconds[states], workers)
        volume = 8 * lattice * _foreign(mdp, states, owner, workers)
        seconds += float((compute + volume / network.bandwidth).max()) + network.latency
        fetched += volume
    return seconds, float(fetched.max())


def _owners(shape: Shape, workers: int) -> Ints:
    """Worker of every state: components of a level in order, cut where the work is an equal share."""
    by_component = np.lexsort((shape.component, shape.level))
    level, work = shape.level[by_component], shape.seconds[by_component]
    before = np.cumsum(work) - work
    start = np.searchsorted(level, level)
    total = np.bincount(level, work)[level]
    first = np.r_[True, shape.component[by_component][1:] != shape.component[by_component][:-1]]
    at_start = np.maximum.accumulate(np.where(first, np.arange(len(level)), 0))
    share = ((before - before[start])[at_start] / np.maximum(total, 1e-300) * workers).astype(np.int64)
    owner = np.empty(len(level), np.int64)
    owner[by_component] = np.minimum(share, workers - 1)
    return owner


def _foreign(mdp: InterventionMDP, states: Ints, owner: Ints, workers: int) -> Floats:
    """Successors of `states` that another worker owns, by worker."""
    pairs = []
    for matrix in mdp.transitions.values():
        length = np.diff(matrix.indptr)[states]
        first = np.repeat(matrix.indptr[states] - np.r_[0, np.cumsum(length)[:-1]], length)
        successor = matrix.indices[first + np.arange(length.sum())].astype(np.int64)
        here = np.repeat(owner[states], length)
        pairs.append((here * mdp.n_states + successor)[here != owner[successor]])
    found = np.unique(np.concatenate(pairs))
    return np.bincount(found // mdp.n_states, minlength=workers).astype(np.float64)


def blocks(side_by_side: int, rows: int, size: int, seed: int = 0) -> InterventionMDP:
    """Components of `size` states: `rows` of them in a chain, `side_by_side` such chains."""
    random = np.random.default_rng(seed)
    count = side_by_side * rows
    n = count * size
    transitions = {}
    for name in ("nohelp", "help"):
        inside = random.integers(0, size, (n, 4)) + (np.arange(n) // size * size)[:, None]
        following = np.minimum(np.arange(n) + side_by_side * size, n)  # the chain's next block; success at its end
        targets = np.concatenate([inside, following[:, None], np.full((n, 1), n + 1)], axis=1)
        data = np.tile([0.24, 0.24, 0.24, 0.24, 0.03, 0.01], (n, 1))
        data[:, 4:] = [0.02, 0.02] if name == "nohelp" else [0.03, 0.01]
        indptr = np.minimum(np.arange(n + 3) * 6, n * 6)
        matrix = sp.csr_array((data.ravel(), targets.ravel(), indptr), shape=(n + 2, n + 2))
        matrix.sum_duplicates()
        transitions[name] = matrix
    return InterventionMDP(transitions, [*np.full(n, np.nan), 1, 0], {"help": 1})


def figures(states: int, budget: int, network: Network) -> list[Figure]:
    """Simulated speed-up of every model, for every number of workers."""
    width = states // 40
    models: dict[str, Callable[[], InterventionMDP]] = {
        f"{states:,} states by level": lambda: instances.layered("local", 40 * width, 40, budget=budget).mdp,
        "256 components of 500 states": lambda: blocks(64, 4, 500),
        "8 components in a chain": lambda: blocks(1, 8, 1000),
        "one component of 5,000": lambda: instances.cyclic("B", 5_000, budget=budget).mdp,
    }
    lines = []
    for name, make in models.items():
        progress(name)
        mdp = make()
        shape, alone = shape_of(mdp, budget)
        sizes = np.bincount(shape.component)
        size = sum(part.nbytes for m in mdp.transitions.values() for part in (m.indptr, m.indices, m.data))
        for workers in WORKERS:
            seconds, fetched = simulated(mdp, shape, budget + 1, workers, network)
            sent = size / network.bandwidth
            check = (
                f"{alone:.2f} s on one thread; largest of {len(sizes):,} components {sizes.max():,}; "
                f"{fetched / 2**20:.1f} MiB into a worker; {alone / (seconds + sent):.2g} if the model must be sent"
            )
            lines.append(Figure(name, f"{workers} workers, simulated", alone / seconds, check))
    return lines


def main(argv: Sequence[str] = ()) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks shards", description=__doc__)
    parser.add_argument("--states", type=int, default=1_000_000, help="of the model without cycles")
    parser.add_argument("--budget", type=int, default=16)
    parser.add_argument("--bandwidth", type=float, default=1.25e9, help="bytes a second into a worker (10 Gbit)")
    parser.add_argument("--latency", type=float, default=0.002, help="seconds a level (a round of Ray tasks)")
    options = parser.parse_args(argv)
    network = Network(options.bandwidth, options.latency)
    print(f"network: {network.bandwidth / 1e9:g} GB/s into a worker, {network.latency * 1000:g} ms a level")
    print(table(figures(options.states, options.budget, network), {}))
