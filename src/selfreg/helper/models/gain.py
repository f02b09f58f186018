"""Model of what help gains where an episode is one decision, such as the choice of a model for a query (routing)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from selfreg._util.progress import track
from selfreg._util.text_index import Tfidf
from selfreg.helper.models.linear import TfidfDecider
from selfreg.prm.calibration import sigmoid
from selfreg.prm.linear import fit_logistic
from selfreg.prm.transformer import Examples

Floats = NDArray[np.float64]

# Difference of success, less the price, that changes the log-odds of a request by one.
SCALE = 0.05
# Square of a feature that all rows have: its weight, the intercept, has nearly no penalty.
UNPENALIZED = 1e4
# Texts of which each is left out alone, at most: memory and time grow with their square and cube. More are left out in
# folds.
MOST_LEFT_OUT, FOLDS = 3_000, 10


class GainDecider(TfidfDecider):
    """P(success) of each action, linear in TF-IDF on the scale of log-odds; help is requested where it gains enough.

    The log-odds of an action are its P(success), less its price, over `SCALE`. The budget matters only in so far as it
    pays for help.
    """

    form: ClassVar[str] = "gain"

    def __init__(self, actions: Sequence[str], limits: Sequence[int], words: Tfidf) -> None:
        super().__init__(actions, limits, words)
        self._weights, self._intercept = self._weights[:1], self._intercept[:1]
        self.prices, self.strengths = np.zeros((2, len(self.actions)))

    def set_outcomes(self, weights: Floats, intercept: Floats, strengths: Floats, prices: Floats) -> None:
        """The regressions of success, (n_actions, size) and (n_actions,), and the price of each action.

        `strengths` are the inverse weights of the penalties, (n_actions,): 0 where all outcomes were the same.
        """
        self._weights, self._intercept = np.ascontiguousarray(weights.T[None]), intercept[None]
        self.strengths, self.prices = strengths, prices

    def success(self, texts: Sequence[str]) -> Floats:
        """P(success) of each action, float64 (n, n_actions)."""
        return np.asarray(sigmoid(self.features(texts) @ self._weights[0] + self._intercept[0]))

    def decision_logits(self, texts: Sequence[str], budgets: NDArray[np.int64]) -> Floats:
        """Log-odds of the actions, float64 (n, n_actions), the same at all budgets."""
        return self.success_logits(self.success(texts))

    def success_logits(self, success: Floats) -> Floats:
        """Log-odds of the actions where P(success) of each is this, (n, n_actions)."""
        return np.asarray((success - self.prices) / SCALE)

    def leave_out(self, texts: Sequence[str], text: NDArray[np.int64], counts: Floats, outcomes: Floats) -> Floats:
        """P(success) of each action for queries that were learnt, as learnt from the others, float64 (n, n_actions).

        Approximate leave-one-out of a ridge logistic regression: one Newton step from its weights (Rad & Maleki, 2020),
        which is coarse for queries with many episodes. Of more than `MOST_LEFT_OUT` texts, a tenth is left out at a
        time, and the regressions are fitted anew. Words that no other query has are unknown then.

        Parameters
        ----------
        texts : sequence of str
            Distinct ones.
        text : int64 (n,)
            Of each query.
        counts, outcomes : float64 (n, n_actions)
            Episodes of each query with each action, and their mean outcome.
        """
        features = sp.csr_array(self.features(texts))
        if len(texts) > MOST_LEFT_OUT:
            return self._leave_out_folds(features, text, counts, outcomes)
        queries = np.bincount(text, minlength=len(texts)) @ (features > 0)
        known = _keep(features, queries > 1)
        weights, intercept = self._weights[0], self._intercept[0]
        logits, fitted = np.asarray(known @ weights + intercept)[text], np.asarray(features @ weights + intercept)
        for a in track(np.flatnonzero(self.strengths), "leaving out each query", "actions"):
            probability, total = sigmoid(fitted[:, a]), np.bincount(text, counts[:, a], len(texts))
            rows = np.flatnonzero(total)
            curvature, own, other = np.zeros((3, len(texts)))
            curvature[rows] = probability[rows] * (1.0 - probability[rows])
            own[rows], other[rows] = _invert_hessian(
                features[rows], known[rows], total[rows] * curvature[rows], float(self.strengths[a])
            )
            gradient = counts[:, a] * (probability[text] - outcomes[:, a])
            logits[:, a] += gradient * other[text] / np.maximum(1.0 - counts[:, a] * (curvature * own)[text], 1e-3)
        return np.asarray(sigmoid(logits))

    def _leave_out_folds(
        self, features: sp.csr_array, text: NDArray[np.int64], counts: Floats, outcomes: Floats
    ) -> Floats:
        """As `leave_out`, where each fold of the texts is left out."""
        fold = np.random.default_rng(0).permutation(features.shape[0]) % FOLDS
        logits = np.tile(self._intercept[0], (len(text), 1))
        for k in track(range(FOLDS), "leaving out folds of queries", "folds"):
            known = _keep(features, np.asarray((features[fold != k] > 0).sum(axis=0)).ravel() > 0)
            out = fold[text] == k
            for a in np.flatnonzero(self.strengths):
                rows = np.flatnonzero(~out & (counts[:, a] > 0))
                if not len(rows):
                    continue
                part = Examples([""] * len(rows), outcomes[rows, a, None], counts[rows, a])
                inside = features[text[rows]]
                strength = float(self.strengths[a]) * FOLDS / (FOLDS - 1)  # the penalty keeps its share of the loss
                weights, intercept, _ = fit_logistic(inside, part, inside, part, (strength,))
                logits[out, a] = known[text[out]] @ weights + intercept
        return np.asarray(sigmoid(logits))

    def describe_vocabulary(self) -> tuple[dict[str, Any], dict[str, Floats]]:
        """As of `TfidfDecider`, with the prices and the strengths of the penalties."""
        words, arrays = super().describe_vocabulary()
        return words, arrays | {"prices": self.prices, "strengths": self.strengths}

    @classmethod
    def from_vocabulary(
        cls, actions: Sequence[str], limits: Sequence[int], record: dict[str, Any], arrays: Mapping[str, Floats]
    ) -> GainDecider:
        """Untrained, with vocabulary and prices of a record."""
        model = super().from_vocabulary(actions, limits, record, arrays)
        assert isinstance(model, GainDecider)
        model.prices = arrays["prices"]
        model.strengths = arrays.get("strengths", model.strengths)  # folders from before have none
        return model


def _keep(features: sp.csr_array, known: NDArray[np.bool_]) -> sp.csr_array:
    """Rows of length 1 with the known columns of `features` only, or zeros."""
    kept = sp.csr_array(features @ sp.diags_array(known * 1.0))
    length = np.sqrt(kept.multiply(kept).sum(axis=1))
    return sp.csr_array(sp.diags_array(1.0 / np.maximum(length, 1e-9)) @ kept)


def _invert_hessian(
    features: sp.csr_array, held_out: sp.csr_array, curvature: Floats, strength: float
) -> tuple[Floats, Floats]:
    """x' H^-1 x and z' H^-1 x of each row x of `features` and z of `held_out`.

    H is the Hessian of the regression, the penalty plus the sum of `curvature` x x'. By the Gram matrix of the rows.
    """
    from scipy.linalg import cho_factor, cho_solve  # slow to import

    gram, cross = ((one @ features.T).toarray() + UNPENALIZED for one in (features, held_out))
    factor = cho_factor(gram + np.diag(1.0 / (strength * np.maximum(curvature, 1e-9))), lower=True)
    solved = cho_solve(factor, gram)
    own, other = (strength * (one.diagonal() - np.einsum("ij,ji->i", one, solved)) for one in (gram, cross))
    return np.asarray(own), np.asarray(other)
