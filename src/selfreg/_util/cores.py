"""How many threads can run at once: those that wait for each other must not wait for other programs."""

from __future__ import annotations

import os
import threading
from pathlib import Path

# Linux: three averages, running / all threads of the machine, and the last process id; a folder a thread of this one.
LOAD = Path("/proc/loadavg")
TASKS = Path("/proc/self/task")


def free_threads(wanted: int) -> int:
    """`wanted` threads, or fewer if other programs run on the cores; all of `wanted` where that is not known.

    A program that runs right now counts, not an average: the answer takes some microseconds and holds for a moment.
    Threads of this process that no Python code runs on do not count: they are those of OpenMP or of a library, which
    wait for work in a busy loop for some milliseconds after they had some.
    """
    if wanted <= 1:
        return wanted
    others = _running() - 1
    if others > 0:
        others -= _waiting_here()
    return max(1, min(wanted, (os.cpu_count() or 1) - max(0, others)))


def _running() -> int:
    """Threads of the machine that run or wait for a core; 0 where that is not known."""
    try:
        return int(LOAD.read_text(encoding="ascii").split()[3].partition("/")[0])
    except (OSError, ValueError, IndexError):
        return 0


def _waiting_here() -> int:
    """Threads of this process that run, but not on behalf of Python code."""
    try:
        names = {task.name for task in TASKS.iterdir()}
    except OSError:
        return 0
    names -= {str(thread.native_id) for thread in threading.enumerate()} | {str(threading.get_native_id())}
    return sum(_runs(TASKS / name / "stat") for name in names)


def _runs(stat: Path) -> bool:
    try:
        return stat.read_bytes().rpartition(b")")[2].split()[0] == b"R"
    except (OSError, IndexError):  # it has ended
        return False
