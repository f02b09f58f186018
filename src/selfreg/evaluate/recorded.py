"""Episodes in which a recorder decides, as it does where a policy is deployed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from selfreg.data import Step
from selfreg.decisions import BudgetLeft, Decision, DecisionPolicy, policy_name
from selfreg.runtime.ledger import Ledger
from selfreg.runtime.recorder import Recorder

Units: TypeAlias = int | tuple[int, ...]


class Recorded:
    """A policy behind a `Recorder` with a ledger in memory, new for each episode; a `DecisionPolicy`.

    What is measured is then what is deployed: the decision is made from the ledger's budget, reserved, stored and read
    back, and settled when the step was taken.

    Parameters
    ----------
    policy : DecisionPolicy
        Without `start`: a recorder starts such a policy anew at every step.
    costs : mapping of str to int or tuple of int
        Units of each help type.
    budget : int or tuple of int
        Units of each episode, of each budget where there are several.

    Raises
    ------
    ValueError
        The policy has `start`.

    Examples
    --------
    >>> from selfreg.envs import make_household, run_episode
    >>> from selfreg.evaluate import Always, Recorded
    >>> policy = Recorded(Always("help"), {"help": 1}, budget=2)
    >>> run_episode(make_household(), "household-place/3", 0, policy, budget=2).cost
    2
    >>> [(one.step_id, one.status) for one in policy.recorder.ledger.entries()]
    [(0, 'charged'), (1, 'charged')]
    """

    def __init__(self, policy: DecisionPolicy, costs: Mapping[str, Units], budget: Units) -> None:
        if hasattr(policy, "start"):
            raise ValueError(f"policy {policy_name(policy)!r} has start; expected one that decides from steps alone")
        self.policy, self.name, self._costs, self._budget = policy, policy_name(policy), dict(costs), budget
        self.recorder, self._task = self._make(), ""

    def _make(self) -> Recorder:
        return Recorder(self.policy, Ledger(self._budget), costs=self._costs)

    def start(self, task: str, seed: int) -> None:
        """Begin an episode with a new ledger."""
        self.recorder, self._task = self._make(), task

    def decide(self, steps: Sequence[Step], budget_left: BudgetLeft) -> Decision:
        """The recorder's decision.

        Raises
        ------
        ValueError
            The ledger has another budget left than the episode.
        """
        last = steps[-2].intervention if len(steps) > 1 else None
        if last is not None:
            self.recorder.settle(self._task, len(steps) - 2, self._costs[last])
        decision = self.recorder.decide_once(self._task, len(steps) - 1, steps)
        if decision.budget_left != budget_left:
            raise ValueError(f"the ledger has {decision.budget_left} left, the episode {budget_left}")
        return decision


def behind_recorder(policy: DecisionPolicy, costs: Mapping[str, Units], budget: Units | None) -> DecisionPolicy:
    """The policy behind a recorder, where a recorder can hold it: with a budget, and without `start`."""
    if budget is None or not costs or hasattr(policy, "start"):
        return policy
    return Recorded(policy, costs, budget)
