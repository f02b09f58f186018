"""People who help: a request is answered, declined, expired or refused, once, and its units follow."""

from __future__ import annotations

import asyncio
import copy
import pickle
import threading
from collections.abc import Sequence
from typing import ClassVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from selfreg.data import Step
from selfreg.decisions import Decision
from selfreg.runtime import Desk, Ledger, Recorder, RequestClosed, SQLiteLedger


class Clock:
    def __init__(self) -> None:
        self.time = 1_000_000_000.0

    def __call__(self) -> float:
        return self.time


def test_an_answer_charges(make) -> None:
    desk = Desk(ledger := make(5))
    request = desk.open("run", 0, "Delete it?", cost=3, reason="irreversible")
    assert (request.state, request.action, ledger.left) == ("open", None, (2,))
    assert desk.open("run", 0, "Delete it?", cost=3) == request
    answered = desk.answer("run", 0, "No", by="Ada", cost=1)
    assert (answered.state, answered.action, answered.answer, answered.by) == ("answered", "person", "No", "Ada")
    assert ledger.left == (4,)
    assert desk.open("run", 0, "Delete it?", cost=3) == desk.find("run", 0) == answered
    assert desk.answer("run", 0, "No", by="Ada") == answered, "a message may come twice"


def test_the_second_person_is_told(make) -> None:
    desk = Desk(ledger := make(5))
    desk.open("run", 0, "Delete it?", cost=3)
    desk.decline("run", 0, "no time", by="Ada")
    with pytest.raises(RequestClosed, match=r"step \('run', 0\) was declined by Ada before") as caught:
        desk.answer("run", 0, "Yes", by="Bob")
    assert copy.copy(caught.value).request == pickle.loads(pickle.dumps(caught.value)).request == desk.find("run", 0)
    assert (ledger.left, desk.find("run", 0).action) == ((5,), "nohelp")


def test_a_request_expires(make) -> None:
    clock = Clock()
    desk = Desk(ledger := make(5, clock=clock), time_limit=60, fallback="model")
    desk.open("run", 0, "Delete it?", cost=3)
    desk.open("run", 1, "Sure?", cost=1)
    clock.time += 59.9
    assert desk.find("run", 0).state == "open"
    clock.time += 0.1
    found = desk.find("run", 0)
    assert (found.state, found.action, found.closed, ledger.left) == ("expired", "model", clock.time, (5,))
    with pytest.raises(RequestClosed, match="was expired before"):
        desk.answer("run", 1, "late")
    assert desk.requests("open") == []
    assert [one.state for one in desk.requests()] == ["expired", "expired"]


def test_attention_is_a_budget(make) -> None:
    clock = Clock()
    desk = Desk(ledger := make(50, clock=clock), max_open=2, max_per_day=3, time_limit=10 * 86400)
    assert [desk.open("run", i, "?", cost=1).state for i in range(3)] == ["open", "open", "refused"]
    assert desk.find("run", 2).answer == "2 requests are open"
    assert ledger.left == (48,)
    desk.answer("run", 0, "yes")
    assert desk.open("run", 2, "?", cost=1).state == "refused", "it stays so"
    assert desk.open("run", 3, "?", cost=1).state == "open"
    desk.answer("run", 3, "yes")
    assert desk.open("run", 4, "?", cost=1).answer == "3 requests were opened today"
    clock.time += 86400
    assert desk.open("run", 5, "?", cost=1).state == "open"


def test_the_budget_refuses_too(make) -> None:
    desk = Desk(ledger := make(1))
    refused = desk.open("run", 0, "?", cost=2)
    assert (refused.state, refused.action, refused.answer) == ("refused", "nohelp", "the budget has too little left")
    ledger.reserve("run", 1, 1)
    ledger.refund("run", 1)
    assert desk.open("run", 1, "?").state == "refused"


def test_a_reservation_of_the_recorder_is_taken_over(make) -> None:
    class Always:
        costs: ClassVar = {"person": 2}

        def decide(self, steps: Sequence[Step], budget_left: tuple[int, ...] | None) -> Decision:
            return Decision("person", reason="it is risky")

    recorder = Recorder(Always(), make(4))
    desk = Desk(recorder.ledger)
    for step in range(2):
        decision = recorder.decide_once("run", step, [Step("risky")])
        assert desk.open("run", step, "May I?", help=decision.action, reason=decision.reason).state == "open"
    desk.answer("run", 0, "yes")
    desk.decline("run", 1)
    assert recorder.ledger.left == (2,)
    assert [step.intervention for step in recorder.trajectories()[0].steps] == ["person", None]


def test_requests_survive_a_restart(tmp_path) -> None:
    Desk(SQLiteLedger(tmp_path / "ledger", 5)).open("run", 0, "é?", cost=1)
    desk = Desk(SQLiteLedger(tmp_path / "ledger"))
    assert [one.text for one in desk.requests("open")] == ["é?"]
    assert desk.answer("run", 0, "yes").state == "answered"
    assert pickle.loads(pickle.dumps(desk)).find("run", 0).answer == "yes"


