"""Fields of records by path, and filters on records: fields and their allowed values."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from selfreg._util.extras import require_extra
from selfreg.data.faults import LogError

with require_extra("logs", "selfreg.data"):
    import msgspec

MISSING = object()

_PART = re.compile(r"\[(-?\d*)\]|([^.\[\]]+)")


def lookup_field(record: Mapping[str, Any], field: str) -> Any:
    """Value of a field, else of a path; `MISSING` if there is neither.

    `a.b` is a field of a field, `a[0].b` one of the first element of a list (`a.0.b` too), `a[-1]` the last element,
    and `a[].b` the list of the `b` of all elements that have one.
    """
    if field in record:
        return record[field]
    return _follow(record, _parse_path(field))


@lru_cache(maxsize=256)
def _parse_path(field: str) -> tuple[str | int | None, ...]:
    """Names, indices, and None for all elements of a list."""
    parts: list[str | int | None] = []
    for match in _PART.finditer(field):
        index, name = match.groups()
        parts.append(name if index is None else int(index) if index not in ("", "-") else None)
    return tuple(parts)


def _follow(value: Any, parts: Sequence[str | int | None]) -> Any:
    for i, part in enumerate(parts):
        if part is None:
            if not isinstance(value, (list, tuple)):
                return MISSING
            found = [_follow(one, parts[i + 1 :]) for one in value]
            return [one for one in found if one is not MISSING]
        if isinstance(value, Mapping) and part in value:
            value = value[part]
        elif isinstance(value, (list, tuple)) and (index := _read_index(part)) is not None:
            if not -len(value) <= index < len(value):
                return MISSING
            value = value[index]
        else:
            return MISSING
    return value if parts else MISSING


def _read_index(part: str | int) -> int | None:
    if isinstance(part, int):
        return part
    return int(part) if part.isascii() and part.isdigit() else None


def matches_filter(record: Mapping[str, Any], where: Mapping[str, Sequence[str]]) -> bool:
    """Whether each field of `where` has one of its values in the record (`null`, `true`, `false` as in JSON)."""
    for field, values in where.items():
        value = lookup_field(record, field)
        if value is MISSING:
            raise LogError(f"field {field!r} is missing; a filter names it")
        shown = value if isinstance(value, str) else msgspec.json.encode(value).decode()
        if shown not in values:
            return False
    return True


def trajectory_matches(trajectory: Any, where: Mapping[str, Sequence[str]]) -> bool:
    """The same for a trajectory; `where` names free fields, `task` or `episode`."""
    fields = {**trajectory.fields, "task": trajectory.task, "episode": trajectory.episode}
    return matches_filter(fields, where)
