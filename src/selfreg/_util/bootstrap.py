"""Percentile bootstrap over tasks: the unit that is drawn is the task, never the episode or the step."""

from __future__ import annotations

from collections.abc import Mapping
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


def central_bounds(
    samples: npt.NDArray[np.float64], confidence: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Bounds between which one more value like `samples` (n, ...) falls with this confidence, whatever n is.

    The k-th smallest of n has on average k / (n + 1) of the distribution below it (Hyndman and Fan 1996, definition
    6); the usual interpolation takes it for (k - 1) / (n - 1), so that 90% intervals of 20 samples would hold 81%.
    Fewer than 2 / (1 - confidence) - 1 samples do not reach so far out: then smallest and largest.

    >>> [round(float(bound), 2) for bound in central_bounds(np.arange(1.0, 20.0), 0.9)]
    [1.0, 19.0]
    """
    tails = [0.5 - confidence / 2, 0.5 + confidence / 2]
    low, high = np.quantile(samples, tails, axis=0, method="weibull")
    return np.asarray(low), np.asarray(high)


def interval(mean: float, samples: npt.NDArray[np.float64]) -> Interval:
    """Percentile interval of bootstrap `samples` around `mean`; samples that are NaN are left out."""
    known = samples[~np.isnan(samples)]
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) if known.size else (np.nan, np.nan)
    return Interval(float(mean), float(low), float(high))


def as_texts(figures: Mapping[str, float]) -> dict[str, str]:
    """Figures as texts; bounds (`NAME_low`, `NAME_high`) stand behind their figure.

    >>> as_texts({"brier": 0.2, "brier_low": 0.1, "brier_high": 0.3, "steps": 7})
    {'brier': '0.2 [0.1, 0.3]', 'steps': '7'}
    """
    bounded = {name: (f"{name}_low", f"{name}_high") for name in figures if f"{name}_low" in figures}
    bounds = {bound for pair in bounded.values() for bound in pair}
    return {
        name: f"{value:.4g}" + (" [{:.4g}, {:.4g}]".format(*map(figures.get, bounded[name])) if name in bounded else "")
        for name, value in figures.items()
        if name not in bounds
    }
