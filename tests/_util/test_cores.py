"""Threads are given up where other programs run on the cores."""

from __future__ import annotations

import os
import threading

import pytest

from selfreg._util import cores


@pytest.mark.parametrize(
    ("running", "wanted", "free"),
    [(1, 2, 2), (2, 2, 1), (3, 2, 1), (40, 2, 1), (1, 1, 1), (0, 2, 2), (2, 8, 1), (1, 8, 2)],
)
def test_programs_that_run_take_cores(running, wanted, free, tmp_path, monkeypatch) -> None:
    (tmp_path / "loadavg").write_text(f"0.52 0.40 0.30 {running}/186 17842\n")
    monkeypatch.setattr(cores, "LOAD", tmp_path / "loadavg")
    monkeypatch.setattr(cores, "TASKS", tmp_path / "task")
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    assert cores.free_threads(wanted) == free


@pytest.mark.parametrize(("running", "free"), [(2, 2), (3, 1), (4, 1)])
def test_threads_of_libraries_that_wait_in_a_busy_loop_do_not_count(running, free, tmp_path, monkeypatch) -> None:
    python = threading.Thread(target=(stop := threading.Event()).wait)
    python.start()
    states = {threading.get_native_id(): "R", python.native_id: "R", 1: "R", 2: "S"}
    for thread, state in states.items():
        (tmp_path / "task" / str(thread)).mkdir(parents=True)
        (tmp_path / "task" / str(thread) / "stat").write_text(f"{thread} (a) R (b)) {state} 1 2 3\n")
    (tmp_path / "loadavg").write_text(f"0.52 0.40 0.30 {running}/186 17842\n")
    monkeypatch.setattr(cores, "LOAD", tmp_path / "loadavg")
    monkeypatch.setattr(cores, "TASKS", tmp_path / "task")
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    try:
        assert cores.free_threads(2) == free
    finally:
        stop.set()
        python.join()


@pytest.mark.parametrize("text", [None, "", "0.1 0.1 0.1 busy 3\n"])
def test_systems_that_do_not_say(text, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(cores, "LOAD", tmp_path / "loadavg")
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    if text is not None:
        cores.LOAD.write_text(text)
    assert cores.free_threads(2) == 2


def test_this_machine() -> None:
    assert 1 <= cores.free_threads(10**6) <= (os.cpu_count() or 1)
