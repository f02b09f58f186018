"""What counts as the same state: abstractions from trajectories to hashable keys."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

from selfreg.data import Scalar, Trajectory

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Key: TypeAlias = tuple[Scalar, ...]

STEP, CLASS, TASK, OTHER = "step", "class", "task", "other"
# Stands in a coarser key for a feature that was given up.
GIVEN_UP = "\x00any"


# Fields of an episode that branches from another one: that one's name, and the step that it begins at.
BRANCH, BRANCH_STEP = "branch_of", "branch_step"
LAST_STEP = (1 << 31) - 1


def first_step(fields: Mapping[str, Scalar]) -> int:
    """Step that an episode with these fields begins at: above 0 where it branches from another one."""
    step = int(fields.get(BRANCH_STEP) or 0)
    if not 0 <= step <= LAST_STEP:
        raise ValueError(f"field {BRANCH_STEP!r} is {step}; expected an integer from 0 to {LAST_STEP}")
    return step


def episode_step(trajectory: Trajectory, step: int) -> int:
    """Step of the episode; where it branches from another one, counted from that one's beginning."""
    return step + first_step(trajectory.fields)


class StateAbstraction(Protocol):
    """Maps every step of a trajectory to the key of an abstract state."""

    def fit(self, trajectories: Iterable[Trajectory]) -> None:
        """Learn or check what `encode` needs; ValueError where these trajectories cannot be encoded."""

    def encode(self, trajectory: Trajectory, step: int) -> Key:
        """Key of the state before the action of `step`; uses nothing that comes after."""

    def coarser(self, key: Key) -> Key | None:
        """Key of a wider class of states that the state belongs to, to borrow from; None where there is none."""

    def describe(self) -> dict[str, Any]:
        """Settings as JSON values, enough for `from_description`."""


@dataclass(frozen=True)
class ExactKey:
    """A state is its task and its exact key (the state's text where the log has no key).

    Each task gets a model of its own: made for tasks that were run many times.

    Parameters
    ----------
    step : bool
        Whether the episode step is part of the state, which makes the model acyclic and states rarer.
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
        """There is none: keys say nothing of likeness."""
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
        `step`, `class` (of the last observation, by `classes`), `task`, or the name of an episode field.
    classes : mapping of str to regular expression
        First match wins, `other` where none does.

    Raises
    ------
    ValueError
        For no or repeated names, for `class` without classes, for a broken expression.

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
            raise ValueError(f"features: {repeated[0]!r} is named twice")
        if CLASS in self.names and not self.classes:
            raise ValueError(f"features: {CLASS!r} needs classes (a mapping of name to regular expression)")
        for name, expression in self.classes.items():
            try:
                re.compile(expression)
            except re.error as error:
                raise ValueError(f"class {name!r}: {expression!r} is no regular expression: {error}") from None

    def fit(self, trajectories: Iterable[Trajectory]) -> None:
        """Check that every trajectory has the fields named."""
        for trajectory in trajectories:
            for name in self.names:
                if name not in (STEP, CLASS, TASK) and name not in trajectory.fields:
                    known = ", ".join([STEP, CLASS, TASK, *sorted(trajectory.fields)])
                    raise ValueError(f"feature {name!r} is no field of episode {trajectory.episode!r}; it has {known}")

    def encode(self, trajectory: Trajectory, step: int) -> Key:
        """One value per name."""
        return tuple(self._value(name, trajectory, step) for name in self.names)

    def _value(self, name: str, trajectory: Trajectory, step: int) -> Scalar:
        if name == STEP:
            return episode_step(trajectory, step)
        if name == CLASS:
            return self.class_of(trajectory.steps[step].state)
        return trajectory.task if name == TASK else trajectory.fields[name]

    def class_of(self, observation: str) -> str:
        """First class whose expression is found in the observation."""
        return next((name for name, e in self.classes.items() if re.search(e, observation)), OTHER)

    def coarser(self, key: Key) -> Key | None:
        """The key with its last feature given up; the step never is, so that the model stays acyclic."""
        left = [i for i, name in enumerate(self.names) if name != STEP and key[i] != GIVEN_UP]
        if not left:
            return None
        return tuple(GIVEN_UP if i == left[-1] else value for i, value in enumerate(key))

    def describe(self) -> dict[str, Any]:
        """Settings as JSON values."""
        return {"kind": "features", "names": list(self.names), "classes": dict(self.classes)}


def load_classes(path: str | os.PathLike[str]) -> dict[str, str]:
    """Classes of observations from a TOML file: a table `[class]` of name = "regular expression".

    Raises
    ------
    ValueError
        Where the file is no such TOML; names file and entry.
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
            raise ValueError(f"{path}: class {name!r}: {expression!r} is no regular expression: {error}") from None
    return table
