"""Metrics against sums and pairs written out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfreg.prm.metrics import auroc, brier, expected_calibration_error, reliability

# a coarse grid makes ties and points on the edges of bins common
_LEVELS = st.sampled_from([0.0, 0.1, 0.25, 0.3, 0.5, 0.7, 0.9, 1.0])
_ROWS = st.lists(st.tuples(_LEVELS, _LEVELS, st.integers(0, 3)), min_size=1, max_size=12).filter(
    lambda rows: sum(w for _, _, w in rows) > 0
)


@given(_ROWS)
def test_brier_is_the_mean_square(rows: list[tuple[float, float, int]]) -> None:
    p, y, w = zip(*rows, strict=True)
    expected = sum(b * (a - c) ** 2 for a, c, b in rows) / sum(w)
    assert brier(p, y, w) == pytest.approx(expected)


@given(_ROWS, st.integers(1, 7))
def test_calibration_error_by_bins(rows: list[tuple[float, float, int]], bins: int) -> None:
    p, y, w = zip(*rows, strict=True)
    expected = 0.0
    for b in range(bins):
        inside = [row for row in rows if min(int(row[0] * bins), bins - 1) == b]
        expected += abs(sum(c * (a - o) for a, o, c in inside)) / sum(w)
    assert expected_calibration_error(p, y, w, bins) == pytest.approx(expected)
    assert reliability(p, y, w, bins).weight.sum() == pytest.approx(1)


@given(_ROWS)
def test_auroc_counts_pairs(rows: list[tuple[float, float, int]]) -> None:
    p, y, w = zip(*rows, strict=True)
    won = sum(wi * yi * wj * (1 - yj) * ((pi > pj) + (pi == pj) / 2) for pi, yi, wi in rows for pj, yj, wj in rows)
    pairs = sum(a * b for a, b in zip(y, w, strict=True)) * sum((1 - a) * b for a, b in zip(y, w, strict=True))
    if pairs == 0:
        assert math.isnan(auroc(p, y, w))
    else:
        assert auroc(p, y, w) == pytest.approx(won / pairs)


def test_merged_examples_have_the_area_of_single_ones() -> None:
    single = auroc([0.2, 0.2, 0.2, 0.8, 0.8], [0, 0, 1, 1, 1])
    assert auroc([0.2, 0.8], [1 / 3, 1], [3, 2]) == pytest.approx(single)


def test_area_of_a_perfect_reversed_and_constant_order() -> None:
    y = np.array([0, 0, 1, 1])
    assert (auroc([1, 2, 3, 4], y), auroc([4, 3, 2, 1], y), auroc([1, 1, 1, 1], y)) == (1, 0, 0.5)


@pytest.mark.parametrize(
    ("p", "y", "w", "message"),
    [
        ([], [], None, "scores have shape"),
        ([0.5], [0, 1], None, "outcome has shape"),
        ([0.5, 1.5], [0, 1], None, r"probability\[1\] is 1.5"),
        ([0.5, np.nan], [0, 1], None, r"probability\[1\] is nan"),
        ([0.5], [2], None, r"outcome\[0\] is 2"),
        ([0.5], [1], [-1], r"weight\[0\] is -1"),
        ([0.5], [1], [0], "weight sums to 0"),
    ],
)
def test_errors_name_the_culprit(p: list[float], y: list[float], w: list[float] | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        brier(p, y, w)


def test_scores_beyond_probabilities_are_fine_for_the_area_only() -> None:
    assert auroc([-3.0, 7.0], [0, 1]) == 1
    with pytest.raises(ValueError, match="bins is 0"):
        reliability([0.5], [1], bins=0)
