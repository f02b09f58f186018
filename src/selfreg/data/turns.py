"""What logs of conversations have in common: messages, and steps made of what the agent saw and what it then did."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

from selfreg._util.extras import require_extra
from selfreg.data.faults import LogError
from selfreg.data.log_format import ReadOptions
from selfreg.data.trajectory import LoggedStep, Scalar, Trajectory
from selfreg.data.translation import parse_rule

with require_extra("logs", "selfreg.data"):
    import msgspec

CONTEXT_ROLES = ("system", "developer")
AGENT_ROLES = ("assistant", "ai", "AIMessage")
# Those who answer in the place of the agent; which of them is help, the marks say.
STAFF_ROLES = ("human_agent", "operator", "expert", "supervisor", "representative", "support_agent", "staff")
TOOL_ROLES = ("tool", "function", "ToolMessage")
LONGEST_TASK = 100
PERSON = "person"
# Parts of the content of a message that are a call, and the result of one, as Anthropic lays them out.
CALL_PARTS = ("tool_use", "server_tool_use", "mcp_tool_use", "tool-call")  # the last one of the AI SDK, as below
RESULT_PARTS = ("tool_result", "mcp_tool_result", "tool-result")
RESULT_FIELDS = ("content", "result", "output")
HIDDEN_PARTS = ("reasoning", "thinking", "redacted_thinking")

_parse_rule = cache(parse_rule)

Content = str | list[str | dict[str, Any]] | dict[str, Any] | None


class Function(msgspec.Struct):
    """A function that is called; arguments are an object, or its JSON text."""

    name: str = ""
    arguments: str | dict[str, Any] | list[Any] | None = None


class Custom(msgspec.Struct):
    """A call of a tool whose input is a text."""

    name: str = ""
    input: str | None = None


class Call(msgspec.Struct):
    """A call of a tool, in the several layouts that are in use."""

    id: str | int | None = None
    function: Function | str | None = None
    name: str | None = None
    arguments: str | dict[str, Any] | list[Any] | None = None
    args: dict[str, Any] | str | None = None
    custom: Custom | None = None

    def resolve(self) -> Function:
        if self.custom is not None:
            return Function(self.custom.name, self.custom.input)
        if isinstance(self.function, Function):
            return self.function
        name = self.name or self.function or ""
        return Function(name, self.args if self.arguments is None else self.arguments)


class Message(msgspec.Struct):
    """A message of a conversation."""

    role: str
    content: Content = None
    name: str | None = None
    model: str | None = None
    tool_calls: list[Call] | None = None
    function_call: Function | None = None
    tool_call_id: str | int | None = None
    requestor: str | None = None
    function: str | None = None
    error: dict[str, Any] | str | bool | None = None  # what went wrong, or only that something did
    refusal: Any = None
    audio: Any = None  # with a transcript of what was said
    text: Any = None  # for `content`, as the next one, in logs of some programs
    message: Any = None

    @property
    def said(self) -> str:
        """The text of a message of the agent, which may have refused, or spoken."""
        if isinstance(self.content, str) and self.content:
            return self.content
        transcript = self.audio.get("transcript") if isinstance(self.audio, dict) else None
        texts = (read_content(self.content, without=CALL_PARTS), self.refusal, transcript, self.text, self.message)
        return next((text for text in texts if isinstance(text, str) and text), "")

    @property
    def calls(self) -> list[Function]:
        single = [] if self.function_call is None else [self.function_call]
        parts = [call for _, call in self.calls_in_parts]
        return [*single, *parts, *(call.resolve() for call in self.tool_calls or ())]

    @property
    def calls_in_parts(self) -> list[tuple[str | int | None, Function]]:
        """Calls among the parts of its content, with their ids."""
        found: list[tuple[str | int | None, Function]] = []
        for part in self.parts:
            if part.get("type") in CALL_PARTS:
                name, arguments = part.get("name", part.get("toolName")), part.get("input", part.get("args"))
                if not isinstance(name, str) or not isinstance(arguments, (str, dict, list, type(None))):
                    raise LogError(
                        f"field 'content': a part of type {part['type']!r} has no name or no input of a tool"
                    )
                found.append((_read_id(part.get("id", part.get("toolCallId"))), Function(name, arguments)))
        return found

    @property
    def has_results(self) -> bool:
        """Whether results of tools are among the parts of its content."""
        return isinstance(self.content, list) and any(part.get("type") in RESULT_PARTS for part in self.parts)

    @property
    def parts(self) -> list[dict[str, Any]]:
        content = self.content if isinstance(self.content, list) else []
        return [part for part in content if isinstance(part, dict)]


class Turns:
    """Steps of an episode: each action with all that the agent saw since the action before it."""

    def __init__(self) -> None:
        self.steps: list[LoggedStep] = []
        self.first_seen: str | None = None
        self._seen: list[str] = []

    @property
    def unanswered(self) -> str:
        """What the agent saw after its last action."""
        return "\n".join(self._seen)

    def see(self, text: str, *, by_user: bool = False) -> None:
        if by_user and self.first_seen is None:
            self.first_seen = text
        if text:
            self._seen.append(text)

    def act(
        self,
        text: str,
        calls: Iterable[Function] = (),
        *,
        model: str | None = None,
        role: str | None = None,
        intervention: str | None = None,
    ) -> None:
        made = list(calls)
        tools = tuple(call.name for call in made)
        action = "\n".join(part for part in (text, " ".join(map(format_call, made))) if part)
        state = "\n".join(self._seen)
        step = LoggedStep(state, action, intervention=intervention, model=model, tools=tools, role=role)
        self.steps.append(step)
        self._seen = []

    def reject_last(self) -> None:
        """Say that a person rejected the action of the last step, or changed it: that is help by a person."""
        if self.steps:
            self.steps[-1] = msgspec.structs.replace(self.steps[-1], intervention=PERSON, decision="rejected")

    def add_messages(
        self, messages: Sequence[Message], first: int = 0, role: str | None = None, intervention: str | None = None
    ) -> None:
        """Add a conversation from `first` on: the agent's messages are actions; those of the system are left out."""
        names = _name_calls(messages)
        for message in messages[first:]:
            text = message.said
            if message.role in AGENT_ROLES:
                who = role or message.name
                self.act(text, message.calls, model=message.model, role=who, intervention=intervention)
            elif message.role in STAFF_ROLES:
                self.act(text, message.calls, model=message.model, role=message.role, intervention=intervention)
            elif message.role in TOOL_ROLES and not message.has_results:
                name = message.name or message.function or names.get(message.tool_call_id) or "tool"
                fault = "" if isinstance(message.error, bool) else read_content(message.error)
                self.see(f"{name} returned: {text or fault}")
            elif message.role not in CONTEXT_ROLES:
                self._see_message(message, names)

    def _see_message(self, message: Message, names: dict[Any, str]) -> None:
        """What the user says, and results of tools among it."""
        for part in message.parts:
            if part.get("type") in RESULT_PARTS:
                returned = read_content(part if any(part.get(field) for field in RESULT_FIELDS) else None)
                name = part.get("toolName") or names.get(_read_id(part.get("tool_use_id")))
                self.see(f"{name or 'tool'} returned: {returned}")
        text = read_content(message.content, without=RESULT_PARTS) if message.content is not None else message.said
        self.see(text, by_user=message.role not in TOOL_ROLES)


