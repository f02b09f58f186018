"""Clocks that go back, interrupts and cancelled tasks: nothing is overspent, changed or left half done."""

from __future__ import annotations

import asyncio
import math
import signal
import threading
import time
from datetime import datetime
from typing import ClassVar
from zoneinfo import ZoneInfo

import pytest

from selfreg.data import Step
from selfreg.decisions import Decision
from selfreg.runtime import Budget, Desk, Recorder, SQLiteLedger

HOUR, DAY = 3600.0, 86_400.0


class Always:
    costs: ClassVar = {"person": 1}

    def decide(self, steps, budget_left):
        return Decision("person")


def test_a_clock_that_goes_back_overspends_nothing(make) -> None:
    clock = [100 * DAY + 23 * HOUR]
    recorder = Recorder(Always(), make([Budget(2, period="day")], clock=lambda: clock[0]), expires_in=5 * HOUR)

    def spend(name: str) -> list[str]:
        return [recorder.decide_once(f"{name} {i}", 0, [Step("a")]).action for i in range(3)]

    assert spend("before midnight") == ["person", "person", "nohelp"]
    clock[0] += 2 * HOUR
    assert spend("after midnight") == ["person", "person", "nohelp"]
    clock[0] -= 2 * HOUR
    assert spend("before midnight again") == ["nohelp"] * 3
    clock[0] -= 50 * DAY  # what was reserved ends later than it was reserved, whatever the clock says in between
    assert recorder.decide_once("before midnight 0", 0, [Step("a")]).action == "person"
    clock[0] += 50 * DAY + 2 * HOUR
    assert spend("after midnight again") == ["nohelp"] * 3
    assert [entry.status for entry in recorder.ledger.entries()] == ["reserved"] * 4


@pytest.mark.parametrize(("day", "hours"), [("2026-03-29", 23), ("2026-10-25", 25)])
def test_a_day_on_which_clocks_change_has_one_budget(make, day, hours) -> None:
    """Every half hour of it one request; the hour that comes twice is no new day."""
    begin = datetime.fromisoformat(day).replace(tzinfo=ZoneInfo("Europe/Berlin")).timestamp()
    clock = [0.0]
    ledger = make([Budget(30, period="day", timezone="Europe/Berlin")], clock=lambda: clock[0])
    recorder = Recorder(Always(), ledger)
    actions = []
    for half in range(2 * hours + 1):
        clock[0] = begin + half * HOUR / 2
        actions.append(recorder.decide_once("run", half, [Step("a")]).action)
    assert actions[:-1].count("person") == 30
    assert actions[-1] == "person"  # the next day


@pytest.mark.parametrize(
    ("now", "error"),
    [(math.nan, ValueError), (math.inf, ValueError), (1.79e12, ValueError), (-1e18, ValueError), (None, TypeError)],
    ids=["nan", "inf", "milliseconds", "far back", "None"],
)
def test_a_clock_that_gives_no_seconds_is_named(make, now, error) -> None:
    clock = [1.79e9]
    ledger = make([Budget(2, period="month"), Budget(9)], clock=lambda: clock[0])
    recorder, desk = Recorder(Always(), ledger, expires_in=60), Desk(ledger)
    recorder.decide_once("run", 0, [Step("a")])
    clock[0] = now
    for call in (
        lambda: recorder.decide_once("run", 1, [Step("a")]),
        lambda: ledger.reserve("run", 1, 1),
        lambda: ledger.budget_left("run"),
        lambda: desk.open("run", 1, "?", cost=1),
    ):
        with pytest.raises(error, match=r"the clock is .*; expected seconds since 1970"):
            call()
    clock[0] = 1.79e9
    assert (ledger.budget_left("run"), len(ledger.entries())) == ((1,), 1)


def test_a_cancelled_wait_leaves_the_request_open(make) -> None:
    ledger = make(3)
    desk = Desk(ledger, poll=0.01)
    desk.open("run", 0, "?", cost=1)

    async def give_up() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(desk.wait_async("run", 0), 0.1)

    asyncio.run(give_up())
    assert desk.find("run", 0).state == "open"
    assert ledger.left == (2,)
    desk.answer("run", 0, "!")
    assert asyncio.run(desk.wait_async("run", 0)).answer == "!"


def test_a_cancelled_decision_is_made_once(make) -> None:
    """A task that is cancelled while a thread decides: the decision is stored, and found by the next try."""
    started, going_on = threading.Event(), threading.Event()

    class Slow(Always):
        calls = 0

        def decide(self, steps, budget_left):
            self.calls += 1
            started.set()
            going_on.wait(10)
            return Decision("person")

    policy = Slow()
    recorder = Recorder(policy, make(3))

    async def cancelled() -> None:
        task = asyncio.create_task(asyncio.to_thread(recorder.decide_once, "run", 0, [Step("a")]))
        await asyncio.to_thread(started.wait, 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        going_on.set()

    asyncio.run(cancelled())
    assert recorder.decide_once("run", 0, [Step("a")]).action == "person"
    assert (policy.calls, recorder.ledger.left) == (1, (2,))


def test_interrupts_at_random_moments_change_no_decision(tmp_path) -> None:
    """Ctrl-C while decisions are stored in a file, by a timer that fires at odd times."""
    recorder = Recorder(Always(), SQLiteLedger(tmp_path / "ledger", 60, timeout=2))
    first: dict[int, Decision] = {}
    before = signal.signal(signal.SIGALRM, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
    try:
        for i in range(120):
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.0001 + 0.00003 * (i % 40))
                first[i] = recorder.decide_once("run", i, [Step("a")])
                time.sleep(0.002)
            except KeyboardInterrupt:
                pass
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
    finally:
        signal.signal(signal.SIGALRM, before)
    again = {i: recorder.decide_once("run", i, [Step("a")]) for i in range(120)}
    assert {i: again[i] for i in first} == first
    assert sum(one.requests_help for one in again.values()) == 60 == len(recorder.ledger.entries("reserved"))
    assert recorder.ledger.left == (0,)
