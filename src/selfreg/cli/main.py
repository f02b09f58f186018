"""The `selfreg` command."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return 0, 2 for an error that the user can correct, or 130 if interrupted."""
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
    except KeyboardInterrupt:
        print("selfreg: interrupted", file=sys.stderr)
        return 130
    except (ValueError, OSError, ImportError, ConvergenceError) as error:
        print(f"selfreg: error: {escape_controls(str(error))}", file=sys.stderr)
        return 2
    return 0
