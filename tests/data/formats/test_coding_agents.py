"""Layouts that newer, older and interactive versions of coding agents write: Claude Code, Codex, SWE-agent, mini."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from selfreg.data import LogError, Trajectory, detect_format, read_trajectories


def write(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = path.suffix == ".jsonl"
    text = "".join(json.dumps(one) + "\n" for one in value) if lines else json.dumps(value, indent=1)
    path.write_text(text)
    return path


def read(path: Path, value: Any, format: str) -> Trajectory:
    assert detect_format(write(path, value)).format.name == format
    (episode,) = read_trajectories(path)
    return episode


def steps_of(episode: Trajectory) -> list[tuple[str, str | None]]:
    return [(step.state, step.action) for step in episode.steps]


def help_of(episode: Trajectory) -> list[str | None]:
    return [step.intervention for step in episode.steps]


# ---- Claude Code ----------------------------------------------------------------------------------------------------


def claude(kind: str, *blocks: Any, id: str | None = None, model: str = "weak") -> dict[str, Any]:
    about = {"role": kind, "id": id, "model": model} if kind == "assistant" else {"role": kind}
    return {"type": kind, "sessionId": "s1", "isSidechain": False, "message": {**about, "content": list(blocks)}}


def text(value: str) -> dict[str, Any]:
    return {"type": "text", "text": value}


def use(name: str) -> dict[str, Any]:
    return {"type": "tool_use", "id": name, "name": "Read", "input": {"path": name}}


def result(name: str) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": name, "content": f"text of {name}"}


def test_results_among_the_records_of_a_message_of_claude_code(tmp_path) -> None:
    records = [
        claude("user", text("read both")),
        claude("assistant", use("a"), id="m1"),
        claude("user", result("a")),
        claude("assistant", use("b"), id="m1"),
        claude("user", result("b")),
        claude("assistant", text("done"), id="m2"),
        claude("user", text("thanks")),
        claude("assistant", text("bye")),
        claude("assistant", text("bye")),  # messages without ids are of their own
    ]
    assert steps_of(read(tmp_path / "log.jsonl", records, "claude_code")) == [
        ("read both", 'Read({"path":"a"}) Read({"path":"b"})'),
        ("Read returned: text of a\nRead returned: text of b", "done"),
        ("thanks", "bye"),
        ("", "bye"),
    ]


def test_a_record_of_claude_code_without_its_type_is_named(tmp_path) -> None:
    first = {name: value for name, value in claude("user", text("fix it")).items() if name != "type"}
    log = write(tmp_path / "log.jsonl", [first, claude("assistant", text("done"), id="m1")])
    with pytest.raises(LogError, match=r"log\.jsonl: line 1: field 'type' is missing"):
        list(read_trajectories(log))


def test_what_is_queued_while_claude_code_works(tmp_path) -> None:
    def attach(attachment: Any) -> dict[str, Any]:
        return {"type": "attachment", "sessionId": "s1", "attachment": attachment}

    records = [
        {"type": "queue-operation", "operation": "enqueue", "content": "start", "sessionId": "s1"},
        claude("user", text("start")),
        claude("assistant", use("a"), id="m1"),
        {"type": "queue-operation", "operation": "remove", "content": "parser first", "sessionId": "s1"},
        attach({"type": "queued_command", "prompt": "parser first", "commandMode": "prompt"}),
        attach({"type": "queued_command", "prompt": [text("and tests")]}),
        attach({"type": "todo_reminder", "content": []}),
        attach(None),
        claude("user", result("a")),
        claude("assistant", text("done"), id="m2"),
    ]
    episode = read(tmp_path / "log.jsonl", records, "claude_code")
    assert [step.state for step in episode.steps] == ["start", "parser first\nand tests\nRead returned: text of a"]
    records[4]["attachment"]["prompt"] = 3
    with pytest.raises(LogError, match=r"log\.jsonl: line 5: field 'prompt': expected"):
        read(tmp_path / "log.jsonl", records, "claude_code")


def test_messages_that_claude_code_makes_up_are_no_steps(tmp_path) -> None:
    made_up = claude("assistant", text("No response requested."), id="m0", model="<synthetic>")
    records = [claude("user", text("start")), made_up, claude("assistant", text("done"), id="m1")]
    episode = read(tmp_path / "log.jsonl", records, "claude_code")
    assert (steps_of(episode), episode.fields["model"]) == ([("start", "done")], "weak")


def test_files_of_subagents_are_left_out_of_a_folder_with_sessions(tmp_path) -> None:
    records = [claude("user", text("start")), claude("assistant", text("done"), id="m1")]
    below = [{**one, "isSidechain": True, "agentId": "a1"} for one in records]
    write(tmp_path / "s1.jsonl", records)
    subagent = write(tmp_path / "s1" / "subagents" / "agent-a1.jsonl", below)
    assert [one.episode for one in read_trajectories(tmp_path)] == ["s1"]
    for path in (subagent, subagent.parent):
        assert [one.episode for one in read_trajectories(path)] == ["s1/a1"]


# ---- Codex ----------------------------------------------------------------------------------------------------------


def codex(kind: str, **payload: Any) -> dict[str, Any]:
    return {"timestamp": "2026-01-01T00:00:00Z", "type": kind, "payload": payload}


def item(kind: str, **fields: Any) -> dict[str, Any]:
    return codex("response_item", type=kind, **fields)


def said(role: str, value: str) -> dict[str, Any]:
    return item("message", role=role, content=[{"type": "input_text", "text": value}])


META, CONTEXT = codex("session_meta", id="c1", cli_version="1"), codex("turn_context", model="weak")


def test_a_session_of_codex_that_goes_on_with_another_has_its_own_id(tmp_path) -> None:
    records = [META, codex("session_meta", id="parent"), CONTEXT, said("user", "go"), said("assistant", "done")]
    assert read(tmp_path / "log.jsonl", records, "codex").episode == "c1"


def test_messages_that_only_the_events_of_codex_have(tmp_path) -> None:
    shown = [codex("event_msg", type="user_message", message="go")]
    answer = [codex("event_msg", type="agent_message", message="done")]
    context = said("user", "<environment_context>here</environment_context>")
    episode = read(tmp_path / "a.jsonl", [META, CONTEXT, context, *shown, *answer], "codex")
    assert (steps_of(episode), episode.task) == ([("go", "done")], "go")
    both = [META, context, *shown, said("user", "go"), *answer, said("assistant", "done")]
    assert steps_of(read(tmp_path / "b.jsonl", both, "codex")) == [("go", "done")]


def test_calls_of_codex_with_objects_and_without_results(tmp_path) -> None:
    records = [
        META,
        said("user", "go"),
        item("tool_search_call", call_id="t", arguments={"query": "x"}),
        item("tool_search_output", call_id="t", tools=[{"name": "found"}]),
        item("web_search_call", action={"type": "search", "query": "w"}),
        item("local_shell_call", call_id="l", action={"type": "exec", "command": ["ls"]}),
        item("function_call_output", call_id="l", output={"content": "a.py", "success": True}),
        said("assistant", "done"),
    ]
    assert steps_of(read(tmp_path / "log.jsonl", records, "codex")) == [
        ("go", 'tool_search({"query":"x"})'),
        (
            'tool_search returned: {"name":"found"}',
            'web_search({"type":"search","query":"w"}) local_shell({"type":"exec","command":["ls"]})',
        ),
        ("local_shell returned: a.py", "done"),
    ]


def test_a_call_of_codex_that_the_user_rejects_is_help(tmp_path) -> None:
    call = item("function_call", name="shell", arguments="{}", call_id="c")
    rejected = item("function_call_output", call_id="c", output="exec command rejected by user")
    records = [META, said("user", "go"), call, rejected, said("user", "no"), said("assistant", "ok")]
    assert help_of(read(tmp_path / "log.jsonl", records, "codex")) == ["person", None]


def test_the_first_version_of_codex_wrote_one_document(tmp_path) -> None:
    items = [said("user", "go")["payload"], said("assistant", "done")["payload"]]
    session = {"timestamp": "2025-05-01", "id": "c0", "instructions": ""}
    episode = read(tmp_path / "rollout.json", {"session": session, "items": items}, "codex")
    assert (steps_of(episode), episode.episode) == ([("go", "done")], "c0")
    with pytest.raises(LogError, match=r"rollout\.json: .*'items.*expected an object"):
        read(tmp_path / "rollout.json", {"session": session, "items": [3]}, "codex")


def test_what_codex_exec_prints(tmp_path) -> None:
    def complete(kind: str, **fields: Any) -> dict[str, Any]:
        return {"type": "item.completed", "item": {"id": "item_0", "type": kind, **fields}}

    command = {"command": "ls", "aggregated_output": "a.py", "exit_code": 0, "status": "completed"}
    tool = {"server": "s", "tool": "find", "arguments": {"q": 1}, "result": {"content": [text("b.py")]}, "error": None}
    records = [
        {"type": "thread.started", "thread_id": "t1"},
        {"type": "turn.started"},
        complete("reasoning", text="hm"),
        {"type": "item.started", "item": {"id": "item_1", "type": "command_execution", "command": "ls"}},
        complete("command_execution", **command),
        complete("mcp_tool_call", **tool),
        complete("agent_message", text="done"),
        {"type": "turn.completed", "usage": {"input_tokens": 1}},
    ]
    episode = read(tmp_path / "log.jsonl", records, "codex")
    assert (episode.episode, steps_of(episode)) == (
        "t1",
        [
            ("", 'command_execution({"command":"ls"})'),
            ("command_execution returned: a.py", 'find({"q":1})'),
            ("find returned: b.py", "done"),
        ],
    )


# ---- SWE-agent and mini-swe-agent -----------------------------------------------------------------------------------


def attempt(action: str, config: Any) -> dict[str, Any]:
    record = {"action": action, "observation": "a.py", "thought": "", "query": [{"role": "user", "content": "fix"}]}
    info = {"exit_status": "submitted", "model_stats": {"instance_cost": 0.5}}
    return {"trajectory": [record], "history": [], "info": info, "replay_config": json.dumps(config)}


ONE = attempt("ls", {"agent": {"model": {"name": "weak"}}})
TWO = attempt("cat", {"agent": {"type": "retry", "agent_configs": [{"model": {"name": "strong"}}]}})


def test_swe_agent_writes_its_configuration_as_a_text(tmp_path) -> None:
    for document, model in ((ONE, "weak"), (TWO, "strong"), ({**ONE, "replay_config": "{"}, None)):
        assert read(tmp_path / "i1.traj", document, "swe_agent").fields["model"] == model


def test_the_chosen_attempt_of_swe_agent_is_the_episode(tmp_path) -> None:
    chosen = {"attempts": [ONE, TWO], **TWO, "info": {**TWO["info"], "best_attempt_idx": 1}}
    write(tmp_path / "i1" / "attempt_0" / "i1.traj", ONE)
    write(tmp_path / "i1" / "attempt_1" / "i1.traj", TWO)
    write(tmp_path / "i1" / "i1.traj", chosen)
    (episode,) = read_trajectories(tmp_path)
    assert (steps_of(episode), episode.task) == ([("fix", "cat")], "i1")
    assert (episode.fields["attempts"], episode.fields["best_attempt"]) == (2, 1)
    (tmp_path / "i1" / "i1.traj").unlink()
    assert len(list(read_trajectories(tmp_path))) == 2


def test_attempts_of_swe_agent_of_which_none_is_chosen_yet(tmp_path) -> None:
    path = write(tmp_path / "i1.traj", {"attempts": [ONE, TWO]})
    assert detect_format(path).format.name == "swe_agent"
    episodes = list(read_trajectories(path))
    assert [(one.task, one.episode) for one in episodes] == [("i1", "i1/attempt_0"), ("i1", "i1/attempt_1")]
    with pytest.raises(LogError, match=r"i1\.traj: field 'attempts\[1\].trajectory' is missing"):
        list(read_trajectories(write(path, {"attempts": [ONE, {}]})))


def test_steps_that_the_user_of_mini_swe_agent_rejects_or_takes_are_help(tmp_path) -> None:
    def message(role: str, content: str, **extra: Any) -> dict[str, Any]:
        return {"role": role, "content": content, "extra": extra}

    rejected = "Commands not executed. The user rejected your commands with the following message: no"
    messages = [
        message("user", "fix"),
        message("assistant", "rm", actions=[{"command": "rm"}]),
        message("user", rejected, interrupt_type="UserRejection"),
        message("user", "User command: ls", actions=[{"command": "ls"}]),
        message("user", "a.py"),
        message("assistant", "done", actions=[]),
        message("user", "The user added a new task: more", interrupt_type="UserNewTask"),
        message("assistant", "more done", actions=[]),
    ]
    document = {"trajectory_format": "mini-swe-agent-1.1", "info": {"mini_version": "2.2.0"}, "messages": messages}
    episode = read(tmp_path / "i1.traj.json", document, "mini_swe_agent")
    assert help_of(episode) == ["person", "person", None, None]
    assert [step.state for step in episode.steps][1:3] == [rejected, "a.py"]
    document["messages"] = [  # of the first version
        {"role": "user", "content": "fix"},
        {"role": "assistant", "content": "rm"},
        {"role": "user", "content": "Command not executed. The user rejected your command"},
        {"role": "assistant", "content": "done"},
    ]
    assert help_of(read(tmp_path / "i1.traj.json", document, "mini_swe_agent")) == ["person", None]


@pytest.mark.parametrize(
    ("records", "fault"),
    [
        (
            [{"type": "thread.started", "thread_id": "t"}, {"type": "item.completed", "item": {"type": [3]}}],
            "expected a",
        ),
        ([META, item("tool_search_output", tools=[None])], r"field 'tools\[0\]': expected"),
    ],
)
def test_broken_items_of_codex_are_named(tmp_path, records, fault) -> None:
    with pytest.raises(LogError, match=rf"log\.jsonl: line 2: .*{fault}"):
        list(read_trajectories(write(tmp_path / "log.jsonl", records), "codex"))
