"""Plain reachability against Storm: the best probability of success, each choice of a state a free help type, budget 0.

Storm's time is that of one query for all states with its sound methods, ours that of `solve` on a model that has not
been solved before: both begin with the arrays of the model and the analysis of its graph.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from importlib import import_module
from itertools import chain
from pathlib import Path
from time import process_time
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

import selfreg

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
# What Storm's sound methods promise by default.
STORM_PRECISION = 1e-6
# Rounding alone adds up to 2e-9 along 107,616 components that depend on each other.
TOLERANCES = {"layers 1e6": 1e-8}


class Branches(NamedTuple):
    """Branches of one choice: for each state that has it, a target and a probability; others have none."""

    states: Ints
    target: Ints
    probability: Floats


class Model(NamedTuple):
    """A model: one matrix a choice, the first available everywhere, and the values of terminal states."""

    name: str
    choices: list[sp.csr_array]
    terminal_value: Floats

    def mdp(self) -> selfreg.InterventionMDP:
        """A new `InterventionMDP`, which keeps no analysis of an earlier call."""
        names = ["nohelp", *(f"choice {k}" for k in range(2, len(self.choices) + 1))]
        costs = dict.fromkeys(names[1:], 0)
        return selfreg.InterventionMDP(dict(zip(names, self.choices, strict=True)), self.terminal_value, costs)


def matrix(n: int, parts: Sequence[Branches]) -> sp.csr_array:
    states, targets, mass = (np.concatenate([part[i] for part in parts]) for i in range(3))
    result = sp.csr_array((mass, (states, targets)), shape=(n, n))
    result.sum_duplicates()
    return result


def consensus(processes: int, bound: int) -> Model:
    """Processes that share a coin: each flips and then moves a common counter; ends at `bound` (success) or -`bound`.

    The choice is which process goes next. A process is idle, or has to move the counter up or down; the first leans
    to success, the last to failure.
    """
    width, kinds = 2 * bound + 1, 3**processes
    state = np.arange(width * kinds)
    counter, rest = np.divmod(state, kinds)
    ends = (counter == 0) | (counter == width - 1)
    live = np.flatnonzero(~ends)
    choices = []
    for k in range(processes):
        place = 3**k
        phase = rest[live] // place % 3
        up = 0.5 + 0.02 * (processes - 1 - 2 * k) / processes
        idle, rise, fall = (live[phase == i] for i in range(3))
        parts = [
            Branches(idle, idle + place, np.full(len(idle), up)),
            Branches(idle, idle + 2 * place, np.full(len(idle), 1 - up)),
            Branches(rise, rise - place + kinds, np.ones(len(rise))),
            Branches(fall, fall - 2 * place - kinds, np.ones(len(fall))),
        ]
        choices.append(matrix(len(state), parts))
    value = np.where(ends, (counter == width - 1).astype(np.float64), np.nan)
    return Model(f"consensus, {processes} processes", choices, value)


def zeroconf(probes: int, waits: int, free: float = 0.9, seed: int = 0) -> Model:
    """Probes of an address that is in use: success is that all are lost. After a reply the next is `free` or not.

    State (probes sent, time waited); the choices are to probe now or to wait, which makes a loss less likely.
    """
    random, n = np.random.default_rng(seed), probes * waits
    state = np.arange(n)
    sent, waited = np.divmod(state, waits)
    accepted, failed = n, n + 1
    loss = (0.2 + 0.6 * random.random(n)) / (1 + waited / waits)
    reply = np.where(random.random(n) < 0.5, 0, random.integers(0, waits, n))
    fresh = free * (1 - loss)
    after = np.where(sent == probes - 1, accepted, np.minimum((sent + 1) * waits + waited // 2, n - 1))
    probe = [
        Branches(state, after, loss),
        Branches(state, reply, 1 - loss - fresh),
        Branches(state, np.full(n, failed), fresh),
    ]
    can = np.flatnonzero(waited < waits - 1)
    early = 0.1 * random.random(len(can))
    wait = [Branches(can, can + 1, 1 - early), Branches(can, reply[can], early)]
    value = np.concatenate([np.full(n, np.nan), [1.0, 0.0]])
    return Model(f"zeroconf, {probes} probes", [matrix(n + 2, probe), matrix(n + 2, wait)], value)


def neighbours(n: int, span: int, leak: float, seed: int = 0) -> Model:
    """Three choices with three successors each, at most `span` away on a circle; `leak` ends in success or failure."""
    random, state = np.random.default_rng(seed), np.arange(n)
    choices = []
    for _ in range(3):
        weight = (1 - leak) * random.dirichlet(np.ones(3), n)
        parts = [Branches(state, (state + random.integers(-span, span + 1, n)) % n, weight[:, i]) for i in range(3)]
        quality = leak * random.random(n)
        parts += [Branches(state, np.full(n, n), quality), Branches(state, np.full(n, n + 1), leak - quality)]
        choices.append(matrix(n + 2, parts))
    return Model(f"random, {span} away", choices, np.concatenate([np.full(n, np.nan), [1.0, 0.0]]))


def layers(n: int, width: int, seed: int = 0) -> Model:
    """Up to four choices, to the next layer of `width` states or back within the own one; ends as a logistic."""
    random, state = np.random.default_rng(seed), np.arange(n)
    choices = []
    for k in range(4):
        has = state if k == 0 else np.flatnonzero(random.random(n) < 0.6)
        own = has // width * width
        weight = random.dirichlet(np.ones(3), len(has))
        parts = [
            Branches(has, np.minimum(own + random.integers(0, width, len(has)), n - 1), weight[:, 0]),
            Branches(has, np.minimum(own + width + random.integers(0, width, len(has)), n), weight[:, 1]),
            Branches(has, np.minimum(own + width + random.integers(0, width, len(has)), n + 1), weight[:, 2]),
        ]
        choices.append(matrix(n + 2, parts))
    return Model(f"layers of {width}", choices, np.concatenate([np.full(n, np.nan), [1.0, 0.0]]))


# By number of states; Storm takes minutes on more neighbours, and on consensus with more processes.
MODELS: dict[str, Callable[[], Model]] = {
    "consensus 1e3": lambda: consensus(2, 60),
    "consensus 1e4": lambda: consensus(4, 60),
    "zeroconf 1e3": lambda: zeroconf(10, 100),
    "zeroconf 1e5": lambda: zeroconf(100, 1000),
    "random 1e3": lambda: neighbours(1000, 1000, 0.01),
    "random 1e4": lambda: neighbours(10_000, 10, 1e-4),
    "random 1e5": lambda: neighbours(100_000, 100, 0.01),
    "layers 1e3": lambda: layers(1000, 10),
    "layers 1e5": lambda: layers(100_000, 100),
    "layers 1e6": lambda: layers(1_000_000, 10),
}


def write_drn(model: Model, path: Path) -> None:
    """The model in Storm's text format."""
    n = len(model.terminal_value)
    success, live = model.terminal_value == 1.0, np.isnan(model.terminal_value)
    available = np.array([np.diff(choice.indptr) > 0 for choice in model.choices])
    count = np.maximum(available.sum(axis=0), 1)
    rows = [
        (choice.indptr.tolist(), choice.indices.tolist(), [repr(p) for p in choice.data.tolist()])
        for choice in model.choices
    ]
    with path.open("w") as file:
        file.write("@type: MDP\n@parameters\n\n@reward_models\n\n@nr_states\n")
        file.write(f"{n}\n@nr_choices\n{int(count.sum())}\n@model\n")
        for s in range(n):
            labels = (" init" if s == 0 else "") + (" success" if success[s] else "")
            lines, number = [f"state {s}{labels}"], 0
            for indptr, indices, data in rows if live[s] else ():
                if indptr[s] < indptr[s + 1]:
                    lines.append(f"\taction {number}")
                    lines += [f"\t\t{indices[e]} : {data[e]}" for e in range(indptr[s], indptr[s + 1])]
                    number += 1
            file.write("\n".join(chain(lines, [] if number else ["\taction 0", f"\t\t{s} : 1"], [""])))


