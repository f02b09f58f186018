"""Progress of long work: rate and time left on a terminal, nothing in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar

T = TypeVar("T")


class Advance(Protocol):
    """Counts units as done; `note` is shown behind the bar."""

    def __call__(self, units: int, note: str = "") -> None: ...


def _silent(units: int, note: str = "") -> None:
    return


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
    try:
        if not sys.stderr.isatty():
            raise ImportError
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    except ImportError:
        yield _silent
        return
    rate, note_column = TextColumn(f"{{task.fields[rate]}} {unit}/s"), TextColumn("{task.fields[note]}")
    columns = (TextColumn(name), BarColumn(), MofNCompleteColumn(), rate, TimeRemainingColumn(), note_column)
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(name, total=total, completed=done, rate="?", note="")

        def advance(units: int, note: str = "") -> None:
            bar.advance(task, units)
            seconds = bar.tasks[0].elapsed
            new = bar.tasks[0].completed - done
            bar.update(task, rate=f"{new / seconds:,.0f}" if seconds else "?", note=note)

        yield advance


def track(items: Collection[T], name: str, unit: str) -> Iterator[T]:
    """Yield the items and show progress."""
    with progress(name, len(items), unit) as advance:
        for item in items:
            yield item
            advance(1)
