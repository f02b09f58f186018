"""What single formats say in their own ways: help, outcomes beside the log, other layouts of the same things."""

from __future__ import annotations

import copy
import gzip
import json
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cases import (
    ATIF,
    CASES,
    CLAUDE,
    CODEX,
    INSPECT,
    LANGSMITH,
    MESSAGES,
    OPENAI,
    OPENHANDS,
    OPENHANDS_OUTPUT,
    OPENHANDS_V0,
    SPANS,
    STEPS,
    TAU2,
    put,
)

from selfreg.data import HelpMarks, LogError, ReadOptions, Trajectory, detect_format, read_trajectories
from selfreg.data.archives import ZSTANDARD
from selfreg.data.log_files import identify


def write(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = path.suffix == ".jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in value) if lines else json.dumps(value))
    return path


def read(path: Path, **options: Any) -> list[Trajectory]:
    return list(read_trajectories(path, **options))


def help_of(episode: Trajectory) -> list[str | None]:
    return [step.intervention for step in episode.steps]


# ---- help that the file itself says ---------------------------------------------------------------------------------


def test_a_rejection_by_a_person_is_help(tmp_path) -> None:
    claude = copy.deepcopy(CLAUDE)
    claude[4]["toolUseResult"] = "User rejected tool use"
    assert help_of(read(write(tmp_path / "c.jsonl", claude))[0]) == ["person", None]
    rejected = {"kind": "UserRejectObservation", "source": "environment", "rejection_reason": "no", "tool_name": "add"}
    events = [*OPENHANDS[:3], rejected, OPENHANDS[4]]
    (episode,) = read(write(tmp_path / "o.jsonl", events))
    assert help_of(episode) == ["person", None]
    assert episode.steps[1].state == "The user rejected the action: no"
    approval = {"event": "approval", "approver": "human", "decision": "reject"}
    inspect = put(INSPECT, ("samples", 0, "events"), [*INSPECT["samples"][0]["events"][:1], approval])
    assert help_of(read(write(tmp_path / "i.json", inspect))[0]) == ["person"]


def test_a_transfer_to_a_person_and_an_advisor_are_help(tmp_path) -> None:
    place = ("simulations", 0, "messages", 2, "tool_calls", 0, "name")
    assert help_of(read(write(tmp_path / "t.json", put(TAU2, place, "transfer_to_human_agents")))[0]) == [
        "person",
        None,
    ]
    advised = put(CLAUDE, (3, "message", "content", 0), {"type": "server_tool_use", "id": "a", "name": "advisor"})
    assert help_of(read(write(tmp_path / "c.jsonl", advised))[0]) == ["advisor", None]


def test_another_model_is_help_if_it_is_said_to_be(tmp_path) -> None:
    steps = put(ATIF, ("steps", 3, "model_name"), "strong-1")
    log = write(tmp_path / "a.json", steps)
    assert help_of(read(log)[0]) == [None, None]
    options = ReadOptions(marks=HelpMarks(models={"strong*": "strong"}))
    assert help_of(read(log, options=options)[0]) == [None, "strong"]


# ---- outcomes -------------------------------------------------------------------------------------------------------


def test_atif_takes_the_reward_of_its_trial(tmp_path) -> None:
    log = write(tmp_path / "trial" / "agent" / "trajectory.json", ATIF)
    result = {"task_name": "hello", "trial_name": "hello__1", "verifier_result": {"rewards": {"reward": 1}}}
    write(tmp_path / "trial" / "result.json", result)
    (episode,) = read(log)
    assert (episode.task, episode.episode, episode.outcome) == ("hello", "hello__1", 1.0)
    assert [one.episode for one in read(tmp_path)] == ["hello__1"]
    write(tmp_path / "trial" / "result.json", put(result, ("verifier_result", "rewards"), {"a": 1, "b": 0}))
    with pytest.raises(LogError, match=r"several rewards and none named 'reward' \(a, b\); choose one"):
        read(log)
    assert read(log, roles={"outcome": "b"})[0].outcome == 0.0
    with pytest.raises(LogError, match=r"reward 'c' is missing \(role 'outcome'\); there are a, b"):
        read(log, roles={"outcome": "c"})


def test_tau2_counts_as_the_benchmark_does(tmp_path) -> None:
    reward, reason = ("simulations", 0, "reward_info", "reward"), ("simulations", 0, "termination_reason")
    assert read(write(tmp_path / "a.json", put(TAU2, reward, 0.5)))[0].outcome == 0.0
    (failed,) = read(write(tmp_path / "b.json", put(TAU2, reason, "infrastructure_error")))
    assert (failed.outcome, failed.truncated) == (None, True)
    assert (failed.task, failed.fields["domain"]) == ("airline/3", "airline")


def test_of_several_scores_one_is_chosen(tmp_path) -> None:
    scores = {"match": {"value": "I"}, "graded": {"value": {"a": 0.25, "b": 1}}}
    log = write(tmp_path / "i.json", put(INSPECT, ("samples", 0, "scores"), scores))
    with pytest.raises(LogError, match=r"several scorers \(match, graded.a, graded.b\); choose one"):
        read(log)
    assert read(log, roles={"outcome": "match"})[0].outcome == 0.0
    assert read(log, roles={"outcome": "graded.a"})[0].outcome == 0.25
    feedback = put(LANGSMITH, (0, "feedback_stats"), {"good": {"avg": 1}, "style": {"avg": 0.5}})
    log = write(tmp_path / "l.jsonl", feedback)
    with pytest.raises(LogError, match=r"several feedback scores \(good, style\)"):
        read(log)
    assert read(log, roles={"outcome": "style"})[0].outcome == 0.5


def test_outcomes_are_translated_by_a_rule(tmp_path) -> None:
    log = write(tmp_path / "m.jsonl", [{**OPENAI[0], "reward": 4}])
    with pytest.raises(
        LogError, match=r"m\.jsonl:1: field 'reward': expected a number in \[0, 1\] or a boolean; got 4"
    ):
        read(log)
    assert read(log, options=ReadOptions(values={"outcome": "1..5"}))[0].outcome == 0.75
    graded = write(tmp_path / "i.json", put(INSPECT, ("samples", 0, "scores", "match", "value"), "B"))
    with pytest.raises(LogError, match="scorer 'match': expected C, P, I, N or a number"):
        read(graded)
    assert read(graded, options=ReadOptions(values={"outcome": "A=1,B=0.5"}))[0].outcome == 0.5


# ---- other layouts --------------------------------------------------------------------------------------------------


def test_messages_of_langchain(tmp_path) -> None:
    human = {"lc": 1, "type": "constructor", "id": ["langchain", "HumanMessage"], "kwargs": {"content": "2 + 2 = ?"}}
    answer = {"content": "it is 4", "tool_calls": [{"name": "add", "args": {"a": 2}, "id": "c"}]}
    message = {"lc": 1, "type": "constructor", "id": ["langchain", "AIMessage"], "kwargs": answer}
    run = {
        **LANGSMITH[1],
        "inputs": {"messages": [[human]]},
        "outputs": {"generations": [[{"text": "", "message": message}]]},
    }
    (episode,) = read(write(tmp_path / "l.jsonl", [run]))
    assert [(s.state, s.action) for s in episode.steps] == [("2 + 2 = ?", 'it is 4\nadd({"a":2})')]


def test_spans_of_openinference(tmp_path) -> None:
    attributes = {
        "openinference.span.kind": "LLM",
        "llm.model_name": "weak",
        "llm.input_messages.0.message.role": "user",
        "llm.input_messages.0.message.contents.0.message_content.type": "text",
        "llm.input_messages.0.message.contents.0.message_content.text": "2 + 2 = ?",
        "llm.output_messages.0.message.role": "assistant",
        "llm.output_messages.0.message.tool_calls.0.tool_call.function.name": "add",
        "llm.output_messages.0.message.tool_calls.0.tool_call.function.arguments": '{"a": 2}',
    }
    flat = {"name": "llm", "context": {"trace_id": "t", "span_id": "s"}, "start_time": "2026", "attributes": attributes}
    evaluation = {"name": "gen_ai.evaluation.result", "attributes": {"gen_ai.evaluation.score.value": 0.5}}
    (episode,) = read(write(tmp_path / "s.jsonl", [flat | {"events": [evaluation]}]))
    assert [(s.state, s.action) for s in episode.steps] == [("2 + 2 = ?", 'add({"a": 2})')]
    assert (episode.episode, episode.outcome, episode.fields["model"]) == ("t", 0.5, "weak")


@pytest.mark.parametrize("name", ["input.value", "gen_ai.prompt", "gen_ai.input.messages"])
def test_spans_of_json_texts(tmp_path, name) -> None:
    given = {"messages": MESSAGES[:4], "model": "weak"} if name == "input.value" else MESSAGES[:4]
    attributes = {"gen_ai.operation.name": "chat", name: json.dumps(given)}
    for output in ({"text": "it is 4"}, {"choices": [{"message": MESSAGES[4]}]}, MESSAGES[4:]):
        log = write(tmp_path / "s.json", attributes | {"output.value": json.dumps(output)})
        assert [(s.state, s.action) for s in read(log)[0].steps] == [("add returned: 4", "it is 4")]
    log = write(tmp_path / "s.json", {"gen_ai.operation.name": "chat", "input.value": "[a text", "output.value": "{b"})
    assert [(s.state, s.action) for s in read(log)[0].steps] == [("[a text", "{b")]


def test_runs_as_they_are_sent(tmp_path) -> None:
    run = _drop(LANGSMITH[1], "outputs", "id") | {"start_time": 1728803135809, "dotted_order": "20241013T07Zrun1"}
    end = {"dotted_order": run["dotted_order"], "trace_id": run["trace_id"], "outputs": LANGSMITH[1]["outputs"]}
    (episode,) = read(write(tmp_path / "l.json", {"post": [run | {"id": "run1"}], "patch": [end]}))
    assert [(s.state, s.action) for s in episode.steps] == [("add returned: 4", "it is 4")]


def _drop(record: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name not in names}


def test_the_first_sessions_of_codex(tmp_path) -> None:
    items = [line["payload"] for line in CODEX if line["type"] == "response_item"]
    log = write(tmp_path / "r.jsonl", [{"id": "s9", "timestamp": "t", "instructions": None}, *items])
    (episode,) = read(log)
    assert (episode.episode, len(episode.steps)) == ("s9", 2)


def test_traces_of_several_lines_are_put_together(tmp_path) -> None:
    spans = SPANS["resourceSpans"][0]["scopeSpans"][0]["spans"]
    lines = [{"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]} for span in spans]
    (episode,) = read(write(tmp_path / "s.jsonl", lines))
    assert [step.state for step in episode.steps] == ["2 + 2 = ?", "add returned: 4"]


def test_conversations_without_ids_share_a_task_by_their_first_message(tmp_path) -> None:
    log = write(tmp_path / "m.jsonl", [{"success": won, "messages": MESSAGES} for won in (True, False)])
    episodes = read(log)
    assert [(e.task, e.episode, e.outcome) for e in episodes] == [
        ("2 + 2 = ?", "m.jsonl:1", 1.0),
        ("2 + 2 = ?", "m.jsonl:2", 0.0),
    ]
    long = [{"success": 1, "messages": put(MESSAGES, (1, "content"), "x" * 500 + end)} for end in "ab"]
    tasks = {episode.task for episode in read(write(tmp_path / "n.jsonl", long))}
    assert len(tasks) == 2
    assert all(len(task) < 130 for task in tasks)


def test_calls_of_one_response_are_one_step(tmp_path) -> None:
    second = {**OPENHANDS[2], "thought": [], "tool_call": {"name": "sub", "arguments": "{}"}}
    (episode,) = read(write(tmp_path / "o.jsonl", [*OPENHANDS[:3], second, *OPENHANDS[3:]]))
    assert [step.action for step in episode.steps] == ['let me add\nadd({"a": 2}) sub({})', "it is 4"]


def test_subagents_and_errors_of_the_interface_are_no_steps(tmp_path) -> None:
    inner = {**CLAUDE[2], "isSidechain": True, "agentId": "a1"}
    error = {**CLAUDE[5], "uuid": "e", "isApiErrorMessage": True}
    (episode,) = read(write(tmp_path / "c.jsonl", [*CLAUDE[:3], inner, error, *CLAUDE[3:]]))
    assert len(episode.steps) == 2
    (alone,) = read(write(tmp_path / "agent-a1.jsonl", [{**CLAUDE[1], "isSidechain": True, "agentId": "a1"}, inner]))
    assert (alone.episode, len(alone.steps)) == ("s1/a1", 1)


def test_samples_compressed_by_zstandard_are_read(tmp_path) -> None:
    """As Inspect writes them; zipfile writes none, so the method is put into the headers of stored members."""
    log = tmp_path / "log.eval"
    with zipfile.ZipFile(log, "w") as archive:
        for name, value in (("header.json", {"eval": INSPECT["eval"]}), ("samples/1.json", INSPECT["samples"][0])):
            archive.writestr(name, pa.compress(json.dumps(value).encode(), "zstd", asbytes=True))
    data = bytearray(log.read_bytes())
    for mark, place in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        at = data.find(mark)
        while at >= 0:
            data[at + place] = ZSTANDARD
            at = data.find(mark, at + 1)
    log.write_bytes(data)
    (episode,) = read(log)
    assert (episode.task, len(episode.steps), episode.outcome) == ("sums/q1", 2, 1.0)
    log.write_bytes(data[:-30])
    with pytest.raises(LogError, match=r"log\.eval: broken zip file"):
        read(log)
    damaged = data.replace(b"\x28\xb5\x2f\xfd", b"\x28\xb5\x2f\x00")
    log.write_bytes(damaged)
    with pytest.raises(LogError, match=r"log\.eval: member 'header\.json' (is broken|cannot be read)"):
        read(log)


# ---- tables ---------------------------------------------------------------------------------------------------------


def test_tables_of_parquet_and_columns_by_roles(tmp_path) -> None:
    rows = [{"nr": i % 2, "ask": f"q{i % 2}", "who": "ab"[i // 2], "grade": [0.0, 1.0, None, 0.5][i]} for i in range(4)]
    log = tmp_path / "t.parquet"
    pq.write_table(pa.Table.from_pylist(rows), log)
    roles = {"task": "nr", "observation": "ask", "model": "who", "outcome": "grade"}
    episodes = read(log, roles=roles)
    assert [(e.task, e.episode, e.outcome) for e in episodes] == [
        ("0", "0/a", 0.0),
        ("1", "1/a", 1.0),
        ("0", "0/b", None),
        ("1", "1/b", 0.5),
    ]
    with pytest.raises(LogError, match=r"column 'no' is missing \(role 'task'\); there are nr, ask, who, grade"):
        read(log, roles=roles | {"task": "no"})
    marks = ReadOptions(marks=HelpMarks(models={"b": "strong"}))
    assert [e.helped for e in read(log, roles=roles, options=marks)] == [False, False, True, True]


def test_rows_of_an_episode_are_checked_together(tmp_path) -> None:
    case = next(case for case in CASES if case.file == "steps.csv")
    log = tmp_path / "steps.csv"
    for change, message in (
        (put(STEPS, (0, "outcome"), 0), r"rows of one episode have different values \(0, 1\)"),
        (put(STEPS, (0, "step"), 1), r"column 'step': step 1 is there twice"),
        (put(STEPS, (0, "step"), ""), r"column 'step': expected the number or time of a step; got no value"),
    ):
        log.write_bytes(case.pack(change))
        with pytest.raises(LogError, match=message):
            read(log)
    log.write_text(log.read_text() + "short,row\n")
    with pytest.raises(LogError, match=r"line 4: expected 7 values; got 2 .* is not known"):
        read(log)


def test_files_that_are_read_at_once_have_a_limit(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("selfreg.data.documents.MOST_BYTES", 1000)
    for name, value in (("c.jsonl", CLAUDE), ("i.json", INSPECT), ("s.jsonl", [SPANS, SPANS])):
        with pytest.raises(LogError, match=rf"{name}.* has more than .*limit|{name}.*the most that is read at once"):
            read(write(tmp_path / name, value))


def test_an_archive_of_a_version_that_is_unknown_is_named(tmp_path) -> None:
    case = next(one for one in CASES if one.name == "inspect" and one.file.endswith(".eval"))
    data = bytearray(case.pack(case.value))
    place = data.index(b"PK\x01\x02")
    data[place + 6] = 123  # the version that is needed to extract the member
    path = tmp_path / "log.eval"
    path.write_bytes(bytes(data))
    with pytest.raises(LogError, match=r"log\.eval: broken zip file: zip file version 12\.3"):
        read(path)


# ---- layouts of messages that real files have -----------------------------------------------------------------------


def anthropic_record(**more: Any) -> dict[str, Any]:
    call = {"type": "tool_use", "id": "x", "name": "transfer_to_human_agents", "input": {"a": 1}}
    parts = [{"type": "thinking", "thinking": "hm", "text": "hm"}, {"type": "text", "text": "I hand over"}, call]
    result = {"type": "tool_result", "tool_use_id": "x", "content": [{"type": "text", "text": "a person is here"}]}
    return {
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "help"}, {"type": "image", "source": {}}]},
            {"role": "assistant", "content": parts},
            {"role": "user", "content": [result]},
            {"role": "assistant", "content": "done"},
        ],
        **more,
    }


def test_calls_in_parts_of_the_content_are_actions_and_help(tmp_path) -> None:
    (episode,) = read(write(tmp_path / "a.jsonl", [anthropic_record()]))
    assert [(s.state, s.action, s.intervention) for s in episode.steps] == [
        ("help\n[image]", 'I hand over\ntransfer_to_human_agents({"a":1})', "person"),
        ("transfer_to_human_agents returned: a person is here", "done", None),
    ]
    twice = anthropic_record()
    twice["messages"][1]["content"].append(twice["messages"][1]["content"][-1])
    assert read(write(tmp_path / "b.jsonl", [twice]))[0].steps[0].action.count("transfer_to_human_agents") == 2
    for junk in (None, 3, []):
        bad = put(anthropic_record(), ("messages", 1, "content", 2, "name"), junk)
        with pytest.raises(LogError, match="a part of type 'tool_use' has no name or no input"):
            read(write(tmp_path / "c.jsonl", [bad]))
        odd = put(anthropic_record(), ("messages", 2, "content", 0, "tool_use_id"), junk)
        assert read(write(tmp_path / "d.jsonl", [odd]))[0].steps[1].state == "tool returned: a person is here"


def test_ids_of_calls_may_be_numbers_or_missing(tmp_path) -> None:
    calls = [{"id": None, "function": {"name": "f", "arguments": None}}, {"id": 3, "function": {"name": "g"}}]
    answer = {"role": "tool", "tool_call_id": 3, "content": None}
    messages = [MESSAGES[1], {"role": "assistant", "content": "", "tool_calls": calls}, answer, MESSAGES[-1]]
    (episode,) = read(write(tmp_path / "a.json", {"id": None, "messages": messages}))
    assert [(step.state, step.action) for step in episode.steps] == [
        ("2 + 2 = ?", "f() g()"),
        ("g returned: ", "it is 4"),
    ]


def test_a_first_conversation_without_messages_hides_no_others(tmp_path) -> None:
    path = write(tmp_path / "a.jsonl", [{"messages": []}, {"messages": MESSAGES, "reward": 1}])
    with pytest.raises(LogError, match=r"a\.jsonl:1: field 'messages': expected at least one message"):
        read(path)
    skipped: list[LogError] = []
    assert [episode.outcome for episode in read(path, skipped=skipped)] == [1.0]
    assert len(skipped) == 1


def test_sessions_of_claude_code_in_one_file_are_episodes_each(tmp_path) -> None:
    other = [dict(record, sessionId="other") for record in CLAUDE]
    found = read(write(tmp_path / "c.jsonl", [*CLAUDE, *other]))
    assert [len(one.steps) for one in found] == [2, 2]
    assert found[1].episode == "other"
    resumed = [dict(record, parentUuid="u") for record in other]
    assert [len(one.steps) for one in read(write(tmp_path / "d.jsonl", [*CLAUDE, *resumed]))] == [4]


@pytest.mark.parametrize(
    "text", ["The user doesn't want to proceed with this tool use.", "[Request interrupted by user"]
)
def test_a_rejection_in_newer_sessions_of_claude_code_is_help(tmp_path, text) -> None:
    result = CLAUDE[4]["message"]["content"][0] | {"content": text, "is_error": True}
    rejected = put(CLAUDE, (4, "message", "content", 0), result)
    assert help_of(read(write(tmp_path / "c.jsonl", rejected))[0]) == ["person", None]
    returned = put(CLAUDE, (4, "message", "content", 0), result | {"is_error": False})
    assert help_of(read(write(tmp_path / "d.jsonl", returned))[0]) == [None, None]


@pytest.mark.parametrize(
    ("data", "what"),
    [("{}".encode("utf-16"), "UTF-16"), (gzip.compress(b"{}", mtime=0), "compressed by gzip")],
    ids=["UTF-16", "gzip"],
)
def test_other_codings_are_named(tmp_path, data, what) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(data)
    with pytest.raises(LogError, match=f"log.jsonl: expected text in UTF-8; it is {what}"):
        read(path)


# ---- OpenHands before its SDK ---------------------------------------------------------------------------------------


def test_calls_of_one_response_of_openhands_v0_are_a_step(tmp_path) -> None:
    second = OPENHANDS_V0[3] | {"args": {"b": 3}}
    more = [*OPENHANDS_V0[:5], second, OPENHANDS_V0[4] | {"content": "5"}, *OPENHANDS_V0[5:]]
    (episode,) = read(write(tmp_path / "t.json", more))
    assert [(step.state, step.action) for step in episode.steps] == [
        ("2 + 2 = ?", 'let me add\nadd({"a":2}) add({"b":3})'),
        ("add returned: 4\nadd returned: 5", "it is 4"),
    ]


def test_a_rejection_in_openhands_v0_is_help(tmp_path) -> None:
    rejected = {"source": "user", "observation": "user_rejected", "content": "no", "extras": {}}
    (episode,) = read(write(tmp_path / "t.json", [*OPENHANDS_V0[:4], rejected, *OPENHANDS_V0[5:]]))
    assert help_of(episode) == ["person", None]
    assert episode.steps[1].state == "The user rejected the action: no"


def test_evaluations_of_openhands_v0_have_outcomes_and_may_hold_pairs(tmp_path) -> None:
    pairs = [[OPENHANDS_V0[1]], [OPENHANDS_V0[3], OPENHANDS_V0[4]], [OPENHANDS_V0[5]]]
    records = [OPENHANDS_OUTPUT[0], put(OPENHANDS_OUTPUT[0], ("history",), pairs) | {"instance_id": "i2"}]
    records.append(OPENHANDS_OUTPUT[0] | {"instance_id": "i3", "test_result": {}, "resolved": False})
    found = read(write(tmp_path / "output.jsonl", records))
    assert [(one.task, one.outcome, one.fields["model"]) for one in found] == [
        ("i1", 1.0, "weak"),
        ("i2", 1.0, "weak"),
        ("i3", 0.0, "weak"),
    ]
    assert found[0].steps == found[1].steps


@pytest.mark.parametrize("field", ["query", "messages"])
def test_the_issue_of_swe_agent_may_be_in_its_first_record(tmp_path, field) -> None:
    query = [{"role": "system", "content": "s"}, {"role": "user", "content": [{"type": "text", "text": "the issue"}]}]
    record = {"action": "ls", "observation": "files", "thought": "look", field: query}
    document = {"trajectory": [record, {"action": "submit", "observation": ""}], "history": [], "info": {}}
    (episode,) = read(write(tmp_path / "i1.traj", document))
    assert [(step.state, step.action) for step in episode.steps] == [("the issue", "look\nls"), ("files", "submit")]


def test_a_table_of_names_only_is_no_empty_log(tmp_path) -> None:
    for name, text in (("a.csv", "query_id,question,model,score\n"), ("b.csv", "task,step,question,score\n")):
        (tmp_path / name).write_text(text)
        with pytest.raises(LogError, match=f"{name}: the table has no rows"):
            read(tmp_path / name)


# ---- real logs of tau2-bench, and archives --------------------------------------------------------------------------


def test_results_of_tools_may_say_that_they_are_no_error(tmp_path) -> None:
    flagged = copy.deepcopy(TAU2)
    messages = flagged["simulations"][0]["messages"]
    messages[1]["error"], messages[3]["error"] = True, False
    (episode,) = read(write(tmp_path / "a.json", flagged))
    (plain,) = read(write(tmp_path / "b" / "a.json", TAU2))
    assert episode == plain


def test_faults_in_archives_are_named_by_archive_and_member(tmp_path) -> None:
    path = tmp_path / "logs.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("run 1/a.jsonl", json.dumps(OPENAI[0]) + "\n" + json.dumps({"messages": 5}))
        archive.writestr("notes.md", "words")
    with pytest.raises(LogError, match=r"^logs\.zip/run 1/a\.jsonl:2: field 'messages'"):
        read(path, format="openai_messages")
    assert detect_format(path, "openai_messages").left_out == ["logs.zip/notes.md (not a log by its name)"]


def test_events_of_openhands_a_file_each(tmp_path) -> None:
    for name in ("conv1", "conv2"):
        for i, event in enumerate(OPENHANDS):
            write(tmp_path / name / "events" / f"event-{i:05}-x.json", event)
        write(tmp_path / name / "base_state.json", {"id": name})
    found = read(tmp_path)
    assert [episode.episode for episode in found] == ["conv1", "conv2"]
    assert found[0].steps == read(write(tmp_path / "other.jsonl", OPENHANDS))[0].steps


def test_a_new_event_changes_the_identity_of_a_folder_of_events(tmp_path) -> None:
    for i, event in enumerate(OPENHANDS[:-1]):
        write(tmp_path / "c" / "events" / f"event-{i:05}-x.json", event)
    before = [identify(file) for file in detect_format(tmp_path).files]
    assert [identify(file) for file in detect_format(tmp_path).files] == before
    write(tmp_path / "c" / "events" / "event-99999-x.json", OPENHANDS[-1])
    assert [identify(file) for file in detect_format(tmp_path).files] != before


@pytest.mark.parametrize(
    "request_",
    [
        {"model": "m", "input": [{"role": "user", "content": "2 + 2?"}]},
        {"model": "m", "input": "2 + 2?"},
        {"body": {"model": "m", "input": [{"role": "user", "content": "2 + 2?"}]}},
    ],
)
def test_a_call_of_the_responses_api_with_its_request(tmp_path, request_) -> None:
    output = [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "4"}]}]
    (episode,) = read(write(tmp_path / "calls.jsonl", [{"request": request_, "response": {"output": output}}]))
    assert [(step.state, step.action) for step in episode.steps] == [("2 + 2?", "4")]


