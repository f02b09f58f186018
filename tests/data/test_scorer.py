"""Scores of states."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from selfreg.data import Step
from selfreg.data.scorer import CachedScorer


class Lengths:
    def __init__(self) -> None:
        self.scored: list[str] = []

    def text(self, steps: Sequence[Step]) -> str:
        return steps[-1].state

    def score(self, texts: Sequence[str]) -> npt.NDArray[np.float64]:
        self.scored += texts
        return np.array([1 / len(text) for text in texts])


def test_every_text_is_scored_once() -> None:
    scorer = Lengths()
    cached = CachedScorer(scorer)
    assert cached.text([Step("a"), Step("bb")]) == "bb"
    assert cached.score(["a", "bb", "a"]).tolist() == [1.0, 0.5, 1.0]
    assert cached.score(["bb", "cccc"]).tolist() == [0.5, 0.25]
    assert cached.score([]).shape == (0,)
    assert scorer.scored == ["a", "bb", "cccc"]
