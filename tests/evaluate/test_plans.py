"""Plans as policies: look-up, fallback, several budgets, fields, the optimum."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import selfreg
from selfreg.data import Step, Trajectory
from selfreg.decisions import action_probabilities, start_episode
from selfreg.envs import RandomHelp, make_household, run_episode
from selfreg.envs.exact import ExactModel
from selfreg.envs.household import environment as household
from selfreg.estimate import ExactKey, Features, estimate_mdp
from selfreg.evaluate import Always, ComparedPolicy, Plan, run_closed_loop

TASK = "household-moved/3"
ACTIONS = ("nohelp", "help")


def step(text: str) -> Step:
    return Step(text, key=text)


def test_a_plan_follows_the_solution_and_goes_on_alone_elsewhere() -> None:
    logs = [
        Trajectory("t", "a", 0.0, (Step("x", key="k"),)),
        Trajectory("t", "b", 1.0, (Step("x", key="k", intervention="help"),)),
    ]
    model = estimate_mdp(logs, ExactKey())
    plan = Plan.of(model, selfreg.solve(model.mdp, 2))
    plan.start("t", 0)
    decisions = [plan.decide([step("k")], left) for left in ((0,), (1,), (5,), None)]
    assert [one.action for one in decisions] == ["nohelp", "help", "help", "help"]
    assert not any(one.extrapolated for one in decisions)
    elsewhere = plan.decide([step("other")], (2,))
    assert (elsewhere.action, elsewhere.extrapolated) == ("nohelp", True)
    plan.start("other task", 0)
    assert plan.decide([step("k")], (2,)).extrapolated
    with pytest.raises(ValueError, match="solution is of another model"):
        Plan.of(model, selfreg.solve(household.exact_model(TASK).mdp, 1))


def test_a_fallback_decides_where_the_plan_has_no_state() -> None:
    alone = Plan(ExactKey(), ACTIONS, [("t", "known")], [[0, 0, 1]])
    for plan, action in ((alone, "nohelp"), (alone.with_fallback(Always("help")), "help")):
        start_episode(plan, "t", 0)
        assert [plan.decide([step("known")], (left,)).action for left in (1, 2)] == ["nohelp", "help"]
        decision = plan.decide([step("new")], (2,))
        assert (decision.action, decision.extrapolated) == (action, True)
    plan = alone.with_fallback(RandomHelp(0.25, ["help"]))
    plan.start("t", 0)
    assert action_probabilities(plan, [step("new")], (2,)) == {"nohelp": 0.75, "help": 0.25}
    assert action_probabilities(plan, [step("known")], (2,)) == {"help": 1.0}


def test_several_budgets_are_looked_up_together() -> None:
    policy = np.zeros((1, 2, 3), np.int8)
    policy[0, 1, 2] = 1
    plan = Plan(Features(["step"]), ACTIONS, [(0,)], policy)
    for left, action in (((1, 2), "help"), ((9, 9), "help"), (None, "help"), ((1, 1), "nohelp"), ((0, 2), "nohelp")):
        assert plan.decide([step("x")], left).action == action
    for wrong in ((1,), (1, -1)):
        with pytest.raises(ValueError, match=r"expected 2 number\(s\) >= 0"):
            plan.decide([step("x")], wrong)
    with pytest.raises(TypeError, match="budget_left is 1; expected a tuple"):
        plan.decide([step("x")], 1)  # type: ignore[arg-type]


def test_states_may_depend_on_fields_of_the_episode() -> None:
    plan = Plan(Features(["domain"]), ACTIONS, [("code",)], [[0, 1]])
    start_episode(plan, "t", 0, {"domain": "code"})
    assert plan.decide([step("x")], (1,)).action == "help"
    start_episode(plan, "t", 0, {"domain": "mathematics"})
    assert plan.decide([step("x")], (1,)).extrapolated


def test_bad_plans_are_refused() -> None:
    with pytest.raises(ValueError, match="expected 'nohelp' first"):
        Plan(ExactKey(), ["help"], [], np.zeros((0, 2)))
    with pytest.raises(ValueError, match=r"policy has shape \(1, 2\); expected \(2, B1 \+ 1, \.\.\.\)"):
        Plan(ExactKey(), ACTIONS, [("a",), ("b",)], [[0, 1]])
    with pytest.raises(ValueError, match="steps is empty"):
        Plan(ExactKey(), ACTIONS, [], np.zeros((0, 2))).decide([], (1,))
    with pytest.raises(ValueError, match="expected one model or more"):
        Plan.exact({}, 1)


def test_plans_can_be_sent_to_workers() -> None:
    plan = Plan(ExactKey(), ACTIONS, [("t", "known")], [[0, 1]], Always("help"))
    for again in (pickle.loads(pickle.dumps(plan)), copy.deepcopy(plan)):
        start_episode(again, "t", 0)
        assert again.decide([step("known")], (1,)).action == "help"


def test_a_plan_is_a_policy_of_episodes() -> None:
    exact: ExactModel = household.exact_model(TASK)
    episode = run_episode(make_household(), TASK, 1, Plan.exact({TASK: exact}, 2), 2)
    assert episode.cost <= 2
    assert episode.fields["policy"] == "plan"


def test_the_exact_plan_holds_the_optimum() -> None:
    exact = household.exact_model(TASK)
    value = selfreg.solve(exact.mdp, 2).value[exact.start]
    plan = Plan.exact({TASK: exact}, 2)
    rows = run_closed_loop(
        make_household,
        lambda: [ComparedPolicy("optimum", 1, plan), ComparedPolicy("optimum", 2, plan)],
        [TASK],
        episodes_per_task=300,
        workers=1,
    )
    for b in (1, 2):
        outcomes = [row.success for row in rows if row.budget == b]
        assert abs(np.mean(outcomes) - value[b]) < 4 * np.sqrt(0.25 / 300)
        assert not any(row.unseen for row in rows)
