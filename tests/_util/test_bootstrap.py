"""Bounds of samples: as wide as they say, however few samples there are."""

from __future__ import annotations

import numpy as np
import pytest

from selfreg._util.bootstrap import central_bounds


@pytest.mark.parametrize("n", [19, 20, 40, 200])
def test_one_more_value_falls_between_the_bounds_as_often_as_they_say(n: int) -> None:
    drawn = np.random.default_rng(n).standard_normal((n + 1, 20_000))
    low, high = central_bounds(drawn[:-1], 0.9)
    # Four standard errors; the quantiles that numpy takes by default hold .80 for 20 samples, .85 for 40.
    assert np.mean((low <= drawn[-1]) & (drawn[-1] <= high)) == pytest.approx(0.9, abs=0.0085)


def test_too_few_samples_give_their_range() -> None:
    low, high = central_bounds(np.array([[3.0], [1.0], [2.0]]), 0.9)
    assert (low.tolist(), high.tolist()) == ([1.0], [3.0])
