"""Results show themselves in a line: no array of hundreds of lines, no address."""

from __future__ import annotations

import pytest

from test_pickle import MAKERS

RESULTS = (
    "Solution", "RobustSolution", "StartSolution", "Frontier", "StationaryMixture", "RewardSearch", "PenalizedSolution",
    "PolicyValue", "PolicyTable", "Allocation", "ConstrainedMixture", "HardCapPrice", "Simulation", "Explanation",
    "EstimatedModel", "Counts", "Coverage", "Uncertainty", "FrontierBands", "CrossFit", "Labels",
)  # fmt: skip


@pytest.mark.parametrize("name", [name for name in RESULTS if name in MAKERS])
def test_a_result_is_one_short_line(name) -> None:
    text = repr(MAKERS[name]())
    assert text.startswith(f"{name}(")
    assert "\n" not in text
    assert " at 0x" not in text
    assert len(text) < 700
