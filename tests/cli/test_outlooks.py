"""Forecasts beside what was realised in closed loop."""

from __future__ import annotations

from typing import Any

from selfreg.cli.forecasting import compare_with_realised


def forecast(policy: str, help: str | None, mean: float, rule: str | None = None) -> dict[str, Any]:
    around = {"mean": mean, "low": mean - 0.1, "high": mean + 0.1}
    return {"policy": policy, "rule": rule, "help": help, "budget": 1, "success": around, "requests": around}


def realised(policy: str, mean: float) -> dict[str, Any]:
    return {"policy": policy, "budget": 1, "success": {"mean": mean}, "help": {"mean": 1.0}}


def test_a_rule_is_beside_the_forecast_of_its_own_help_type() -> None:
    forecasts = [
        forecast("always", "child", 0.2),
        forecast("always", "owner", 0.6),
        forecast("rule", "child", 0.2, "last-k"),
        forecast("plan", None, 0.9),
        forecast("helper", None, 0.3),
    ]
    outcomes = [realised("first-k", 0.65), realised("last-k", 0.5), realised("plan", 0.9), realised("helper", 0.5)]
    found = compare_with_realised(forecasts, outcomes, "owner")
    assert [(one["policy"], one["forecast"]["mean"], one["inside"]) for one in found] == [
        ("first-k", 0.6, True),
        ("helper", 0.3, False),
    ]
