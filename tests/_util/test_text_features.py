"""Hashed words: what counts, and that any text takes linear time."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest

from selfreg._util.text_features import LEVELS, LONGEST_TEXT, hashed_phrases, hashed_roles, hashed_words, shorten

SIZE = 2**20


def groups(text: str) -> set[int]:
    return set(hashed_words(text, SIZE).tolist())


def roles(text: str) -> set[int]:
    return set(hashed_roles(text, SIZE).tolist())


def test_lines_without_a_colon_share_their_words() -> None:
    """Each such line was its own label, so that prose had nothing in common but whole lines."""
    one, other = groups("Task: go.\nThe build failed again"), groups("Task: go.\nIt says the build failed")
    assert groups("Task: go.\nbuild failed") - groups("Task: go.") > set()
    assert len(one & other) >= len(groups("Task: go.")) + 5  # the, build, failed, and groups of them


def test_a_label_tells_words_apart() -> None:
    assert not (groups("x\nHere: mug") - groups("x")) & (groups("x\nThere: mug") - groups("x"))


def test_words_of_the_task_are_blanked_out() -> None:
    red, blue = (groups(f"Task: find the {c} ball.\nAhead: {c} ball.") for c in ("red", "blue"))
    assert red & blue - (groups("Task: find the red ball.") | groups("Task: find the blue ball."))


def test_single_lines_count_in_pairs() -> None:
    both = groups("x\nIn hand: nothing.\nAhead: ball.")
    assert both - groups("x\nIn hand: nothing.") - groups("x\nAhead: ball.")


def test_words_are_told_by_the_lines_where_else_they_stand() -> None:
    study, hall = (roles(f"Map: mug, {room}.\nHere: {room}.") for room in ("study", "hall"))
    assert study == hall
    assert study != roles("Map: mug, hall.\nHere: study.")
    assert study != roles("Doors: mug, study.\nHere: study.")


def test_a_word_of_several_items_is_told_from_one_of_one() -> None:
    one, both = (roles(f"Searched: study desk, {second} shelf.\nHere: study.") for second in ("hall", "study"))
    assert one - both
    assert both - one


def test_an_item_with_a_colon_has_a_label_of_its_own() -> None:
    left = roles("Here: hall. Left: chest.\nSearched: chest.")
    assert left != roles("Here: hall. Right: chest.\nSearched: chest.")
    assert left & roles("Left: chest.\nSearched: chest.")  # the same in a line of its own


def test_a_label_holds_up_to_the_next_colon_of_the_line() -> None:
    line = "Seen in: study. Not found in: hall, kitchen.\nHere: kitchen."
    assert roles(line) & roles("Not found in: kitchen.\nHere: kitchen.") > roles("Here: kitchen.") & roles(line)
    exits = roles("You are in the hall. Exits: north.\nMap: hall.")
    assert exits > roles("Exits: north.")
    assert exits & (roles("In the hall.\nMap: hall.") - roles("In the hall.") - roles("Map: hall."))


def test_a_number_of_several_items_is_a_number_still() -> None:
    assert roles("Steps left: 100.\nScore: 100.") >= roles("Steps left: 100.")


def test_words_that_stand_once_and_short_words_have_no_role() -> None:
    """Else no two states had a group in common."""
    assert roles("Here: study.") != roles("Here: hall.")
    assert roles("Here: in the hall.\nThere: in the study.") & roles("Here: in the hall.")


@pytest.mark.parametrize("value", ["0", "1", "7", "00011", "999", "10" * 3, "9" * 150])
def test_numbers_count_as_at_least_each_level(value: str) -> None:
    shown = {level: roles(f"Steps left: {level}") for level in (0, *LEVELS)}
    levels = [shown[level] - shown[before] for before, level in pairwise(shown)]
    assert all(len(one) == 1 for one in levels)
    found, least = roles(f"Steps left: {value}"), float(value)
    assert [one <= found for one in levels] == [level <= least for level in LEVELS]


@pytest.mark.parametrize("read", [hashed_words, hashed_roles, hashed_phrases])
@pytest.mark.parametrize(
    "text", ["", "\n", ":", ".", ";:;", "\ud800 half a pair", "Task: a\n\n\n: b", "\x00", "Ünïcode: ß.", "a" * 10**6]
)
def test_any_text_has_groups_below_the_size(text: str, read) -> None:
    found = read(text, 64)
    assert found.tolist() == sorted(set(found.tolist()))
    assert not len(found) or 0 <= found.min() <= found.max() < 64


def _words(n: int) -> list[str]:
    return [f"w{i * i % 9973}" for i in range(n)]


@pytest.mark.parametrize("read", [hashed_words, hashed_roles, hashed_phrases])
@pytest.mark.parametrize(
    "make",
    [
        lambda n: " ".join(_words(n)),
        lambda n: "\n".join(" ".join(_words(n)[i : i + 6]) for i in range(0, n, 6)),
        lambda n: " ".join(_words(n)) + ": " + " ".join(_words(n)),
        lambda n: " ".join(_words(n)) + "\n" + "\n".join(_words(n)),
        lambda n: ", ".join(_words(n)),
        lambda n: "\n" * n,
        lambda n: ":" * n,
        lambda n: "".join(f"{word}: {word}, {i}.\n" for i, word in enumerate(_words(n))),
        lambda n: "".join(f"{i}: {i % 7} same words.\n" for i in range(n)),
    ],
    ids=["one line", "lines", "long label", "long task", "items", "blank lines", "colons", "labels", "roles"],
)
def test_time_is_linear_in_the_text(make, read) -> None:
    """Twelve times the text took up to a hundred times as long."""

    def seconds(text: str) -> float:
        spent = []
        for k in range(5):
            begin = time.process_time()
            read(f"{k}{text}", 2**15)
            spent.append(time.process_time() - begin)
        return min(spent)

    short, long = make(700), make(8_400)
    assert seconds(long) < 40 * seconds(short) + 0.002


def test_long_texts_keep_their_beginning_and_their_end() -> None:
    text = "first " + "x" * LONGEST_TEXT + " last"
    assert shorten(text).startswith("first")
    assert shorten(text).endswith("last")
    assert len(shorten(text)) == LONGEST_TEXT + 1
    assert groups(text) & groups("first")
    assert groups(text) & groups("last")


def test_phrases_are_the_same_under_every_label() -> None:
    said = [
        set(hashed_phrases(f"Task: go.\n{name}: I was eating, then I left.", SIZE).tolist()) for name in ("Ana", "Bo")
    ]
    assert said[0] == said[1]
    assert said[0] > set(hashed_phrases("I was eating", SIZE).tolist())
    assert set(hashed_phrases("I left.", SIZE).tolist()).isdisjoint(hashed_phrases("we go", SIZE).tolist())