def test_conversations_in_an_object_with_an_outcome_lose_nothing(tmp_path) -> None:
    talk = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "yes?"}]
    path = tmp_path / "one.json"
    path.write_text(json.dumps({"task_id": "t", "success": True, "conversations": [talk]}, indent=1))
    with pytest.raises(LogError, match=r"one\.json"):
        read(path, format="openai_messages")
    path.write_text(json.dumps({"task_id": "t", "success": True, "conversations": talk}, indent=1))
    (episode,) = read(path, format="openai_messages")
    assert (episode.task, episode.outcome) == ("t", 1.0)


def test_evaluations_of_openhands_may_hold_events_of_the_sdk(tmp_path) -> None:
    (episode,) = read(write(tmp_path / "output.jsonl", [OPENHANDS_OUTPUT[0] | {"history": OPENHANDS}]))
    assert (episode.task, episode.outcome) == ("i1", 1.0)
    assert episode.steps == read(write(tmp_path / "events.jsonl", OPENHANDS))[0].steps


def test_spans_with_messages_in_events_and_of_older_instrumentation(tmp_path) -> None:
    def attributes(values: dict[str, str]) -> list[dict[str, Any]]:
        return [{"key": name, "value": {"stringValue": value}} for name, value in values.items()]

    events = [
        {"name": "gen_ai.user.message", "attributes": attributes({"content": "2 + 2 = ?"})},
        {"name": "gen_ai.choice", "attributes": attributes({"message": json.dumps({"content": "it is 4"})})},
    ]
    call = {"traceId": "t1", "name": "chat", "startTimeUnixNano": 1}
    older = {"llm.request.type": "chat", "gen_ai.prompt.0.role": "user", "gen_ai.prompt.0.content": "2 + 2 = ?",
             "gen_ai.completion.0.role": "assistant", "gen_ai.completion.0.content": "it is 4"}  # fmt: skip
    for span in (
        call | {"attributes": attributes({"gen_ai.operation.name": "chat"}), "events": events},
        call | {"attributes": attributes(older)},
    ):
        (episode,) = read(write(tmp_path / "s.json", {"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}))
        assert [(step.state, step.action) for step in episode.steps] == [("2 + 2 = ?", "it is 4")]


def test_messages_in_a_column_of_parquet(tmp_path) -> None:
    rows = [
        {"task_id": "t", "reward": 1.0, "messages": MESSAGES},
        {"task_id": "u", "reward": 0.0, "messages": MESSAGES},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "m.parquet")
    found = read(tmp_path / "m.parquet")
    assert [(one.task, one.outcome) for one in found] == [("t", 1.0), ("u", 0.0)]
    assert found[0].steps == read(write(tmp_path / "m.jsonl", rows))[0].steps


def test_names_of_speakers_may_mark_help(tmp_path) -> None:
    messages = [MESSAGES[1], MESSAGES[2], {"role": "assistant", "name": "expert", "content": "it is 4"}]
    log = write(tmp_path / "m.jsonl", [OPENAI[0] | {"messages": messages}])
    assert help_of(read(log, options=ReadOptions(marks=HelpMarks(roles={"expert": "person"})))[0]) == [None, "person"]
