"""Numbers from the text of a state, for small models: hashed groups of words. The same for every environment."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from itertools import chain
from zlib import crc32

import numpy as np
import numpy.typing as npt

# Of `hashed_words`, `hashed_roles` and `hashed_phrases`: models that were saved with another one are refused.
GROUPS_VERSION, ROLES_VERSION, PHRASES_VERSION = 2, 1, 1
LONGEST = 3  # words in a group
# What a text pairs or repeats is bounded, so that its time is linear in its length: lines in pairs and words of such a
# line, words of the task, labels of a role, items with numbers, characters of a line and words of an item that are
# remembered from text to text.
PAIRED_LINES, PAIR_WORDS, TASK_WORDS, ROLE_LABELS, NUMBERED_ITEMS, REMEMBERED = 32, 32, 64, 8, 64, 200
# A number has a group for each level that it reaches.
LEVELS = (*range(1, 11), 12, 15, 20, 25, 30, 40, 50, 70, 100, 150, 200, 300, 500, 1_000)

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
    return _distinct([*chain.from_iterable(groups for groups, _ in lines), *pairs], size)


def hashed_roles(text: str, size: int) -> Numbers:
    """Sorted distinct numbers of the role groups in a text, int64, each below `size`.

    The role of a word is the labels under which it also stands in other items, in their order in the text, each once or
    several times: in "Map: the mug is in the study." and "Here: study.", the agent is in a room of the map, whichever
    it is. Items end as in `hashed_words`; the label of an item is what stands before the last colon up to it in its
    line. In role groups, words that have a role are replaced by it. Each label in the role of a word is a group of its
    item, and each whole number adds a group for every level that it reaches (1, 2, 3 and so on), in the last 64 items
    with numbers and up to 32 words. Of a role, the first eight labels count.

    Examples
    --------
    >>> from selfreg._util.text_features import hashed_roles
    >>> study = hashed_roles("Map: mug in the study.\\nHere: study.", 2**20).tolist()
    >>> hall = hashed_roles("Map: mug in the hall.\\nHere: hall.", 2**20).tolist()
    >>> study == hall != hashed_roles("Map: mug in the hall.\\nHere: study.", 2**20).tolist()
    True
    """
    items = [item for line in shorten(text).lower().split("\n") for item in _items(line)]
    labels = dict[str, dict[int, int]]()  # of each word, with the number of items
    for label, words, _ in items:
        for word in set(words):
            if len(word) > 2 and word != "the" and not word.isdecimal():
                known = labels.setdefault(word, {})
                if len(known) < ROLE_LABELS or label in known:
                    known[label] = known.get(label, 0) + 1
    roles = {word: tuple(known.items()) for word, known in labels.items() if len(known) > 1 or max(known.values()) > 1}
    numbers, numbered = list[int](), 0
    for label, words, short in reversed(items):
        shown = tuple(_role(label, roles[word]) if word in roles else word for word in words)
        if not short:
            numbers += _read_item(label, shown, False)
            continue
        with_number = any(map(str.isdecimal, words))
        numbered += with_number
        numbers += _read_known_item(label, shown, with_number and numbered <= NUMBERED_ITEMS)
    return _distinct(numbers, size)


def hashed_phrases(text: str, size: int) -> Numbers:
    """Sorted distinct numbers of the groups of one to three neighbouring words, and of whole items, under no label.

    Items are those of `hashed_roles`. What somebody says is then the same whoever says it, where names are labels.

    Examples
    --------
    >>> from selfreg._util.text_features import hashed_phrases
    >>> hashed_phrases("Ana: well done", 2**20).tolist() == hashed_phrases("Boris: well done", 2**20).tolist()
    True
    """
    lines = dict.fromkeys(shorten(text).lower().split("\n"))
    return _distinct(list(chain.from_iterable(map(_phrases, lines))), size)


def _phrases(line: str) -> list[int]:
    return _known_phrases(line) if len(line) <= REMEMBERED else _read_phrases(line)


def _read_phrases(line: str) -> list[int]:
    """Hashes of the groups of the items of a line."""
    numbers = list[int]()
    for _, words, _ in _split_items(line):
        _add_groups(numbers, [_encoded(word) for word in words], 0)
    return numbers


_known_phrases = lru_cache(maxsize=1 << 14)(_read_phrases)


def _distinct(hashes: list[int], size: int) -> Numbers:
    every = np.array(hashes, np.int64) % size
    if len(every) < size // 8:
        return np.unique(every)
    present = np.zeros(size, bool)
    present[every] = True
    return np.flatnonzero(present)


def _items(line: str) -> list[tuple[int, list[str], bool]]:
    """Hash of the label, words, and whether it is short, of each item of a line."""
    return _known_items(line) if len(line) <= REMEMBERED else _split_items(line)


def _split_items(line: str) -> list[tuple[int, list[str], bool]]:
    found, label = [], crc32(b"")
    for part in re.split(r"[;,.]", line):
        own, colon, rest = part.partition(":")
        if colon:
            label = crc32(_encoded(own.strip()))
        words = re.findall(r"\w+", rest if colon else part)
        if words:
            found.append((label, words, len(words) <= PAIR_WORDS and len(part) <= REMEMBERED))
    return found


_known_items = lru_cache(maxsize=1 << 14)(_split_items)


@lru_cache(maxsize=1 << 14)
def _role(label: int, known: tuple[tuple[int, int], ...]) -> tuple[int, ...]:
    """The labels of a word's other items, seen from an item under `label`; those of several items once more."""
    others = [(one, n - (one == label)) for one, n in known]
    return tuple(number for one, n in others for number in (one, crc32(b"several", one))[:n])


def _read_item(label: int, shown: tuple[str | tuple[int, ...], ...], levels: bool) -> list[int]:
    """Hashes of the role groups of an item of words and roles; with the levels of its numbers or without."""
    start, words, numbers = crc32(b"~", label), list[bytes](), list[int]()
    for one in shown:
        if isinstance(one, str):
            words.append(b"#" if one.isdecimal() else _encoded(one))
        else:
            role = [b"<%d>" % other for other in one]
            numbers += [crc32(other, start) for other in role]
            words.append(b"".join(role))
    _add_groups(numbers, words, start)
    for i, one in enumerate(shown if levels else ()):
        if isinstance(one, str) and one.isdecimal():
            digits = one.lstrip("0") or "0"
            value = int(digits) if len(digits) < 5 else LEVELS[-1]
            head = crc32(b"%d>" % i, crc32(b" ".join(words), start))
            numbers += [crc32(b"%d" % level, head) for level in LEVELS if level <= value]
    return numbers


_read_known_item = lru_cache(maxsize=1 << 14)(_read_item)


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
