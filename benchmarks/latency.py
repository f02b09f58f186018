"""How long a trained helper takes to decide on one CPU thread, and the memory that deciding takes.

Takes run folders that hold a helper (`selfreg demo`, `selfreg fit ... --helper`). Times are by the clock, so the
machine should have nothing else to do; the CPU time beside them shows whether it had.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np

from selfreg import Ledger, SQLiteLedger
from selfreg.data import state_text
from selfreg.helper import Helper
from selfreg.helper.models import TRANSFORMERS
from selfreg.runs import RunFolder

DECISIONS = 400
# Most milliseconds of a decision: by a transformer, by any other form, and by any form about a long text.
TRANSFORMER, OTHER, LONG = 5.0, 0.5, 20.0
LONG_TEXT = 100_000  # characters
OFFSET = 100  # texts between those that two helpers are given in turn

RESIDENT = """
import sys
import torch, transformers, sklearn.feature_extraction.text
import selfreg
from selfreg.helper import Helper
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096
torch.set_num_threads(1)
before = resident()
helper = Helper.load(sys.argv[1])
helper.decide(["warm up"], selfreg.Ledger(1).left)
print(before, resident())
"""


def show(helpers: Mapping[str, Helper], texts: Sequence[str]) -> None:
    """Time of one decision with reasons and without, and the memory of a process that decides."""
    import torch

    torch.set_num_threads(1)
    print(f"\nOne decision on one CPU thread, {min(len(texts), DECISIONS)} states, and the memory it takes\n")
    head = ["", "parameters", "p50, ms", "p95, ms", "p50 of CPU time, ms", "p50 without reasons, ms"]
    head += [
        "p50, ledger in a file, ms",
        f"p50 without reasons under {OTHER:g} ms ({TRANSFORMER:g} for a transformer)",
        f"p50 of {LONG_TEXT // 1000} kB of text, ms",
        f"under {LONG:g} ms",
        "memory beside Python and torch, MB",
        "folder, MB",
    ]
    print(f"| {' | '.join(head)} |\n| {' | '.join(['---'] * len(head))} |")
    for name, helper in helpers.items():
        print(f"| {name} | {' | '.join(_row(helper, texts[:DECISIONS]))} |", flush=True)


def _row(helper: Helper, texts: Sequence[str]) -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "helper"
        helper.save(path)
        size = sum(p.stat().st_size for p in path.iterdir()) / 1e6
        before, after = map(int, run(RESIDENT, str(path)).split())
        whole, plain, kept = _times(helper, texts, SQLiteLedger(Path(folder) / "ledger", helper.limits))
    model: Any = helper.classifier
    weights = model._model.parameters() if hasattr(model, "_model") else [getattr(model, "_weights", np.zeros(0))]
    count = sum(int(np.prod(weight.shape)) for weight in weights)
    clock, busy = zip(*whole, strict=True)
    cells = [f"{count:,}", f"{statistics.median(clock):.2f}", f"{np.quantile(clock, 0.95):.2f}"]
    cells.append(f"{statistics.median(busy):.2f}")
    medians = [statistics.median(t for t, _ in times) for times in (plain, kept)]
    cells += [f"{one:.2f}" for one in medians]
    cells.append("yes" if medians[0] < (TRANSFORMER if helper.classifier.form in TRANSFORMERS else OTHER) else "no")
    long = _time_long(helper, texts)
    cells += [f"{long:.1f}", "yes" if long < LONG else "no"]
    return [*cells, f"{(after - before) / 1e6:.0f} beside {before / 1e6:.0f}", f"{size:.1f}"]


def _time_long(helper: Helper, texts: Sequence[str]) -> float:
    """Median milliseconds of a decision, with reasons, about a text of `LONG_TEXT` characters: states, one a line."""
    lines = "\n".join(texts) + "\n"
    repeated = lines * (LONG_TEXT // len(lines) + 1)
    times = []
    for i in range(20):
        begin = perf_counter()
        helper.decide([f"{i} {repeated}"[:LONG_TEXT]], helper.limits)
        times.append(1e3 * (perf_counter() - begin))
    return statistics.median(times)


def _times(helper: Helper, texts: Sequence[str], file: SQLiteLedger) -> list[list[tuple[float, float]]]:
    """Milliseconds by the clock and of CPU time: with reasons, without, and with a ledger in a file.

    The three decide in turn, so that all meet the same machine.
    """
    cases: list[tuple[Helper, Any]] = [(helper, Ledger(helper.limits))]
    cases += [(dataclasses.replace(helper, memory=None), Ledger(helper.limits)), (helper, file)]
    times: list[list[tuple[float, float]]] = [[] for _ in cases]
    for one, ledger in cases:
        one.decide(["warm up"], ledger.left)
    gc.collect()
    for i in range(len(texts)):
        for j, (spent, (one, ledger)) in enumerate(zip(times, cases, strict=True)):
            text = texts[(i + OFFSET * j) % len(texts)]  # the words of the last texts are remembered
            begin, worked = perf_counter(), process_time()
            one.decide([text], ledger.left)
            spent.append((1e3 * (perf_counter() - begin), 1e3 * (process_time() - worked)))
    return times


def run(code: str, *arguments: str) -> str:
    """What a program of its own prints, on one thread."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout


def states(run_folder: RunFolder, helper: Helper) -> list[str]:
    """Distinct state texts of the run's test tasks."""
    tasks = set(helper.split["test"])
    steps = [
        log.steps[: t + 1] for log in run_folder.trajectories() if log.task in tasks for t in range(len(log.steps))
    ]
    return list(dict.fromkeys(state_text(seen, helper.history) for seen in steps))


def main(argv: Sequence[str] = ()) -> None:
    """Print a table in Markdown for each run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks latency", description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+", help="run folders that hold a helper")
    for path in parser.parse_args(argv).runs:
        folder = RunFolder.open(path)
        helper = Helper.load(path / "helper")
        show({f"{path.name}, {helper.classifier.form}": helper}, states(folder, helper))
