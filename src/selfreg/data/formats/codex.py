"""Sessions of Codex (rollout-*.jsonl): a file a session, of records with a type and a payload. They have no outcome."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from selfreg._util.extras import require_extra
from selfreg.data.documents import convert_value, each_file, read_placed_values
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


class _Item(msgspec.Struct):
    """An item of the conversation with the model."""

    type: str
    role: str | None = None
    content: Content = None
    name: str | None = None
    arguments: str | None = None
    input: str | None = None
    action: dict[str, Any] | None = None
    call_id: str | None = None
    output: Content = None


class _Meta(msgspec.Struct, frozen=True):
    id: str | None = None
    model: str | None = None
    cli_version: str | None = None
    message: str | None = None


class _Record(msgspec.Struct):
    type: str | None = None
    payload: Any = None


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
        if kind == "session_meta":
            self.meta = convert_value(payload, _Meta)
        elif kind == "turn_context":
            context: _Meta = convert_value(payload, _Meta)
            self.model = context.model or self.model
        elif kind == "compacted":
            summary: _Meta = convert_value(payload, _Meta)
            self.see(summary.message or "")
        elif kind == "response_item":
            self.add_item(convert_value(payload, _Item))

    def add_items(self, items: Sequence[dict[str, Any]]) -> None:
        """Add the input of a model; a message may lack its type."""
        for item in items:
            self.add_item(convert_value({"type": "message", **item}, _Item))

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
            self.see(f"{self.names.get(item.call_id or '') or 'tool'} returned: {read_content(item.output)}")

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
    for place, raw in read_placed_values(path):
        try:
            record: _Record = convert_value(raw, _Record)
            # The first versions wrote the items of the conversation themselves.
            bare = isinstance(raw, dict) and "payload" not in raw and record.type is not None
            if record.type is None and isinstance(raw, dict) and "instructions" in raw:
                session.add("session_meta", raw)
            session.add("response_item" if bare else record.type, raw if bare else record.payload)
        except LogError as error:
            raise LogError(f"{place}: {error}") from None
    session.finish()
    name = session.meta.id or plain_name(options.source)
    fields = {"agent": "codex", "version": session.meta.cli_version, "model": session.model}
    yield make_episode(session.turns, None, name, None, fields, where="payload")


def _detect(sample: Sample) -> str | None:
    if sample.kind not in ("lines", "document"):
        return None
    for record in sample.objects():
        if {"id", "timestamp", "instructions"} <= record.keys():
            return "it begins with an id, a time and instructions"
        if record.get("type") in TYPES and isinstance(record.get("payload"), dict):
            return f"its records have a type and a payload ({record['type']})"
    return None


FORMAT = LogFormat("codex", "sessions of Codex; no outcomes in them", read_file=each_file(_read), detect=_detect)
