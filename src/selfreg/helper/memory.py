"""Memory of a helper: logged states with their values and visits, for the reasons of decisions.

Similarity is the cosine of TF-IDF vectors of words, punctuation marks and pairs of them, for every form of helper.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from selfreg._util.text_index import TextIndex, Tfidf
from selfreg.decisions import Neighbour
from selfreg.helper.labels import Labels
from selfreg.prm.linear import MOST_FEATURES, read_arrays, words_vectorizer

Floats = NDArray[np.float64]

ARRAYS, WORDS = "memory.npz", "memory.json"
NEIGHBOURS = 5
SHOWN_TEXT = 300
BLOCK = 64  # texts that are looked up together
# Share of the states of new tasks that may be taken for unlike all logged ones, and the most texts to calibrate it on.
STRANGE, CALIBRATED = 0.01, 500
# Up to this share of them may be odd themselves: so much less known than all others.
ODD, FALL = 0.05, 0.5
ROUNDING = 1e-6


@dataclass(frozen=True, eq=False)
class Memory:
    """Labelled states by text.

    Attributes
    ----------
    texts : list of str, length n
        Their first characters.
    values : ndarray of float32, shape (n, n_points, n_actions)
        Value of each action at each budget; NaN where unknown.
    visits : ndarray of float32, shape (n, n_actions)
        Visits of each action at this text. Values may be based on more: on all texts of an abstract state.
    index : TextIndex
        The texts, by TF-IDF vectors of length 1.
    least : float
        A state that is known less than this is unlike all logged ones; see `look_up` and `calibrate`.
    """

    texts: list[str]
    values: NDArray[np.float32]
    visits: NDArray[np.float32]
    index: TextIndex
    least: float = 0.0

    @classmethod
    def from_labels(cls, labels: Labels, tasks: Sequence[str], history: int, most: int) -> Memory | None:
        """The `most` visited states of some tasks; None where there are no states, or no words in them.

        States with the same text are merged; their values are averaged, weighted by visits.
        """
        wanted, texts, taken = set(tasks), labels.texts(history), labels.logged_action
        steps = [i for i, task in enumerate(labels.tasks) if task in wanted and taken[i] >= 0]
        first = {(texts[i], int(labels.state[i])): i for i in reversed(steps)}
        place = {text: k for k, text in enumerate(sorted({text for text, _ in first}))}
        rows, at = np.array([place[text] for text, _ in first], dtype=np.int64), np.array(list(first.values()), int)
        visits = np.zeros((len(place), len(labels.actions)))
        np.add.at(visits, (np.array([place[texts[i]] for i in steps], dtype=np.int64), taken[steps]), 1.0)
        weight = np.where(np.isnan(labels.q[at]), 0.0, np.maximum(labels.visits[at].sum(axis=1), 1e-6)[:, None, None])
        total, known = np.zeros((2, len(place), *labels.q.shape[1:]))
        np.add.at(total, rows, weight * np.nan_to_num(labels.q[at]))
        np.add.at(known, rows, weight)
        values = np.divide(total, known, out=np.full_like(total, np.nan), where=known > 0)
        kept = np.sort(np.argsort(-visits.sum(axis=1), kind="stable")[:most])
        names = list(place)
        try:
            index = TextIndex.of([names[i] for i in kept], Tfidf(tfidf_vectorizer(max_features=MOST_FEATURES)))
        except ValueError:  # nothing to remember, or empty texts only
            return None
        shown = [names[i][:SHOWN_TEXT] for i in kept]
        narrow = values[kept].astype(np.float32), visits[kept].astype(np.float32)
        return cls(shown, *narrow, index)

    def nearest(self, texts: Sequence[str], k: int = NEIGHBOURS) -> tuple[NDArray[np.int64], Floats]:
        """Indices and similarities of the `k` nearest states, (n, k) each; ties to the first."""
        places, similarity, _ = self.look_up(texts, k)
        return places, similarity

    def look_up(self, texts: Sequence[str], k: int = NEIGHBOURS) -> tuple[NDArray[np.int64], Floats, Floats]:
        """As `nearest`, and how well each text is known, float64 (n,).

        That is the similarity of the nearest state times the known share of the text's words (`Words.known`): the
        cosine that results where words that were never logged count too.
        """
        places = np.empty((len(texts), min(k, len(self.texts))), np.int64)
        similarity, known = np.empty(places.shape), np.empty(len(texts))
        for first in range(0, len(texts), BLOCK):
            part = slice(first, first + BLOCK)
            read = [self._words.read(text) for text in texts[part]]
            columns = np.zeros((self.index.rows.shape[1], len(read)), np.float32)
            for i, one in enumerate(read):
                columns[one.places, i] = one.values
            places[part], similarity[part] = self.index.nearest_vectors(columns, k)
            known[part] = [one.known for one in read]
        return places, similarity, similarity[:, 0] * known

    def is_strange(self, known: Floats) -> NDArray[np.bool_]:
        """Whether states that are known this well (`look_up`) are unlike all logged ones, bool (n,)."""
        return np.asarray((known <= 0) | (known < self.least))

    def calibrate(self, texts: Sequence[str]) -> Memory:
        """The same memory with the `least` that all but 1% of these texts, of other tasks, reach.

        With fewer than 99 texts all of them reach it: the state of a new task is then below with a chance of one in
        their number plus one (split conformal prediction). Logs can hold odd states, such as a crash with random
        characters. They are ignored: up to 5% of the texts, where the last of them is known at most half as well as
        the next text. Then so many more of new states are below.
        """
        distinct = list(dict.fromkeys(texts))
        chosen = distinct[:: max(1, len(distinct) // CALIBRATED)]
        if not chosen:
            return self
        known = np.sort(self.look_up(chosen, 1)[2])
        first = max(0, int(STRANGE * (len(known) + 1)) - 1)
        last = int(ODD * len(known))
        falls = np.flatnonzero(known[first:last] <= FALL * known[first + 1 : last + 1])
        return replace(self, least=float(known[first + 1 + falls[-1] if len(falls) else first]) - ROUNDING)

    def estimate(self, nearest: NDArray[np.int64], similarity: Floats) -> Floats:
        """Values in states with these neighbours, float64 (n, n_points, n_actions), NaN where no neighbour has one.

        The mean of the neighbours', weighted by similarity and visits.
        """
        values = self.values[nearest].astype(np.float64)
        weight = (similarity**2 * np.sqrt(self.visits[nearest].sum(axis=2)))[:, :, None, None] + 1e-9
        weight = np.where(np.isnan(values), 0.0, weight)
        total = weight.sum(axis=1)
        mean = (weight * np.nan_to_num(values)).sum(axis=1)
        return np.asarray(np.divide(mean, total, out=np.full_like(total, np.nan), where=total > 0))

    def neighbours(self, nearest: NDArray[np.int64], similarity: Floats, actions: Sequence[str]) -> list[Neighbour]:
        """The neighbours of one state, nearest first."""
        return [
            Neighbour(self.texts[i], round(float(s), 4), dict(zip(actions, map(int, self.visits[i]), strict=True)))
            for i, s in zip(nearest, similarity, strict=True)
        ]

    @property
    def _words(self) -> Tfidf:
        assert isinstance(self.index.vectors, Tfidf)
        return self.index.vectors

    def save(self, folder: Path) -> None:
        """Write arrays and words, nothing pickled."""
        vectorizer = self._words.vectorizer
        vocabulary = vectorizer.vocabulary_
        words: dict[str, Any] = {"texts": self.texts, "vocabulary": sorted(vocabulary, key=vocabulary.__getitem__)}
        words["least"] = self.least
        (folder / WORDS).write_text(json.dumps(words), encoding="utf-8")
        rows = {name: getattr(self.index.rows, name) for name in ("data", "indices", "indptr")}
        arrays = {"values": self.values, "visits": self.visits, "idf": vectorizer.idf_, **rows}
        np.savez_compressed(folder / ARRAYS, **arrays)

    @classmethod
    def load(cls, folder: Path) -> Memory | None:
        """From a folder that `save` wrote into; None where it did not.

        Raises
        ------
        ValueError
            The files are damaged.
        """
        if not (folder / ARRAYS).is_file():
            return None
        arrays = read_arrays(folder, ARRAYS)
        try:
            words = json.loads((folder / WORDS).read_text(encoding="utf-8"))
            vectorizer = tfidf_vectorizer(vocabulary=words["vocabulary"])
            vectorizer.idf_ = arrays["idf"]
            shape = len(words["texts"]), len(words["vocabulary"])
            rows = sp.csr_array((arrays["data"], arrays["indices"], arrays["indptr"]), shape=shape)
            index = TextIndex(Tfidf(vectorizer), rows)
            # folders from before have no `least`
            return cls(words["texts"], arrays["values"], arrays["visits"], index, words.get("least", 0.0))
        except Exception as error:  # JSON and array errors of many kinds
            raise ValueError(f"{str(folder)!r}: {ARRAYS} or {WORDS} is damaged: {error}") from error


def tfidf_vectorizer(**settings: Any) -> Any:
    """The vectorizer of the PRM 'tfidf', in float32."""
    return words_vectorizer("a helper's words", dtype=np.float32, **settings)
