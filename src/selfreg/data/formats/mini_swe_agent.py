"""Trajectories of mini-swe-agent (.traj.json): one JSON document an episode. They have no outcome."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from selfreg._util.extras import require_extra
from selfreg.data.documents import convert_value, each_file, read_document
from selfreg.data.faults import LogError
from selfreg.data.formats.conversations import read_response_items
from selfreg.data.log_files import plain_name
from selfreg.data.log_format import LogFormat, ReadOptions
from selfreg.data.samples import Sample
from selfreg.data.trajectory import Trajectory
from selfreg.data.turns import PERSON, Function, Message, Turns, make_episode, read_content

with require_extra("logs", "selfreg.data"):
    import msgspec


# What the user's rejection of an action begins with, in versions that have no other mark of it.
REJECTIONS = ("Command not executed. ", "Commands not executed. ")


class _Action(msgspec.Struct):
    command: str | None = None


class _Extra(msgspec.Struct):
    actions: list[_Action] | None = None
    interrupt_type: str | None = None


class _Turn(Message):
    role: str = "exit"
    extra: _Extra | None = None


class _Stats(msgspec.Struct, frozen=True):
    instance_cost: float | None = None
    api_calls: int | None = None


class _Info(msgspec.Struct, frozen=True):
    exit_status: str | None = None
    mini_version: str | None = None
    model_stats: _Stats = _Stats()
    config: dict[str, Any] | None = None


class _Document(msgspec.Struct):
    messages: list[_Turn]
    info: _Info = _Info()
    instance_id: str | None = None


def _read(path: str, options: ReadOptions) -> Iterator[Trajectory]:
    raw: Any = read_document(path)
    if isinstance(raw, list):  # the first version wrote the messages alone
        raw = {"messages": raw}
    messages = raw.get("messages") if isinstance(raw, dict) else None
    items = _take_items(messages) if isinstance(messages, list) and any(map(_is_response, messages)) else None
    document: _Document = convert_value(raw if items is None else {**raw, "messages": []}, _Document)
    config = (document.info.config or {}).get("model")
    name = config.get("model_name") if isinstance(config, dict) else None
    model = name if isinstance(name, str) else None
    turns = Turns() if items is None else read_response_items(items, model=model)
    for message in document.messages:
        actions = (message.extra.actions if message.extra else None) or []
        if message.role == "user" and actions:  # the user took the step
            turns.act(read_content(message.content), intervention=PERSON)
        elif message.role == "assistant":
            calls = message.calls or [Function("bash", action.command) for action in actions if action.command]
            text = read_content(message.content)
            calls = [call for call in calls if not (isinstance(call.arguments, str) and call.arguments in text)]
            turns.act(text, calls, model=message.model or model)
        elif message.role not in ("system", "exit"):
            text = read_content(message.content)
            if _is_rejection(message, text):
                turns.reject_last()
            turns.see(text, by_user=message.role == "user")
    stats = document.info.model_stats
    fields = {"exit_status": document.info.exit_status, "instance_cost": stats.instance_cost, "model": model}
    name = plain_name(options.source)
    task = document.instance_id or os.path.basename(name)
    if not turns.steps:
        raise LogError("field 'messages': expected at least one message of the assistant")
    yield make_episode(turns, task, name, None, fields)


def _is_rejection(message: _Turn, text: str) -> bool:
    """Whether the user did not let the last action be taken."""
    kind = message.extra.interrupt_type if message.extra else None
    return message.role == "user" and (kind == "UserRejection" or (kind is None and text.startswith(REJECTIONS)))


def _is_response(message: Any) -> bool:
    """Whether a message is a response of the Responses API."""
    return isinstance(message, dict) and message.get("object") == "response"


def _take_items(messages: list[Any]) -> list[Any]:
    """Items of the Responses API: those of a response, and the others as they are."""
    outputs = [message.get("output") if _is_response(message) else [message] for message in messages]
    return [item for output in outputs for item in (output if isinstance(output, list) else [output])]


def _detect(sample: Sample) -> str | None:
    for record in sample.objects()[:1]:
        if sample.kind == "document" and str(record.get("trajectory_format", "")).startswith("mini-swe-agent"):
            return f"its trajectory_format is {record['trajectory_format']}"
        info = record.get("info")
        if isinstance(info, dict) and "mini_version" in info and "messages" in record:
            return "its info has a mini_version"
        name = os.path.basename(sample.path)
        if sample.kind == "document" and ".traj.json" in name and (record.get("role") or "messages" in record):
            return "it has messages, in a file named .traj.json"
    return None


FORMAT = LogFormat(
    "mini_swe_agent", "trajectories of mini-swe-agent; no outcomes in them", read_file=each_file(_read), detect=_detect
)
