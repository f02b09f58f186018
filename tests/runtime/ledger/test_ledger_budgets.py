"""Budgets of several scopes, units and periods; raised limits; expiry; real cost: the same on every backend."""

from __future__ import annotations

import copy
import pickle
import shutil
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfreg.runtime import Budget, Ledger, SQLiteLedger, micro_units
from selfreg.runtime.ledger.ledger import Entry

DAY = 86400.0


class Clock:
    """Shows the time that a test sets; may be pickled."""

    def __init__(self, time: float = 1_000_000_000.0) -> None:
        self.time = time

    def __call__(self) -> float:
        return self.time


def test_a_step_must_fit_all_budgets(make) -> None:
    budgets = [Budget(3, scope="run"), Budget(4, scope="task"), Budget(6), Budget(10_000, unit="micro-dollars")]
    ledger = make(budgets)
    assert (ledger.units, ledger.limits, ledger.left) == (("requests", "micro-dollars"), (3, 10_000), (3, 10_000))
    task = {"task": "a"}
    assert ledger.charge("run 1", 0, (3, 4200), keys=task)
    assert not ledger.charge("run 1", 1, (1, 0), keys=task), "the run has nothing left"
    assert ledger.budget_left("run 1", task) == (0, 5800)
    assert ledger.budget_left("run 2", task) == (1, 5800), "the task has one left"
    assert ledger.budget_left("run 2", {"task": "b"}) == (3, 5800)
    assert ledger.reserve("run 2", 0, {"requests": 1}, keys=task)
    assert not ledger.reserve("run 3", 0, {"requests": 1}, keys=task)
    assert not ledger.reserve("run 4", 0, {"micro-dollars": 5801}, keys={"task": "b"})
    assert ledger.reserve("run 4", 1, {"micro-dollars": 5800, "requests": 2}, keys={"task": "b"})
    assert ledger.left == (0, 0), "all together have spent 6"
    assert ledger.refund("run 1", 0)
    assert ledger.budget_left("run 1", task) == (3, 4200)
    with pytest.raises(ValueError, match=r"budget 'requests per task' needs keys=\{'task': ...\}; got \{\}"):
        ledger.reserve("run 9", 0, 1 if len(ledger.units) == 1 else (1, 0))
    with pytest.raises(ValueError, match="unknown unit 'euros'; expected requests, micro-dollars"):
        ledger.charge("run 9", 0, {"euros": 1}, keys=task)
    with pytest.raises(TypeError, match=r"keys\['task'\] is 1.5; expected str or int"):
        ledger.charge("run 9", 0, 1 if len(ledger.units) == 1 else (1, 0), keys={"task": 1.5})


def test_scopes_with_equal_text_differ(make) -> None:
    ledger = make(Budget(1, scope="run"))
    assert [ledger.charge(run, 0, 1) for run in (1, "1", '"1"', "")] == [True] * 4


def test_a_period_refills_its_budget(make) -> None:
    clock = Clock(10 * DAY + 10)
    ledger = make([Budget(2, period="day"), Budget(3)], clock=clock)
    assert ledger.charge("run", 0, 1)
    assert ledger.reserve("run", 1, 1)
    assert [ledger.charge("run", 2, 1), ledger.left] == [False, (0,)]
    clock.time = 11 * DAY - 0.001
    assert ledger.left == (0,)
    clock.time = 11 * DAY
    assert ledger.left == (1,), "a new day, one left of the three in all"
    assert ledger.refund("run", 1)
    assert ledger.left == (2,), "a refund goes to the day that paid"
    assert not ledger.charge("run", 2, 1), "what was refused stays so"
    assert ledger.charge("run", 3, 2)
    assert ledger.left == (0,)
    clock.time = 10 * DAY + 20
    assert ledger.charge("run", 4, 1) is False, "a clock that is set back overspends nothing"


@pytest.mark.parametrize(
    ("period", "zone", "now", "start"),
    [
        ("hour", "UTC", "2026-03-29T01:59:59+00:00", "2026-03-29T01:00:00+00:00"),
        ("day", "UTC", "2026-03-29T23:59:59+00:00", "2026-03-29T00:00:00+00:00"),
        ("day", "Europe/Berlin", "2026-03-29T22:30:00+00:00", "2026-03-30T00:00:00+02:00"),
        ("day", "Europe/Berlin", "2026-03-29T12:00:00+02:00", "2026-03-29T00:00:00+01:00"),
        ("week", "UTC", "2026-11-29T12:00:00+00:00", "2026-11-23T00:00:00+00:00"),
        ("month", "America/New_York", "2026-12-01T03:00:00+00:00", "2026-11-01T00:00:00-04:00"),
        (90, "UTC", "1970-01-01T00:03:05+00:00", "1970-01-01T00:03:00+00:00"),
    ],
)
def test_periods_begin_by_the_calendar(period, zone, now, start) -> None:
    budget = Budget(1, period=period, timezone=zone)
    expected = datetime.fromisoformat(start).timestamp()
    assert budget.period_start(datetime.fromisoformat(now).timestamp()) == expected
    assert budget.period_start(expected) == expected
    assert budget.period_start(expected - 1) < expected


