"""Threads are given up where other programs run on the cores."""

from __future__ import annotations

import os

import pytest

from selfreg._util import cores


@pytest.mark.parametrize(
    ("running", "wanted", "free"),
    [(1, 2, 2), (2, 2, 1), (3, 2, 1), (40, 2, 1), (1, 1, 1), (0, 2, 2), (2, 8, 1), (1, 8, 2)],
)
def test_programs_that_run_take_cores(running, wanted, free, tmp_path, monkeypatch) -> None:
    (tmp_path / "loadavg").write_text(f"0.52 0.40 0.30 {running}/186 17842\n")
    monkeypatch.setattr(cores, "LOAD", tmp_path / "loadavg")
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    assert cores.free_threads(wanted) == free


@pytest.mark.parametrize("text", [None, "", "0.1 0.1 0.1 busy 3\n"])
def test_systems_that_do_not_say(text, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(cores, "LOAD", tmp_path / "loadavg")
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    if text is not None:
        cores.LOAD.write_text(text)
    assert cores.free_threads(2) == 2


def test_this_machine() -> None:
    assert 1 <= cores.free_threads(10**6) <= (os.cpu_count() or 1)
