"""The plan of dynamic programming as a policy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from selfreg.data import NOHELP, Step, Trajectory
from selfreg.decisions import BudgetLeft, Decision, DecisionPolicy, action_probabilities, start_episode
from selfreg.envs.exact import ExactModel
from selfreg.estimate import EstimatedModel, ExactKey, Key, StateAbstraction
from selfreg.evaluate.policies import Never
from selfreg.planning.hard import Solution, solve


class Plan:
    """Decisions of a solution, looked up by abstract state and budget left; a `DecisionPolicy`.

    Parameters
    ----------
    abstraction : StateAbstraction
    actions : sequence of str
        "nohelp" first, then the help types.
    keys : sequence of Key
        Abstract states of the plan.
    policy : array_like of int8, shape (len(keys), B1 + 1, ...)
        Index into `actions` in each state, at each budget left.
    fallback : DecisionPolicy, optional
        Decides at states that the plan lacks; by default the agent goes on alone there. `Decision.extrapolated` marks
        these decisions.

    Raises
    ------
    ValueError
        If `actions` does not start with "nohelp", or `policy` has another shape.

    Examples
    --------
    >>> from selfreg.data import Step
    >>> from selfreg.estimate import Features
    >>> from selfreg.evaluate import Plan
    >>> plan = Plan(Features(["step"]), ["nohelp", "help"], [(0,)], [[0, 0, 1]])
    >>> [plan.decide([Step("a")], left).action for left in ((1,), (2,), (9,), None)]
    ['nohelp', 'help', 'help', 'help']
    >>> plan.decide([Step("a", intervention="help"), Step("b")], (1,)).extrapolated
    True
    """

    name = "plan"

    def __init__(
        self,
        abstraction: StateAbstraction,
        actions: Sequence[str],
        keys: Sequence[Key],
        policy: npt.ArrayLike,
        fallback: DecisionPolicy | None = None,
    ) -> None:
        if not actions or actions[0] != NOHELP:
            raise ValueError(f"actions are {list(actions)}; expected {NOHELP!r} first")
        self.policy: npt.NDArray[np.int8] = np.asarray(policy, dtype=np.int8)
        if self.policy.ndim < 2 or len(self.policy) != len(keys):
            raise ValueError(f"policy has shape {self.policy.shape}; expected ({len(keys)}, B1 + 1, ...)")
        self.abstraction, self.actions = abstraction, tuple(actions)
        self.index: dict[Key, int] = {key: i for i, key in enumerate(keys)}
        self.fallback: DecisionPolicy = fallback or Never()
        self._task, self._fields = "", dict[str, Any]()

    @classmethod
    def of(cls, model: EstimatedModel, solution: Solution, fallback: DecisionPolicy | None = None) -> Plan:
        """Plan of a solved model; ValueError where the solution is of another model."""
        if solution.value.shape[0] != model.mdp.n_states:
            raise ValueError("solution is of another model")
        keys = model.counts.keys
        return cls(model.abstraction, solution.mdp.actions, keys, solution.policy[: len(keys)], fallback)

    @classmethod
    def exact(cls, models: Mapping[str, ExactModel], budget: int | tuple[int, ...]) -> Plan:
        """The true optimum of tasks by their exact models; ValueError where their actions differ."""
        actions = {model.mdp.actions for model in models.values()}
        if len(actions) != 1:
            raise ValueError(f"the models have actions {sorted(actions)}; expected one model or more, of equal actions")
        keys: list[Key] = [(task, key) for task, model in models.items() for key in model.keys]
        rows = [solve(model.mdp, budget).policy[: len(model.keys)] for model in models.values()]
        return cls(ExactKey(), actions.pop(), keys, np.concatenate(rows))

    def with_fallback(self, fallback: DecisionPolicy) -> Plan:
        """The same plan with another fallback."""
        return Plan(self.abstraction, self.actions, list(self.index), self.policy, fallback)

    def start(self, task: str, seed: int) -> None:
        """Begin an episode."""
        self._task = task
        start_episode(self.fallback, task, seed)

    def set_fields(self, fields: Mapping[str, Any]) -> None:
        """Fields of the episode, for an abstraction that uses them."""
        self._fields = dict(fields)

    def decide(self, steps: Sequence[Step], budget_left: BudgetLeft) -> Decision:
        """Decision of the plan; more budget than the plan has, or None, is read as its largest.

        Raises
        ------
        ValueError
            If `steps` is empty, or `budget_left` does not fit the plan.
        """
        decision = self.look_up(steps, budget_left)
        if decision is None:
            return replace(self.fallback.decide(steps, budget_left), extrapolated=True)
        return decision

    def action_probabilities(self, steps: Sequence[Step], budget_left: BudgetLeft) -> Mapping[str, float]:
        """P(action) by name: 1 for the plan's action, those of the fallback at states that the plan lacks."""
        decision = self.look_up(steps, budget_left)
        if decision is None:
            return action_probabilities(self.fallback, steps, budget_left)
        return {decision.action: 1.0}

    def look_up(self, steps: Sequence[Step], budget_left: BudgetLeft) -> Decision | None:
        """Decision in a state of the plan, None in any other."""
        state = self.index.get(self.key_of(steps))
        return None if state is None else self.decide_at(state, budget_left)

    def key_of(self, steps: Sequence[Step]) -> Key:
        """Abstract state that the last of `steps` is in."""
        if not steps:
            raise ValueError("steps is empty; expected at least the current state")
        episode = Trajectory(self._task, "now", None, tuple(steps), truncated=True, fields=self._fields)
        return self.abstraction.encode(episode, len(steps) - 1)

    def decide_at(self, state: int, budget_left: BudgetLeft) -> Decision:
        """Decision in the state of this number."""
        most = tuple(size - 1 for size in self.policy.shape[1:])
        left = most if budget_left is None else budget_left
        if not isinstance(left, tuple):
            raise TypeError(f"budget_left is {left!r}; expected a tuple of int, or None")
        if len(left) != len(most) or min(left) < 0:
            raise ValueError(f"budget_left is {left}; expected {len(most)} number(s) >= 0, or None")
        action = self.policy[(state, *map(min, left, most))]
        return Decision(self.actions[int(action)], budget_left=budget_left)
