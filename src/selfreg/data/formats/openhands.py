"""Events of OpenHands: JSONL or a JSON list of events, one episode a file, or a folder of events a file each.

They have no outcome.

Calls of one response of the model (`llm_response_id`) are one step. A step that the user rejected is one of help by a
person.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from typing import Any

from selfreg._util.extras import require_extra
from selfreg.data.documents import convert_value, drop_repeated, each_file, read_values
from selfreg.data.faults import LogError
from selfreg.data.log_files import LogFile, plain_name
from selfreg.data.log_format import LogFormat, ReadOptions
from selfreg.data.samples import Sample
from selfreg.data.trajectory import Trajectory
from selfreg.data.turns import Content, Function, Turns, make_episode, read_content

with require_extra("logs", "selfreg.data"):
    import msgspec


KINDS = ("Event", "Observation", "Condensation", "CondensationRequest")
# A file with one event, in the folder of a conversation.
_EVENT_FILE = re.compile(r"event[-_]\d+[-_].*\.json")
# Where an answer of the server has its events.
WRAPPERS = ("trajectory", "events", "items")
# Names of the agent in the statistics of the use of models.
USES = ("agent", "default")


class _Call(Function):
    """A call; the first versions of the SDK had its parts in `function`, as OpenAI's messages have."""

    function: Function | None = None


class _Message(msgspec.Struct):
    role: str | None = None
    content: Content = None


class _Event(msgspec.Struct):
    """An event of the current format; the fields that a step needs."""

    kind: str
    source: str | None = None
    llm_response_id: str | None = None
    thought: Content = None
    tool_name: str | None = None
    tool_call: _Call | None = None
    action: dict[str, Any] | None = None
    observation: dict[str, Any] | None = None
    llm_message: _Message | None = None
    extended_content: Content = None  # what the context of the agent adds
    rejection_reason: str | None = None
    rejection_source: str | None = None  # "hook" where no person did it
    title: str | None = None  # of a call by an agent of the Agent Client Protocol, as the four below
    status: str | None = None
    raw_input: Any = None
    raw_output: Any = None
    content: Content = None
    error: str | None = None
    summary: str | None = None
    key: str | None = None
    value: Any = None


def _read(path: str, options: ReadOptions) -> Iterator[Trajectory]:
    raw: list[Any] = [value for name in _files_of_episode(path) for value in unwrap_events(read_values(name))]
    name = _conversation(path) if _EVENT_FILE.fullmatch(os.path.basename(path)) else plain_name(options.source)
    yield read_events(raw, None, name, None)


def unwrap_events(values: list[Any]) -> list[Any]:
    """Events of an answer of the server, which is one object; others as they are."""
    only = values[0] if len(values) == 1 and isinstance(values[0], dict) else {}
    return next((only[name] for name in WRAPPERS if isinstance(only.get(name), list)), values)


def read_events(
    raw: Sequence[Any], task: str | None, episode: str, outcome: float | None, model: Any = None
) -> Trajectory:
    """An episode of events."""
    events = [_convert_event(number, one) for number, one in drop_repeated(enumerate(raw, 1), "id")]
    if not isinstance(model, str):
        model = next((name for event in events if (name := _read_model(event))), None)
    turns = Turns()
    pending: list[_Event] = []
    for event in events:
        same = pending and event.kind == "ActionEvent" and event.llm_response_id == pending[0].llm_response_id
        if pending and event.kind != "ConversationStateUpdateEvent" and not (same and event.llm_response_id):
            _act(turns, pending, model)
            pending = []
        if event.kind == "ActionEvent":
            pending.append(event)
        else:
            _add_other(turns, event, model)
    if pending:
        _act(turns, pending, model)
    return make_episode(turns, task, episode, outcome, {"agent": "openhands", "model": model}, where="kind")


