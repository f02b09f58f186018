"""Sessions of Codex (rollout-*.jsonl): a file a session, of records with a type and a payload. They have no outcome.

Also read: sessions of its first versions, and what `codex exec --json` prints.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from selfreg._util.extras import require_extra
from selfreg.data.documents import convert_value, drop_repeated, each_file, read_placed_values
from selfreg.data.faults import LogError
from selfreg.data.log_files import plain_name
from selfreg.data.log_format import LogFormat, ReadOptions
from selfreg.data.samples import Sample
from selfreg.data.trajectory import Trajectory
from selfreg.data.turns import Content, Function, Turns, make_episode, read_content

with require_extra("logs", "selfreg.data"):
    import msgspec

TYPES = ("session_meta", "turn_context", "response_item", "event_msg", "compacted")
# Texts that Codex itself puts before the user's.
CONTEXT = ("<environment_context>", "<user_instructions>", "<permissions", "# AGENTS.md instructions")
# What a call returns that the user refused.
REJECTIONS = ("exec command rejected by user", "patch rejected by user")
# Items that are calls of a tool whose result is in them, with the fields of its arguments and of its result.
WITH_RESULT = {
    "mcp_call": (("arguments",), ("output", "error")),
    "code_interpreter_call": (("code",), ("outputs",)),
    "file_search_call": (("queries",), ("results",)),
    "command_execution": (("command",), ("aggregated_output",)),
    "file_change": (("changes",), ("status",)),
    "mcp_tool_call": (("arguments",), ("result", "error")),
    "web_search": (("query",), ()),
}


class _Item(msgspec.Struct):
    """An item of the conversation with the model."""

    type: str
    role: str | None = None
    content: Content = None
    name: str | None = None
    arguments: str | dict[str, Any] | list[Any] | None = None
    input: str | None = None
    action: dict[str, Any] | None = None
    call_id: str | None = None
    output: Content = None
    tools: Content = None  # what a search for tools returns


class _Meta(msgspec.Struct, frozen=True):
    id: str | None = None
    model: str | None = None
    cli_version: str | None = None
    message: str | None = None


class _Record(msgspec.Struct):
    type: str | None = None
    payload: Any = None
    thread_id: str | None = None
    item: dict[str, Any] | None = None


class _Event(msgspec.Struct):
    """What was shown of a message of the user or the model."""

    type: str
    message: str | None = None


class _First(msgspec.Struct):
    """A session of the first version, which was one document."""

    session: dict[str, Any]
    items: list[dict[str, Any]]


class ResponseItems:
    """Steps of items of OpenAI's Responses API: what the model answers between two observations is one action."""

    def __init__(self) -> None:
        self.turns = Turns()
        self.meta = _Meta()
        self.model: str | None = None
        self.names: dict[str, str] = {}
        self._texts: list[str] = []
        self._calls: list[Function] = []

    def add(self, kind: str | None, payload: Any) -> None:
        if kind == "session_meta" and self.meta == _Meta():  # what follows is of the session that it goes on with
            self.meta = convert_value(payload, _Meta)
        elif kind == "turn_context":
            context: _Meta = convert_value(payload, _Meta)
            self.model = context.model or self.model
        elif kind == "compacted":
            summary: _Meta = convert_value(payload, _Meta)
            self.see(summary.message or "")
        elif kind == "response_item":
            self.add_raw(payload)

    def add_items(self, items: Sequence[dict[str, Any]]) -> None:
        """Add the input of a model; a message may lack its type."""
        for item in items:
            self.add_raw({"type": "message", **item})

    def add_raw(self, raw: Any) -> None:
        """Add an item; with what it returned, where the item has that itself."""
        kind = raw.get("type") if isinstance(raw, dict) else None
        parts = WITH_RESULT.get(kind) if isinstance(kind, str) else None
        if parts is None:
            self.add_item(convert_value(raw, _Item))
            return
        given, returned = ({name: raw[name] for name in names if raw.get(name) is not None} for names in parts)
        name = raw.get("name") or raw.get("tool") or raw["type"].removesuffix("_call")
        arguments: Any = given.get("arguments", given)
        self._calls.append(convert_value({"name": name, "arguments": arguments}, Function))
        for value in returned.values():
            self.see(f"{name} returned: {read_content(convert_value(value, Content))}")

    def add_item(self, item: _Item) -> None:
        if item.type == "message":
            text = read_content(item.content)
            if item.role == "assistant":
                self._texts.append(text)
            elif item.role == "user" and not text.startswith(CONTEXT):
                self.see(text, by_user=True)
        elif item.type.endswith("_call"):
            name = item.name or item.type.removesuffix("_call")
            self._calls.append(
                Function(name, item.arguments if item.arguments is not None else item.input or item.action)
            )
            if item.call_id:
                self.names[item.call_id] = name
        elif item.type.endswith("_output"):
            self.finish()
            text = read_content(item.output if item.output is not None else item.tools)
            if text.startswith(REJECTIONS):
                self.turns.reject_last()
            self.see(f"{self.names.get(item.call_id or '') or 'tool'} returned: {text}")

    def see(self, text: str, by_user: bool = False) -> None:
        self.finish()
        self.turns.see(text, by_user=by_user)

    def finish(self) -> None:
        """Make a step of what the model has said and called so far."""
        if self._texts or self._calls:
            self.turns.act("\n".join(self._texts), self._calls, model=self.model)
        self._texts, self._calls = [], []


