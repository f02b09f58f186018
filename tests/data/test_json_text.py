"""JSON as other programs write it."""

from __future__ import annotations

import json
import time
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfreg.data import LogError
from selfreg.data.json_text import MOST_LEVELS, Repairs, decode_json, decode_value, repairs_so_far

VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(st.characters(codec=None, exclude_categories=())),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=10,
)


def repair(value: Any) -> Any:
    """What a value should be read as."""
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [repair(one) for one in value]
    return {repair(k): repair(v) for k, v in value.items()} if isinstance(value, dict) else value


@given(VALUES)
def test_whatever_python_writes_is_read(value: Any) -> None:
    found, _ = decode_json(json.dumps(value).encode())
    assert found == repair(value)


@pytest.mark.parametrize(
    ("text", "value", "repairs"),
    [
        (rb'"\ud83d"', "\ufffd", Repairs(1)),
        (rb'"\ude00 \ud83d\ude00 \\ud83d"', "\ufffd \U0001f600 \\ud83d", Repairs(1)),
        (rb'"\ud83d\u0041"', "\ufffdA", Repairs(1)),
        (b'"\xed\xa0\x80"', "\ufffd", Repairs(1)),
        (rb'[NaN, -Infinity, "NaN", "\"NaN"]', [None, None, "NaN", '"NaN'], Repairs(0, 2)),
        (b"\xef\xbb\xbf{}\r\n", {}, Repairs()),
    ],
)
def test_repairs_are_made_and_counted(text: bytes, value: Any, repairs: Repairs) -> None:
    assert decode_json(text) == (value, repairs)
    before = repairs_so_far()
    assert decode_value(text) == value
    assert repairs_so_far().minus(before) == repairs


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b'"\xff"', "not UTF-8: invalid start byte"),
        (b"[" * (MOST_LEVELS + 1) + b"]" * (MOST_LEVELS + 1), f"nested more than {MOST_LEVELS} levels"),
        (b"[" * 100_000 + b"]" * 100_000, f"nested more than {MOST_LEVELS} levels"),
        (b'{"a": "x', "it ends before its last bracket or quote"),
        (b"", "it is empty"),
        (b"\xff\xfe{\x00", "UTF-16"),
        (b"{} {}", "trailing characters"),
        (b"[1e400]", "Number out of range"),
    ],
)
def test_faults_say_what_is_wrong(text: bytes, message: str) -> None:
    with pytest.raises(LogError, match=message):
        decode_json(text)


def test_the_deepest_value_that_is_read_can_be_written_again() -> None:
    text = b"[" * MOST_LEVELS + b"]" * MOST_LEVELS
    assert msgspec.json.encode(decode_json(text)[0]) == text


def test_an_open_string_with_many_quotes_takes_linear_time() -> None:
    begin = time.perf_counter()
    with pytest.raises(LogError):
        decode_json(b'["' + rb"\"" * 1_000_000)
    assert time.perf_counter() - begin < 5


def test_a_type_is_checked() -> None:
    assert decode_json(b'{"a": 1}', dict[str, int])[0] == {"a": 1}
    with pytest.raises(LogError, match=r"Expected `int`, got `null` - at `\$\[...\]`"):
        decode_json(b'{"a": NaN}', dict[str, int])
