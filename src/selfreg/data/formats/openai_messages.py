"""OpenAI messages: JSONL with one conversation a line, or JSON documents (a conversation, or a list of some)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from selfreg._util.extras import require_extra
from selfreg.data.documents import convert_value, decode_json, each_record, read_document
from selfreg.data.filters import MISSING, lookup_field, matches_filter
from selfreg.data.log_files import LogError
from selfreg.data.log_format import LogFormat, ReadOptions, Record
from selfreg.data.samples import Sample
from selfreg.data.trajectory import Trajectory
from selfreg.data.turns import Message, Turns, make_episode, read_success

with require_extra("logs", "selfreg.data"):
    pass

# Where a role is not mapped, the first of these fields that a record has.
USUAL_FIELDS = {
    "task": ("task_id", "task", "instance_id", "question_id", "query_id", "prompt_id", "problem_id"),
    "outcome": ("outcome", "success", "resolved", "correct", "passed", "reward", "score"),
    "episode": ("episode_id", "episode", "run_id", "conversation_id", "trace_id", "session_id"),
    "messages": ("messages", "conversation", "traj"),
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
    """Conversations of one JSON document."""
    try:
        document: Any = read_document(path)
        records = document if isinstance(document, list) else [document]
        if records and isinstance(records[0], dict) and "role" in records[0]:
            records = [{"messages": records}]
        if not records:
            raise LogError("expected a list of at least one conversation; got an empty list")
        yield from each_record(convert_record, [one for one in records if _is_wanted(one, options)], options)
    except LogError as error:
        yield 0, error


def convert_record(record: Any, options: ReadOptions, number: int) -> Trajectory:
    """A conversation as a trajectory; assistant messages are actions, and what was seen before them is the state."""
    if not isinstance(record, dict):
        raise LogError(f"expected an object with messages; got {type(record).__name__}")
    field, messages = _look_up(record, "messages", options)
    if field is None:
        raise LogError(f"field 'messages' is missing; the record has {', '.join(map(str, record)) or 'no field'}")
    try:
        turns = Turns()
        turns.add_messages(convert_value(messages, list[Message]))
    except LogError as error:
        raise LogError(f"field {field!r}: {error}") from None
    outcome_field, outcome = _look_up(record, "outcome", options)
    return make_episode(
        turns,
        _read_name(record, "task", options),
        _read_name(record, "episode", options) or f"{options.source}:{number}",
        read_success(outcome, outcome_field or "outcome", options),
        {name: value for name, value in record.items() if name != outcome_field},
        where=field,
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
    for record in sample.objects():
        for name in USUAL_FIELDS["messages"]:
            messages = record.get(name)
            if isinstance(messages, list) and messages and isinstance(messages[0], dict) and "role" in messages[0]:
                return f"its field {name!r} is a list of messages with roles"
        if (
            sample.kind == "document"
            and isinstance(sample.values[0], list)
            and "role" in record
            and "content" in record
        ):
            return "it is a list of messages with roles"
    return None


FORMAT = LogFormat(
    "openai_messages",
    "conversations as OpenAI messages, JSONL or JSON; outcome by a field",
    read_lines=read_lines,
    read_file=read_file,
    roles=("task", "outcome", "episode", "messages"),
    detect=_detect,
    filters_records=True,
)
