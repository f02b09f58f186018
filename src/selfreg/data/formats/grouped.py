"""Rows that are steps, grouped into episodes by a field: CSV, Parquet, SQLite, JSONL and JSON lists.

Chosen by `ReadOptions.group_by`; without it each row is an episode of one step.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from selfreg.data.faults import LogError
from selfreg.data.filters import MISSING, lookup_field, matches_filter
from selfreg.data.log_format import LogFormat, ReadOptions, Record
from selfreg.data.orders import order_keys
from selfreg.data.roles import JOIN, ROLES, convert_record
from selfreg.data.rows import Row, read_rows
from selfreg.data.translation import parse_number

# Roles of a step whose fields are not kept with the episode; and roles that are numbers, which are text in CSV.
TEXTS = ("observation", "action")
NUMBERS = ("outcome", "label", "cost")


def read_grouped(path: str, options: ReadOptions) -> Iterator[tuple[int, Record]]:
    """Episodes, numbered by their first rows. A row that cannot be read is a fault of its own.

    Faults name the row or the group: the number would be taken as that of an episode.
    """
    groups: dict[Any, list[tuple[int, Row]]] = {}
    number = 0
    for number, row in read_rows(path):
        try:
            if isinstance(row, LogError):
                raise row
            if matches_filter(row, options.where):
                name = _look_up(row, options.group_by) if options.group_by else number
                groups.setdefault(name, []).append((number, row))
        except LogError as error:
            yield 0, error.at(f"row {number}")
    if not number:
        raise LogError("expected at least one row; got none")
    for name, rows in groups.items():
        record = _convert(rows, str(name) if options.group_by else f"{options.source}:{name}", options)
        if options.group_by and isinstance(record, LogError):
            yield 0, record.at(f"episode {name!r}")
        else:
            yield rows[0][0], record


def _look_up(row: Row, field: str) -> str | int:
    value = lookup_field(row, field)
    if value is MISSING:
        raise LogError(f"field {field!r} is missing; there are {', '.join(map(str, row))}")
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise LogError(f"field {field!r}: expected a string or an integer, the name of an episode")
    return value


def _convert(rows: list[tuple[int, Row]], episode: str, options: ReadOptions) -> Record:
    try:
        ordered = _order(rows, options.order_by) if options.order_by else [row for _, row in rows]
        record = _join_rows([_read_numbers(row, options) for row in ordered], options)
        return convert_record(record, options, episode)
    except LogError as error:
        return error


def _join_rows(rows: list[Row], options: ReadOptions) -> Row:
    """A record of the rows as steps, with the fields that all share but for texts, and the outcome that one has."""
    texts = {part for role in TEXTS for part in options.roles.get(role, role).split(JOIN)}
    first = {name: value for name, value in rows[0].items() if name not in texts}
    shared = {name: value for name, value in first.items() if all(row.get(name, MISSING) == value for row in rows)}
    field = options.roles.get("outcome", "outcome")
    outcomes = [value for row in rows if (value := lookup_field(row, field)) is not MISSING and value is not None]
    if any(value != outcomes[0] for value in outcomes):
        raise LogError(f"field {field!r}: rows of one episode have different values")
    return {
        **shared,
        **({field: outcomes[0]} if field and outcomes else {}),
        options.roles.get("steps") or "steps": rows,
    }


def _order(rows: list[tuple[int, Row]], field: str) -> list[Row]:
    values = [lookup_field(row, field) for _, row in rows]
    if any(value is MISSING or value is None for value in values):
        raise LogError(f"field {field!r}, which orders the steps, is missing in a row")
    keys = order_keys(values)
    if keys is None:
        raise LogError(
            f"field {field!r}, which orders the steps: expected numbers, or dates and times such as "
            f"2026-01-31T09:00:00; got {str(values[0])[:60]!r}"
        )
    return [rows[i][1] for i in sorted(range(len(rows)), key=keys.__getitem__)]


def _read_numbers(row: Row, options: ReadOptions) -> Row:
    """A row with the texts of numbers as numbers, in the fields of roles that are numbers."""
    fields = [options.roles.get(role, role) for role in NUMBERS if role not in options.values]
    words: Mapping[str, Any] = {"true": True, "false": False, "": None}
    changed = {}
    for field in fields:
        if isinstance(value := row.get(field), str):
            number = _as_number(value)
            changed[field] = words.get(value.strip().lower(), value if number is None else number)
    return {**row, **changed}


def _as_number(value: Any) -> float | None:
    try:
        return None if isinstance(value, bool) else parse_number(value)
    except (TypeError, ValueError):
        return None


FORMAT = LogFormat(
    "rows",
    "rows that are steps, of CSV, Parquet, SQLite or JSONL, grouped by --group-by; roles by --map",
    read_file=read_grouped,
    roles=ROLES,
    translates=ROLES,
    filters_records=True,
)
