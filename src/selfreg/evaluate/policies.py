"""Help policies to compare: baselines, the plan, the helper. All follow `selfreg.envs.HelpPolicy`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from selfreg.data import Step, Trajectory, state_text
from selfreg.estimate import EstimatedModel, Key, StateAbstraction
from selfreg.solve import Solution

if TYPE_CHECKING:
    from selfreg.helper import Helper


class Scorer(Protocol):
    """What a threshold needs of a PRM."""

    def text(self, steps: Sequence[Step]) -> str:
        """Text of the state that the last of `steps` is in."""

    def score(self, texts: Sequence[str]) -> npt.NDArray[np.float64]:
        """P(success | text, no help from here on), float64 (len(texts),)."""


class Never:
    """Goes on alone."""

    name = "never"

    def start(self, task: str, seed: int) -> None:
        """Nothing to forget."""

    def decide(self, steps: Sequence[Step], budget_left: int | None) -> str | None:
        """None."""
        return None


@dataclass
class Always:
    """Asks for `help` at every step; under a budget of k this is first-k."""

    help: str
    name: str = "always"

    def start(self, task: str, seed: int) -> None:
        """Nothing to forget."""

    def decide(self, steps: Sequence[Step], budget_left: int | None) -> str | None:
        """The help type, while there is budget."""
        return None if budget_left == 0 else self.help


@dataclass
class Threshold:
    """Asks for `help` where the PRM's P(success) is below `threshold`."""

    prm: Scorer
    help: str
    threshold: float
    name: str = "PRM threshold"
    known: dict[str, float] = field(default_factory=dict)

    def start(self, task: str, seed: int) -> None:
        """Nothing to forget."""

    def decide(self, steps: Sequence[Step], budget_left: int | None) -> str | None:
        """The help type where the score is low."""
        if budget_left == 0:
            return None
        text = self.prm.text(steps)
        if text not in self.known:
            self.known[text] = float(self.prm.score([text])[0])
        return self.help if self.known[text] < self.threshold else None


class Plan:
    """The plan of dynamic programming, looked up by abstract state; goes on alone at states that it does not know.

    Attributes
    ----------
    unseen : int
        Decisions at unknown states since `start`.
    """

    name = "plan"

    def __init__(self, abstraction: StateAbstraction, decisions: Mapping[Key, Sequence[str | None]]) -> None:
        self.abstraction, self.decisions = abstraction, decisions
        self.unseen = 0

    @classmethod
    def of(cls, model: EstimatedModel, solution: Solution) -> Plan:
        """Plan of a solved model with one budget."""
        if len(solution.budget) != 1:
            raise ValueError(f"a plan is followed with one budget; the solution has {len(solution.budget)}")
        names = [None, *model.mdp.actions[1:]]
        table = {key: [names[a] for a in solution.policy[i]] for i, key in enumerate(model.counts.keys)}
        return cls(model.abstraction, table)

    def start(self, task: str, seed: int) -> None:
        """Begin an episode."""
        self.task, self.unseen = task, 0

    def decide(self, steps: Sequence[Step], budget_left: int | None) -> str | None:
        """The plan's decision with the budget left (its largest where more is left)."""
        so_far = Trajectory(self.task, "now", None, tuple(steps), truncated=True)
        row = self.decisions.get(self.abstraction.encode(so_far, len(steps) - 1))
        if row is None:
            self.unseen += 1
            return None
        return row[-1 if budget_left is None else min(budget_left, len(row) - 1)]


class FollowHelper:
    """Does what a trained helper says."""

    name = "helper"

    def __init__(self, helper: Helper) -> None:
        self.helper = helper
        self.known: dict[tuple[str, int], str | None] = {}

    def start(self, task: str, seed: int) -> None:
        """Nothing to forget."""

    def decide(self, steps: Sequence[Step], budget_left: int | None) -> str | None:
        """The most probable action that can be paid."""
        left = self.helper.limits[0] if budget_left is None else budget_left
        if not left:
            return None
        place = (state_text(steps, self.helper.history), left)
        if place not in self.known:
            action = int(self.helper.choices([place[0]], [[left]])[0])
            self.known[place] = self.helper.actions[action] if action else None
        return self.known[place]
