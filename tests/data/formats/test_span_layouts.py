"""Spans as their other writers and stores lay them out: Jaeger, Tempo, Logfire, tables of Phoenix."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from selfreg.data import LogError, Trajectory, detect_format, read_trajectories


def read(path: Path, value: Any) -> Trajectory:
    path.write_text(json.dumps(value))
    assert detect_format(path).format.name == "spans"
    (episode,) = read_trajectories(path)
    return episode


def steps_of(episode: Trajectory) -> list[tuple[str, str | None]]:
    return [(step.state, step.action) for step in episode.steps]


def messages(role: str, text: str) -> str:
    return json.dumps([{"role": role, "parts": [{"type": "text", "content": text}]}])


CALL: dict[str, Any] = {
    "gen_ai.operation.name": "chat",
    "gen_ai.request.model": "weak",
    "gen_ai.input.messages": messages("user", "2 + 2 = ?"),
    "gen_ai.output.messages": messages("assistant", "4"),
    "gen_ai.evaluation.score.value": 1,
}


def tags(attributes: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"key": name, "type": "string", "value": value} for name, value in attributes.items()]


def jaeger(start: int, attributes: dict[str, Any], *logs: dict[str, Any]) -> dict[str, Any]:
    fields = [{"timestamp": start, "fields": tags(log)} for log in logs]
    about = {"traceID": "t1", "spanID": str(start), "operationName": "chat", "startTime": start, "references": []}
    return {**about, "tags": tags(attributes), "logs": fields, "processID": "p1"}


def test_traces_that_jaeger_exports(tmp_path) -> None:
    asked = {"event": "gen_ai.user.message", "content": "and 3 + 3?"}
    answered = {"event": "gen_ai.choice", "message": json.dumps({"role": "assistant", "content": "6"})}
    spans = [
        jaeger(2, {"llm.request.type": "chat"}, asked, answered),
        jaeger(1, CALL),
        jaeger(0, {"http.method": "GET"}),
    ]
    document = {"data": [{"traceID": "t1", "spans": spans, "processes": {}}], "total": 0, "errors": None}
    episode = read(tmp_path / "log.json", document)
    assert steps_of(episode) == [("2 + 2 = ?", "4"), ("and 3 + 3?", "6")]
    assert (episode.episode, episode.outcome, episode.fields["model"]) == ("t1", 1.0, "weak")


@pytest.mark.parametrize(("part", "bad"), [("tags", 3), ("tags", [3]), ("logs", [{"fields": {}}]), ("traceID", 3)])
def test_a_broken_span_of_jaeger_is_named(tmp_path, part, bad) -> None:
    spans = [jaeger(1, CALL), {**jaeger(2, CALL), part: bad}]
    with pytest.raises(LogError, match=r"log\.json: .*(expected|span 2)"):
        read(tmp_path / "log.json", {"data": [{"traceID": "t1", "spans": spans}]})


def test_traces_of_jaeger_without_calls_of_models_are_no_logs(tmp_path) -> None:
    path = tmp_path / "log.json"
    path.write_text(json.dumps({"data": [{"traceID": "t1", "spans": [jaeger(1, {"http.method": "GET"})]}]}))
    with pytest.raises(LogError, match="of no known format"):
        detect_format(path)


def otlp(attributes: dict[str, Any]) -> list[dict[str, Any]]:
    listed = [{"key": name, "value": {"stringValue": str(value)}} for name, value in attributes.items()]
    span = {"traceId": "t1", "startTimeUnixNano": "1", "name": "chat", "attributes": listed}
    return [{"scopeSpans": [{"spans": [span]}]}]


def test_traces_that_tempo_answers(tmp_path) -> None:
    calls = {name: value for name, value in CALL.items() if "evaluation" not in name}
    for document in ({"batches": otlp(calls)}, {"trace": {"resourceSpans": otlp(calls)}}):
        assert steps_of(read(tmp_path / "log.json", document)) == [("2 + 2 = ?", "4")]


def test_messages_in_an_attribute_of_events(tmp_path) -> None:
    events = [
        {"event.name": "gen_ai.system.message", "role": "system", "content": "be brief"},
        {"event.name": "gen_ai.user.message", "role": "user", "content": "2 + 2 = ?"},
        {"event.name": "gen_ai.choice", "index": 0, "message": {"role": "assistant", "content": "4"}},
    ]
    call = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "weak", "events": json.dumps(events)}
    assert steps_of(read(tmp_path / "log.json", {"resourceSpans": otlp(call)})) == [("2 + 2 = ?", "4")]


def test_a_parquet_table_of_spans(tmp_path) -> None:
    def row(start: int, kind: str, given: Any, answered: Any) -> dict[str, Any]:
        ids = {"context.trace_id": "t1", "context.span_id": str(start), "start_time": datetime(2026, 1, start)}
        lists = {"attributes.llm.input_messages": given, "attributes.llm.output_messages": answered}
        return {**ids, "span_kind": kind, "name": "chat", "attributes.llm.model_name": "weak", **lists}

    def message(role: str, text: str) -> dict[str, Any]:
        return {"message.role": role, "message.content": text}

    first, answer = message("user", "2 + 2 = ?"), message("assistant", "4")
    rows = [
        row(3, "LLM", [first, answer, message("user", "sure?")], [message("assistant", "yes")]),
        row(2, "LLM", [first], [answer]),
        row(1, "CHAIN", None, None),
    ]
    path = tmp_path / "spans.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    assert detect_format(path).format.name == "spans"
    (episode,) = read_trajectories(path)
    assert (steps_of(episode), episode.episode) == ([("2 + 2 = ?", "4"), ("sure?", "yes")], "t1")


def test_a_call_that_failed_is_no_step(tmp_path) -> None:
    calls = {name: value for name, value in CALL.items() if "evaluation" not in name}
    asked = {name: value for name, value in calls.items() if "output" not in name}
    failed: list[dict[str, Any]] = [
        otlp({**asked, "error.type": "timeout"})[0],
        {**otlp(asked)[0]},
    ]
    span = failed[1]["scopeSpans"][0]["spans"][0]
    span["status"] = {"code": 2, "message": "timeout"}
    episode = read(tmp_path / "log.json", {"resourceSpans": [*failed, *otlp(calls)]})
    assert steps_of(episode) == [("2 + 2 = ?", "4")]
    with pytest.raises(LogError, match="trace 't1' has no call of a model that answered"):
        read(tmp_path / "log.json", {"resourceSpans": failed})


def test_spans_of_otlp_without_what_is_around_them(tmp_path) -> None:
    calls = {name: value for name, value in CALL.items() if "evaluation" not in name}
    assert steps_of(read(tmp_path / "log.json", otlp(calls)[0]["scopeSpans"][0]["spans"])) == [("2 + 2 = ?", "4")]


def test_calls_of_models_of_the_ai_sdk(tmp_path) -> None:
    def call(messages: list[Any], **response: str) -> dict[str, Any]:
        answered = {f"ai.response.{name}": value for name, value in response.items()}
        asked = {"ai.prompt.messages": json.dumps(messages), "gen_ai.request.model": "weak"}
        return {"ai.operationId": "ai.generateText.doGenerate", **asked, **answered}

    question = {"role": "user", "content": [{"type": "text", "text": "2 + 2 = ?"}]}
    add = {"toolCallId": "c", "toolName": "add", "args": {"a": 2}}
    made = {"role": "assistant", "content": [{**add, "type": "tool-call"}]}
    result = {"role": "tool", "content": [{"type": "tool-result", "toolCallId": "c", "toolName": "add", "result": "4"}]}
    first = call([question], toolCalls=json.dumps([add]))
    last = call([question, made, result], text="it is 4")
    outer = {"ai.operationId": "ai.generateText", "ai.prompt": "{}", "ai.response.text": "it is 4"}
    spans = [otlp(one)[0] for one in (outer, first, last)]
    assert steps_of(read(tmp_path / "log.json", {"resourceSpans": spans})) == [
        ("2 + 2 = ?", 'add({"a":2})'),
        ("add returned: 4", "it is 4"),
    ]
