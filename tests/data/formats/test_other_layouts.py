"""Layouts that newer or other programs write of a format that is read: each as its plain layout, or a named fault."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cases import ACTIONS, CLAUDE, COMPACT, LANGSMITH, STATES

from selfreg.data import LogError, Trajectory, detect_format, read_trajectories

SYSTEM = {"role": "system", "content": "be brief"}
ITEMS: list[dict[str, Any]] = [
    {"role": "user", "content": [{"type": "input_text", "text": "2 + 2 = ?"}]},
    {"type": "reasoning", "summary": []},
    {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "let me add"}]},
    {"type": "function_call", "name": "add", "arguments": '{"a": 2}', "call_id": "c1"},
    {"type": "function_call_output", "call_id": "c1", "output": "4"},
    {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "it is 4"}]},
]


def read(path: Path, format: str, value: Any) -> Trajectory:
    lines = path.suffix == ".jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in value) if lines else json.dumps(value))
    assert detect_format(path).format.name == format
    (episode,) = read_trajectories(path)
    return episode


def seen_and_done(episode: Trajectory) -> list[tuple[str, str | None]]:
    return [(step.state, step.action) for step in episode.steps]


PLAIN = list(zip(STATES, ACTIONS, strict=True))


def test_messages_may_be_items_of_the_responses_api(tmp_path) -> None:
    episode = read(tmp_path / "log.jsonl", "openai_messages", [{"messages": ITEMS, "score": 1}])
    assert (seen_and_done(episode), episode.outcome) == (PLAIN, 1.0)


@pytest.mark.parametrize("bad", [3, {"type": 3}], ids=["number", "type"])
def test_an_item_that_is_none_is_named(tmp_path, bad) -> None:
    with pytest.raises(LogError, match=r"log\.jsonl:1: field 'messages': field '\[6\]|field 'messages': field 'type'"):
        read(tmp_path / "log.jsonl", "openai_messages", [{"messages": [*ITEMS, bad], "score": 1}])


def test_mini_swe_agent_with_responses(tmp_path) -> None:
    answers = [
        {"object": "response", "model": "weak", "output": ITEMS[1:4], "extra": {"actions": [{"command": "ls"}]}},
        {**ITEMS[4], "extra": {"returncode": 0}},
        {"object": "response", "output": [ITEMS[5]], "extra": {"actions": []}},
        {"role": "exit", "content": "", "extra": {"exit_status": "Submitted"}},
    ]
    info = {"exit_status": "Submitted", "config": {"model": {"model_name": "weak"}}}
    document = {"trajectory_format": "mini-swe-agent-1.1", "info": info, "messages": [SYSTEM, ITEMS[0], *answers]}
    episode = read(tmp_path / "i1.traj.json", "mini_swe_agent", document)
    assert (seen_and_done(episode), episode.fields["model"]) == (PLAIN, "weak")


def test_what_claude_code_prints_as_stream_json(tmp_path) -> None:
    records: list[dict[str, Any]] = [{"type": "system", "subtype": "init", "session_id": "s1", "tools": []}]
    for one in CLAUDE[1:]:
        record = {name: one[name] for name in ("type", "message")}
        records.append({**record, "session_id": "s1", "parent_tool_use_id": None})
    records.append({**records[2], "parent_tool_use_id": "c1"})  # of a subagent
    records.append({"type": "result", "subtype": "success", "is_error": False, "session_id": "s1"})
    for name in ("log.jsonl", "log.json"):
        episode = read(tmp_path / name, "claude_code", records)
        assert seen_and_done(episode) == list(zip(STATES, COMPACT, strict=True))
        assert episode.episode == "s1"


def test_commands_of_claude_code_itself_are_no_task(tmp_path) -> None:
    def user(text: str) -> dict[str, Any]:
        return {**CLAUDE[1], "message": {"role": "user", "content": text}}

    own = "<command-name>/clear</command-name>\n  <command-message>clear</command-message>"
    first = [user(own), user("<local-command-stdout></local-command-stdout>")]
    assert read(tmp_path / "a.jsonl", "claude_code", [*first, *CLAUDE[1:]]).task == STATES[0]
    custom = "<command-message>fix is running</command-message>\n<command-name>/fix</command-name>"
    assert read(tmp_path / "b.jsonl", "claude_code", [user(custom), *CLAUDE[2:]]).task == custom


def test_runs_of_langsmith_may_be_inside_of_one_another(tmp_path) -> None:
    root, *others = [{k: v for k, v in run.items() if k not in ("trace_id", "parent_run_id")} for run in LANGSMITH]
    plain = read(tmp_path / "plain.json", "langsmith", LANGSMITH)
    nested = read(tmp_path / "log.json", "langsmith", {**root, "trace_id": "t1", "child_runs": others})
    assert nested == plain
    with pytest.raises(LogError, match=r"bad\.json.*'child_runs': expected runs; got int"):
        read(tmp_path / "bad.json", "langsmith", {**root, "child_runs": [3]})
