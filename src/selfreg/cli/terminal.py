"""Output of the commands: progress, remarks and tables."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.table import Table
from rich.text import Text

from selfreg._util.printable import escape_controls

# Progress and remarks go to the error stream, results to standard output; neither is styled in a pipe.
PROGRESS = Console(stderr=True, highlight=False)
PIPE_WIDTH = 160


@contextmanager
def stage(name: str, seconds: dict[str, float]) -> Iterator[None]:
    """Time a stage into `seconds`; on a terminal, say which one runs."""
    begin = time.perf_counter()
    if PROGRESS.is_terminal:
        PROGRESS.print(f"[bold]{name}[/bold] ...")
    yield
    seconds[name] = round(time.perf_counter() - begin, 2)
    if PROGRESS.is_terminal:
        PROGRESS.print(f"[bold]{name}[/bold] {seconds[name]:.1f} s")


def say(text: object) -> None:
    """A result, on standard output. Text of logs in it commands no terminal."""
    print(escape_controls(str(text)))


def remark(text: str) -> None:
    """A line for people, on the error stream; as `say`."""
    print(escape_controls(text), file=sys.stderr)


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table of results: the first column on the left, the others on the right."""
    say(title)
    shown = Table(box=None, pad_edge=False)
    for i, column in enumerate(columns):
        shown.add_column(_cell(column), justify="left" if i == 0 else "right", no_wrap=True)
    for row in rows:
        shown.add_row(*map(_cell, row))
    Console(highlight=False, width=None if sys.stdout.isatty() else PIPE_WIDTH).print(shown)


def _cell(text: str) -> Text:
    """A cell that is shown as it is: brackets in names of logs are no markup, and lines do not break."""
    return Text(escape_controls(text.replace("\n", "\\n")))
