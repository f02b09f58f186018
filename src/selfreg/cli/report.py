"""`selfreg report`: one page about a run, as HTML, Markdown or JSON."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from selfreg.cli import options
from selfreg.cli.terminal import say
from selfreg.report import write_report
from selfreg.runs import RunFolder


def command(
    run: options.RunArgument,
    format: Annotated[
        str, typer.Option(help="html (a page that also prints well), md (text), json (for programs).")
    ] = "html",
) -> dict[str, Any]:
    """Write report.html, report.md or report.json: what to buy, when to request help, and the evidence."""
    folder = RunFolder.open(run)
    path = write_report(folder, format)
    say(path)
    return {"run": folder.path, "report": path}
