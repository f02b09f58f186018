"""Classes of texts by words: which words of the observations tell success from failure, for states by default."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

# Words and characters of a text that are looked at, and words in all.
LONGEST, MOST_WORDS = 4000, 400
# Steps that have a word, and that lack it, at least; classes of texts at most, besides `other`.
LEAST_STEPS, MOST_CLASSES = 20, 4
# Log-likelihood that a class must add: hundreds of words are tried, and steps of an episode are not independent.
LEAST_GAIN = 10.0
_WORD = re.compile(r"[^\W\d_]{3,20}")

Flags = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]


class WordTable:
    """Which texts have which words.

    Parameters
    ----------
    texts : sequence of str
    """

    def __init__(self, texts: Sequence[str]) -> None:
        distinct = {text: number for number, text in enumerate(dict.fromkeys(texts))}
        self._place = np.array([distinct[text] for text in texts], np.int64)
        found = [set(_WORD.findall(text[:LONGEST].lower())) for text in distinct]
        times = np.bincount(self._place, minlength=len(found))
        counts: Counter[str] = Counter()
        for words, number in zip(found, times.tolist(), strict=True):
            counts.update(dict.fromkeys(words, number))
        usable = [(-n, word) for word, n in counts.items() if LEAST_STEPS <= n <= len(texts) - LEAST_STEPS]
        self.words = [word for _, word in sorted(usable)[:MOST_WORDS]]
        self.has: Flags = np.array([[word in words for word in self.words] for words in found], bool)
        self.has = self.has.reshape(len(found), len(self.words))

    def choose(self, outcome: Floats, rows: Flags) -> list[int]:
        """Words, in the order in which they are looked for, that tell the outcomes of some of the rows best."""
        left, chosen = rows.copy(), list[int]()
        while self.words and len(chosen) < MOST_CLASSES:
            gain = self._gains(outcome, left)
            best = int(np.argmax(gain))
            if gain[best] < LEAST_GAIN:
                break
            chosen.append(best)
            left &= ~self.has[self._place, best]
        return chosen

    def _gains(self, outcome: Floats, rows: Flags) -> Floats:
        """Log-likelihood that a class of each word adds, over one class for all of the rows."""
        place, won = self._place[rows], outcome[rows]
        n_texts = len(self.has)
        texts = np.stack([np.bincount(place, minlength=n_texts), np.bincount(place, won, n_texts)])
        seen, with_word = texts.sum(1), texts @ self.has
        without = seen[:, None] - with_word
        gain = _log_likelihood(*with_word) + _log_likelihood(*without) - _log_likelihood(*seen)
        gain[(with_word[0] < LEAST_STEPS) | (without[0] < LEAST_STEPS)] = -np.inf
        return np.asarray(gain)

    def classify(self, chosen: Sequence[int]) -> npt.NDArray[np.int64]:
        """Class of every row: the number of the first of the words that its text has, else the last class."""
        classes = np.full(len(self._place), len(chosen))
        for number in reversed(range(len(chosen))):
            classes[self.has[self._place, chosen[number]]] = number
        return classes

    def describe(self, chosen: Sequence[int]) -> dict[str, str]:
        """Names and expressions of the classes."""
        return {self.words[i]: rf"(?i)(?<![^\W\d_]){self.words[i]}(?![^\W\d_])" for i in chosen}


def _log_likelihood(seen: Floats, won: Floats) -> Floats:
    """Of outcomes in [0, 1] at their mean."""
    p = np.clip(won / np.maximum(seen, 1), 1e-12, 1 - 1e-12)
    return np.asarray(won * np.log(p) + (seen - won) * np.log1p(-p))
