"""Two threads while other programs use all cores: time over one thread, for hard budgets and for prices (C)."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

import selfreg
from benchmarks import instances
from benchmarks.solver import Calls, interleaved, milliseconds, ratio

RUNS = 9
MOST = 1.15  # target
PRICES = np.geomspace(1e-3, 1.0, 8)
SPIN = "while True: pass"


@contextmanager
def busy_cores() -> Iterator[None]:
    """A program that computes for every core."""
    programs = [subprocess.Popen([sys.executable, "-c", SPIN]) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for program in programs:
            program.kill()
            program.wait()


def main(argv: Sequence[str] = ()) -> None:
    """Print the ratios; exit 1 if an answer depends on the number of threads (a missed target is only printed)."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks company", description=__doc__)
    parser.add_argument("--states", type=int, default=500_000, help="states of the instance (default 500000)")
    states = parser.parse_args(list(argv)).states
    mdp = instances.instance_a(n_states=states).mdp
    calls: Calls = {}
    for k in (1, 2):
        calls[f"budgets, {k}"] = lambda k=k: selfreg.solve(mdp, 16, n_threads=k)  # type: ignore[misc]
        calls[f"prices, {k}"] = lambda k=k: selfreg.solve_penalized(mdp, PRICES, n_threads=k)  # type: ignore[misc]
    with busy_cores():
        seconds = interleaved(calls, RUNS)
    right = True
    for name in ("budgets", "prices"):
        one, two = (calls[f"{name}, {k}"]() for k in (1, 2))
        same = np.array_equal(one.value, two.value) and np.array_equal(one.policy, two.policy)  # type: ignore[attr-defined]
        number, right = ratio(seconds, f"{name}, 2", f"{name}, 1"), right and same
        print(
            f"{name}: two threads take {number:.2f} times as long as one on busy cores (target <= {MOST}); "
            f"{milliseconds(seconds, f'{name}, 2', f'{name}, 1')}; {'the same' if same else 'NOT the same'} to the bit"
        )
    sys.exit(not right)
