"""Spans of OpenTelemetry for generative AI and of OpenInference: OTLP as JSON or JSONL, flat spans, or Jaeger's.

The spans of a trace are an episode, and each call of a model in it is a step. Outcome: `gen_ai.evaluation.score.value`,
of the one evaluation in the trace or the one that is named.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from selfreg._util.extras import require_extra
from selfreg.data.documents import convert_value, decode_json, drop_repeated, read_values
from selfreg.data.faults import LogError, ask_choice
from selfreg.data.formats.span_stores import OUTER, is_jaeger, list_spans, read_parts
from selfreg.data.log_files import is_parquet, plain_name
from selfreg.data.log_format import LogFormat, ReadOptions, Record
from selfreg.data.message_layouts import read_answer, read_messages
from selfreg.data.rows import read_parquet_rows
from selfreg.data.samples import Sample
from selfreg.data.trajectory import Trajectory
from selfreg.data.turns import Message, Turns, make_episode, read_success

with require_extra("logs", "selfreg.data"):
    import msgspec

OPERATION, KIND, REQUEST = "gen_ai.operation.name", "openinference.span.kind", "llm.request.type"
MODEL_CALLS = ("chat", "text_completion", "generate_content", "completion", "LLM")
# Calls of models of the AI SDK, whose answers are a text and calls of tools, or an object.
AI_SDK = "ai.operationId"
AI_SDK_CALLS = tuple(f"ai.{kind}" for kind in (
    "generateText.doGenerate", "streamText.doStream", "generateObject.doGenerate", "streamObject.doStream"
))  # fmt: skip
MODELS = ("gen_ai.response.model", "gen_ai.request.model", "llm.model_name")
# Where the messages of a call are: as JSON, then as flattened attributes, then as texts.
INPUTS = ("gen_ai.input.messages", "llm.input_messages", "gen_ai.prompt", "input.value", "input",
          "ai.prompt.messages")  # fmt: skip
OUTPUTS = ("gen_ai.output.messages", "llm.output_messages", "gen_ai.completion", "output.value", "output")
TRACE_KEYS = ("traceId", "trace_id", "context.trace_id")
ID_KEYS = ("spanId", "span_id", "context.span_id", "context", "id")
START_KEYS = ("startTimeUnixNano", "start_time", "start_time_unix_nano", "startTime")
STATUS_KEYS = ("status.code", "status.status_code", "status_code", "status")
FAILED = (2, "2", "STATUS_CODE_ERROR", "ERROR", "Error", "error")
PREFIX = "attributes."
EVALUATION = "gen_ai.evaluation"
# Events of a span that hold a message, in conventions before those of attributes.
ANSWER = "gen_ai.choice"
_EVENT = re.compile(r"gen_ai\.(system|user|assistant|tool)\.message")


class _Value(msgspec.Struct, rename="camel", frozen=True):
    string_value: str | None = None
    int_value: int | str | None = None
    double_value: float | None = None
    bool_value: bool | None = None
    array_value: Any = None
    kvlist_value: Any = None


class _Attribute(msgspec.Struct):
    key: str
    value: _Value = _Value()


class _Span(msgspec.Struct):
    """A span with flat attributes."""

    trace: str
    start: str
    name: str | None
    attributes: dict[str, Any]
    events: list[dict[str, Any]]
    failed: bool = False

    @property
    def model(self) -> str | None:
        return next((self.attributes[name] for name in MODELS if isinstance(self.attributes.get(name), str)), None)


def _read(path: str, options: ReadOptions) -> Iterator[tuple[int, Record]]:
    traces: dict[str, list[_Span]] = {}
    try:
        values = read_parquet_rows(path) if is_parquet(path) else read_values(path)
        for number, raw in drop_repeated(enumerate(list_spans(values), 1), *ID_KEYS):
            try:
                span = _convert_span(raw, plain_name(options.source))
            except LogError as error:
                raise error.at(f"span {number}") from None
            traces.setdefault(span.trace, []).append(span)
        if not traces:
            raise LogError("expected at least one span")
    except LogError as error:
        yield 0, error
        return
    for number, (trace, spans) in enumerate(traces.items(), 1):
        try:
            yield number, _convert(trace, sorted(spans, key=lambda span: span.start), options)
        except LogError as error:
            yield number, error


def _convert_span(raw: Any, default: str) -> _Span:
    if not isinstance(raw, dict):
        raise LogError(f"expected an object; got {type(raw).__name__}")
    flat = flatten({name: value for name, value in raw.items() if name not in ("attributes", "events")})
    if "attributes" not in raw:  # as a table of spans has them
        named = {name.removeprefix(PREFIX): value for name, value in raw.items() if name.startswith(PREFIX)}
        raw = {**raw, "attributes": named} if named else raw
    # A file of one span may be its attributes alone.
    attributes = _read_attributes(raw["attributes"]) if "attributes" in raw else flat
    if isinstance(kind := flat.get("span_kind"), str):
        attributes.setdefault(KIND, kind)
    trace = next((flat[name] for name in TRACE_KEYS if flat.get(name)), default)
    start = next((str(flat[name]) for name in START_KEYS if flat.get(name) is not None), "")
    events = raw.get("events") or []
    if not isinstance(trace, str) or not isinstance(events, list) or not all(isinstance(one, dict) for one in events):
        raise LogError("field 'traceId' or 'events': expected a string and a list of objects")
    name = raw.get("name")
    found = [{**_read_attributes(one.get("attributes") or {}), "event.name": one.get("name")} for one in events]
    found += _read_event_list(attributes.get("events"))
    status = next((flat[name] for name in STATUS_KEYS if name in flat), None)
    failed = "error.type" in attributes or status in FAILED
    start = start.zfill(20) if start.isdigit() else start
    return _Span(trace, start, name if isinstance(name, str) else None, attributes, found, failed)


def _read_event_list(text: Any) -> list[dict[str, Any]]:
    """Events with messages in an attribute of their span, as JSON (of Logfire)."""
    events = decode_json(text.encode()) if isinstance(text, str) and text.startswith("[{") else None
    return [one for one in events or () if isinstance(one, dict) and "event.name" in one]


def _read_attributes(raw: Any) -> dict[str, Any]:
    """Attributes by name: of OTLP, where they are a list, or of an object."""
    if isinstance(raw, dict):
        return flatten(raw)
    attributes: list[_Attribute] = convert_value(raw, list[_Attribute])
    return flatten({one.key: _read_value(one.value) for one in attributes})


def _read_value(value: _Value) -> Any:
    if value.array_value is not None:
        parts = read_parts(value.array_value, "values")
        return [_read_value(convert_value(part, _Value)) for part in parts]
    if value.kvlist_value is not None:
        return {
            one.key: _read_value(one.value)
            for one in convert_value(read_parts(value.kvlist_value, "values"), list[_Attribute])
        }
    if value.int_value is not None:
        return int(value.int_value) if str(value.int_value).lstrip("-").isdigit() else value.int_value
    return next((one for one in (value.string_value, value.double_value, value.bool_value) if one is not None), None)


def flatten(nested: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted names and values of nested objects; lists of objects are numbered."""
    flat: dict[str, Any] = {}
    for name, value in nested.items():
        if isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
            value = {str(i): one for i, one in enumerate(value)}
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def unflatten(flat: dict[str, Any], prefix: str) -> Any:
    """The nested value whose dotted names begin with the prefix; None if there is none."""
    nested: dict[str, Any] = {}
    for name, value in flat.items():
        if name.startswith(prefix + "."):
            *path, last = name[len(prefix) + 1 :].split(".")
            inner = nested
            for part in path:
                inner = inner.setdefault(part, {})
                if not isinstance(inner, dict):
                    raise LogError(f"attribute {name!r} is inside of another, which is no object")
            inner[last] = value
    return _lists(nested) if nested else None


