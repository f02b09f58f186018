"""Scanning canonical lines: whatever is read is what the decoder reads; everything else is left to it."""

from __future__ import annotations

import json
from itertools import pairwise

import msgspec
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from selfreg._core.chooser import kernel
from selfreg.data import Scalar
from selfreg.data.columns import StepText, jsonl_columns
from selfreg.data.decoded import DecodedTrajectory

texts = st.text(st.sampled_from('ab"\\/\n\t\x00\u00e9\u2028\ud7ff\U0001f600'), max_size=12)
rates = st.sampled_from([0, 1, 0.0, 0.25, 1.0, 1 / 3, 1e-7])
scalars = st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from([0.5, 1e300]) | texts
steps = st.fixed_dictionaries(
    {"state": texts},
    optional={
        "action": st.none() | texts,
        "key": st.none() | texts,
        "intervention": st.none() | st.sampled_from(["help", "nohelp", ""]),
        "cost": st.none() | st.integers(0, 20),
        "label": st.none() | rates,
    },
)
episodes = st.fixed_dictionaries(
    {"task": texts, "episode": texts, "outcome": rates, "steps": st.lists(steps, min_size=1, max_size=3)},
    optional={"truncated": st.booleans(), "fields": st.dictionaries(texts, scalars, max_size=3)},
)


@st.composite
def lines(draw) -> bytes:
    """A line as somebody may write it."""
    episode = draw(episodes)
    episode = {name: episode[name] for name in draw(st.permutations(sorted(episode)))}
    separators = draw(st.sampled_from([(",", ":"), (", ", ": "), (" ,\t", " : ")]))
    written = json.dumps(episode, ensure_ascii=draw(st.booleans()), separators=separators)
    return draw(st.sampled_from(["", " "])).encode() + written.encode() + draw(st.sampled_from([b"", b"\r", b" \t"]))


def scanned(implementation: str, block: bytes, wanted: StepText) -> tuple[int, list, list]:
    """Where the scan ended, episodes (line, task, episode, outcome, fields, steps), and steps (text, intervention)."""
    room = block.count(b"\n") + 1, block.count(b"{")
    reached, numbers, lengths = np.zeros(3, np.int64), np.zeros(room[0], np.int64), np.zeros(room[0], np.int64)
    ends = np.zeros((4, room[0] + 1), np.int64), np.zeros((2, room[1] + 1), np.int64)
    content = np.zeros((4, len(block)), np.uint8), np.zeros((2, len(block)), np.uint8)
    helped = np.zeros(room[1], np.uint8)
    arrays = (reached, numbers, lengths, ends[0], content[0], ends[1], content[1], helped)
    end = kernel("scan", implementation).scan(block, 0, wanted, *arrays)
    _, n, steps = reached.tolist()
    columns = [
        [bytes(text[a:b]) for a, b in pairwise(end[: rows + 1])]
        for kind, rows in ((0, n), (1, steps))
        for end, text in zip(ends[kind], content[kind], strict=True)
    ]
    found = list(zip(numbers.tolist()[:n], *columns[:4], lengths.tolist()[:n], strict=True))
    taken = [text.decode() if given else None for text, given in zip(columns[5], helped[:steps], strict=True)]
    return end, found, list(zip([text.decode() for text in columns[4]], taken, strict=True))


def decoded(line: bytes, wanted: StepText) -> tuple[tuple, list]:
    """The same of one line by the decoder."""
    t = msgspec.json.decode(line, type=DecodedTrajectory)
    read = {
        StepText.NOTHING: lambda step: "",
        StepText.KEY: lambda step: step.state if step.key is None else step.key,
        StepText.STATE: lambda step: step.state,
    }[wanted]
    return (t.task, t.episode, t.outcome, t.fields), [(read(step), step.intervention) for step in t.steps]


def agrees(line: bytes, wanted: StepText, implementation: str) -> bool:
    """Whether the line is read; then it must be what the decoder finds."""
    end, found, steps = scanned(implementation, line, wanted)
    if not found:
        assert (end, steps) == (0 if line.strip(b" \t\r") else len(line), [])
        return False
    assert end == len(line)
    ((number, task, episode, outcome, fields, length),) = found
    try:
        free = msgspec.json.decode(fields or b"{}", type=dict[str, Scalar])
    except msgspec.DecodeError:  # seen when columns are made
        return False
    told = (task.decode(), episode.decode(), float(outcome), free)
    assert (told, steps) == decoded(line, wanted)
    assert (number, length) == (1, len(steps))
    return True


