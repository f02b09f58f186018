"""Pictures of the report."""

from typing import Any

from selfreg.report.plots import success_by_usage


def outcome(policy: str, help_used: float) -> dict[str, Any]:
    return {
        "policy": policy,
        "help": {"mean": help_used},
        "success": {"mean": 0.9, "low": 0.8, "high": 1.0},
    }


def test_always_far_off_is_a_level() -> None:
    others = [outcome("never", 0.0), outcome("helper", 1.0), outcome("helper", 2.0)]
    assert "always (help 43.0)" in success_by_usage([*others, outcome("always", 43.0)])
    near = success_by_usage([*others, outcome("always", 4.0)])
    assert "always" in near
    assert "always (" not in near
    assert "always (" not in success_by_usage([outcome("never", 0.0), outcome("always", 4.0)])
