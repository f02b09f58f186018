"""BabyAI levels (package minigrid) with their bot as the expert, and a weak agent that fumbles.

The weak agent is a degraded bot: it plans as well as the expert, but its hands are unreliable. Help is therefore worth
much in a few states that can be read from the text (something to handle is right in front) and little elsewhere.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from selfreg._util import validate
from selfreg._util.extras import require_extra
from selfreg.envs.protocol import AssistedEnvironment, BasePolicy, Environment, Intervention, certain, draw_tasks
from selfreg.envs.replay import ReplayedEnvironment, remembered

LEFT, RIGHT, FORWARD, PICKUP, DROP, TOGGLE, DONE = range(7)
ACTION_NAMES = ("left", "right", "forward", "pickup", "drop", "toggle", "done")

# Levels of rising difficulty (by the steps that the expert takes), each with a step limit that is tight: the expert
# keeps to it in 19 of 20 tasks or more, and an agent that wastes steps does not.
BABYAI_LEVELS = {
    "BabyAI-GoToLocalS5N2-v0": 8,
    "BabyAI-GoToLocal-v0": 12,
    "BabyAI-GoToRedBallGrey-v0": 14,
    "BabyAI-PickupLoc-v0": 14,
    "BabyAI-PutNextLocalS5N3-v0": 15,
    "BabyAI-PutNextLocal-v0": 22,
    "BabyAI-UnlockLocal-v0": 26,
    "BabyAI-UnlockPickup-v0": 28,
    "BabyAI-GoToSeqS5R2-v0": 40,
    "BabyAI-BlockedUnlockPickup-v0": 44,
    "BabyAI-KeyCorridorS3R2-v0": 65,
    "BabyAI-FindObjS5-v0": 75,
}

# Levels where minigrid's bot itself fails: it asserts, opens doors in the wrong order, or plans for ever.
_BOT_FAILS = ("Carrying", "KeyInBox", "OpenDoorsOrderN2Debug", "OpenDoorsOrderN4Debug", "UnlockToUnlock")


@dataclass(frozen=True)
class BabyAIConfig:
    """A BabyAI level with a weak agent and one form of help, "help": the expert takes over for a few steps.

    Raises
    ------
    ValueError
        If a number is out of its range.
    TypeError
        If a setting is of another type.
    """

    level: str = field(default="BabyAI-UnlockPickup-v0", metadata={"help": "name of the BabyAI level"})
    step_limit: int = field(default=28, metadata={"help": "environment steps after which the task has failed"})
    help_steps: int = field(default=2, metadata={"help": "environment steps that the expert takes per request"})
    fumble: float = field(
        default=0.65, metadata={"help": "chance of a random move where the agent should pick up, drop or toggle"}
    )
    slip: float = field(default=0.02, metadata={"help": "chance of a random move everywhere else"})
    clock: int = field(default=4, metadata={"help": "unit in which states tell the steps left; 1 is exact"})

    def __post_init__(self) -> None:
        for name in ("step_limit", "help_steps", "clock"):
            validate.integer(f"BabyAIConfig.{name}", getattr(self, name), 1)
        for name in ("fumble", "slip"):
            validate.probability(f"BabyAIConfig.{name}", getattr(self, name))


def make_babyai(
    config: BabyAIConfig, interventions: Sequence[Intervention] | None = None, policy: BasePolicy | None = None
) -> AssistedEnvironment:
    """Build the level, its weak agent and the help.

    Parameters
    ----------
    config : BabyAIConfig
    interventions : sequence of Intervention, optional
        Forms of help in place of the one that `config` describes.
    policy : BasePolicy, optional
        Agent in place of the bot with unreliable hands, such as an `ImitationPolicy`.

    Examples
    --------
    >>> from selfreg.envs import BabyAIConfig, make_babyai
    >>> world = make_babyai(BabyAIConfig())
    >>> world.reset("BabyAI-UnlockPickup-v0/17", seed=0)
    >>> print(world.state().state.splitlines()[0])
    Mission: pick up the yellow box.
    """
    environment = BabyAIEnvironment(config.level, config.step_limit, config.clock)
    agent = DegradedBot(config.fumble, config.slip) if policy is None else policy
    helps = [Intervention("help", config.help_steps)] if interventions is None else interventions
    return AssistedEnvironment(environment, agent, helps)


def split_tasks(config: BabyAIConfig, n_train: int, n_test: int, seed: int) -> tuple[list[str], list[str]]:
    """Draw names of different tasks of the level, for training and for testing.

    Examples
    --------
    >>> from selfreg.envs import BabyAIConfig, split_tasks
    >>> train, test = split_tasks(BabyAIConfig(), n_train=60, n_test=100, seed=0)
    >>> len(train), len(test), len({*train, *test})
    (60, 100, 160)
    """
    return draw_tasks(lambda i, number: f"{config.level}/{number}", n_train, n_test, seed)


class DegradedBot:
    """The bot with unreliable hands.

    It does what the expert would do, except for a random move (turn left, turn right or step forward) with chance
    `fumble` where the expert would pick up, drop or toggle, and with chance `slip` elsewhere.
    """

    def __init__(self, fumble: float, slip: float) -> None:
        self.fumble = fumble
        self.slip = slip

    def act(self, environment: Environment, generator: np.random.Generator) -> int:
        """Choose the next action; draws twice in every step."""
        wanted = environment.expert_action()
        luck, move = generator.random(), int(generator.integers(3))
        return move if luck < self._chance(wanted) else wanted

    def distribution(self, environment: Environment) -> npt.NDArray[np.float64]:
        """Return the probability of each action, float64 (actions,)."""
        wanted = environment.expert_action()
        result = certain(environment, wanted) * (1.0 - self._chance(wanted))
        result[:3] += self._chance(wanted) / 3
        return result

    def _chance(self, wanted: int) -> float:
        return self.fumble if wanted in (PICKUP, DROP, TOGGLE) else self.slip


class BabyAIEnvironment(ReplayedEnvironment):
    """A BabyAI level; a task is named "LEVEL/SEED". Success is 1, running out of `step_limit` steps is 0.

    One bot lives as long as the episode and gets every action that was really taken: its memory (what it has seen, its
    stack of subgoals) decides what it does next and is part of `key`. So are the steps left: a tight limit is what
    makes fumbling fatal, and a key without them would mix states that can still be won with lost ones. Told exactly,
    they let few states come back when a task is repeated; text and key therefore tell them in units of `clock`, which
    makes a key exact up to a few steps. With ``clock=1`` it is exact.

    Parameters
    ----------
    level : str
        Name of the level, such as "BabyAI-UnlockPickup-v0".
    step_limit : int
        Environment steps after which the task has failed; takes the place of the level's own generous limit.
    clock : int
        Unit in which text and key tell the steps left.

    Raises
    ------
    ImportError
        If the extra "envs" is not installed.
    ValueError
        If the level is unknown, or its bot cannot solve it.
    """

    action_names = ACTION_NAMES
    idle_action = DONE

    def __init__(self, level: str, step_limit: int, clock: int = 1) -> None:
        super().__init__()
        self.level = level
        self.step_limit = step_limit
        self.clock = clock
        self._world, self._bots = _load(level)
        self._world.gen_obs = dict  # nobody reads the observation, and it takes a quarter of the time
        self._bot: Any = None
        self._lost = False
        self._advice = DONE

    def begin(self, task: str) -> None:
        """Begin the task "LEVEL/SEED".

        Raises
        ------
        ValueError
            If the name is not this level and a whole number.
        """
        level, _, seed = task.rpartition("/")
        if level != self.level or not seed.isdecimal():
            raise ValueError(f"task is {task!r}; expected '{self.level}/SEED' with a whole number as seed")
        with contextlib.redirect_stdout(io.StringIO()):  # the generator reports rejected layouts on stdout
            self._world.reset(seed=int(seed))
        self._world.max_steps = self.step_limit
        self._bot, self._lost = self._bots.FastBot(self._world), False
        self._replan(None)

    def take(self, action: int) -> float | None:
        """Take one action and tell the bot of it."""
        _, reward, terminated, truncated, _ = self._world.step(action)
        if terminated or truncated:
            return float(reward > 0)
        self._replan(action)
        return None

    @remembered
    def expert_action(self) -> int:
        """Return the bot's advice; "done", which does nothing, once the bot has lost its plan."""
        return self._advice

    @remembered
    def text(self) -> str:
        """Describe mission, steps left, what is carried, what is in front, and all objects seen so far."""
        world = self._world
        front = world.grid.get(*world.front_pos)
        lines = [
            f"Mission: {world.mission}.",
            f"Steps left: {self._steps_left()}.",
            f"Carrying: {_named(world.carrying)}.",
            f"In front: {_named(front)}.",
        ]
        if world.grid.get(*world.agent_pos) is not None:
            lines.append("Standing in a doorway.")
        lines.append("Seen: " + ("; ".join(self._seen_objects()) or "nothing") + ".")
        return "\n".join(lines)

    @remembered
    def key(self) -> str:
        """Hash steps left, grid, agent, progress in the mission, and the bot's memory."""
        world, bot = self._world, self._bot
        facts = (
            self._steps_left(),
            self._advice,
            tuple(int(x) for x in world.agent_pos),
            int(world.agent_dir),
            _named(world.carrying),
            world.mission,
            tuple(_progress(world.instrs)),
            [(type(goal).__name__, _datum(goal.datum), str(goal.reason)) for goal in bot.stack],
        )
        digest = hashlib.blake2b(repr(facts).encode(), digest_size=8)
        # Cell by cell: minigrid's own encode() takes a third of a step's time.
        digest.update(b"".join([_cell(cell) for cell in world.grid.grid]))
        digest.update(np.packbits(bot.vis_mask).tobytes())
        return digest.hexdigest()

    def _replan(self, action: int | None) -> None:
        try:
            self._advice = DONE if self._lost else int(self._bot.replan(action))
        except (AssertionError, self._bots.DisappearedBoxError):  # the bot gives up where it cannot plan
            self._advice, self._lost = DONE, True

    def _steps_left(self) -> str:
        return describe_steps_left(self.step_limit - self._world.step_count, self.clock, self.step_limit)

    def _seen_objects(self) -> list[str]:
        world = self._world
        things, width = world.grid.grid, world.grid.width
        (x, y), (ahead_x, ahead_y) = map(int, world.agent_pos), world.dir_vec.tolist()
        found: list[tuple[int, str]] = []
        for place in np.flatnonzero(self._bot.vis_mask.T).tolist():
            cell, east, south = things[place], place % width - x, place // width - y
            if cell is not None and cell.type != "wall" and (east or south):
                where = _place(east * ahead_x + south * ahead_y, south * ahead_x - east * ahead_y)
                found.append((abs(east) + abs(south), f"{_named(cell)} {where}"))
        return [text for _, text in sorted(found)]


