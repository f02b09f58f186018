"""Metrics of predicted success: Brier score, calibration error, area under the ROC curve. NumPy only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from selfreg._util.bootstrap import Interval, bootstrap, interval

Vector = NDArray[np.float64]


class Reliability(NamedTuple):
    """Reliability diagram: one entry for each bin that is not empty.

    Attributes
    ----------
    predicted, observed : ndarray of float64, shape (k,)
        Mean probability and mean outcome in the bin.
    weight : ndarray of float64, shape (k,)
        Share of the total weight in the bin; sums to 1.
    """

    predicted: Vector
    observed: Vector
    weight: Vector


def brier(probability: ArrayLike, outcome: ArrayLike, weight: ArrayLike | None = None) -> float:
    """Brier score, ``sum_i w_i (p_i - y_i)^2 / sum_i w_i``: 0 is perfect, a constant 1/2 has 1/4.

    Parameters
    ----------
    probability, outcome : array_like, shape (n,)
        In [0, 1]. Merged outcomes (success rates) lower the score by the variance within them: pass single outcomes.
    weight : array_like, shape (n,), optional
        Nonnegative; 1 by default.

    Raises
    ------
    ValueError
        Naming the argument that is empty, misshapen, not finite or out of range.

    Examples
    --------
    >>> brier([0.5, 1.0], [0, 1])
    0.125
    """
    p, y, w = _check_arrays(probability, outcome, weight, bounded=True)
    return float(np.average((p - y) ** 2, weights=w))


def reliability(
    probability: ArrayLike, outcome: ArrayLike, weight: ArrayLike | None = None, bins: int = 10
) -> Reliability:
    """Mean outcome against mean probability in `bins` bins of equal width, ``[0, 1/bins), ..., [1 - 1/bins, 1]``.

    Parameters and errors are those of `brier`; `bins` is at least 1.

    Examples
    --------
    >>> reliability([0.1, 0.9, 0.95], [0, 1, 0], bins=2).observed
    array([0. , 0.5])
    """
    if bins < 1:
        raise ValueError(f"bins is {bins}; expected at least 1")
    p, y, w = _check_arrays(probability, outcome, weight, bounded=True)
    index = np.minimum((p * bins).astype(np.intp), bins - 1)
    total, predicted, observed = (np.bincount(index, weights=v, minlength=bins) for v in (w, w * p, w * y))
    used = total > 0
    return Reliability(predicted[used] / total[used], observed[used] / total[used], total[used] / total.sum())


def expected_calibration_error(
    probability: ArrayLike, outcome: ArrayLike, weight: ArrayLike | None = None, bins: int = 10
) -> float:
    """Expected calibration error, ``sum_bins share_bin |mean outcome - mean probability|``.

    Parameters and errors are those of `reliability`.

    Examples
    --------
    >>> round(expected_calibration_error([0.8, 0.8], [1, 0]), 3)
    0.3
    """
    diagram = reliability(probability, outcome, weight, bins)
    return float(np.sum(diagram.weight * np.abs(diagram.observed - diagram.predicted)))


def auroc(score: ArrayLike, outcome: ArrayLike, weight: ArrayLike | None = None) -> float:
    """Area under the ROC curve: P(a success scores above a failure) + P(they tie) / 2.

    Parameters
    ----------
    score : array_like, shape (n,)
        Any finite numbers.
    outcome : array_like, shape (n,)
        In [0, 1]. A soft outcome y is y of a success and 1 - y of a failure, so that merged examples
        (success rate, with their count as weight) give the same area as single ones.
    weight : array_like, shape (n,), optional
        Nonnegative; 1 by default.

    Returns
    -------
    float
        NaN where there are no successes or no failures.

    Examples
    --------
    >>> auroc([0.1, 0.4, 0.4, 0.9], [0, 0, 1, 1])
    0.875
    """
    s, y, w = _check_arrays(score, outcome, weight, bounded=False)
    _, group = np.unique(s, return_inverse=True)
    success, failure = np.bincount(group, weights=w * y), np.bincount(group, weights=w * (1 - y))
    pairs = success.sum() * failure.sum()
    if pairs == 0:
        return float("nan")
    below = np.cumsum(failure) - failure
    return float(np.sum(success * (below + failure / 2)) / pairs)


METRICS: dict[str, Callable[..., float]] = {"auroc": auroc, "brier": brier, "ece": expected_calibration_error}
RESAMPLES = 1000


def by_task(
    metric: str, score: ArrayLike, outcome: ArrayLike, tasks: Sequence[str], weight: ArrayLike | None = None
) -> Interval:
    """A metric with its 95% percentile bootstrap interval over tasks.

    Parameters
    ----------
    metric : {"auroc", "brier", "ece"}
    score, outcome, weight : array_like, shape (n,)
        As of `auroc` and `brier`.
    tasks : sequence of str, length n
        Task of each score. Resamples draw whole tasks.

    Examples
    --------
    >>> by_task("brier", [0.5, 0.5], [0, 1], ["a", "b"])
    Interval(mean=0.25, low=0.25, high=0.25)
    """
    s, y, w = _check_arrays(score, outcome, weight, bounded=metric != "auroc")
    return interval(METRICS[metric](s, y, w), _resample(metric, s, y, w, tasks))


def difference_by_task(
    metric: str,
    score: ArrayLike,
    other: ArrayLike,
    outcome: ArrayLike,
    tasks: Sequence[str],
    weight: ArrayLike | None = None,
) -> Interval:
    """The metric of `score` minus that of `other`, paired: both on the same resamples of tasks.

    Parameters are those of `by_task`.

    Examples
    --------
    >>> difference_by_task("brier", [0.5, 0.5], [0.0, 1.0], [0, 1], ["a", "b"])
    Interval(mean=0.25, low=0.25, high=0.25)
    """
    s, y, w = _check_arrays(score, outcome, weight, bounded=metric != "auroc")
    o = _check_arrays(other, outcome, weight, bounded=metric != "auroc")[0]
    gap = METRICS[metric](s, y, w) - METRICS[metric](o, y, w)
    return interval(gap, _resample(metric, s, y, w, tasks) - _resample(metric, o, y, w, tasks))


class ReliabilityRow(NamedTuple):
    """A bin of a reliability diagram: mean probability, mean outcome with its interval, share of the weight."""

    predicted: float
    observed: float
    low: float
    high: float
    weight: float


def reliability_by_task(
    probability: ArrayLike,
    outcome: ArrayLike,
    tasks: Sequence[str],
    weight: ArrayLike | None = None,
    bins: int = 10,
) -> list[ReliabilityRow]:
    """Reliability diagram with a 95% bootstrap interval over tasks for the mean outcome of each bin.

    Parameters are those of `by_task` and `reliability`.

    Examples
    --------
    >>> reliability_by_task([0.1, 0.9], [0, 1], ["a", "b"], bins=2)[1].observed
    1.0
    """
    p, y, w = _check_arrays(probability, outcome, weight, bounded=True)
    diagram = reliability(p, y, w, bins)
    index = np.minimum((p * bins).astype(np.intp), bins - 1)
    names, task = np.unique(np.asarray(tasks), return_inverse=True)
    shape = len(names), bins
    total, wins = np.zeros(shape), np.zeros(shape)
    np.add.at(total, (task, index), w)
    np.add.at(wins, (task, index), w * y)
    drawn = bootstrap(len(names), resamples=RESAMPLES)
    used = np.flatnonzero(total.sum(axis=0) > 0)
    rows = []
    for place, k in enumerate(used):
        sums = total[drawn, k].sum(axis=1)
        samples = np.divide(wins[drawn, k].sum(axis=1), sums, out=np.full(len(sums), np.nan), where=sums > 0)
        observed = interval(float(diagram.observed[place]), samples)
        rows.append(ReliabilityRow(float(diagram.predicted[place]), *observed, float(diagram.weight[place])))
    return rows


def _resample(metric: str, s: Vector, y: Vector, w: Vector, tasks: Sequence[str]) -> Vector:
    """The metric on resamples of tasks; NaN where a resample has none."""
    names, task = np.unique(np.asarray(tasks), return_inverse=True)
    if task.shape != s.shape:
        raise ValueError(f"tasks has length {len(tasks)}; expected {len(s)}, one for each score")
    drawn = [np.bincount(sample, minlength=len(names)) for sample in bootstrap(len(names), resamples=RESAMPLES)]
    weights = (w * times[task] for times in drawn)
    return np.array([METRICS[metric](s, y, v) if v.sum() > 0 else np.nan for v in weights])


def _check_arrays(
    probability: ArrayLike, outcome: ArrayLike, weight: ArrayLike | None, bounded: bool
) -> tuple[Vector, Vector, Vector]:
    p, y = np.asarray(probability, dtype=np.float64), np.asarray(outcome, dtype=np.float64)
    w = np.ones(p.shape) if weight is None else np.asarray(weight, dtype=np.float64)
    if p.ndim != 1 or p.size == 0:
        raise ValueError(f"scores have shape {p.shape}; expected (n,) with n at least 1")
    for name, values, top in (
        ("probability", p, 1.0 if bounded else np.inf),
        ("outcome", y, 1.0),
        ("weight", w, np.inf),
    ):
        if values.shape != p.shape:
            raise ValueError(f"{name} has shape {values.shape}; expected {p.shape}")
        low = 0.0 if bounded or name != "probability" else -np.inf
        wrong = ~(np.isfinite(values) & (values >= low) & (values <= top))
        if wrong.any():
            i = int(np.flatnonzero(wrong)[0])
            raise ValueError(f"{name}[{i}] is {values[i]}; expected a finite number from {low:g} to {top:g}")
    if not w.sum() > 0:
        raise ValueError("weight sums to 0")
    return p, y, w
