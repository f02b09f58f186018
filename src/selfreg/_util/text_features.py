"""Numbers from the text of a state, for small models: hashed groups of words. The same for every environment."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from functools import lru_cache
from itertools import combinations

import numpy as np
import numpy.typing as npt

LONGEST = 3  # words in a group


def hashed_words(text: str, size: int) -> npt.NDArray[np.int64]:
    """Sorted distinct numbers of the word groups in a text, int64, each below `size`.

    A line is a label, a colon, and items that end in ";", "," or "."; a group is one to three neighbouring words of
    an item, or all of it, under its label. Each group counts as it is, with the words of the first line (the task)
    blanked out, and with their places in that line instead of them, so that "the thing that I am to find is straight
    ahead" looks the same in every task, and "the second thing" is told from the first. Lines of one item also count in
    pairs: "nothing in hand, and the first thing ahead".

    Examples
    --------
    >>> from selfreg._util.text_features import hashed_words
    >>> first = hashed_words("Task: find the mug.\\nHere: mug ahead.", 2**20)
    >>> other = hashed_words("Task: find the pen.\\nHere: pen ahead.", 2**20)
    >>> len(first) == len(other) > len(set(first) & set(other)) > 0
    True
    """
    first, *others = text.lower().split("\n")
    task = tuple(dict.fromkeys(word for word in re.findall(r"\w+", first) if len(word) > 2 and word != "the"))
    lines = [_hashed_line(first, ()), *(_hashed_line(line, task) for line in others)]
    single = [one for line in others if (one := _single(line, task)) is not None]
    pairs = np.array([zlib.crc32(f"{a}&{b}".encode()) for a, b in combinations(single, 2)], np.int64)
    return np.unique(np.concatenate([*lines, pairs]) % size)


@lru_cache(maxsize=1 << 16)
def _single(line: str, task: tuple[str, ...]) -> str | None:
    """A line of one item, with places for the words of the task; None for longer ones."""
    label, _, content = line.partition(":")
    items = [item for item in re.split(r"[;,.]", content or label) if item.strip()]
    if len(items) != 1:
        return None
    words = re.findall(r"\w+", items[0])
    return f"{label}|{' '.join(f'*{task.index(word)}' if word in task else word for word in words)}"


@lru_cache(maxsize=1 << 16)
def _hashed_line(line: str, task: tuple[str, ...]) -> npt.NDArray[np.int64]:
    """Hashes of the groups of a line; most lines of a state were in the state before."""
    return np.array([zlib.crc32(group.encode()) for group in _groups(line, task)], np.int64)


def _groups(line: str, task: tuple[str, ...]) -> Iterator[str]:
    label, _, content = line.partition(":")
    for item in re.split(r"[;,.]", content or label):
        words = re.findall(r"\w+", item)
        yield from _ngrams(label, words)
        places = [task.index(word) if word in task else None for word in words]
        if any(place is not None for place in places):
            for shown in ("*", "*{}"):
                yield from _ngrams(
                    label, [w if place is None else shown.format(place) for w, place in zip(words, places, strict=True)]
                )


def _ngrams(label: str, words: list[str]) -> Iterator[str]:
    yield f"{label}|{' '.join(words)}|"
    for length in range(1, LONGEST + 1):
        for begin in range(len(words) - length + 1):
            yield f"{label}|{' '.join(words[begin : begin + length])}"
