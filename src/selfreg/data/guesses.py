"""What fields of unknown records may mean, by their names and values: proposals that a person can correct."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

# Names that people give to the fields of a role, in the order of preference.
NAMES = {
    "task": ("task", "task_id", "ticket_id", "issue_id", "instance_id", "question_id", "query_id", "problem_id", "id"),
    "outcome": (
        "outcome",
        "success",
        "solved",
        "resolved",
        "won",
        "passed",
        "correct",
        "is_correct",
        "reward",
        "score",
    ),
    "observation": ("observation", "obs", "state", "saw", "seen", "input", "prompt", "question", "context", "text"),
    "action": ("action", "act", "output", "response", "completion", "answer", "thought", "did"),
    "intervention": ("intervention", "helper", "help", "helped_by", "help_type", "escalated_to", "expert", "human"),
    "model": ("model", "model_name", "actor", "agent", "llm"),
    "label": ("label", "judgement", "rating"),
}
# Names of tools and fields that hint at help.
HELP_NAME = re.compile(
    r"human|person|escalat|hand_?off|transfer_to|ask_(user|expert|help)|advisor|approv", re.IGNORECASE
)
FEW, MANY = 2, 100


def guess_roles(records: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Fields of JSON records for the roles of the format "jsonl"; roles without a likely field are not in it."""
    fields = {name: [record[name] for record in records if name in record] for name in dict.fromkeys(_names(records))}
    steps_field = max(
        (name for name, values in fields.items() if _are_steps(values)),
        key=lambda n: _mean_length(fields[n]),
        default=None,
    )
    steps = [step for step_list in fields.get(steps_field or "", ()) for step in step_list]
    in_steps = {name: [step[name] for step in steps if name in step] for name in dict.fromkeys(_names(steps))}
    roles = {} if steps_field is None else {"steps": steps_field}
    for role in ("task", "outcome"):
        if (name := _find(fields, role)) is not None:
            roles[role] = name
    for role in ("observation", "action"):
        if (name := _find(in_steps, role)) is not None:
            roles[role] = name
    if "observation" not in roles and (texts := [name for name, values in in_steps.items() if _are_texts(values)]):
        roles["observation"] = max(texts, key=lambda name: sum(map(len, filter(None, in_steps[name]))))
    help_field = _find(in_steps, "intervention") or _find(fields, "intervention")
    if help_field is not None:
        roles["intervention"] = help_field
    return roles


def _names(records: Iterable[Mapping[str, Any]]) -> Iterable[str]:
    return (name for record in records for name in record)


def _are_steps(values: Sequence[Any]) -> bool:
    return bool(values) and all(isinstance(v, list) and all(isinstance(one, dict) for one in v) for v in values)


def _mean_length(values: Sequence[Any]) -> float:
    return sum(map(len, values)) / len(values)


def _are_texts(values: Sequence[Any]) -> bool:
    return any(isinstance(v, str) for v in values) and all(v is None or isinstance(v, str) for v in values)


def _find(fields: Mapping[str, Sequence[Any]], role: str) -> str | None:
    """The field of a role: by its name and the kind of its values."""
    return next((name for name in NAMES[role] if name in fields and FITS[role](fields[name])), None)


def _is_rate(values: Sequence[Any]) -> bool:
    known = [value for value in values if value is not None]
    return bool(known) and all(isinstance(v, (bool, int, float)) and 0 <= v <= 1 for v in known)


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
    "label": _is_rate,
}


def choose_agent(fields: Mapping[str, Mapping[Any, int]]) -> tuple[str, str] | None:
    """A field that names the agents of the episodes, if there are several, and the one with most episodes."""
    for name in NAMES["model"]:
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
