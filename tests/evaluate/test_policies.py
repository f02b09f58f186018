"""Plans at states that they do not know, the optimum, thresholds for several budgets, and the whole contest."""

from __future__ import annotations

import numpy as np
import pytest

import selfreg
from benchmarks import robustness
from selfreg.data import Step, Trajectory
from selfreg.envs import CollectConfig, collect, household_tasks, make_household
from selfreg.envs.household import environment as household
from selfreg.estimate import ExactKey, estimate_mdp
from selfreg.evaluate import (
    Always,
    Contestant,
    NearestState,
    Never,
    Plan,
    PolicyComparison,
    Row,
    paired,
    run_closed_loop,
    score_quantiles,
    tune_threshold,
    tune_thresholds,
    usual_length,
)
from selfreg.evaluate.policy_comparison import PLAN_PRM

TASK = "household-moved/3"


class Searching:
    """A stand-in for a PRM that reads the text: low while something was searched in vain."""

    def text(self, steps):
        return steps[-1].state

    def score(self, texts):
        return np.array([0.2 if "in vain: none" not in t else 0.8 for t in texts])


def world_step(text: str) -> Step:
    return Step(text, key=text)


def test_a_plan_asks_its_fallback_where_it_knows_nothing() -> None:
    decisions = {("t", "known"): [None, None, "help"]}
    alone, falling = Plan(ExactKey(), decisions), Plan(ExactKey(), decisions, Always("help"))
    for plan, elsewhere in ((alone, None), (falling, "help")):
        plan.start("t", 0)
        assert plan.decide([world_step("known")], 1) is None
        assert plan.decide([world_step("known")], 2) == "help"
        assert plan.unseen == 0
        assert plan.decide([world_step("new")], 2) == elsewhere
        assert plan.unseen == 1
        plan.start("t", 0)
        assert plan.unseen == 0


def test_the_nearest_state_of_the_same_task_decides() -> None:
    texts = {"a": "Task: x.\nHere: kitchen. In hand: nothing.", "b": "Task: x.\nHere: study. In hand: mug."}
    logs = [Trajectory("t", name, 1.0, (Step(text, key=name),)) for name, text in texts.items()]
    plan = Plan(ExactKey(), {("t", "a"): [None, "help"], ("t", "b"): [None, None]})
    nearest = NearestState(plan, logs)
    nearest.start("t", 0)
    close_to_a = Step("Task: x.\nHere: kitchen. In hand: pen.", key="c")
    assert nearest.decide([close_to_a], 1) == "help"
    assert nearest.decide([close_to_a], 0) is None
    assert nearest.decide([Step("Task: x.\nHere: hall. In hand: mug.", key="d")], 1) is None
    nearest.start("another task", 0)
    assert nearest.decide([close_to_a], 1) is None


def test_the_exact_plan_holds_the_optimum() -> None:
    exact = household.exact_model(TASK)
    value = selfreg.solve(exact.mdp, 2).value[exact.start]
    plan = Plan.exact({TASK: exact}, 2)
    rows = run_closed_loop(
        make_household,
        lambda: [Contestant("optimum", 1, plan), Contestant("optimum", 2, plan)],
        [TASK],
        episodes_per_task=300,
        workers=1,
    )
    for b in (1, 2):
        outcomes = [row.success for row in rows if row.budget == b]
        assert abs(np.mean(outcomes) - value[b]) < 4 * np.sqrt(0.25 / 300)
        assert not any(row.unseen for row in rows)


def test_several_budgets_are_tuned_as_one_by_one() -> None:
    tasks = household_tasks(6, 0, seed=4, kinds=["moved"])[0]
    both = tune_thresholds(make_household, Searching(), "help", [0.1, 0.5, 0.9], tasks, [1, 3])
    for b in (1, 3):
        alone = tune_threshold(make_household, Searching(), "help", [0.9, 0.5, 0.1], tasks, b)
        assert both[b].candidates == alone.candidates
        assert both[b].policy.threshold == alone.policy.threshold


def test_everyone_takes_part_and_keeps_to_the_budget() -> None:
    logs = list(collect(make_household, [TASK], CollectConfig(episodes_per_task=40, workers=1)))
    model = estimate_mdp(logs, ExactKey())
    plan = Plan.of(model, selfreg.solve(model.mdp, 2))
    thresholds = score_quantiles(Searching(), logs, (0.1, 0.9))
    contest = PolicyComparison(
        "help", (1, 2), usual_length(logs), thresholds, {1: 0.5, 2: 0.5}, {"plan": plan}, fallback=plan
    )
    everyone = contest.contestants(Searching(), Never())
    assert len({(one.name, one.budget, one.setting) for one in everyone}) == len(everyone)
    rows = run_closed_loop(make_household, lambda: everyone, [TASK], episodes_per_task=3, workers=1)
    assert {row.policy for row in rows if row.budget == 2} == {
        "first-k", "last-k", "every-n", "tuned PRM threshold", "plan", PLAN_PRM, "helper"
    }  # fmt: skip
    assert all(row.help <= row.budget for row in rows if row.budget is not None)


def test_dear_requests_are_placed_as_if_there_were_few() -> None:
    under = {}
    for cost, b in ((1, 2), (3, 6), (3, 8), (3, 1)):
        everyone = PolicyComparison("help", (b,), 12, (), cost=cost).contestants(Searching(), Never())
        under[cost, b] = {one.policy.name: one.policy for one in everyone if one.budget == b}
    assert under[1, 2]["last-k"].k == under[3, 6]["last-k"].k == under[3, 8]["last-k"].k == 2
    assert under[1, 2]["every-n"].n == under[3, 6]["every-n"].n == 4
    assert under[3, 1]["last-k"].k == 1  # which cannot be paid


def test_paired_differences_need_both() -> None:
    rows = [Row("a", 0.0, 1, f"t{i}", 0, float(i % 3 > 0), 1, 5, 0) for i in range(30)]
    rows += [row._replace(policy="b", success=0.0) for row in rows]
    gap = paired(rows, ("a", 1), ("b", 1))
    assert gap.mean == pytest.approx(2 / 3)
    assert gap.low > 0
    with pytest.raises(ValueError, match="'b' has no episodes under budget 2"):
        paired(rows, ("a", 1), ("b", 2))


def test_logs_of_a_biased_trigger_are_biased() -> None:
    episodes = robustness.logged(make_household(), TASK, robustness.BIASED, 200)
    asked = {True: [], False: []}
    for trajectory in episodes:
        for step in trajectory.steps:
            asked["in vain: none" in step.state].append(step.intervention is not None)
    assert abs(np.mean(asked[True]) - 0.05) < 0.04
    assert abs(np.mean(asked[False]) - 0.8) < 0.06
    table = robustness.regrets([TASK], [40])
    assert set(table) == {(kind, 40) for kind in (*robustness.RATES, robustness.BIASED)}
    assert all(np.all(found.regret > -1e-9) for found in table.values())
