"""What to do once it is known what is in logs: hints, and the full command that plans from them."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from selfreg.data.guesses import HELP_NAME, HELP_ROLE, choose_agent, choose_state
from selfreg.data.log_files import plain_name
from selfreg.data.tally import Tally

BUDGET = 3
MOST_MARKS = 3
# Folders or files that may be of an agent each.
MOST_PLACES, FEWEST_TASKS = 8, 2


class MarkProposal(NamedTuple):
    """Marks of help that a log suggests: options of the command line, and what to say of them."""

    words: tuple[str, ...] = ()
    hints: tuple[str, ...] = ()


def propose_marks(tally: Tally) -> MarkProposal:
    """Marks of help, where the log names none: a tool, a model that took over, or a role."""
    if tally.help:
        return MarkProposal()
    tools = [tool for tool in tally.tools if HELP_NAME.search(tool)][:MOST_MARKS]
    models = [model for model in tally.later_models if model != tally.first_model()]
    roles = [role for role in tally.roles if HELP_ROLE.search(role)][:MOST_MARKS]
    for option, names, what, default in (
        ("--help-tool", tools, "that call", "person"),
        ("--help-role", roles, "of the role", None),
        ("--help-model", models if len(models) <= MOST_MARKS else [], "of the model", None),
    ):
        if names:
            words = [word for name in names for word in (option, f"{_pattern(name)}={default or _help_name(name)}")]
            hint = f"Steps {what} {' or '.join(names)} are taken as help ({option}); change it if that is not meant."
            return MarkProposal(tuple(words), (hint,))
    return MarkProposal()


def _pattern(name: str) -> str:
    """A name as a pattern that fits it, without the signs that options give a meaning."""
    return re.sub(r"[=\[\]*]", "?", name)


def _help_name(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._/-]+", "-", name).strip("-") or "help"


def find_hints(format: str, tally: Tally, marks: MarkProposal, misses: str = "", *, is_sample: bool) -> list[str]:
    """What could be a mark of help, and what is missing, a sentence each; `misses` of the file of outcomes."""
    hints = [f"{misses}."] if misses else []
    if tally.n_faults and not tally.episodes:
        hints.append("No record can be read; the command below cannot run before that is mended.")
    known = tally.outcome_counts.total()
    if tally.episodes and not known and not misses:
        hints.append(
            f"No episode has an outcome: the format {format!r} has none, or its field is not mapped. Name a file that "
            "has them (--outcomes FILE), or the field (--map outcome=FIELD)."
        )
    elif len(tally.outcome_counts) == 1:
        value = next(iter(tally.outcome_counts))
        hints.append(f"Every episode has the outcome {value:g}: no plan can be better or worse.")
    elif 0 < known < tally.episodes:
        hints.append(f"{tally.episodes - known} episodes have no outcome; --skip-bad leaves them out.")
    if tally.episodes and not tally.texts and not tally.keys:
        hints.append(
            "No step has a text of what the agent saw: a state can only be the step and fields. Log it too (spans "
            "have it if the recording of content is on), or map it: --map observation=FIELD."
        )
    if (strong := choose_help_model(tally)) is not None and (pair := choose_pair(tally)) is not None:
        hints.append(f"Of {len(tally.models)} models, the plan is for {pair[1]} with {strong} as help (--where).")
    elif strong is None and (agent := choose_agent(tally.fields)) is not None:
        hints.append(f"Several agents (field {agent[0]!r}): plan for one of them, with --where {agent[0]}=NAME.")
    elif len(tally.models) < 2 and (places := _find_places(tally)):
        hints.append(
            f"{' and '.join(places)} have the same tasks. If they are logs of different agents, plan for one at a "
            "time: give its path alone."
        )
    if tally.episodes and not tally.help:
        hints += marks.hints or _help_hints(tally)
    elif tally.help and not tally.partly_helped:
        hints.append("Episodes have help at every step or at none: the effect of one request is not in the logs.")
    if tally.episodes == len(tally.tasks) and tally.episodes > 1:
        where = " in the sample" if is_sample else ""
        hints.append(f"No task{where} was run twice; if it was, map its id: --map task=FIELD.")
    return hints


def _find_places(tally: Tally) -> list[str]:
    """Folders or files with the same tasks, which may be of an agent each."""
    places = {place: tasks for place, tasks in tally.tasks_by_place.items() if len(tasks) >= FEWEST_TASKS}
    shared = set.intersection(*places.values()) if len(places) == len(tally.tasks_by_place) and places else set()
    enough = shared and len(shared) >= min(map(len, places.values())) / 2
    return sorted(places) if 1 < len(places) <= MOST_PLACES and enough else []


def _help_hints(tally: Tally) -> list[str]:
    hints = []
    if len(tally.models) > 1:
        hints.append(f"Steps of {len(tally.models)} models: the stronger may be help (--help-model MODEL=strong).")
    if len(tally.roles) > 1:
        hints.append(f"Steps of the roles {', '.join(tally.roles)}: one may be help (--help-role ROLE=NAME).")
    if fields := [name for name in tally.fields if HELP_NAME.search(name) or "help" in name.lower()]:
        hints.append(f"Fields that could be help: {', '.join(fields[:5])} (--map intervention=FIELD).")
    return hints or ["No step has help, and nothing hints at it: a plan can only say how the agent does alone."]


def make_command(
    paths: Sequence[str], format: str, roles: Mapping[str, str], tally: Tally, given: Sequence[str] = ()
) -> str:
    """`selfreg fit` with all that is known of the logs, and the options that are given."""
    words = ["selfreg", "fit", *paths, "--format", format]
    for role, field in roles.items():
        words += ["--map", f"{role}={field}"]
    words += given
    if tally.episodes and not tally.outcome_counts and "outcome" not in roles and "--outcomes" not in words:
        words += ["--outcomes", "FILE"]
    if "--assume-takeover" in words:
        pass
    elif "--help-model" not in words and (model := choose_help_model(tally)) is not None:
        if "--where" not in words and (pair := choose_pair(tally)) is not None:
            words += ["--where", f"{pair[0]}={pair[1]}", "--where", f"{pair[0]}={model}"]
        words += ["--help-model", f"{_pattern(model)}={_help_name(model)}"]
    elif "--where" not in words and (agent := choose_agent(tally.fields)) is not None:
        words += ["--where", f"{agent[0]}={agent[1]}"]
    single = tally.steps == tally.episodes
    # Of episodes of several steps, `fit` chooses the states itself.
    if single and (state := choose_state(tally.fields, len(tally.tasks))) is not None:
        words += ["--state", state]
    if "--skip-bad" not in words and (tally.n_faults or 0 < tally.outcome_counts.total() < tally.episodes):
        words.append("--skip-bad")
    words += ["--budget", str(1 if single else BUDGET), "--out", f"runs/{_name(paths)}"]
    return shlex.join(words)


def choose_help_model(tally: Tally) -> str | None:
    """Of models that answered by themselves, the one that did best, if no step is marked as help."""
    success = tally.success_by_model()
    if tally.help or len(success) < 2 or tally.steps > tally.episodes:
        return None
    return max(success, key=lambda model: success[model])


def choose_pair(tally: Tally) -> tuple[str, str] | None:
    """Of more than two models that answered by themselves: their field, and the one that did worst."""
    success = tally.success_by_model()
    agent = choose_agent(tally.fields)
    if len(success) <= 2 or agent is None or not success.keys() <= tally.fields[agent[0]].keys():
        return None
    return agent[0], min(success, key=lambda model: success[model])


def _name(paths: Sequence[str]) -> str:
    first = "logs" if paths[0] == "-" else plain_name(os.path.basename(os.path.abspath(paths[0])))
    return re.sub(r"[^A-Za-z0-9._-]+", "-", first).strip(".-") or "logs"
