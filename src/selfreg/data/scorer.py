"""What other rooms need of a PRM, so that none of them imports it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from selfreg.data.trajectory import Step


class StateScorer(Protocol):
    """Scores states by their texts, as a PRM does.

    Examples
    --------
    >>> import numpy as np
    >>> from selfreg.data import Step
    >>> class ShortIsGood:
    ...     def text(self, steps):
    ...         return steps[-1].state
    ...     def score(self, texts):
    ...         return np.array([1.0 if len(text) < 10 else 0.5 for text in texts])
    >>> scorer = ShortIsGood()
    >>> scorer.score([scorer.text([Step("a state")])]).tolist()
    [1.0]
    """

    def text(self, steps: Sequence[Step]) -> str:
        """Text of the current state: the one that the last of `steps` is in."""

    def score(self, texts: Sequence[str]) -> npt.NDArray[np.float64]:
        """P(success | text, no help from here on), float64 (len(texts),)."""


class CachedScorer:
    """A scorer that scores every text once and keeps its score."""

    def __init__(self, scorer: StateScorer) -> None:
        self.scorer = scorer
        self.kept: dict[str, float] = {}

    def text(self, steps: Sequence[Step]) -> str:
        """The scorer's text."""
        return self.scorer.text(steps)

    def score(self, texts: Sequence[str]) -> npt.NDArray[np.float64]:
        """The scorer's scores, float64 (len(texts),)."""
        missing = [text for text in dict.fromkeys(texts) if text not in self.kept]
        if missing:
            self.kept.update(zip(missing, self.scorer.score(missing).tolist(), strict=True))
        return np.array([self.kept[text] for text in texts], dtype=np.float64)
