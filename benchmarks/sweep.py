"""Many models and large ones: M against a loop over scipy, threads, Ray, growth on C, ten million states from disk.

Ratios are taken within one run, calls in turn, and the answers compared. `--quick` takes a tenth of the models and
leaves out C and the model on disk.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path

import numpy as np

import selfreg
from benchmarks import instances, peers
from benchmarks.instances import Floats, Instance
from benchmarks.solver import AT_LEAST, AT_MOST, Calls, Figure, Target, interleaved, milliseconds, ratio, table
from selfreg._util.parallel import LocalExecutor, RayExecutor
from selfreg.sweeps.results import Sweep

MODELS, RAY_MODELS, BUDGET = 10_000, 100_000, 8
HUGE_STATES, HUGE_BUDGET, HUGE_LAYERS, LIMIT_GIB = 10_000_000, 16, 40, 4.0
TARGETS = {
    ("M", "loop over scipy, 2 threads"): Target(AT_LEAST, 20),
    ("M", "1 thread / 2 threads"): Target(AT_LEAST, 1.8),
    ("M", "Ray, 2 workers / local"): Target(AT_MOST, 1.3),
    ("M, made where solved", "Ray, 2 workers / local"): Target(AT_MOST, 1.3),
    ("10 million states", "peak memory, GiB"): Target(AT_MOST, LIMIT_GIB),
}


def made(place: int) -> selfreg.InterventionMDP:
    """One model of the shape of M, a function of its place."""
    return instances.layered(f"M{place}", 200, 10, budget=BUDGET, successors=3, seed=place).mdp


def many(n_models: int, runs: int) -> list[Figure]:
    """M: one and two threads, with usage (as by default) and without, against scipy's values and policies."""
    models = instances.instance_m(n_models)
    mdps, theirs = [model.mdp for model in models], [peers.scipy_layers(model) for model in models]

    def swept(threads: int, keep: str = "usage") -> Callable[[], Sweep]:
        return lambda: selfreg.sweep(mdps, BUDGET, executor=selfreg.LocalExecutor(threads), keep=keep)

    calls: Calls = {
        "scipy": lambda: [call()[0] for call in theirs],
        "1": swept(1),
        "2": swept(2),
        "value": swept(2, "value"),
    }
    seconds = interleaved(calls, runs)
    one, two, expected = swept(1)(), swept(2)(), np.stack([call()[0] for call in theirs])
    difference = float(np.abs(one.value - expected).max())
    right = difference <= peers.SCIPY.tolerance
    same = np.array_equal(one.value, two.value) and np.array_equal(one.usage, two.usage)
    check = f"{n_models} models; differs by {difference:.0e}"
    shown = {"2": "loop over scipy, 2 threads", "1": "loop over scipy, 1 thread", "value": "the same, values only"}
    figures = [
        Figure("M", name, ratio(seconds, "scipy", key), f"{milliseconds(seconds, key, 'scipy')}; {check}", right)
        for key, name in shown.items()
    ]
    check = f"{milliseconds(seconds, '1', '2')}; {'the same' if same else 'not the same'} to the bit"
    return [*figures, Figure("M", "1 thread / 2 threads", ratio(seconds, "1", "2"), check, same)]


