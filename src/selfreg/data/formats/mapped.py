"""Reader for any JSONL: roles of the canonical trajectory are mapped to fields of the record."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from selfreg._util.extras import require_extra
from selfreg.data.formats.canonical import LogError, lines
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
# Many logs call something else a label: this role is looked for only where it is mapped, and steps may lack it.
ONLY_MAPPED = ("label",)
REQUIRED = ("task", "outcome", "steps", "observation")
_MISSING = object()


def check_roles(roles: Mapping[str, str]) -> None:
    """Raise ValueError for a role that does not exist."""
    for role in roles:
        if role not in ROLES:
            raise ValueError(f"role {role!r} is not known; choose from {', '.join(ROLES)}")


def read_mapped(
    path: str | os.PathLike[str],
    roles: Mapping[str, str],
    where: Mapping[str, Sequence[str]],
) -> Iterator[tuple[int, Trajectory | LogError]]:
    """Records of a JSONL file as trajectories.

    Parameters
    ----------
    path : path
        One JSON object a line; packed by name.
    roles : mapping of role to field
        Fields may be dotted paths (`info.task`). The roles of a step (observation, action, intervention, cost, key,
        label) are looked for in the step first, then in the episode, where they hold for each of its steps. A role that
        is not mapped is looked for under its own name, a step's only in the step; `label` only where it is mapped.
    where : mapping of field to values
        Records kept: each field has one of its values.

    Yields
    ------
    line number, Trajectory or LogError
        Records that `where` leaves out are not yielded.
    """
    for number, record in read_mapped_lines(lines(path), os.path.basename(path), roles, where):
        yield number, LogError(f"{path}:{number}: {record}") if isinstance(record, LogError) else record


def read_mapped_lines(
    numbered: Iterable[tuple[int, bytes]],
    name: str,
    roles: Mapping[str, str],
    where: Mapping[str, Sequence[str]],
) -> Iterator[tuple[int, Trajectory | LogError]]:
    """The same for lines; faults without their place. Episodes without a name are called `name`:number."""
    for number, line in numbered:
        try:
            record = msgspec.json.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            yield number, LogError(f"not JSON: {error}")
            continue
        try:
            if not isinstance(record, dict):
                raise LogError(f"a record must be a JSON object; got {kind(record)}")
            if keeps(record, where):
                yield number, trajectory(record, roles, f"{name}:{number}")
        except LogError as error:
            yield number, error


def keeps(record: Mapping[str, Any], where: Mapping[str, Sequence[str]]) -> bool:
    """Whether each field of `where` has one of its values in the record (`null`, `true`, `false` as in JSON)."""
    for field, values in where.items():
        value = lookup(record, field)
        if value is _MISSING:
            raise LogError(f"field {field!r} is missing; a filter names it")
        shown = value if isinstance(value, str) else msgspec.json.encode(value).decode()
        if shown not in values:
            return False
    return True


def trajectory(record: Mapping[str, Any], roles: Mapping[str, str], default_episode: str) -> Trajectory:
    """One record as a trajectory; raises LogError with the field and what was expected."""
    view = _View(record, roles)
    steps = view.get("steps")
    if not isinstance(steps, list) or not steps:
        raise LogError(f"field {view.field('steps')!r}: expected a list of at least one step; got {kind(steps)}")
    truncated = view.get("truncated", False)
    if not isinstance(truncated, bool) and truncated not in (0, 1):
        raise LogError(f"field {view.field('truncated')!r}: expected true or false; got {truncated!r}")
    episode = view.get("episode")
    try:
        return Trajectory(
            task=_text(view.field("task"), view.get("task")),
            episode=default_episode if episode is None else _text(view.field("episode"), episode),
            outcome=_rate(view.field("outcome"), view.get("outcome")),
            steps=tuple(view.step(step, i) for i, step in enumerate(steps)),
            truncated=bool(truncated),
            fields={k: v for k, v in record.items() if k != view.field("outcome") and not isinstance(v, (dict, list))},
        )
    except LogError:
        raise
    except ValueError as error:
        raise LogError(str(error)) from None


class _View:
    """A record seen through a mapping of roles."""

    def __init__(self, record: Mapping[str, Any], roles: Mapping[str, str]) -> None:
        self.record, self.roles = record, roles

    def field(self, role: str) -> str:
        return self.roles.get(role, role)

    def get(self, role: str, default: Any = None, step: Mapping[str, Any] | None = None) -> Any:
        """Value of the role; `default` where it is neither required nor mapped and not there."""
        if role in ONLY_MAPPED and role not in self.roles:
            return default
        field = self.field(role)
        value = _MISSING if step is None else lookup(step, field)
        if value is _MISSING and (step is None or role in self.roles):
            value = lookup(self.record, field)
        if value is not _MISSING:
            return value
        if (role in self.roles and role not in ONLY_MAPPED) or role in REQUIRED:
            raise LogError(f"field {field!r} is missing (role {role!r})")
        return default

    def step(self, step: Any, index: int) -> Step:
        try:
            if not isinstance(step, Mapping):
                raise LogError(f"expected an object; got {kind(step)}")
            values = {role: self.get(role, None, step) for role in STEP_ROLES}
            return Step(
                state=_prose(values["observation"]),
                action=None if values["action"] is None else _prose(values["action"]),
                key=None if values["key"] is None else _text(self.field("key"), values["key"]),
                intervention=_intervention(self.field("intervention"), values["intervention"]),
                cost=_cost(self.field("cost"), values["cost"]),
                label=_rate(self.field("label"), values["label"]),
            )
        except LogError as error:
            raise LogError(f"step {index}: {error}") from None


def lookup(record: Mapping[str, Any], field: str) -> Any:
    """Value of a field, or of a dotted path where there is no field of that very name; `_MISSING` where neither."""
    if field in record:
        return record[field]
    value: Any = record
    for part in field.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return _MISSING
        value = value[part]
    return value


def kind(value: Any) -> str:
    """What a JSON value is, in JSON's words, for messages."""
    names = {dict: "an object", list: "an empty list" if value == [] else "a list", str: "a string", bool: "a boolean"}
    return "null" if value is None else names.get(type(value), "a number")


def _text(field: str, value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise LogError(f"field {field!r}: expected a string or an integer; got {kind(value)}")
    return str(value)


def _prose(value: Any) -> str:
    """A string as it is, null as an empty one, anything else as compact JSON."""
    if value is None:
        return ""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _rate(field: str, value: Any) -> float | None:
    if value is None:
        return None
    if not isinstance(value, (bool, int, float)):
        raise LogError(f"field {field!r}: expected a number in [0, 1] or a boolean; got {kind(value)}")
    if not 0 <= value <= 1:
        raise LogError(f"field {field!r}: expected a number in [0, 1]; got {value}")
    return float(value)


def _intervention(field: str, value: Any) -> str | None:
    if value is None or value is False or value in ("", NOHELP):
        return None
    if value is True:
        return "help"
    if not isinstance(value, str):
        raise LogError(f"field {field!r}: expected the name of a help type, a boolean or null; got {kind(value)}")
    return value


def _cost(field: str, value: Any) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != int(value) or value < 0:
        raise LogError(f"field {field!r}: expected an integer >= 0; got {value!r}")
    return int(value)
