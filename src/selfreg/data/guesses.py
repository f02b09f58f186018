"""What fields of unknown records may mean, by their names and values: proposals that a person can correct."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from selfreg.data.filters import MISSING, lookup_field

# Names that people give to the fields of a role, in the order of preference.
# fmt: off
NAMES = {
    "task": (
        "task", "task_id", "task_name", "ticket_id", "ticket", "case_id", "issue_id", "instance_id", "question_id",
        "query_id", "prompt_id", "sample_id", "problem_id", "ticket_number", "ticket_no", "case_number", "global_index",
        "id",
    ),
    "outcome": (
        "outcome", "success", "solved", "resolved", "won", "passed", "correct", "is_correct", "reward", "score",
    ),
    "observation": (
        "observation", "obs", "state", "saw", "seen", "input", "prompt", "question", "query", "context", "text",
        "customer", "customer_message", "user_message", "user", "message", "said", "body",
    ),
    "action": (
        "action", "act", "output", "response", "completion", "answer", "reply", "assistant", "thought", "did",
        "decision", "command",
    ),
    "intervention": (
        "intervention", "helper", "help", "helped_by", "help_type", "escalated_to", "escalation", "expert",
        "human",
    ),
    "model": ("model", "model_name", "actor", "agent", "llm", "agent_model", "llm_model", "llm_selected"),
    "tools": ("tools", "tool", "tool_name", "tool_names"),
    "label": ("label", "judgement", "rating"),
}
# fmt: on
# Names of fields of a step that say whether it was helped; of a whole episode they do not say which steps were.
STEP_HELP = (
    "human_override",
    "overridden",
    "human_intervention",
    "intervened",
    "takeover",
    "escalated",
    "asked_human",
    "help_requested",
    "requested_help",
)  # fmt: skip
# Fields of a step that say what it is, and are no texts that an agent sees.
KINDS = ("role", "type", "kind", "from", "id", "status", "name", "source", "event")
# Fields of a step that hold its calls of tools.
CALLS = ("tool_calls", "calls", "function_calls", "tool_uses")
# Names of tools and fields that hint at help.
HELP_NAME = re.compile(
    r"human|person|reviewer|supervisor|escalat|hand_?off|transfer_to|ask_(user|expert|help)|advisor|approv",
    re.IGNORECASE,
)
# Names of parts of a system that are help.
HELP_ROLE = re.compile(r"human|person|help|expert|supervisor|operator|advisor|oracle|teacher", re.IGNORECASE)
FEW, MANY = 2, 100
# Fields of an object that name it.
OWN_NAMES = ("id", "slug", "name", "key")
_WORD_END = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def simplify_name(name: str) -> str:
    """A name in small letters with underscores, as `Ticket Number`, `ticketNumber` and `Ticket-Number?` have it.

    Examples
    --------
    >>> from selfreg.data.guesses import simplify_name
    >>> simplify_name("Ticket Number"), simplify_name("ticketId"), simplify_name("Resolved?")
    ('ticket_number', 'ticket_id', 'resolved')
    """
    return re.sub(r"\W+", "_", _WORD_END.sub("_", str(name))).strip("_").lower()


def find_name(there: Iterable[str], names: Sequence[str]) -> str | None:
    """The first of some names that is there: as it is, else in another spelling."""
    columns = list(there)
    if (exact := next((name for name in names if name in columns), None)) is not None:
        return exact
    simple: dict[str, str] = {}
    for column in columns:
        simple.setdefault(simplify_name(column), column)
    return next((simple[name] for name in names if name in simple), None)


def guess_roles(records: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Fields of JSON records for roles; roles without a likely field are not in it.

    Without a field of steps, a record may be one step itself. Outcomes are those that are in [0, 1] as they are.
    """
    fields = {name: _values(records, name) for name in flatten_names(records)}
    steps_field = _find_steps(records, fields)
    in_steps = fields if steps_field is None else _fields_in(_values(records, steps_field))
    roles = {} if steps_field is None else {"steps": steps_field}
    found = {role: _find(fields, role) for role in ("task", "outcome")}
    found |= {role: _find(in_steps, role) for role in ("observation", "action")}
    found["intervention"] = _find(in_steps, "intervention")
    if found["intervention"] is None and steps_field is not None:
        found["intervention"] = _find(in_steps, "intervention", STEP_HELP)
    found["intervention"] = found["intervention"] or _find(fields, "intervention")
    found |= {role: _find(in_steps, role) for role in ("model", "tools")}
    found["tools"] = found["tools"] or _find_tools(in_steps)
    for role in ("observation", "action"):
        steps = records if steps_field is None else [one for some in _values(records, steps_field) for one in some]
        found[role] = found[role] or _find_objects(steps, NAMES[role])
    others = (*KINDS, found["intervention"])
    texts = {name: values for name, values in in_steps.items() if _are_texts(values) and name not in others}
    if found["observation"] is None and steps_field is not None and texts:
        found["observation"] = max(texts, key=lambda name: sum(len(text) for text in texts[name] if text))
    return roles | {role: name for role, name in found.items() if name is not None and name != _UNMAPPED.get(role)}


