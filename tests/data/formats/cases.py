"""A small hand-made log of every format, and where in it a text, a number and a field that is needed are."""

from __future__ import annotations

import copy
import csv
import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Path = tuple[str | int, ...]

USER = {"role": "user", "content": "2 + 2 = ?"}
CALL = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 2}'}}
MESSAGES = [
    {"role": "system", "content": "be brief"},
    USER,
    {"role": "assistant", "content": "let me add", "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "c1", "content": "4"},
    {"role": "assistant", "content": "it is 4"},
]
# What every conversation below is: the states and actions of its steps.
STATES = ("2 + 2 = ?", "add returned: 4")
ACTIONS = ('let me add\nadd({"a": 2})', "it is 4")


@dataclass(frozen=True)
class Case:
    """A log of a format.

    `value` is its JSON value: of the document, or of the lines. `text`, `number` and `needed` are paths in it to a text
    that the agent sees, a number, and a field that must be there.
    """

    name: str
    file: str
    value: Any
    text: Path
    number: Path
    needed: Path
    pack: Callable[[Any], bytes]
    outcome: float | None = 1.0
    states: tuple[str, ...] = STATES
    actions: tuple[str, ...] = ACTIONS
    model: str | None = "weak"


def pack_document(value: Any) -> bytes:
    return json.dumps(value, indent=1).encode()


def pack_lines(value: Any) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in value)


