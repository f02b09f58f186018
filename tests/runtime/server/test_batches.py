"""Steps that wait at the same time are decided together; what is wrong with one harms no other."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from server_cases import SCRIPT, Server

from selfreg.decisions import Decision
from selfreg.runtime import Desk, Ledger, Recorder, SQLiteLedger


class Together:
    """Requests the first word of each state; remembers how many came at once."""

    costs = {"person": 1, "model": 2}  # noqa: RUF012

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def decide(self, steps, budget_left):
        return self.decide_batch([steps], [budget_left])[0]

    def decide_batch(self, histories, budgets_left):
        self.sizes.append(len(histories))
        words = [steps[-1].state.split()[0] for steps in histories]
        if "crash" in words:
            raise RuntimeError("this policy cannot decide")
        return [Decision(word if word in self.costs else "nohelp") for word in words]


@pytest.fixture
def parts():
    from selfreg.runtime.server import Service
    from selfreg.runtime.server.bodies import Decide

    policy, ledger = Together(), Ledger(9)
    service = Service(Recorder(policy, ledger), Desk(ledger))
    return policy, service, lambda run, *steps: Decide(run_id=run, step_id=0, steps=list(steps))


def test_many_steps_are_one_batch_and_one_bad_step_fails_alone(parts) -> None:
    policy, service, body = parts
    found = service.decide_many([body("a", "model"), body("b"), body("c", "nohelp"), body("a", "model")])
    assert [getattr(one, "action", type(one)) for one in found] == ["model", ValueError, "nohelp", "model"]
    assert (policy.sizes, service.recorder.ledger.left) == ([2], (7,))
    found = service.decide_many([body("d", "model"), body("e", "crash"), body("f", "person")])
    assert [getattr(one, "action", type(one)) for one in found] == ["model", RuntimeError, "person"]
    assert service.recorder.ledger.left == (4,)
    assert service.decide_many([]) == []


def test_a_ledger_that_is_gone_is_waited_for_once(tmp_path, parts) -> None:
    from selfreg.runtime.server import Service

    *_, body = parts
    ledger = SQLiteLedger(tmp_path / "ledger", 9)
    service = Service(Recorder(Together(), ledger), Desk(ledger))
    (tmp_path / "ledger").unlink()
    found = service.decide_many([body("a", "model"), body("b"), body("c", "model")])
    assert [type(one) for one in found] == [FileNotFoundError, ValueError, FileNotFoundError]


def test_what_comes_meanwhile_is_the_next_batch() -> None:
    from selfreg.runtime.server.batches import Batches

    sizes, busy = [], threading.Event()

    def work(numbers: list[int]) -> list[int | Exception]:
        sizes.append(len(numbers))
        busy.wait(10)
        return [ValueError("odd") if n % 2 else n for n in numbers]

    async def ask() -> list[object]:
        batches = Batches(work, most=4)
        first = asyncio.ensure_future(batches.answer(0))
        await asyncio.sleep(0.05)
        rest = [asyncio.ensure_future(batches.answer(i)) for i in range(1, 8)]
        await asyncio.sleep(0.05)
        rest[1].cancel()  # whoever asked has gone; the others are answered
        busy.set()
        found = await asyncio.gather(first, *rest, return_exceptions=True)
        return [*found, await batches.answer(8)]

    for _ in range(2):  # in another event loop too
        found = asyncio.run(ask())
        busy.clear()
        assert [found[i] for i in (0, 4, 6, 8)] == [0, 4, 6, 8]
        assert [type(found[i]) for i in (1, 2, 3)] == [ValueError, asyncio.CancelledError, ValueError]
    assert sizes == [1, 4, 3, 1] * 2


def test_work_that_fails_leaves_nobody_waiting() -> None:
    from selfreg.runtime.server.batches import Batches

    def work(numbers: list[int]) -> list[int | Exception]:
        raise MemoryError

    async def ask() -> list[object]:
        batches = Batches(work)
        return await asyncio.wait_for(asyncio.gather(*map(batches.answer, range(3)), return_exceptions=True), 10)

    assert all(isinstance(one, MemoryError) for one in asyncio.run(ask()))


@pytest.fixture
def together(tmp_path) -> Iterator[Server]:
    server = Server(sys.executable, str(SCRIPT), str(tmp_path / "ledger"), "15", "600", "together")
    yield server
    server.stop()


def test_many_agents_at_once_never_overspend(together, tmp_path) -> None:
    def call(i: int):
        if i % 5 == 4:
            return together.post("/v1/decide", {"run_id": f"run {i}", "step_id": 0, "steps": ["crash"]}).status_code
        return together.decide(f"run {i % 20}", i // 20, "model" if i % 2 else "nohelp")["action"]

    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(call, range(80)))
    assert found.count("model") == 7  # two units each
    assert found.count(500) == 16
    assert SQLiteLedger(tmp_path / "ledger").left == (1,)
    assert together.decide("one", 0, "person first")["request"]["state"] == "open"
