"""`selfreg import`: logs of other people to a run folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from selfreg._files import folder_written_whole
from selfreg.cli import options
from selfreg.cli.terminal import remark
from selfreg.data import LogError, Trajectory, read_trajectories
from selfreg.runs import MARKER, RunFolder


def import_logs(
    run: RunFolder,
    logs: Sequence[Path],
    format: str,
    roles: Mapping[str, str],
    where: Mapping[str, Sequence[str]],
    skip_bad: bool,
) -> list[Trajectory]:
    """Read logs into the run folder; what cannot be read raises, or is listed on the error stream if asked."""
    skipped: list[LogError] | None = [] if skip_bad else None
    trajectories = list(read_trajectories(logs, format, roles=roles, where=where, skipped=skipped))
    for error in skipped or ():
        remark(f"skipped: {error}")
    if skipped:
        remark(f"skipped {len(skipped)} records in all")
    if not trajectories:
        names = ", ".join(str(log) for log in logs)
        rest = f" with {dict(where)}" if where else ""
        raise ValueError(f"{names}: no episode{rest}")
    run.write_trajectories(trajectories)
    settings = {"logs": [log.name for log in logs], "format": format, "map": dict(roles), "where": dict(where)}
    left_out = {"episodes": len(trajectories), "skipped": [str(error) for error in skipped or ()]}
    run.record("import", settings | left_out)
    return trajectories


def command(
    logs: Annotated[list[Path], typer.Argument(metavar="LOGS...", help="Log files; .gz is unpacked.")],
    out: options.Out,
    format: options.Format = "selfreg",
    map: options.Map = None,
    where: options.Where = None,
    skip_bad: options.SkipBad = False,
    overwrite: options.Overwrite = False,
) -> None:
    """Read logs into a new run folder."""
    roles, kept = options.mapping("--map", map), options.filters(where)
    with folder_written_whole(out, MARKER, overwrite) as folder:
        trajectories = import_logs(RunFolder(folder), logs, format, roles, kept, skip_bad)
    print(f"{len(trajectories)} episodes -> {out}")
