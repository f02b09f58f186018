"""Progress of long work: rate and time left on a terminal, nothing in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Advance = Callable[[int], None]


@contextmanager
def progress(name: str, total: int | None, unit: str) -> Iterator[Advance]:
    """A callable that notes so many more units as done."""
    try:
        if not sys.stderr.isatty():
            raise ImportError
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    except ImportError:
        yield lambda units: None
        return
    rate = TextColumn(f"{{task.fields[rate]}} {unit}/s")
    columns = (TextColumn(name), BarColumn(), MofNCompleteColumn(), rate, TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(name, total=total, rate="?")

        def advance(units: int) -> None:
            bar.advance(task, units)
            seconds = bar.tasks[0].elapsed
            bar.update(task, rate=f"{bar.tasks[0].completed / seconds:,.0f}" if seconds else "?")

        yield advance
