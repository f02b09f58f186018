"""The price of the moment: budgets of a period that many runs share."""

from __future__ import annotations

import math
from datetime import datetime, timezone
from zoneinfo import ZoneInfo

import numpy as np
import pytest

import selfreg
from selfreg.data import Step
from selfreg.decisions import Decision
from selfreg.runtime import (
    Arrivals,
    Budget,
    Ledger,
    Moment,
    PeriodPrice,
    Recorder,
    StepToDecide,
    estimate_arrivals,
)
from selfreg.runtime.drafts import worth_its_price

HOUR = 3600.0


class Known:
    """One decision a run, with the true P(success); a state says what the agent attains alone, and with help."""

    costs = {"person": 1}  # noqa: RUF012
    limits = (2,)

    def __init__(self) -> None:
        self.seen: list[tuple[int, ...]] = []

    def decide(self, steps, budget_left):
        self.seen.append(budget_left)
        if steps[-1].state == "never logged":
            return Decision("person" if budget_left != (0,) else "nohelp")
        alone, helped = map(float, steps[-1].state.split())
        success = {"nohelp": alone} | ({"person": helped} if budget_left != (0,) else {})
        return Decision(max(success, key=success.__getitem__), success_probability=success, reason="as it says")


def model(kinds: list[tuple[float, float]]) -> selfreg.InterventionMDP:
    n = len(kinds)
    tables = {"nohelp": np.zeros((n + 2, n + 2)), "person": np.zeros((n + 2, n + 2))}
    for i, pair in enumerate(kinds):
        for table, won in zip(tables.values(), pair, strict=True):
            table[i, n], table[i, n + 1] = won, 1 - won
    return selfreg.InterventionMDP(tables, [*[np.nan] * n, 1, 0], {"person": 1})


def test_as_many_units_as_are_worth_their_price() -> None:
    found = [Decision(reason=str(b), success_probability={"nohelp": v}) for b, v in enumerate((0.5, 0.55, 0.8))]
    for price, units in ((0.0, 2), (0.14, 2), (0.16, 0), (math.inf, 0)):
        assert worth_its_price(found, price).reason.endswith(f" a unit, as with {units}. {units}")
    equal = [Decision(success_probability={"nohelp": 0.5})] * 3
    assert worth_its_price(equal, 0.0).reason == "At 0 a unit, as with 0."
    assert worth_its_price([*equal[:1], Decision("person")], 9.0) == Decision("person")


def test_help_is_requested_where_it_is_worth_its_price(make) -> None:
    prices, moments = iter([0.3, 0.5, 0.0]), []
    policy = Known()
    recorder = Recorder(policy, make(500), price=lambda moment: moments.append(moment) or next(prices))
    first = recorder.decide_once("a", 0, [Step("0.5 0.9")])
    assert (first.action, first.budget_left, first.reason) == ("person", (500,), "At 0.3 a unit, as with 1. as it says")
    assert policy.seen == [(0,), (1,), (2,)]
    assert recorder.decide_once("b", 0, [Step("0.5 0.9")]).action == "nohelp"
    assert recorder.decide_once("a", 0, [Step("0.5 0.9")]) == first
    assert recorder.decide_once("c", 0, [Step("never logged")]).action == "person"
    assert [moment.left for moment in moments] == [(500,), (499,), (499,)]
    assert [list(moment.by_budget.values()) for moment in moments] == [[500], [499], [499]]


def test_no_price_spends_what_is_not_there() -> None:
    recorder = Recorder(Known(), Ledger(3), price=lambda moment: 0.0)
    steps = [StepToDecide(f"run {i}", 0, [Step("0.1 0.9")]) for i in range(8)]
    assert [one.action for one in recorder.decide_many(steps)].count("person") == 3
    assert recorder.ledger.left == (0,)


@pytest.mark.parametrize("wrong", [-0.1, math.nan])
def test_a_price_must_be_a_number(wrong) -> None:
    recorder = Recorder(Known(), Ledger(3), price=lambda moment: wrong)
    with pytest.raises(ValueError, match=f"price gave {wrong}"):
        recorder.decide_once("run", 0, [Step("0.1 0.9")])
    assert recorder.decisions() == []


