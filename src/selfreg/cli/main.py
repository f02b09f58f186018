"""The `selfreg` command."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence

from selfreg.cli.interrupts import NAMES, STATUS, Interrupts


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments. By default those of the process, which then ends at once if it is interrupted.

    Returns
    -------
    int
        0; 2 for an error that the user can correct; 130 if interrupted, 143 if terminated.

    Examples
    --------
    >>> from selfreg.cli.main import main
    >>> main(["report", "missing"])
    2
    """
    with Interrupts(program=argv is None) as interrupts:
        try:
            status = _run(argv)
        except BaseException:
            if interrupts.number is None:
                raise
            status = STATUS + interrupts.number
        if interrupts.number is None or status == 0:
            return status
        # Whatever it raised: libraries turn an interrupt into errors of their own.
        if argv is None:
            interrupts.end()
        print(f"selfreg: {NAMES[interrupts.number]}", file=sys.stderr)
        return STATUS + interrupts.number


def _run(argv: Sequence[str] | None) -> int:
    from selfreg._util.printable import escape_controls
    from selfreg.planning.solution import ConvergenceError

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of files need not be text
    try:
        from selfreg.cli.app import app

        app(args=None if argv is None else list(argv), prog_name="selfreg")
    except SystemExit as stop:
        return int(stop.code or 0)
    except (ValueError, OSError, ImportError, ConvergenceError) as error:
        print(f"selfreg: error: {escape_controls(str(error))}", file=sys.stderr)
        return 2
    return 0
