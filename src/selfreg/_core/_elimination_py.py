"""Pure-Python twin of `_elimination.pyx`: same names and arguments, same results up to rounding."""

from __future__ import annotations

import heapq
from fractions import Fraction
from math import fsum

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Longs = npt.NDArray[np.int64]
Ints = npt.NDArray[np.int32]


def eliminate(
    indptr: Longs,
    indices: Ints,
    data: Floats,
    exits: Floats,
    lower_starts: Longs,
    lower_index: Ints,
    lower: Floats,
    upper_starts: Longs,
    upper_index: Ints,
    upper: Floats,
    pivot: Floats,
) -> int:
    """Eliminate all states in order: 0 if done, 1 if there is no room for the factors, 2 if a state never leaves."""
    lower_starts[0] = upper_starts[0] = 0
    for i in range(len(exits)):
        part = slice(indptr[i], indptr[i + 1])
        row = {j: p for j, p in zip(indices[part].tolist(), data[part].tolist(), strict=True) if j != i}
        heap, shares = [j for j in row if j < i], {}
        heapq.heapify(heap)
        while heap:
            k = heapq.heappop(heap)
            shares[k] = share = row.pop(k) / float(pivot[k])
            exits[i] += share * exits[k]
            for e in range(upper_starts[k], upper_starts[k + 1]):
                j = int(upper_index[e])
                if j < i and j not in row:
                    heapq.heappush(heap, j)
                if j != i:
                    row[j] = row.get(j, 0.0) + share * float(upper[e])
        begin, end = int(lower_starts[i]), int(lower_starts[i]) + len(shares)
        start, stop = int(upper_starts[i]), int(upper_starts[i]) + len(row)
        if end > len(lower) or stop > len(upper):
            return 1
        lower_index[begin:end], lower[begin:end] = list(shares), list(shares.values())
        upper_index[start:stop], upper[start:stop] = list(row), list(row.values())
        lower_starts[i + 1], upper_starts[i + 1] = end, stop
        pivot[i] = fsum([*row.values(), exits[i]])
        if not pivot[i] > 0.0:
            return 2
    return 0


def substitute(
    lower_starts: Longs,
    lower_index: Ints,
    lower: Floats,
    upper_starts: Longs,
    upper_index: Ints,
    upper: Floats,
    pivot: Floats,
    x: Floats,
) -> None:
    """Replace right sides x (n, k) by the solutions of (D - A) y = x."""
    for i in range(len(pivot)):
        part = slice(lower_starts[i], lower_starts[i + 1])
        x[i] += lower[part] @ x[lower_index[part]]
    for i in reversed(range(len(pivot))):
        part = slice(upper_starts[i], upper_starts[i + 1])
        x[i] = (x[i] + upper[part] @ x[upper_index[part]]) / pivot[i]


def substitute_transposed(
    lower_starts: Longs,
    lower_index: Ints,
    lower: Floats,
    upper_starts: Longs,
    upper_index: Ints,
    upper: Floats,
    pivot: Floats,
    x: Floats,
) -> None:
    """Replace right sides x (n, k) by the solutions of (D - A)^T y = x."""
    for i in range(len(pivot)):
        x[i] /= pivot[i]
        part = slice(upper_starts[i], upper_starts[i + 1])
        x[upper_index[part]] += upper[part, None] * x[i]
    for i in reversed(range(len(pivot))):
        part = slice(lower_starts[i], lower_starts[i + 1])
        x[lower_index[part]] += lower[part, None] * x[i]


def row_gains(indptr: Longs, indices: Ints, data: Floats, own: Ints, high: Floats, low: Floats, gain: Floats) -> None:
    """gain[r] = sum_j data[r, j] (x[j] - x[own[r]]) with x = high + low, to twice the digits of a float, rounded."""
    exact = [Fraction(h) + Fraction(rest) for h, rest in zip(high.tolist(), low.tolist(), strict=True)]
    for r, state in enumerate(own.tolist()):
        part = slice(indptr[r], indptr[r + 1])
        terms = zip(indices[part].tolist(), data[part].tolist(), strict=True)
        gain[r] = float(sum((Fraction(p) * (exact[j] - exact[state]) for j, p in terms), Fraction(0)))