def test_raising_a_limit_is_recorded(make) -> None:
    ledger = make([Budget(1, scope="run"), Budget(2)])
    assert [ledger.charge(run, 0, 1) for run in "abc"] == [True, True, False]
    ledger.raise_limit(4, budget="requests", reason="release week")
    ledger.raise_limit(4, budget="requests", reason="release week")  # executed again
    assert [ledger.charge(run, 1, 1) for run in "cd"] == [True, True]
    (change,) = ledger.limit_changes()
    assert change[:4] == ("requests", 2, 4, "release week")
    assert [one.limit for one in ledger.budgets] == [1, 4]
    with pytest.raises(ValueError, match="limit is 3; expected at least the present 4"):
        ledger.raise_limit(3, budget="requests", reason="")
    with pytest.raises(ValueError, match="budget is None; expected one of requests per run, requests"):
        ledger.raise_limit(9, reason="")


def test_a_raised_ledger_opens_with_its_first_limit_and_its_present_one(make) -> None:
    ledger = make(2)
    if type(ledger) is Ledger:
        pytest.skip("memory is not opened again")
    ledger.raise_limit(5, reason="more tasks")
    assert make(2).limits == make(5).limits == make().limits == (5,)
    with pytest.raises(ValueError, match=r"has limits \(5,\); expected \(3,\)"):
        make(3)
    with pytest.raises(ValueError, match="has budgets 5 requests; expected 2 requests per day"):
        make(Budget(2, period="day"))
    with pytest.raises(ValueError, match="overrun='refuse'; expected 'record'"):
        make(2, overrun="record")


def test_real_cost_above_the_reservation(make) -> None:
    ledger = make(9, overrun="record")
    assert ledger.reserve("run", 0, 5)
    assert ledger.charge("run", 0, 12)
    assert ledger.left == (0,)
    assert not ledger.reserve("run", 1, 1)
    assert ledger.reserve("run", 2, 0), "what costs nothing fits always"
    assert [ledger.charge("run", 0, 12), ledger.reserve("run", 0, 5), ledger.charge("run", 0)] == [True] * 3
    assert ledger.refund("run", 0)
    assert ledger.left == (9,)
    assert ledger.charge("run", 3, 10), "what was spent is recorded"
    assert ledger.entries("charged") == [Entry("run", 3, "charged", (10,))]
    with pytest.raises(ValueError, match="expected at most"):
        ledger.charge("run", 4, 2**63 - 1)
    with pytest.raises(ValueError, match="overrun is 'ignore'; expected 'refuse' or 'record'"):
        make(9, overrun="ignore")


def test_overruns_are_refused_by_default(make) -> None:
    ledger = make(9)
    ledger.reserve("run", 0, 5)
    with pytest.raises(ValueError, match=r"reserved \(5,\) and costs \(6,\)"):
        ledger.charge("run", 0, 6)
    assert ledger.entries() == [Entry("run", 0, "reserved", (5,))]
    assert ledger.charge("run", 0, 0)
    assert ledger.left == (9,)


def test_reservations_expire_only_where_it_is_said(make) -> None:
    clock = Clock()
    ledger = make(4, clock=clock)
    assert ledger.reserve("run", "for ever", 1)
    assert [ledger.reserve("run", step, 1, expires_in=60) for step in ("a", "b", "c")] == [True] * 3
    assert ledger.charge("run", "a")
    clock.time += 59
    assert ledger.left == (0,)
    clock.time += 1
    assert ledger.left == (2,)
    assert [entry.status for entry in ledger.entries()] == ["reserved", "charged", "expired", "expired"]
    assert ledger.charge("run", "b"), "help came late and is paid for, since there is room"
    assert ledger.reserve("run", "other", 1)
    assert not ledger.charge("run", "c"), "no room is left"
    assert ledger.refund("run", "c")
    assert ledger.left == (0,)
    clock.time += 1000
    assert ledger.left == (0,)
    with pytest.raises(ValueError, match="expires_in is 0; expected seconds > 0"):
        ledger.reserve("run", "d", 1, expires_in=0)


