"""Messages one a line or row (JSONL, CSV, Parquet, SQLite): those of one conversation id are an episode."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from selfreg.data.documents import decode_json
from selfreg.data.faults import LogError
from selfreg.data.filters import matches_filter
from selfreg.data.formats import openai_messages
from selfreg.data.guesses import simplify_name
from selfreg.data.log_files import plain_name
from selfreg.data.log_format import LogFormat, ReadOptions, Record
from selfreg.data.orders import EPISODES, ORDERS, order_keys
from selfreg.data.rows import Row, read_rows
from selfreg.data.samples import Sample

# Fields of a message; those of OWN are none of its conversation.
PARTS = ("role", "content", "name", "tool_calls", "function_call", "tool_call_id", "model")
OWN = (*PARTS[:-1], "refusal", "id")


def _read(path: str, options: ReadOptions) -> Iterator[tuple[int, Record]]:
    groups: dict[Any, list[tuple[int, Row]]] = {}
    number = 0
    try:
        for number, row in read_rows(path):
            if isinstance(row, LogError):
                raise LogError(f"row {number}: {row}; which conversation would lack this message is not known")
            if not options.where or matches_filter(row, options.where):
                groups.setdefault(_find_group(row, number, options), []).append((number, row))
    except LogError as error:
        yield 0, error
        return
    if not number:
        yield 0, LogError("expected at least one message; got none")
    for name, rows in groups.items():
        try:
            yield rows[0][0], openai_messages.convert_record(_join(name, rows), _reading(options), rows[0][0])
        except LogError as error:
            yield (rows[0][0], error) if name is None else (0, error.at(f"episode {name!r}"))


def _find_group(row: Row, number: int, options: ReadOptions) -> str | None:
    """The conversation of a message; None where messages have none, so that all of the file are one."""
    field = options.roles.get("episode") or next(
        (name for name in _names_of_episode(tuple(row)) if row[name] is not None), None
    )
    if field is None:
        return None
    value = row.get(field)
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise LogError(f"row {number}: field {field!r}: expected a string or an integer, the name of a conversation")
    return str(value)


@cache
def _names_of_episode(columns: tuple[str, ...]) -> list[str]:
    """Columns that may name a conversation, in the order of preference; in any spelling."""
    return [one for name in EPISODES for one in columns if name in (one, simplify_name(one))]


def _join(name: str | None, rows: list[tuple[int, Row]]) -> dict[str, Any]:
    """The conversation of some messages, in their order, with the fields that are the same or in one of them only."""
    candidates = (order_keys([row.get(one) for _, row in rows]) for one in ORDERS)
    keys = next((one for one in candidates if one is not None), range(len(rows)))  # else in the order of the file
    ordered = [rows[i][1] for i in sorted(range(len(rows)), key=keys.__getitem__)]
    fields: dict[str, Any] = {}
    for field in dict.fromkeys(field for row in ordered for field in row if field not in OWN):
        values = [row[field] for row in ordered if row.get(field) is not None]
        if values and all(value == values[0] for value in values):
            fields[field] = values[0]
    known = {} if name is None else {"episode": name}
    return {**fields, **known, "messages": [_read_message(row) for row in ordered]}


def _read_message(row: Row) -> dict[str, Any]:
    message = {name: row[name] for name in PARTS if row.get(name) is not None}
    if isinstance(calls := message.get("tool_calls"), str):  # of a cell
        message["tool_calls"] = decode_json(calls.encode("utf-8", "surrogatepass"))
    return message


def _reading(options: ReadOptions) -> ReadOptions:
    """The options for the conversation: its episode is the group, and the filter is applied."""
    roles: Mapping[str, str] = {role: field for role, field in options.roles.items() if role != "episode"}
    return options._replace(roles=roles, where={}, source=plain_name(options.source))


def _detect(sample: Sample) -> str | None:
    if sample.kind in ("parquet", "table"):
        found = {"role", "content"} <= set(sample.values) and _names_of_episode(tuple(sample.values))
        return "its rows are messages with roles" if found else None
    if sample.kind != "lines":
        return None
    first = sample.objects()[:2]
    are_messages = [isinstance(one.get("role"), str) and ("content" in one or "tool_calls" in one) for one in first]
    return "its lines are messages with roles" if are_messages and all(are_messages) else None


FORMAT = LogFormat(
    "message_rows",
    "messages as OpenAI's, one a line or row; --map episode=FIELD is their conversation",
    read_file=_read,
    roles=("task", "outcome", "episode"),
    detect=_detect,
    filters_records=True,
)
