"""Records of any layout as trajectories: roles, mapped to fields, say what is what."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from selfreg._util.extras import require_extra
from selfreg.data.faults import LogError
from selfreg.data.filters import MISSING, lookup_field
from selfreg.data.log_files import describe_kind
from selfreg.data.log_format import ReadOptions
from selfreg.data.trajectory import MOST_COST, SOME_HELP, LoggedStep, Trajectory, name_help
from selfreg.data.translation import parse_rule

with require_extra("logs", "selfreg.data"):
    import msgspec

ROLES = (
    "task",
    "episode",
    "outcome",
    "intervention",
    "steps",
    "prompt",
    "observation",
    "action",
    "truncated",
    "cost",
    "key",
    "label",
    "model",
    "tools",
    "role",
    "decision",
)
# Read only if they are mapped: many logs call something else by these names.
ONLY_MAPPED = ("label", "prompt")
# Where one of these is not mapped and its field holds something else, the role is left out.
LENIENT = ("cost", "key", "model", "tools", "role", "decision")
# Roles that a step may lack though they are mapped.
OPTIONAL = ("intervention", "label", "model", "tools", "role", "decision")
REQUIRED = ("task", "outcome", "steps", "observation")
# Between fields whose texts are one role: `--map observation=thought+result`.
JOIN = "+"
# Characters of a value that a message shows.
MOST_SHOWN = 40


class RoleView:
    """A record with its fields by role."""

    def __init__(self, record: Mapping[str, Any], options: ReadOptions) -> None:
        self.record, self.roles = record, options.roles
        self._rules = options.values
        self._outcomes, self._group = options.outcomes, options.group_by

    def field(self, role: str) -> str:
        return self.roles.get(role, role)

    def is_off(self, role: str) -> bool:
        """Whether the user switched the role off (`--map cost=`)."""
        return self.roles.get(role) == ""

    def get(self, role: str, default: Any = None, step: Mapping[str, Any] | None = None) -> Any:
        """Value of the role, translated; `default` if it is off, or missing, not required and not mapped."""
        if self.is_off(role) or (role in ONLY_MAPPED and role not in self.roles):
            return default
        value = MISSING if step is None else _lookup(step, self.field(role))
        if value is MISSING and (step is None or role in self.roles):
            value = _lookup(self.record, self.field(role))
        if value is not MISSING:
            return self._translate(role, value)
        required = role in REQUIRED and not (role == "outcome" and self._outcomes is not None)
        if (role in self.roles and role not in OPTIONAL) or required:
            likely = self._group if role == "task" and self._group else "FIELD"
            how = "" if role in self.roles else f": --map {shlex.quote(f'{role}={likely}')}"
            raise LogError(f"field {self.field(role)!r} is missing (role {role!r}){how}")
        return default

    def _translate(self, role: str, value: Any) -> Any:
        if role not in self._rules:
            return value
        try:
            return _parse_rule(self._rules[role]).translate(value)
        except LogError as error:
            raise LogError(f"field {self.field(role)!r}: {error} (--value {role})") from None

    def read(self, role: str, step: Mapping[str, Any]) -> Any:
        """Value of a role of a step, of the type that the role has; null where a lenient one is something else."""
        value = self.get(role, None, step)
        if value is None:
            return None
        try:
            return _READERS[role](self.field(role), value)
        except LogError:
            if role in LENIENT and role not in self.roles:
                return None
            raise


def convert_record(record: Mapping[str, Any], options: ReadOptions, default_episode: str) -> Trajectory:
    """Convert a record to a trajectory; LogError names the field and what was expected."""
    view = RoleView(record, options)
    outcome = _read_outcome(view, options)
    try:
        return _convert(view, options, default_episode, outcome)
    except ValueError as error:
        fault = error if isinstance(error, LogError) else LogError(str(error))
        fault.outcome = outcome
        raise fault from None


def _read_outcome(view: RoleView, options: ReadOptions) -> float | None:
    """The outcome in the record; what is none there is no fault where outcomes come from elsewhere."""
    try:
        outcome = view.get("outcome")
        return None if outcome is None else _read_rate(view.field("outcome"), outcome)
    except LogError:
        if options.outcomes is None:
            raise
        return None


def _convert(view: RoleView, options: ReadOptions, default_episode: str, outcome: float | None) -> Trajectory:
    steps, is_step = _find_steps(view)
    truncated = view.get("truncated", False)
    if not isinstance(truncated, bool) and truncated not in (0, 1):
        raise LogError(f"field {view.field('truncated')!r}: expected true or false; got {truncated!r}")
    episode = view.get("episode")
    episode = default_episode if episode is None else _read_name(view.field("episode"), episode)
    task = view.get("task")
    return Trajectory(
        task=episode if view.is_off("task") else _read_name(view.field("task"), task),
        episode=episode,
        outcome=outcome,
        steps=_convert_steps(view, steps, options.shift_observation),
        truncated=bool(truncated) or (outcome is None and _may_lack_outcome(view, options)),
        fields=_free_fields(view, is_step),
    )


def _find_steps(view: RoleView) -> tuple[Sequence[Any], bool]:
    """Steps of a record, and whether it is one step itself."""
    alone = view.is_off("steps") or ("steps" not in view.roles and "steps" not in view.record)
    if alone and (view.is_off("steps") or _lookup(view.record, view.field("observation")) is not MISSING):
        return [view.record], True
    steps = view.get("steps")
    if not isinstance(steps, list) or not steps:
        raise LogError(
            f"field {view.field('steps')!r}: expected a list of at least one step; got {describe_kind(steps)}"
        )
    return steps, False


def _may_lack_outcome(view: RoleView, options: ReadOptions) -> bool:
    return view.is_off("outcome") or options.outcomes is not None


def _convert_steps(view: RoleView, steps: Sequence[Any], shift: bool) -> tuple[LoggedStep, ...]:
    converted = [_convert_step(view, step, i) for i, step in enumerate(steps)]
    if shift:  # what a record saw followed its action: it is the state of the next step
        states = ["", *(step.state for step in converted[:-1])]
        pairs = zip(converted, states, strict=True)
        converted = [msgspec.structs.replace(step, state=state) for step, state in pairs]
    if (prompt := view.get("prompt")) is not None:
        text = "\n".join(part for part in (read_prose("", prompt), converted[0].state) if part)
        converted[0] = msgspec.structs.replace(converted[0], state=text)
    return tuple(converted)


def _convert_step(view: RoleView, step: Any, index: int) -> LoggedStep:
    try:
        if not isinstance(step, Mapping):
            raise LogError(f"expected an object; got {describe_kind(step)}")
        return LoggedStep(
            state=view.read("observation", step) or "",
            **{role: view.read(role, step) for role in ("action", "key", "intervention", "cost", "label")},
            **{role: view.read(role, step) for role in ("model", "role", "decision")},
            tools=view.read("tools", step) or (),
        )
    except LogError as error:
        raise error.at(f"step {index}") from None


def _free_fields(view: RoleView, is_step: bool) -> dict[str, Any]:
    """Scalar fields of the record but for its outcome, and for the texts of its step if it is one itself."""
    roles = ("outcome", "observation", "action", "prompt") if is_step else ("outcome",)
    left_out = {part for role in roles for part in view.field(role).split(JOIN)}
    return {
        name: value
        for name, value in view.record.items()
        if name not in left_out and not isinstance(value, (dict, list))
    }


def _lookup(record: Mapping[str, Any], field: str) -> Any:
    """A field; or the texts of several that are joined by `+`, of which one must be there."""
    value = lookup_field(record, field)
    if value is not MISSING or JOIN not in field:
        return value
    found = [lookup_field(record, part) for part in field.split(JOIN)]
    texts = [read_prose(field, part) for part in found if part is not MISSING and part is not None]
    return MISSING if all(part is MISSING for part in found) else "\n".join(text for text in texts if text)


_parse_rule = lru_cache(maxsize=64)(parse_rule)


# ---- values of roles ------------------------------------------------------------------------------------------------


def _read_name(field: str, value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise LogError(f"field {field!r}: expected a string or an integer; got {describe_kind(value)}")
    return str(value)


def _read_text(field: str, value: Any) -> str:
    if not isinstance(value, str):
        raise LogError(f"field {field!r}: expected a string; got {describe_kind(value)}")
    return value


def read_prose(field: str, value: Any) -> str:
    """A string as it is, null as an empty one, strings of a list a line each, anything else as compact JSON."""
    if value is None:
        return ""
    if isinstance(value, list) and value and all(isinstance(one, str) for one in value):
        return "\n".join(value)
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _read_rate(field: str, value: Any) -> float:
    if not isinstance(value, (bool, int, float)):
        text = f" ({value[:MOST_SHOWN]!r}; --value says what values mean)" if isinstance(value, str) else ""
        raise LogError(f"field {field!r}: expected a number in [0, 1] or a boolean; got {describe_kind(value)}{text}")
    if not 0 <= value <= 1:
        raise LogError(f"field {field!r}: expected a number in [0, 1]; got {value}")
    return float(value)


def _read_intervention(field: str, value: Any) -> str | None:
    if isinstance(value, (bool, int, float)) and value in (0, 1):
        return SOME_HELP if value else None
    if not isinstance(value, str):
        raise LogError(
            f"field {field!r}: expected the name of a help type, a boolean or null; got {describe_kind(value)}"
        )
    return name_help(value)


def _read_cost(field: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != int(value) or value < 0:
        raise LogError(f"field {field!r}: expected an integer >= 0; got {value!r}")
    if value > MOST_COST:
        raise LogError(f"field {field!r}: expected an integer up to {MOST_COST}; got {value!r}")
    return int(value)


def _read_tools(field: str, value: Any) -> tuple[str, ...]:
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise LogError(f"field {field!r}: expected the name of a tool or a list of names; got {describe_kind(value)}")
    return tuple(names)


def _read_decision(field: str, value: Any) -> str:
    if isinstance(value, bool):
        return "approved" if value else "rejected"
    return _read_text(field, value)


_READERS: Mapping[str, Any] = {
    "observation": read_prose,
    "action": read_prose,
    "key": _read_name,
    "intervention": _read_intervention,
    "cost": _read_cost,
    "label": _read_rate,
    "model": _read_text,
    "tools": _read_tools,
    "role": _read_text,
    "decision": _read_decision,
}
