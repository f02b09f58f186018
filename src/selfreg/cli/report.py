"""`selfreg report`: one HTML page about a run."""

from __future__ import annotations

from typing import Any

from selfreg.cli import options
from selfreg.cli.terminal import say
from selfreg.report import write_report
from selfreg.runs import RunFolder


def command(run: options.RunArgument) -> dict[str, Any]:
    """Write report.html, one page about the run."""
    folder = RunFolder.open(run)
    write_report(folder)
    say(folder.path / "report.html")
    return {"run": folder.path, "report": folder.path / "report.html"}
