"""Environments in which a task and its actions decide everything: what they led to once is remembered."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import wraps
from typing import Any, NamedTuple, TypeVar

World = TypeVar("World", bound="ReplayedEnvironment")
Result = TypeVar("Result")

# Moments of a task that are remembered; with more of them, its next episode begins anew.
MOST_MOMENTS = 50_000
_BEGINNING: tuple[int, ...] = ()


class Moment(NamedTuple):
    """What is known of a moment: the outcome, None while the episode goes on, and what was read there, by its name."""

    outcome: float | None
    read: dict[str, Any]


def remembered(read: Callable[[World], Result]) -> Callable[[World], Result]:
    """A method of a `ReplayedEnvironment` that reads the world: once at every moment of a task."""

    @wraps(read)
    def look_up(environment: World) -> Result:
        found = environment.moment.read
        if read.__name__ not in found:
            environment.catch_up()
            found[read.__name__] = read(environment)
        result: Result = found[read.__name__]
        return result

    return look_up


class ReplayedEnvironment(ABC):
    """An environment that is deterministic, and whose world cannot be copied in less time than it takes to act.

    Many policies run the same task with the same luck, and often take the same actions. The moments of a task are
    therefore remembered as long as it is the task. The world itself stands still where an episode is on a known way;
    where it leaves that way, the world catches up by taking the actions again.

    A subclass has `begin` and `take` for its world, and reads it in methods that are `remembered`.
    """

    def __init__(self) -> None:
        self.moment = Moment(None, {})
        self._task = ""
        self._actions = _BEGINNING
        self._moments = {self._actions: self.moment}
        self._taken: list[int] = []  # by the world

    @abstractmethod
    def begin(self, task: str) -> None:
        """Set the world to the beginning of a task; ValueError for a name that is none."""

    @abstractmethod
    def take(self, action: int) -> float | None:
        """Take one action in the world; the outcome, None while the episode goes on."""

    @property
    def done(self) -> bool:
        """Whether the task is solved, failed, or out of steps."""
        return self.moment.outcome is not None

    @property
    def outcome(self) -> float | None:
        """1 for success, 0 for failure; None while the episode goes on."""
        return self.moment.outcome

    @property
    def steps_taken(self) -> int:
        """Actions that the world has taken."""
        return len(self._taken)

    def reset(self, task: str) -> None:
        """Begin the episode that `task` names.

        Raises
        ------
        ValueError
            If the name is not one of a task here.
        """
        if task != self._task or len(self._moments) > MOST_MOMENTS:
            self._begin(task)
            self._task, self._moments = task, {_BEGINNING: Moment(None, {})}
        self._go_to(_BEGINNING)

    def step(self, action: int) -> None:
        """Take one action."""
        actions = (*self._actions, action)
        if actions not in self._moments:
            self.catch_up()
            self._moments[actions] = Moment(self._take(action), {})
        self._go_to(actions)

    def save(self) -> tuple[str, tuple[int, ...]]:
        """Return the task and the actions so far."""
        return self._task, self._actions

    def restore(self, saved: tuple[str, tuple[int, ...]]) -> None:
        """Come back to a moment by its actions."""
        task, actions = saved
        self.reset(task)
        for action in actions:
            self.step(action)

    def catch_up(self) -> None:
        """Bring the world to the present moment."""
        taken = len(self._taken)
        if self._actions[:taken] != tuple(self._taken):
            self._begin(self._task)
            taken = 0
        for action in self._actions[taken:]:
            self._take(action)

    def _begin(self, task: str) -> None:
        self.begin(task)
        self._taken = []

    def _take(self, action: int) -> float | None:
        self._taken.append(action)
        return self.take(action)

    def _go_to(self, actions: tuple[int, ...]) -> None:
        self._actions, self.moment = actions, self._moments[actions]
