"""What `look` proposes where logs do not say enough: outcomes, marks of help, groups of rows; and its command runs."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from selfreg.cli.main import main
from selfreg.data import LogError, look_at_logs, read_trajectories
from selfreg.data.proposals import find_rule

CHAT = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]

REACT = {"thought": "t", "action": "a", "observation": "o"}


def write(path: Path, records: list[Any]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def two_models(i: int) -> list[dict[str, Any]]:
    return [*CHAT[:1], CHAT[1] | {"model": "small"}, CHAT[0], CHAT[1] | {"model": "big" if i % 3 else "small"}]


def steps(i: int, **last: Any) -> list[dict[str, Any]]:
    return [{"obs": "a", "act": "b"}, {"obs": "c", "act": "d", **last}]


def records(**values: Any) -> list[dict[str, Any]]:
    """Twelve conversations of three tasks, with fields whose values are functions of the number."""
    made = [{"task_id": i % 3, "messages": CHAT, "success": i % 2} for i in range(12)]
    return [one | {name: value(i) for name, value in values.items()} for i, one in enumerate(made)]


LOGS: dict[str, tuple[list[Any], list[str]]] = {
    "pass and fail": (records(success=lambda i: "pass" if i % 2 else "fail"), ["--value", "outcome=fail=0,pass=1"]),
    "percent": (records(success=lambda i: 100 * (i % 2)), ["--value", "outcome=0..100"]),
    "satisfaction": (
        records(success=lambda i: None, csat=lambda i: 1 + i % 5), ["--map", "outcome=csat", "--value", "outcome=>=4"]
    ),
    "nested": (records(success=lambda i: None, result=lambda i: {"won": i % 2}), ["--map", "outcome=result.won"]),
    "two models": (records(messages=two_models), ["--help-model", "big=big"]),
    "two models in steps": (
        [{"task": i % 3, "won": i % 2, "steps": steps(i, model="big" if i % 3 else "small")} for i in range(12)],
        ["--map", "outcome=won"],
    ),
    "a tool": (
        records(messages=lambda i: [*CHAT, CHAT[0], CHAT[1] | {"tool_calls": [{"function": {"name": "ask_human"}}]}]),
        ["--help-tool", "ask_human=person"],
    ),
    "staff": (
        records(messages=lambda i: [*CHAT, CHAT[0], {"role": "human_agent", "content": "b"}]),
        ["--help-role", "human_agent=human_agent"],
    ),
    "observations after actions": (
        [{"task": i % 3, "success": i % 2, "prompt": "p", "steps": [REACT]} for i in range(12)],
        ["--shift-observation"],
    ),
    "rows": (
        [{"run_id": i // 2, "step": i % 2, "observation": "o", "action": "a", "success": 1} for i in range(12)],
        ["--group-by", "run_id", "--order-by", "step"],
    ),
    "single steps": (
        [{"query_id": i // 2, "prompt": "p", "response": "r", "model": "ab"[i % 2], "score": i % 2} for i in range(12)],
        ["--help-model", "b=b"],
    ),
    "authors": (
        [{"ticket_id": i // 2, "ts": i % 2, "customer": "c", "reply": "r", "by": ["bot", "anna"][i % 2], "solved": 1}
         for i in range(12)],
        ["--value", "intervention=bot=,*=person"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LOGS)
def test_the_command_has_what_the_log_suggests(tmp_path, name) -> None:
    log, expected = LOGS[name]
    found = look_at_logs(write(tmp_path / "log.jsonl", log))
    words = shlex.split(found.command)
    assert any(words[i : i + len(expected)] == expected for i in range(len(words))), found.command
    assert found.outcomes.known == found.episodes > 0
    assert found.n_faults == 0


@pytest.mark.parametrize("name", ["two models", "satisfaction", "authors"])
def test_the_command_runs(tmp_path, monkeypatch, capsys, name) -> None:
    command = shlex.split(look_at_logs(write(tmp_path / "log.jsonl", LOGS[name][0])).command)
    monkeypatch.chdir(tmp_path)
    assert main([*command[1:], "--samples", "0"]) == 0, capsys.readouterr().err


def test_what_is_given_is_not_proposed_otherwise(tmp_path, capsys) -> None:
    log = write(tmp_path / "log.jsonl", records(success=lambda i: 100 * (i % 2), messages=two_models))
    given = ["--map", "outcome=success", "--value", "outcome=>=50", "--help-model", "big=strong"]
    assert main(["look", str(log), *given]) == 0
    command = capsys.readouterr().out.splitlines()[-1]
    assert "0..100" not in command
    assert command.count("--help-model") == 1
    assert "'outcome=>=50' --help-model big=strong" in command


def test_rules_of_values() -> None:
    assert find_rule([0, 1, True, 0.5]) == ""
    assert find_rule(["Yes", "no"]) == "Yes=1,no=0"
    assert find_rule([-1, 0.5]) == "-1..1"
    assert find_rule(["1", "5", "3"]) == ">=4"
    assert find_rule(["submitted", "passed"]) is None  # not ended is not failed
    assert find_rule(["escalated", "resolved"]) == "escalated=0,resolved=1"
    assert find_rule([0, 1000]) is None
    assert find_rule([True, 1, 0.0, "pass", "fail"]) == "0.0=0,1=1,fail=0,pass=1,true=1"
    assert find_rule(["1", "0", "failed"]) == "0=0,1=1,failed=0"  # 1 was no word for success, and so a failure
    assert find_rule(["1", "0"]) == "0..1"
    assert find_rule([True, "pass", "skipped"]) is None
    assert find_rule(["0.7", "good"]) is None


def test_mixed_outcomes_are_read_by_one_rule(tmp_path, capsys) -> None:
    outcomes = [True, 1, "pass", False, 0, "fail"]
    log = write(tmp_path / "log.jsonl", [one | {"success": outcomes[i % 6]} for i, one in enumerate(records())])
    found = look_at_logs(log)
    assert (found.episodes, found.outcomes.mean, found.n_faults) == (12, 0.5, 0)
    assert "--skip-bad" not in found.command
    run = tmp_path / "run"
    assert main([*shlex.split(found.command)[1:-1], str(run), "--samples", "0"]) == 0
    assert "skipped" not in capsys.readouterr().err


def test_an_order_of_fields_that_says_nothing_is_only_a_hint(tmp_path) -> None:
    log = [{"task": i, "success": i % 2, "steps": [{"action": "a", "observation": "o"}]} for i in range(4)]
    found = look_at_logs(write(tmp_path / "log.jsonl", log))
    assert "--shift-observation" not in found.command
    assert any("--shift-observation" in hint for hint in found.hints)


def test_files_of_other_kinds_in_a_folder_hide_no_logs(tmp_path) -> None:
    write(tmp_path / "z.jsonl", records())
    (tmp_path / "a_config.json").write_text('{"lr": 1}')
    (tmp_path / "metrics.csv").write_text("a,b\n1,2\n")
    found = look_at_logs(tmp_path)
    assert (found.format, found.episodes, len(found.left_out)) == ("openai_messages", 12, 2)
    (tmp_path / "results.csv").write_text("instance_id,resolved\na,1\n")
    with pytest.raises(LogError, match="belongs to --outcomes"):
        look_at_logs(tmp_path)


# ---- layouts of messages --------------------------------------------------------------------------------------------

TALK = [
    {"role": "user", "content": "2 + 2 = ?"},
    {"role": "assistant", "content": "5"},
    {"role": "user", "content": "no"},
    {"role": "assistant", "content": "4"},
]
ANSWER = {"choices": [{"message": TALK[3]}]}
SPEAKERS = {"user": "human", "assistant": "gpt"}
LAYOUTS: dict[str, tuple[str, str]] = {
    "lists": ("l.jsonl", json.dumps(TALK) + "\n" + json.dumps(TALK)),
    "a list of lists": ("l.json", json.dumps([TALK, TALK])),
    "wrapped": ("l.json", json.dumps({"data": [{"messages": TALK}] * 2})),
    "wrapped and indented": ("l.json", json.dumps({"data": [{"messages": TALK}] * 2}, indent=1)),
    "speakers": (
        "l.json",
        json.dumps([{"conversations": [{"from": SPEAKERS[m["role"]], "value": m["content"]} for m in TALK]}] * 2),
    ),
    "a message a line": ("l.jsonl", "\n".join(json.dumps({"thread_id": t, **m}) for t in "ab" for m in TALK)),
    "messages in turns": (
        "l.jsonl",
        "\n".join(json.dumps({"thread_id": t, "ts": i, **m}) for i, m in reversed([*enumerate(TALK)]) for t in "ab"),
    ),
    "a message a row": (
        "l.csv", "session_id,role,content\n" + "".join(f"{t},{m['role']},{m['content']}\n" for t in "ab" for m in TALK)
    ),
    "a cell of JSON": ("l.csv", "id;messages\n" + ('a;"' + json.dumps(TALK).replace('"', '""') + '"\n') * 2),
    "requests": (
        "l.jsonl",
        "\n".join([json.dumps({"request": {"body": {"messages": TALK[:3]}}, "response": ANSWER})] * 2),
    ),
    "responses": (
        "l.jsonl",
        "\n".join([json.dumps({"input": TALK[:3], "output": [
            {"type": "reasoning", "summary": []},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "4"}]},
        ]})] * 2),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts_of_messages_are_read_alike(tmp_path, name) -> None:
    file, text = LAYOUTS[name]
    (tmp_path / file).write_text(text)
    found = list(read_trajectories(tmp_path / file))
    assert len({episode.episode for episode in found}) == len(found) == 2
    for episode in found:
        assert [(step.state, step.action) for step in episode.steps] == [("2 + 2 = ?", "5"), ("no", "4")]


def test_a_message_that_cannot_be_read_stops_its_file(tmp_path) -> None:
    log = write(tmp_path / "l.jsonl", [{"thread_id": "a", **TALK[0]}, {"thread_id": ["b"], **TALK[1]}])
    with pytest.raises(LogError, match=r"row 2: field 'thread_id': expected a string"):
        list(read_trajectories(log))
