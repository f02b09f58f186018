"""Regret of plans in Household, and logs with other triggers of help."""

from __future__ import annotations

import numpy as np

import selfreg
from benchmarks import household as regrets
from benchmarks import robustness
from selfreg.envs import CollectConfig, collect, make_household
from selfreg.envs.household import environment as household
from selfreg.estimate import ExactKey, estimate_mdp

TASK = "household-moved/3"


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


def test_logs_of_a_biased_trigger_are_biased() -> None:
    episodes = robustness.logged(make_household(), TASK, robustness.BIASED, 200)
    helped = {True: [], False: []}
    for trajectory in episodes:
        for step in trajectory.steps:
            helped["in vain: none" in step.state].append(step.intervention is not None)
    assert abs(np.mean(helped[True]) - 0.05) < 0.04
    assert abs(np.mean(helped[False]) - 0.8) < 0.06
    table = robustness.regrets([TASK], [40])
    assert set(table) == {(kind, 40) for kind in (*robustness.RATES, robustness.BIASED)}
    assert all(np.all(found.regret > -1e-9) for found in table.values())
