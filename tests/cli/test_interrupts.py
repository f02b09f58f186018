"""SIGINT to the process alone, at random moments of real commands: gone soon, status 130, nothing left.

Seconds are from the signal to the end of the process, and those of the processor that it used meanwhile, which do not
depend on what else runs. On a machine with more processes than cores everything takes longer; the limit of the former
grows with the load, and a message of the test says which limit held.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from selfreg.runs import MARKER

pytest.importorskip("minigrid", reason="minigrid is missing")
pytest.importorskip("transformers", reason="transformers is missing")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

ROOT = Path(__file__).parents[2]
TICKETS = [
    "fit", str(ROOT / "examples" / "tickets.jsonl"), "--format", "jsonl", "--map", "task=id", "--map", "outcome=won",
    "--map", "intervention=helper", "--map", "steps=turns", "--map", "observation=text", "--budget", "3",
]  # fmt: skip
SMALL = ["--tasks", "8", "--test-tasks", "4", "--episodes", "16", "--workers", "2"]
SWEEP = """
[sweep]
out = "out"
budget = 40
[grid]
run = "run"
kappa = [{kappa}]
"""
LIMIT = 3.0
# Python itself takes the signal before the command begins.
BEGINS = 0.3


class Ended(NamedTuple):
    status: int
    seconds: float
    processor: float
    errors: str
    left: list[str]  # processes


def begin(arguments: list[str], cwd: Path) -> subprocess.Popen[str]:
    """The command as a program, in a session of its own."""
    # Who runs the tests in the background may ignore the signal.
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    start = "import sys; sys.argv[0] = 'selfreg'; from selfreg.cli.main import main; sys.exit(main())"
    return subprocess.Popen(
        [sys.executable, "-c", f"{code}; {start}", *arguments], cwd=cwd, text=True, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")},
    )  # fmt: skip


def interrupt(arguments: list[str], cwd: Path, moment: float, number: int = signal.SIGINT) -> Ended | None:
    """How the command ended after a signal at that moment; None if it ended before."""
    process = begin(arguments, cwd)
    try:
        process.wait(moment)
    except subprocess.TimeoutExpired:
        process.send_signal(number)
        sent, used = time.monotonic(), processor_time(process.pid)
        if not wait_for_end(process.pid, 60 * max(1.0, limit() / LIMIT)):
            os.killpg(process.pid, signal.SIGKILL)
            raise AssertionError(f"{arguments[0]} still runs long after the signal at {moment:.2f} s") from None
        seconds, used = time.monotonic() - sent, processor_time(process.pid) - used
        _, errors = process.communicate()
        return Ended(process.returncode, seconds, used, errors, left_of_session(process.pid))
    errors = process.communicate()[1]
    assert process.returncode == 0, errors
    return None


def processor_time(pid: int) -> float:
    """Seconds of the processor that a process used, also when it has ended and nobody waited for it yet."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def wait_for_end(pid: int, seconds: float) -> bool:
    """Whether a process ended in time; what it leaves stays, as nobody waits for it here."""
    until = time.monotonic() + seconds
    while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


def left_of_session(number: int) -> list[str]:
    """Processes of a session that still run after a second."""
    for _ in range(10):
        if not (found := of_session(number)):
            break
        time.sleep(0.1)
    return found


def of_session(number: int) -> list[str]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, session = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if int(session) == number and state != "Z":
            found.append(stat.parent.name)
    return found


def limit() -> float:
    """Seconds in which a command is gone: `LIMIT`, times the processes that wait for each core."""
    return LIMIT * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


@pytest.fixture(scope="module")
def run(demo_run, tmp_path_factory) -> Path:
    """A copy, since a command that ends before its signal changes it."""
    return shutil.copytree(demo_run, tmp_path_factory.mktemp("interrupts") / "run")


def commands(run: Path, cwd: Path) -> Iterator[tuple[list[str], float]]:
    """Each command, and about how long it runs on a free machine."""
    (cwd / "sweep.toml").write_text(SWEEP.format(kappa=", ".join(str(i / 1000) for i in range(400))))
    (cwd / "run").symlink_to(run)
    yield ["demo", "--out", "new/out", "--budget", "2", *SMALL], 8.0
    yield ["collect", "--out", "new/out", *SMALL, "--episodes", "64"], 6.0
    yield ["evaluate", str(run), "--budget", "2", "--workers", "2"], 5.0
    yield ["sweep", "sweep.toml"], 5.0
    yield [*TICKETS, "--out", "new/out"], 5.0


def check_moments(run: Path, tmp_path: Path, moments: int, seed: int) -> None:
    generator, faults, seen = random.Random(seed), [], 0
    longest = 0.0
    for number in range(moments):
        cwd = tmp_path / str(number)
        cwd.mkdir()
        arguments, seconds = list(commands(run, cwd))[number % 5]
        before = sorted(path.name for path in run.rglob("*"))
        moment = generator.uniform(BEGINS, seconds)
        ended = interrupt(arguments, cwd, moment)
        left = {path.name for path in cwd.iterdir()} - {"sweep.toml", "run", "out"}
        whole = ended is not None and ended.status == 0 and (cwd / "new" / "out" / MARKER).exists()
        if ended is None or (whole and "Traceback" not in ended.errors):  # all was done when the signal came
            shutil.rmtree(cwd / "new", ignore_errors=True)
            continue
        seen += 1
        where = f"{arguments[0]} at {moment:.2f} s: {ended}"
        if ended.status != 130 or "selfreg: interrupted" not in ended.errors or "Traceback" in ended.errors:
            faults.append(where)
        longest = max(longest, ended.processor)
        if ended.processor > LIMIT:
            faults.append(f"{where}; it may use {LIMIT} s of the processor")
        if ended.seconds > limit():
            faults.append(f"{where}; the limit is {limit():.1f} s")
        if (
            ended.left
            or left
            or list((cwd / "out").glob(".*"))
            or sorted(path.name for path in run.rglob("*")) != before
        ):
            faults.append(f"{where}; left {left}")
    assert not faults, f"{len(faults)} faults in {seen} moments:\n" + "\n".join(faults)
    assert seen >= moments / 2
    print(f"{seen} moments, at most {longest:.2f} s of the processor, the last limit {limit():.1f} s")


def test_ten_moments(run, tmp_path) -> None:
    check_moments(run, tmp_path, 10, seed=1)


@pytest.mark.long
def test_two_hundred_moments(run, tmp_path) -> None:
    check_moments(run, tmp_path, 200, seed=2)


DROPPED = """
import os, signal, time
from selfreg._util.files import atomic_folder
from selfreg.cli.interrupts import Interrupts

class Last:
    def __del__(self):  # Python drops what is raised here
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)

signal.signal(signal.SIGINT, signal.default_int_handler)
for name in ("dropped", "callback", "next"):
    with Interrupts(program=False):
        try:
            with atomic_folder(name, "marker"):
                try:
                    if name == "callback":
                        Last()
                    if name == "dropped":
                        os.kill(os.getpid(), signal.SIGINT)
                        time.sleep(1)
                except KeyboardInterrupt:
                    pass  # as libraries do
        except KeyboardInterrupt:
            print("nothing is put in place")
print(sorted(os.listdir()))
"""


def test_an_interrupt_that_a_library_drops(tmp_path) -> None:
    done = subprocess.run([sys.executable, "-c", DROPPED], capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert done.stdout.splitlines() == [*2 * ["nothing is put in place"], "['next']"], done.stderr
    assert done.stderr == ""
