"""What models of decisions by features of the text have in common: one model for each budget."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from selfreg._util.progress import track
from selfreg.data import Step, state_text
from selfreg.helper.examples import Votes
from selfreg.helper.models.transformer import deduplicate
from selfreg.prm.config import EncoderConfig
from selfreg.prm.transformer import Examples

Floats = NDArray[np.float64]

# Log-odds of the decision where a budget has only one.
CERTAIN = 10.0


class PerBudget(ABC):
    """Log-odds of the actions from features of the text, by a model of their own for each budget."""

    form: ClassVar[str]

    def __init__(self, actions: Sequence[str], limits: Sequence[int]) -> None:
        self.actions, self.limits = tuple(actions), tuple(limits)
        self._intercept = np.zeros((int(np.prod([top + 1 for top in limits])), len(self.actions)))

    def read(self, steps: Sequence[Step], history: int) -> str:
        """The text of the state."""
        return state_text(steps, history)

    @abstractmethod
    def features(self, texts: Sequence[str]) -> Any:
        """Features of texts, (n, size)."""

    @abstractmethod
    def fit_point(self, p: int, known: Any, votes: Floats, held_out: Any, checks: Floats) -> float:
        """Learn the model at one point of the budget lattice; return its summed validation loss.

        Parameters
        ----------
        p : int
        known, held_out : (n, size)
            Features of training and validation texts.
        votes, checks : float64 (n, n_actions)
            Weights of their decisions.
        """

    @abstractmethod
    def logits_at(self, p: int, features: Any) -> Floats:
        """Log-odds of the actions at a point of the budget lattice, float64 (n, n_actions)."""

    def choose_features(self, train: Examples, config: EncoderConfig) -> None:
        """Choose what `features` reads, by the examples that are learnt; nothing to choose by default."""
        return

    def examples(self, votes: Votes) -> Examples:
        """One example for each text, the weight of each decision at each budget as target."""
        return Examples(votes.texts, votes.weights, votes.weights.sum(axis=2), tasks=votes.tasks)

    def fit(
        self,
        train: Examples,
        validation: Examples,
        config: EncoderConfig,
        title: str = "training",
        *,
        checkpoint: str | os.PathLike[str] | None = None,
    ) -> dict[str, float]:
        """Learn budget by budget, with settings chosen by validation loss; writes no checkpoint."""
        self.choose_features(train, config)
        known, held_out = (self.features(part.texts) for part in (train, validation))
        losses = np.zeros(len(self._intercept))
        for p in track(range(len(losses)), title, "labels"):
            losses[p] = self.fit_point(p, known, train.targets[:, p], held_out, validation.targets[:, p])
        total = validation.weights.sum()
        return {"epochs": 0.0, "validation_loss": float(losses.sum() / total) if total else 0.0}

    def decision_logits(self, texts: Sequence[str], budgets: NDArray[np.int64]) -> Floats:
        """Log-odds of the actions, float64 (n, n_actions)."""
        point = np.ravel_multi_index(tuple(budgets.T), tuple(top + 1 for top in self.limits))
        different, rows = deduplicate(texts)
        features, result = self.features(different), np.empty((len(texts), len(self.actions)))
        if len(different) == len(texts) and (point == point[0]).all():
            return self.logits_at(int(point[0]), features)
        for p in np.unique(point):
            at = point == p
            result[at] = self.logits_at(p, features[rows[at]])
        return result


def weighted_loss(logits: Floats, votes: Floats) -> float:
    """Cross-entropy of logits (n, n_actions), summed with the weights of the decisions."""
    return float((votes * (np.logaddexp.reduce(logits, axis=1, keepdims=True) - logits)).sum())
