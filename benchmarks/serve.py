"""Decisions a second of `selfreg serve` with a `tfidf` helper on loopback, and latency at half of that rate.

python -m benchmarks serve [--seconds 10] [--connections 16] [--folder FOLDER]

Every decision is a new one: it is made, reserved and stored in a SQLite file. The client runs beside the server, on the
same cores.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

import selfreg
from selfreg.data import read_trajectories
from selfreg.estimate import Features, estimate_mdp
from selfreg.helper import HelperConfig, label, train_helper

TOKEN = "benchmark-" + "x" * 16
EXAMPLES = Path(__file__).parents[1] / "examples"
ROLES = {"task": "id", "outcome": "won", "intervention": "helper", "steps": "turns", "observation": "text"}
RATE, P99 = 500, 20.0  # targets: decisions a second; ms at half of that
STEPS = ["Ticket {}: the customer cannot log in.", "Step done.", "Error: the account tool refused the request."]


def main(argv: Sequence[str] | None = None) -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--folder", help="where the ledger goes, such as /dev/shm for the time without a disk")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        _make_run(Path(folder))
        with _serving(Path(folder)) as (port, pid):
            asyncio.run(_load(port, 1.0, options.connections, None))  # warm up
            before = _cpu_seconds(pid)
            every = asyncio.run(_load(port, options.seconds, options.connections, None))
            cpu = 1000 * (_cpu_seconds(pid) - before) / len(every)
            rate = len(every) / options.seconds
            half = asyncio.run(_load(port, options.seconds, 4 * options.connections, min(rate, RATE) / 2))
    print(f"{os.cpu_count()} CPUs, {options.connections} connections, {options.seconds:g} s, SQLite")
    print(f"decisions a second {rate:8.0f}   target {RATE}")
    print(f"CPU of the server, ms a decision {cpu:.2f}")
    for share in (50, 95, 99):
        print(f"p{share} at {min(rate, RATE) / 2:.0f} a second, ms {np.percentile(half, share):8.2f}")
    print(f"target for p99 at {RATE / 2:.0f} a second {P99:g} ms")
    return 0


def _make_run(folder: Path) -> None:
    logs = list(read_trajectories([EXAMPLES / "tickets.jsonl"], "jsonl", roles=ROLES))
    model = estimate_mdp(logs, Features(["step", "class"], {"error": "^Error", "done": "^Step", "ticket": "^Ticket"}))
    labels = label(logs, model, selfreg.solve(model.mdp, 3))
    train_helper(labels, HelperConfig(form="tfidf")).save(folder / "helper")
    (folder / "run.toml").write_text("")


@contextmanager
def _serving(folder: Path) -> Iterator[tuple[int, int]]:
    command = [sys.executable, "-m", "selfreg", "serve", str(folder), "--limit", str(10**9), "--per-run", "3"]
    command += ["--people", "nobody", "--port", "0"]
    log = folder / "log"
    with open(log, "w") as stream:
        tokens = {"SELFREG_TOKEN": TOKEN, "SELFREG_DESK_TOKEN": TOKEN[::-1]}
        process = subprocess.Popen(command, stderr=stream, env={**os.environ, **tokens})
    try:
        while '"listening"' not in log.read_text():
            if process.poll() is not None:
                raise RuntimeError(log.read_text())
            time.sleep(0.1)
        line = next(one for one in log.read_text().splitlines() if '"listening"' in one)
        yield urlsplit(json.loads(line)["url"]).port or 0, process.pid
    finally:
        process.terminate()
        process.wait(30)


def _cpu_seconds(pid: int) -> float:
    """CPU time of a process (Linux)."""
    words = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


async def _load(port: int, seconds: float, connections: int, rate: float | None) -> list[float]:
    """Milliseconds of each request: as fast as the replies come, or at a rate, counted from when each was due."""
    begin = time.perf_counter()
    times: list[float] = []
    numbers = count()

    async def work() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while (now := time.perf_counter()) < begin + seconds:
            i = next(numbers)
            if rate is not None:
                due = begin + i / rate
                await asyncio.sleep(max(due - now, 0))
                now = due
            writer.write(_request(f"{begin}/{i // 3}", i % 3))
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            body = await reader.readexactly(length)
            assert head.startswith(b"HTTP/1.1 200"), body
            times.append(1000 * (time.perf_counter() - now))
        writer.close()

    await asyncio.gather(*(work() for _ in range(connections)))
    return times


def _request(run: str, step: int) -> bytes:
    steps = [STEPS[0].format(run), *STEPS[1:]][: step + 1]
    body = json.dumps({"run_id": run, "step_id": step, "steps": steps}).encode()
    head = f"POST /v1/decide HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


if __name__ == "__main__":
    raise SystemExit(main())
