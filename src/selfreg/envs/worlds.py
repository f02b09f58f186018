"""Worlds by name: environment, level, agent and forms of help as plain values, for command lines and run folders."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from selfreg.envs.babyai.environment import BABYAI_LEVELS, BabyAIConfig, BabyAIEnvironment, make_babyai, split_tasks
from selfreg.envs.helpers import ErringHelper, FixedAction, Situational
from selfreg.envs.household.environment import HouseholdConfig, HouseholdEnvironment, household_tasks, make_household
from selfreg.envs.household.house import KINDS
from selfreg.envs.imitation import ImitationPolicy
from selfreg.envs.protocol import AssistedEnvironment, BasePolicy, Expert, Intervention
from selfreg.envs.textworld.environment import TextWorldConfig, make_textworld, textworld_tasks
from selfreg.envs.textworld.games import TEXTWORLD_LEVELS

WEAK = "weak"  # the environment's own weak agent
TO_THE_END = "end"
# Parts of the text of a form of help, beside its name and `where`.
PARTS = ("steps", "cost", "reading", "error", "wrong")


class Family(NamedTuple):
    """What `World` has to know of an environment.

    Attributes
    ----------
    level : str
        Default level.
    config : type
        Dataclass of the numbers that `World.settings` may name.
    configure : callable
        Level and settings to a configuration.
    make : callable
        Configuration, interventions (or None) and agent (or None) to a world.
    tasks : callable
        Level, number of training and test tasks, and seed to their names.
    actions : callable
        Level to the names of the actions, without a world.
    exact : bool
        Whether keys are exact and tasks small, so that `enumerate_model` tells the true optimum.
    """

    level: str
    config: type
    configure: Callable[[str, Mapping[str, Any]], Any]
    make: Callable[..., AssistedEnvironment]
    tasks: Callable[[str, int, int, int], tuple[list[str], list[str]]]
    actions: Callable[[str], Sequence[str]]
    exact: bool = False


def _babyai(level: str, settings: Mapping[str, Any]) -> BabyAIConfig:
    limit = {"step_limit": BABYAI_LEVELS[level]} if level in BABYAI_LEVELS else {}
    return BabyAIConfig(**{"level": level, **limit, **settings})


def _babyai_tasks(level: str, n_train: int, n_test: int, seed: int) -> tuple[list[str], list[str]]:
    return split_tasks(BabyAIConfig(level=level), n_train, n_test, seed)


def _household(level: str, settings: Mapping[str, Any]) -> HouseholdConfig:
    household_tasks(0, 0, 0, level.split(","))  # an unknown kind is said at once
    return HouseholdConfig(**settings)


def _household_tasks(level: str, n_train: int, n_test: int, seed: int) -> tuple[list[str], list[str]]:
    return household_tasks(n_train, n_test, seed, level.split(","))


def _textworld(level: str, settings: Mapping[str, Any]) -> TextWorldConfig:
    return TextWorldConfig(**{"level": level, **settings})


def _textworld_tasks(level: str, n_train: int, n_test: int, seed: int) -> tuple[list[str], list[str]]:
    return textworld_tasks(n_train, n_test, seed, level)


ENVIRONMENTS = {
    "babyai": Family(
        BabyAIConfig().level,
        BabyAIConfig,
        _babyai,
        make_babyai,
        _babyai_tasks,
        lambda level: BabyAIEnvironment.action_names,
    ),
    "household": Family(
        ",".join(KINDS),
        HouseholdConfig,
        _household,
        make_household,
        _household_tasks,
        lambda level: HouseholdEnvironment.action_names,
        exact=True,
    ),
    "textworld": Family(
        TextWorldConfig().level,
        TextWorldConfig,
        _textworld,
        make_textworld,
        _textworld_tasks,
        lambda level: TEXTWORLD_LEVELS[level].action_names(),
    ),
}


@dataclass(frozen=True)
class World:
    """An environment with its agent and forms of help, in plain values.

    Parameters
    ----------
    environment : str
        "babyai", "household" or "textworld".
    level : str
        A BabyAI level, kinds of Household task with commas between, or a TextWorld level; empty for the default.
    settings : mapping of str to number
        Settings in place of the defaults, by field of `BabyAIConfig`, `HouseholdConfig` or `TextWorldConfig`. The
        step limit of a level in `BABYAI_LEVELS` is the one given there.
    helps : sequence of str
        Forms of help in place of the default one, as `parse_help` reads them.
    actor : str
        "weak", or the file of an `ImitationPolicy`, relative to the folder that `make` is given.

    Raises
    ------
    ValueError
        For an unknown environment, level or setting, help that cannot be read, and a wrong action that there is not.
    TypeError
        For a setting of another type.

    Examples
    --------
    >>> from selfreg.envs import World
    >>> world = World("household", "moved", {"trust": 0.8}, ["owner,steps=end,cost=3", "child,error=0.3"])
    >>> list(world.make().interventions)
    ['owner', 'child']
    >>> world.tasks(2, 1, seed=0)[1]
    ['household-moved/891942']
    """

    environment: str = "babyai"
    level: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    helps: Sequence[str] = ()
    actor: str = WEAK

    def __post_init__(self) -> None:
        if self.environment not in ENVIRONMENTS:
            raise ValueError(f"environment is {self.environment!r}; expected one of {', '.join(ENVIRONMENTS)}")
        if not self.level:
            object.__setattr__(self, "level", self.family.level)
        numbers = {f.name for f in dataclasses.fields(self.family.config)} - {"level"}
        for name in self.settings:
            if name not in numbers:
                raise ValueError(f"{self.environment} has no setting {name!r}; expected one of {sorted(numbers)}")
        self.config  # noqa: B018  (its errors are said here, not in a worker)
        helps = [parse_help(text) for text in self.helps]
        names = [one.name for one in helps]
        if len(set(names)) < len(names):
            raise ValueError(f"helps share a name: {names}")
        for one in helps:
            bad = one.helper.there if isinstance(one.helper, Situational) else one.helper
            if isinstance(bad, FixedAction):
                bad.action(self.family.actions(self.level))

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> World:
        """World of the values that `describe` gave, or of a `BabyAIConfig` (run folders had those before)."""
        if "environment" in values:
            return cls(**values)
        return cls("babyai", values["level"], {name: value for name, value in values.items() if name != "level"})

    @property
    def family(self) -> Family:
        """The environment's entry in `ENVIRONMENTS`."""
        return ENVIRONMENTS[self.environment]

    @property
    def config(self) -> Any:
        """Configuration of the environment."""
        return self.family.configure(self.level, self.settings)

    @property
    def title(self) -> str:
        """The level, with its environment and agent where they are not the default."""
        name = self.level if self.environment == "babyai" else f"{self.environment} ({self.level})"
        return name if self.actor == WEAK else f"{name}, trained agent"

    def make(self, folder: str | Path = ".") -> AssistedEnvironment:
        """Build the world; `folder` holds the actor's file."""
        policy = None if self.actor == WEAK else ImitationPolicy.load(Path(folder) / self.actor)
        return self.family.make(self.config, [parse_help(text) for text in self.helps] or None, policy)

    def tasks(self, n_train: int, n_test: int, seed: int) -> tuple[list[str], list[str]]:
        """Draw names of different tasks, for training and for testing."""
        return self.family.tasks(self.level, n_train, n_test, seed)

    def more_tasks(self, n: int, seed: int, without: Sequence[str]) -> list[str]:
        """Draw names of `n` tasks that are not among others."""
        used = set(without)
        return [task for task in self.tasks(n + len(used), 0, seed)[0] if task not in used][:n]

    def describe(self) -> dict[str, Any]:
        """As JSON values, of which `World.of` makes the same world."""
        return {
            "environment": self.environment,
            "level": self.level,
            "settings": dict(self.settings),
            "helps": list(self.helps),
            "actor": self.actor,
        }


