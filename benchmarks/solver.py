"""The solver's figures: one table of ratios to peers, growth, memory and bandwidth, every answer checked.

Each ratio is taken within one run, all calls of an instance in turn; what is printed is the median over the runs. Times
are of the whole `selfreg.solve` call on a validated model; peers fill in values and a policy likewise, if they can.
"""

from __future__ import annotations

import argparse
import gc
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter
from typing import NamedTuple

import numpy as np

import selfreg
from benchmarks import instances, peers
from benchmarks.instances import Floats, Instance
from benchmarks.peers import Peer

RUNS, QUICK_RUNS = 7, 3
TOLERANCE = 1e-9
COPIED_BYTES = 2**26  # about what C moves, and more than caches hold
TURN_SECONDS, LONG_SECONDS = 5e-3, 0.25


class Target(NamedTuple):
    """What a figure is to reach; the wording is the table's."""

    relation: str
    number: float


AT_LEAST, AT_MOST = ">=", "<="

# (instance, figure) -> target; figures without one are printed for information.
TARGETS = {
    ("A", peers.SCIPY.name): Target(AT_LEAST, 4),
    ("A", peers.STORM.name): Target(AT_LEAST, 100),
    ("B", peers.SCIPY_SWEEPS.name): Target(AT_LEAST, 10),
    ("C", "scipy, 1 thread"): Target(AT_LEAST, 1.8),
    ("C", "scipy, 2 threads"): Target(AT_LEAST, 3),
    ("C", "peak memory / scipy's"): Target(AT_MOST, 1.3),
    ("C", "time / memory bound, 2 threads"): Target(AT_MOST, 1.5),
    ("C", "construction / solve, 2 threads"): Target(AT_MOST, 2),
    ("C", "new memory / out=, 1 thread"): Target(AT_LEAST, 1.3),
    ("C", "new memory / out=, 2 threads"): Target(AT_LEAST, 1.3),
    ("T", "microseconds a call"): Target(AT_MOST, 100),
    ("A", "10x states"): Target(AT_MOST, 11),
    ("A", "budgets 0..64 / 0..16"): Target(AT_MOST, 3),
    ("B", "10x states"): Target(AT_MOST, 11),
    ("B", "budgets 0..64 / 0..16"): Target(AT_MOST, 3),
}


class Figure(NamedTuple):
    """A line of the table; `number` is None where nothing could be measured, `right` False where an answer is wrong."""

    instance: str
    name: str
    number: float | None
    check: str
    right: bool = True

    def verdict(self, targets: Targets) -> str:
        target = targets.get((self.instance, self.name))
        if not self.right:
            return "WRONG"
        if target is None or self.number is None:
            return ""
        met = self.number >= target.number if target.relation == AT_LEAST else self.number <= target.number
        return "met" if met else "missed"


Targets = Mapping[tuple[str, str], Target]
Calls = dict[str, Callable[[], object]]
Seconds = dict[str, Floats]


def solver(instance: Instance, n_threads: int | None = None) -> Callable[[], selfreg.Solution]:
    """The call that is measured."""
    return lambda: selfreg.solve(instance.mdp, instance.budget, n_threads=n_threads, tol=TOLERANCE)


def solver_into(instance: Instance, n_threads: int) -> Callable[[], selfreg.Solution]:
    """The call with the memory of an earlier solution."""
    mdp, budget = instance.mdp, instance.budget
    out = selfreg.solve(mdp, budget, n_threads=n_threads, tol=TOLERANCE)
    return lambda: selfreg.solve(mdp, budget, n_threads=n_threads, tol=TOLERANCE, out=out)


def interleaved(calls: Mapping[str, Callable[[], object]], runs: int) -> Seconds:
    """Seconds of every call in every run, (runs,) each; the calls take turns.

    Short calls are repeated within a turn, and a call that is not timed precedes them: all find their own data in the
    caches. To long calls that makes no difference.
    """
    once = {name: _seconds(call, 1) for name, call in calls.items()}
    repeats = {name: max(1, int(TURN_SECONDS / seconds)) for name, seconds in once.items()}
    seconds = {name: np.empty(runs) for name in calls}
    gc.collect()
    gc.disable()
    try:
        for run in range(runs):
            for name, call in calls.items():
                if once[name] < LONG_SECONDS:
                    call()
                seconds[name][run] = _seconds(call, repeats[name])
    finally:
        gc.enable()
    return seconds


def _seconds(call: Callable[[], object], repeats: int) -> float:
    start = perf_counter()
    for _ in range(repeats):
        call()
    return (perf_counter() - start) / repeats


