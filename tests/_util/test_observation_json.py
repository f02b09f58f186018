"""JSON in texts: one form, whatever the order of keys and white space."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfreg._util.json_text import normalize_json
from selfreg.data import Step, state_text

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text(max_size=5), VALUES, max_size=4), st.sampled_from([None, 1, 4]))
def test_order_and_white_space_do_not_matter(value: dict[str, object], indent: int | None) -> None:
    shown = normalize_json(json.dumps(value, indent=indent))
    assert shown == normalize_json(json.dumps(dict(reversed(value.items())), separators=(",", ":")))
    assert normalize_json(shown) == shown
    assert json.loads(shown) == value


@pytest.mark.parametrize(
    "text", ["", "{", "[", "{x}", "[1] done", "a } b", '{"a": ', "{'a': 1}", "[" * 5000, '{"a":' * 5000]
)
def test_what_is_not_json_stays(text: str) -> None:
    assert normalize_json(text) == text


def test_objects_within_text_and_arrays() -> None:
    assert normalize_json('{x} then {"b":1,"a":2}, {"d": 3}') == '{x} then {"a": 2, "b": 1}, {"d": 3}'
    assert normalize_json(' [1,\n{"b":2,"a":1}]\n') == ' [1, {"a": 1, "b": 2}]\n'


@pytest.mark.parametrize("text", ['{"a":' * 20_000, "{" * 100_000, '{"a' * 30_000, '{"a":[' * 20_000])
def test_broken_json_takes_no_longer_than_its_length_warrants(text: str) -> None:
    begin = time.process_time()
    assert normalize_json(text) == text
    assert time.process_time() - begin < 1.0


def test_states_that_differ_in_key_order_have_the_same_text() -> None:
    one, other = '{"status": "open", "tries": 2}', '{\n "tries": 2,\n "status": "open"\n}'
    for history in (0, 2):
        assert state_text([Step("task", action=one), Step(one)], history) == state_text(
            [Step("task", action=other), Step(other)], history
        )
