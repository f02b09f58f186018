"""All adapters keep the same rules: decided once, paid once, never overspent."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conformance import DRIVERS, KILL, WAIT, Driver, Models, load_driver, make_recorder, run_step

HERE = Path(__file__).parent
KILLED = """
import sys
sys.path.insert(0, {here!r})
from conformance import Models, load_driver, make_recorder, run_step
models = Models(**{script!r})
run_step(load_driver({name!r}), make_recorder({budget}, {ledger!r}), "run", "question", models)
"""


@pytest.fixture(params=DRIVERS)
def driver(request: pytest.FixtureRequest) -> Driver:
    return load_driver(request.param)


def needs(driver: Driver, mode: str):
    found = getattr(driver, mode)
    if found is None:
        pytest.skip(f"the framework has no {mode}")
    return found


def statuses(recorder) -> list[str]:
    return [entry.status for entry in recorder.ledger.entries()]


def statuses_after(driver, recorder) -> list[str]:
    """When nobody waits any more: at once, or when the answer is read to its end."""
    for _ in range(6000):
        if not driver.reads_on or "reserved" not in statuses(recorder):
            break
        time.sleep(0.01)
    return statuses(recorder)


def test_helped_once_then_refused(driver) -> None:
    recorder, models = make_recorder(1), Models()
    assert run_step(driver, recorder, "run", "first", models) == "strong answered"
    assert statuses(recorder) == ["charged"]
    assert run_step(driver, recorder, "run", "second", models) == "weak answered"
    assert models.calls == ["strong", "weak"]
    assert recorder.ledger.left == (0,)


def test_a_replay_looks_the_decision_up(driver) -> None:
    """Help as well as no help, whatever is left by now."""
    recorder, models = make_recorder(1), Models()
    for _ in range(2):
        assert run_step(driver, recorder, "run", "first", models) == "strong answered"
        assert run_step(driver, recorder, "run", "second", models) == "weak answered"
        if recorder.ledger.limits == (1,):
            recorder.ledger.raise_limit(5, reason="more people")
    assert recorder.ledger.left == (4,)
    assert len(recorder.decisions()) == 2


def test_other_runs_have_keys_of_their_own(driver) -> None:
    recorder = make_recorder(2)
    for run in ("one", "other"):
        run_step(driver, recorder, run, "question", Models())
    assert recorder.ledger.left == (0,)
    first, second = (str(one.run_id) for one in recorder.decisions())
    assert ("one" in first, "other" in second) == (True, True)


@pytest.mark.parametrize("name", DRIVERS)
@pytest.mark.parametrize("budget", [1, 0])
def test_a_killed_step_is_resumed(name, budget, tmp_path) -> None:
    driver, ledger = load_driver(name), str(tmp_path / "ledger.sqlite")
    script = {"strong" if budget else "weak": (KILL,)}
    code = KILLED.format(here=str(HERE), script=script, name=name, budget=budget, ledger=ledger)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == -9, done.stderr
    recorder = make_recorder(budget, ledger)
    assert statuses(recorder) == ["reserved"] * budget
    other = make_recorder(budget, ledger)
    assert run_step(driver, other, "another run", "question", Models()) == "weak answered"
    helped = "strong answered" if budget else "weak answered"
    assert run_step(driver, recorder, "run", "question", Models()) == helped
    assert statuses(recorder) == ["charged"] * budget


def test_a_failed_answer_is_refunded_and_tried_again(driver) -> None:
    recorder, models = make_recorder(1), Models(strong=(RuntimeError("overloaded"),))
    with pytest.raises(driver.error):
        run_step(driver, recorder, "run", "question", models)
    assert recorder.ledger.left == (1,)
    assert run_step(driver, recorder, "run", "question", models) == "strong answered"
    assert recorder.ledger.left == (0,)
    assert run_step(driver, recorder, "run", "question", models) == "strong answered"  # a replay of both attempts
    assert statuses(recorder) == ["refunded", "charged"]


def test_another_attempt_must_be_paid_too(driver) -> None:
    """A refunded key gives no free help: when others took the unit, the step goes on alone."""
    recorder, models = make_recorder(1), Models(strong=(RuntimeError("overloaded"),))
    with pytest.raises(driver.error):
        run_step(driver, recorder, "run", "question", models)
    run_step(driver, recorder, "other", "question", Models())
    assert run_step(driver, recorder, "run", "question", models) == "weak answered"


def test_an_error_without_help_pays_nothing(driver) -> None:
    recorder, models = make_recorder(0), Models(weak=(RuntimeError("overloaded"),))
    with pytest.raises(driver.error):
        run_step(driver, recorder, "run", "question", models)
    assert run_step(driver, recorder, "run", "question", models) == "weak answered"
    assert len(recorder.decisions()) == 1


def test_runs_at_once_share_a_budget(driver) -> None:
    recorder, models = make_recorder(3), Models()
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda i: run_step(driver, recorder, f"run {i}", "question", models), range(8)))
    assert sorted(answers) == ["strong answered"] * 3 + ["weak answered"] * 5
    assert statuses(recorder) == ["charged"] * 3


def test_tasks_at_once_share_a_budget(driver) -> None:
    call_async = needs(driver, "call_async")
    recorder, models = make_recorder(3), Models()

    async def run_all() -> list[str]:
        return await asyncio.gather(*(call_async(recorder, f"run {i}", "question", models) for i in range(8)))

    assert sorted(asyncio.run(run_all())) == ["strong answered"] * 3 + ["weak answered"] * 5
    assert statuses(recorder) == ["charged"] * 3


def test_cancelled_help_is_refunded(driver) -> None:
    call_async = needs(driver, "call_async")
    recorder, models = make_recorder(1), Models(strong=(WAIT,))

    async def cancel() -> None:
        task = asyncio.create_task(call_async(recorder, "run", "question", models))
        while not models.calls:
            assert not task.done(), task
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())
    assert statuses_after(driver, recorder) == ["refunded"]
    assert asyncio.run(call_async(recorder, "run", "question", models)) == "strong answered"
    assert recorder.ledger.left == (0,)


# ---- answers in pieces


@pytest.fixture(params=["stream", "stream_async"])
def read(request: pytest.FixtureRequest, driver):
    """Reads a stream, all of it or its first pieces."""
    start = needs(driver, request.param)

    def read_stream(*arguments, most: int | None = None) -> str:
        async def go() -> str:
            found, pieces = [], start(*arguments)
            async with contextlib.aclosing(pieces):
                async for piece in pieces:
                    found.append(piece)
                    if most is not None and len(found) >= most:
                        break
            return "".join(found)

        if request.param == "stream_async":
            return asyncio.run(go())
        found = []
        with contextlib.closing(start(*arguments)) as pieces:
            for piece in pieces:
                found.append(piece)
                if most is not None and len(found) >= most:
                    break
        return "".join(found)

    return read_stream


def test_a_stream_is_paid_at_its_end(read) -> None:
    recorder, models = make_recorder(1), Models()
    assert read(recorder, "run", "first", models) == "strong answered"
    assert read(recorder, "run", "second", models) == "weak answered"
    assert read(recorder, "run", "first", models) == "strong answered"
    assert statuses(recorder) == ["charged"]


def test_a_broken_stream_is_refunded(read, driver) -> None:
    recorder, models = make_recorder(1), Models(strong=(RuntimeError("gone"),))
    with pytest.raises(driver.error):
        read(recorder, "run", "question", models)
    assert statuses_after(driver, recorder) == ["refunded"]
    assert read(recorder, "run", "question", models) == "strong answered"


def test_a_reader_who_leaves_pays_for_what_it_got(read, driver) -> None:
    recorder = make_recorder(1)
    assert read(recorder, "run", "question", Models(), most=1).startswith("strong")
    assert statuses_after(driver, recorder) == ["charged"]
