"""The episode so far from JSON: steps, messages and texts, and what is wrong with them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from selfreg.data import Step, parse_history, read_trajectories, state_text

CHAT = [
    {"role": "system", "content": "You are an agent."},
    {"role": "user", "content": "Cancel my order."},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "1", "type": "function", "function": {"name": "find", "arguments": '{"order": 7}'}}],
    },
    {"role": "tool", "name": "find", "tool_call_id": "1", "content": "no such order"},
    {"role": "user", "content": [{"type": "text", "text": "It was"}, {"type": "text", "text": "order 8."}]},
]


def test_messages_become_steps_as_in_training() -> None:
    assert parse_history({"messages": CHAT}) == [
        Step("Cancel my order.", 'find({"order": 7})'),
        Step("find returned: no such order\nIt was\norder 8."),
    ]


def test_a_logged_chat_gives_the_states_of_its_log(tmp_path: Path) -> None:
    """A helper reads at run time the text that it was trained on, at every step of a tau-bench log."""
    turns = []
    for i in range(6):
        turns += [{"role": "user", "content": f"question {i}"}, {"role": "assistant", "content": f"answer {i}"}]
    log = [{"role": "system", "content": "rules"}, *turns]
    (tmp_path / "log.json").write_text(json.dumps([{"task_id": 1, "reward": 1, "traj": log}]))
    (episode,) = read_trajectories([tmp_path / "log.json"], "tau_bench")
    for k in range(6):
        so_far = parse_history({"messages": log[: 2 * k + 2]})
        for history in (0, 2, 4):
            assert state_text(so_far, history) == state_text(episode.steps[: k + 1], history)


@pytest.mark.parametrize("value", [["a", "b"], {"steps": ["a", {"state": "b"}]}, {"steps": [{"state": "a"}, "b"]}])
def test_steps_are_texts_or_objects(value) -> None:
    assert parse_history(value) == [Step("a"), Step("b")]


@pytest.mark.parametrize("state", [{"b": [1, 2.0], "a": None}, [{"b": 1}], ["a", "b"], 7, True])
def test_a_state_that_is_json_is_its_text(state, tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text(json.dumps({"task": "t", "outcome": 1, "steps": [{"observation": state}]}))
    (episode,) = read_trajectories([tmp_path / "log.jsonl"], "jsonl")
    assert state_text(parse_history({"steps": [{"state": state}]})) == state_text(episode.steps)


def test_a_text_is_one_state() -> None:
    assert parse_history("a") == [Step("a")]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (7, "expected steps, messages or a text; got a number"),
        (None, "expected steps, messages or a text; got null"),
        ({"step": ["a"]}, "unknown key 'step'; expected one of steps, messages"),
        ({"steps": ["a"], "model": "x"}, "unknown key 'model'"),
        ({}, "expected either 'steps' or 'messages'"),
        ({"steps": ["a"], "messages": CHAT}, "expected either 'steps' or 'messages'"),
        ({"steps": []}, "field 'steps': expected a list of at least one; got an empty list"),
        ({"steps": "a"}, "field 'steps': expected a list of at least one; got a string"),
        ({"messages": {}}, "field 'messages': expected a list of at least one; got an object"),
        ({"steps": ["a", 3]}, r"steps\[1\]: "),
        ({"steps": [{"state": "a", "text": "b"}]}, r"steps\[0\]: .*unknown field `text`"),
        ([{"role": "user", "content": "a"}], r"steps\[0\]: .*; messages go into 'messages'"),
        ({"steps": ["a", {"state": "b", "action": "c"}]}, r"steps\[1\] has 'action'; the last step is the state"),
        ({"steps": [{"state": "a", "cost": -1}, "b"]}, r"steps\[0\]: .*cost is -1"),
        ({"steps": ["a", " "]}, "the state is empty"),
        ({"messages": CHAT[:3]}, "nothing came in after the last message of the assistant"),
        ({"messages": CHAT[:1]}, "nothing came in"),
        ({"messages": ["hello"]}, r"field 'messages\[0\]': expected an object; got a string"),
        ({"messages": [{"role": "user", "content": 3}]}, r"'messages\[0\].content': expected a string or"),
        (
            {"messages": [{"role": "assistant", "tool_calls": [1]}]},
            r"'messages\[0\].tool_calls\[0\]': expected an object",
        ),
    ],
)
def test_what_is_wrong_is_named(value, message) -> None:
    with pytest.raises(ValueError, match=message):
        parse_history(value)
