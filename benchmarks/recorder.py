"""Milliseconds of `Recorder.decide_once`, new and repeated, beyond the policy's own time, by ledger.

python -m benchmarks recorder [--calls 500] [--folder FOLDER] [--postgres CONNINFO]
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from selfreg.data import Step
from selfreg.decisions import BudgetLeft, Decision
from selfreg.runtime import Ledger, Recorder, SQLiteLedger

# p50 with SQLite, in ms: new, repeated.
TARGETS = (2.5, 0.3)


class HalfOfThem:
    """Requests help at every second step, in no time."""

    def decide(self, steps: Sequence[Step], budget_left: BudgetLeft) -> Decision:
        """By the length of the text."""
        return Decision("person" if len(steps[-1].state) % 2 else "nohelp")


def main(argv: Sequence[str] | None = None) -> int:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=500)
    parser.add_argument("--folder", help="where the SQLite file goes, such as /dev/shm for the time without a disk")
    parser.add_argument("--postgres", help="psycopg connection string; left out by default")
    options = parser.parse_args(argv)
    print(f"{options.calls} steps, {os.cpu_count()} CPUs; ms")
    print(f"{'':28}{'p50':>8}{'p95':>8}")
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        _print("write and fsync of 4 KiB", _times(lambda i: _sync(Path(folder) / "probe"), options.calls))
        ledgers: dict[str, Ledger] = {"memory": Ledger(10**9), "SQLite": SQLiteLedger(Path(folder) / "ledger", 10**9)}
        if options.postgres:
            from selfreg.runtime import PostgresLedger

            schema = f"benchmark_{time.time_ns()}"
            ledgers["PostgreSQL"] = PostgresLedger(options.postgres, 10**9, schema=schema)
        for name, ledger in ledgers.items():
            _measure(name, Recorder(HalfOfThem(), ledger, costs={"person": 1}), options.calls)
    print(f"target with SQLite, p50: new {TARGETS[0]}, repeated {TARGETS[1]}")
    return 0


def _measure(name: str, recorder: Recorder, calls: int) -> None:
    made: list[Decision] = []

    def decide(i: int) -> None:
        made.append(recorder.decide_once("run", i, [Step("x" * (i % 50))]))

    decide(-1)
    _print(f"{name}, new", _times(decide, calls))
    _print(f"{name}, repeated", _times(decide, calls))
    assert made[1 : calls + 1] == made[calls + 1 :], "a repeated decision differs"


def _times(call: Callable[[int], None], calls: int) -> list[float]:
    result = []
    for i in range(calls):
        start = time.perf_counter()
        call(i)
        result.append(1000 * (time.perf_counter() - start))
    return result


def _sync(path: Path) -> None:
    with open(path, "wb") as file:
        file.write(b"x" * 4096)
        file.flush()
        os.fsync(file.fileno())


def _print(name: str, times: Sequence[float]) -> None:
    print(f"{name:28}{np.median(times):8.2f}{np.percentile(times, 95):8.2f}", flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
