"""Early or late: the plan's value of handing over, by step."""

from __future__ import annotations

from functools import partial

import msgspec

import selfreg
from selfreg.envs import CollectConfig, Intervention, collect, household_tasks, make_household
from selfreg.estimate import ExactKey, estimate_mdp
from selfreg.report.timing import Timing, time_handoffs


def timing(reading: int, budget: int = 1) -> list[Timing]:
    helps = [Intervention("owner", steps=None, reading=reading)]
    make = partial(make_household, interventions=helps)
    logs = list(collect(make, household_tasks(8, 0, 1, ["moved"])[0], CollectConfig(workers=1)))
    model = estimate_mdp(logs, ExactKey())
    return time_handoffs(model, selfreg.solve(model.mdp, budget), logs)


def test_reading_makes_a_late_handover_worse_than_an_early_one() -> None:
    plain, reading = ({one.step: one for one in timing(r)} for r in (0, 6))
    assert plain[0].now == reading[0].now == 1.0
    assert plain[3].now == 1.0
    assert reading[3].now < 0.5
    assert plain[0].later > 0.9  # below 1 only where help was never tried later
    assert reading[0].later < 0.7
    assert all(one.alone <= max(one.now, one.later) for one in (*plain.values(), *reading.values()))


def test_budgets_that_pay_for_no_help_show_nothing() -> None:
    assert timing(0, budget=0) == []


def test_rollouts_from_the_middle_are_no_beginnings() -> None:
    helps = [Intervention("owner", steps=None)]
    make = partial(make_household, interventions=helps)
    logs = list(collect(make, household_tasks(8, 0, 1, ["moved"])[0], CollectConfig(workers=1)))
    model = estimate_mdp(logs, ExactKey())
    solution = selfreg.solve(model.mdp, 1)
    late = [
        msgspec.structs.replace(
            t, episode=f"{t.episode}+", steps=t.steps[2:], fields={"branch_of": "e", "branch_step": 2}
        )
        for t in logs
        if len(t.steps) > 2
    ]
    assert late
    assert time_handoffs(model, solution, [*logs, *late]) == time_handoffs(model, solution, logs)
