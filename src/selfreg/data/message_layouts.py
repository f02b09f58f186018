"""Messages as tracing libraries lay them out, as `Message`: LangChain's, OpenTelemetry's and OpenInference's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from selfreg._util.extras import require_extra
from selfreg.data.documents import convert_value
from selfreg.data.faults import LogError
from selfreg.data.turns import Message

with require_extra("logs", "selfreg.data"):
    import msgspec

_ROLES = {
    "human": "user",
    "HumanMessage": "user",
    "ai": "assistant",
    "AIMessage": "assistant",
    "AIMessageChunk": "assistant",
    "system": "system",
    "SystemMessage": "system",
    "tool": "tool",
    "ToolMessage": "tool",
    "FunctionMessage": "tool",
    "model": "assistant",
}


def read_messages(raw: Any, role: str = "user") -> list[Message]:
    """Messages in any of the layouts: a text, a message, a list, or a list of lists of which the first is taken."""
    if raw is None:
        return []
    if isinstance(raw, str):
        return [Message(role, raw)]
    if isinstance(raw, dict):
        return [_read_message(raw, role)]
    if not isinstance(raw, list):
        raise LogError(f"expected messages; got {type(raw).__name__}")
    if raw and isinstance(raw[0], list):
        return read_messages(raw[0], role)
    return [message for one in raw for message in read_messages(one, role)]


def _read_message(raw: dict[str, Any], role: str) -> Message:
    if "kwargs" in raw and isinstance(raw.get("id"), list) and raw["id"]:  # LangChain, serialised
        return _named(dict(raw["kwargs"]) if isinstance(raw["kwargs"], dict) else {}, raw["id"][-1])
    if "data" in raw and isinstance(raw["data"], dict) and "type" in raw:
        return _named(dict(raw["data"]), raw["type"])
    if "parts" in raw and isinstance(raw["parts"], list):
        return _from_parts(raw, role)
    return _named(dict(raw), raw.get("role") or raw.get("type") or role)


def _named(raw: dict[str, Any], role: Any) -> Message:
    raw["role"] = _ROLES.get(role, role) if isinstance(role, str) else role
    if not isinstance(raw.get("name"), str):
        raw.pop("name", None)
    known = {name: value for name, value in raw.items() if name in Message.__struct_fields__}
    message: Message = convert_value(known, Message)
    return message


def _from_parts(raw: dict[str, Any], role: str) -> Message:
    """A message of OpenTelemetry's conventions for generative AI."""
    texts, calls, answers = [], [], []
    for part in raw["parts"]:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "tool_call":
            calls.append({name: part.get(name) for name in ("id", "name", "arguments")})
        elif kind == "tool_call_response":
            answers.append(part)
        else:
            texts.append(part)
    message = {"role": raw.get("role", role), "content": texts or None, "tool_calls": calls or None}
    if answers:
        message |= {"role": "tool", "tool_call_id": answers[0].get("id"), "content": [*texts, *answers]}
    converted: Message = convert_value(message, Message)
    return converted


def read_answer(outputs: Mapping[str, Any]) -> Message:
    """What a model answered; an empty message if the run has no output."""
    if "choices" in outputs:
        raw: Any = _first(outputs["choices"])
        raw = raw.get("message") if isinstance(raw, dict) else None
    elif "generations" in outputs:
        raw = _first(_first(outputs["generations"]))
        raw = raw.get("message") or raw.get("text") if isinstance(raw, dict) else None
    elif isinstance(outputs.get("output"), dict) and not {"role", "content", "kwargs"} & outputs["output"].keys():
        return read_answer(outputs["output"])
    elif "messages" in outputs or "output" in outputs:
        messages = read_messages(outputs.get("messages", outputs.get("output")), "assistant")
        return messages[-1] if messages else Message("assistant")
    else:
        raw = outputs if "content" in outputs else outputs.get("text", dict(outputs) or None)
        if isinstance(raw, dict) and "content" not in raw:  # of no layout that is known: as it is
            raw = msgspec.json.encode(raw).decode()
    messages = read_messages(raw, "assistant")
    return messages[0] if messages else Message("assistant")


def _first(values: Any) -> Any:
    """The first of a list; what is no list as it is."""
    return next(iter(values), None) if isinstance(values, list) else values
