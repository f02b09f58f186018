"""Baselines at fixed times, the tuned threshold, forecasts against outcomes, and Household's regret."""

from __future__ import annotations

import numpy as np
import pytest

import selfreg
from benchmarks import household as regrets
from selfreg.data import Step
from selfreg.envs import CollectConfig, collect, household_tasks, make_household, run_episode
from selfreg.envs.household import environment as household
from selfreg.estimate import ExactKey, estimate_mdp
from selfreg.evaluate import Contestant, EveryN, LastK, Plan, Row, forecasts, run_closed_loop, tune_threshold

TASK = "household-moved/3"


@pytest.mark.parametrize(
    ("policy", "budget", "asked"),
    [
        (EveryN("help", 3), None, [3, 6, 9, 12]),
        (EveryN("help", 3), 2, [3, 6]),
        (EveryN("help", 1), 2, [1, 2]),
        (LastK("help", 2, 12), None, [11, 12]),
        (LastK("help", 2, 5), 2, [5 - 1, 5]),
        (LastK("help", 2, 5), None, list(range(4, 13))),
        (LastK("help", 9, 5), 0, []),
    ],
)
def test_help_comes_at_the_times_told(policy: EveryN | LastK, budget: int | None, asked: list[int]) -> None:
    decisions, left = [], budget
    for number in range(1, 13):
        request = policy.decide([Step("x")] * number, left)
        if request:
            decisions.append(number)
            left = None if left is None else left - 1
    assert decisions == asked


def test_in_an_episode_they_keep_to_the_budget() -> None:
    world = make_household()
    for policy in (EveryN("help", 2), LastK("help", 3, 8)):
        episode = run_episode(world, TASK, 1, policy, 2)
        assert episode.cost <= 2
        assert episode.fields["policy"] == policy.name
        assert episode.fields["refused"] == 0


@pytest.mark.parametrize(("make", "name"), [(lambda: EveryN("help", 0), "n"), (lambda: LastK("help", 1, 0), "horizon")])
def test_impossible_times_are_refused(make, name: str) -> None:
    with pytest.raises(ValueError, match=rf"\.{name} is 0"):
        make()


class Searching:
    """A stand-in for a PRM that reads the text: low while the hands are empty and something was searched in vain."""

    def text(self, steps):
        return steps[-1].state

    def score(self, texts):
        return np.array([0.2 if "In hand: nothing" in t and "in vain: none" not in t else 0.8 for t in texts])


def test_the_threshold_that_succeeds_most_is_chosen() -> None:
    tasks = household_tasks(15, 0, seed=4, kinds=["moved"])[0]
    tuned = tune_threshold(make_household, Searching(), "help", [0.1, 0.5, 0.9], tasks, 4, episodes_per_task=4)
    assert [entry[0] for entry in tuned.candidates] == [0.1, 0.5, 0.9]
    best = max(success for _, success, _ in tuned.candidates)
    chosen = [entry for entry in tuned.candidates if entry[0] == tuned.policy.threshold]
    assert chosen[0][1] == best > tuned.candidates[0][1]
    assert tuned.candidates[0][2] == 0.0
    assert all(used <= 4 for _, _, used in tuned.candidates)
    with pytest.raises(ValueError, match="at least one threshold"):
        tune_threshold(make_household, Searching(), "help", [], tasks, 4)


def test_equals_ask_less() -> None:
    """In place tasks the agent needs no help: the lowest threshold asks least."""
    tasks = household_tasks(3, 0, seed=0, kinds=["person"])[0]
    tuned = tune_threshold(make_household, Searching(), "help", [0.9, 0.15, 0.1], tasks, 30, episodes_per_task=1)
    equal = [entry for entry in tuned.candidates if entry[1] == max(e[1] for e in tuned.candidates)]
    assert tuned.policy.threshold == min(equal, key=lambda entry: (entry[2], entry[0]))[0]


def test_a_right_forecast_is_inside_and_a_wrong_one_outside() -> None:
    """The exact model's plan keeps its promise in the closed loop."""
    exact = household.exact_model(TASK)
    solution = selfreg.solve(exact.mdp, 2)
    used = selfreg.expected_usage(solution)[exact.start, :, 0]
    names = [None, *exact.mdp.actions[1:]]
    table = {(TASK, key): [names[a] for a in solution.policy[i]] for i, key in enumerate(exact.keys)}
    plan = Plan(ExactKey(), table)
    rows = run_closed_loop(
        make_household, lambda: [Contestant("plan", 2, plan)], [TASK], episodes_per_task=300, seed=1, workers=1
    )
    # Episodes of one task are independent: each counts as a task of its own here.
    rows = [row._replace(task=str(i)) for i, row in enumerate(rows)]
    value = float(solution.value[exact.start, 2])
    (right,) = forecasts({2: (value, float(used[2]))}, rows)
    assert right.success_inside
    assert right.usage_inside
    (wrong,) = forecasts({2: (value + 0.2, float(used[2]) - 0.5)}, rows)
    assert not wrong.success_inside
    assert not wrong.usage_inside


def test_intervals_of_forecasts_are_by_task() -> None:
    rows = [Row("plan", 0.0, 1, f"t{i % 4}", i, float(i % 4 < 2), 1, 5, 0) for i in range(400)]
    (one,) = forecasts({1: (0.1, 1.0)}, rows)
    assert one.success == (0.5, 0.0, 1.0)  # four tasks, however many episodes
    with pytest.raises(ValueError, match="no episodes of 'plan' under budget 2"):
        forecasts({2: (0.1, 1.0)}, rows)


def test_regret_falls_with_episodes_and_is_none_for_the_exact_plan() -> None:
    exact = household.exact_model(TASK)
    solution = selfreg.solve(exact.mdp, regrets.BUDGET)
    np.testing.assert_allclose(regrets.policy_value(exact, solution.policy), solution.value, atol=1e-12)
    config = CollectConfig(episodes_per_task=600, workers=1)
    episodes = list(collect(make_household, [TASK], config))
    few, many = (regrets.regret(exact, TASK, episodes[:size]) for size in (40, 600))
    for found in (few, many):
        np.testing.assert_allclose(found.optimum, solution.value[exact.start], atol=1e-12)
        np.testing.assert_allclose(found.unseen + found.untried + found.rows, found.regret, atol=1e-12)
        for part in (found.regret, found.unseen, found.untried, found.rows):
            assert np.all(part > -1e-12)
        assert abs(found.regret[0]) < 1e-12  # without budget there is nothing to decide
    assert many.regret.mean() < few.regret.mean()
    model = estimate_mdp(episodes, ExactKey())
    planned = model.success(selfreg.solve(model.mdp, regrets.BUDGET))
    np.testing.assert_allclose(planned - (many.optimum - many.regret), many.optimism, atol=1e-12)