def test_what_cannot_have_a_price_is_said() -> None:
    class Unlimited(Known):
        limits = None

    for policy in (Unlimited(), selfreg.runtime.Recorder):
        with pytest.raises(ValueError, match="price needs a policy with `limits`"):
            Recorder(policy, Ledger(3), costs={"person": 1}, price=lambda moment: 0.0)
    with pytest.raises(ValueError, match="price is for one unit; the ledger has unit 0, unit 1"):
        Recorder(Known(), Ledger((3, 3)), costs={"person": (1, 0)}, price=lambda moment: 0.0)
    for runs in (0, -1, math.inf, math.nan):
        with pytest.raises(ValueError, match="runs is"):
            PeriodPrice(selfreg.frontier(model([(0.5, 0.9)]), 0), runs)
    price = PeriodPrice(selfreg.frontier(model([(0.5, 0.9)]), 0), 10)
    for budgets in ([Budget(3)], [Budget(3, period="day"), Budget(3, period="hour")]):
        with pytest.raises(ValueError, match="expected one with a period"):
            price(Moment(0.0, (3,), dict.fromkeys(budgets, 3)))


def test_the_price_follows_what_is_left_of_the_budget_and_of_the_day() -> None:
    """Kinds of tasks gain .4, .2 and .1 by a unit, a third of the tasks each."""
    front = selfreg.frontier(model([(0.5, 0.9), (0.5, 0.7), (0.5, 0.6)]), [1 / 3] * 3 + [0, 0])
    price, day = PeriodPrice(front, runs=30), Budget(30, period="day")

    def at(left: int, hour: float) -> float:
        return price(Moment(hour * HOUR, (left,), {Budget(2, scope="run"): 2, day: left}))

    by_units = {0: math.inf, 1: 0.4, 9: 0.4, 11: 0.2, 19: 0.2, 21: 0.1, 29: 0.1, 30: 0.0}
    assert {left: round(at(left, 0), 9) for left in by_units} == by_units
    assert [round(at(9, hour), 9) for hour in (0, 5, 14, 18)] == [0.4, 0.2, 0.1, 0.0]
    assert round(at(1, 23.999), 9) == 0.0


def test_a_period_ends_where_the_next_one_begins() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    for day, hours in (("2026-03-29", 23), ("2026-10-25", 25), ("2026-07-01", 24)):
        for clock in ("00:00", "12:00", "23:59"):
            now = datetime.fromisoformat(f"{day}T{clock}").replace(tzinfo=berlin).timestamp()
            begin, end = Budget(1, period="day", timezone="Europe/Berlin").period_bounds(now)
            assert (begin <= now < end, end - begin) == (True, hours * 3600)
    for period in ("hour", "day", "week", "month", 7):
        for zone in ("UTC", "Europe/Berlin", "Pacific/Apia", "America/Santiago"):
            budget = Budget(1, period=period, timezone=zone)
            now = float(budget.period_start(datetime(2026, 1, 5, tzinfo=timezone.utc).timestamp()))
            for _ in range(60):
                begin, end = budget.period_bounds(now)
                assert begin == now < end
                assert (budget.period_start(end - 1), budget.period_start(end)) == (begin, end)
                now = float(end)
    with pytest.raises(ValueError, match="budget 'requests' has no period"):
        Budget(1).period_bounds(0)


def test_a_price_beats_every_fixed_limit() -> None:
    """A day of 600 tasks that need help more or less, and 150 units."""
    kinds = [(0.5, 0.9), (0.5, 0.7), (0.5, 0.55)]
    random, expected = np.random.default_rng(0), selfreg.frontier(model(kinds), [1 / 3] * 3 + [0, 0])
    todo = random.integers(3, size=600)
    gained = {}
    for name, limit, price in (("fixed", 1, None), ("fixed 2", 2, None), ("price", 2, PeriodPrice(expected, 600))):
        clock = [0.0]
        ledger = Ledger([Budget(150, period="day"), Budget(limit, scope="run")], clock=lambda now=clock: now[0])
        recorder, gain = Recorder(Known(), ledger, price=price), 0.0
        for i, kind in enumerate(todo):
            clock[0] = 24 * HOUR * i / 600
            alone, helped = kinds[kind]
            if recorder.decide_once(i, 0, [Step(f"{alone} {helped}")]).requests_help:
                gain += helped - alone
        gained[name] = gain
        assert sum(entry.cost[0] for entry in ledger.entries()) <= 150
    best = np.sort([helped - alone for alone, helped in np.array(kinds)[todo]])[-150:].sum()
    assert gained["price"] > 0.95 * best
    assert gained["price"] > 1.4 * max(gained["fixed"], gained["fixed 2"])


