"""Household: a small text world in which the map is stale, the hints are ambiguous, and the exact optimum is known.

The kinds of task follow Situated Instruction Following (Min et al., 2024): put a thing where it belongs; find a thing
that somebody moved after the house was explored; hand a thing to somebody who walks on. The world, its words and its
code are our own: it is not SIF, and none of its (Habitat) scenes are included.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from selfreg._util import validate
from selfreg.envs.exact import ExactModel, enumerate_model
from selfreg.envs.household.house import KINDS, PLACES, ROOMS, House, Ways, build
from selfreg.envs.protocol import AssistedEnvironment, BasePolicy, Environment, Intervention, draw_tasks

GO, SEARCH, PUT = 0, len(ROOMS), len(ROOMS) + 2  # first action of each group: a room, or a side
GIVE, WAIT = len(ROOMS) + 4, len(ROOMS) + 5
SIDES = ("left", "right")
ACTION_NAMES = (
    *(f"go to the {room}" for room in ROOMS),
    *(f"search {side}" for side in SIDES),
    *(f"put {side}" for side in SIDES),
    "give",
    "wait",
)

HELD = -1


@dataclass(frozen=True)
class HouseholdConfig:
    """Household with a weak agent and one form of help, "help": the expert takes over for a few steps.

    Raises
    ------
    ValueError
        If a number is out of its range.
    TypeError
        If a setting is of another type.
    """

    step_limit: int = field(default=12, metadata={"help": "actions after which the task has failed"})
    help_steps: int = field(default=1, metadata={"help": "actions that the expert takes per request"})
    trust: float = field(default=0.6, metadata={"help": "chance that the agent goes by the map, whatever it found"})
    heed: float = field(default=0.5, metadata={"help": "chance that it goes by what was said, where not by the map"})

    def __post_init__(self) -> None:
        for name in ("step_limit", "help_steps"):
            validate.integer(f"HouseholdConfig.{name}", getattr(self, name), 1)
        for name in ("trust", "heed"):
            validate.probability(f"HouseholdConfig.{name}", getattr(self, name))


def make_household(
    config: HouseholdConfig | None = None,
    interventions: Sequence[Intervention] | None = None,
    policy: BasePolicy | None = None,
) -> AssistedEnvironment:
    """Build the world, its weak agent and the help.

    Parameters
    ----------
    config : HouseholdConfig, optional
    interventions : sequence of Intervention, optional
        Forms of help in place of the one that `config` describes.
    policy : BasePolicy, optional
        Agent in place of the one that goes by the stale map.

    Examples
    --------
    >>> from selfreg.envs import make_household
    >>> world = make_household()
    >>> world.reset("household-moved/0", seed=0)
    >>> print(world.state().state)
    Task: put the bowl in the living room shelf.
    Boris says: "I had it while I was reading."
    Doors: study - kitchen, kitchen - bedroom, study - living room, kitchen - hall.
    Map: the bowl is in the study bookcase.
    Here: kitchen. Left: kitchen cupboard. Right: kitchen table.
    In hand: nothing.
    Searched in vain: none.
    Steps left: 12.
    """
    config = config or HouseholdConfig()
    helps = [Intervention("help", config.help_steps)] if interventions is None else interventions
    agent = StaleMapAgent(config.trust, config.heed) if policy is None else policy
    return AssistedEnvironment(HouseholdEnvironment(config.step_limit), agent, helps)


def household_tasks(n_train: int, n_test: int, seed: int, kinds: Sequence[str] = KINDS) -> tuple[list[str], list[str]]:
    """Draw names of different tasks, the kinds in turn, for training and for testing.

    Raises
    ------
    ValueError
        If a kind is unknown, or there is none.

    Examples
    --------
    >>> from selfreg.envs import household_tasks
    >>> train, test = household_tasks(4, 2, seed=0)
    >>> [task.split("/")[0] for task in train]
    ['household-place', 'household-moved', 'household-person', 'household-place']
    """
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown or not kinds:
        raise ValueError(f"kinds is {list(kinds)}; expected one or more of {list(KINDS)}")
    return draw_tasks(lambda i, number: f"household-{kinds[i % len(kinds)]}/{number}", n_train, n_test, seed)


def exact_model(
    task: str, config: HouseholdConfig | None = None, interventions: Sequence[Intervention] | None = None
) -> ExactModel:
    """Exact transition model of a task, so that its true optimum is known.

    Examples
    --------
    >>> import selfreg
    >>> from selfreg.envs.household import environment as household
    >>> exact = household.exact_model("household-moved/0")
    >>> selfreg.solve(exact.mdp, budget=3).value[exact.start].round(3).tolist()
    [0.046, 0.308, 1.0, 1.0]
    """
    return enumerate_model(make_household(config, interventions), task)


class Moment(NamedTuple):
    """All that changes in an episode.

    `thing` is a place or HELD; `searched` places were looked into in vain since the thing was last in hand; `left_at`
    is where the agent put it down, if it did; `met` is the room where the person was last seen, `missed` rooms where
    they were not since.
    """

    time: int
    room: int
    thing: int
    searched: frozenset[int] = frozenset()
    left_at: int | None = None
    met: int | None = None
    missed: frozenset[int] = frozenset()


class HouseholdEnvironment:
    """A task in a house; named "household-KIND/NUMBER" with KIND "place", "moved" or "person".

    Success is 1 as soon as the thing is where, or with whom, it belongs; running out of `step_limit` actions is 0.
    The twelve actions always work or do nothing, and take a step either way: "go to the ROOM" needs a door in
    between; "search" looks into the place on that side and takes the thing if it is there; "put" and "give" need it
    in hand.

    The text tells what the agent knows; where a moved thing is, and where somebody walks, is for it to find out and
    for the expert to know. Nothing is left to chance, so that time, position and knowledge are an exact key within a
    task.

    Parameters
    ----------
    step_limit : int
        Actions after which the task has failed.
    """

    action_names = ACTION_NAMES
    idle_action = WAIT

    def __init__(self, step_limit: int = 12) -> None:
        self.step_limit = step_limit
        self.task: str | None = None
        self.outcome: float | None = None

    def reset(self, task: str) -> None:
        """Begin the task.

        Raises
        ------
        ValueError
            If the name is not "household-KIND/NUMBER".
        """
        if task != self.task:
            self.house = _house(task)
            self.ways = Ways(self.house)
            self.task = task
        self.outcome = None
        house = self.house
        self.now = self._looked_round(Moment(0, house.start, house.hidden, met=house.person_at(0)))

    @property
    def done(self) -> bool:
        """Whether the thing is where it belongs, or the steps are used up."""
        return self.outcome is not None

    def step(self, action: int) -> None:
        """Take one action."""
        now, house = self.now, self.house
        delivered = False
        if action < SEARCH:
            room = action - GO
            if room in self.ways.neighbours[now.room]:
                now = now._replace(room=room)
        elif action < PUT:
            now = self._search(now, 2 * now.room + action - SEARCH)
        elif action < GIVE and now.thing == HELD:
            place = 2 * now.room + action - PUT
            now, delivered = now._replace(thing=place, left_at=place), place == house.goal
        elif action == GIVE:
            delivered = now.thing == HELD and house.goal is None and house.person_at(now.time) == now.room
        self.now = self._looked_round(now._replace(time=now.time + 1))
        if delivered or self.now.time >= self.step_limit:
            self.outcome = float(delivered)

    def _search(self, now: Moment, place: int) -> Moment:
        if now.thing == place:
            return now._replace(thing=HELD, searched=frozenset(), left_at=None)
        # With the thing in hand, or put down by oneself, there is nothing to learn.
        return now if now.thing == HELD or now.left_at is not None else now._replace(searched=now.searched | {place})

    def _looked_round(self, now: Moment) -> Moment:
        person = self.house.person_at(now.time)
        if person is None:
            return now
        if person == now.room:
            return now._replace(met=person, missed=frozenset())
        return now._replace(missed=now.missed | {now.room})

    def expert_action(self) -> int:
        """Return the first action of a shortest way to success."""
        now, house = self.now, self.house
        if now.thing != HELD:
            return self.towards(now.thing // 2, SEARCH + now.thing % 2)
        if house.goal is not None:
            return self.towards(house.goal // 2, PUT + house.goal % 2)
        distance, steps = self.ways.distance, 0
        while distance[now.room, house.person_at(now.time + steps) or 0] > steps:
            steps += 1
        return self.towards(house.person_at(now.time + steps) or 0, WAIT if steps else GIVE)

    def towards(self, room: int, there: int) -> int:
        """Return the action that leads to `room`, or the action `there` once the agent is in it."""
        return there if room == self.now.room else GO + self.ways.next_room(self.now.room, room)

    def text(self) -> str:
        """Describe task, what was said, the map, the position, what was found out, and the steps left."""
        now, house = self.now, self.house
        left, right = (PLACES[2 * now.room + side] for side in (0, 1))
        aim = f"hand the {house.thing} to {house.person}"
        if house.goal is not None:
            aim = f"put the {house.thing} in the {PLACES[house.goal]}"
        lines = [
            f"Task: {aim}.",
            f'{house.person} says: "{house.utterance}"',
            f"Doors: {', '.join(f'{ROOMS[a]} - {ROOMS[b]}' for a, b in house.doors)}.",
            f"Map: the {house.thing} is in the {PLACES[house.mapped]}.",
            f"Here: {ROOMS[now.room]}. Left: {left}. Right: {right}.",
            f"In hand: {house.thing if now.thing == HELD else 'nothing'}.",
            f"Searched in vain: {_listed(PLACES, now.searched)}.",
        ]
        if now.left_at is not None:
            lines.append(f"You put the {house.thing} in the {PLACES[now.left_at]}.")
        if now.met is not None:
            missed = _listed(ROOMS, now.missed)
            lines.append(f"{house.person} was last seen in: {ROOMS[now.met]}. Since then not found in: {missed}.")
        return "\n".join([*lines, f"Steps left: {self.step_limit - now.time}."])

    def key(self) -> str:
        """Tell all that changes in an episode."""
        now = self.now
        known = [sorted(now.searched), now.left_at, now.met, sorted(now.missed)]
        return f"{now.time} {now.room} {now.thing} {known}"

    def save(self) -> tuple[str | None, Moment, float | None]:
        """Return task, moment and outcome."""
        return self.task, self.now, self.outcome

    def restore(self, saved: tuple[str, Moment, float | None]) -> None:
        """Come back to a moment."""
        task, now, outcome = saved
        if task != self.task:
            self.reset(task)
        self.now, self.outcome = now, outcome


class StaleMapAgent:
    """Goes by the map to a degree; knows nothing that the text does not tell.

    It looks for the thing, then brings it to its place or person. Where it looks next is drawn anew at every step:
    with chance `trust` in the place on the map, even if it searched there in vain; else with chance `heed` in the
    nearest place not yet searched in a room that fits what was said; else in the nearest place not yet searched.
    People are looked for in the same way: where they were last seen, where they said they would go, anywhere else.
    """

    def __init__(self, trust: float, heed: float) -> None:
        self.trust = trust
        self.heed = heed

    def act(self, environment: Environment, generator: np.random.Generator) -> int:
        """Choose the next action; draws once in every step."""
        # The last chance is left out: with rounding the sum may end just below 1.
        return int(np.searchsorted(np.cumsum(self.distribution(environment))[:-1], generator.random(), side="right"))

    def distribution(self, environment: Environment) -> npt.NDArray[np.float64]:
        """Return the probability of each action, float64 (12,)."""
        if not isinstance(environment, HouseholdEnvironment):
            raise TypeError(f"StaleMapAgent acts in a HouseholdEnvironment; got {type(environment).__name__}")
        now, house = environment.now, environment.house
        result = np.zeros(len(ACTION_NAMES))
        if now.thing == HELD and house.goal is not None:
            result[environment.towards(house.goal // 2, PUT + house.goal % 2)] = 1.0
        elif now.thing == HELD:
            self._seek_person(environment, result)
        elif now.left_at is not None:
            result[environment.towards(now.left_at // 2, SEARCH + now.left_at % 2)] = 1.0
        else:
            self._seek_thing(environment, result)
        return result

    def _seek_thing(self, world: HouseholdEnvironment, result: npt.NDArray[np.float64]) -> None:
        now, house = world.now, world.house
        unsearched = [place for place in house.places() if place not in now.searched]
        hinted = [] if house.goal is None else [place for place in unsearched if place // 2 in house.hinted]
        for place, chance in self._beliefs(world, [house.mapped], hinted, unsearched or house.places(), per_room=2):
            result[world.towards(place // 2, SEARCH + place % 2)] += chance

    def _seek_person(self, world: HouseholdEnvironment, result: npt.NDArray[np.float64]) -> None:
        now, house = world.now, world.house
        unseen = [room for room in house.rooms if room not in now.missed]
        believed = [room for room in house.rooms if room == now.met]
        hinted = [room for room in unseen if room in house.hinted]
        for room, chance in self._beliefs(world, believed, hinted, unseen or list(house.rooms), per_room=1):
            result[world.towards(room, GIVE if now.met == room and room not in now.missed else WAIT)] += chance

    def _beliefs(
        self, world: HouseholdEnvironment, mapped: list[int], hinted: list[int], others: list[int], per_room: int
    ) -> Iterable[tuple[int, float]]:
        """Goals with their chances: by the map, by what was said, by distance."""
        left = 1.0
        for goals, share in ((mapped, self.trust), (hinted, self.heed), (others, 1.0)):
            if goals:
                distances = [world.ways.distance[world.now.room, goal // per_room] for goal in goals]
                nearest = [goal for goal, d in zip(goals, distances, strict=True) if d == min(distances)]
                yield from ((goal, left * share / len(nearest)) for goal in nearest)
                left *= 1.0 - share


def _house(task: str) -> House:
    kind, _, number = task.removeprefix("household-").partition("/")
    if not task.startswith("household-") or kind not in KINDS or not number.isdecimal():
        raise ValueError(f"task is {task!r}; expected 'household-KIND/NUMBER' with KIND one of {', '.join(KINDS)}")
    return build(kind, int(number))


def _listed(names: Sequence[str], chosen: Iterable[int]) -> str:
    return ", ".join(names[i] for i in sorted(chosen)) or "none"
