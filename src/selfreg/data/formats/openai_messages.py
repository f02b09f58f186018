"""OpenAI messages: a conversation a line of JSONL, a row of Parquet or CSV, or one or several in a JSON document.

Also read: requests with their responses (Chat Completions and Responses), messages of Anthropic and of ShareGPT.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from selfreg.data.documents import decode_json, each_record, read_document
from selfreg.data.faults import LogError
from selfreg.data.filters import MISSING, lookup_field, matches_filter
from selfreg.data.formats.conversations import (
    MESSAGES,
    are_messages,
    find_messages,
    is_exchange,
    read_conversation,
    read_exchange,
)
from selfreg.data.log_format import LogFormat, ReadOptions, Record
from selfreg.data.rows import Row, read_parquet_rows, read_rows
from selfreg.data.samples import Sample, take_sample, unwrap_records
from selfreg.data.trajectory import Trajectory
from selfreg.data.turns import AGENT_ROLES, Turns, make_episode, read_success

# Where a role is not mapped, the first of these fields that a record has.
USUAL_FIELDS = {
    "task": ("task_id", "example_id", "task", "instance_id", "question_id", "query_id", "prompt_id", "problem_id"),
    "outcome": ("outcome", "success", "resolved", "correct", "passed", "reward", "score"),
    "episode": ("episode_id", "episode", "run_id", "conversation_id", "trace_id", "session_id"),
    "messages": MESSAGES,
}


def read_lines(numbered: Iterable[tuple[int, bytes]], options: ReadOptions) -> Iterator[tuple[int, Record]]:
    """Conversations of numbered lines, or their faults without a place."""
    for number, line in numbered:
        try:
            record: Any = decode_json(line)
            if _is_wanted(record, options):
                yield number, convert_record(record, options, number)
        except LogError as error:
            yield number, error


def read_file(path: str, options: ReadOptions) -> Iterator[tuple[int, Record]]:
    """Conversations of one JSON document, or of the rows of a CSV file."""
    try:
        if take_sample(path).kind == "table":
            yield from _read_rows(read_rows(path), options)
            return
        records = unwrap_records(read_document(path), own=[options.roles.get("messages") or "messages"])
        if are_messages(records):
            records = [records]
        if not records:
            raise LogError("expected a list of at least one conversation; got an empty list")
        yield from each_record(convert_record, [one for one in records if _is_wanted(one, options)], options)
    except LogError as error:
        yield 0, error


def read_row_groups(path: str, first: int, last: int, options: ReadOptions) -> Iterator[tuple[int, Record]]:
    """Conversations of rows of a Parquet file."""
    yield from _read_rows(enumerate(read_parquet_rows(path, range(first, last)), 1), options)


def _read_rows(rows: Iterable[tuple[int, Row | LogError]], options: ReadOptions) -> Iterator[tuple[int, Record]]:
    for number, row in rows:
        try:
            if isinstance(row, LogError):
                raise row
            if _is_wanted(row, options):
                yield number, convert_record(row, options, number)
        except LogError as error:
            yield number, error


def convert_record(record: Any, options: ReadOptions, number: int) -> Trajectory:
    """A conversation as a trajectory; assistant messages are actions, and what was seen before them is the state."""
    if isinstance(record, list):
        record = {"messages": record}
    if not isinstance(record, dict):
        raise LogError(f"expected an object with messages; got {type(record).__name__}")
    outcome_field, outcome = _look_up(record, "outcome", options)
    success = read_success(outcome, outcome_field or "outcome", options)
    try:
        field, turns = _read_turns(record, options)
        return make_episode(
            turns,
            _read_name(record, "task", options),
            _read_name(record, "episode", options) or f"{options.source}:{number}",
            success,
            {name: value for name, value in record.items() if name not in (outcome_field, field)},
            where=field,
        )
    except LogError as error:
        error.outcome = success
        raise


def _read_turns(record: dict[str, Any], options: ReadOptions) -> tuple[str, Turns]:
    """The field of the messages, and their steps."""
    mapped = options.roles.get("messages")
    if not mapped and is_exchange(record) and _has_no_answer(record):
        return "messages", read_exchange(record)
    field, messages = _look_up(record, "messages", options)
    if field is None:
        raise LogError(f"field 'messages' is missing; the record has {', '.join(map(str, record)) or 'no field'}")
    try:
        return field, read_conversation(messages)
    except LogError as error:
        raise error.at(f"field {field!r}") from None


def _has_no_answer(record: dict[str, Any]) -> bool:
    """Whether the messages of a record, if it has any, are a request, whose response stands beside them."""
    field = find_messages(record)
    return field is None or not any(
        one.get("role") in AGENT_ROLES for one in record[field][-1:] if isinstance(one, dict)
    )


def _look_up(record: dict[str, Any], role: str, options: ReadOptions) -> tuple[str | None, Any]:
    """The field of a role and its value; no field and None where there is none."""
    if role in options.roles:
        field = options.roles[role]
        if not field:
            return None, None
        value = lookup_field(record, field)
        if value is MISSING:
            raise LogError(f"field {field!r} is missing (role {role!r})")
        return field, value
    usual = next((name for name in USUAL_FIELDS[role] if record.get(name) is not None), None)
    return usual, None if usual is None else record[usual]


def _read_name(record: dict[str, Any], role: str, options: ReadOptions) -> str | None:
    field, value = _look_up(record, role, options)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise LogError(f"field {field!r}: expected a string or an integer; got {type(value).__name__}")
    return str(value)


def _is_wanted(record: Any, options: ReadOptions) -> bool:
    return not options.where or not isinstance(record, dict) or matches_filter(record, options.where)


def _detect(sample: Sample) -> str | None:
    if sample.kind in ("parquet", "table"):
        return _detect_column(sample)
    is_list = sample.kind == "document" and are_messages(sample.records())
    if is_list and {"content", "parts"} & sample.records()[0].keys():
        return "it is a list of messages with roles"
    for record in sample.records():
        if are_messages(record):
            return "its records are lists of messages with roles"
        if isinstance(record, dict):
            if (name := find_messages(record)) is not None:
                return f"its field {name!r} is a list of messages with roles"
            if is_exchange(record):
                return "its records are requests of messages with their responses"
    return None


def _detect_column(sample: Sample) -> str | None:
    """Whether a table has a column of messages, which are its first row's."""
    name = next((name for name in MESSAGES if name in sample.values), None)
    if name is None and not {"prompt", "completion"} <= set(sample.values):
        return None
    try:
        row = next((row for _, row in read_rows(sample.path) if isinstance(row, dict)), {})
        if name is None:
            return "its rows are requests of messages with their responses" if is_exchange(row) else None
        messages = row.get(name)
        messages = decode_json(messages.encode()) if isinstance(messages, str) else messages
    except (LogError, UnicodeError):
        return None
    return f"its column {name!r} has lists of messages with roles" if are_messages(messages) else None


FORMAT = LogFormat(
    "openai_messages",
    "conversations as OpenAI messages, JSONL, JSON, Parquet or CSV; outcome by a field",
    read_lines=read_lines,
    read_row_groups=read_row_groups,
    read_file=read_file,
    roles=("task", "outcome", "episode", "messages"),
    detect=_detect,
    filters_records=True,
)
