"""Predicted against realised success and usage."""

from __future__ import annotations

import pytest

import selfreg
from selfreg.envs import make_household
from selfreg.envs.household import environment as household
from selfreg.estimate import ExactKey
from selfreg.evaluate import ComparedPolicy, Plan, Row, forecasts, run_closed_loop

TASK = "household-moved/3"


def test_a_right_forecast_is_inside_and_a_wrong_one_outside() -> None:
    """The exact model predicts its plan in the closed loop."""
    exact = household.exact_model(TASK)
    solution = selfreg.solve(exact.mdp, 2)
    used = selfreg.expected_usage(solution)[exact.start, :, 0]
    keys = [(TASK, key) for key in exact.keys]
    plan = Plan(ExactKey(), exact.mdp.actions, keys, solution.policy[: len(keys)])
    rows = run_closed_loop(
        make_household, lambda: [ComparedPolicy("plan", 2, plan)], [TASK], episodes_per_task=300, seed=1, workers=1
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
