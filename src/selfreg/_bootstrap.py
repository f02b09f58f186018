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
