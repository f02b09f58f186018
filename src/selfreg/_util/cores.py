"""How many threads can run at once: those that wait for each other must not wait for other programs."""

from __future__ import annotations

import os
from pathlib import Path

# Linux: three averages, running / all threads of the machine, and the last process id.
LOAD = Path("/proc/loadavg")


def free_threads(wanted: int) -> int:
    """`wanted` threads, or fewer if other programs run on the cores; all of `wanted` where that is not known.

    A program that runs right now counts, not an average: the answer takes some microseconds and holds for a moment.
    """
    if wanted <= 1:
        return wanted
    return max(1, min(wanted, (os.cpu_count() or 1) - _others_running()))


def _others_running() -> int:
    """Threads of the machine that run or wait for a core, without this one; 0 where that is not known."""
    try:
        return max(0, int(LOAD.read_text(encoding="ascii").split()[3].partition("/")[0]) - 1)
    except (OSError, ValueError, IndexError):
        return 0
