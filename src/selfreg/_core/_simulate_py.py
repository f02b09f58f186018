"""Pure-Python twin of `_simulate_nb.py`: same functions, same arguments, same results to the bit."""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate, pairwise

import numpy as np
import numpy.typing as npt

MASK = 2**64 - 1
GOLDEN = 0x9E3779B97F4A7C15


def mix(z: int) -> int:
    """The 64-bit finaliser of splitmix64."""
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def draw(key: int, gamma: int, counter: int) -> float:
    """Number `counter` of the stream, uniform on the multiples of 2^-53 in [0, 1)."""
    return float(mix((key + gamma * counter) & MASK) >> 11) * 2.0**-53


def accumulate_rows(
    indptr: npt.NDArray[np.int64], data: npt.NDArray[np.float64], cumulative: npt.NDArray[np.float64]
) -> None:
    """Fill `cumulative` with the running sums of every row."""
    pointers, values = indptr.ravel().tolist(), data.tolist()
    for begin, end in pairwise(pointers):
        cumulative[begin:end] = list(accumulate(values[begin:end]))


def run_episodes(
    indptr: npt.NDArray[np.int64],
    indices: npt.NDArray[np.int32],
    cumulative: npt.NDArray[np.float64],
    terminal_value: npt.NDArray[np.float64],
    policy: npt.NDArray[np.int8],
    offset: npt.NDArray[np.int64],
    costs: npt.NDArray[np.int64],
    limit: npt.NDArray[np.int64],
    top: int,
    start_states: npt.NDArray[np.int64],
    start_cumulative: npt.NDArray[np.float64],
    seed: np.uint64,
    first: int,
    max_steps: int,
    success: npt.NDArray[np.float64],
    usage: npt.NDArray[np.int64],
    steps: npt.NDArray[np.int64],
    ended: npt.NDArray[np.bool_],
) -> int:
    """Run `len(success)` episodes from number `first` on; fill the last four arrays.

    Returns -1, or if an episode took an unavailable or unaffordable action, the index of that decision in
    `policy.ravel()`, for the first such episode.
    """
    n_lattice: int = policy.shape[1]
    base = mix(int(seed))
    for i in range(len(success)):
        key = mix((base + GOLDEN * (2 * (first + i) + 1)) & MASK)
        gamma = mix((base + GOLDEN * (2 * (first + i) + 2)) & MASK) | 1
        spent, left, step = [0] * len(limit), top, 0
        s = int(start_states[bisect_right(start_cumulative, draw(key, gamma, 0), 0, len(start_cumulative) - 1)])
        while np.isnan(terminal_value[s]) and step < max_steps:
            a = int(policy[s, left])
            begin, end = int(indptr[a, s]), int(indptr[a, s + 1])
            spent = [unit + int(cost) for unit, cost in zip(spent, costs[a], strict=True)]
            if begin == end or any(unit > most for unit, most in zip(spent, limit, strict=True)):
                return s * n_lattice + left
            left -= int(offset[a])
            step += 1
            s = int(indices[bisect_right(cumulative, draw(key, gamma, step), begin, end - 1)])
        ended[i] = not np.isnan(terminal_value[s])
        success[i] = terminal_value[s] if ended[i] else 0.0
        usage[i], steps[i] = spent, step
    return -1
