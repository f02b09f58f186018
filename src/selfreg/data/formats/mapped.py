"""Any JSONL: roles of the canonical trajectory are mapped to fields of the record."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from selfreg._util.extras import require_extra
from selfreg.data.filters import MISSING, lookup_field, matches_filter
from selfreg.data.log_files import LogError, describe_kind
from selfreg.data.log_format import LogFormat, ReadOptions
from selfreg.data.trajectory import NOHELP, Step, Trajectory

with require_extra("logs", "selfreg.data"):
    import msgspec

ROLES = (
    "task",
    "episode",
    "outcome",
    "intervention",
    "steps",
    "observation",
    "action",
    "truncated",
    "cost",
    "key",
    "label",
)
STEP_ROLES = ("observation", "action", "intervention", "cost", "key", "label")
# Many logs call something else a label: this role is read only if it is mapped, and steps may lack it.
ONLY_MAPPED = ("label",)
REQUIRED = ("task", "outcome", "steps", "observation")


def read_mapped_lines(
    numbered: Iterable[tuple[int, bytes]], options: ReadOptions
) -> Iterator[tuple[int, Trajectory | LogError]]:
    """Trajectories of numbered lines, or their faults without a place; `options.where` filters the records."""
    for number, line in numbered:
        try:
            record = msgspec.json.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            yield number, LogError(f"not JSON: {error}")
            continue
        try:
            if not isinstance(record, dict):
                raise LogError(f"expected a JSON object; got {describe_kind(record)}")
            if matches_filter(record, options.where):
                yield number, convert_record(record, options.roles, f"{options.source}:{number}")
        except LogError as error:
            yield number, error


FORMAT = LogFormat(
    "jsonl",
    "any JSONL, with roles mapped to its fields",
    read_lines=read_mapped_lines,
    roles=ROLES,
    filters_records=True,
)


def convert_record(record: Mapping[str, Any], roles: Mapping[str, str], default_episode: str) -> Trajectory:
    """Convert a record to a trajectory; LogError names the field and what was expected."""
    view = _RoleView(record, roles)
    steps = view.get("steps")
    if not isinstance(steps, list) or not steps:
        raise LogError(
            f"field {view.field('steps')!r}: expected a list of at least one step; got {describe_kind(steps)}"
        )
    truncated = view.get("truncated", False)
    if not isinstance(truncated, bool) and truncated not in (0, 1):
        raise LogError(f"field {view.field('truncated')!r}: expected true or false; got {truncated!r}")
    episode = view.get("episode")
    try:
        return Trajectory(
            task=_read_text(view.field("task"), view.get("task")),
            episode=default_episode if episode is None else _read_text(view.field("episode"), episode),
            outcome=_read_rate(view.field("outcome"), view.get("outcome")),
            steps=tuple(view.step(step, i) for i, step in enumerate(steps)),
            truncated=bool(truncated),
            fields={k: v for k, v in record.items() if k != view.field("outcome") and not isinstance(v, (dict, list))},
        )
    except LogError:
        raise
    except ValueError as error:
        raise LogError(str(error)) from None


class _RoleView:
    """A record with its fields by role."""

    def __init__(self, record: Mapping[str, Any], roles: Mapping[str, str]) -> None:
        self.record, self.roles = record, roles

    def field(self, role: str) -> str:
        return self.roles.get(role, role)

    def get(self, role: str, default: Any = None, step: Mapping[str, Any] | None = None) -> Any:
        """Value of the role; `default` if it is missing, not required and not mapped."""
        if role in ONLY_MAPPED and role not in self.roles:
            return default
        field = self.field(role)
        value = MISSING if step is None else lookup_field(step, field)
        if value is MISSING and (step is None or role in self.roles):
            value = lookup_field(self.record, field)
        if value is not MISSING:
            return value
        if (role in self.roles and role not in ONLY_MAPPED) or role in REQUIRED:
            raise LogError(f"field {field!r} is missing (role {role!r})")
        return default

    def step(self, step: Any, index: int) -> Step:
        try:
            if not isinstance(step, Mapping):
                raise LogError(f"expected an object; got {describe_kind(step)}")
            values = {role: self.get(role, None, step) for role in STEP_ROLES}
            return Step(
                state=_read_prose(values["observation"]),
                action=None if values["action"] is None else _read_prose(values["action"]),
                key=None if values["key"] is None else _read_text(self.field("key"), values["key"]),
                intervention=_read_intervention(self.field("intervention"), values["intervention"]),
                cost=_read_cost(self.field("cost"), values["cost"]),
                label=_read_rate(self.field("label"), values["label"]),
            )
        except LogError as error:
            raise LogError(f"step {index}: {error}") from None


def _read_text(field: str, value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise LogError(f"field {field!r}: expected a string or an integer; got {describe_kind(value)}")
    return str(value)


def _read_prose(value: Any) -> str:
    """A string as it is, null as an empty one, anything else as compact JSON."""
    if value is None:
        return ""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _read_rate(field: str, value: Any) -> float | None:
    if value is None:
        return None
    if not isinstance(value, (bool, int, float)):
        raise LogError(f"field {field!r}: expected a number in [0, 1] or a boolean; got {describe_kind(value)}")
    if not 0 <= value <= 1:
        raise LogError(f"field {field!r}: expected a number in [0, 1]; got {value}")
    return float(value)


def _read_intervention(field: str, value: Any) -> str | None:
    if value is None or value is False or value in ("", NOHELP):
        return None
    if value is True:
        return "help"
    if not isinstance(value, str):
        raise LogError(
            f"field {field!r}: expected the name of a help type, a boolean or null; got {describe_kind(value)}"
        )
    return value


def _read_cost(field: str, value: Any) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != int(value) or value < 0:
        raise LogError(f"field {field!r}: expected an integer >= 0; got {value!r}")
    return int(value)