def prepared(instance: Instance, group: Sequence[Peer]) -> dict[str, peers.Call]:
    """Timed calls of the peers that are installed."""
    calls = {}
    for peer in group:
        try:
            calls[peer.name] = peer.prepare(instance)
        except ImportError:
            continue
    return calls


def against(instance: Instance, group: Sequence[Peer], runs: int) -> list[Figure]:
    """How many times faster than each peer, with the threads that `solve` takes by itself."""
    progress(instance.name)
    calls, ours = prepared(instance, group), solver(instance)
    seconds = interleaved({"selfreg": ours, **calls}, runs)
    solution = ours()
    return [compared(instance, peer, calls, solution, seconds) for peer in group]


def one_thread(instance: Instance, peer: Peer, runs: int) -> Figure:
    calls, ours = prepared(instance, [peer]), solver(instance, 1)
    seconds = interleaved({"selfreg": ours, **calls}, runs)
    return compared(instance, peer, calls, ours(), seconds, name=f"{peer.name}, 1 thread")


def compared(
    instance: Instance,
    peer: Peer,
    calls: Mapping[str, peers.Call],
    solution: selfreg.Solution,
    seconds: Seconds,
    ours: str = "selfreg",
    name: str | None = None,
) -> Figure:
    """The figure of one peer: time ratio, and whether the answers agree within what both claim."""
    name = name or peer.name
    if peer.name not in calls:
        return Figure(instance.name, name, None, "not installed")
    difference = float(np.nanmax(np.abs(calls[peer.name]() - solution.value)))
    allowed = peer.tolerance + solution.bound
    check = f"differs by {difference:.0e}, allowed {allowed:.0e}, bound {solution.bound:.0e}"
    right = difference <= allowed and solution.bound <= TOLERANCE
    times = milliseconds(seconds, ours, peer.name)
    return Figure(instance.name, name, ratio(seconds, peer.name, ours), f"{times}; {check}", right)


def ratio(seconds: Seconds, over: str, under: str = "selfreg") -> float:
    return float(np.median(seconds[over] / seconds[under]))


def milliseconds(seconds: Seconds, *names: str) -> str:
    return " against ".join(f"{1e3 * np.median(seconds[name]):.3g}" for name in names) + " ms"


# Groups of figures ---------------------------------------------------------------------------------------------------


def tiny(runs: int) -> list[Figure]:
    """T against all that can do it, and what a call takes."""
    instance = instances.instance_t()
    group = [peers.SCIPY, peers.NUMBA, peers.QUANTECON, peers.MDPTOOLBOX]
    seconds = interleaved({"selfreg": solver(instance)}, runs)["selfreg"]
    check = f"best of {runs} runs {1e6 * seconds.min():.0f}"
    return [
        Figure("T", "microseconds a call", 1e6 * float(np.median(seconds)), check),
        *against(instance, group, runs),
    ]


def many(runs: int, n_models: int = 1_000) -> list[Figure]:
    """Part of M, one model after another in a loop."""
    progress("M")
    models = instances.instance_m(n_models)
    ours, theirs = [solver(model) for model in models], [peers.scipy_layers(model) for model in models]
    calls: Calls = {"selfreg": lambda: [call() for call in ours], "scipy": lambda: [call() for call in theirs]}
    seconds = interleaved(calls, runs)
    difference = max(float(np.max(np.abs(a().value - b()))) for a, b in zip(ours, theirs, strict=True))
    check = f"{milliseconds(seconds, 'selfreg', 'scipy')} for {n_models} models; differs by {difference:.0e}"
    return [Figure("M", "scipy", ratio(seconds, "scipy"), check, difference <= peers.SCIPY.tolerance)]


def growth(make: Callable[..., Instance], small: int, runs: int) -> list[Figure]:
    """Ten times the states from `small`; at the instance's own size, budgets 0..64 for 0..16."""
    plain = make()
    progress(f"growth of {plain.name}")
    calls: Calls = {
        "small": solver(make(n_states=small)),
        "large": solver(make(n_states=10 * small)),
        "0..16": solver(plain),
        "0..64": solver(make(budget=64)),
    }
    seconds = interleaved(calls, runs)
    states = f"{milliseconds(seconds, 'small', 'large')}; {small} and {10 * small} states"
    budgets = milliseconds(seconds, "0..16", "0..64")
    return [
        Figure(plain.name, "10x states", ratio(seconds, "large", "small"), states),
        Figure(plain.name, "budgets 0..64 / 0..16", ratio(seconds, "0..64", "0..16"), budgets),
    ]


