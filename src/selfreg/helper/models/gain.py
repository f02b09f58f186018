"""Model of what help gains where an episode is one decision, such as the choice of a model for a query (routing)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from selfreg._util.text_index import Tfidf
from selfreg.helper.models.linear import TfidfDecider
from selfreg.prm.calibration import sigmoid

Floats = NDArray[np.float64]

# Difference of success, less the price, that changes the log-odds of a request by one.
SCALE = 0.05


class GainDecider(TfidfDecider):
    """P(success) of each action, linear in TF-IDF on the scale of log-odds; help is requested where it gains enough.

    The log-odds of an action are its P(success), less its price, over `SCALE`. The budget matters only in so far as it
    pays for help.
    """

    form: ClassVar[str] = "gain"

    def __init__(self, actions: Sequence[str], limits: Sequence[int], words: Tfidf) -> None:
        super().__init__(actions, limits, words)
        self._weights, self._intercept = self._weights[:1], self._intercept[:1]
        self.prices = np.zeros(len(self.actions))

    def set_outcomes(self, weights: Floats, intercept: Floats, prices: Floats) -> None:
        """The regressions of success, (n_actions, size) and (n_actions,), and the price of each action."""
        self._weights, self._intercept = np.ascontiguousarray(weights.T[None]), intercept[None]
        self.prices = prices

    def success(self, texts: Sequence[str]) -> Floats:
        """P(success) of each action, float64 (n, n_actions)."""
        return np.asarray(sigmoid(self.features(texts) @ self._weights[0] + self._intercept[0]))

    def decision_logits(self, texts: Sequence[str], budgets: NDArray[np.int64]) -> Floats:
        """Log-odds of the actions, float64 (n, n_actions), the same at all budgets."""
        return np.asarray((self.success(texts) - self.prices) / SCALE)

    def describe_vocabulary(self) -> tuple[dict[str, Any], dict[str, Floats]]:
        """As of `TfidfDecider`, and the prices."""
        words, arrays = super().describe_vocabulary()
        return words, arrays | {"prices": self.prices}

    @classmethod
    def from_vocabulary(
        cls, actions: Sequence[str], limits: Sequence[int], record: dict[str, Any], arrays: Mapping[str, Floats]
    ) -> GainDecider:
        """Untrained, with vocabulary and prices of a record."""
        model = super().from_vocabulary(actions, limits, record, arrays)
        assert isinstance(model, GainDecider)
        model.prices = arrays["prices"]
        return model
