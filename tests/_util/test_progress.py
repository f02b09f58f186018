"""Progress: on a terminal only, and on its error stream."""

from __future__ import annotations

import ast
import io
import sys
from pathlib import Path

import pytest

import selfreg
from selfreg._util.progress import progress, quiet, spinner, track


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_what_is_done(monkeypatch, capsys) -> None:
    pytest.importorskip("rich")
    monkeypatch.setattr(sys, "stderr", Terminal())
    with progress("count", 10, "episodes", done=2) as advance:
        advance(3, "7 states")
    shown = sys.stderr.getvalue()
    assert "count" in shown
    assert "5/10" in shown
    assert "episodes/s" in shown
    assert "7 states" in shown
    assert capsys.readouterr().out == ""


def test_bars_inside_of_a_stage_leave_no_line(monkeypatch) -> None:
    pytest.importorskip("rich")
    monkeypatch.setattr(sys, "stderr", Terminal())
    with spinner("solve"):
        assert list(track(range(3), "resampled models", "models")) == [0, 1, 2]
        list(track(range(2), "splits", "splits"))
    shown = sys.stderr.getvalue()
    assert "resampled models" in shown
    assert "\n\n" not in shown


def test_without_colour_there_are_no_escapes(monkeypatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setattr("selfreg._util.progress.PLAIN_EVERY", 0.0)
    with spinner("solve"), progress("count", 10, "episodes", done=2) as advance:
        advance(3, "7 states")
    shown = sys.stderr.getvalue()
    assert "count 5/10 episodes" in shown
    assert "0:00 left 7 states" in shown
    assert "\x1b" not in shown


def test_quiet_shows_nothing(monkeypatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    with quiet(), spinner("solve"):
        assert list(track([1, 2], "count", "episodes")) == [1, 2]
    assert sys.stderr.getvalue() == ""


def test_a_pipe_shows_nothing(capsys) -> None:
    assert list(track([1, 2, 3], "count", "episodes")) == [1, 2, 3]
    assert capsys.readouterr() == ("", "")


def test_without_rich_nothing_is_shown(monkeypatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    for name in ("rich", "rich.console", "rich.progress"):
        monkeypatch.setitem(sys.modules, name, None)
    assert list(track([1, 2], "count", "episodes")) == [1, 2]
    assert sys.stderr.getvalue() == ""


def test_one_module_knows_the_bars() -> None:
    root = Path(selfreg.__file__).parent
    users = [
        path.relative_to(root).as_posix()
        for path in root.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module == "rich.progress"
    ]
    assert users == ["_util/progress.py"]
