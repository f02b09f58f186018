"""Help policies to compare: baselines, the plan, the helper. All follow `selfreg.envs.HelpPolicy`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from selfreg._util.text_features import hashed_words
from selfreg.data import Step, Trajectory, state_text
from selfreg.envs import ExactModel, HelpPolicy
from selfreg.estimate import EstimatedModel, ExactKey, Key, StateAbstraction
from selfreg.planning.hard import Solution, solve

if TYPE_CHECKING:
    from selfreg.helper import Helper

WORDS = 2**16  # numbers that word groups are hashed to


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
    """The plan of dynamic programming, looked up by abstract state.

    Parameters
    ----------
    abstraction : StateAbstraction
    decisions : mapping
        Help type, or None, at each budget left, by key of the abstract state.
    fallback : HelpPolicy, optional
        Decides at states that the plan does not know; by default the agent goes on alone there.

    Attributes
    ----------
    unseen : int
        Decisions at unknown states since `start`.
    """

    name = "plan"

    def __init__(
        self,
        abstraction: StateAbstraction,
        decisions: Mapping[Key, Sequence[str | None]],
        fallback: HelpPolicy | None = None,
    ) -> None:
        self.abstraction, self.decisions, self.fallback = abstraction, decisions, fallback or Never()
        self.unseen = 0

    @classmethod
    def of(cls, model: EstimatedModel, solution: Solution, fallback: HelpPolicy | None = None) -> Plan:
        """Plan of a solved model with one budget."""
        return cls(model.abstraction, _table(model.counts.keys, solution), fallback)

    @classmethod
    def exact(cls, models: Mapping[str, ExactModel], budget: int) -> Plan:
        """The true optimum of tasks by their exact models."""
        table: dict[Key, Sequence[str | None]] = {}
        for task, model in models.items():
            table |= _table([(task, key) for key in model.keys], solve(model.mdp, budget))
        return cls(ExactKey(), table)

    def start(self, task: str, seed: int) -> None:
        """Begin an episode."""
        self.task, self.unseen = task, 0
        self.fallback.start(task, seed)

    def decide(self, steps: Sequence[Step], budget_left: int | None) -> str | None:
        """The plan's decision with the budget left (its largest where more is left)."""
        so_far = Trajectory(self.task, "now", None, tuple(steps), truncated=True)
        row = self.decisions.get(self.abstraction.encode(so_far, len(steps) - 1))
        if row is None:
            self.unseen += 1
            return self.fallback.decide(steps, budget_left)
        return at_budget(row, budget_left)


def _table(keys: Sequence[Key], solution: Solution) -> dict[Key, Sequence[str | None]]:
    if len(solution.budget) != 1:
        raise ValueError(f"a plan is followed with one budget; the solution has {len(solution.budget)}")
    names = [None, *solution.mdp.actions[1:]]
    return {key: [names[a] for a in solution.policy[i]] for i, key in enumerate(keys)}


def at_budget(row: Sequence[str | None], budget_left: int | None) -> str | None:
    """Decision with the budget left, the last one of the row where more is left or help is unlimited."""
    return row[-1 if budget_left is None else min(budget_left, len(row) - 1)]


class NearestState:
    """Decides as a plan does in the most similar state of the same task that the plan knows.

    Likeness is the cosine of the sets of word groups in the states' texts
    (`selfreg._util.text_features.hashed_words`), the first one of equals counts. Where the plan knows no state of the
    task the agent goes on alone.

    Parameters
    ----------
    plan : Plan
    trajectories : iterable of Trajectory
        Those that the plan's model was estimated from: they have the texts.
    """

    name = "nearest state"

    def __init__(self, plan: Plan, trajectories: Iterable[Trajectory]) -> None:
        self.known: dict[str, dict[str, Sequence[str | None]]] = {}
        for trajectory in trajectories:
            mine = self.known.setdefault(trajectory.task, {})
            for i, step in enumerate(trajectory.steps):
                row = plan.decisions.get(plan.abstraction.encode(trajectory, i))
                if row is not None:
                    mine.setdefault(step.state, row)
        self._task: str | None = None

    def start(self, task: str, seed: int) -> None:
        """Begin an episode; the words of the last task are kept."""
        if task != self._task:
            self._task, self._rows = task, list(self.known.get(task, {}).values())
            self._words = [hashed_words(text, WORDS) for text in self.known.get(task, {})]
            self._found: dict[str, Sequence[str | None]] = {}

    def decide(self, steps: Sequence[Step], budget_left: int | None) -> str | None:
        """The plan's decision in the most similar state."""
        text = steps[-1].state
        if not self._rows:
            return None
        if text not in self._found:
            words = hashed_words(text, WORDS)
            likeness = [np.isin(mine, words).sum() / np.sqrt(max(len(mine), 1)) for mine in self._words]
            self._found[text] = self._rows[int(np.argmax(likeness))]
        return at_budget(self._found[text], budget_left)


class FollowHelper:
    """Does what a trained helper says."""

    name = "helper"

    def __init__(self, helper: Helper) -> None:
        self.helper = helper
        self.cheapest = min(cost[0] for cost in helper.costs.values())
        self.known: dict[tuple[str, int], str | None] = {}

    def start(self, task: str, seed: int) -> None:
        """Nothing to forget."""

    def decide(self, steps: Sequence[Step], budget_left: int | None) -> str | None:
        """The most probable action that can be paid."""
        left = self.helper.limits[0] if budget_left is None else budget_left
        if left < self.cheapest:
            return None
        place = (state_text(steps, self.helper.history), left)
        if place not in self.known:
            action = int(self.helper.choices([place[0]], [[left]])[0])
            self.known[place] = self.helper.actions[action] if action else None
        return self.known[place]