def _name_calls(messages: Sequence[Message]) -> dict[Any, str]:
    """Names of the tools that are called, by the ids of the calls."""
    names: dict[Any, str] = {}
    for one in messages:
        names |= {call.id: call.resolve().name for call in one.tool_calls or () if call.id is not None}
        names |= {name: call.name for name, call in one.calls_in_parts if name is not None}
    return names


def _read_id(value: Any) -> str | int | None:
    """The id of a call in a part, which no type has checked."""
    return value if isinstance(value, (str, int)) else None


def read_content(content: Content, *, without: Sequence[str] = ()) -> str:
    """Text of a message, without parts of some types; parts that are no text are named."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, dict):
        return _part_text(content)
    kept = (part for part in content if isinstance(part, str) or part.get("type") not in without)
    return "\n".join(text for part in kept if (text := part if isinstance(part, str) else _part_text(part)))


def _part_text(part: dict[str, Any]) -> str:
    kind = part.get("type")
    if kind in HIDDEN_PARTS:
        return ""
    if kind == "blob" or part.get("kind") == "binary":  # of OpenTelemetry and pydantic-ai: what follows is base64
        return "[blob]"
    for field in ("text", "content", "value", "result", "output", "response", "message", "refusal", "logs"):
        value = part.get(field)
        if isinstance(value, str):
            return value
        if isinstance(value, (list, dict)) and field != "value":
            return read_content(value if isinstance(value, dict) else [p for p in value if isinstance(p, (str, dict))])
    return f"[{kind}]" if isinstance(kind, str) else msgspec.json.encode(part).decode()


def format_call(call: Function) -> str:
    arguments = call.arguments
    if arguments is None:
        return f"{call.name}()"
    return f"{call.name}({arguments if isinstance(arguments, str) else _as_json(arguments)})"


def _as_json(value: Any) -> str:
    """JSON of what is JSON, as of every log; of a running agent, anything may come."""
    try:
        return msgspec.json.encode(value).decode()
    except (TypeError, ValueError, RecursionError):  # no JSON, or half of a character
        return json.dumps(value, default=str, ensure_ascii=False, separators=(",", ":"), skipkeys=True)


def name_task(text: str | None, default: str) -> str:
    """A task by its first message: as it is, or shortened, with a hash of all of it."""
    if not text:
        return default
    if len(text) <= LONGEST_TASK:
        return text
    return f"{text[:LONGEST_TASK]}... {hashlib.sha256(text.encode()).hexdigest()[:12]}"


def make_episode(
    turns: Turns,
    task: str | None,
    episode: str,
    outcome: float | None,
    fields: dict[str, Any],
    *,
    where: str = "messages",
) -> Trajectory:
    """A trajectory; without an outcome it ends before the outcome, which another file may hold."""
    if not turns.steps:
        raise LogError(f"field {where!r}: expected at least one message or action of the agent")
    scalars: dict[str, Scalar] = {
        name: value for name, value in fields.items() if value is None or isinstance(value, (str, int, float, bool))
    }
    return Trajectory(
        task=task if task is not None else name_task(turns.first_seen, episode),
        episode=episode,
        outcome=outcome,
        steps=tuple(turns.steps),
        truncated=outcome is None,
        fields=scalars,
    )


def read_success(value: Any, field: str, options: ReadOptions) -> float | None:
    """A success in [0, 1], a boolean, or None where there is none; translated by the user's rule for the outcome."""
    if (text := options.values.get("outcome")) is not None:
        try:
            value = _parse_rule(text).translate(value)
        except LogError as error:
            raise error.at(f"field {field!r}") from None
    if value is None:
        return None
    if isinstance(value, (bool, int, float)) and 0 <= value <= 1:
        return float(value)
    shown = value if isinstance(value, (bool, int, float)) else type(value).__name__
    raise LogError(f"field {field!r}: expected a number in [0, 1] or a boolean; got {shown}")
