"""The texts of a collection that are most similar to another text: cosine of vectors of words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from selfreg._util.text_features import hashed_words

GROUPS = 2**16  # numbers that word groups are hashed to


class Vectors(Protocol):
    """Makes vectors of texts, of the same number of dimensions."""

    def rows(self, texts: Sequence[str]) -> sp.csr_array:
        """Vectors of the texts of the collection, float (n, dimensions); ValueError where none has a word."""

    def vector(self, text: str) -> NDArray[Any]:
        """Vector of one text, float (dimensions,)."""


@dataclass(frozen=True)
class WordGroups:
    """The set of word groups in a text (`hashed_words`): no fitting, no package beside NumPy."""

    size: int = GROUPS

    def rows(self, texts: Sequence[str]) -> sp.csr_array:
        """Ones at the groups of each text, float64 (n, size)."""
        groups = [hashed_words(text, self.size) for text in texts]
        ends = np.cumsum([0, *(len(group) for group in groups)])
        columns = np.concatenate([np.empty(0, np.int64), *groups])
        return sp.csr_array((np.ones(len(columns)), columns, ends), shape=(len(groups), self.size))

    def vector(self, text: str) -> NDArray[Any]:
        """Ones at the groups of the text, float64 (size,)."""
        result = np.zeros(self.size)
        result[hashed_words(text, self.size)] = 1.0
        return result


@dataclass(frozen=True, eq=False)
class Tfidf:
    """TF-IDF vectors of length 1 by a `TfidfVectorizer` of scikit-learn with sublinear frequencies.

    Attributes
    ----------
    vectorizer : TfidfVectorizer
        Of type float32.
    """

    vectorizer: Any

    def rows(self, texts: Sequence[str]) -> sp.csr_array:
        """Fit the vectorizer to the texts, float32 (n, words)."""
        return sp.csr_array(self.vectorizer.fit_transform(texts))

    @cached_property
    def _analyze(self) -> Callable[[str], list[str]]:
        words: Callable[[str], list[str]] = self.vectorizer.build_analyzer()
        return words

    def vector(self, text: str) -> NDArray[Any]:
        """What the vectorizer makes of a text, float32 (words,), without the checks that take most of its time."""
        vocabulary = self.vectorizer.vocabulary_
        places = [vocabulary[word] for word in self._analyze(text) if word in vocabulary]
        words, count = np.unique(np.array(places, dtype=np.int64), return_counts=True)
        result = np.zeros(len(vocabulary), dtype=np.float32)  # the type of the rows: no conversion in the product
        result[words] = (1 + np.log(count)) * self.vectorizer.idf_[words]
        length = np.linalg.norm(result)
        return result / length if length else result


@dataclass(frozen=True, eq=False)
class TextIndex:
    """Texts by their vectors.

    Attributes
    ----------
    vectors : Vectors
    rows : csr_array, shape (n, dimensions)
        Of the texts.

    Examples
    --------
    >>> from selfreg._util.text_index import TextIndex, WordGroups
    >>> index = TextIndex.of(["Task: x.\\nHere: kitchen.", "Task: x.\\nHere: study."], WordGroups())
    >>> places, similarity = index.nearest("Task: x.\\nHere: study. In hand: pen.")
    >>> places.tolist(), similarity.round(2).tolist()
    ([1], [0.68])
    """

    vectors: Vectors
    rows: sp.csr_array

    @classmethod
    def of(cls, texts: Sequence[str], vectors: Vectors) -> TextIndex:
        """Index of some texts; ValueError where `vectors` needs a word and there is none."""
        return cls(vectors, vectors.rows(texts))

    @cached_property
    def _lengths(self) -> NDArray[Any]:
        """Lengths of the rows, 1 for a row of zeros."""
        if isinstance(self.vectors, Tfidf):
            return np.ones(1, dtype=self.rows.dtype)
        squares = np.asarray(self.rows.multiply(self.rows).sum(axis=1)).ravel()
        return np.asarray(np.sqrt(np.maximum(squares, 1.0)))

    def nearest(self, text: str, k: int = 1) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Places and similarities (cosine, 0 to 1 up to rounding) of the `k` most similar texts, or of all if fewer.

        Of ties, the first ones.
        """
        k = min(k, self.rows.shape[0])
        if not k:
            return np.empty(0, np.int64), np.empty(0)
        vector = self.vectors.vector(text)
        # The order is that of exact counts over the length: a common factor would break ties by rounding.
        similarity = np.asarray((self.rows @ vector) / self._lengths, dtype=np.float64)
        near = np.flatnonzero(similarity >= np.partition(similarity, -k)[-k])  # k or, with ties, more
        places = near[np.argsort(-similarity[near], kind="stable")[:k]]
        length = 1.0 if isinstance(self.vectors, Tfidf) else max(float(np.linalg.norm(vector)), 1.0)
        return places, similarity[places] / length