def _read(path: str, options: ReadOptions) -> Iterator[Trajectory]:
    session = ResponseItems()
    records = [(place, _read_record(place, raw), raw) for place, raw in _list_records(path)]
    shown = _find_shown(records)
    for place, record, raw in records:
        try:
            if record.type is None and isinstance(raw, dict) and "instructions" in raw:
                session.add("session_meta", raw)
            elif record.type == "thread.started":
                session.add("session_meta", {"id": record.thread_id})
            elif record.type == "item.completed":  # of `codex exec --json`
                _add_printed(session, record.item or {})
            elif record.type == "event_msg":
                _add_shown(session, record.payload, shown)
            else:
                # The first versions wrote the items of the conversation themselves.
                bare = isinstance(raw, dict) and "payload" not in raw and record.type is not None
                session.add("response_item" if bare else record.type, raw if bare else record.payload)
        except LogError as error:
            raise error.at(place) from None
    session.finish()
    name = session.meta.id or plain_name(options.source)
    fields = {"agent": "codex", "version": session.meta.cli_version, "model": session.model}
    yield make_episode(session.turns, None, name, None, fields, where="payload")


def _list_records(path: str) -> Iterator[tuple[str, Any]]:
    for place, raw in drop_repeated(read_placed_values(path), "timestamp"):
        if isinstance(raw, dict) and {"session", "items"} <= raw.keys():
            first: _First = convert_value(raw, _First)
            yield "session", {"instructions": None, **first.session}
            yield from ((f"items[{i}]", item) for i, item in enumerate(first.items))
        else:
            yield place, raw


def _read_record(place: str, raw: Any) -> _Record:
    try:
        record: _Record = convert_value(raw, _Record)
    except LogError as error:
        raise error.at(place) from None
    return record


def _find_shown(records: list[tuple[str, _Record, Any]]) -> set[str]:
    """Events whose messages are in no item of the conversation, which therefore stand for them."""
    roles = {"user_message": "user", "agent_message": "assistant"}
    for _, record, _ in records:
        payload = record.payload if record.type == "response_item" else None
        if isinstance(payload, dict) and payload.get("type") == "message":
            text = str(payload.get("content"))
            roles = {
                kind: role
                for kind, role in roles.items()
                if role != payload.get("role") or (role == "user" and any(one in text for one in CONTEXT))
            }
    return set(roles)


def _add_shown(session: ResponseItems, payload: Any, kinds: set[str]) -> None:
    event: _Event = convert_value(payload, _Event)
    if event.type in kinds and event.message:
        role = "user" if event.type == "user_message" else "assistant"
        session.add_item(_Item("message", role=role, content=event.message))


def _add_printed(session: ResponseItems, item: dict[str, Any]) -> None:
    """An item that `codex exec --json` prints when it is complete."""
    kind = convert_value(item.get("type"), str)
    if kind == "agent_message":
        session.add_item(_Item("message", role="assistant", content=convert_value(item.get("text"), str)))
    elif kind in WITH_RESULT:
        session.add_raw(item)


def _detect(sample: Sample) -> str | None:
    if sample.kind not in ("lines", "document"):
        return None
    for record in sample.objects():
        if isinstance(record.get("thread_id"), str) and record.get("type") == "thread.started":
            return "it is what codex exec --json prints"
        session = record.get("session") if "items" in record else record
        if isinstance(session, dict) and {"id", "timestamp", "instructions"} <= session.keys():
            return "it begins with an id, a time and instructions"
        if record.get("type") in TYPES and isinstance(record.get("payload"), dict):
            return f"its records have a type and a payload ({record['type']})"
    return None


FORMAT = LogFormat("codex", "sessions of Codex; no outcomes in them", read_file=each_file(_read), detect=_detect)