@given(lines(), st.sampled_from(StepText))
def test_what_is_read_is_what_the_decoder_reads(implementation, line, wanted) -> None:
    plain = not any(odd in line for odd in (b"\\ud83d", b"e-07"))
    assert agrees(line, wanted, implementation) == plain


junk = st.binary(min_size=0, max_size=2) | st.sampled_from([*'{}[]",:\\u0159eE.-+nfd \t\n', "null", "true", "\\u"]).map(
    str.encode
)


@given(lines(), st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 3), junk), min_size=1, max_size=3))
def test_no_broken_line_is_read(implementation, line, changes) -> None:
    for place, left_out, put_in in changes:
        at = place % (len(line) + 1)
        line = line[:at] + put_in + line[at + left_out :]
    try:
        line.decode()
    except UnicodeDecodeError:  # such blocks are not scanned
        return
    if b"\n" not in line:
        agrees(line, StepText.KEY, implementation)


@given(st.lists(lines() | st.sampled_from([b"", b" ", b"{", b'{"task": 3}']), max_size=6))
@example([b"", b"", b"{}"])
def test_the_twin_does_the_same(many) -> None:
    one, other = (scanned(name, b"\n".join(many), StepText.KEY) for name in ("cython", "python"))
    assert one[0] == other[0]
    assert one[2] == other[2]
    for here, there in zip(one[1], other[1], strict=True):
        assert here[:4] + here[5:] == there[:4] + there[5:]
        assert msgspec.json.decode(here[4] or b"{}") == msgspec.json.decode(there[4] or b"{}")


GOOD = '{"task":"t","episode":"e","outcome":1,"steps":[{"state":"s"}]}'
ODD = [
    GOOD.replace("1", "1.5"),
    GOOD.replace("1", "-0"),
    GOOD.replace("1", "01"),
    GOOD.replace("1", "1e0"),
    GOOD.replace("1", "1.0000000001"),
    GOOD.replace("1", "null"),
    GOOD.replace("1", "true"),
    GOOD.replace("1", '"1"'),
    GOOD.replace('"s"', "null"),
    GOOD.replace('"s"', '"\\x"'),
    GOOD.replace('"s"', '"\\ud800"'),
    GOOD.replace('"s"', '"\t"'),
    GOOD.replace('"s"}', '"s","cost":1.0}'),
    GOOD.replace('"s"}', '"s","cost":-1}'),
    GOOD.replace('"s"}', '"s","label":2}'),
    GOOD.replace('"s"}', '"s","other":2}'),
    GOOD.replace('"s"}', '"s","state":"s"}'),
    GOOD.replace('{"state":"s"}', ""),
    GOOD.replace('{"state":"s"}', '{"state":"s"},'),
    GOOD.replace('{"state":"s"}', "{}"),
    GOOD.replace('"task":"t",', ""),
    GOOD.replace('"task":"t",', '"task":"t","fields":{"a":[1]},'),
    GOOD.replace('"task":"t",', '"task":"t","task":"t",'),
    GOOD + "x",
    GOOD + GOOD,
    GOOD[:-1],
    GOOD[:-20],
    "[]",
    "\ufeff" + GOOD,
]


@pytest.mark.parametrize("line", ODD)
def test_odd_lines_are_left_to_the_decoder(implementation, line) -> None:
    assert scanned(implementation, GOOD.encode(), StepText.STATE)[2] == [("s", None)]
    assert scanned(implementation, line.encode(), StepText.STATE) == (0, [], [])
    end, found, _ = scanned(implementation, f"{GOOD}\n\n{GOOD}\n{line}\n{GOOD}".encode(), StepText.STATE)
    assert (end, [number for number, *_ in found]) == (2 * len(GOOD) + 3, [1, 3])


def test_more_than_there_is_room_for_is_not_scanned() -> None:
    block = (GOOD + "\n").encode()
    found = jsonl_columns([block, block], 2 * len(block), StepText.STATE, lambda number, line: None)
    assert found is not None
    assert found.text.to_pylist() == ["s", "s"]
    assert jsonl_columns([block, block], 2 * len(block) - 1, StepText.STATE, lambda number, line: None) is None
