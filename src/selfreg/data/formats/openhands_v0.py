"""Events of OpenHands before its SDK (V0): a saved trajectory (a JSON list), or `output.jsonl`, an instance a line.

Calls of one response of the model are one step. The outcome is in `output.jsonl` where its evaluation has a report.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from selfreg._util.extras import require_extra
from selfreg.data.documents import convert_value, decode_json, each_record, read_document
from selfreg.data.faults import LogError
from selfreg.data.formats.openhands import read_events, unwrap_events
from selfreg.data.log_files import describe_kind, plain_name
from selfreg.data.log_format import LogFormat, ReadOptions, Record
from selfreg.data.samples import Sample
from selfreg.data.trajectory import Trajectory
from selfreg.data.turns import Content, Function, Turns, make_episode, read_content, read_success

with require_extra("logs", "selfreg.data"):
    import msgspec

# Events that are no part of the conversation.
SILENT = ("agent_state_changed", "change_agent_state", "system", "recall", "null", "condensation",
          "condensation_request")  # fmt: skip
# Arguments of actions that say how to run them, or are the text of the agent.
CONTROL = ("thought", "final_thought", "confirmation_state", "security_risk", "hidden", "blocking", "is_input",
           "is_static", "is_confirmed", "include_extra", "kernel_init_code", "wait_for_response")  # fmt: skip
PLACES = (("test_result", "report", "resolved"), ("report", "resolved"), ("resolved",))


class _Response(msgspec.Struct):
    id: str | None = None
    model: str | None = None


class _Metadata(msgspec.Struct):
    function_name: str | None = None
    model_response: _Response | None = None


class _Event(msgspec.Struct):
    source: str | None = None
    action: str | None = None
    observation: str | None = None
    args: dict[str, Any] | None = None
    content: Content = None
    tool_call_metadata: _Metadata | None = None

    @property
    def arguments(self) -> dict[str, Any]:
        return self.args or {}

    @property
    def said(self) -> str:
        """The text of an action that is a message."""
        return read_content(convert_value(self.arguments.get("content"), Content))

    @property
    def response(self) -> _Response:
        metadata = self.tool_call_metadata
        return (metadata.model_response if metadata else None) or _Response()


def read_lines(numbered: Iterable[tuple[int, bytes]], options: ReadOptions) -> Iterator[tuple[int, Record]]:
    """Instances of numbered lines, or their faults without a place."""
    for number, line in numbered:
        try:
            yield number, _convert_instance(decode_json(line), options, number)
        except LogError as error:
            yield number, error


def read_file(path: str, options: ReadOptions) -> Iterator[tuple[int, Record]]:
    """The events of one document as an episode; or an instance, or a list of some."""
    try:
        document: Any = read_document(path)
        records = document if isinstance(document, list) else [document]
        if not any(isinstance(one, dict) and "history" in one for one in records):
            name = plain_name(options.source)
            yield 1, _convert_events(unwrap_events(records), name, None, None, {})
            return
        yield from each_record(_convert_instance, records, options)
    except LogError as error:
        yield 0, error


def _convert_instance(record: Any, options: ReadOptions, number: int) -> Trajectory:
    history = record.get("history") if isinstance(record, dict) else None
    if not isinstance(history, list):
        raise LogError(f"field 'history': expected a list of events; got {describe_kind(history)}")
    if not history and isinstance(error := record.get("error"), str) and error:
        raise LogError(f"the run failed before its first event: {error[:200]}")
    # Older versions hold pairs of an action and its observation.
    events = [event for one in history for event in (one if isinstance(one, list) else [one])]
    task = record.get("instance_id")
    if task is not None and (isinstance(task, bool) or not isinstance(task, (str, int))):
        raise LogError(f"field 'instance_id': expected a string or an integer; got {describe_kind(task)}")
    episode = f"{options.source}:{number}" if task is None else f"{options.source}:{task}"
    outcome = read_success(_find_outcome(record), "resolved", options)
    fields = {"model": _look_up(record, ("metadata", "llm_config", "model"))}
    name = None if task is None else str(task)
    if any(isinstance(event, dict) and "kind" in event for event in events[:1]):  # of the SDK
        return read_events(events, name, episode, outcome, fields["model"])
    return _convert_events(events, episode, name, outcome, fields)


def _find_outcome(record: dict[str, Any]) -> Any:
    return next((value for place in PLACES if (value := _look_up(record, place)) is not None), None)


def _look_up(value: Any, path: tuple[str, ...]) -> Any:
    for part in path:
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _convert_events(
    raw: list[Any], episode: str, task: str | None, outcome: float | None, fields: dict[str, Any]
) -> Trajectory:
    """What came in between calls of one response is seen after its last call."""
    events = [_convert_event(number, one) for number, one in enumerate(raw, 1)]
    answered = next((event.response.model for event in events if event.response.model), None)
    model = fields.get("model") or answered
    turns = Turns()
    pending: list[_Event] = []
    held: list[_Event] = []
    for event in events:
        if event.action is None or event.source != "agent" or event.action in SILENT:
            held.append(event)
            continue
        if not (pending and event.response.id and event.response.id == pending[0].response.id):
            _add(turns, pending, held, model)
            pending, held = [], []
        pending.append(event)
    _add(turns, pending, held, model)
    return make_episode(turns, task, episode, outcome, {"agent": "openhands", "model": model}, where="action")


def _convert_event(number: int, raw: Any) -> _Event:
    try:
        event: _Event = convert_value(raw, _Event)
    except LogError as error:
        raise error.at(f"event {number}") from None
    if event.action is not None and event.args is None and event.action not in SILENT:
        raise LogError(f"event {number}: field 'args' is missing")
    if event.action is None and event.observation is None:
        raise LogError(f"event {number}: expected a field 'action' or 'observation'")
    return event


def _add(turns: Turns, actions: list[_Event], others: list[_Event], model: Any) -> None:
    """A step of some actions, and what was seen after it."""
    if actions:
        texts = [_text(event) for event in actions]
        calls = [_call(event) for event in actions if event.action != "message"]
        name = actions[0].response.model or (model if isinstance(model, str) else None)
        turns.act("\n".join(text for text in texts if text), calls, model=name)
    for event in others:
        _see(turns, event)


def _text(event: _Event) -> str:
    if event.action == "message":
        return event.said
    return next((text for name in CONTROL[:2] if isinstance(text := event.arguments.get(name), str) and text), "")


def _call(event: _Event) -> Function:
    name = (event.tool_call_metadata.function_name if event.tool_call_metadata else None) or event.action or ""
    return Function(name, {key: one for key, one in event.arguments.items() if key not in CONTROL and one is not None})


def _see(turns: Turns, event: _Event) -> None:
    text = read_content(event.content)
    if event.action == "message":
        turns.see(event.said, by_user=True)
    elif event.observation == "user_rejected":
        turns.reject_last()
        turns.see(f"The user rejected the action: {text}")
    elif event.observation == "error":
        turns.see(f"Error: {text}")
    elif event.observation is not None and event.observation not in SILENT:
        name = event.tool_call_metadata.function_name if event.tool_call_metadata else None
        turns.see(f"{name or event.observation} returned: {text}")


def _is_event(record: Any) -> bool:
    if not isinstance(record, dict) or "source" not in record:
        return False
    if isinstance(record.get("kind"), str):
        return True
    return isinstance(record.get("args" if "action" in record else "extras"), dict)


def _detect(sample: Sample) -> str | None:
    wrapped = unwrap_events(sample.objects())
    if (
        sample.kind == "document"
        and wrapped
        and wrapped != sample.objects()
        and isinstance(wrapped[0], dict)
        and "kind" not in wrapped[0]
        and _is_event(wrapped[0])
    ):
        return "it has a list of events with action, args and source"
    for record in sample.objects()[:8]:
        history = record.get("history")
        first = history[0] if isinstance(history, list) and history else None
        if _is_event(first[0] if isinstance(first, list) and first else first):
            return "its field 'history' has events with action, args and source"
        if (
            sample.kind == "document"
            and isinstance(sample.values[0], list)
            and "kind" not in record
            and _is_event(record)
        ):
            return "it is a list of events with action, args and source"
    return None


FORMAT = LogFormat(
    "openhands_v0",
    "events of OpenHands before its SDK, and output.jsonl of its evaluations",
    read_lines=read_lines,
    read_file=read_file,
    detect=_detect,
)
