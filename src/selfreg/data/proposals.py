"""How logs may be meant where they do not say it: outcomes, groups of rows and orders of fields.

Proposals by their first records, each with the sentence that names it; a person can correct them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

from selfreg.data.faults import LogError
from selfreg.data.filters import MISSING, lookup_field
from selfreg.data.guesses import NAMES, find_step_help, flatten_names, guess_roles, longest_text, simplify_name
from selfreg.data.log_files import LogFile
from selfreg.data.log_format import ReadOptions
from selfreg.data.orders import EPISODES, ORDERS, order_keys
from selfreg.data.rows import read_rows
from selfreg.data.samples import take_sample
from selfreg.data.translation import parse_number
from selfreg.data.wide_tables import find_models, known_values, read_cell

MOST_RECORDS = 200
# Names of fields that may be an outcome, after those of `NAMES`.
OUTCOME_NAMES = (
    *NAMES["outcome"], "is_success", "successful", "accuracy", "accepted", "pass", "csat", "rating", "stars",
    "satisfaction", "grade", "quality", "feedback", "result", "verdict", "label", "final_status", "final_result",
    "status",
)  # fmt: skip
GOOD = (
    "true", "yes", "y", "pass", "passed", "success", "successful", "succeeded", "correct", "right", "resolved",
    "solved", "won", "win", "good", "ok", "positive", "accepted", "thumbs_up", "up", "like", "✓", "✔", "✅",
)  # fmt: skip
BAD = (
    "false", "no", "n", "fail", "failed", "failure", "unsuccessful", "incorrect", "wrong", "unresolved", "unsolved",
    "lost", "loss", "bad", "negative", "rejected", "error", "timeout", "thumbs_down", "down", "dislike", "✗", "✘", "❌",
)  # fmt: skip
# Numbers that are judgements where words stand beside them.
ONE, ZERO = ("1", "1.0"), ("0", "0.0")
# Words of what has not ended: no outcome yet.
UNFINISHED = (
    "submitted", "pending", "open", "new", "created", "queued", "started", "running", "in progress", "in_progress",
    "ongoing", "waiting", "unknown", "n/a",
)  # fmt: skip
# Values of a field of outcomes, where some are not among these words.
MOST_WORDS = 6
# Fields that may say who answered, and the names of those who are no people.
AUTHORS = (
    "by", "who", "handled_by", "answered_by", "resolved_by", "handler", "responder", "author", "sender", "source",
)  # fmt: skip
MACHINE = re.compile(r"(chat|ro)?bot|ai|assistant|agent|auto\w*|llm|model", re.IGNORECASE)
# Names of those who are served, and of programs that are no agents.
OTHERS = re.compile(r"(end[ _-]?)?(customer|user|client|visitor|requester|guest)|system", re.IGNORECASE)
# Beginnings of names of scores that say nothing of success.
NO_OUTCOME = re.compile(
    "confidence|certainty|similarity|complexity|difficulty|retriev|rank|sentiment|toxic|risk|bleu|rouge"
)
PROMPTS = ("prompt", "instruction", "question", "problem", "task_description", "goal", "query")


class Proposal(NamedTuple):
    """Options of reading, and what to say of them."""

    options: ReadOptions
    hints: tuple[str, ...] = ()

    def words(self, given: ReadOptions) -> list[str]:
        """The options that were not given as words of a command line, but for those of roles."""
        words = []
        for role, rule in self.options.values.items():
            words += ["--value", f"{role}={rule}"] if role not in given.values else []
        if self.options.group_by and not given.group_by:
            words += ["--group-by", self.options.group_by]
            words += ["--order-by", self.options.order_by] if self.options.order_by else []
        if self.options.shift_observation and not given.shift_observation:
            words.append("--shift-observation")
        return words


def first_records(file: LogFile) -> Sequence[Mapping[str, Any]]:
    """The first records of a file of JSON or of rows; none if it has no such."""
    try:
        sample = take_sample(file.path)
        if sample.kind in ("lines", "document"):
            return sample.objects()[:MOST_RECORDS]
        return [row for _, row in islice(read_rows(file.path), MOST_RECORDS) if isinstance(row, dict)]
    except LogError:
        return []


def propose_options(records: Sequence[Mapping[str, Any]], options: ReadOptions) -> Proposal | None:
    """How to read JSON of an unknown layout; None where no steps or no observation can be found."""
    roles = guess_roles(records)
    if "observation" not in roles and options.group_by and (text := longest_text(records, options.group_by)):
        roles["observation"] = text
    if "observation" not in {**roles, **options.roles}:
        return None
    options = options._replace(roles={**roles, **options.roles})
    proposal = propose_outcome(records, options)
    options = proposal.options if proposal else options
    hints = [*(proposal.hints if proposal else ())]
    if "task" not in options.roles:
        options = options._replace(roles={**options.roles, "task": ""})  # each episode is a task of its own
    if "steps" in roles and "intervention" not in options.roles:
        steps = [one for record in records for one in _list_steps(record, roles["steps"])]
        if (author := _find_author(steps)) is not None:
            marked = _mark_author(options, *author)
            options, hints = marked.options, [*hints, *marked.hints]
    shifted = (propose_shift if "steps" in roles else propose_groups)(records, options)
    return Proposal(shifted.options, (*hints, *shifted.hints))


def _list_steps(record: Mapping[str, Any], field: str) -> list[Mapping[str, Any]]:
    steps = lookup_field(record, field)
    return [one for one in steps if isinstance(one, Mapping)] if isinstance(steps, list) else []


# ---- outcomes -------------------------------------------------------------------------------------------------------


def propose_outcome(records: Sequence[Mapping[str, Any]], options: ReadOptions) -> Proposal | None:
    """A field that may be the outcome, and how its values are read; None if there is none."""
    mapped = options.roles.get("outcome")
    names = flatten_names(records)
    simple = {name: simplify_name(name.rpartition(".")[2]) for name in names}
    for wanted in (*OUTCOME_NAMES, None) if mapped is None else (mapped,):
        same = [name for name in names if simple[name] == wanted] if mapped is None else [mapped]
        if wanted is None:  # names such as `final_reward`, if there is one
            ends = [
                name
                for name in names
                if simple[name].rpartition("_")[2] in NAMES["outcome"] and not NO_OUTCOME.match(simple[name])
            ]
            same = ends if len(ends) == 1 else []
        for name in same:
            values = [lookup_field(record, name) for record in records]
            known = [value for value in values if value is not MISSING and value is not None and value != ""]
            rule = find_rule(known)
            if known and rule is not None:
                found = _with_outcome(options, name, rule)
                hint = f"The outcome is read from {name!r}; correct it if that is not meant (--map outcome=FIELD)."
                return found._replace(hints=(hint,)) if wanted is None and not rule else found
    return None


def propose_models(records: Sequence[Mapping[str, Any]], options: ReadOptions) -> Proposal | None:
    """Columns of a wide table that are the models with their scores; None where another column is the outcome."""
    models = find_models(records) if not options.roles.get("outcome") and options.outcomes is None else []
    if not models or any(name in NAMES["outcome"] for name in records[0]):
        return None
    rule = find_rule([read_cell(value) for name in models for value in known_values(records, name)])
    if rule is None:
        return None
    hint = f"The columns {', '.join(models)} are taken as models with their scores; name others by --map outcome=A+B."
    proposal = _with_outcome(options, "+".join(models), rule)
    return Proposal(proposal.options, (hint, *proposal.hints))


def _with_outcome(options: ReadOptions, name: str, rule: str) -> Proposal:
    options = options._replace(roles={**options.roles, "outcome": name})
    if not rule:
        return Proposal(options)
    hint = f"The outcome is read from {name!r} by the rule {rule!r}; correct it if that is not meant (--value)."
    return Proposal(options._replace(values={**options.values, "outcome": rule}), (hint,))


def find_rule(values: Sequence[Any]) -> str | None:
    """How values become successes in [0, 1]: "" as they are, a rule of `parse_rule`, or None where none is plain."""
    if all(isinstance(value, (bool, int, float)) and 0 <= value <= 1 for value in values):
        return ""
    words = sorted({value if isinstance(value, str) else str(value).lower() for value in values})
    most = MOST_WORDS if all(isinstance(value, str) for value in values) else 0
    if _are_judgements(words, most):
        return ",".join(f"{word}={int(word.strip().lower() in (*GOOD, *ONE))}" for word in words)
    try:
        numbers = [parse_number(value) for value in values if not isinstance(value, bool)]
    except (TypeError, ValueError, OverflowError):
        return None
    if len(numbers) != len(values) or not numbers:
        return None
    low, high = min(numbers), max(numbers)
    if low >= 0 and high <= 1:
        return "0..1"
    if low >= -1 and high <= 1:
        return "-1..1"
    if low >= 1 and high <= 5:
        return ">=4"
    return next((f"0..{top}" for top in (5, 10, 100) if low >= 0 and high <= top), None)


def _are_judgements(words: Sequence[str], most: int) -> bool:
    """Words for success, 0 and 1 beside them; among `most` words all others are taken as no success, as the rule shows.

    None of an unfinished episode: what became of it is not known.
    """
    plain = [word.strip().lower() for word in words]
    rest = [word for word in plain if word not in (*ONE, *ZERO)]
    if any(word in UNFINISHED or _is_number(word) for word in rest):
        return False
    known = all(word in GOOD or word in BAD for word in rest)
    return bool(rest) and (known or len(words) <= most) and any(word in (*GOOD, *ONE) for word in plain)


def _is_number(text: str) -> bool:
    try:
        parse_number(text)
    except ValueError:
        return False
    return True


# ---- rows and steps -------------------------------------------------------------------------------------------------


def propose_groups(records: Sequence[Mapping[str, Any]], options: ReadOptions) -> Proposal:
    """Rows that are steps of episodes: the field that they share, the one that orders them, and who answered."""
    hints = []
    if options.group_by:
        task = options.roles.get("task") or options.group_by
        options = options._replace(roles={**options.roles, "task": task})
    elif (group := _find_groups(records, options.roles.get("outcome"))) is not None:
        options = options._replace(group_by=group[0], order_by=group[1])
        if not options.roles.get("task"):
            options = options._replace(roles={**options.roles, "task": group[0]})
        hints.append(f"Rows of one {group[0]!r} are taken as the steps of an episode, in the order of {group[1]!r}.")
    if options.group_by and "intervention" not in options.roles and (helped := find_step_help(records)) is not None:
        options = options._replace(roles={**options.roles, "intervention": helped})
        hints.append(f"Steps with {helped!r} are taken as help; correct it if that is not meant (--map intervention=).")
    if "intervention" not in options.roles and (author := _find_author(records)) is not None:
        marked = _mark_author(options, *author)
        options, hints = marked.options, [*hints, *marked.hints]
    return Proposal(options, tuple(hints))


def _mark_author(options: ReadOptions, name: str, others: Sequence[str]) -> Proposal:
    """Steps by others than these as help by a person."""
    values = {**options.values, "intervention": "".join(f"{one}=," for one in others) + "*=person"}
    options = options._replace(roles={**options.roles, "intervention": name}, values=values)
    are = " or ".join(map(repr, others))
    return Proposal(options, (f"Steps whose {name!r} is not {are} are taken as help by a person.",))


def _find_groups(records: Sequence[Mapping[str, Any]], outcome: str | None) -> tuple[str, str] | None:
    names = flatten_names(records, 1)
    orders = _spellings(names, ORDERS)
    for name in _spellings(names, EPISODES):
        groups: dict[Any, list[Mapping[str, Any]]] = {}
        for record in records:
            value = record.get(name)
            if isinstance(value, bool) or not isinstance(value, (str, int)):
                break
            groups.setdefault(value, []).append(record)
        else:
            order = next((one for one in orders if _orders(groups.values(), one)), None)
            if order is not None and len(groups) < len(records) and _agree(groups.values(), outcome):
                return name, order
    return None


def _spellings(there: Sequence[str], names: Sequence[str]) -> list[str]:
    """Those of some names that are there, in whatever spelling."""
    return [one for name in names for one in there if name in (one, simplify_name(one))]


def _orders(groups: Iterable[Sequence[Mapping[str, Any]]], name: str) -> bool:
    """Whether the rows of each group have different values in a field, which order them."""
    keys = [order_keys([row.get(name) for row in group]) for group in groups]
    return all(some is not None and len(set(some)) == len(some) for some in keys)


def _agree(groups: Iterable[Sequence[Mapping[str, Any]]], outcome: str | None) -> bool:
    """Whether the rows of a group have one outcome, those without one left aside."""
    if not outcome:
        return True
    values = ([lookup_field(row, outcome) for row in group] for group in groups)
    return all(len({str(value) for value in some if value not in (MISSING, None, "")}) <= 1 for some in values)


def _find_author(records: Sequence[Mapping[str, Any]]) -> tuple[str, list[str]] | None:
    """The field that says who answered, and those who are no people that help; None where no person does."""
    for name in _spellings(flatten_names(records, 1), AUTHORS):
        values = sorted({str(record.get(name)) for record in records if record.get(name) is not None})
        machines = [value for value in values if MACHINE.fullmatch(value)]
        others = [*machines, *(value for value in values if OTHERS.fullmatch(value))]
        if len(machines) == 1 and len(others) < len(values) and all(name in record for record in records):
            return name, others
    return None


def propose_shift(records: Sequence[Mapping[str, Any]], options: ReadOptions) -> Proposal:
    """Steps whose action stands before their observation: then that is what followed the action."""
    field = options.roles.get("steps", "steps")
    steps = [step for record in records if isinstance(record.get(field), list) for step in record[field]]
    action, observation = options.roles.get("action", "action"), options.roles.get("observation", "observation")
    both = [list(step) for step in steps if isinstance(step, dict) and {action, observation} <= step.keys()]
    if options.shift_observation or not both or any(o.index(action) > o.index(observation) for o in both):
        return Proposal(options)
    if all(order == sorted(order) for order in both):  # then the order of the fields says nothing
        return Proposal(
            options,
            (
                f"In the steps {action!r} stands before {observation!r}. If the observation is what followed the "
                "action, add --shift-observation.",
            ),
        )
    roles = dict(options.roles)
    prompt = next((name for name in PROMPTS if records and all(isinstance(r.get(name), str) for r in records)), None)
    if prompt is not None and "prompt" not in roles:
        roles["prompt"] = prompt
    hint = f"In the steps {observation!r} stands after {action!r}, and is taken as what followed it."
    return Proposal(options._replace(roles=roles, shift_observation=True), (hint,))
