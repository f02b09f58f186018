"""Abstractions: from steps of trajectories to hashable keys of states."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

from selfreg.data import NOHELP, Scalar, Trajectory

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Key: TypeAlias = tuple[Scalar, ...]

STEP, CLASS, TASK, OTHER = "step", "class", "task", "other"
LAST_HELP, NOBODY = "last_help", "nobody"
# In a coarser key, in place of a feature that is left out.
ANY_VALUE = "\x00any"


# Fields of an episode that branches from another one: the id of that one, and the step where it begins.
BRANCH, BRANCH_STEP = "branch_of", "branch_step"
LAST_STEP = (1 << 31) - 1


def first_step(fields: Mapping[str, Scalar]) -> int:
    """Step at which an episode with these fields begins: above 0 if it branches from another one."""
    step = int(fields.get(BRANCH_STEP) or 0)
    if not 0 <= step <= LAST_STEP:
        raise ValueError(f"field {BRANCH_STEP!r} is {step}; expected an integer from 0 to {LAST_STEP}")
    return step


def episode_step(trajectory: Trajectory, step: int) -> int:
    """Step of the episode, counted from the beginning of the one that it branches from."""
    return step + first_step(trajectory.fields)


def keep_distinct(value: Scalar) -> Scalar:
    """A value of a field as part of a key: 1, true and 1.0, which are equal in Python, are different states."""
    return json.dumps(value) if isinstance(value, (bool, float)) else value


class StateAbstraction(Protocol):
    """Maps every step of a trajectory to the key of an abstract state."""

    def fit(self, trajectories: Iterable[Trajectory]) -> None:
        """Learn or check what `encode` needs; ValueError if these trajectories cannot be encoded."""

    def encode(self, trajectory: Trajectory, step: int) -> Key:
        """Key of the state before the action of `step`; it depends on nothing that comes after."""

    def coarser(self, key: Key) -> Key | None:
        """Key of the next coarser class of states, whose rows can be borrowed; None if there is none."""

    def describe(self) -> dict[str, Any]:
        """Settings as JSON values, enough for `from_description`."""


@dataclass(frozen=True)
class ExactKey:
    """A state is its task and its exact key (its text if the log has no key).

    Each task has a model of its own, so it must have been run many times.

    Parameters
    ----------
    step : bool
        Whether the step number is part of the state. The model is then acyclic and has more states.
    """

    step: bool = False

    def fit(self, trajectories: Iterable[Trajectory]) -> None:
        """Nothing to learn."""

    def encode(self, trajectory: Trajectory, step: int) -> Key:
        """(task, key) or (task, key, step)."""
        state = trajectory.steps[step]
        key = (trajectory.task, state.state if state.key is None else state.key)
        return (*key, episode_step(trajectory, step)) if self.step else key

    def coarser(self, key: Key) -> Key | None:
        """None: exact keys have no coarser class."""
        return None

    def describe(self) -> dict[str, Any]:
        """Settings as JSON values."""
        return {"kind": "exact", "step": self.step}


@dataclass(frozen=True)
class Features:
    """A state is a tuple of features shared by tasks.

    Parameters
    ----------
    names : sequence of str
        `step`, `class` (of the last observation, by `classes`), `task`, `last_help` (the help type of the step before,
        "nohelp" where the agent took it, "nobody" at the beginning: a helper that takes over has to read what was
        done), or the name of an episode field.
    classes : mapping of str to regular expression
        First match wins; `other` without a match.

    Raises
    ------
    ValueError
        For no or duplicate names, for `class` without classes, for an invalid expression.

    Examples
    --------
    >>> from selfreg.data import Step, Trajectory
    >>> from selfreg.estimate import Features
    >>> features = Features(["step", "class"], {"error": "^Error", "empty": "^$"})
    >>> features.encode(Trajectory("t", "e", 1.0, (Step("go"), Step("Error: no"))), 1)
    (1, 'error')
    """

    names: Sequence[str]
    classes: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.names:
            raise ValueError("features: expected at least one name")
        repeated = [name for i, name in enumerate(self.names) if name in self.names[:i]]
        if repeated:
            raise ValueError(f"features: duplicate name {repeated[0]!r}")
        if CLASS in self.names and not self.classes:
            raise ValueError(f"features: {CLASS!r} needs classes (a mapping of name to regular expression)")
        for name, expression in self.classes.items():
            try:
                re.compile(expression)
            except re.error as error:
                raise ValueError(f"class {name!r}: {expression!r} is not a regular expression: {error}") from None

    def fit(self, trajectories: Iterable[Trajectory]) -> None:
        """Check that every trajectory has the fields."""
        for trajectory in trajectories:
            for name in self.names:
                if name not in (STEP, CLASS, TASK, LAST_HELP) and name not in trajectory.fields:
                    known = ", ".join(dict.fromkeys([STEP, CLASS, TASK, LAST_HELP, *sorted(trajectory.fields)]))
                    raise ValueError(f"unknown feature {name!r}; episode {trajectory.episode!r} has {known}")

    def encode(self, trajectory: Trajectory, step: int) -> Key:
        """One value per name."""
        return tuple(self._value(name, trajectory, step) for name in self.names)

    def _value(self, name: str, trajectory: Trajectory, step: int) -> Scalar:
        if name == STEP:
            return episode_step(trajectory, step)
        if name == CLASS:
            return self.classify(trajectory.steps[step].state)
        if name == LAST_HELP:
            return _last_help(trajectory, step)
        return trajectory.task if name == TASK else keep_distinct(trajectory.fields[name])

    def classify(self, observation: str) -> str:
        """First class whose expression matches part of the observation."""
        return next((name for name, e in self.classes.items() if re.search(e, observation)), OTHER)

    def coarser(self, key: Key) -> Key | None:
        """The key without its last feature; the step is never left out, so that the model stays acyclic."""
        left = [i for i, name in enumerate(self.names) if name != STEP and key[i] != ANY_VALUE]
        if not left:
            return None
        return tuple(ANY_VALUE if i == left[-1] else value for i, value in enumerate(key))

    def describe(self) -> dict[str, Any]:
        """Settings as JSON values."""
        return {"kind": "features", "names": list(self.names), "classes": dict(self.classes)}


def _last_help(trajectory: Trajectory, step: int) -> str:
    if step:
        return trajectory.steps[step - 1].intervention or NOHELP
    # A rollout does not hold the step before its first one.
    return NOBODY if not first_step(trajectory.fields) else NOHELP


def load_classes(path: str | os.PathLike[str]) -> dict[str, str]:
    """Classes of observations from a TOML file: a table `[class]` of name = "regular expression".

    Raises
    ------
    ValueError
        For a file that is not such a TOML file; the message names the file and the entry.
    """
    try:
        with open(path, "rb") as stream:
            table = tomllib.load(stream).get(CLASS)
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not TOML: {error}") from None
    if not isinstance(table, dict) or not table:
        raise ValueError(f'{path}: expected a table [class] of name = "regular expression"')
    for name, expression in table.items():
        if not isinstance(expression, str):
            raise ValueError(f"{path}: class {name!r} is {expression!r}; expected a regular expression (a string)")
        try:
            re.compile(expression)
        except re.error as error:
            raise ValueError(f"{path}: class {name!r}: {expression!r} is not a regular expression: {error}") from None
    return table
