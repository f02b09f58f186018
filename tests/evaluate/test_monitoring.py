"""Monitoring: the false-alarm rate that is stated, alarms where the forecast is off, bad input."""

from __future__ import annotations

import numpy as np
import pytest

import selfreg
from selfreg.data import Step, Trajectory
from selfreg.estimate import Features, estimate_mdp, uncertainty
from selfreg.evaluate import Forecast, monitor
from selfreg.evaluate.monitoring import capital


def log(won: np.ndarray, helps: np.ndarray | None = None, per_task: int = 1) -> list[Trajectory]:
    helps = np.zeros(len(won), int) if helps is None else helps
    return [
        Trajectory(
            f"t{i // per_task}",
            str(i),
            float(w),
            tuple(Step("go", intervention="help" if k < h else None) for k in range(3)),
        )
        for i, (w, h) in enumerate(zip(won, helps, strict=True))
    ]


@pytest.mark.parametrize("mean", [0.1, 0.5, 0.9])
def test_capital_rarely_grows_where_the_forecast_holds(mean) -> None:
    generator = np.random.default_rng(0)
    alarms = 0
    for _ in range(1000):
        x = (generator.random(300) < mean).astype(float)
        alarms += np.any(0.5 * (capital(x, mean) + capital(1 - x, 1 - mean)) >= 1 / 0.1)
    assert alarms <= 0.1 * 1000


def test_capital_is_a_fair_game() -> None:
    # Expectation over all outcomes of three coins of chance 0.3 is 1 after each.
    total = np.zeros(3)
    for code in range(8):
        x = np.array([(code >> i) & 1 for i in range(3)], dtype=float)
        total += np.prod(np.where(x, 0.3, 0.7)) * capital(x, 0.3)
    np.testing.assert_allclose(total, 1.0, atol=1e-12)


@pytest.mark.parametrize(("true", "side"), [(0.4, "below"), (0.8, "above")])
def test_alarm_where_success_is_off(true, side) -> None:
    won = np.random.default_rng(1).random(300) < true
    result = monitor(Forecast((0.6, 0.6), None, 0), log(won))
    assert result.alarm
    assert result.tests[0].side == side
    assert result.tests[0].alarm < 300
    # A forecast that allows for it raises no alarm.
    assert not monitor(Forecast((0.3, 0.9), None, 0), log(won)).alarm


def test_alarm_where_more_help_is_used() -> None:
    generator = np.random.default_rng(2)
    won, helps = generator.random(200) < 0.6, generator.integers(1, 3, 200)
    result = monitor(Forecast((0.6, 0.6), (0.8, 0.8), 2), log(won, helps))
    success, usage = result.tests
    assert success.alarm is None
    assert usage.alarm is not None
    assert usage.side == "above"
    assert usage.realised == pytest.approx(helps.mean())
    assert "ALARM" in result.lines()[1]


def test_episodes_of_a_task_count_once() -> None:
    won = np.repeat(np.random.default_rng(3).random(10) < 0.5, 50)
    result = monitor(Forecast((0.5, 0.5), None, 0), log(won, per_task=50))
    assert result.tasks == 10
    assert not result.alarm


def test_forecast_of_a_plan_is_its_planned_success_and_usage() -> None:
    generator = np.random.default_rng(4)
    logs = log(generator.random(100) < 0.5) + [
        Trajectory(f"t{i}", f"h{i}", 1.0, (Step("go", intervention="help"),)) for i in range(100)
    ]
    model = estimate_mdp(logs, Features(["step"]))
    plan = selfreg.solve(model.mdp, 1)
    forecast = Forecast.of(model, plan, 1)
    assert forecast.success == (model.success(plan)[1],) * 2
    assert forecast.usage == (1.0, 1.0)
    bands = uncertainty(logs, Features(["step"]), 1, samples=20)
    assert Forecast.of(model, plan, 0, bands).success == (bands.success.low[0], bands.success.high[0])
    with pytest.raises(ValueError, match="beyond the lattice"):
        Forecast.of(model, plan, 2)
    with pytest.raises(ValueError, match="uncertainty has other budgets"):
        Forecast.of(model, plan, 1, uncertainty(logs, Features(["step"]), 2, samples=2))


def test_bad_input_is_named() -> None:
    one = log(np.array([1.0]), np.array([2]))
    with pytest.raises(ValueError, match="episode '0' spent 2; the budget is 1"):
        monitor(Forecast((0.5, 0.5), None, 1), one)
    with pytest.raises(ValueError, match="recent has no episodes"):
        monitor(Forecast((0.5, 0.5), None, 1), [])
    with pytest.raises(ValueError, match="forecast of success is"):
        monitor(Forecast((0.5, 1.5), None, 2), one)
    with pytest.raises(ValueError, match="false_alarm is 1"):
        monitor(Forecast((0.5, 0.5), None, 2), one, false_alarm=1)
    with pytest.raises(ValueError, match="has no outcome"):
        monitor(Forecast((0.5, 0.5), None, 2), [Trajectory("t", "e", None, (Step("go"),), truncated=True)])