def longest_text(rows: Sequence[Mapping[str, Any]], group: str) -> str | None:
    """The field of rows that are steps with the longest texts, which differ within a group."""
    fields = {name: _values(rows, name) for name in _names(rows) if name != group and name not in KINDS}
    texts = {name: values for name, values in fields.items() if _are_texts(values) and len(set(values)) >= FEW}
    groups = {row.get(group) for row in rows}
    differ = [name for name in texts if len({(str(row.get(group)), row.get(name)) for row in rows}) > len(groups)]
    return max(differ, key=lambda name: sum(len(text) for text in texts[name] if text), default=None)


def find_step_help(rows: Sequence[Mapping[str, Any]]) -> str | None:
    """The field of rows that are steps which says whether a step was helped."""
    return _find({name: _values(rows, name) for name in _names(rows)}, "intervention", STEP_HELP)


def _find_objects(records: Sequence[Mapping[str, Any]], names: Sequence[str]) -> str | None:
    """The first of these fields that holds an object in every record."""
    held = [name for name in names if records and all(isinstance(one.get(name), Mapping) for one in records)]
    return held[0] if held else None


def _find_tools(fields: Mapping[str, Sequence[Any]]) -> str | None:
    """The path to the names of the tools in a field of calls."""
    for name in CALLS:
        calls = [call for value in fields.get(name, ()) if isinstance(value, list) for call in value]
        for path in ("function.name", "name", "tool"):
            if calls and all(isinstance(c, dict) and isinstance(lookup_field(c, path), str) for c in calls):
                return f"{name}[].{path}"
    return None


def _find_steps(records: Sequence[Mapping[str, Any]], fields: Mapping[str, Sequence[Any]]) -> str | None:
    """The longest list of objects; lists without an observation are none where the record has one itself."""
    lists = {name: values for name in _names(records) if _are_steps(values := _values(records, name))}
    if _find(fields, "observation") is not None:
        lists = {name: values for name, values in lists.items() if _find(_fields_in(values), "observation") is not None}
    return max(lists, key=lambda name: _mean_length(lists[name]), default=None)


def _fields_in(lists: Sequence[Sequence[Mapping[str, Any]]]) -> dict[str, list[Any]]:
    """Values by field of the objects in some lists."""
    steps = [step for some in lists for step in some]
    return {name: _values(steps, name) for name in _names(steps)}


# Roles that are found by these names without being mapped.
_UNMAPPED = {"model": "model", "tools": "tools"}