def through_ray(n_models: int, runs: int) -> list[Figure]:
    """M in memory, and M made where it is solved, on two workers of a cluster that is already there."""
    try:
        import ray
    except ImportError:
        return [Figure("M", "Ray, 2 workers / local", None, "not installed")]
    ray.init(num_cpus=2, include_dashboard=False, logging_level="error", log_to_driver=False)
    mdps = [made(place) for place in range(n_models)]
    grid = selfreg.ModelGrid(made, {"place": range(n_models // 10)})
    executors: dict[str, LocalExecutor | RayExecutor] = {
        "local": selfreg.LocalExecutor(2),
        "ray": selfreg.RayExecutor(n_workers=2),
    }
    figures = []
    for name, models in (("M", mdps), ("M, made where solved", grid)):
        found: dict[str, Sweep] = {}

        def call(kind: str, models: object = models, found: dict[str, Sweep] = found) -> None:
            found[kind] = selfreg.sweep(models, BUDGET, executor=executors[kind])

        call("ray")  # workers import what they need once
        seconds = {kind: np.empty(runs) for kind in executors}
        for run in range(runs):
            for kind in executors:
                begin = time.perf_counter()
                call(kind)
                seconds[kind][run] = time.perf_counter() - begin
        same = np.array_equal(found["local"].value, found["ray"].value)
        check = (
            f"{milliseconds(seconds, 'ray', 'local')} for {len(found['ray'])}; {'the same' if same else 'other'} bits"
        )
        figures.append(Figure(name, "Ray, 2 workers / local", ratio(seconds, "ray", "local"), check, same))
    ray.shutdown()
    return figures


def growth(runs: int = 3) -> list[Figure]:
    """C with 64 budgets and 200 start distributions at four sizes: seconds a state should stay the same.

    With keep="start" the results of all states need not be written: what is left of the growth is the caches'.
    """
    starts = np.random.default_rng(0).dirichlet(np.ones(100), 200)
    solved: dict[str, selfreg.Solution] = {}

    def calls(n_states: int) -> Calls:
        mdp = instances.layered("C", n_states, 40, budget=64, seed=0).mdp

        def solve() -> None:
            solved[str(n_states)] = selfreg.solve(mdp, 64)

        return {str(n_states): solve, f"{n_states} start": lambda: selfreg.solve(mdp, 64, keep="start", start=0)}

    sizes = (62_480, 125_000, 250_000, 500_000)
    seconds = interleaved({name: call for n in sizes for name, call in calls(n).items()}, runs)
    figures = []
    for n, kept in product(sizes, ("", " start")):
        relative = float(np.median(seconds[f"{n}{kept}"] / n * sizes[0] / seconds[f"{sizes[0]}{kept}"]))
        name = f"{n} states: time a state, relative"
        if kept:
            figures.append(Figure("C", f"{name}, keep=start", relative, milliseconds(seconds, f"{n}{kept}")))
            continue
        solution = solved[str(n)]
        value = starts @ solution.value[:100]
        memory = (solution.value.nbytes + solution.policy.nbytes) / 2**20
        check = f"{milliseconds(seconds, str(n))}, {memory:.0f} MiB of results"
        figures.append(Figure("C", name, relative, check, bool(np.all(np.diff(value, axis=1) >= -1e-12))))
    return figures


SOLVE = """
import sys, time
import numpy as np, selfreg
begin = time.perf_counter()
mdp = selfreg.InterventionMDP.open(sys.argv[1])
opened = time.perf_counter() - begin
start = np.zeros(mdp.n_states)
start[: int(sys.argv[3])] = 1 / int(sys.argv[3])
begin = time.perf_counter()
found = selfreg.solve(mdp, int(sys.argv[2]), keep="start", start=start)
seconds = time.perf_counter() - begin
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]
print(opened, seconds, int(peak) / 2**20, *found.value)
"""


def from_disk(n_states: int = HUGE_STATES, budget: int = HUGE_BUDGET) -> list[Figure]:
    """A model that is written, then solved by another process from its mapped arrays; all resident pages count."""
    width = n_states // HUGE_LAYERS
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model"
        instance: Instance | None = instances.layered("huge", n_states, HUGE_LAYERS, budget=budget)
        assert instance is not None
        instance.mdp.save(path)
        low = float(selfreg.solve(instance.mdp, 0, keep="start", start=_first(instance, width)).value[0])
        instance = None
        size = sum(file.stat().st_size for file in path.iterdir()) / 2**30
        command = [sys.executable, "-c", SOLVE, str(path), str(budget), str(width)]
        opened, seconds, peak, *value = map(
            float, subprocess.run(command, check=True, capture_output=True).stdout.split()
        )
    check = f"{size:.2f} GiB on disk; checked in {opened:.1f} s, solved in {seconds:.1f} s; success {value[0]:.4f} to "
    right = abs(value[0] - low) <= 1e-12 and bool(np.all(np.diff(value) >= 0))
    return [
        Figure(f"{n_states // 1_000_000} million states", "peak memory, GiB", peak, f"{check}{value[-1]:.4f}", right)
    ]


def _first(instance: Instance, width: int) -> Floats:
    start = np.zeros(instance.mdp.n_states)
    start[:width] = 1 / width
    return start


def main(argv: Sequence[str] = ()) -> None:
    """Print the table; exit with 1 if an answer is wrong."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks sweep", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the models, neither C nor the model on disk")
    quick = parser.parse_args(argv).quick
    share = 10 if quick else 1
    lines = many(MODELS // share, 3)
    lines += through_ray(RAY_MODELS // share, 3)
    if not quick:
        lines += growth() + from_disk()
    print(table(lines, TARGETS))
    if not all(line.right for line in lines):
        sys.exit(1)
