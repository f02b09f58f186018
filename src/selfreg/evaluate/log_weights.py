"""Importance weights as logarithms, and estimators as sums of them by task."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

# Largest logarithm of a weight: sums of such weights and of their products with usage are finite.
MOST_LOG_WEIGHT = 650.0


class Overlap(NamedTuple):
    """How much of the log the policy could have made.

    Attributes
    ----------
    episodes, tasks : int
    matched : float
        Share of the episodes with a positive weight: the policy could have taken all their steps.
    effective : float
        Effective number of tasks, (sum of task weights)^2 / sum of their squares.
    largest : float
        Share of the largest episode weight in the sum.
    mean_weight, mean_weight_error : float
        Mean weight and its standard error over tasks. The expected value is 1 where the propensities are right and
        everything that the policy does was tried; what is missing from 1 was never tried.
    """

    episodes: int
    tasks: int
    matched: float
    effective: float
    largest: float
    mean_weight: float
    mean_weight_error: float


class Table(NamedTuple):
    """Sums of a numerator and a denominator by task: an estimator is a ratio of sums, or a sum of such ratios."""

    top: Floats  # (tasks, parts)
    bottom: Floats

    def value(self, times: Floats) -> Floats:
        """Estimates with every task taken `times` (samples, tasks) times; parts without weight count nothing."""
        top, bottom = times @ self.top, times @ self.bottom
        return np.asarray(np.divide(top, bottom, out=np.zeros_like(top), where=bottom > 0).sum(axis=-1))


def log_of(chance: Floats) -> Floats:
    """Logarithms, of 0 too."""
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(chance))


def finite(logarithms: Floats) -> Floats:
    """0 in place of the logarithm of 0."""
    return np.where(np.isneginf(logarithms), 0.0, logarithms)


def scale_weights(log_weight: Floats) -> Floats:
    """Weights over the largest one of their column, all 0 where it is 0."""
    return np.asarray(np.exp(log_weight - finite(log_weight.max(axis=0))))
