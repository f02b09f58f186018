"""How good probabilities of success are: Brier score, calibration error, area under the ROC curve. NumPy only."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

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
        In [0, 1]. Merged outcomes (success rates) lower the score by their inner variance: give single ones.
    weight : array_like, shape (n,), optional
        Nonnegative; 1 each where left out.

    Raises
    ------
    ValueError
        Naming the argument that is empty, misshapen, not finite or out of range.

    Examples
    --------
    >>> brier([0.5, 1.0], [0, 1])
    0.125
    """
    p, y, w = _checked(probability, outcome, weight, bounded=True)
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
    p, y, w = _checked(probability, outcome, weight, bounded=True)
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
        Nonnegative; 1 each where left out.

    Returns
    -------
    float
        NaN where there are no successes or no failures.

    Examples
    --------
    >>> auroc([0.1, 0.4, 0.4, 0.9], [0, 0, 1, 1])
    0.875
    """
    s, y, w = _checked(score, outcome, weight, bounded=False)
    _, group = np.unique(s, return_inverse=True)
    success, failure = np.bincount(group, weights=w * y), np.bincount(group, weights=w * (1 - y))
    pairs = success.sum() * failure.sum()
    if pairs == 0:
        return float("nan")
    below = np.cumsum(failure) - failure
    return float(np.sum(success * (below + failure / 2)) / pairs)


def _checked(
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