def begin_runs(times: list[float], steps: int = 2) -> Recorder:
    """A recorder that has decided in runs that began at these times."""
    clock = [0.0]
    recorder = Recorder(Known(), Ledger(0, clock=lambda: clock[0]))
    for i, time in enumerate(times):
        for step in range(steps):
            clock[0] = time + 60 * step
            recorder.decide_once(i, step, [Step("0.5 0.9")])
    return recorder


def test_arrivals_are_estimated_by_the_hour_of_the_week() -> None:
    """Thursday 1 January 1970 to Tuesday: ten runs in each hour from 9 to 17, thirty on Monday."""
    times = [24 * HOUR * day + HOUR * (9 + i / (30 if day == 4 else 10))
             for day in range(6) for i in range(8 * (30 if day == 4 else 10))]  # fmt: skip
    found = estimate_arrivals(begin_runs(times).decisions())
    days = [found.between(24 * HOUR * day, 24 * HOUR * (day + 1)) for day in range(7)]
    thursday = 70 + 0  # its first hour, 9 to 10, is where the log begins
    assert days == pytest.approx([thursday + 10, 80, 80, 80, 240, days[5], days[6]])
    assert days[6] == pytest.approx(80 * (5 + 3) / 6, rel=0.05)  # a Wednesday was not seen: as the other days
    assert found.between(0, 9 * HOUR) == 0
    assert found.between(4 * 24 * HOUR + 12.5 * HOUR, 5 * 24 * HOUR) == pytest.approx(240 * 4.5 / 8)
    berlin = estimate_arrivals(begin_runs(times).decisions(), timezone="Europe/Berlin")
    assert berlin.between(0, 4 * 24 * HOUR) == pytest.approx(found.between(0, 4 * 24 * HOUR))
    with pytest.raises(ValueError, match="the 2 runs began within 60 s"):
        estimate_arrivals(begin_runs([0.0, 60.0]).decisions())
    with pytest.raises(ValueError, match="there are 24 rates; expected 168"):
        Arrivals((1.0,) * 24)
    with pytest.raises(ValueError, match="rates have -1"):
        Arrivals((-1.0,) * 168)


def test_known_arrivals_leave_nothing_unspent() -> None:
    """All tasks come between 11 and 13; two thirds of them gain .4 by a unit, the others .1; two days."""
    front = selfreg.frontier(model([(0.5, 0.9), (0.5, 0.6)]), [2 / 3, 1 / 3, 0, 0])
    times = [day * 24 * HOUR + 11 * HOUR + i * 2 * HOUR / 300 for day in range(2) for i in range(300)]
    seen = estimate_arrivals(begin_runs(times, 1).decisions())
    spent = {}
    for name, runs in (("even", 300.0), ("known", seen)):
        clock = [0.0]
        ledger = Ledger([Budget(250, period="day"), Budget(2, scope="run")], clock=lambda now=clock: now[0])
        recorder = Recorder(Known(), ledger, price=PeriodPrice(front, runs))
        for i, time in enumerate(times):
            clock[0] = 7 * 24 * HOUR + time
            recorder.decide_once(i, 0, [Step("0.5 0.9" if i % 3 else "0.5 0.6")])
        spent[name] = sum(entry.cost[0] for entry in ledger.entries())
    assert spent["even"] < 475
    assert 490 <= spent["known"] <= 500


@pytest.mark.parametrize("runs", [np.int64(200), np.float32(200), 200])
def test_numbers_of_numpy_are_numbers_of_runs(runs) -> None:
    seen = []

    class Front:
        def penalty_for(self, usage: float) -> float:
            seen.append(usage)
            return 0.25

    day = Budget(50, period="day")
    assert PeriodPrice(Front(), runs)(Moment(0.0, (50,), {day: 50})) == 0.25
    assert seen == [0.25]


@pytest.mark.parametrize("runs", ["200", None, 0, float("nan"), [1]])
def test_other_numbers_of_runs_are_named(runs) -> None:
    with pytest.raises(ValueError, match="expected a number > 0, or Arrivals"):
        PeriodPrice(None, runs)