def flatten_names(records: Iterable[Mapping[str, Any]], levels: int = 3) -> list[str]:
    """Names of fields, and dotted paths of fields of objects, in the order in which they come."""
    names: dict[str, None] = {}

    def add(record: Mapping[str, Any], prefix: str, level: int) -> None:
        for name, value in record.items():
            if isinstance(value, Mapping) and level:
                add(value, f"{prefix}{name}.", level - 1)
            else:
                names[f"{prefix}{name}"] = None

    for record in records:
        add(record, "", levels - 1)
    return list(names)


def _names(records: Iterable[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for record in records for name in record))


def _values(records: Iterable[Mapping[str, Any]], name: str) -> list[Any]:
    return [value for record in records if (value := lookup_field(record, name)) is not MISSING]


def _are_steps(values: Sequence[Any]) -> bool:
    return bool(values) and all(isinstance(v, list) and all(isinstance(one, dict) for one in v) for v in values)


def _mean_length(values: Sequence[Any]) -> float:
    return sum(map(len, values)) / len(values)


def _are_texts(values: Sequence[Any]) -> bool:
    return any(isinstance(v, str) for v in values) and all(v is None or isinstance(v, str) for v in values)


def _find(fields: Mapping[str, Sequence[Any]], role: str, names: Sequence[str] = ()) -> str | None:
    """The field of a role: by its name and the kind of its values."""
    by_last: dict[str, list[str]] = {}
    for name in fields:
        above, _, last = name.rpartition(".")
        by_last.setdefault(last, []).append(name)
        if last in OWN_NAMES and above:  # the name of an object, such as `task.slug`
            by_last.setdefault(above.rpartition(".")[2], []).append(name)
    for name in fields:
        by_last.setdefault(simplify_name(name.rpartition(".")[2]), []).append(name)
    found = [name for one in names or NAMES[role] for name in by_last.get(one, ()) if FITS[role](fields[name])]
    if role == "outcome":  # one that is the same in every record may say that there is an answer at all
        found.sort(key=lambda name: len({value for value in fields[name] if value is not None}) < FEW)
    return next(iter(found), None)


def _is_rate(values: Sequence[Any]) -> bool:
    known = [value for value in values if value is not None]
    return bool(known) and all(isinstance(v, (bool, int, float)) and 0 <= v <= 1 for v in known)


def _are_tools(values: Sequence[Any]) -> bool:
    names = (one for value in values for one in (value if isinstance(value, list) else [value]))
    return all(name is None or isinstance(name, str) for name in names)


def _are_ids(values: Sequence[Any]) -> bool:
    return all(isinstance(v, (str, int)) and not isinstance(v, bool) for v in values)


def _is_help(values: Sequence[Any]) -> bool:
    """Names of a few help types, or yes and no."""
    return all(v is None or isinstance(v, (str, bool)) for v in values) and len(set(values)) <= MANY


FITS = {
    "task": _are_ids,
    "outcome": _is_rate,
    "observation": _are_texts,
    "action": _are_texts,
    "intervention": _is_help,
    "model": _are_ids,
    "tools": _are_tools,
    "label": _is_rate,
}


def choose_agent(fields: Mapping[str, Mapping[Any, int]]) -> tuple[str, str] | None:
    """A field that names the agents of the episodes, if there are several, and the one with most episodes."""
    for name in dict.fromkeys([*NAMES["model"], *(one for one in fields if simplify_name(one) in NAMES["model"])]):
        values = fields.get(name, {})
        agents = [value for value in values if isinstance(value, str)]
        if FEW <= len(agents) <= MANY:
            return name, max(agents, key=lambda agent: values[agent])
    return None


def choose_state(fields: Mapping[str, Mapping[Any, int]], tasks: int) -> str | None:
    """A free field that can be a part of the state: a text with a few values, such as a domain."""
    names = [name for name in fields if re.search(r"domain|dataset|category|topic|kind|tier|type", name, re.IGNORECASE)]
    for name in names:
        values = [value for value in fields[name] if value is not None]
        if FEW <= len(values) <= max(FEW, min(MANY, tasks // 2)) and all(isinstance(value, str) for value in values):
            return name
    return None
