"""Numbers from the text of a state, for small models: hashed groups of words. The same for every environment."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator

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
    return np.unique([zlib.crc32(group.encode()) % size for group in _groups(text)]).astype(np.int64)


def _groups(text: str) -> Iterator[str]:
    lines = text.lower().split("\n")
    task = {word for word in re.findall(r"\w+", lines[0]) if len(word) > 2 and word != "the"}
    for i, line in enumerate(lines):
        label, _, content = line.partition(":")
        for item in re.split(r"[;,.]", content or label):
            words = re.findall(r"\w+", item)
            yield from _ngrams(label, words)
            if i and not task.isdisjoint(words):
                yield from _ngrams(label, ["*" if word in task else word for word in words])


def _ngrams(label: str, words: list[str]) -> Iterator[str]:
    yield f"{label}|{' '.join(words)}|"
    for length in range(1, LONGEST + 1):
        for begin in range(len(words) - length + 1):
            yield f"{label}|{' '.join(words[begin : begin + length])}"