def large(runs: int) -> list[Figure]:
    """C: peers, threads, construction and the memory bound in the same runs; peak memory in processes of its own."""
    progress("C")
    instance = instances.instance_c()
    group = [peers.SCIPY, peers.SCIPY_READY, peers.NUMBA]
    calls = prepared(instance, group)
    ours = {f"{k} thread{'s' * (k > 1)}": solver(instance, k) for k in (1, 2)}
    copies = {f"copy, {name}": copy_call(k) for k, name in enumerate(ours, 1)}
    # What the system must first give, as it must for every solution.
    copies["copy, new"] = np.ones(COPIED_BYTES // 8).copy
    reused = {f"out=, {name}": solver_into(instance, k) for k, name in enumerate(ours, 1)}
    construct: Calls = {"construction": lambda: instances.construct(instance.transitions, instance.terminal_value)}
    seconds = interleaved({**ours, **reused, **calls, **construct, **copies}, runs)
    figures = [
        compared(instance, peer, calls, call(), seconds, threads, f"{peer.name}, {threads}")
        for peer in group
        for threads, call in ours.items()
    ]
    figures += [thread_gain(ours, seconds), construction(instance, seconds)]
    figures += [memory_gain(call, reused[f"out=, {name}"], seconds, name) for name, call in ours.items()]
    figures += [memory_bound(instance, seconds, threads, f"memory bound, {threads}") for threads in ours]
    figures += [memory_bound(instance, seconds, "2 threads", "copying to new memory", "copy, new")]
    return [*figures, peak_memory()]


def thread_gain(ours: Mapping[str, Callable[[], selfreg.Solution]], seconds: Seconds) -> Figure:
    one, two = (call() for call in ours.values())
    same = np.array_equal(one.value, two.value) and np.array_equal(one.policy, two.policy)
    check = f"{milliseconds(seconds, *ours)}; {'the same' if same else 'not the same'} to the bit"
    return Figure("C", "1 thread / 2 threads", ratio(seconds, "1 thread", "2 threads"), check, same)


def memory_gain(
    new: Callable[[], selfreg.Solution], reused: Callable[[], selfreg.Solution], seconds: Seconds, threads: str
) -> Figure:
    one, two = new(), reused()
    same = np.array_equal(one.value, two.value) and np.array_equal(one.policy, two.policy)
    check = f"{milliseconds(seconds, threads, f'out=, {threads}')}; {'the same' if same else 'not the same'} to the bit"
    return Figure("C", f"new memory / out=, {threads}", ratio(seconds, threads, f"out=, {threads}"), check, same)


def construction(instance: Instance, seconds: Seconds) -> Figure:
    pairs = [(instance.transitions[name], matrix) for name, matrix in instance.mdp.transitions.items()]
    parts = [(getattr(a, part), getattr(b, part)) for a, b in pairs for part in ("data", "indices", "indptr")]
    shared = all(np.shares_memory(a, b) for a, b in parts)
    check = f"{milliseconds(seconds, '2 threads', 'construction')}; {'nothing' if shared else 'something'} is copied"
    number = ratio(seconds, "construction", "2 threads")
    return Figure("C", "construction / solve, 2 threads", number, check, shared)


def copy_call(n_threads: int) -> Callable[[], object]:
    """Copies COPIED_BYTES to memory that has been written before, a share a thread."""
    source, target = np.ones(COPIED_BYTES // 8), np.zeros(COPIED_BYTES // 8)
    shares = list(zip(np.array_split(target, n_threads), np.array_split(source, n_threads), strict=True))
    pool = ThreadPoolExecutor(n_threads)
    return lambda: list(pool.map(lambda share: np.copyto(*share), shares))


def memory_bound(instance: Instance, seconds: Seconds, threads: str, name: str, copy: str | None = None) -> Figure:
    """The solve's time over that of moving, at the speed of a copy, each input once in and each output once out.

    Successors lie in the layer solved before, which the caches hold: they are not read from memory again. `copy` names
    the call whose speed counts, by default the copy with as many threads.
    """
    shape = (instance.mdp.n_states, instance.budget + 1)
    moved = instance.terminal_value.nbytes + 9 * int(np.prod(shape))  # value float64, policy int8
    for matrix in instance.mdp.transitions.values():
        moved += matrix.data.nbytes + matrix.indices.nbytes + matrix.indptr.nbytes
    speed = 2 * COPIED_BYTES / seconds[copy or f"copy, {threads}"]
    number = float(np.median(seconds[threads] * speed / moved))
    check = f"{moved / 1e6:.0f} MB at {np.median(speed) / 1e9:.1f} GB/s take {1e3 * np.median(moved / speed):.3g} ms"
    return Figure("C", f"time / {name}", number, check)


# Peak memory ---------------------------------------------------------------------------------------------------------


def peak_memory() -> Figure:
    name = "peak memory / scipy's"
    if not os.access("/proc/self/clear_refs", os.W_OK):
        return Figure("C", name, None, "needs Linux's /proc")
    ours, scipy = (_peak_in_new_process(who) for who in ("selfreg", "scipy"))
    return Figure("C", name, ours / scipy, f"{ours / 1e6:.0f} against {scipy / 1e6:.0f} MB beyond the model")


def _peak_in_new_process(who: str) -> int:
    return peak_of(f"from benchmarks.solver import print_peak; print_peak({who!r})")


def peak_of(code: str) -> int:
    """What `code`, which ends in `print_growth`, prints in a process of its own."""
    # Fixed threshold: large arrays come from the system and go back to it, so that none hides in freed memory.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}
    command = [sys.executable, "-c", code]
    return int(subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout)


def print_peak(who: str) -> None:
    """Print the bytes by which solving C raises this process's memory at its highest above where it stood."""
    prepare: dict[str, Callable[[Instance], Callable[[], object]]]
    prepare = {"selfreg": solver, "scipy": peers.scipy_layers}
    prepare[who](instances.instance_t())()  # what is loaded on first use is not the solve's
    print_growth(prepare[who](instances.instance_c()))


def print_growth(call: Callable[[], object]) -> None:
    """Print the bytes by which `call` raises this process's memory at its highest above where it stood."""
    gc.collect()
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the high-water mark starts anew
    before = _status("VmRSS")
    answer = call()
    print(_status("VmHWM") - before)
    del answer


def _status(field: str) -> int:
    with open("/proc/self/status") as file:
        line = next(line for line in file if line.startswith(field))
    return 1024 * int(line.split()[1])


# The table -----------------------------------------------------------------------------------------------------------


def progress(name: str) -> None:
    if sys.stderr.isatty():
        print(f"measuring {name} ...", file=sys.stderr)


def figures(quick: bool) -> list[Figure]:
    """All lines of the table; `quick` leaves out C and the growth of B and takes fewer runs."""
    runs = QUICK_RUNS if quick else RUNS
    a, b = instances.instance_a(), instances.instance_b()
    small = instances.cyclic("B, 500 states", 500, budget=4)
    result = against(a, [peers.SCIPY, peers.SCIPY_READY, peers.NUMBA, peers.STORM], runs)
    result += [one_thread(a, peers.SCIPY, runs), *against(b, [peers.SCIPY_SWEEPS], runs)]
    result += against(small, [peers.SCIPY_SWEEPS, peers.QUANTECON, peers.MDPTOOLBOX], runs)
    result += tiny(runs) + many(runs) + growth(instances.instance_a, 20_000, runs)
    return result if quick else result + growth(instances.instance_b, 500, runs) + large(runs)


def table(lines: Sequence[Figure], targets: Targets = TARGETS) -> str:
    """The figures as text, a line each, under a heading."""
    rows = [("instance", "against", "measured", "target", "verdict", "answer, medians (ours first)")]
    for figure in lines:
        target = targets.get((figure.instance, figure.name))
        measured = "" if figure.number is None else f"{figure.number:.3g}"
        wanted = f"{target.relation} {target.number:g}" if target else ""
        rows.append((figure.instance, figure.name, measured, wanted, figure.verdict(targets), figure.check))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([text[0], "  ".join("-" * width for width in widths), *text[1:]])


def main(argv: Sequence[str] = ()) -> None:
    """Print the table; exit with 1 if an answer is wrong (a missed target is only printed)."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks solver", description=__doc__)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_RUNS} runs, without C and the growth of B")
    quick = parser.parse_args(argv).quick
    show(figures(quick), TARGETS, QUICK_RUNS if quick else RUNS)


def show(lines: Sequence[Figure], targets: Targets, runs: int) -> None:
    """Print the table under what was measured with; exit with 1 if an answer is wrong."""
    versions = f"Python {platform.python_version()}, numpy {np.__version__}, {os.cpu_count()} cores"
    print(f"selfreg {selfreg.__version__}, {versions}; median of {runs} runs")
    print("Ratios: times faster than the peer; `x / y` and growth are quotients.")
    print(table(lines, targets))
    if not all(figure.right for figure in lines):
        sys.exit(1)
