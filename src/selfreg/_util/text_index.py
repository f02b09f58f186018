"""The texts of a collection that are most similar to another text: cosine of vectors of words."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import chain, pairwise
from typing import Any, NamedTuple, Protocol

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from selfreg._util.text_features import hashed_words, shorten

GROUPS = 2**16  # numbers that word groups are hashed to


class Vectors(Protocol):
    """Makes vectors of texts, of the same number of dimensions."""

    def rows(self, texts: Sequence[str]) -> sp.csr_array:
        """Vectors of the texts of the collection, float (n, dimensions); ValueError where none has a word."""

    def vector(self, text: str) -> NDArray[Any]:
        """Vector of one text, float (dimensions,)."""


def presence(groups: Sequence[NDArray[np.int64]], size: int) -> sp.csr_array:
    """Ones at the sorted distinct numbers of each row, float64 (n, size)."""
    ends = np.cumsum([0, *(len(group) for group in groups)])
    columns = np.concatenate([np.empty(0, np.int64), *groups])
    return sp.csr_array((np.ones(len(columns)), columns, ends), shape=(len(groups), size))


@dataclass(frozen=True)
class WordGroups:
    """The set of word groups in a text (`hashed_words`): no fitting, no package beside NumPy."""

    size: int = GROUPS

    def rows(self, texts: Sequence[str]) -> sp.csr_array:
        """Ones at the groups of each text, float64 (n, size)."""
        return presence([hashed_words(text, self.size) for text in texts], self.size)

    def vector(self, text: str) -> NDArray[Any]:
        """Ones at the groups of the text, float64 (size,)."""
        result = np.zeros(self.size)
        result[hashed_words(text, self.size)] = 1.0
        return result


@lru_cache(maxsize=2)
def count_words_and_pairs(pattern: str, text: str) -> Counter[str]:
    """Words of a text in lower case and pairs of neighbours, as the analyzer of a `TfidfVectorizer` with pairs counts.

    A decision reads its text twice, for the classifier and for its reasons: the second time costs nothing.

    Examples
    --------
    >>> from selfreg._util.text_index import count_words_and_pairs
    >>> sorted(count_words_and_pairs(r"\\w+", "A pen, a pen").items())
    [('a', 2), ('a pen', 2), ('pen', 2), ('pen a', 1)]
    """
    words = re.findall(pattern, text.lower())
    return Counter(chain(words, map(" ".join, pairwise(words))))


class Words(NamedTuple):
    """Words of a text in a TF-IDF vocabulary.

    Attributes
    ----------
    places : ndarray of int64, shape (n,)
        Of the distinct words of the vocabulary, ascending.
    values : ndarray of float32, shape (n,)
        Their TF-IDF, of length 1.
    known : float
        Length of the vector over the length that it would have if the other words were in the vocabulary too, with the
        largest weight there: 0 where no word is known, 1 where all are.
    """

    places: NDArray[np.int64]
    values: NDArray[np.float32]
    known: float


@dataclass(frozen=True, eq=False)
class Tfidf:
    """TF-IDF vectors of length 1 by a `TfidfVectorizer` of scikit-learn with sublinear frequencies of words and pairs.

    Only fitting is scikit-learn's: its `transform` takes milliseconds a call, most of them for checks. Of long texts
    the beginning and the end count (`shorten`).

    Attributes
    ----------
    vectorizer : TfidfVectorizer
        Of type float32, with n-grams of one and two words in lower case.
    """

    vectorizer: Any

    @cached_property
    def _largest(self) -> float:
        return float(self._weights.max(initial=0.0))

    def fit(self, texts: Sequence[str]) -> None:
        """Choose the words; ValueError where no text has one."""
        self.vectorizer.fit([shorten(text) for text in texts])

    def rows(self, texts: Sequence[str]) -> sp.csr_array:
        """Fit the vectorizer to the texts, float32 (n, words)."""
        self.fit(texts)
        return self.transform(texts)

    def transform(self, texts: Sequence[str]) -> sp.csr_array:
        """Vectors of texts with the words of the fit, float32 (n, words)."""
        place = {text: i for i, text in enumerate(dict.fromkeys(texts))}
        read = [self.read(text) for text in place]
        ends = np.cumsum([0, *(len(one.places) for one in read)])
        columns = np.concatenate([np.empty(0, np.int64), *(one.places for one in read)])
        values = np.concatenate([np.empty(0, np.float32), *(one.values for one in read)])
        rows = sp.csr_array((values, columns, ends), shape=(len(read), len(self._vocabulary)))
        return rows if len(read) == len(texts) else rows[[place[text] for text in texts]]

    @cached_property
    def _vocabulary(self) -> dict[str, int]:
        found: dict[str, int] = self.vectorizer.vocabulary_
        return found

    @cached_property
    def _weights(self) -> NDArray[np.float64]:
        return np.asarray(self.vectorizer.idf_, dtype=np.float64)

    def read(self, text: str) -> Words:
        """The words of a text."""
        vocabulary, words = self._vocabulary, count_words_and_pairs(self.vectorizer.token_pattern, shorten(text))
        found = sorted((vocabulary[word], count) for word, count in words.items() if word in vocabulary)
        places, count = np.array(found, dtype=np.int64).reshape(-1, 2).T
        values = (1 + np.log(count)) * self._weights[places]
        known = float(values @ values)
        every = known + (len(words) - len(found)) * self._largest**2
        scaled = np.asarray(values / np.sqrt(known) if known else values, dtype=np.float32)
        return Words(places, scaled, float(np.sqrt(known / every)) if every else 0.0)

    def vector(self, text: str) -> NDArray[Any]:
        """The vector of a text, float32 (words,)."""
        read = self.read(text)
        result = np.zeros(len(self._vocabulary), dtype=np.float32)  # the type of the rows: no conversion in the product
        result[read.places] = read.values
        return result


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
        if not min(k, self.rows.shape[0]):
            return np.empty(0, np.int64), np.empty(0)
        vector = self.vectors.vector(text)
        places, similarity = self.nearest_vectors(vector[:, None], k)
        length = 1.0 if isinstance(self.vectors, Tfidf) else max(float(np.linalg.norm(vector)), 1.0)
        return places[0], similarity[0] / length

    def nearest_vectors(self, vectors: NDArray[Any], k: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Places and products with the rows, (n, k) each, of the most similar texts for each of n columns."""
        k, columns = min(k, self.rows.shape[0]), vectors.shape[1]
        places, similarity = np.empty((columns, k), np.int64), np.empty((columns, k))
        if not k:
            return places, similarity
        # The order is that of exact counts over the length: a common factor would break ties by rounding.
        every = np.ascontiguousarray((self.rows @ vectors).T) / self._lengths
        for i, row in enumerate(every):
            near = np.flatnonzero(row >= np.partition(row, -k)[-k])  # k or, with ties, more
            places[i] = near[np.argsort(-row[near], kind="stable")[:k]]
            similarity[i] = row[places[i]]
        return places, similarity
