"""Conversations as they are stored: messages under the usual names, requests with their responses, ShareGPT."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from selfreg._util.extras import require_extra
from selfreg.data.documents import convert_value, decode_json
from selfreg.data.faults import LogError
from selfreg.data.formats.codex import ResponseItems
from selfreg.data.message_layouts import read_answer, read_messages
from selfreg.data.turns import Message, Turns

with require_extra("logs", "selfreg.data"):
    import msgspec

MESSAGES = ("messages", "conversation", "conversations", "traj", "dialogue", "dialog", "chat", "transcript", "turns",
            "contents", "trajectory", "history")  # fmt: skip
_TEXT = re.compile(r'\s*\[\s*\{\s*"(role|content|from)"\s*:')
# Fields of a message, of which it has one at least.
BODIES = frozenset(("content", "text", "message", "tool_calls", "function_call", "refusal", "audio"))
# Where a request and its response are (also as libraries of training have them), and the body of an HTTP message.
REQUESTS, RESPONSES = (
    ("request", "input", "inputs", "messages", "prompt"),
    ("response", "output", "outputs", "completion"),
)
BODY = "body"
# Who speaks, in the layout of ShareGPT.
SPEAKERS = {
    "human": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "observation": "tool",
    "function_response": "tool",
    "function_call": "assistant",
}


def find_messages(record: Mapping[str, Any]) -> str | None:
    """The field of a record that is a list of messages, or its JSON text, by its name and its first message."""
    return next((name for name in MESSAGES if are_messages(record.get(name)) or _is_text(record.get(name))), None)


def _is_text(value: Any) -> bool:
    """Whether a value begins as the JSON text of a list of messages."""
    return isinstance(value, str) and _TEXT.match(value) is not None


def are_messages(value: Any) -> bool:
    """Whether a value is a list of messages with roles, or with speakers."""
    first = value[0] if isinstance(value, list) and value else None
    if not isinstance(first, dict):
        return False
    return isinstance(first.get("role"), str) or {"from", "value"} <= first.keys()


def is_exchange(record: Mapping[str, Any]) -> bool:
    """Whether a record is a request of messages and the response to it."""
    given, answered = find_exchange(record)
    if given is None or answered is None:
        return False
    first = answered[0] if isinstance(answered, list) and answered else answered
    return are_messages(given) and isinstance(first, dict)


def find_exchange(record: Mapping[str, Any]) -> tuple[Any, Any]:
    """The messages of the request, and the response of a record, without the envelope of HTTP; None without one."""

    def find(names: Sequence[str]) -> Any:
        value = next((record[name] for name in names if record.get(name) is not None), None)
        return value[BODY] if isinstance(value, dict) and isinstance(value.get(BODY), dict) else value

    given = find(REQUESTS)
    if isinstance(given, dict):
        given = next((given[name] for name in ("messages", "input", "contents") if given.get(name) is not None), given)
    if isinstance(given, str):  # the short form of one message of the user
        given = [{"role": "user", "content": given}]
    return given, find(RESPONSES)


def read_conversation(messages: Any) -> Turns:
    """Steps of messages: of OpenAI and Anthropic, of ShareGPT, LangChain and Gemini; a text is their JSON."""
    if isinstance(messages, str) and messages.lstrip().startswith("["):
        messages = decode_json(messages.encode("utf-8", "surrogatepass"))
    if has_response_items(messages):
        return read_response_items(messages)
    turns = Turns()
    if are_messages(messages) and "role" not in messages[0]:
        messages = [_read_speaker(i, one) for i, one in enumerate(messages)]
    elif isinstance(messages, list) and messages and isinstance(messages[0], dict) and _is_other(messages[0]):
        turns.add_messages(read_messages(messages))
        return turns
    for i, one in enumerate(messages if isinstance(messages, list) else ()):
        if isinstance(one, dict) and BODIES.isdisjoint(one):
            raise LogError(f"field '[{i}]': expected a message with 'content'; it has {', '.join(map(str, one))}")
    turns.add_messages(convert_value(messages, list[Message]))
    return turns


def _is_other(message: dict[str, Any]) -> bool:
    """Whether a message is of LangChain, Gemini or OpenTelemetry."""
    return "role" not in message or ("content" not in message and isinstance(message.get("parts"), list))


def has_response_items(messages: Any) -> bool:
    """Whether there are calls, or what they returned, in a list of messages: so the Responses API lays them out."""
    some = messages if isinstance(messages, list) else ()
    kinds = (one.get("type") for one in some if isinstance(one, dict) and "role" not in one)
    return any(isinstance(kind, str) and kind.endswith(("_call", "_call_output")) for kind in kinds)


def read_response_items(given: Sequence[Any], answered: Sequence[Any] = (), model: str | None = None) -> Turns:
    """Steps of items of the Responses API: what a model was given, and what it answered."""
    items = ResponseItems()
    items.model = model
    for place, one in enumerate(given):
        if not isinstance(one, dict):
            raise LogError(f"field '[{place}]': expected an object; got {type(one).__name__}")
    items.add_items([*given, *(one for one in answered if isinstance(one, dict))])
    items.finish()
    return items.turns


def _read_speaker(index: int, raw: Any) -> dict[str, Any]:
    if not isinstance(raw, dict) or not isinstance(raw.get("from"), str):
        raise LogError(f"field '[{index}]': expected an object with 'from' and 'value'")
    return {"role": SPEAKERS.get(raw["from"], raw["from"]), "content": raw.get("value"), "model": raw.get("model")}


def read_exchange(record: Mapping[str, Any]) -> Turns:
    """Steps of a request of messages and its response, of the Chat Completions or the Responses API."""
    given, answered = find_exchange(record)
    asked: dict[str, Any] = next((record[name] for name in REQUESTS if isinstance(record.get(name), dict)), {})
    named = [
        one.get("model", one.get("modelVersion"))
        for one in (answered, asked.get(BODY, asked), record)
        if isinstance(one, dict)
    ]
    model = next((name for name in named if isinstance(name, str)), None)
    output = answered.get("output", answered) if isinstance(answered, dict) else answered
    if isinstance(output, list) and any(isinstance(one, dict) and "type" in one for one in output):
        return read_response_items(given, output, model)
    turns = read_conversation(given)
    if isinstance(answered, dict) and are_messages(answered.get("messages")):
        answers = convert_value(answered["messages"], list[Message])
    elif are_messages(answered):
        answers = convert_value(answered, list[Message])
    elif isinstance(answered, list):
        answers = read_messages(answered, "assistant")
    else:
        answers = [read_answer(answered)]
    turns.add_messages([_named(one, model) for one in answers])
    return turns


def _named(message: Message, model: str | None) -> Message:
    return message if message.model else msgspec.structs.replace(message, model=model)
