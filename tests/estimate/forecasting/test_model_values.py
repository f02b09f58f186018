"""Models whose untried actions are filled in, and how far a forecast is shrunk towards them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from selfreg.data import NOHELP, Step, Trajectory
from selfreg.decisions import BudgetLeft, Decision, DecisionPolicy
from selfreg.estimate import ExactKey, estimate_mdp
from selfreg.estimate.forecasting.candidates import fold_models, helper_decisions
from selfreg.estimate.forecasting.compute import TRAINING_ERROR, _add_training_error
from selfreg.estimate.forecasting.logged_steps import LoggedSteps
from selfreg.estimate.forecasting.model_effects import fold_states
from selfreg.estimate.forecasting.model_values import (
    ERROR,
    ModelValue,
    fill_model,
    model_values,
    shrink_toward_model,
)
from selfreg.estimate.forecasting.step_effects import Value
from selfreg.estimate.model import EstimatedModel


def make_model() -> EstimatedModel:
    """In "a" both actions were tried, in "b" going alone, in "c" and "d" help."""
    tried = [("a", None, 0), ("a", None, 1), ("a", "do", 1), ("b", None, 0), ("c", "do", 0), ("d", "do", 1)]
    return estimate_mdp(
        [
            Trajectory("t", str(i), float(outcome), (Step(state, key=state, intervention=help_type),))
            for i, (state, help_type, outcome) in enumerate(tried)
        ],
        ExactKey(),
    )


def success(chances: tuple[float, float] | None = None) -> dict[str, list[float]]:
    """Of each action in "a", "b", "c" and "d"."""
    model = make_model()
    n = model.mdp.n_states
    filled = fill_model(model, None if chances is None else [np.full(n, chance) for chance in chances])
    states = [model.state(Trajectory("t", key, 0.0, (Step(key, key=key),)), 0) for key in "abcd"]
    for matrix in filled.transitions.values():
        np.testing.assert_allclose(np.asarray(matrix.sum(axis=1)).ravel()[:-2], 1.0)
    return {name: [matrix.toarray()[i, -2] for i in states] for name, matrix in filled.transitions.items()}


def test_an_action_that_was_not_tried_does_what_the_other_does() -> None:
    assert success() == {"nohelp": [0.5, 0.0, 0.0, 1.0], "do": [1.0, 0.0, 0.0, 1.0]}


def test_chances_end_untried_rows_alone() -> None:
    assert success((-0.25, 0.5)) == {"nohelp": [0.5, 0.0, 0.0, 0.75], "do": [1.0, 0.5, 0.0, 1.0]}
    assert success((0.25, -0.5)) == {"nohelp": [0.5, 0.0, 0.25, 1.0], "do": [1.0, 0.0, 0.0, 1.0]}


class AtHardTasks:
    """Requests help in tasks that are hard."""

    def decide(self, steps: Sequence[Step], budget_left: BudgetLeft) -> Decision:
        return Decision("help" if steps[-1].state == "hard" else NOHELP)


class AtRandom:
    """Requests help by its own luck, which no state tells."""

    def __init__(self) -> None:
        self.luck = random.Random(1)

    def decide(self, steps: Sequence[Step], budget_left: BudgetLeft) -> Decision:
        return Decision("help" if self.luck.random() < 0.5 else NOHELP)


def make_decisions(tasks: int) -> list[Trajectory]:
    """One decision an episode, by a coin: help makes .3 into .9 in hard tasks, and .8 into .4 in others."""
    luck, logs = random.Random(4), []
    for i in range(3 * tasks):
        task, helped = i % tasks, luck.random() < 0.5
        won = luck.random() < ((0.9 if helped else 0.3) if task % 2 else (0.4 if helped else 0.8))
        step = Step("hard" if task % 2 else "easy", key="start", intervention="help" if helped else None)
        logs.append(Trajectory(f"t{task}", f"t{task}/{i}", float(won), (step,), fields={"rate": 0.5}))
    return logs


def values(
    logs: list[Trajectory], policy: DecisionPolicy, cost: int = 1, budget: int = 1
) -> tuple[ModelValue | None, ModelValue | None]:
    """Of the policy, and of a rule with the same decisions."""
    charges = {"help": (cost,)}
    logged = LoggedSteps.of(logs, charges)
    models = fold_models(logged, ExactKey(), charges, 0)
    one = helper_decisions(logged, lambda _: policy, [(budget,)], 0)[0]
    rule = replace(one, policy="rule", rule="last-k")
    helper, other = model_values(logged, fold_states(logged, ExactKey(), models), [one, rule], models)
    return helper, other


def test_untried_actions_have_the_mean_effect_of_like_states() -> None:
    """A fifth of the states lacks one of the actions; without the effects .85 would be .75."""
    found, rule = values(make_decisions(600), AtHardTasks())
    assert found is not None
    assert found.success == pytest.approx(0.85, abs=0.03)
    assert found.requests == pytest.approx(0.5, abs=0.01)
    assert rule is None


@pytest.mark.parametrize("budget", [3, 4, 5])
def test_a_request_may_cost_several_units(budget: int) -> None:
    found, _ = values(make_decisions(600), AtHardTasks(), cost=3, budget=budget)
    assert found is not None
    assert found.success == pytest.approx(0.85, abs=0.03)
    assert found.requests == pytest.approx(0.5, abs=0.01)


def test_no_value_without_a_table_of_the_policy() -> None:
    logs = make_decisions(100)
    assert values(logs, AtRandom()) == (None, None)
    assert values(logs, AtHardTasks(), cost=0) == (None, None)
    assert values(logs, AtHardTasks(), cost=2) == (None, None)


def test_no_value_where_the_log_has_spent_the_budget_before_most_states() -> None:
    logs = []
    for i in range(40):
        helped = (True, True, i % 2 == 0, i % 3 == 0, True, i % 5 == 0)
        steps = (
            Step("hard", key=f"{t}", intervention="help" if one and i % 40 else None) for t, one in enumerate(helped)
        )
        logs.append(Trajectory(f"t{i % 4}", f"e{i}", float(i % 3 == 0), tuple(steps)))
    assert values(logs, AtHardTasks(), budget=1)[0] is None
    assert values(logs, AtHardTasks(), budget=6)[0] is not None


def test_helpers_that_are_trained_anew_differ_in_their_requests() -> None:
    steps = Value(np.full(4001, 0.5), np.full(4001, 2.0), np.zeros(4001))
    requests = _add_training_error(steps, 3).requests
    assert requests[0] == 2.0
    assert requests[1:].std() == pytest.approx(2.0 * TRAINING_ERROR, rel=0.05)
    assert _add_training_error(steps, 2).requests.max() == 2.0


def test_steps_and_model_weigh_by_the_inverse_of_their_variance() -> None:
    draws = np.random.default_rng(3).standard_normal(4000)
    steps = Value(*(np.append(0.4, 0.4 + 0.1 * draws) for _ in range(2)), np.zeros(4001))
    value = shrink_toward_model(steps, ModelValue(0.6, 0.5), 1, 0)
    share = ERROR**2 / (ERROR**2 + 0.1**2)
    assert value.success[0] == pytest.approx(share * 0.4 + (1 - share) * 0.6, abs=0.01)
    assert value.success[1:].std() == pytest.approx((1 / ERROR**2 + 1 / 0.1**2) ** -0.5, rel=0.05)
    assert 0.4 < value.requests[0] < 0.5
    assert 0.0 <= value.requests.min() < value.requests.max() <= 1.0
    other = shrink_toward_model(steps, ModelValue(0.6, 0.5), 1, 1)
    assert 0.2 < np.corrcoef(value.success[1:] - steps.success[1:], other.success[1:] - steps.success[1:])[0, 1] < 0.95
    assert shrink_toward_model(steps, None, 1, 0) is steps