def _files_of_episode(path: str) -> list[str]:
    """The file; where it is one event, as OpenHands stores them, all of its folder in their order."""
    if not _EVENT_FILE.fullmatch(os.path.basename(path)):
        return [path]
    folder = os.path.dirname(path)
    names = [name for name in os.listdir(folder) if _EVENT_FILE.fullmatch(name)]
    return [os.path.join(folder, name) for name in sorted(names)]


def _conversation(path: str) -> str:
    """Name of the folder of a conversation, whose events are in a folder of it."""
    folder = os.path.dirname(os.path.abspath(path))
    return os.path.basename(os.path.dirname(folder) if os.path.basename(folder) == "events" else folder)


def merge_event_files(files: list[LogFile]) -> list[LogFile]:
    """One file for each folder of events."""
    merged, folders = [], set[str]()
    for file in files:
        folder = os.path.dirname(file.path)
        if not _EVENT_FILE.fullmatch(os.path.basename(file.path)):
            merged.append(file)
        elif folder not in folders:
            folders.add(folder)
            merged.append(file._replace(parts=tuple(_files_of_episode(file.path))))
    return merged


def _convert_event(number: int, raw: Any) -> _Event:
    try:
        event: _Event = convert_value(raw, _Event)
    except LogError as error:
        raise error.at(f"event {number}") from None
    return event


def _act(turns: Turns, events: list[_Event], model: str | None) -> None:
    text = "\n".join(part for event in events if (part := read_content(event.thought)))
    turns.act(text, [_read_call(event) for event in events], model=model)


def _read_call(event: _Event) -> Function:
    call = event.tool_call.function or event.tool_call if event.tool_call else None
    return call if call and call.name else Function(event.tool_name or "", event.action)


def _add_other(turns: Turns, event: _Event, model: str | None) -> None:
    if event.kind == "MessageEvent" and event.llm_message is not None:
        text = read_content(event.llm_message.content)
        if event.source == "agent":
            turns.act(text, model=model)
        else:
            turns.see(text, by_user=True)
            turns.see(read_content(event.extended_content))
    elif event.kind == "ObservationEvent":
        turns.see(f"{event.tool_name or 'tool'} returned: {read_content(event.observation)}")
        turns.see(read_content(event.extended_content))
    elif event.kind == "UserRejectObservation":
        by_user = event.rejection_source != "hook"
        if by_user:
            turns.reject_last()
        turns.see(f"The {'user' if by_user else 'hook'} rejected the action: {event.rejection_reason or ''}")
    elif event.kind == "Condensation":
        turns.see(event.summary or "")
    elif event.kind == "ACPToolCallEvent" and event.status in (None, "completed", "failed"):
        turns.act("", [convert_value({"name": event.title, "arguments": event.raw_input}, Function)], model=model)
        text = read_content(event.content) or read_content(convert_value(event.raw_output, Content))
        turns.see(f"{event.title} returned: {text}")
    elif event.kind == "AgentErrorEvent":
        turns.see(f"Error: {event.error or ''}")


def _read_model(event: _Event) -> str | None:
    """The agent's model, by the statistics of its use."""
    value: Any = event.value if event.key == "stats" else None
    uses = value.get("usage_to_metrics") if isinstance(value, dict) else None
    metrics = next((uses[name] for name in USES if name in uses), None) if isinstance(uses, dict) else None
    name = metrics.get("model_name") if isinstance(metrics, dict) else None
    return name if isinstance(name, str) else None


def _detect(sample: Sample) -> str | None:
    if sample.kind not in ("lines", "document"):
        return None
    for record in unwrap_events(sample.objects())[:8]:
        if not isinstance(record, dict):
            continue
        kind = record.get("kind")
        if isinstance(kind, str) and kind.endswith(KINDS) and "source" in record:
            return f"its events have kind and source ({kind})"
    return None


FORMAT = LogFormat(
    "openhands",
    "events of OpenHands; no outcomes in them",
    read_file=each_file(_read),
    detect=_detect,
    merge_files=merge_event_files,
)
