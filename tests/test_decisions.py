"""The protocol: what is called where a policy has it, and who follows it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import made
from helper_cases import QUICK, rule_examples
from selfreg.data import Step, Trajectory
from selfreg.decisions import (
    Decision,
    DecisionPolicy,
    action_probabilities,
    budget_spent,
    decide_batch,
    start_episode,
)
from selfreg.envs import RandomHelp
from selfreg.estimate import Features
from selfreg.evaluate import Always, EveryN, LastK, Never, Plan
from selfreg.helper import train_helper
from selfreg.prm import PRMConfig, train_prm
from selfreg.prm.threshold import ThresholdPolicy


class Bare:
    """Has `decide` only."""

    def decide(self, steps, budget_left):
        return Decision("help" if not budget_spent(budget_left) and "red" in steps[-1].state else "nohelp")


class Whole(Bare):
    """Has all optional methods, and records their calls."""

    def __init__(self) -> None:
        self.calls: list[object] = []

    def start(self, task, seed):
        self.calls.append((task, seed))

    def set_fields(self, fields):
        self.calls.append(dict(fields))

    def decide_batch(self, histories, budgets_left):
        self.calls.append(len(histories))
        return [self.decide(*one) for one in zip(histories, budgets_left, strict=True)]

    def action_probabilities(self, steps, budget_left):
        return {"nohelp": 0.25, "help": 0.75}


def test_optional_methods_are_called_where_there_are_any() -> None:
    whole, histories = Whole(), [[Step("red")], [Step("green")]]
    for policy in (Bare(), whole):
        start_episode(policy, "task", 7, {"domain": "code"})
        decisions = decide_batch(policy, histories, [(1,), None])
        assert [one.action for one in decisions] == ["help", "nohelp"]
    start_episode(whole, "task", 8)
    assert whole.calls == [("task", 7), {"domain": "code"}, 2, ("task", 8), {}]
    assert action_probabilities(Bare(), [Step("red")], (0,)) == {"nohelp": 1.0}
    assert action_probabilities(whole, [Step("red")], (0,)) == {"nohelp": 0.25, "help": 0.75}
    with pytest.raises(ValueError, match="2 histories and 1 budgets"):
        decide_batch(Bare(), histories, [None])


POLICIES: dict[str, Callable[[], DecisionPolicy]] = {
    "never": Never,
    "always": lambda: Always("help"),
    "last-k": lambda: LastK("help", 1, 1),
    "every-n": lambda: EveryN("help", 1),
    "random": lambda: RandomHelp(1.0, ["help"]),
    "threshold": lambda: ThresholdPolicy(train_prm(made.colours(), PRMConfig(kind="tfidf")), "help", 2.0),
    "plan": lambda: Plan(Features(["step"]), ("nohelp", "help"), [(0,)], [[0, 1, 1, 1]]),
    "helper": lambda: train_helper(rule_examples(), QUICK),
}


@pytest.mark.parametrize("name", POLICIES)
def test_all_policies_follow_the_protocol(name: str) -> None:
    policy = POLICIES[name]()
    steps = [Step("blue door")]
    for left in ((0,), (3,), None):
        start_episode(policy, "task", 0)
        decision = policy.decide(steps, left)
        assert isinstance(decision, Decision)
        assert decision.budget_left == left
        assert decision.action == ("help" if name != "never" and left != (0,) else "nohelp") or name == "random"
        start_episode(policy, "task", 0)
        (batch,) = decide_batch(policy, [steps], [left])
        assert batch == decision
        chances = action_probabilities(policy, steps, left)
        assert sum(chances.values()) == pytest.approx(1.0)
        assert chances[decision.action] > 0


def test_a_helper_without_a_limit_reads_its_largest_budget() -> None:
    helper = train_helper(rule_examples(), QUICK)
    free, largest = (helper.decide(["blue door"], left) for left in (None, (3,)))
    assert (free.action, free.request_probability) == (largest.action, largest.request_probability)
    assert free.budget_left is None
    assert "with no limit" in free.reason
    for wrong in (3, [3], "3"):
        with pytest.raises(TypeError, match=r"expected a tuple of int such as ledger\.left, or None"):
            helper.decide(["blue door"], wrong)  # type: ignore[arg-type]


def test_a_batch_of_a_helper_is_its_single_decisions() -> None:
    helper = train_helper(rule_examples(), QUICK)
    texts = rule_examples(20).texts
    lefts = [(i % 4,) if i % 5 else None for i in range(len(texts))]
    together = helper.decide_batch([[text] for text in texts], lefts)
    for text, left, decision in zip(texts, lefts, together, strict=True):
        one = helper.decide([text], left)
        assert one.action == decision.action
        np.testing.assert_allclose(one.request_probability, decision.request_probability, atol=1e-6)
    assert helper.decide_batch([], []) == []


def test_fields_of_logged_episodes_reach_the_policy() -> None:
    trajectory = Trajectory("t", "e", 1.0, (Step("x"),), fields={"domain": "code"})
    plan = Plan(Features(["domain"]), ("nohelp", "help"), [("code",)], [[0, 1]])
    start_episode(plan, trajectory.task, 0, trajectory.fields)
    assert plan.decide(trajectory.steps, (1,)).action == "help"