def test_waiting(make) -> None:
    desk = Desk(make(5), poll=0.01)
    for step in range(3):
        desk.open("run", step, "?", cost=1)
    assert desk.wait("run", 0, timeout=0.03).state == "open"
    called, closed = [], threading.Event()
    desk.on_close("run", 2, lambda request: (called.append(request), closed.set()))
    timers = [threading.Timer(0.05 + 0.02 * step, desk.answer, ("run", step, "yes")) for step in range(3)]
    for timer in timers:
        timer.start()
    assert desk.wait("run", 0).answer == "yes"

    async def both() -> list[object]:
        first = await desk.wait_async("run", 1)
        return [first, await desk.wait_async("run", 2, timeout=5)]

    assert [one.state for one in asyncio.run(both())] == ["answered", "answered"]
    assert closed.wait(5)
    assert called == [desk.find("run", 2)]
    for timer in timers:
        timer.join()


def test_waiting_ends_at_the_time_limit() -> None:
    desk = Desk(Ledger(1), time_limit=0.05, poll=0.01)
    desk.open("run", 0, "?", cost=1)
    assert desk.wait("run", 0).state == "expired"


def test_two_people_at_once(make) -> None:
    """Eight people close each of 20 requests; one wins, the others hear who."""
    desk, start = Desk(ledger := make(40)), threading.Barrier(8)
    for step in range(20):
        desk.open("run", step, "?", cost=2)
    won: list[tuple[int, str]] = []
    lost: list[tuple[int, str]] = []

    def close(who: int) -> None:
        start.wait()
        for step in range(20):
            try:
                if who % 2:
                    desk.answer("run", step, "yes", by=str(who))
                else:
                    desk.decline("run", step, by=str(who))
                won.append((step, str(who)))
            except RequestClosed as error:
                lost.append((step, error.request.by))

    threads = [threading.Thread(target=close, args=(who,)) for who in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(step for step, _ in won) == list(range(20))
    assert len(lost) == 140
    assert set(lost) <= set(won)
    answered = sum(int(who) % 2 for _, who in won)
    assert ledger.left == (40 - 2 * answered,)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"time_limit": 0}, "time_limit is 0; expected seconds > 0"),
        ({"time_limit": float("inf")}, "time_limit is inf"),
        ({"poll": -1}, "poll is -1"),
        ({"max_open": -1}, "max_open is -1"),
        ({"max_per_day": 1.5}, "max_per_day is 1.5; expected whole numbers"),
        ({"timezone": "Mars"}, "timezone is 'Mars'"),
    ],
)
def test_options_are_checked(options, words) -> None:
    with pytest.raises((ValueError, TypeError), match=words):
        Desk(Ledger(1), **options)


def test_misuse_is_named(make) -> None:
    desk = Desk(make(1))
    for call in (desk.find, desk.decline, desk.wait):
        with pytest.raises(ValueError, match=r"step \('run', 0\) has no request"):
            call("run", 0)
    with pytest.raises(ValueError, match="never reserved; give the cost"):
        desk.open("run", 0, "?")
    with pytest.raises(ValueError, match="state is 'closed'; expected one of open"):
        desk.requests("closed")


STEP = st.integers(0, 4)


class DeskStory(RuleBasedStateMachine):
    """Whatever comes in whatever order: units held are those of open and answered requests."""

    @initialize(limit=st.integers(0, 6), most=st.integers(0, 3))
    def begin(self, limit: int, most: int) -> None:
        self.clock, self.limit, self.most = Clock(), limit, most
        self.ledger = Ledger(limit, clock=self.clock)
        self.desk = Desk(self.ledger, time_limit=10, max_open=most)

    @rule(step=STEP)
    def open(self, step: int) -> None:
        self.desk.open("run", step, "?", cost=1 + step % 2)

    @rule(step=STEP, how=st.sampled_from(["answer", "decline"]))
    def close(self, step: int, how: str) -> None:
        states = {one.step_id: one.state for one in self.desk.requests()}
        wanted = "answered" if how == "answer" else "declined"
        try:
            assert getattr(self.desk, how)("run", step, "").state == wanted
            assert states[step] in ("open", wanted)
        except RequestClosed:
            assert states[step] not in ("open", wanted)
        except ValueError:
            assert step not in states

    @rule(seconds=st.integers(1, 7))
    def time_passes(self, seconds: int) -> None:
        self.clock.time += seconds

    @invariant()
    def units_follow(self) -> None:
        if hasattr(self, "desk"):
            requests = self.desk.requests()
            held = [1 + one.step_id % 2 for one in requests if one.state in ("open", "answered")]
            assert self.ledger.left == (self.limit - sum(held),)
            assert sum(one.state == "open" for one in requests) <= self.most
            assert all(one.closes > self.clock.time for one in requests if one.state == "open")


TestDeskStory = DeskStory.TestCase
TestDeskStory.settings = settings(max_examples=60, stateful_step_count=25, deadline=None, derandomize=True)
