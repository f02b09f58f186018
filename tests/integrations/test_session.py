"""The shared base: keys, attempts, pauses, traces, and the text of states."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from conformance import Always, make_recorder

from selfreg.data import Step, parse_history
from selfreg.decisions import Decision
from selfreg.integrations._session import Session, history_of, name_step
from selfreg.runtime import Ledger, Recorder

CHAT = [
    {"role": "system", "content": "You are careful."},
    {"role": "user", "content": "2 + 2 = ?"},
    {"role": "assistant", "content": "", "tool_calls": [{"id": "1", "name": "add", "args": {"a": 2, "b": 2}}]},
    {"role": "tool", "content": "error", "tool_call_id": "1"},
]


class Pause(Exception):
    """How a framework stops a step."""


def test_a_pause_keeps_the_reservation() -> None:
    session = Session(make_recorder(1), pauses=(Pause,))
    with pytest.raises(Pause), session.decide("run", 0, [Step("a")]):
        raise Pause
    assert session.decide("run", 0, [Step("a")]).status == "reserved"


def test_attempts_have_numbers() -> None:
    session = Session(make_recorder(1))
    for name in (0, "0#2", "0#3"):
        step = session.decide("run", 0, [Step("a")])
        assert step.step_id == name
        assert session.find_step("run", 0) == step
        step.refund()
    assert session.find_step("run", 1) is None


def test_a_question_is_decided_once_even_if_its_reservation_expires() -> None:
    now = [0.0]
    recorder = Recorder(Always(), Ledger(1, clock=lambda: now[0]), costs={"strong": 1}, expires_in=60)
    session = Session(recorder)
    assert session.decide_question("run", "call 1", [Step("a")]).helped
    now[0] = 61.0
    recorder.ledger.reserve("other", 0, 1)
    step = session.decide_question("run", "call 1", [Step("a")])
    assert (step.helped, step.step_id, step.status) == (True, "call 1", "expired")


@pytest.mark.parametrize("decided", [False, True])
def test_a_cancelled_decision_holds_nothing(decided) -> None:
    """While its thread decides, and when the thread has decided and the task does not know it yet."""
    started, go, done = threading.Event(), threading.Event(), threading.Event()

    class Slow(Always):
        def decide(self, steps, budget_left):
            started.set()
            go.wait(30)
            return Decision("strong")

    recorder = Recorder(Slow(), Ledger(1), costs={"strong": 1})
    session = Session(recorder, trace=lambda step, event: done.set())

    async def cancel() -> None:
        task = asyncio.create_task(session.decide_async("run", 0, [Step("a")]))
        await asyncio.to_thread(started.wait, 30)
        if decided:  # the event loop is busy meanwhile
            go.set()
            done.wait(30)
            time.sleep(0.2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        go.set()

    asyncio.run(cancel())
    assert [entry.status for entry in recorder.ledger.entries()] == ["refunded"]


@pytest.mark.parametrize("look", ["inside", "after"])
def test_a_task_that_is_cancelled_while_it_pays_has_paid(look) -> None:
    """All threads are busy, as under load: the charge waits for one when the task is cancelled."""
    session = Session(make_recorder(1))

    async def leave() -> None:
        busy = threading.Event()
        answered = asyncio.Event()

        async def answer() -> None:
            async with session.decide("run", 0, [Step("a")]):
                answered.set()

        pool = ThreadPoolExecutor(1)
        asyncio.get_running_loop().set_default_executor(pool)
        pool.submit(busy.wait, 30)
        task = asyncio.create_task(answer())
        await answered.wait()
        await asyncio.sleep(0)
        if look == "inside":
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert session.find_status("run", 0) == "charged"
        threading.Timer(0.2, busy.set).start()

    asyncio.run(leave())
    assert session.find_status("run", 0) == "charged"


def test_a_trace_sees_each_event_once(caplog) -> None:
    events = []

    def trace(step, event):
        events.append((event, step.attributes()["selfreg.ledger.status"]))
        raise RuntimeError("the collector is away")

    with caplog.at_level(logging.ERROR), Session(make_recorder(1), trace=trace).decide("run", 0, [Step("a")]):
        pass
    assert events == [("decided", "reserved"), ("charged", "charged")]
    assert "the collector is away" in caplog.text


def test_attributes_leave_out_what_is_unknown() -> None:
    step = Session(make_recorder(1)).decide("run", 0, [Step("a")])
    assert step.attributes() == {
        "selfreg.action": "strong",
        "selfreg.budget.left": [1],
        "selfreg.run_id": "run",
        "selfreg.step_id": "0",
        "selfreg.ledger.status": "reserved",
        "selfreg.extrapolated": False,
    }


def test_states_are_those_of_the_readers() -> None:
    assert history_of(CHAT) == parse_history({"messages": CHAT})
    assert history_of(CHAT)[-1] == Step("add returned: error")


def test_a_proposal_has_the_state_in_which_it_was_made() -> None:
    assert history_of(CHAT[:3], "add(...)") == [Step("2 + 2 = ?\nadd(...)")]
    assert history_of(CHAT[:3])[-1] == Step("")  # nothing came in: no error, the agent may go on


def test_keys_are_those_of_the_content() -> None:
    steps = history_of(CHAT)
    assert name_step(steps) == name_step(history_of([dict(one) for one in CHAT]))
    others = [name_step(steps[:1]), name_step(steps, "tool"), name_step([Step("x"), *steps[1:]])]
    assert len({name_step(steps), *others}) == 4


def test_a_helper_in_the_place_of_a_recorder() -> None:
    with pytest.raises(TypeError, match=r"recorder is a Always; expected a selfreg.runtime.Recorder"):
        Session(Always())
