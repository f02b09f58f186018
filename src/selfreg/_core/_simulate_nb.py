"""Simulated episodes of a policy, compiled by Numba.

    successor of (s, a) = first j with  sum over i <= j of P_a[s, i]  >  draw

One step costs one random draw and one binary search in a CSR row of running sums.

Draw `t` of episode `e` is a pure function of (seed, e, t), so that neither threads nor the order of episodes matter:
a splitmix64 stream per episode with a start and an odd increment of its own (Steele, Lea, Flood, "Fast splittable
pseudorandom number generators", OOPSLA 2014). Draw 0 picks the start, draw t the successor of step t.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np
import numpy.typing as npt

Function = TypeVar("Function", bound=Callable[..., Any])

# Numba turns uint64 mixed with int64 into float64: every constant of the generator is uint64.
GOLDEN = np.uint64(0x9E3779B97F4A7C15)
MULTIPLIER_1 = np.uint64(0xBF58476D1CE4E5B9)
MULTIPLIER_2 = np.uint64(0x94D049BB133111EB)
ONE, TWO, ELEVEN = np.uint64(1), np.uint64(2), np.uint64(11)
SHIFT_1, SHIFT_2, SHIFT_3 = np.uint64(30), np.uint64(27), np.uint64(31)


def _compiled(function: Function) -> Function:
    """`function` compiled without the GIL, cached on disk if there is a writable folder."""
    try:
        result: Function = numba.njit(nogil=True, cache=True)(function)
    except RuntimeError:  # neither the package nor the user's cache folder can be written
        result = numba.njit(nogil=True)(function)
    return result


@_compiled
def mix(z: np.uint64) -> np.uint64:
    """The 64-bit finaliser of splitmix64."""
    z = (z ^ (z >> SHIFT_1)) * MULTIPLIER_1
    z = (z ^ (z >> SHIFT_2)) * MULTIPLIER_2
    return z ^ (z >> SHIFT_3)


@_compiled
def draw(key: np.uint64, gamma: np.uint64, counter: int) -> float:
    """Number `counter` of the stream, uniform on the multiples of 2^-53 in [0, 1)."""
    return float(mix(key + gamma * np.uint64(counter)) >> ELEVEN) * 2.0**-53


@_compiled
def search(cumulative: npt.NDArray[np.float64], begin: int, end: int, u: float) -> int:
    """First entry of a row above `u`; the last one if there is none, by rounding.

    The number of rounds does not depend on `u`: a branch on random numbers would be mispredicted.
    """
    low, length = begin, end - begin - 1
    while length > 0:
        half = (length + 1) // 2
        low += half * (cumulative[low + half - 1] <= u)
        length -= half
    return low


@_compiled
def accumulate_rows(
    indptr: npt.NDArray[np.int64], data: npt.NDArray[np.float64], cumulative: npt.NDArray[np.float64]
) -> None:
    """Fill `cumulative` with the running sums of every row."""
    pointers = indptr.ravel()
    for row in range(len(pointers) - 1):
        total = 0.0
        for e in range(pointers[row], pointers[row + 1]):
            total += data[e]
            cumulative[e] = total


@_compiled
def run_episodes(
    indptr: npt.NDArray[np.int64],  # IN  (actions, n + 1), into the entries of all actions
    indices: npt.NDArray[np.int32],  # IN  (entries,)
    cumulative: npt.NDArray[np.float64],  # IN  (entries,) running sums of every row
    terminal_value: npt.NDArray[np.float64],  # IN  (n,), NaN where the episode goes on
    policy: npt.NDArray[np.int8],  # IN  (n, lattice)
    offset: npt.NDArray[np.int64],  # IN  (actions,) distance that an action moves down the flattened lattice
    costs: npt.NDArray[np.int64],  # IN  (actions, budgets)
    limit: npt.NDArray[np.int64],  # IN  (budgets,) most that an episode may spend
    top: int,  # IN  point of the lattice to start at
    start_states: npt.NDArray[np.int64],  # IN  (starts,) states of positive probability
    start_cumulative: npt.NDArray[np.float64],  # IN  (starts,) running sums of their probabilities
    seed: np.uint64,  # IN
    first: int,  # IN  number of the first episode
    max_steps: int,  # IN
    success: npt.NDArray[np.float64],  # OUT (episodes,)
    usage: npt.NDArray[np.int64],  # OUT (episodes, budgets)
    steps: npt.NDArray[np.int64],  # OUT (episodes,)
    ended: npt.NDArray[np.bool_],  # OUT (episodes,)
) -> int:
    """Run `len(success)` episodes from number `first` on; fill the last four arrays.

    Returns -1, or if an episode took an unavailable or unaffordable action, the index of that decision in
    `policy.ravel()`, for the first such episode.
    """
    n, n_lattice, n_budgets, base = len(success), policy.shape[1], len(limit), mix(seed)
    key, gamma = np.empty(n, np.uint64), np.empty(n, np.uint64)
    state, left = np.empty(n, np.int64), np.full(n, top)
    running, n_running, faulty, fault = np.arange(n), n, n, -1
    for i in range(n):
        number = TWO * np.uint64(first + i)
        key[i] = mix(base + GOLDEN * (number + ONE))
        gamma[i] = mix(base + GOLDEN * (number + TWO)) | ONE
        state[i] = start_states[search(start_cumulative, 0, len(start_cumulative), draw(key[i], gamma[i], 0))]
        usage[i], steps[i], success[i], ended[i] = 0, 0, 0.0, False
    # One step of every episode in turn, so that their memory reads, the bottleneck of a step, overlap.
    while n_running:
        still = 0
        for r in range(n_running):
            i = running[r]
            s = state[i]
            if not np.isnan(terminal_value[s]):
                success[i], ended[i] = terminal_value[s], True
                continue
            if steps[i] == max_steps:
                continue
            a = policy[s, left[i]]
            begin, end = indptr[a, s], indptr[a, s + 1]
            possible = begin < end
            if a > 0:  # nohelp costs nothing
                for k in range(n_budgets):
                    usage[i, k] += costs[a, k]
                    possible &= usage[i, k] <= limit[k]
            if not possible:
                if i < faulty:
                    faulty, fault = i, s * n_lattice + left[i]
                continue
            left[i] -= offset[a]
            steps[i] += 1
            state[i] = indices[search(cumulative, begin, end, draw(key[i], gamma[i], steps[i]))]
            running[still] = i
            still += 1
        n_running = still
    return int(fault)
