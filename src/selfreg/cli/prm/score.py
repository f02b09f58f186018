"""`selfreg prm score`: the PRM's score of every state of logs of any size."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from selfreg._util.extras import require_extra
from selfreg._util.parallel import RayExecutor
from selfreg.cli import options
from selfreg.cli.terminal import remark, say
from selfreg.runs import RunFolder


def command(
    run: options.RunArgument,
    logs: Annotated[list[Path], typer.Argument(metavar="LOGS", help="Log files; .gz and .zst are unpacked.")],
    out: Annotated[
        Path, typer.Option(help="Folder of the scores. The same command scores only what is missing there.")
    ],
    format: options.Format = "auto",
    map: options.Map = None,
    where: options.Where = None,
    workers: options.Workers = None,
    ray: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help='Ray cluster instead of processes; "local" starts one here.')
    ] = None,
    cache: Annotated[Path | None, typer.Option(help="Scores by text, shared by several logs of one PRM.")] = None,
    skip_bad: options.SkipBad = False,
) -> dict[str, Any]:
    """Score every state of the logs with the run's PRM, each distinct text once, to a Parquet data set."""
    with require_extra("ml", "selfreg prm score"):
        from selfreg.prm.scoring import score_logs
    folder = RunFolder.open(run)
    found = score_logs(
        folder.need("prm", "train --part prm"),
        logs,
        out,
        format=format,
        roles=options.mapping("--map", map),
        where=options.filters(where),
        workers=workers,
        executor=None if ray is None else RayExecutor(None if ray == "local" else ray),
        cache=cache,
        skip_bad=skip_bad,
    )
    for fault in found.skipped:
        remark(f"skipped: {fault}")
    remark(f"{found.steps} steps of {found.episodes} episodes; {found.texts} texts scored now")
    say(f"scores: {out} (part-*.parquet)")
    return {"scores": out} | found._asdict()
