"""`selfreg prm recalibrate`: refit the PRM's calibration on recent logs."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from selfreg._util.bootstrap import as_texts
from selfreg._util.extras import require_extra
from selfreg.cli import options
from selfreg.cli.import_ import load_logs
from selfreg.cli.reading import LogSource, reads_logs
from selfreg.cli.terminal import remark
from selfreg.runs import RunFolder


@reads_logs
def command(
    run: options.RunArgument,
    source: Annotated[LogSource, typer.Argument(metavar="LOGS", help="Recent logs.")],
    kind: Annotated[str, typer.Option(help="temperature or isotonic.")] = "temperature",
) -> dict[str, Any]:
    """Refit the calibration of the run's PRM on recent logs, and print cross-validated figures."""
    with require_extra("ml", "selfreg prm recalibrate"):
        from selfreg.prm import recalibrate
    folder = RunFolder.open(run)
    recent, _, notes = load_logs(source)
    for note in notes:
        remark(f"note: {note}")
    prm = recalibrate(folder.prm(), recent, kind)
    prm.save(folder.path / "prm")
    settings = folder.settings().get("prm", {})
    folder.record("prm", {**settings, "calibration": kind, "figures": prm.figures, "recalibrated_on": len(recent)})
    for name, text in as_texts(prm.figures).items():
        remark(f"{name} {text}")
    return {"run": folder.path, "figures": prm.figures}
