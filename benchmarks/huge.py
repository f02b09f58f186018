"""One model of ten million states, budgets 0..64, with `keep="start"`: seconds and memory beyond the input."""

from __future__ import annotations

import resource
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import selfreg
from benchmarks.instances import layered

LAYERS, BUDGET, LIMIT_GIB = 40, 64, 4.0


class Peak:
    """Highest resident memory of this process in a `with` block, looked at every 10 ms, beyond that at its start."""

    def __enter__(self) -> Peak:
        self.start = self.most = _resident()
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()
        return self

    def _watch(self) -> None:
        while not self.over.wait(0.01):
            self.most = max(self.most, _resident())

    def __exit__(self, *exception: object) -> None:
        self.most = max(self.most, _resident())
        self.over.set()
        self.thread.join()

    @property
    def gib(self) -> float:
        return (self.most - self.start) / 2**30


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize()


def main(argv: Sequence[str] = ()) -> None:
    """Print the figures (Linux only); exit 1 where memory goes over the limit or an answer is wrong."""
    n_states = int(argv[0]) if argv else 10_000_000
    begin = time.perf_counter()
    mdp = layered("huge", n_states, LAYERS, budget=BUDGET).mdp
    print(f"{mdp.n_states:,} states, budgets 0..{BUDGET}; made and validated in {time.perf_counter() - begin:.0f} s")
    estimate = selfreg.solve_memory(mdp, BUDGET, keep="start") / 2**30  # finds the order, too
    start = np.zeros(mdp.n_states)
    start[: n_states // LAYERS] = LAYERS / n_states
    with Peak() as peak:
        begin = time.perf_counter()
        kept = selfreg.solve(mdp, BUDGET, keep="start", start=start)
        seconds = time.perf_counter() - begin
    print(f"solved in {seconds:.1f} s with {peak.gib:.2f} GiB beyond the input")
    print(f"estimate {estimate:.2f} GiB, limit {LIMIT_GIB} GiB")
    small = selfreg.solve(mdp, 1, dtype=np.float32)
    differs = float(np.abs(start @ small.value - kept.value[:2]).max())
    print(f"success {kept.value[0]:.5f} with no help, {kept.value[-1]:.5f} with {BUDGET}")
    print(f"differs from keep='all' by {differs:.0e}")
    if peak.gib > LIMIT_GIB or differs > 1e-6:
        sys.exit("over the limit, or wrong")