def describe_steps_left(left: int, clock: int, limit: int) -> str:
    """Steps left in units of `clock`: "5 to 8", or "5" where that is exact; "0" once there are none."""
    if left <= 0:
        return "0"
    low = (left - 1) // clock * clock + 1
    high = min(low + clock - 1, limit)
    return str(low) if low == high else f"{low} to {high}"


def _load(level: str) -> tuple[Any, Any]:
    with require_extra("envs", "selfreg.envs"):
        import gymnasium
        import minigrid  # noqa: F401  (registers the levels)

        from selfreg.envs.babyai import bot
    if not level.startswith("BabyAI-") or level not in gymnasium.registry:
        raise ValueError(f"level is {level!r}; expected a BabyAI level of minigrid, such as 'BabyAI-UnlockPickup-v0'")
    if any(name in level for name in _BOT_FAILS):
        raise ValueError(f"level {level!r} is one that minigrid's own bot fails in; expected one with an expert")
    return gymnasium.make(level).unwrapped, bot


def _cell(thing: Any) -> bytes:
    # 254 and 255 are no kinds of thing; walls are all alike.
    if thing is None:
        return b"\xff"
    return b"\xfe" if thing.type == "wall" else bytes(thing.encode())


def _named(thing: Any) -> str:
    if thing is None:
        return "nothing"
    if thing.type == "wall":
        return "wall"
    if thing.type == "door":
        state = "open" if thing.is_open else "locked" if thing.is_locked else "closed"
        return f"{state} {thing.color} door"
    return f"{thing.color} {thing.type}"


def _place(ahead: int, right: int) -> str:
    parts = [f"{abs(ahead)} {'ahead' if ahead > 0 else 'behind'}"] if ahead else []
    if right:
        parts.append(f"{abs(right)} {'right' if right > 0 else 'left'}")
    return " ".join(parts)


def _progress(instruction: Any) -> Iterator[tuple[object, object]]:
    # Only sequences of instructions remember anything: which of their halves is done.
    if hasattr(instruction, "instr_a"):
        yield instruction.a_done, instruction.b_done
        yield from _progress(instruction.instr_a)
        yield from _progress(instruction.instr_b)


def _datum(datum: Any) -> str:
    if hasattr(datum, "obj_poss"):
        return f"{datum!r} {datum.obj_poss}"
    if hasattr(datum, "cur_pos"):
        return f"{_named(datum)} {[int(x) for x in datum.cur_pos]}"
    return "" if datum is None else str([int(x) for x in datum])