def _lists(nested: Any) -> Any:
    """Objects whose names are numbers as lists."""
    if not isinstance(nested, dict):
        return nested
    values = {name: _lists(value) for name, value in nested.items()}
    if values and all(name.isdigit() for name in values):
        return [values[name] for name in sorted(values, key=int)]
    return values


def _convert(trace: str, spans: list[_Span], options: ReadOptions) -> Trajectory:
    turns = Turns()
    calls = [span for span in spans if _is_call(span.attributes)]
    for span in calls:
        _add_call(turns, span)
    if calls and not turns.steps:
        raise LogError(f"trace {trace!r} has no call of a model that answered")
    if not turns.steps:
        raise LogError(
            f"trace {trace!r} has no call of a model: {OPERATION} or {REQUEST} of a span is one of "
            f"{', '.join(MODEL_CALLS[:-1])}, or {KIND} is LLM"
        )
    model = next((span.model for span in spans if span.model), None)
    fields = {"name": spans[0].name, "model": model}
    for name in ("session.id", "gen_ai.conversation.id", "gen_ai.agent.name"):
        fields[name] = next((span.attributes[name] for span in spans if name in span.attributes), None)
    return make_episode(turns, None, trace, _read_evaluation(spans, options), fields, where="spans")


def _is_call(attributes: dict[str, Any]) -> bool:
    is_call = any(attributes.get(name) in MODEL_CALLS for name in (OPERATION, KIND, REQUEST))
    return is_call or attributes.get(AI_SDK) in AI_SDK_CALLS


