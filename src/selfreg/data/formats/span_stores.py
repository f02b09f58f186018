"""Where stores of traces keep spans: OTLP and its older spellings, answers of Tempo, exports of Jaeger."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from selfreg._util.extras import require_extra
from selfreg.data.documents import convert_value
from selfreg.data.faults import LogError

with require_extra("logs", "selfreg.data"):
    import msgspec

OUTER = ("resourceSpans", "resource_spans", "batches")  # the last one of Tempo


class _Tag(msgspec.Struct):
    """An attribute of Jaeger."""

    key: str
    value: Any = None


def list_spans(values: Iterable[Any]) -> Iterator[Any]:
    """Spans in the parts of OTLP that hold them, in the spelling of either."""
    for value in values:
        found = False
        if isinstance(value, dict) and isinstance(value.get("trace"), dict):  # an answer of Tempo
            value = value["trace"]
        for outer in read_parts(value, *OUTER):
            found = True
            for inner in read_parts(outer, "scopeSpans", "scope_spans", "instrumentationLibrarySpans"):
                yield from read_parts(inner, "spans")
        if not found and isinstance(value, dict) and "spans" in value:
            found = True
            yield from read_parts(value, "spans")
        if not found and is_jaeger(value):
            found = True
            yield from (_read_jaeger(span) for trace in value["data"] for span in read_parts(trace, "spans"))
        if not found:
            yield value


def read_parts(value: Any, *names: str) -> list[Any]:
    if not isinstance(value, dict):
        raise LogError(f"expected an object; got {type(value).__name__}")
    name = next((name for name in names if name in value), None)
    parts = [] if name is None else value[name]
    if not isinstance(parts, list):
        raise LogError(f"field {name!r}: expected a list; got {type(parts).__name__}")
    return parts


def is_jaeger(value: Any) -> bool:
    """Whether a document is what Jaeger exports: traces with their spans."""
    traces = value.get("data") if isinstance(value, dict) else None
    return isinstance(traces, list) and any(
        isinstance(one, dict) and {"traceID", "spans"} <= one.keys() for one in traces
    )


def _read_jaeger(span: Any) -> dict[str, Any]:
    """A span of Jaeger as those of others: it has tags for attributes, and logs for events."""

    def read_tags(of: Any, name: str) -> dict[str, Any]:
        return {tag.key: tag.value for tag in convert_value(read_parts(of, name), list[_Tag])}

    attributes = read_tags(span, "tags")
    events = [read_tags(log, "fields") for log in read_parts(span, "logs")]
    return {
        "trace_id": span.get("traceID"),
        "span_id": span.get("spanID"),
        "start_time": span.get("startTime"),
        "name": span.get("operationName"),
        "attributes": attributes,
        "events": [{"name": fields.pop("event", None), "attributes": fields} for fields in events],
    }
