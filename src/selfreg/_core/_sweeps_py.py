"""Pure-Python twin of `_sweeps.pyx`: same name, same arguments, the same fixed points; it sweeps without mixing."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt


def sweep_components(
    components: npt.NDArray[np.int64],
    starts: npt.NDArray[np.int64],
    indptr: npt.NDArray[np.int64],
    indices: npt.NDArray[np.int32],
    data: npt.NDArray[np.float64],
    action: npt.NDArray[np.int64],
    reward: npt.NDArray[np.float64],
    waits: npt.NDArray[np.uint8],
    choice: npt.NDArray[np.int64],
    target: float,
    max_sweeps: int,
    x: npt.NDArray[np.float64],
) -> bool:
    """Solve all components; whether every one converged within `max_sweeps`."""
    lanes = np.arange(x.shape[1])
    for first, last in pairwise(components.tolist()):
        for _ in range(max_sweeps):
            change = 0.0
            for g in range(first, last):
                rows = range(starts[g], starts[g + 1])
                if not rows and not waits[g]:
                    continue  # terminal
                parts = [slice(indptr[r], indptr[r + 1]) for r in rows]
                gains = [data[p] @ x[indices[p]] + reward[action[r]] for r, p in zip(rows, parts, strict=True)]
                if len(choice):
                    row = choice[g, lanes % choice.shape[1]]
                    best = np.array([gains[r - starts[g]][lane] if r >= 0 else 0.0 for lane, r in enumerate(row)])
                else:
                    best = np.max([*gains, np.zeros(len(lanes))] if waits[g] else gains, axis=0)
                seen = np.abs(best - x[g]) - 8 * np.finfo(np.float64).eps * np.abs(best)
                change = max(change, float(seen.max(initial=0.0)))
                x[g] = best
            if change <= target:
                break
        else:
            return False
    return True
