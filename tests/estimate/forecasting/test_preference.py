"""Which policy is recommended where the one that comes first is uncertain."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from selfreg.estimate.forecasting.recommendation import _prefer


def gain(mean: float, spread: float, seed: int) -> npt.NDArray[np.float64]:
    """The mean, then samples of it."""
    return np.append(mean, mean + spread * np.random.default_rng(seed).standard_normal(300))


def test_a_policy_that_surely_gains_replaces_one_that_may_do_nothing() -> None:
    always, helper = gain(0.0, 0.2, 1), gain(0.18, 0.02, 2)
    assert np.mean(helper[1:] > always[1:]) < 0.9
    assert _prefer({1: always, 2: helper}, [1], [2]) == 2


def test_a_policy_that_surely_gains_is_kept_beside_one_that_is_little_better() -> None:
    assert _prefer({1: gain(0.18, 0.03, 1), 2: gain(0.19, 0.03, 2)}, [1], [2]) == 1


def test_of_two_that_may_do_nothing_the_first_is_kept() -> None:
    assert _prefer({1: gain(0.0, 0.2, 1), 2: gain(0.05, 0.2, 2)}, [1], [2]) == 1
