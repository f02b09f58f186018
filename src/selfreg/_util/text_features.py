"""Numbers from the text of a state, for small models: hashed groups of words. The same for every environment."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from itertools import chain
from zlib import crc32

import numpy as np
import numpy.typing as npt

GROUPS_VERSION = 2  # of `hashed_words`: models that were saved with another one are refused
LONGEST = 3  # words in a group
# What a text pairs or repeats is bounded, so that its time is linear in its length: lines in pairs and words of such a
# line, words of the task, characters of a line that is remembered from text to text.
PAIRED_LINES, PAIR_WORDS, TASK_WORDS, REMEMBERED = 32, 32, 64, 200

# Characters that are read of a text; of longer ones the first quarter and the rest from the end.
LONGEST_TEXT = 16_000

Numbers = npt.NDArray[np.int64]


def shorten(text: str) -> str:
    """A text of up to `LONGEST_TEXT` characters: of a longer one its first quarter and its end, on lines of their own.

    Examples
    --------
    >>> from selfreg._util.text_features import shorten
    >>> len(shorten("a" * 10**6)), shorten("short")
    (16001, 'short')
    """
    if len(text) <= LONGEST_TEXT:
        return text
    return text[: LONGEST_TEXT // 4] + "\n" + text[LONGEST_TEXT // 4 - LONGEST_TEXT :]


def hashed_words(text: str, size: int) -> Numbers:
    """Sorted distinct numbers of the word groups in a text, int64, each below `size`.

    A line is a label, a colon, and items that end in ";", "," or "."; a line without a colon has no label. A group is
    one to three neighbouring words of an item, or all of it, under its label. Each group counts as it is, with the
    words of the first line (the task) blanked out, and with their places in that line instead of them, so that "the
    thing that I am to find is straight ahead" looks the same in every task, and "the second thing" is told from the
    first. The last 32 lines of one item also count in pairs: "nothing in hand, and the first thing ahead". Of the
    first line, 64 words can be blanked out.

    Examples
    --------
    >>> from selfreg._util.text_features import hashed_words
    >>> first = hashed_words("Task: find the mug.\\nHere: mug ahead.", 2**20)
    >>> other = hashed_words("Task: find the pen.\\nHere: pen ahead.", 2**20)
    >>> len(first) == len(other) > len(set(first) & set(other)) > 0
    True
    """
    first, *others = shorten(text).lower().split("\n")
    task = tuple(_task_words(first))
    lines = [_remembered(first, ()), *(_remembered(line, task) for line in others if line)]
    single = [one for _, one in lines[1:] if one is not None][-PAIRED_LINES:]
    second = [b"&" + one for one in single]
    pairs = [crc32(b, a) for i, a in enumerate(map(crc32, single)) for b in second[i + 1 :]]
    every = np.array([*chain.from_iterable(groups for groups, _ in lines), *pairs], np.int64) % size
    if len(every) < size // 8:
        return np.unique(every)
    present = np.zeros(size, bool)
    present[every] = True
    return np.flatnonzero(present)


def _task_words(first: str) -> Iterator[str]:
    """The first `TASK_WORDS` distinct longer words of the first line."""
    found = set[str]()
    for match in re.finditer(r"\w+", first):
        word = match.group()
        if len(word) > 2 and word != "the" and word not in found:
            found.add(word)
            yield word
            if len(found) == TASK_WORDS:
                return


def _remembered(line: str, task: tuple[str, ...]) -> tuple[list[int], bytes | None]:
    """`_read_line`; most lines of a state were in the state before."""
    return _read_known(line, task) if len(line) <= REMEMBERED else _read_line(line, task)


def _read_line(line: str, task: tuple[str, ...]) -> tuple[list[int], bytes | None]:
    """Hashes of the groups of a line; and for a short line of one item, its text with places for words of the task."""
    label, colon, content = line.partition(":")
    label, content = (label, content or label) if colon else ("", line)
    head, places = _encoded(label) + b"|", {word: place for place, word in enumerate(task)}
    parts = re.split(r"[;,.]", content)
    items, start, words = [part for part in parts if part.strip()], crc32(head), list[str]()
    numbers = [crc32(b"|", start)] if len(items) < len(parts) else []
    for item in items:
        words = re.findall(r"\w+", item)
        _add_groups(numbers, [_encoded(word) for word in words], start)
        if places and not places.keys().isdisjoint(words):
            _add_blanked(numbers, words, places, start)
    if len(items) != 1 or len(words) > PAIR_WORDS:
        return numbers, None
    shown = " ".join(f"*{places[word]}" if word in places else word for word in words)
    return numbers, head + _encoded(shown)


_read_known = lru_cache(maxsize=1 << 14)(_read_line)


def _add_groups(numbers: list[int], words: list[bytes], start: int) -> None:
    """Add the hashes of all groups of an item; `start` is that of its label."""
    numbers.append(crc32(b" ".join(words) + b"|", start))
    spaced = [b" " + word for word in words]
    hashes = [crc32(word, start) for word in words]
    for length in range(1, LONGEST + 1):
        numbers += hashes
        hashes = list(map(crc32, spaced[length:], hashes))


def _add_blanked(numbers: list[int], words: list[str], places: Mapping[str, int], start: int) -> None:
    """Add the groups of an item without the words of the task, and with their places instead of them."""
    for shown in ("*", "*{}"):
        changed = [_encoded(shown.format(places[word]) if word in places else word) for word in words]
        _add_groups(numbers, changed, start)


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
