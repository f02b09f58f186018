"""Games of TextWorld (package textworld) with its own policy as the expert, and a weak player that is careless.

Three families: find a coin in a maze, find a treasure behind doors and in containers, cook a meal by a recipe. A game
is generated from its seed and played in TextWorld's own logic, so that everything works offline.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from selfreg._util import validate
from selfreg.envs.babyai.environment import describe_steps_left
from selfreg.envs.protocol import AssistedEnvironment, BasePolicy, Environment, Intervention, certain, draw_tasks
from selfreg.envs.replay import ReplayedEnvironment, remembered
from selfreg.envs.textworld.games import DIRECTIONS, IDLE, TEXTWORLD_LEVELS, game_file, goal, load_textworld
from selfreg.envs.textworld.scene import Scene

__all__ = ["CarelessPlayer", "TextWorldConfig", "TextWorldEnvironment", "make_textworld", "textworld_tasks"]


@dataclass(frozen=True)
class TextWorldConfig:
    """A family of games with a weak player and one form of help, "help": the expert takes over for a few steps.

    Raises
    ------
    ValueError
        If the level is unknown, or a number is out of its range.
    TypeError
        If a setting is of another type.
    """

    level: str = field(default="cooking", metadata={"help": "family of games: coin, treasure or cooking"})
    step_limit: int = field(default=0, metadata={"help": "actions after which the game is lost; 0 is the level's own"})
    help_steps: int = field(default=2, metadata={"help": "actions that the expert takes per request"})
    stray: float = field(default=0.4, metadata={"help": "chance of a random exit where the player should go on"})
    careless: float = field(default=0.25, metadata={"help": "chance of handling something else, or in another way"})
    clock: int = field(default=4, metadata={"help": "unit in which states tell the steps left; 1 is exact"})
    cache: str = field(default="", metadata={"help": "folder of generated games; empty is the user's cache folder"})

    def __post_init__(self) -> None:
        if self.level not in TEXTWORLD_LEVELS:
            raise ValueError(f"TextWorldConfig.level is {self.level!r}; expected one of {', '.join(TEXTWORLD_LEVELS)}")
        for name, low in (("step_limit", 0), ("help_steps", 1), ("clock", 1)):
            validate.integer(f"TextWorldConfig.{name}", getattr(self, name), low)
        for name in ("stray", "careless"):
            validate.probability(f"TextWorldConfig.{name}", getattr(self, name))
        if not isinstance(self.cache, str):
            raise TypeError(f"TextWorldConfig.cache is {self.cache!r}; expected the path of a folder as str")


def make_textworld(
    config: TextWorldConfig | None = None,
    interventions: Sequence[Intervention] | None = None,
    policy: BasePolicy | None = None,
) -> AssistedEnvironment:
    """Build the world, its weak player and the help.

    Parameters
    ----------
    config : TextWorldConfig, optional
    interventions : sequence of Intervention, optional
        Forms of help in place of the one that `config` describes.
    policy : BasePolicy, optional
        Player in place of the careless one, such as an `ImitationPolicy`.

    Raises
    ------
    ImportError
        If the extra "textworld" is not installed.

    Examples
    --------
    >>> from selfreg.envs import TextWorldConfig, make_textworld
    >>> world = make_textworld(TextWorldConfig("coin"))  # doctest: +SKIP
    >>> world.reset("textworld-coin/3", seed=0)  # doctest: +SKIP
    >>> print(world.state().state)  # doctest: +SKIP
    Task: find the coin and take it.
    Steps left: 13.
    Room: washroom.
    Exits: north unexplored; south unexplored.
    Things: none.
    In hand: nothing.
    Fixtures: none.
    """
    config = config or TextWorldConfig()
    helps = [Intervention("help", config.help_steps)] if interventions is None else interventions
    player = CarelessPlayer(config.stray, config.careless) if policy is None else policy
    environment = TextWorldEnvironment(config.level, config.step_limit, config.clock, config.cache)
    return AssistedEnvironment(environment, player, helps)


def textworld_tasks(n_train: int, n_test: int, seed: int, level: str = "cooking") -> tuple[list[str], list[str]]:
    """Draw names of different games of a level, for training and for testing.

    Raises
    ------
    ValueError
        If the level is unknown.

    Examples
    --------
    >>> from selfreg.envs import textworld_tasks
    >>> train, test = textworld_tasks(2, 1, seed=0, level="coin")
    >>> len({*train, *test}), train[0].split("/")[0]
    (3, 'textworld-coin')
    """
    level = TextWorldConfig(level).level
    return draw_tasks(lambda i, number: f"textworld-{level}/{number}", n_train, n_test, seed)


class CarelessPlayer:
    """Knows what to do, but loses its way and handles things carelessly.

    It does what the expert would do, except that where the expert would go somewhere it takes any exit with chance
    `stray`, and where the expert would handle a thing it does something else that can be done here (takes another
    thing, cooks or cuts in another way, eats what is in hand) with chance `careless`. In treasure and cooking games
    that may lose the game at once.
    """

    def __init__(self, stray: float, careless: float) -> None:
        self.stray = stray
        self.careless = careless

    def act(self, environment: Environment, generator: np.random.Generator) -> int:
        """Choose the next action; draws once in every step."""
        chances = np.cumsum(self.distribution(environment))
        return int(np.searchsorted(chances[:-1], generator.random(), side="right"))

    def distribution(self, environment: Environment) -> npt.NDArray[np.float64]:
        """Return the probability of each action, float64 (actions,)."""
        if not isinstance(environment, TextWorldEnvironment):
            raise TypeError(f"CarelessPlayer acts in a TextWorldEnvironment; got {type(environment).__name__}")
        wanted, possible = environment.expert_action(), environment.possible_actions()
        ways = [action for action in possible if action < len(DIRECTIONS)]
        if wanted < len(DIRECTIONS):
            others, chance = ways, self.stray
        else:
            others, chance = [action for action in possible if action not in (wanted, *ways)], self.careless
        result = certain(environment, wanted)
        if others:
            result *= 1.0 - chance
            result[others] += chance / len(others)
        return result


class TextWorldEnvironment(ReplayedEnvironment):
    """Games of one level; a task is named "textworld-LEVEL/SEED".

    Success is 1 once the game is won; losing it, or running out of `step_limit` actions, is 0. Actions are the same
    in all games of a level: things that can be handled are numbered in the text, those that the task names first,
    and "take 2" takes the second of them. An action that is not possible takes a step and does nothing. What the
    player has seen is remembered: the text tells the rooms it has been in and what lies there, and no more.

    TextWorld's policy gives the expert's action from any state; it depends on the way that led there, and is part of
    the key. `restore` takes the actions again, which is faster than the copy that TextWorld can make of a game.

    Parameters
    ----------
    level : str
        "coin", "treasure" or "cooking".
    step_limit : int
        Actions after which the game is lost; 0 is the level's own limit.
    clock : int
        Unit in which text and key tell the steps left; with 1 the key is exact.
    cache : str
        Folder of generated games; empty is the user's cache folder.

    Raises
    ------
    ImportError
        If the extra "textworld" is not installed.
    ValueError
        If the level is unknown, or a number is out of its range.
    """

    def __init__(self, level: str, step_limit: int = 0, clock: int = 1, cache: str = "") -> None:
        super().__init__()
        checked = TextWorldConfig(level, step_limit, clock=clock, cache=cache)
        self._textworld = load_textworld()
        self.level, self.clock, self.cache = level, checked.clock, checked.cache
        self.step_limit = checked.step_limit or TEXTWORLD_LEVELS[level].step_limit
        self.action_names = TEXTWORLD_LEVELS[level].action_names()
        self._index = {name: action for action, name in enumerate(self.action_names)}
        self.idle_action = self._index[IDLE]
        self._loaded = ""

    def begin(self, task: str) -> None:
        """Begin the game "textworld-LEVEL/SEED", generated first where it is not in the cache.

        Raises
        ------
        ValueError
            If the name is not of this level and a whole number.
        """
        prefix, _, seed = task.rpartition("/")
        if prefix != f"textworld-{self.level}" or not seed.isdecimal():
            raise ValueError(f"task is {task!r}; expected 'textworld-{self.level}/SEED' with a whole number as seed")
        if task != self._loaded:
            self._game = self._load(int(seed))
        self._loaded, self._visited = task, set[str]()
        self._state = self._game.reset()
        self._aim, self._recipe = goal(self._state["game"], self.level, self._state["policy_commands"][-1])
        self._look_round()

    def take(self, action: int) -> float | None:
        """Take one action."""
        command = self._possible.get(action)
        if command is not None:
            self._state, _, over = self._game.step(command)
            if over:
                return float(self._state["won"])
            self._look_round()
        return 0.0 if self.steps_taken >= self.step_limit else None

    @remembered
    def expert_action(self) -> int:
        """Return the action that TextWorld's policy begins with; "look", which does nothing, where it has none."""
        command = next(iter(self._state["policy_commands"]), "")
        return next((action for action, other in self._possible.items() if other == command), self._index[IDLE])

    @remembered
    def possible_actions(self) -> list[int]:
        """Actions that do something now, without the one that does nothing, ascending."""
        return sorted(self._possible)

    @remembered
    def text(self) -> str:
        """Describe task, steps left, the room with its exits and things, what is in hand, and rooms seen before."""
        scene = self._scene
        exits = [f"{way} {self._beyond(other, door)}" for way, other, door in scene.exits(scene.room)]
        lines = [
            f"Task: {self._aim}.",
            f"Steps left: {self._steps_left()}.",
            f"Room: {scene.room}.",
            f"Exits: {'; '.join(exits)}.",
            f"Things: {'; '.join(scene.here()) or 'none'}.",
            f"In hand: {'; '.join(scene.in_hand()) or 'nothing'}.",
            f"Fixtures: {'; '.join(scene.fixtures(scene.room)) or 'none'}.",
        ]
        for room in sorted(self._visited - {scene.room}):
            exits = [f"{way} {self._beyond(other, door)}" for way, other, door in scene.exits(room)]
            lines.append(f"Seen {room}: {'; '.join([*exits, *scene.fixtures(room), *scene.things(room)])}.")
        return "\n".join(lines)

    @remembered
    def key(self) -> str:
        """Hash steps left, facts, rooms visited, and the expert's plan."""
        facts, plan = sorted(map(str, self._state["facts"])), list(self._state["policy_commands"])
        known = self._steps_left(), facts, sorted(self._visited), plan
        return hashlib.blake2b(repr(known).encode(), digest_size=8).hexdigest()

    def _load(self, seed: int) -> Any:
        path = game_file(self.level, seed, self.cache)
        wanted = self._textworld.EnvInfos(facts=True, policy_commands=True, admissible_commands=True)
        try:
            return self._textworld.start(str(path), wanted)
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is not a TextWorld game ({error!r}); delete it to generate it again") from None

    def _look_round(self) -> None:
        """Read the facts and number what can be done."""
        self._scene = Scene(self._state["facts"], self._aim, self._recipe)
        self._visited.add(self._scene.room)
        self._possible: dict[int, str] = {}
        for command in self._state["admissible_commands"]:
            action = self._index.get(self._scene.action(command))
            if action is not None and action != self._index[IDLE]:
                self._possible.setdefault(action, command)

    def _beyond(self, room: str, door: str | None) -> str:
        where = f"to {room}" if room in self._visited else "unexplored"
        return where if door is None else f"{where} behind shut {door}"

    def _steps_left(self) -> str:
        return describe_steps_left(self.step_limit - self.steps_taken, self.clock, self.step_limit)