def test_an_expired_step_may_be_reserved_again(make) -> None:
    clock = Clock()
    ledger = make(1, clock=clock)
    ledger.reserve("run", 0, 1, expires_in=5)
    clock.time += 5
    assert ledger.reserve("run", 0, 1, expires_in=5)
    assert not ledger.reserve("run", 1, 1)
    clock.time += 5
    assert ledger.entries("reserved") == [Entry("run", 0, "reserved", (1,))], "nobody has looked yet"
    assert ledger.reserve("run", 2, 1)
    assert not ledger.reserve("run", 0, 1, expires_in=5)


AMOUNT = st.integers(0, 4)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.lists(st.tuples(st.sampled_from("xy"), st.sampled_from("ab"), AMOUNT, AMOUNT, st.integers(0, 40)), max_size=30)
)
def test_nothing_is_overspent_in_any_scope_or_period(steps) -> None:
    """Sums over the steps that were paid stay within each limit, whatever comes."""
    clock = Clock(0.0)
    budgets = [
        Budget(3, scope="run"),
        Budget(5, scope="task", period=100),
        Budget(7, period=50),
        Budget(9, unit="euro"),
    ]
    ledger, paid = Ledger(budgets, clock=clock), []
    for i, (run, task, requests, euros, wait) in enumerate(steps):
        clock.time += wait
        left = ledger.budget_left(run, {"task": task})
        fits = requests <= left[0] and euros <= left[1]
        assert ledger.charge(run, i, (requests, euros), keys={"task": task}) == fits
        if fits:
            paid.append((run, task, requests, euros, clock.time))
    for run in "xy":
        assert sum(one[2] for one in paid if one[0] == run) <= 3
    for window in range(30):
        assert sum(one[2] for one in paid if one[4] // 50 == window) <= 7
        for task in "ab":
            assert sum(one[2] for one in paid if one[1] == task and one[4] // 100 == window) <= 5
    assert sum(one[3] for one in paid) <= 9


def test_ledgers_are_pickled(make) -> None:
    ledger = make([Budget(2, scope="run"), Budget(5)], clock=Clock())
    ledger.reserve("run", 0, 1, expires_in=10)
    again = pickle.loads(pickle.dumps(ledger))
    assert (again.left, again.budget_left("run"), again.entries()) == ((2,), (1,), ledger.entries())
    assert again.charge("run", 0)
    if type(ledger) is Ledger:
        assert ledger.entries()[0].status == copy.deepcopy(ledger).entries()[0].status == "reserved"


def test_a_file_of_schema_1_is_migrated(tmp_path) -> None:
    path = tmp_path / "ledger.sqlite"
    shutil.copy(Path(__file__).parent / "data" / "schema1.sqlite", path)
    with pytest.raises(ValueError, match=r"has limits \(3, 10\); expected \(3, 11\)"):
        SQLiteLedger(path, (3, 11))
    for ledger in (SQLiteLedger(path), SQLiteLedger(path, (3, 10))):
        assert (ledger.limits, ledger.left) == ((3, 10), (1, 6))
        assert ledger.entries() == [
            Entry("run", 0, "charged", (1, 2)),
            Entry("run", "0", "reserved", (1, 1)),
            Entry("other", 5, "refused", (3, 0)),
            Entry("other", -1, "refunded", (0, 4)),
            Entry("é", 2**63 - 1, "charged", (0, 1)),
        ]
    assert ledger.charge("run", "0", (1, 0))
    assert ledger.refund("é", 2**63 - 1)
    assert ledger.left == (1, 8)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"limit": -1}, "limit is -1"),
        ({"limit": 1.5}, "expected whole numbers"),
        ({"limit": 2**63}, "at most"),
        ({"limit": 1, "period": "year"}, "expected one of hour, day, week, month"),
        ({"limit": 1, "period": 0}, "expected seconds >= 1"),
        ({"limit": 1, "period": True}, "expected one of"),
        ({"limit": 1, "timezone": "Mars/Olympus"}, "timezone is 'Mars/Olympus'"),
        ({"limit": 1, "unit": ""}, "unit is ''"),
        ({"limit": 1, "scope": None}, "scope is None"),
    ],
)
def test_budgets_are_checked(arguments, words) -> None:
    with pytest.raises((ValueError, TypeError), match=words):
        Budget(**arguments)


def test_budgets_with_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="duplicate budget: 'requests per day'"):
        Ledger([Budget(1, period="day"), Budget(2, period="day")])


@pytest.mark.parametrize(("amount", "units"), [("0.0042", 4200), (0.1, 100_000), (3, 3_000_000), ("1e-9", 1), (0, 0)])
def test_money_is_micro_units(amount, units) -> None:
    assert micro_units(amount) == units


@pytest.mark.parametrize("amount", ["a", -1, float("nan"), float("inf"), None])
def test_money_is_a_number(amount) -> None:
    with pytest.raises(ValueError, match="amount is"):
        micro_units(amount)