def pack_eval(value: Any, sample_bytes: bytes | None = None) -> bytes:
    """The members of an .eval file; the only sample may be given as bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("header.json", json.dumps({"version": 2, "eval": value["eval"]}))
        samples = value["samples"] if isinstance(value["samples"], list) else [value["samples"]]
        for number, sample in enumerate(samples):
            archive.writestr(f"samples/{number}_epoch_1.json", sample_bytes or json.dumps(sample))
    return buffer.getvalue()


def pack_table(value: Any) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text)
    rows = [row if isinstance(row, dict) else {"unexpected": row} for row in value]
    writer.writerow(max((list(row) for row in rows), key=len))
    for row in rows:
        try:
            writer.writerow(list(row.values()))
        except csv.Error:  # Python 3.10 cannot write the character 0
            writer.writerow([str(one).replace("\0", "\1") for one in row.values()])
    return text.getvalue().encode("utf-8", "surrogatepass")


def put(value: Any, path: Path, new: Any) -> Any:
    """A copy with another value at a path."""
    changed = copy.deepcopy(value)
    inner = changed
    for part in path[:-1]:
        inner = inner[part]
    inner[path[-1]] = new
    return changed


def drop(value: Any, path: Path) -> Any:
    """A copy without the field at a path."""
    changed = copy.deepcopy(value)
    inner = changed
    for part in path[:-1]:
        inner = inner[part]
    del inner[path[-1]]
    return changed


def _claude(kind: str, content: Any, number: int, **more: Any) -> dict[str, Any]:
    message = {
        "role": kind,
        "content": content,
        **({"id": f"m{number}", "model": "weak", "usage": {"output_tokens": 3}} if kind == "assistant" else {}),
    }
    return {"type": kind, "sessionId": "s1", "uuid": f"u{number}", "isSidechain": False, "message": message, **more}


CLAUDE = [
    {"type": "summary", "summary": "sums"},
    _claude("user", "2 + 2 = ?", 1),
    _claude("assistant", [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "let me add"}], 2),
    _claude("assistant", [{"type": "tool_use", "id": "c1", "name": "add", "input": {"a": 2}}], 2),
    _claude("user", [{"type": "tool_result", "tool_use_id": "c1", "content": [{"type": "text", "text": "4"}]}], 3),
    _claude("assistant", [{"type": "text", "text": "it is 4"}], 4),
]
COMPACT = ('let me add\nadd({"a":2})', "it is 4")

CODEX = [
    {"timestamp": "t", "type": "session_meta", "payload": {"id": "s1", "cli_version": "1"}},
    {"timestamp": "t", "type": "turn_context", "payload": {"model": "weak"}},
    *(
        {"timestamp": "t", "type": "response_item", "payload": payload}
        for payload in (
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "<environment_context>x"}]},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "2 + 2 = ?"}]},
            {"type": "reasoning", "summary": []},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "let me add"}]},
            {"type": "function_call", "name": "add", "arguments": '{"a": 2}', "call_id": "c1"},
            {"type": "function_call_output", "call_id": "c1", "output": "4"},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "it is 4"}]},
        )
    ),
    {"timestamp": "t", "type": "event_msg", "payload": {"type": "token_count", "total": 3}},
]

_V0_RESPONSE = {"function_name": "add", "tool_call_id": "c1", "model_response": {"id": "r1", "model": "weak"}}
OPENHANDS_V0 = [
    {"id": 0, "source": "agent", "message": "", "action": "system", "args": {"content": "be brief", "tools": []}},
    {"id": 1, "source": "user", "message": "", "action": "message", "args": {"content": "2 + 2 = ?"}},
    {"id": 2, "source": "environment", "cause": 1, "observation": "recall", "content": "x", "extras": {}},
    {
        "id": 3,
        "source": "agent",
        "action": "add",
        "args": {"a": 2, "thought": "let me add", "hidden": False},
        "tool_call_metadata": _V0_RESPONSE,
        "llm_metrics": {"accumulated_cost": 0.5},
    },
    {
        "id": 4,
        "source": "agent",
        "cause": 3,
        "observation": "add",
        "content": "4",
        "extras": {},
        "tool_call_metadata": _V0_RESPONSE,
    },
    {"id": 5, "source": "agent", "action": "message", "args": {"content": "it is 4", "wait_for_response": True}},
    {"id": 6, "source": "environment", "observation": "agent_state_changed", "content": "", "extras": {}},
]
OPENHANDS_OUTPUT = [
    {
        "instance_id": "i1",
        "metadata": {"llm_config": {"model": "weak"}},
        "metrics": {"accumulated_cost": 0.5},
        "history": OPENHANDS_V0,
        "test_result": {"git_patch": "", "report": {"resolved": True}},
    }
]

OPENHANDS = [
    {
        "kind": "ConversationStateUpdateEvent",
        "source": "environment",
        "key": "stats",
        "value": {"usage_to_metrics": {"default": {"model_name": "weak", "accumulated_cost": 0.5}}},
    },
    {
        "kind": "MessageEvent",
        "source": "user",
        "llm_message": {"role": "user", "content": [{"type": "text", "text": "2 + 2 = ?"}]},
    },
    {
        "kind": "ActionEvent",
        "source": "agent",
        "thought": [{"type": "text", "text": "let me add"}],
        "tool_name": "add",
        "tool_call": {"name": "add", "arguments": '{"a": 2}'},
        "llm_response_id": "r1",
    },
    {
        "kind": "ObservationEvent",
        "source": "environment",
        "tool_name": "add",
        "observation": {"content": [{"type": "text", "text": "4"}]},
    },
    {
        "kind": "MessageEvent",
        "source": "agent",
        "llm_message": {"role": "assistant", "content": [{"type": "text", "text": "it is 4"}]},
    },
]

ATIF = {
    "schema_version": "ATIF-v1.6",
    "session_id": "s1",
    "agent": {"name": "a", "version": "1", "model_name": "weak"},
    "steps": [
        {"step_id": 1, "source": "system", "message": "be brief"},
        {"step_id": 2, "source": "user", "message": "2 + 2 = ?"},
        {
            "step_id": 3,
            "source": "agent",
            "message": "let me add",
            "tool_calls": [{"tool_call_id": "c1", "function_name": "add", "arguments": {"a": 2}}],
            "observation": {"results": [{"source_call_id": "c1", "content": "4"}]},
            "metrics": {"cost_usd": 0.5},
        },
        {"step_id": 4, "source": "agent", "message": "it is 4"},
    ],
}

SWE_AGENT = {
    "environment": "main",
    "trajectory": [
        {"thought": "let me add", "action": "add", "observation": "4", "response": "r", "state": "{}"},
        {"thought": "it is 4", "action": "submit", "observation": "done", "response": "r", "state": "{}"},
    ],
    "history": [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "a demonstration", "is_demo": True},
        {"role": "assistant", "content": "shown", "is_demo": True},
        {"role": "user", "content": "2 + 2 = ?"},
        {"role": "assistant", "content": "let me add"},
    ],
    "info": {"exit_status": "submitted", "model_stats": {"instance_cost": 0.5, "api_calls": 2}},
    "replay_config": {"agent": {"model": {"name": "weak"}}},
}

MINI_SWE_AGENT = {
    "trajectory_format": "mini-swe-agent-1.1",
    "info": {
        "exit_status": "Submitted",
        "mini_version": "2",
        "model_stats": {"instance_cost": 0.5},
        "config": {"model": {"model_name": "weak"}},
    },
    "messages": [
        {"role": "system", "content": "be brief"},
        USER,
        {"role": "assistant", "content": "let me add", "extra": {"actions": [{"command": "ls"}], "cost": 0.1}},
        {"role": "user", "content": "4"},
        {"role": "assistant", "content": "it is 4"},
        {"role": "exit", "content": "done", "extra": {"exit_status": "Submitted"}},
    ],
}

TAU = [{"task_id": 3, "trial": 1, "reward": 1.0, "traj": MESSAGES, "info": {}}]

TAU2 = {
    "timestamp": "t",
    "info": {"agent_info": {"llm": "weak"}, "environment_info": {"domain_name": "airline"}},
    "tasks": [{"id": "3"}],
    "simulations": [
        {
            "id": "x",
            "task_id": "3",
            "trial": 1,
            "termination_reason": "user_stop",
            "reward_info": {"reward": 1.0},
            "messages": [
                USER,
                {"role": "tool", "requestor": "user", "content": "the user's own"},
                {
                    "role": "assistant",
                    "content": "let me add",
                    "tool_calls": [{"id": "c1", "name": "add", "arguments": {"a": 2}, "requestor": "assistant"}],
                },
                {"role": "tool", "id": "c1", "name": "add", "requestor": "assistant", "content": "4"},
                {"role": "assistant", "content": "it is 4"},
            ],
        }
    ],
}

_ANSWERS = [
    {
        "id": "a1",
        "role": "assistant",
        "content": "let me add",
        "tool_calls": [{"id": "c1", "function": "add", "arguments": {"a": 2}, "type": "function"}],
    },
    {"id": "a2", "role": "assistant", "content": "it is 4"},
]
_TOOL = {"id": "t1", "role": "tool", "content": "4", "tool_call_id": "c1", "function": "add"}
INSPECT = {
    "version": 2,
    "eval": {"task": "sums", "model": "weak", "dataset": {"name": "d"}, "eval_id": "v1", "run_id": "r1"},
    "samples": [
        {
            "id": "q1",
            "epoch": 1,
            "scores": {"match": {"value": "C"}},
            "total_time": 0.5,
            "messages": [MESSAGES[0], USER, _ANSWERS[0], _TOOL, _ANSWERS[1]],
            "events": [
                {
                    "event": "model",
                    "model": "weak",
                    "input": MESSAGES[:2],
                    "output": {"choices": [{"message": _ANSWERS[0]}]},
                },
                {
                    "event": "model",
                    "model": "weak",
                    "input": [MESSAGES[0], USER, _ANSWERS[0], _TOOL],
                    "output": {"choices": [{"message": _ANSWERS[1]}]},
                },
                {"event": "span_begin", "id": "s1", "type": "scorers", "name": "scorers"},
                {
                    "event": "model",
                    "span_id": "s1",
                    "model": "grader",
                    "input": [USER],
                    "output": {"choices": [{"message": _ANSWERS[1]}]},
                },
            ],
        }
    ],
}


def _run(number: int, given: list[Any], answer: Any) -> dict[str, Any]:
    return {
        "id": f"run{number}",
        "trace_id": "t1",
        "parent_run_id": "root",
        "dotted_order": f"t1.{number}",
        "run_type": "llm",
        "inputs": {"messages": given},
        "outputs": {"choices": [{"message": answer}]},
        "extra": {"metadata": {"ls_model_name": "weak"}},
    }


LANGSMITH = [
    {
        "id": "root",
        "trace_id": "t1",
        "dotted_order": "t1",
        "run_type": "chain",
        "name": "agent",
        "feedback_stats": {"good": {"n": 1, "avg": 1.0}},
    },
    _run(2, MESSAGES[:4], MESSAGES[4]),
    _run(1, MESSAGES[:2], MESSAGES[2]),
]


def _attributes(**named: Any) -> list[dict[str, Any]]:
    kinds = {str: "stringValue", float: "doubleValue", int: "intValue"}
    return [{"key": key.replace("__", "."), "value": {kinds[type(value)]: value}} for key, value in named.items()]


def _parts(message: dict[str, Any]) -> dict[str, Any]:
    parts: list[dict[str, Any]] = []
    if message["role"] == "tool":
        parts.append({"type": "tool_call_response", "id": "c1", "response": message["content"]})
    else:
        parts.append({"type": "text", "content": message["content"]})
    for call in message.get("tool_calls", ()):
        parts.append({"type": "tool_call", "id": call["id"], **call["function"]})
    return {"role": message["role"], "parts": parts}


def _span(number: int, given: list[Any], answer: Any) -> dict[str, Any]:
    attributes = _attributes(
        gen_ai__operation__name="chat",
        gen_ai__request__model="weak",
        gen_ai__input__messages=json.dumps([_parts(message) for message in given]),
        gen_ai__output__messages=json.dumps([_parts(answer)]),
        gen_ai__evaluation__score__value=1.0,
    )
    return {
        "traceId": "t1",
        "spanId": f"s{number}",
        "name": "chat",
        "startTimeUnixNano": str(number),
        "attributes": attributes,
    }


SPANS = {
    "resourceSpans": [
        {"scopeSpans": [{"spans": [_span(20, MESSAGES[:4], MESSAGES[4]), _span(3, MESSAGES[:2], MESSAGES[2])]}]}
    ]
}
_INPUT = ("resourceSpans", 0, "scopeSpans", 0, "spans", 1)

OPENAI = [{"task_id": "t", "run_id": "r1", "reward": 1.0, "model": "weak", "messages": MESSAGES}]

ROWS = [{"thread_id": "r1", "reward": 1.0, "model": "weak", **message} for message in MESSAGES]

TABLE = [
    {"query_id": "q1", "question": "2 + 2 = ?", "model": "weak", "answer": "it is 4", "score": 1.0},
]
STEPS = [
    {
        "task_id": "t",
        "episode_id": "e",
        "step": 2,
        "observation": "4",
        "action": "it is 4",
        "outcome": 1,
        "model": "weak",
    },
    {
        "task_id": "t",
        "episode_id": "e",
        "step": 1,
        "observation": "2 + 2 = ?",
        "action": "let me add",
        "outcome": 1,
        "model": "weak",
    },
]

_SIMULATION: Path = ("simulations", 0)
_SAMPLE: Path = ("samples", 0)
CASES = [
    Case(
        "atif",
        "trajectory.json",
        ATIF,
        ("steps", 1, "message"),
        ("steps", 2, "metrics", "cost_usd"),
        ("steps", 2, "source"),
        pack_document,
        None,
        ("2 + 2 = ?", "4"),
        COMPACT,
    ),
    Case(
        "claude_code",
        "session.jsonl",
        CLAUDE,
        (1, "message", "content"),
        (2, "message", "usage", "output_tokens"),
        (3, "message", "content", 0, "type"),
        pack_lines,
        None,
        actions=COMPACT,
    ),
    Case(
        "codex",
        "rollout-1.jsonl",
        CODEX,
        (3, "payload", "content", 0, "text"),
        (-1, "payload", "total"),
        (3, "payload", "type"),
        pack_lines,
        None,
    ),
    Case(
        "openhands",
        "events.jsonl",
        OPENHANDS,
        (1, "llm_message", "content", 0, "text"),
        (0, "value", "usage_to_metrics", "default", "accumulated_cost"),
        (2, "kind"),
        pack_lines,
        None,
    ),
    Case(
        "openhands_v0",
        "trajectory.json",
        OPENHANDS_V0,
        (1, "args", "content"),
        (3, "llm_metrics", "accumulated_cost"),
        (3, "action"),
        pack_document,
        None,
        actions=COMPACT,
    ),
    Case(
        "openhands_v0",
        "output.jsonl",
        OPENHANDS_OUTPUT,
        (0, "history", 1, "args", "content"),
        (0, "metrics", "accumulated_cost"),
        (0, "history"),
        pack_lines,
        actions=COMPACT,
    ),
    Case(
        "swe_agent",
        "i1.traj",
        SWE_AGENT,
        ("history", 3, "content"),
        ("info", "model_stats", "instance_cost"),
        ("trajectory", 0, "action"),
        pack_document,
        None,
        ("2 + 2 = ?", "4"),
        ("let me add\nadd", "it is 4\nsubmit"),
    ),
    Case(
        "mini_swe_agent",
        "i1.traj.json",
        MINI_SWE_AGENT,
        ("messages", 1, "content"),
        ("info", "model_stats", "instance_cost"),
        ("messages",),
        pack_document,
        None,
        ("2 + 2 = ?", "4"),
        ("let me add\nbash(ls)", "it is 4"),
    ),
    Case(
        "tau_bench", "run.json", TAU, (0, "traj", 1, "content"), (0, "reward"), (0, "traj"), pack_document, model=None
    ),
    Case(
        "tau2_bench",
        "results.json",
        TAU2,
        (*_SIMULATION, "messages", 0, "content"),
        (*_SIMULATION, "reward_info", "reward"),
        (*_SIMULATION, "task_id"),
        pack_document,
        actions=COMPACT,
    ),
    Case(
        "inspect",
        "log.json",
        INSPECT,
        (*_SAMPLE, "events", 0, "input", 1, "content"),
        (*_SAMPLE, "total_time"),
        (*_SAMPLE, "id"),
        pack_document,
        actions=COMPACT,
    ),
    Case(
        "inspect",
        "log.eval",
        INSPECT,
        (*_SAMPLE, "events", 0, "input", 1, "content"),
        (*_SAMPLE, "total_time"),
        (*_SAMPLE, "id"),
        pack_eval,
        actions=COMPACT,
    ),
    Case(
        "langsmith",
        "runs.jsonl",
        LANGSMITH,
        (2, "inputs", "messages", 1, "content"),
        (0, "feedback_stats", "good", "avg"),
        (1, "id"),
        pack_lines,
    ),
    Case(
        "langsmith",
        "runs.json",
        LANGSMITH,
        (2, "inputs", "messages", 1, "content"),
        (0, "feedback_stats", "good", "avg"),
        (1, "id"),
        pack_document,
    ),
    Case(
        "spans",
        "otlp.json",
        SPANS,
        (*_INPUT, "attributes", 2, "value", "stringValue"),
        (*_INPUT, "attributes", 4, "value", "doubleValue"),
        (*_INPUT, "attributes", 2, "key"),
        pack_document,
    ),
    Case(
        "openai_messages",
        "log.jsonl",
        OPENAI,
        (0, "messages", 1, "content"),
        (0, "reward"),
        (0, "messages", 2, "role"),
        pack_lines,
    ),
    Case(
        "openai_messages",
        "log.json",
        OPENAI,
        (0, "messages", 1, "content"),
        (0, "reward"),
        (0, "messages", 2, "role"),
        pack_document,
    ),
    Case(
        "message_rows",
        "messages.jsonl",
        ROWS,
        (1, "content"),
        (0, "reward"),
        (2, "role"),
        pack_lines,
    ),
    Case(
        "table",
        "queries.csv",
        TABLE,
        (0, "question"),
        (0, "score"),
        (0, "score"),
        pack_table,
        states=("2 + 2 = ?",),
        actions=("it is 4",),
    ),
    Case(
        "table",
        "steps.csv",
        STEPS,
        (1, "observation"),
        (0, "outcome"),
        (0, "task_id"),
        pack_table,
        states=("2 + 2 = ?", "4"),
        actions=("let me add", "it is 4"),
    ),
]
