"""Logs to counts: a million episodes of eight steps against json and a dict, rates, and peak memory of all processes.

The log is made first, in a temporary folder (about 0.8 GB of JSONL): 500 corridors, help at random. Every answer is
checked against what was made. "messages" are the same episodes as OpenAI messages. "msgspec + dict" is the loop
without our scanner of lines. Linux only (memory is read from
/proc).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np

from benchmarks.solver import AT_LEAST, AT_MOST, Figure, Target, progress, table
from selfreg.data import Step, Trajectory, write_trajectories

STEPS, TASKS, WIDTH = 8, 500, 40
LIMIT_GIB = 1.5
TARGETS = {
    ("jsonl", "msgspec + dict, CPU seconds of all"): Target(AT_LEAST, 2),
    ("jsonl", "json + dict"): Target(AT_LEAST, 5),
    ("jsonl", "peak memory, GiB"): Target(AT_MOST, LIMIT_GIB),
    ("parquet", "peak memory, GiB"): Target(AT_MOST, LIMIT_GIB),
    ("messages", "peak memory, GiB"): Target(AT_MOST, LIMIT_GIB),
}
FORMATS = ("jsonl", "jsonl.gz", "jsonl.zst", "parquet", "messages")


def episodes(count: int, seed: int = 0) -> Iterator[Trajectory]:
    """Walks in corridors; success ends on the right half."""
    random = np.random.default_rng(seed)
    for first in range(0, count, 1000):
        moves = random.integers(-1, 2, (1000, STEPS)).tolist()
        helped = (random.random((1000, STEPS)) < 0.2).tolist()
        starts, tasks = random.integers(0, WIDTH, 1000).tolist(), random.integers(0, TASKS, 1000).tolist()
        for i in range(min(1000, count - first)):
            position, steps = starts[i], []
            for t, (move, asked) in enumerate(zip(moves[i], helped[i], strict=True)):
                text = f"You are at position {position} of the corridor, step {t}."
                action, key = ("left", "wait", "right")[move + 1], f"{t}:{position}"
                steps.append(Step(text, action, key, "help" if asked else None))
                position = max(0, min(WIDTH - 1, position + move))
            name = f"e{first + i:08d}"
            yield Trajectory(f"task-{tasks[i]}", name, float(position >= WIDTH // 2), tuple(steps))


def write_messages(path: Path, trajectories: Iterable[Trajectory]) -> None:
    """The same episodes as OpenAI messages; help is the tool that published benchmarks have for it."""
    call = [{"id": "c", "type": "function", "function": {"name": "transfer_to_human_agents", "arguments": "{}"}}]
    with open(path, "w", encoding="utf-8") as stream:
        for trajectory in trajectories:
            messages = []
            for step in trajectory.steps:
                answer = {"role": "assistant", "content": step.action}
                help = {"tool_calls": call} if step.intervention else {}
                messages += [{"role": "user", "content": step.state}, answer | help]
            record = {"task_id": trajectory.task, "run_id": trajectory.episode, "reward": trajectory.outcome}
            stream.write(json.dumps(record | {"messages": messages}) + "\n")


def plain(path: Path) -> dict[tuple[int, str, int], int]:
    """What one writes without a library: json, dicts."""
    index: dict[tuple[str, str], int] = {}
    counts: dict[tuple[int, str, int], int] = {}
    with open(path, encoding="utf-8") as stream:
        for line in stream:
            record = json.loads(line)
            before = None
            for step in record["steps"]:
                state = index.setdefault((record["task"], step["key"]), len(index))
                if before is not None:
                    counts[(*before, state)] = counts.get((*before, state), 0) + 1
                before = (state, step.get("intervention") or "nohelp")
            assert before is not None
            end = (*before, -2 if record["outcome"] else -1)
            counts[end] = counts.get(end, 0) + 1
    return counts


class _Step(msgspec.Struct):
    key: str
    intervention: str | None = None


class _Episode(msgspec.Struct):
    task: str
    outcome: float
    steps: list[_Step]


def by_msgspec(path: Path) -> int:
    """The sum of counts, as by `plain`, but decoded by msgspec into the fields that are counted."""
    decoder = msgspec.json.Decoder(_Episode)
    index: dict[tuple[str, str], int] = {}
    counts: dict[tuple[int, str, int], int] = {}
    with open(path, "rb") as stream:
        for line in stream:
            record = decoder.decode(line)
            before: tuple[int, str] | None = None
            for step in record.steps:
                state = index.setdefault((record.task, step.key), len(index))
                if before is not None:
                    counts[(*before, state)] = counts.get((*before, state), 0) + 1
                before = (state, step.intervention or "nohelp")
            assert before is not None
            end = (*before, -2 if record.outcome else -1)
            counts[end] = counts.get(end, 0) + 1
    return sum(counts.values())


COUNT = """
import resource, sys, time
from selfreg.estimate import ExactKey, count_logs
begin = time.perf_counter()
found = count_logs(sys.argv[1], ExactKey(), workers=int(sys.argv[2]))
seconds = time.perf_counter() - begin
entries = sum(matrix.nnz for matrix in found.counts.transitions.values())
total = sum(matrix.sum() for matrix in found.counts.transitions.values())
used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
print(seconds, sum(u.ru_utime + u.ru_stime for u in used), found.episodes, found.steps, entries, total)
"""


def counted(path: Path, workers: int) -> tuple[float, float, float, list[float]]:
    """Seconds, CPU seconds, peak GiB of all processes together, and what was found, in a process of its own."""
    command = [sys.executable, "-c", COUNT, str(path), str(workers)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        most, over = [0.0], threading.Event()

        def watch() -> None:
            while not over.wait(0.02):
                most[0] = max(most[0], _tree(process.pid))

        watcher = threading.Thread(target=watch)
        watcher.start()
        output, _ = process.communicate()
        over.set()
        watcher.join()
    if process.returncode:
        sys.exit(f"counting {path} failed")
    seconds, used, *found = map(float, output.split())
    return seconds, used, most[0] / 2**30, found


def _tree(pid: int) -> int:
    """Resident bytes of a process and its children; what they share is counted more than once."""
    total = 0
    try:
        for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmRSS"):
                total = 1024 * int(line.split()[1])
        for task in Path(f"/proc/{pid}/task").iterdir():
            total += sum(_tree(int(child)) for child in (task / "children").read_text(encoding="ascii").split())
    except (OSError, ValueError):  # it has ended
        pass
    return total


def against_msgspec(path: Path, used: float, total: int) -> Figure:
    """Processor time of msgspec and a dict over that of `count_logs`."""
    before = time.process_time()
    is_right = by_msgspec(path) == total
    theirs = time.process_time() - before
    check = f"{used:.1f} against {theirs:.1f} s, imports included"
    return Figure("jsonl", "msgspec + dict, CPU seconds of all", theirs / used, check, is_right)


def main(argv: Sequence[str] = ()) -> None:
    """Print the table; exit with 1 if an answer is wrong."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks ingest", description=__doc__)
    parser.add_argument("--episodes", type=int, default=1_000_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=FORMATS)
    options = parser.parse_args(argv)
    lines: list[Figure] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log.jsonl"
        write_trajectories(path, episodes(options.episodes))
        megabytes = path.stat().st_size / 1e6
        print(f"{options.episodes:,} episodes, {options.episodes * STEPS:,} steps, {megabytes:.0f} MB of JSONL")
        begin, used_before = time.perf_counter(), time.process_time()
        expected = plain(path)
        theirs, used_theirs = time.perf_counter() - begin, time.process_time() - used_before
        right = [options.episodes, options.episodes * STEPS, len(expected), sum(expected.values())]
        for kind in options.formats:
            progress(kind)
            file = Path(folder) / ("messages.jsonl" if kind == "messages" else f"log.{kind}")
            if kind == "messages":
                write_messages(file, episodes(options.episodes))
            elif not file.exists():
                write_trajectories(file, episodes(options.episodes))
            size = file.stat().st_size / 1e6 if kind == "messages" else megabytes
            for workers in (1, options.workers) if kind == "jsonl" else (options.workers,):
                seconds, used, peak, found = counted(file, workers)
                rate = f"{size / seconds:.0f} MB/s of JSONL, {right[1] / seconds / 1e6:.2f} million steps/s"
                check = f"{seconds:.1f} against {theirs:.1f} s; {rate}; {workers} workers"
                name = "json + dict" if workers == options.workers else "json + dict, 1 worker"
                lines.append(Figure(kind, name, theirs / seconds, check, found == right))
                check = f"{used:.1f} against {used_theirs:.1f} s, imports included; {workers} workers"
                lines.append(Figure(kind, f"{name}, CPU seconds of all", used_theirs / used, check))
                if kind == "jsonl" and workers == options.workers:
                    lines.append(against_msgspec(file, used, right[3]))
            lines.append(Figure(kind, "peak memory, GiB", peak, f"{file.stat().st_size / 1e6:.0f} MB on disk"))
    print(table(lines, TARGETS))
    if not all(line.right for line in lines):
        sys.exit(1)
