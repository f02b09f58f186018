"""Progress of long work: what is done and the time left on a terminal, nothing in a pipe."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

T = TypeVar("T")

# Seconds between two updates of a line without escape sequences.
PLAIN_EVERY = 0.2
# Columns of a terminal that has room for a bar.
WIDE = 100


class Advance(Protocol):
    """Counts units as done; `note` is shown behind the bar."""

    def __call__(self, units: int, note: str = "") -> None: ...


class _Shown:
    """What is shown now: one display for all that runs, and whether anything may be shown."""

    display: Any = None
    quiet = False


def _silent(units: int, note: str = "") -> None:
    return


@contextmanager
def quiet(wanted: bool = True) -> Iterator[None]:
    """No progress while the block runs."""
    before, _Shown.quiet = _Shown.quiet, _Shown.quiet or wanted
    try:
        yield
    finally:
        _Shown.quiet = before


def shows_progress() -> bool:
    """Whether there is a terminal for progress."""
    return not _Shown.quiet and sys.stderr.isatty()


def plain_terminal() -> bool:
    """Whether the terminal is to get no escape sequences."""
    return bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") in ("dumb", "unknown")


@contextmanager
def progress(name: str, total: int | None, unit: str, done: int = 0) -> Iterator[Advance]:
    """Show progress on the error stream while the block runs, if that is a terminal and rich is installed.

    Parameters
    ----------
    name : str
    total : int or None
        None if it is unknown.
    unit : str
        Plural, such as "episodes".
    done : int
        Units done earlier; they do not count in the rate.
    """
    if not shows_progress():
        yield _silent
    elif plain_terminal():
        yield from _plain(name, total, unit, done)
    else:
        with _display(transient=False) as bars:
            yield _silent if bars is None else _bar(bars, name, total, unit, done)


@contextmanager
def spinner(name: str) -> Iterator[None]:
    """Show that something runs, and for how long; what reports units of its own is shown below."""
    if not shows_progress() or plain_terminal():
        yield
        return
    with _display(transient=True) as bars:
        if bars is not None:
            bars.add_task(name, total=None, shown="", left="")
        yield


def track(items: Collection[T], name: str, unit: str) -> Iterator[T]:
    """Yield the items and show progress."""
    with progress(name, len(items), unit) as advance:
        for item in items:
            yield item
            advance(1)


@contextmanager
def _display(transient: bool) -> Iterator[Any]:
    """The display of rich: a new one, or the one that is there, without what the block adds to it."""
    if _Shown.display is not None:
        before = set(_Shown.display.task_ids)
        try:
            yield _Shown.display
        finally:
            for task in set(_Shown.display.task_ids) - before:
                _Shown.display.remove_task(task)
        return
    try:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
    except ImportError:
        yield None
        return
    console = Console(stderr=True)
    texts = (TextColumn("{task.fields[shown]}"), TextColumn("{task.fields[left]}"))
    drawn = (BarColumn(20), TimeElapsedColumn()) if console.width >= WIDE else ()
    with Progress(TextColumn("{task.description}"), *drawn, *texts, console=console, transient=transient) as bars:
        _Shown.display = bars
        try:
            yield bars
        finally:
            _Shown.display = None


def _bar(bars: Any, name: str, total: int | None, unit: str, done: int) -> Advance:
    task = bars.add_task(name, total=total, completed=done, shown=_count(done, total, unit), left="")
    counter = _Counter(total, unit, done)

    def advance(units: int, note: str = "") -> None:
        shown, left = counter.add(units, note)
        bars.update(task, advance=units, shown=shown, left=left)

    return advance


def _plain(name: str, total: int | None, unit: str, done: int) -> Iterator[Advance]:
    counter, last, width = _Counter(total, unit, done), 0.0, 0

    def advance(units: int, note: str = "") -> None:
        nonlocal last, width
        line = " ".join(filter(None, (name, *counter.add(units, note))))
        if time.monotonic() - last > PLAIN_EVERY:
            sys.stderr.write("\r" + line.ljust(width))
            sys.stderr.flush()
            last, width = time.monotonic(), len(line)

    try:
        yield advance
    finally:
        if width:
            sys.stderr.write("\r" + " " * width + "\r")
            sys.stderr.flush()


class _Counter:
    """Units done since a start, as text."""

    def __init__(self, total: int | None, unit: str, done: int) -> None:
        self.total, self.unit, self.done, self.new, self.begin = total, unit, done, 0, time.monotonic()

    def add(self, units: int, note: str) -> tuple[str, str]:
        """Units done and their rate; time left and the note."""
        self.new += units
        seconds = max(time.monotonic() - self.begin, 1e-9)
        done, rate = self.done + self.new, self.new / seconds
        left = ""
        if self.total is not None and self.new:
            minutes, rest = divmod(round((self.total - done) / rate), 60)
            left = f"{minutes}:{rest:02d} left"
        per = f"{rate:,.0f} {self.unit}/s" if rate >= 1 else f"{1 / rate:,.1f} s each" if rate else ""
        return " ".join(filter(None, (_count(done, self.total, self.unit), per))), " ".join(filter(None, (left, note)))


def _count(done: int, total: int | None, unit: str) -> str:
    return f"{done:,} {unit}" if total is None else f"{done}/{total} {unit}"
