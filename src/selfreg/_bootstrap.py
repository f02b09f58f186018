"""Percentile bootstrap over tasks: the unit that is drawn is the task, never the episode or the step."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

RESAMPLES = 2000
LEVEL = 0.95


class Interval(NamedTuple):
    """A mean with the bounds of its bootstrap interval."""

    mean: float
    low: float
    high: float


def bootstrap(n: int, seed: int = 0, resamples: int = RESAMPLES) -> npt.NDArray[np.int64]:
    """Indices of `resamples` bootstrap samples of n tasks, int64 (resamples, n)."""
    return np.random.default_rng(seed).integers(n, size=(resamples, n))


def interval(mean: float, samples: npt.NDArray[np.float64]) -> Interval:
    """Percentile interval of bootstrap `samples` around `mean`; samples that are NaN are left out."""
    known = samples[~np.isnan(samples)]
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) if known.size else (np.nan, np.nan)
    return Interval(float(mean), float(low), float(high))
