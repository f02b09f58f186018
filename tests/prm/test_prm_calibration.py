"""Calibration: temperatures, isotonic curves, what recalibration does to drifted logs."""

from __future__ import annotations

import json

import msgspec
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import made
from selfreg.prm import PRM, PRMConfig, recalibrate, train_prm
from selfreg.prm.calibration import CALIBRATIONS, Isotonic, Temperature, calibrate, load_calibration
from selfreg.prm.metrics import brier, expected_calibration_error

Rows = st.lists(st.tuples(st.floats(-6, 6), st.floats(0, 1), st.floats(0.1, 3)), min_size=1, max_size=30)


def overconfident(factor: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, 4000)
    outcomes = (rng.random(4000) < 1 / (1 + np.exp(-logits))).astype(np.float64)
    return factor * logits, outcomes, np.ones(4000)


def test_temperature_undoes_overconfidence_and_keeps_off_single_outcomes() -> None:
    logits, outcomes, weights = overconfident(3)
    fitted = calibrate("temperature", logits, outcomes, weights)
    assert isinstance(fitted, Temperature)
    assert fitted.temperature == pytest.approx(3, rel=0.1)
    assert calibrate("temperature", logits, 0 * outcomes, weights) == Temperature(1.0)
    assert calibrate("none", logits, outcomes, weights) == Temperature(1.0)


@pytest.mark.parametrize("kind", ["temperature", "isotonic"])
def test_calibrated_probabilities_come_true(kind: str) -> None:
    logits, outcomes, weights = overconfident(3)
    half = slice(0, None, 2), slice(1, None, 2)
    fitted = calibrate(kind, logits[half[0]], outcomes[half[0]], weights[half[0]])
    before, after = (
        expected_calibration_error(c.probability(logits[half[1]]), outcomes[half[1]]) for c in (Temperature(), fitted)
    )
    assert before > 0.08
    assert after < 0.03


@given(Rows, st.sampled_from(CALIBRATIONS))
@example([(1.0, 0.75, 1.0), (3.91620569547122e-126, 0.96875, 1.5), (-0.375, 0.0, 1.0)], "isotonic")
def test_probabilities_keep_the_order_and_survive_json(rows: list[tuple[float, float, float]], kind: str) -> None:
    logits, outcomes, weights = (np.array(column) for column in zip(*rows, strict=True))
    fitted = calibrate(kind, logits, outcomes, weights)
    grid = np.linspace(-50, 50, 201)
    probability = fitted.probability(grid)
    assert ((probability >= 0) & (probability <= 1)).all()
    assert (np.diff(probability) >= 0).all()
    again = load_calibration(json.loads(json.dumps(fitted.describe())))
    np.testing.assert_array_equal(again.probability(grid), probability)


@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(0, 1)), min_size=3, max_size=12))
def test_isotonic_has_the_least_squares_of_all_monotone_curves(rows: list[tuple[int, int]]) -> None:
    """Against pooling adjacent violators written out: merge neighbours while they fall."""
    logits, outcomes = (np.array(column, dtype=np.float64) for column in zip(*rows, strict=True))
    fitted = calibrate("isotonic", logits, outcomes, np.ones(len(rows)))
    if not isinstance(fitted, Isotonic):
        assert len(np.unique(logits)) < 3 or np.ptp(outcomes) == 0
        return
    blocks = [[outcomes[logits == x].sum(), float((logits == x).sum()), [x]] for x in np.unique(logits)]
    i = 0
    while i + 1 < len(blocks):
        if blocks[i][0] / blocks[i][1] > blocks[i + 1][0] / blocks[i + 1][1]:
            blocks[i] = [a + b for a, b in zip(blocks[i], blocks.pop(i + 1), strict=True)]
            i = max(i - 1, 0)
        else:
            i += 1
    expected = {x: total / count for total, count, xs in blocks for x in xs}
    np.testing.assert_allclose(fitted.probability(np.array(list(expected))), list(expected.values()), atol=1e-6)


@pytest.fixture(scope="module")
def prm() -> PRM:
    return train_prm(made.colours(), PRMConfig(hidden_size=32, layers=1, epochs=4, max_tokens=32))


@pytest.mark.parametrize("kind", ["temperature", "isotonic"])
def test_recalibrate_on_recent_logs(prm: PRM, kind: str) -> None:
    """The world has become noisier than the PRM knows: probabilities come true again, the order stays."""
    recent = made.colours(tasks=30, seed=7, luck=0.7)
    changed = recalibrate(prm, recent, kind)
    assert changed.figures["ece"] < changed.figures["ece_before"] / 2
    assert changed.figures["brier"] < changed.figures["brier_before"]
    later = made.colours(tasks=30, seed=8, luck=0.7)
    texts = [t.steps[1].state for t in later]
    outcomes = [t.outcome for t in later]
    assert brier(changed.score(texts), outcomes) < brier(prm.score(texts), outcomes)
    np.testing.assert_array_equal(changed.logits(texts), prm.logits(texts))
    assert prm.figures["auroc"] > 0.9  # the PRM given is as it was


def test_recalibrate_says_what_is_missing(prm: PRM) -> None:
    with pytest.raises(ValueError, match="have 3 tasks; 5 folds need at least as many"):
        recalibrate(prm, made.colours(tasks=3))
    with pytest.raises(ValueError, match="folds is 1"):
        recalibrate(prm, made.colours(), folds=1)
    lost = [msgspec.structs.replace(log, outcome=0.0) for log in made.colours()]
    with pytest.raises(ValueError, match=r"every outcome is 0.0"):
        recalibrate(prm, lost)
    with pytest.raises(ValueError, match="calibration is 'platt'"):
        recalibrate(prm, made.colours(), "platt")
    with pytest.raises(ValueError, match="none of 0 trajectories"):
        recalibrate(prm, [])
