"""All policies of a comparison, and thresholds tuned on validation tasks."""

from __future__ import annotations

import numpy as np
import pytest

import selfreg
from selfreg.envs import CollectConfig, collect, household_tasks, make_household
from selfreg.estimate import ExactKey, estimate_mdp
from selfreg.evaluate import Never, Plan, PolicyComparison, run_closed_loop
from selfreg.evaluate.policies import PLAN_PRM
from selfreg.evaluate.policy_comparison import median_length, score_quantiles, tune_thresholds

TASK = "household-moved/3"


class Searching:
    """A stand-in for a PRM that reads the text: low while the hands are empty and something was searched in vain."""

    def text(self, steps):
        return steps[-1].state

    def score(self, texts):
        return np.array([0.2 if "In hand: nothing" in t and "in vain: none" not in t else 0.8 for t in texts])


def test_the_threshold_that_succeeds_most_is_chosen() -> None:
    tasks = household_tasks(15, 0, seed=4, kinds=["moved"])[0]
    tuned = tune_thresholds(make_household, Searching(), "help", [0.1, 0.5, 0.9], tasks, [4], episodes_per_task=4)[4]
    assert [entry[0] for entry in tuned.candidates] == [0.1, 0.5, 0.9]
    best = max(success for _, success, _ in tuned.candidates)
    chosen = [entry for entry in tuned.candidates if entry[0] == tuned.policy.threshold]
    assert chosen[0][1] == best > tuned.candidates[0][1]
    assert tuned.candidates[0][2] == 0.0
    assert all(used <= 4 for _, _, used in tuned.candidates)
    with pytest.raises(ValueError, match="at least one threshold"):
        tune_thresholds(make_household, Searching(), "help", [], tasks, [4])[4]


def test_of_equal_thresholds_the_cheapest_is_chosen() -> None:
    """In place tasks the agent needs no help: the lowest threshold requests least."""
    tasks = household_tasks(3, 0, seed=0, kinds=["person"])[0]
    tuned = tune_thresholds(make_household, Searching(), "help", [0.9, 0.15, 0.1], tasks, [30], episodes_per_task=1)[30]
    equal = [entry for entry in tuned.candidates if entry[1] == max(e[1] for e in tuned.candidates)]
    assert tuned.policy.threshold == min(equal, key=lambda entry: (entry[2], entry[0]))[0]


def test_several_budgets_are_tuned_as_one_by_one() -> None:
    tasks = household_tasks(6, 0, seed=4, kinds=["moved"])[0]
    both = tune_thresholds(make_household, Searching(), "help", [0.1, 0.5, 0.9], tasks, [1, 3])
    for b in (1, 3):
        alone = tune_thresholds(make_household, Searching(), "help", [0.9, 0.5, 0.1], tasks, [b])[b]
        assert both[b].candidates == alone.candidates
        assert both[b].policy.threshold == alone.policy.threshold


def test_all_policies_take_part_within_the_budget() -> None:
    logs = list(collect(make_household, [TASK], CollectConfig(episodes_per_task=40, workers=1)))
    model = estimate_mdp(logs, ExactKey())
    plan = Plan.of(model, selfreg.solve(model.mdp, 2))
    thresholds = score_quantiles(Searching(), logs, (0.1, 0.9))
    comparison = PolicyComparison(
        "help", (1, 2), median_length(logs), thresholds, {1: 0.5, 2: 0.5}, {"plan": plan}, fallback=plan
    )
    everyone = comparison.policies(Searching(), Never())
    assert len({(one.name, one.budget, one.setting) for one in everyone}) == len(everyone)
    rows = run_closed_loop(make_household, lambda: everyone, [TASK], episodes_per_task=3, workers=1)
    assert {row.policy for row in rows if row.budget == 2} == {
        "first-k", "last-k", "every-n", "tuned PRM threshold", "plan", PLAN_PRM, "helper"
    }  # fmt: skip
    assert all(row.help <= row.budget for row in rows if row.budget is not None)


def test_last_k_and_every_n_place_what_the_budget_pays_for() -> None:
    under = {}
    for cost, b in ((1, 2), (3, 6), (3, 8), (3, 1)):
        everyone = PolicyComparison("help", (b,), 12, (), cost=cost).policies(Searching(), Never())
        under[cost, b] = {one.policy.name: one.policy for one in everyone if one.budget == b}
    assert under[1, 2]["last-k"].k == under[3, 6]["last-k"].k == under[3, 8]["last-k"].k == 2
    assert under[1, 2]["every-n"].n == under[3, 6]["every-n"].n == 4
    assert under[3, 1]["last-k"].k == 1  # which the budget cannot pay for


def test_an_unknown_plan_is_named() -> None:
    with pytest.raises(ValueError, match="unknown plan 'optimun'"):
        PolicyComparison("help", (1,), 12, (), plans={"optimun": Never()}).policies(Searching(), Never())
