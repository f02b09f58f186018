"""`python -m benchmarks compare TREE`: this tree's times over those of another tree, an earlier commit's for example.

A process a tree, kernels built in both; the processes take turns, so that both meet the same machine, and are started
anew a few times, for where memory lies changes times by 10%. What is printed is the median of the ratios of all turns;
every answer is compared. The cases use names that both trees must have.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

import selfreg
from benchmarks import instances
from benchmarks.instances import Floats, Instance
from benchmarks.solver import TURN_SECONDS

HERE = Path(__file__).resolve().parent.parent
N_MODELS = 300
Case = Callable[[], Callable[[], Floats]]


def solving(make: Callable[[], Instance], n_threads: int | None = None) -> Case:
    """`solve` on an instance; the answer is the values at the largest budget."""

    def prepare() -> Callable[[], Floats]:
        instance = make()
        return lambda: selfreg.solve(instance.mdp, instance.budget, n_threads=n_threads, tol=1e-9).value[:, -1]

    return prepare


def tracing(make: Callable[[], Instance]) -> Case:
    """The frontier to 1e-6 from the middle of the first layer; the answer is its first and last success."""

    def prepare() -> Callable[[], Floats]:
        instance = make()
        start = 0 if instance.layers is None else int(instance.layers[1]) // 2
        return lambda: selfreg.frontier(instance.mdp, start, tol=1e-6).success[[0, -1]]

    return prepare


def constructing() -> Callable[[], Floats]:
    """Validation and construction of the model of C."""
    instance = instances.instance_c()
    return lambda: instances.construct(instance.transitions, instance.terminal_value).terminal_value[-2:]


def many() -> Callable[[], Floats]:
    """Small models one after another in a loop."""
    models = instances.instance_m(N_MODELS)
    return lambda: np.array([selfreg.solve(model.mdp, model.budget).value[0, -1] for model in models])


def sweeping() -> Callable[[], Floats]:
    """Small models by `sweep`."""
    models = [model.mdp for model in instances.instance_m(N_MODELS)]
    return lambda: selfreg.sweep(models, 8).value[:, -1]


CASES: dict[str, Case] = {
    "solve A": solving(instances.instance_a),
    "solve A, 1 thread": solving(instances.instance_a, 1),
    "solve B": solving(instances.instance_b),
    "solve C": solving(instances.instance_c),
    "solve C, 1 thread": solving(instances.instance_c, 1),
    "solve T": solving(instances.instance_t),
    "construct C": constructing,
    "solve M, in a loop": many,
    "sweep M": sweeping,
    "frontier A": tracing(instances.instance_a),
    "frontier B": tracing(instances.instance_b),
}


def main(arguments: Sequence[str] = ()) -> None:
    """Print a line a case: ratio, times, whether the answers are equal."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks compare", description=__doc__)
    parser.add_argument("tree", type=Path, help="root of the other tree, its kernels built")
    parser.add_argument("--starts", type=int, default=5, help="pairs of processes a case (default 5)")
    parser.add_argument("--turns", type=int, default=9, help="turns of each pair (default 9)")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES), help="some of the cases only")
    options = parser.parse_args(arguments)
    print(f"{'case':<20} {'this / other':>12} {'quartiles':>13} {'this ms':>9} {'other ms':>9}  answers")
    for name in options.cases:
        print(compared(name, options.tree, options.starts, options.turns), flush=True)


def compared(name: str, tree: Path, starts: int, turns: int) -> str:
    """One line of the table."""
    pairs = [timed_pair(name, tree, turns) for _ in range(starts)]
    seconds = np.concatenate([times for times, _ in pairs])
    difference = max(difference for _, difference in pairs)
    ratios = seconds[:, 0] / seconds[:, 1]
    low, middle, high = np.quantile(ratios, [0.25, 0.5, 0.75])
    ours, theirs = 1e3 * np.median(seconds, axis=0)
    check = "equal" if difference == 0 else f"differ by {difference:.0e}"
    return f"{name:<20} {middle:>12.3f} {low:>6.2f} {high:>6.2f} {ours:>9.4g} {theirs:>9.4g}  {check}"


def timed_pair(name: str, tree: Path, turns: int) -> tuple[Floats, float]:
    """Seconds (turns, 2) of this tree and the other, and by how much their answers differ."""
    workers = [Worker(name, root) for root in (HERE, tree)]
    try:
        seconds = np.array([[worker.turn() for worker in workers] for _ in range(turns)])
        return seconds, max(abs(a - b) for a, b in zip(*(worker.answer for worker in workers), strict=True))
    finally:
        for worker in workers:
            worker.close()


class Worker:
    """A process with the package of one tree and the benchmarks of this one; `turn` times a case once there."""

    def __init__(self, name: str, tree: Path):
        source = tree.resolve() / "src"
        if not (source / "selfreg").is_dir():
            raise SystemExit(f"{tree}: no src/selfreg there")
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(source), str(HERE)])}
        command = [sys.executable, "-c", f"from benchmarks.compare import serve_turns; serve_turns({name!r})"]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=HERE
        )
        ready = self._ask()
        if Path(ready["package"]).parent.parent != source:
            raise SystemExit(f"{tree}: {ready['package']} was imported")
        self.answer: list[float] = ready["answer"]

    def turn(self) -> float:
        """Seconds a call."""
        return float(self._ask()["seconds"])

    def _ask(self) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("a worker ended: see its message above")
        return dict(json.loads(line))

    def close(self) -> None:
        self._process.communicate()


def serve_turns(name: str) -> None:
    """What a worker does: first its package and answer, then the seconds of a turn for every line of the input."""
    call = CASES[name]()
    answer = call()
    start = perf_counter()
    call()
    repeats = max(1, int(TURN_SECONDS / (perf_counter() - start)))
    for count, _ in enumerate(sys.stdin):
        if count == 0:
            reply: dict[str, Any] = {"package": selfreg.__file__, "answer": [float(x) for x in answer]}
        else:
            start = perf_counter()
            for _ in range(repeats):
                call()
            reply = {"seconds": (perf_counter() - start) / repeats}
        print(json.dumps(reply), flush=True)
