"""The work queue: order, bounded tasks in flight, errors and kills."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from selfreg._util import parallel
from selfreg._util.parallel import (
    AHEAD,
    LocalExecutor,
    ProcessExecutor,
    RayExecutor,
    choose_executor,
    run_tasks,
)


def scaled(factor: int, task: int) -> int:
    time.sleep(0.02 * (task % 3 == 0))
    return factor * task


def failing(_: None, task: int) -> int:
    if task == 3:
        raise KeyError("three")
    return task


EXECUTORS = [LocalExecutor(1), LocalExecutor(3), ProcessExecutor(1), ProcessExecutor(2)]


@pytest.mark.parametrize("executor", EXECUTORS, ids=str)
def test_results_come_in_the_order_of_the_tasks(executor) -> None:
    tasks = ((str(i), i) for i in range(20))
    assert list(run_tasks(executor, scaled, 10, tasks)) == [(str(i), 10 * i) for i in range(20)]


def test_results_as_they_complete() -> None:
    gate = threading.Event()

    def wait_for(_: None, task: int) -> int:
        if task == 0:
            gate.wait(10)
        return task

    results = run_tasks(LocalExecutor(2), wait_for, None, enumerate(range(6)), in_order=False)
    assert next(results) == (1, 1)
    gate.set()
    assert sorted(results) == [(i, i) for i in (0, 2, 3, 4, 5)]


@pytest.mark.parametrize("executor", EXECUTORS, ids=str)
def test_tasks_are_drawn_as_fast_as_they_complete(executor) -> None:
    drawn: list[int] = []

    def tasks() -> Iterator[tuple[None, int]]:
        for i in range(100):
            drawn.append(i)
            yield None, i

    workers = max(getattr(executor, "n_threads", 0), getattr(executor, "n_processes", 0))
    with closing(run_tasks(executor, scaled, 1, tasks())) as results:
        next(results)
        assert len(drawn) <= AHEAD * workers
    assert len(drawn) <= AHEAD * workers


@pytest.mark.parametrize("executor", EXECUTORS, ids=str)
def test_an_error_cancels_the_rest(executor) -> None:
    found = []
    with pytest.raises(KeyError, match="three"):
        found.extend(value for _, value in run_tasks(executor, failing, None, ((None, i) for i in range(50))))
    assert found in ([], [0, 1, 2])  # extend may keep what came before


def test_an_early_end_cancels_what_waits() -> None:
    begun: list[int] = []

    def note(_: None, task: int) -> None:
        begun.append(task)
        time.sleep(0.02)

    with closing(run_tasks(LocalExecutor(2), note, None, ((None, i) for i in range(50)))) as results:
        next(results)
    count = len(begun)
    time.sleep(0.1)
    assert len(begun) == count <= AHEAD * 2


def test_killed_processes_whose_pool_sees_it_first(monkeypatch) -> None:
    """The pool finds its processes dead before it is told to end, with tasks that wait."""
    kill = parallel._Spawn.kill
    monkeypatch.setattr(parallel, "AHEAD", 20)
    monkeypatch.setattr(parallel._Spawn, "kill", lambda context: (kill(context), time.sleep(0.3)))
    seen: list[type[BaseException]] = []
    monkeypatch.setattr(threading, "excepthook", lambda arguments: seen.append(arguments.exc_type))

    with closing(run_tasks(ProcessExecutor(2), scaled, 1, enumerate(range(100)))) as results:
        next(results)
    assert not seen


CHILDREN = """
import os, time
from selfreg._util.parallel import ProcessExecutor, run_tasks

def work(_, task):
    os.write(1, b"%d\\n" % os.getpid())  # at once, whoever else writes
    time.sleep(0.05)

if __name__ == "__main__":
    for _ in run_tasks(ProcessExecutor(2), work, None, ((None, i) for i in range(1000))):
        pass
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("kill", [signal.SIGKILL, signal.SIGINT])
def test_processes_end_with_their_parent(tmp_path, kill) -> None:
    script = tmp_path / "script.py"
    script.write_text(CHILDREN, encoding="utf-8")
    with subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as parent:
        assert parent.stdout is not None
        children = {int(parent.stdout.readline()) for _ in range(4)}
        parent.send_signal(kill)
        parent.stdout.close()
        assert parent.wait(30) != 0
    for _ in range(100):
        if not any(os.path.exists(f"/proc/{child}") for child in children):
            return
        time.sleep(0.1)
    raise AssertionError(f"still running: {children}")


def test_choices_are_named() -> None:
    processes = ProcessExecutor(2)
    assert choose_executor(None, processes) is processes
    assert choose_executor("ray", processes) == RayExecutor()
    assert choose_executor(RayExecutor(retries=1), processes) == RayExecutor(retries=1)
    with pytest.raises(ValueError, match="executor is 'local'"):
        choose_executor("local", processes)
