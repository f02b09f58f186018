"""Output of the commands: progress, remarks, tables, and JSON instead of them."""

from __future__ import annotations

import functools
import inspect
import json
import math
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from os import PathLike
from typing import Annotated, Any

import typer
from rich.cells import cell_len

from selfreg._util import progress
from selfreg._util.printable import escape_controls
from selfreg.cli.options import Json

Quiet = Annotated[bool, typer.Option("--quiet", help="No progress and no notes: results and errors only.")]
GAP = 2


class _Output:
    """How the command that runs prints: `quiet` without remarks; `lines` holds results where JSON is wanted."""

    quiet = False
    lines: list[str] | None = None


def with_output_options(command: Callable[..., Any]) -> Callable[..., None]:
    """The command with --quiet, and with --json where it has none; JSON is what it returns, or the lines it says."""
    own = inspect.signature(command, eval_str=True)
    prints_json = "as_json" in own.parameters
    added = {"quiet": Quiet} if prints_json else {"as_json": Json, "quiet": Quiet}

    @functools.wraps(command)
    def run(**values: Any) -> None:
        silent = values.pop("quiet")
        wanted = False if prints_json else values.pop("as_json")
        with _printing(silent, [] if wanted else None), progress.quiet(silent):
            result = command(**values)
            if wanted and (result is not None or _Output.lines):
                print(json.dumps(as_plain({"lines": _Output.lines} if result is None else result)))

    extra = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=kind)
        for name, kind in added.items()
    ]
    together = [*(p.replace(kind=p.KEYWORD_ONLY) for p in own.parameters.values()), *extra]
    run.__signature__ = own.replace(parameters=together)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in together}
    return run


@contextmanager
def _printing(silent: bool, lines: list[str] | None) -> Iterator[None]:
    before = _Output.quiet, _Output.lines
    _Output.quiet, _Output.lines = silent, lines
    try:
        yield
    finally:
        _Output.quiet, _Output.lines = before


def as_plain(value: Any) -> Any:
    """JSON values: paths as text, numbers of NumPy as numbers, NaN and infinity as null."""
    if isinstance(value, Mapping):
        return {str(key): as_plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_plain(one) for one in value]
    if hasattr(value, "tolist"):
        return as_plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value) if isinstance(value, PathLike) else value


@contextmanager
def stage(name: str, seconds: dict[str, float]) -> Iterator[None]:
    """Time a stage into `seconds`; on a terminal, show that it runs, and then a line with its time."""
    begin = time.perf_counter()
    with progress.spinner(name):
        yield
    seconds[name] = round(time.perf_counter() - begin, 2)
    if progress.shows_progress():
        print(f"{name} {seconds[name]:.1f} s", file=sys.stderr, flush=True)


def say(text: object) -> None:
    """A result, on standard output. Text of logs in it commands no terminal."""
    if _Output.lines is not None:
        _Output.lines.append(str(text))
    else:
        print(escape_controls(str(text)))


def remark(text: str) -> None:
    """A line for people, on the error stream; as `say`."""
    if not _Output.quiet:
        print(escape_controls(text), file=sys.stderr)


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table of results: the first column on the left, the others on the right; nothing is cut.

    On a terminal that is too narrow for it, each row is a few lines.
    """
    say(title)
    cells = [[_cell(text) for text in row] for row in (columns, *rows)]
    widths = [max(map(cell_len, column)) for column in zip(*cells, strict=True)]
    room = shutil.get_terminal_size().columns if sys.stdout.isatty() else math.inf
    if sum(widths) + GAP * (len(widths) - 1) <= room:
        for row in cells:
            padded = [_padded(text, width, i > 0) for i, (text, width) in enumerate(zip(row, widths, strict=True))]
            say((" " * GAP).join(padded).rstrip())
        return
    for row in cells[1:]:
        say(f"{cells[0][0]} {row[0]}")
        for name, text in zip(cells[0][1:], row[1:], strict=True):
            say(f"  {name}: {text}")


def _padded(text: str, width: int, right: bool) -> str:
    space = " " * (width - cell_len(text))
    return space + text if right else text + space


def _cell(text: str) -> str:
    """A cell in one line."""
    return escape_controls(text.replace("\n", "\\n"))
