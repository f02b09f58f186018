"""Messages as tracing libraries lay them out, as `Message`: LangChain's, OpenTelemetry's and OpenInference's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from selfreg._util.extras import require_extra
from selfreg.data.documents import convert_value
from selfreg.data.faults import LogError
from selfreg.data.turns import AGENT_ROLES, Message

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


# Where items of the Responses API have the arguments of a call.
ARGUMENTS = ("arguments", "input", "action", "code", "queries")


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
    kind = raw.get("type")
    if "role" not in raw and isinstance(kind, str) and kind.endswith(("_call", "_call_output")):
        return _read_item(raw, kind)
    if "kwargs" in raw and isinstance(raw.get("id"), list) and raw["id"]:  # LangChain, serialised
        return _named(dict(raw["kwargs"]) if isinstance(raw["kwargs"], dict) else {}, raw["id"][-1])
    if "data" in raw and isinstance(raw["data"], dict) and "type" in raw:
        return _named(dict(raw["data"]), raw["type"])
    if "parts" in raw and isinstance(raw["parts"], list):
        return _from_parts(raw, role)
    return _named(dict(raw), raw.get("role") or raw.get("type") or role)


def _read_item(raw: dict[str, Any], kind: str) -> Message:
    """A call, or what it returned, as an item of the Responses API."""
    if kind.endswith("_output"):
        raw = {"role": "tool", "content": raw.get("output"), "tool_call_id": raw.get("call_id")}
    else:
        arguments = next((raw[name] for name in ARGUMENTS if raw.get(name) is not None), None)
        name = raw.get("name") or kind.removesuffix("_call")
        raw = {"role": "assistant", "tool_calls": [{"id": raw.get("call_id"), "name": name, "arguments": arguments}]}
    message: Message = convert_value(raw, Message)
    return message


def _named(raw: dict[str, Any], role: Any) -> Message:
    raw["role"] = _ROLES.get(role, role) if isinstance(role, str) else role
    if not isinstance(raw.get("name"), str):
        raw.pop("name", None)
    known = {name: value for name, value in raw.items() if name in Message.__struct_fields__}
    message: Message = convert_value(known, Message)
    return message


def _from_parts(raw: dict[str, Any], role: str) -> Message:
    """A message of OpenTelemetry's conventions for generative AI, or of Gemini, whose parts have no type."""
    texts, calls, answers = [], [], []
    for part in raw["parts"]:
        kind = part.get("type") if isinstance(part, dict) else None
        call, answer = (_of_gemini(part, name) for name in ("Call", "Response"))
        if kind == "tool_call":
            calls.append({name: part.get(name) for name in ("id", "name", "arguments")})
        elif call is not None:
            calls.append(call)
        elif kind == "tool_call_response" or answer is not None:
            answers.append(part if answer is None else answer)
        elif not (isinstance(part, dict) and part.get("thought") is True):
            texts.append(part)
    who = raw.get("role", role)
    who = _ROLES.get(who, who) if isinstance(who, str) else who
    message = {"role": who, "content": texts or None, "tool_calls": calls or None}
    if answers:
        message |= {"role": "tool", "tool_call_id": answers[0].get("id"), "content": [*texts, *answers]}
        message |= {"name": answers[0].get("name")}
    converted: Message = convert_value(message, Message)
    return converted


def _of_gemini(part: Any, what: str) -> dict[str, Any] | None:
    """The call of a function, or its response, that a part of Gemini is."""
    found = (
        [part.get(name) for name in (f"function{what}", f"function_{what.lower()}")] if isinstance(part, dict) else []
    )
    return next((one for one in found if isinstance(one, dict)), None)


def read_answer(outputs: Mapping[str, Any]) -> Message:
    """What a model answered; an empty message if the run has no output."""
    if "choices" in outputs:
        raw: Any = _first(outputs["choices"])
        raw = raw.get("message") if isinstance(raw, dict) else None
    elif "generations" in outputs:
        raw = _first(_first(outputs["generations"]))
        raw = raw.get("message") or raw.get("text") if isinstance(raw, dict) else None
    elif "candidates" in outputs:  # of Gemini
        raw = _first(outputs["candidates"])
        raw = raw.get("content") if isinstance(raw, dict) else None
    elif isinstance(outputs.get("output"), dict) and not {"role", "content", "kwargs"} & outputs["output"].keys():
        return read_answer(outputs["output"])
    elif "messages" in outputs or "output" in outputs:
        messages = read_messages(outputs.get("messages", outputs.get("output")), "assistant")
        return _join_answers(messages)
    else:
        raw = outputs if "content" in outputs else outputs.get("text", dict(outputs) or None)
        if isinstance(raw, dict) and "content" not in raw:  # of no layout that is known: as it is
            raw = msgspec.json.encode(raw).decode()
    messages = read_messages(raw, "assistant")
    return messages[0] if messages else Message("assistant")


def _join_answers(messages: list[Message]) -> Message:
    """The last message; with those of the agent just before it, as items of one response are laid out."""
    last = next((i for i in range(len(messages), 0, -1) if messages[i - 1].role not in AGENT_ROLES), 0)
    answers = messages[last:]
    if len(answers) <= 1:
        return messages[-1] if messages else Message("assistant")
    text = "\n".join(part for one in answers if (part := one.said))
    return Message("assistant", text, tool_calls=[call for one in answers for call in one.tool_calls or ()])


def _first(values: Any) -> Any:
    """The first of a list; what is no list as it is."""
    return next(iter(values), None) if isinstance(values, list) else values