def parse_help(text: str) -> Intervention:
    """A form of help from a text: "NAME,steps=2,cost=1,reading=3,error=0.2,wrong=ACTION,where=EXPRESSION".

    Parameters
    ----------
    text : str
        Name, then in any order: `steps` (1; "end" for all that are left), `cost` (1), `reading` (0; steps that pass
        before a helper acts that takes over in mid-episode), and whoever helps: the expert, or one who does something
        else with chance `error`. With `where`, which must be the last one, help is like
        that in states whose text the regular expression finds only, and the expert's elsewhere; with `wrong` it is
        always the action of that name there.

    Raises
    ------
    ValueError
        Naming what cannot be read.

    Examples
    --------
    >>> from selfreg.envs.worlds import parse_help
    >>> parse_help("friend,steps=end,cost=3").cost
    3
    >>> parse_help("misleading,wrong=wait,where=^In hand: nothing").helper.where.pattern
    '^In hand: nothing'
    """
    head, found, where = text.partition(",where=")
    name, *parts = head.split(",")
    if "=" in name:
        raise ValueError(f"help {text!r}: begins with {name!r}; expected its name first")
    values = {}
    for part in parts:
        key, equals, value = part.partition("=")
        if not equals or key not in PARTS or key in values:
            expected = ", ".join(f"{part}=" for part in PARTS)
            raise ValueError(f"help {text!r}: cannot read {part!r}; expected {expected} once each")
        values[key] = value
    steps = None if values.get("steps") == TO_THE_END else _number(text, "steps", values.get("steps", "1"), int)
    error = _number(text, "error", values.get("error", "0"), float)
    if "error" in values and "wrong" in values:
        raise ValueError(f"help {text!r}: error= and wrong= exclude each other")
    bad: BasePolicy = FixedAction(values["wrong"]) if "wrong" in values else ErringHelper(error) if error else Expert()
    if found and isinstance(bad, Expert):
        raise ValueError(f"help {text!r}: where= says where help is bad; expected error= or wrong= too")
    helper = Situational(where, bad, Expert()) if found else bad
    cost, reading = (
        _number(text, key, values.get(key, usual), int) for key, usual in (("cost", "1"), ("reading", "0"))
    )
    return Intervention(name, steps, cost, helper, reading)


def _number(text: str, key: str, value: str, kind: Callable[[str], Any]) -> Any:
    try:
        return kind(value)
    except ValueError:
        raise ValueError(f"help {text!r}: {key}={value}; expected a {'whole ' * (kind is int)}number") from None
