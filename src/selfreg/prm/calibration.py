"""Calibration: from logits to probabilities, by a temperature or an isotonic curve."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from selfreg._util.extras import require_extra

Vector = NDArray[np.float64]

CALIBRATIONS = ("temperature", "isotonic", "none")
# With fewer distinct logits an isotonic curve would only repeat them.
LEAST_DISTINCT = 3


class Calibration(Protocol):
    """Maps logits to probabilities; monotone, ties may arise."""

    def probability(self, logits: Vector) -> Vector:
        """Float64 (n,), in [0, 1]."""

    def describe(self) -> dict[str, Any]:
        """Settings as JSON values, enough for `calibration_from`."""


@dataclass(frozen=True)
class Temperature:
    """p = sigmoid(logit / temperature)."""

    temperature: float = 1.0

    def probability(self, logits: Vector) -> Vector:
        """Float64 (n,), in [0, 1]."""
        return sigmoid(logits / self.temperature)

    def describe(self) -> dict[str, Any]:
        """Settings as JSON values."""
        return {"kind": "temperature", "temperature": self.temperature}


@dataclass(frozen=True)
class Isotonic:
    """A non-decreasing curve, linear between its points and constant outside of them."""

    logits: tuple[float, ...]
    probabilities: tuple[float, ...]

    def probability(self, logits: Vector) -> Vector:
        """Float64 (n,), in [0, 1]."""
        curve = np.asarray(self.probabilities)
        place = np.clip(np.searchsorted(self.logits, logits, side="right"), 1, len(curve) - 1)
        # rounding may carry a value past the next point
        return np.asarray(np.clip(np.interp(logits, self.logits, curve), curve[place - 1], curve[place]))

    def describe(self) -> dict[str, Any]:
        """Settings as JSON values."""
        return {"kind": "isotonic", "logits": list(self.logits), "probabilities": list(self.probabilities)}


def load_calibration(description: Mapping[str, Any]) -> Calibration:
    """Calibration from what its `describe` returned."""
    if description["kind"] == "isotonic":
        return Isotonic(tuple(description["logits"]), tuple(description["probabilities"]))
    return Temperature(float(description["temperature"]))


def calibrate(kind: str, logits: Vector, outcomes: Vector, weights: Vector) -> Calibration:
    """Fit a calibration on held-out states.

    Parameters
    ----------
    kind : {"temperature", "isotonic", "none"}
        "temperature" (Guo et al., 2017, "On Calibration of Modern Neural Networks") is one number, from 1/2 to 8, with
        the least log-loss; "isotonic" (Zadrozny and Elkan, 2002) is a curve, for some hundreds of states and more;
        "none" is a temperature of 1.
    logits, outcomes, weights : ndarray of float64, shape (n,)
        Outcomes in [0, 1].

    Returns
    -------
    Calibration
        A temperature of 1 where all outcomes are the same.

    Raises
    ------
    ValueError
        Unknown `kind`.

    Examples
    --------
    >>> import numpy as np
    >>> logits = np.repeat([-3.0, 3.0], 100)  # predicted .05 and .95, realised .3 and .7
    >>> outcomes = np.tile(np.repeat([0.0, 1.0], [70, 30]), 2)
    >>> outcomes[100:] = 1 - outcomes[100:]
    >>> calibrate("temperature", logits, outcomes, np.ones(200)).probability(np.array([3.0])).round(2)
    array([0.7])
    """
    if kind not in CALIBRATIONS:
        raise ValueError(f"calibration is {kind!r}; choose from {', '.join(CALIBRATIONS)}")
    if kind == "none" or np.ptp(outcomes) == 0:
        return Temperature()
    if kind == "isotonic" and len(np.unique(logits)) >= LEAST_DISTINCT:
        return _isotonic(logits, outcomes, weights)
    grid = 2.0 ** np.linspace(-1, 3, 129)
    # log(1 + exp(z)) - y z is the log-loss of a logit z
    loss = [float(weights @ (np.logaddexp(0, logits / t) - outcomes * logits / t)) for t in grid]
    return Temperature(float(grid[int(np.argmin(loss))]))


def _isotonic(logits: Vector, outcomes: Vector, weights: Vector) -> Isotonic:
    with require_extra("ml", "isotonic calibration"):
        from sklearn.isotonic import IsotonicRegression
    curve = IsotonicRegression(y_min=0.0, y_max=1.0).fit(logits, outcomes, sample_weight=weights)
    return Isotonic(tuple(curve.X_thresholds_.tolist()), tuple(curve.y_thresholds_.tolist()))


def sigmoid(logits: Vector) -> Vector:
    """1 / (1 + exp(-logit)), without overflow."""
    return np.exp(-np.logaddexp(0.0, -logits))
