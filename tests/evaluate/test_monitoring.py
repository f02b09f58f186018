"""Monitoring: the false-alarm rate that is stated, alarms for what harms, notes for the rest, bad input."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

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
        alarms += np.any(capital(1 - x, 1 - mean) >= 1 / 0.1)
    assert 0 < alarms <= 0.1 * 1000


def test_capital_is_a_fair_game() -> None:
    # Expectation over all outcomes of three coins of chance 0.3 is 1 after each.
    total = np.zeros(3)
    for code in range(8):
        x = np.array([(code >> i) & 1 for i in range(3)], dtype=float)
        total += np.prod(np.where(x, 0.3, 0.7)) * capital(x, 0.3)
    np.testing.assert_allclose(total, 1.0, atol=1e-12)


def test_less_success_is_an_alarm_and_more_is_a_note() -> None:
    draws = np.random.default_rng(1).random(300)
    lower, higher = (monitor(Forecast((0.6, 0.6), None, 0), log(draws < true)) for true in (0.4, 0.8))
    assert lower.alarm
    assert lower.tests[0].alarm < 300
    assert lower.tests[0].note is None
    assert "ALARM after" in lower.lines()[0]
    assert "below the forecast" in lower.lines()[0]
    assert not higher.alarm
    assert higher.tests[0].note < 300
    assert f"note after {higher.tests[0].note} tasks: above the forecast" in higher.lines()[0]
    assert "no alarm" in higher.lines()[0]
    # A forecast that allows for it raises neither.
    for won in (draws < 0.4, draws < 0.8):
        wide = monitor(Forecast((0.3, 0.9), None, 0), log(won)).tests[0]
        assert (wide.alarm, wide.note) == (None, None)


@pytest.mark.parametrize(("helps", "alarm"), [((1, 3), True), ((0, 2), False)])
def test_more_help_is_an_alarm_and_less_is_a_note(helps, alarm) -> None:
    generator = np.random.default_rng(2)
    won, used = generator.random(300) < 0.6, generator.integers(*helps, 300)
    result = monitor(Forecast((0.6, 0.6), (0.8, 0.8) if alarm else (1.2, 1.2), 2), log(won, used))
    success, usage = result.tests
    assert success.alarm is None
    assert result.alarm == alarm
    assert (usage.alarm is not None, usage.note is not None) == (alarm, not alarm)
    assert usage.realised == pytest.approx(used.mean())
    assert ("ALARM" in result.lines()[1]) == alarm
    assert ("note after" in result.lines()[1]) != alarm


def test_a_certain_forecast_is_refuted_by_one_task() -> None:
    won, helps = np.array([1.0, 1.0, 0.0, 1.0]), np.array([0, 0, 1, 0])
    result = monitor(Forecast((1.0, 1.0), (0.0, 0.0), 2), log(won, helps))
    assert [test.alarm for test in result.tests] == [3, 3]
    assert json.loads(json.dumps(result.to_json())) == result.to_json()  # all evidence is finite
    assert not monitor(Forecast((1.0, 1.0), (0.0, 0.0), 2), log(won[:2], helps[:2])).alarm


def test_episodes_that_overspend_are_counted_and_reported() -> None:
    generator = np.random.default_rng(5)
    won, helps = generator.random(100) < 0.6, np.ones(100, int)
    helps[[3, 40]] = 3
    result = monitor(Forecast((0.6, 0.6), (1.0, 1.0), 2), log(won, helps))
    assert result.overspending == (2, "3", 3)
    assert result.tests[1].realised == pytest.approx(1.04)
    assert result.lines()[-1] == "budget: 2 of 100 episodes spent more than 2; the first is '3' with 3"
    assert not result.alarm
    assert monitor(Forecast((0.6, 0.6), (1.0, 1.0), 3), log(won, helps)).overspending is None
    # A forecast of all of the budget is exceeded by those that overspend often.
    more = monitor(Forecast((0.6, 0.6), (2.0, 2.0), 2), log(won, np.full(100, 3)))
    assert more.tests[1].alarm is not None
    # With a budget of 0, any help is more than forecast.
    none = monitor(Forecast((0.6, 0.6), (0.0, 0.0), 0), log(won, helps))
    assert none.overspending.episodes == 100
    assert none.tests[1].alarm == 1


def test_requests_are_counted_where_the_forecast_is_of_requests() -> None:
    steps = (Step("go", intervention="help", cost=3), Step("go"))
    logs = [Trajectory(f"t{i}", str(i), float(i % 2), steps) for i in range(60)]
    forecast = Forecast((0.4, 0.6), (1.0, 1.0), 3, "requests")
    requests, units = (monitor(one, logs).tests[1].realised for one in (forecast, forecast._replace(counts="units")))
    assert (requests, units) == (1.0, 3.0)
    free = [Trajectory(f"t{i}", str(i), 1.0, (Step("go", intervention="tip", cost=0),) * 2) for i in range(60)]
    result = monitor(Forecast((0.4, 1.0), (1.8, 2.0), 1, "requests"), free)
    assert not result.alarm
    assert result.tests[1].realised == 2.0


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
    beyond = replace(
        bands,
        success=bands.success._replace(low=np.full(2, -0.1), high=np.full(2, 1.2)),
        usage=bands.usage._replace(low=np.full(2, -0.1), high=np.full(2, 1.04)),
    )
    assert Forecast.of(model, plan, 1, beyond) == ((0.0, 1.0), (0.0, 1.0), 1, "units")
    with pytest.raises(ValueError, match="beyond the lattice"):
        Forecast.of(model, plan, 2)
    with pytest.raises(ValueError, match="uncertainty has other budgets"):
        Forecast.of(model, plan, 1, uncertainty(logs, Features(["step"]), 2, samples=2))


def test_bad_input_is_named() -> None:
    one = log(np.array([1.0]), np.array([2]))
    with pytest.raises(ValueError, match=r"forecast of help used is \(0.5, 1.5\); expected 0 <= low <= high <= 1"):
        monitor(Forecast((0.5, 0.5), (0.5, 1.5), 1), one)
    with pytest.raises(ValueError, match="forecast has a usage and no budget"):
        monitor(Forecast((0.5, 0.5), (0.5, 1.5), None), one)
    with pytest.raises(ValueError, match=r"forecast\.counts is 'tokens'"):
        monitor(Forecast((0.5, 0.5), None, 1, "tokens"), one)
    with pytest.raises(ValueError, match="recent has no episodes"):
        monitor(Forecast((0.5, 0.5), None, 1), [])
    with pytest.raises(ValueError, match="forecast of success is"):
        monitor(Forecast((0.5, 1.5), None, 2), one)
    with pytest.raises(ValueError, match="false_alarm is 1"):
        monitor(Forecast((0.5, 0.5), None, 2), one, false_alarm=1)
    with pytest.raises(ValueError, match="has no outcome"):
        monitor(Forecast((0.5, 0.5), None, 2), [Trajectory("t", "e", None, (Step("go"),), truncated=True)])


def test_the_guide_prints_what_it_says() -> None:
    root = Path(__file__).parents[2]
    section = (root / "docs" / "off-policy.md").read_text().split("## Does the forecast hold?")[1]
    code, printed = re.search(r"```python\n(.*?)```\n\n```\n(.*?)```", section, re.DOTALL).groups()
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=root)
    assert done.stdout == printed
