"""Pure-Python twin of `_penalty.pyx`: same names, same arguments, same results up to rounding."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def penalized_levels(
    indptr: list[npt.NDArray[np.int64]],
    indices: list[npt.NDArray[np.int32]],
    data: list[npt.NDArray[np.float64]],
    cost: npt.NDArray[np.float64],
    penalty: npt.NDArray[np.float64],
    tie: float,
    tie_usage: float,
    terminal_value: npt.NDArray[np.float64],
    terminal: npt.NDArray[np.uint8],
    members: npt.NDArray[np.int32],
    starts: npt.NDArray[np.int64],
    slot: npt.NDArray[np.int32],
    weight: npt.NDArray[np.float64],
    expected: npt.NDArray[np.float64],
    rows: npt.NDArray[np.float64],
    policy: npt.NDArray[np.int8],
    n_threads: int,
) -> None:
    """Fill `rows` and `policy`, or `expected`; stops with KeyboardInterrupt at Ctrl-C."""
    dims, lanes = penalty.shape
    places = slot.tolist() if len(slot) else range(len(terminal))
    for s in members.tolist():
        for lane in range(lanes):
            best, choice = [float(terminal_value[s]), *[0.0] * dims], 0
            actions = () if terminal[s] else [a for a, p in enumerate(indptr) if p[s] < p[s + 1]]
            for a in actions:
                entries = slice(indptr[a][s], indptr[a][s + 1])
                successors = [places[j] for j in indices[a][entries].tolist()]
                new = [
                    sum(q * float(rows[j, d * lanes + lane]) for q, j in zip(data[a][entries], successors, strict=True))
                    + (float(cost[a, d - 1]) if d else 0.0)
                    for d in range(dims + 1)
                ]
                gain, held = (_objective(row, penalty[:, lane]) for row in (new, best))
                less = sum(new[1:]) < sum(best[1:]) - tie_usage
                if a == 0 or gain > held + tie or (gain >= held - tie and less):
                    best, choice = new, a
            rows[places[s], lane::lanes] = best
            if len(policy):
                policy[s, lane] = choice
            if len(weight) and weight[s]:
                expected[:, lane] += weight[s] * np.asarray(best)


def _objective(row: list[float], penalty: npt.NDArray[np.float64]) -> float:
    """Success less the price of every kind of usage."""
    return row[0] - sum(float(price) * used for price, used in zip(penalty, row[1:], strict=True))
