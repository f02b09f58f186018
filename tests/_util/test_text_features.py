"""Hashed words: what counts, and that any text takes linear time."""

from __future__ import annotations

import time

import pytest

from selfreg._util.text_features import LONGEST_TEXT, hashed_words, shorten

SIZE = 2**20


def groups(text: str) -> set[int]:
    return set(hashed_words(text, SIZE).tolist())


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


@pytest.mark.parametrize(
    "text", ["", "\n", ":", ".", ";:;", "\ud800 half a pair", "Task: a\n\n\n: b", "\x00", "Ünïcode: ß.", "a" * 10**6]
)
def test_any_text_has_groups_below_the_size(text: str) -> None:
    found = hashed_words(text, 64)
    assert found.tolist() == sorted(set(found.tolist()))
    assert not len(found) or 0 <= found.min() <= found.max() < 64


def _words(n: int) -> list[str]:
    return [f"w{i * i % 9973}" for i in range(n)]


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
    ],
    ids=["one line", "lines", "long label", "long task", "items", "blank lines", "colons"],
)
def test_time_is_linear_in_the_text(make) -> None:
    """Twelve times the text took up to a hundred times as long."""

    def seconds(text: str) -> float:
        spent = []
        for k in range(5):
            begin = time.process_time()
            hashed_words(f"{k}{text}", 2**15)
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
