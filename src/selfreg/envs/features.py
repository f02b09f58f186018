"""Numbers from the text of a state, for small models: hashed groups of words. The same for every environment."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import numpy.typing as npt

LONGEST = 3  # words in a group


def hashed_words(text: str, size: int) -> npt.NDArray[np.int64]:
    """Sorted distinct numbers of the word groups in a text, int64, each below `size`.

    A line is a label, a colon, and items that end in ";", "," or "."; a group is one to three neighbouring words of
    an item, or all of it, under its label. Each group counts twice: as it is, and with the words of the first line
    (the task) blanked out, so that "the thing that I am to find is straight ahead" looks the same in every task.

    Examples
    --------
    >>> from selfreg.envs.features import hashed_words
    >>> first = hashed_words("Task: find the mug.\\nHere: mug ahead.", 2**20)
    >>> other = hashed_words("Task: find the pen.\\nHere: pen ahead.", 2**20)
    >>> len(first) == len(other) > len(set(first) & set(other)) > 0
    True
    """
    first, *others = text.lower().split("\n")
    task = frozenset(word for word in re.findall(r"\w+", first) if len(word) > 2 and word != "the")
    lines = [_hashed_line(first, frozenset()), *(_hashed_line(line, task) for line in others)]
    return np.unique(np.concatenate(lines) % size)


@lru_cache(maxsize=1 << 16)
def _hashed_line(line: str, task: frozenset[str]) -> npt.NDArray[np.int64]:
    """Hashes of the groups of a line; most lines of a state were in the state before."""
    return np.array([zlib.crc32(group.encode()) for group in _groups(line, task)], np.int64)


def _groups(line: str, task: frozenset[str]) -> Iterator[str]:
    label, _, content = line.partition(":")
    for item in re.split(r"[;,.]", content or label):
        words = re.findall(r"\w+", item)
        yield from _ngrams(label, words)
        if not task.isdisjoint(words):
            yield from _ngrams(label, ["*" if word in task else word for word in words])


def _ngrams(label: str, words: list[str]) -> Iterator[str]:
    yield f"{label}|{' '.join(words)}|"
    for length in range(1, LONGEST + 1):
        for begin in range(len(words) - length + 1):
            yield f"{label}|{' '.join(words[begin : begin + length])}"
