"""How long `import selfreg` takes, against what it cannot do without, and what it leaves out."""

from __future__ import annotations

import statistics
import subprocess
import sys

HEAVY = ("torch", "transformers", "numba", "pandas", "pyarrow", "msgspec", "matplotlib")
RUNS = 7

TIMED = "import time; t = time.perf_counter(); import {}; print(time.perf_counter() - t)"
LOADED = "import sys, selfreg; print(*[name for name in {} if name in sys.modules])"


def _run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def main() -> None:
    """Print the median of the import times and the heavy modules found after `import selfreg`."""
    needed = "numpy, scipy.sparse"
    times: dict[str, list[float]] = {"selfreg": [], needed: []}
    for _ in range(RUNS):  # in turn, so that a drifting machine meets both alike
        for modules, seconds in times.items():
            seconds.append(float(_run(TIMED.format(modules))))
    medians = {modules: statistics.median(seconds) for modules, seconds in times.items()}
    for modules, median in medians.items():
        print(f"import {modules}: {1e3 * median:.0f} ms (median of {RUNS})")
    print(f"ratio: {medians['selfreg'] / medians[needed]:.2f}")
    loaded = _run(LOADED.format(HEAVY))
    print(f"of {', '.join(HEAVY)}, `import selfreg` loads: {loaded or 'none'}")
    if loaded:
        sys.exit(1)
