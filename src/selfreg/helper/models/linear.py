"""Linear forms of the helper: words and a logistic regression for each budget (scikit-learn)."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from selfreg._util.extras import require_extra
from selfreg._util.text_features import GROUPS_VERSION, hashed_words
from selfreg._util.text_index import Tfidf
from selfreg.helper.memory import tfidf_vectorizer
from selfreg.helper.models.per_budget import CERTAIN, PerBudget, weighted_loss
from selfreg.prm.config import EncoderConfig
from selfreg.prm.linear import MOST_FEATURES, STRENGTHS, WEIGHTS, read_arrays
from selfreg.prm.transformer import read_record, write_model_folder

Floats = NDArray[np.float64]

HASHED = 2**15  # number of hash values of word groups


class LinearDecider(PerBudget):
    """Log-odds linear in features of the text, with separate weights for each budget."""

    def __init__(self, actions: Sequence[str], limits: Sequence[int], size: int) -> None:
        super().__init__(actions, limits)
        # in the order in which a product with sparse rows reads them: no copy for a decision
        self._weights = np.zeros((len(self._intercept), size, len(self.actions)))

    @classmethod
    @abstractmethod
    def build(
        cls, actions: Sequence[str], limits: Sequence[int], texts: Sequence[str], config: EncoderConfig
    ) -> LinearDecider:
        """Untrained, with the vocabulary of `texts`."""

    def describe_vocabulary(self) -> tuple[dict[str, Any], dict[str, Floats]]:
        """Values of the record and arrays for `from_vocabulary`, besides the weights."""
        return {}, {}

    @classmethod
    @abstractmethod
    def from_vocabulary(
        cls, actions: Sequence[str], limits: Sequence[int], record: dict[str, Any], arrays: Mapping[str, Floats]
    ) -> LinearDecider:
        """Untrained, with the vocabulary of a record."""

    def fit_point(
        self, p: int, known: Any, votes: Floats, held_out: Any, checks: Floats, strengths: Sequence[float] = STRENGTHS
    ) -> float:
        """As of `PerBudget`; `strengths` are inverse weights of the penalty, the least loss on validation chooses."""
        with require_extra("ml", "a linear helper"):
            from sklearn.linear_model import LogisticRegression
        used = np.flatnonzero(votes.sum(axis=0))
        self._weights[p], self._intercept[p] = 0.0, 0.0
        if len(used) < 2:  # no decision here, or only one
            self._intercept[p, used] = CERTAIN
            return weighted_loss(self.logits_at(p, held_out), checks)
        rows, decisions = np.nonzero(votes)
        weight = votes[rows, decisions]
        best: tuple[float, Floats, Floats] | None = None
        for strength in strengths:
            model = LogisticRegression(C=strength, max_iter=1000)
            model.fit(known[rows], decisions, sample_weight=weight / weight.mean())
            self._weights[p], self._intercept[p] = 0.0, -CERTAIN
            # for two classes scikit-learn returns only the weights of the second
            chosen = used[1:] if len(used) == 2 else used
            self._intercept[p, used[0]] = 0.0
            self._weights[p][:, chosen], self._intercept[p, chosen] = model.coef_.T, model.intercept_
            loss = weighted_loss(self.logits_at(p, held_out), checks)
            if best is None or loss < best[0]:
                best = loss, self._weights[p].copy(), self._intercept[p].copy()
        assert best is not None
        self._weights[p], self._intercept[p] = best[1:]
        return best[0]

    def logits_at(self, p: int, features: Any) -> Floats:
        """Log-odds of the actions at a point of the budget lattice, float64 (n, n_actions)."""
        return np.asarray(features @ self._weights[p] + self._intercept[p])

    def save(self, folder: str | os.PathLike[str], record: Mapping[str, object], card: str | None = None) -> None:
        """Write weights and vocabulary atomically, nothing pickled."""
        words, arrays = self.describe_vocabulary()
        made: dict[str, Any] = {"weights": self._weights.swapaxes(1, 2), "intercept": self._intercept, **arrays}
        with write_model_folder(folder, {**record, **words}, card) as new:
            np.savez_compressed(new / WEIGHTS, **made)

    @classmethod
    def load_saved(
        cls, folder: str | os.PathLike[str], schema: str, device: str
    ) -> tuple[LinearDecider, dict[str, Any]]:
        """Model and record from a folder that `save` wrote.

        Raises
        ------
        ValueError
            The folder is damaged.
        """
        record = read_record(folder, schema)
        arrays = read_arrays(Path(folder))
        try:
            model = cls.from_vocabulary(record["actions"], record["limits"], record, arrays)
        except Exception as error:  # array and key errors of many kinds
            raise ValueError(
                f"{str(folder)!r} cannot be loaded: {WEIGHTS} or its record is damaged: {error}"
            ) from error
        weights, shape = arrays["weights"], model._weights.shape
        if weights.shape != (shape[0], shape[2], shape[1]) or arrays["intercept"].shape != shape[::2]:
            raise ValueError(f"{str(folder)!r} cannot be loaded: {WEIGHTS} does not fit its record")
        model._weights, model._intercept = np.ascontiguousarray(weights.swapaxes(1, 2)), arrays["intercept"]
        return model, record


class TfidfDecider(LinearDecider):
    """TF-IDF of words, punctuation marks and pairs of them."""

    form = "tfidf"

    def __init__(self, actions: Sequence[str], limits: Sequence[int], words: Tfidf) -> None:
        self._words = words
        super().__init__(actions, limits, len(words.vectorizer.vocabulary_))

    @classmethod
    def build(
        cls, actions: Sequence[str], limits: Sequence[int], texts: Sequence[str], config: EncoderConfig
    ) -> TfidfDecider:
        """Untrained, with the vocabulary of `texts`."""
        words = Tfidf(tfidf_vectorizer(max_features=MOST_FEATURES))
        try:
            words.fit(texts)
            return cls(actions, limits, words)
        except ValueError as error:
            raise ValueError(f"the {len(texts)} training texts contain no words: {error}") from None

    def features(self, texts: Sequence[str]) -> Any:
        """TF-IDF vectors of length 1."""
        return self._words.transform(texts)

    def describe_vocabulary(self) -> tuple[dict[str, Any], dict[str, Floats]]:
        """Vocabulary, and inverse document frequencies."""
        vectorizer = self._words.vectorizer
        vocabulary = vectorizer.vocabulary_
        return {"vocabulary": sorted(vocabulary, key=vocabulary.__getitem__)}, {"idf": vectorizer.idf_}

    @classmethod
    def from_vocabulary(
        cls, actions: Sequence[str], limits: Sequence[int], record: dict[str, Any], arrays: Mapping[str, Floats]
    ) -> TfidfDecider:
        """Untrained, with the vocabulary of a record, which is removed from it."""
        vectorizer = tfidf_vectorizer(vocabulary=record.pop("vocabulary"))
        vectorizer.idf_ = arrays["idf"]
        vectorizer._validate_vocabulary()  # sets vocabulary_, which `transform` would do later
        return cls(actions, limits, Tfidf(vectorizer))


class WordsDecider(LinearDecider):
    """Hashed groups of words, also with the words of the first line (the task) blanked out: `hashed_words`.

    "The object that I have to find is in front of me" is then the same text in every task, so that a decision that
    depends on it generalises to new tasks.
    """

    form = "words"

    @classmethod
    def build(
        cls, actions: Sequence[str], limits: Sequence[int], texts: Sequence[str], config: EncoderConfig
    ) -> WordsDecider:
        """Untrained; hashing needs no vocabulary."""
        return cls(actions, limits, HASHED)

    def features(self, texts: Sequence[str]) -> Any:
        """1 for each hash value of a word group in the text, scaled to length 1."""
        bags = [hashed_words(text, HASHED) for text in texts]
        sizes = np.array([len(bag) for bag in bags])
        values = np.repeat(1 / np.sqrt(np.maximum(sizes, 1)), sizes)
        places = np.concatenate([np.zeros(0, np.int64), *bags])
        return sp.csr_array((values, places, np.concatenate([[0], sizes.cumsum()])), shape=(len(bags), HASHED))

    def describe_vocabulary(self) -> tuple[dict[str, Any], dict[str, Floats]]:
        """The version of the word groups."""
        return {"groups": GROUPS_VERSION}, {}

    @classmethod
    def from_vocabulary(
        cls, actions: Sequence[str], limits: Sequence[int], record: dict[str, Any], arrays: Mapping[str, Floats]
    ) -> WordsDecider:
        """Untrained."""
        if record.pop("groups", 1) != GROUPS_VERSION:
            raise ValueError("its word groups are those of another version; train the helper again")
        return cls(actions, limits, HASHED)