def _add_call(turns: Turns, span: _Span) -> None:
    output = _find_messages(span, OUTPUTS, "assistant") or _read_ai_sdk(span.attributes)
    if span.failed and not output:
        return
    given = _find_messages(span, INPUTS, "user")
    answers = [i for i, message in enumerate(given) if message.role == "assistant"]
    turns.add_messages(given, first=answers[-1] + 1 if answers else 0)
    answer = output[0] if output else Message("assistant")
    turns.add_messages([msgspec.structs.replace(answer, role="assistant", model=span.model)])


def _read_ai_sdk(attributes: dict[str, Any]) -> list[Message]:
    """What a model answered, as the AI SDK has it in attributes."""
    texts = [attributes.get(f"ai.response.{name}") for name in ("text", "object")]
    text = next((one for one in texts if isinstance(one, str)), None)
    calls = attributes.get("ai.response.toolCalls")
    made = decode_json(calls.encode()) if isinstance(calls, str) else calls
    parts = [{**one, "type": "tool-call"} for one in made or () if isinstance(one, dict)]
    if text is None and not parts:
        return []
    return [Message("assistant", [{"type": "text", "text": text or ""}, *parts])]


def _find_messages(span: _Span, names: tuple[str, ...], role: str) -> list[Message]:
    found = _find_in(span.attributes, names, role)
    for event in span.events:  # of conventions that have messages in events
        found = found or _find_in(event, names, role)
    return found or [message for event in span.events if (message := _read_event(event, role)) is not None]


def _read_event(event: dict[str, Any], role: str) -> Message | None:
    """The message of an event `gen_ai.user.message` (or of another role), or of `gen_ai.choice`, the answer."""
    name = str(event.get("event.name"))
    is_answer = name == ANSWER
    if is_answer != (role == "assistant") or not (is_answer or _EVENT.fullmatch(name)):
        return None
    parts = {part: event.get(part, unflatten(event, part)) for part in ("content", "tool_calls", "id")}
    message = unflatten(event, "message") or event.get("message") or parts
    if isinstance(message, str) and message.lstrip().startswith("{"):
        message = _parse(message, name)
    if isinstance(message, dict):
        who = "assistant" if is_answer else name.split(".")[1]
        message = {"role": who, "tool_call_id": message.get("id"), **message}
        if isinstance(calls := message.get("tool_calls"), str):
            message["tool_calls"] = decode_json(calls.encode())
    return next(iter(read_messages(message, role)), None)


