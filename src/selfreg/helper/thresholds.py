"""Two thresholds on P(request), and the chance of a request between them, that use what is asked for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Halvings of the share.
HALVINGS = 30


def request_chance(request: Floats, low: float, high: float, share: float) -> Floats:
    """Chance of a request: 1 where P(request) is above `high`, `share` where it is above `low` only, else 0."""
    return np.where(request > high, 1.0, np.where(request > low, share, 0.0))


def choose_thresholds(
    request: Floats, usage: Callable[[float, float, float], float], wanted: float
) -> tuple[float, float, float, float]:
    """Thresholds `low` and `high` and the share between them that use `wanted`, and what they use.

    `request` has P(request) of some decisions, of any shape; `usage` computes the mean units at three such numbers.
    """
    levels = np.unique(request[request > 0])
    tried = np.concatenate([[0.0], (levels[1:] + levels[:-1]) / 2, [1.0]])
    first, last = 0, len(tried) - 1  # the lowest threshold that uses no more than is wanted
    while first < last:
        middle = (first + last) // 2
        fits = usage(tried[middle], tried[middle], 0.0) <= wanted
        first, last = (first, middle) if fits else (middle + 1, last)
    high, low, share, step = float(tried[first]), float(tried[max(first - 1, 0)]), 0.0, 0.5
    for _ in range(HALVINGS if first else 0):
        share, step = share + step * (usage(low, high, share + step) <= wanted), step / 2
    return low, high, share, usage(low, high, share)
