"""Filters on records: fields and their allowed values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from selfreg._util.extras import require_extra
from selfreg.data.log_files import LogError

with require_extra("logs", "selfreg.data"):
    import msgspec

MISSING = object()


def lookup_field(record: Mapping[str, Any], field: str) -> Any:
    """Value of a field, else of a dotted path; `MISSING` if there is neither."""
    if field in record:
        return record[field]
    value: Any = record
    for part in field.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return MISSING
        value = value[part]
    return value


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