def _find_in(attributes: dict[str, Any], names: tuple[str, ...], role: str) -> list[Message]:
    for name in names:
        value = attributes.get(name)
        if value is None:
            value = unflatten(attributes, name)
        if value is None:
            continue
        if isinstance(value, str) and value.lstrip().startswith(("[", "{")):
            value = _parse(value, name)
        if isinstance(value, dict) and role == "assistant":
            return [read_answer(value)]
        if isinstance(value, dict):
            value = value.get("messages", value)
        if isinstance(value, list):
            value = [_read_openinference(one) for one in value]
        return read_messages(value, role)
    return []


def _parse(text: str, name: str) -> Any:
    """Messages from their JSON text; a text that only looks like it, where any text may be."""
    try:
        value = decode_json(text.encode())
    except LogError as error:
        if name.endswith("messages"):
            raise LogError(f"attribute {name!r}: {error}") from None
        return text
    known = isinstance(value, list) or {"messages", "choices", "text", "content", "role"} & value.keys()
    return value if known else text


def _read_openinference(raw: Any) -> Any:
    """A message of OpenInference in the layout of OpenAI; others as they are."""
    message = raw.get("message") if isinstance(raw, dict) else None
    if not isinstance(message, dict):
        return raw
    if isinstance(parts := message.get("contents"), list):
        message = {
            **message,
            "content": [part.get("message_content", part) for part in parts if isinstance(part, dict)],
        }
    if isinstance(calls := message.get("tool_calls"), list):
        message = {**message, "tool_calls": [call.get("tool_call", call) for call in calls if isinstance(call, dict)]}
    return message


def _read_evaluation(spans: list[_Span], options: ReadOptions) -> float | None:
    scores: dict[str, Any] = {}
    for attributes in [part for span in spans for part in (span.attributes, *span.events)]:
        if (value := attributes.get(f"{EVALUATION}.score.value")) is not None:
            scores[str(attributes.get(f"{EVALUATION}.name", "score"))] = value
    wanted = options.roles.get("outcome")
    if wanted is None and len(scores) > 1:
        raise ask_choice("there are several evaluations", scores)
    if wanted is not None and scores and wanted not in scores:
        raise LogError(f"evaluation {wanted!r} is missing (role 'outcome'); there are {', '.join(scores)}")
    name = wanted or next(iter(scores), "")
    return read_success(scores.get(name), f"{EVALUATION}.score.value of {name}", options)


def _detect(sample: Sample) -> str | None:
    if sample.kind in ("parquet", "table"):
        known = sample.kind == "parquet" and any(map(_is_known, sample.values))
        return "its columns are attributes of gen_ai or OpenInference" if known else None
    for record in sample.objects()[:1]:
        if isinstance(record.get("trace"), dict):
            record = record["trace"]
        if set(OUTER) & record.keys():
            return "it has resourceSpans, as OTLP"
        if is_jaeger({"data": [record]}):
            tags = [tag for span in _objects(record["spans"]) for tag in _objects(span.get("tags"))]
            return "its traces are Jaeger's" if any(_is_known(tag.get("key")) for tag in tags) else None
        attributes = record.get("attributes", record)
        if isinstance(attributes, list):
            attributes = dict.fromkeys(str(one.get("key")) for one in _objects(attributes))
        names = attributes if isinstance(attributes, dict) else {}
        if any(map(_is_known, names)) or "llm" in names:
            return "its attributes are those of gen_ai or OpenInference"
    return None


def _objects(value: Any) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _is_known(name: Any) -> bool:
    """Whether an attribute, or a column of a table of spans, is of one of the conventions."""
    return isinstance(name, str) and name.removeprefix(PREFIX).startswith(("gen_ai.", "openinference.", "llm.", AI_SDK))


FORMAT = LogFormat(
    "spans",
    "OpenTelemetry (gen_ai) and OpenInference spans; --map outcome=EVALUATION where there are several",
    read_file=_read,
    roles=("outcome",),
    detect=_detect,
)