def storm_call(model: Model) -> Callable[[], Any]:
    """The timed call: `Pmax=? [F "success"]` for all states by a sound method; the model is built beforehand."""
    stormpy: Any = import_module("stormpy")
    developer: Any = import_module("stormpy.developer")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.drn")
        write_drn(model, path)
        built = stormpy.build_model_from_drn(str(path))
    formula = stormpy.parse_properties('Pmax=? [F "success"]')[0]
    environment = developer.get_sound_environment()

    def solve() -> Any:
        return stormpy.model_checking(built, formula, environment=environment)

    return solve


def timed(call: Callable[[], Any], runs: int) -> tuple[float, Any]:
    """Least seconds of the processor in some runs, and the answer of the last; both solvers use one thread."""
    seconds = []
    for _ in range(runs):
        begin = process_time()
        answer = call()
        seconds.append(process_time() - begin)
    return min(seconds), answer


def compare(name: str, runs: int) -> bool:
    """Print the line of a model; whether the answers agree within the bound and Storm's precision."""
    model = MODELS[name]()
    models = iter([model.mdp() for _ in range(runs)])
    ours, solution = timed(lambda: selfreg.solve(next(models), 0, tol=TOLERANCES.get(name, 1e-9)), runs)
    theirs, answer = timed(storm_call(model), runs)
    value = np.array([answer.get_value(s) for s in range(len(model.terminal_value))])
    off = float(np.abs(value - solution.value[:, 0]).max())
    print(
        f"{name:15} {len(value):9,} states  {ours:8.4f} s, Storm {theirs:8.4f} s, ratio {ours / theirs:5.2f}; "
        f"bound {solution.bound:.0e}, differs by {off:.0e}",
        flush=True,
    )
    return bool(off <= solution.bound + STORM_PRECISION)


def main(argv: Sequence[str] = ()) -> None:
    """Print the seconds of both; exit 1 where the answers differ by more than both claim."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks reachability", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=MODELS, default=list(MODELS), metavar="MODEL")
    parser.add_argument("--runs", type=int, default=3)
    given = parser.parse_args(list(argv))
    selfreg.solve(consensus(2, 20).mdp(), 0)  # imports what is imported when it is needed
    right = [compare(name, given.runs) for name in given.only]
    if not all(right):
        sys.exit(1)
