"""Layouts that newer or other programs write of a format that is read: each as its plain layout, or a named fault."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cases import ACTIONS, ATIF, CLAUDE, COMPACT, LANGSMITH, MESSAGES, OPENAI, OPENHANDS, STATES, TAU2, put

from selfreg.data import LogError, Trajectory, detect_format, look_at_logs, read_trajectories

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


def test_runs_of_langsmith_as_they_are_exported(tmp_path) -> None:
    plain = read(tmp_path / "plain.json", "langsmith", LANGSMITH)
    objects = ("inputs", "outputs", "extra", "feedback_stats")
    rows = [{name: json.dumps(one) if name in objects else one for name, one in run.items()} for run in LANGSMITH]
    assert read(tmp_path / "log.jsonl", "langsmith", rows) == plain
    names = {name: None for row in rows for name in row}
    pq.write_table(pa.Table.from_pylist([{**names, **row} for row in rows]), tmp_path / "log.parquet")
    assert detect_format(tmp_path / "log.parquet").format.name == "langsmith"
    assert list(read_trajectories(tmp_path / "log.parquet")) == [plain]
    with pytest.raises(LogError, match=r"bad\.jsonl.*run 'root': field 'inputs': "):
        read(tmp_path / "bad.jsonl", "langsmith", [{**rows[0], "inputs": "{"}, *rows[1:]])


@pytest.mark.parametrize(
    ("outputs", "action"),
    [
        ({"output": {"messages": [{"role": "assistant", "content": "it is 4"}]}}, "it is 4"),
        ({"output": {"choices": [{"message": {"role": "assistant", "content": "it is 4"}}]}}, "it is 4"),
        ({"verdict": {"sum": 4}}, '{"verdict":{"sum":4}}'),
        ({}, ""),
        (None, ""),
    ],
    ids=["messages", "choices", "other", "empty", "none"],
)
def test_no_output_of_a_run_is_lost(tmp_path, outputs, action) -> None:
    episode = read(tmp_path / "log.json", "langsmith", [LANGSMITH[0], {**LANGSMITH[1], "outputs": outputs}])
    assert [step.action for step in episode.steps] == [action]


def test_calls_in_the_first_versions_of_the_sdk_of_openhands(tmp_path) -> None:
    place = next(i for i, one in enumerate(OPENHANDS) if one["kind"] == "ActionEvent")
    plain = read(tmp_path / "log.jsonl", "openhands", OPENHANDS)
    call = {"id": "c1", "type": "function", "function": OPENHANDS[place]["tool_call"]}
    assert read(tmp_path / "log.jsonl", "openhands", put(OPENHANDS, (place, "tool_call"), call)) == plain


def test_several_trajectories_of_atif_in_one_file(tmp_path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text("".join(json.dumps({**ATIF, "session_id": name}) + "\n" for name in ("s1", "s2")))
    assert [one.episode for one in read_trajectories(path, "atif")] == ["s1", "s2"]


def test_simulations_of_tau2_bench_one_a_line(tmp_path) -> None:
    (simulation,) = TAU2["simulations"]
    line = {"task_id": "7", "termination_reason": "user_stop", "reward_info": {"reward": 1.0}} | simulation
    episode = read(tmp_path / "log.jsonl", "tau2_bench", [line])
    assert (seen_and_done(episode), episode.outcome) == (list(zip(STATES, COMPACT, strict=True)), 1.0)


def test_a_response_beside_the_messages_of_its_request(tmp_path) -> None:
    record = {**OPENAI[0], "messages": MESSAGES[:-1], "response": {"choices": [{"message": MESSAGES[-1]}]}}
    assert seen_and_done(read(tmp_path / "log.jsonl", "openai_messages", [record])) == PLAIN
    whole = {**OPENAI[0], "response": {"choices": [{"message": MESSAGES[-1]}]}}  # the answer is in both
    assert seen_and_done(read(tmp_path / "log.jsonl", "openai_messages", [whole])) == PLAIN


def test_a_table_of_spans_with_dotted_names(tmp_path) -> None:
    def row(place: int, given: list[Any], answer: Any) -> dict[str, Any]:
        messages = {"input": given, "output": [answer]}
        lists = {
            f"attributes.llm.{name}_messages": [
                {f"message.{field}": one[field] for field in ("role", "content")} for one in some
            ]
            for name, some in messages.items()
        }
        ids = {"context.trace_id": "t1", "context.span_id": str(place), "start_time": f"2026-01-0{place}"}
        return {**ids, "span_kind": "LLM", "name": "chat", "attributes.llm.model_name": "weak", **lists}

    question, answer, more = MESSAGES[1], {"role": "assistant", "content": "hm"}, {"role": "user", "content": "well?"}
    rows = [row(2, [question, answer, more], MESSAGES[-1]), row(1, [question], answer)]
    episode = read(tmp_path / "log.jsonl", "spans", rows)
    assert seen_and_done(episode) == [("2 + 2 = ?", "hm"), ("well?", "it is 4")]
    assert (episode.episode, episode.fields["model"]) == ("t1", "weak")


def test_spans_without_content_are_said_to_be_so(tmp_path) -> None:
    attributes = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "weak"}
    rows = [{"name": "chat", "trace_id": f"t{i}", "start_time": "1", "attributes": attributes} for i in range(2)]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert any("No step has a text" in hint for hint in look_at_logs(tmp_path / "log.jsonl").hints)
