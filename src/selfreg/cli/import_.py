"""`selfreg import`: logs to a run folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from selfreg._util.files import atomic_folder
from selfreg.cli import options
from selfreg.cli.terminal import remark
from selfreg.data import LogError, Trajectory, assume_takeover, read_trajectories
from selfreg.runs import MARKER, RunFolder


def import_logs(
    run: RunFolder,
    logs: Sequence[Path],
    format: str,
    roles: Mapping[str, str],
    where: Mapping[str, Sequence[str]],
    skip_bad: bool,
    takeover: Sequence[options.Takeover] = (),
) -> list[Trajectory]:
    """Read logs into the run folder.

    A record that cannot be read raises; with `skip_bad` it is skipped and listed on the error stream. `takeover` names
    runs of a helper alone, which are added as help.
    """
    skipped: list[LogError] | None = [] if skip_bad else None
    trajectories = list(read_trajectories(logs, format, roles=roles, where=where, skipped=skipped))
    for one in takeover:
        trajectories += _lone_runs(one, logs, format, roles, where, trajectories)
    for error in skipped or ():
        remark(f"skipped: {error}")
    if skipped:
        remark(f"skipped {len(skipped)} records in total")
    if not trajectories:
        names = ", ".join(str(log) for log in logs)
        rest = f" with {dict(where)}" if where else ""
        raise ValueError(f"{names}: no episodes{rest}")
    run.write_trajectories(trajectories)
    settings = {"logs": [log.name for log in logs], "format": format, "map": dict(roles), "where": dict(where)}
    settings["assume_takeover"] = [str(one) for one in takeover]
    counts = {"episodes": len(trajectories), "skipped": [str(error) for error in skipped or ()]}
    run.record("import", settings | counts)
    return trajectories


def _lone_runs(
    takeover: options.Takeover,
    logs: Sequence[Path],
    format: str,
    roles: Mapping[str, str],
    where: Mapping[str, Sequence[str]],
    others: Sequence[Trajectory],
) -> list[Trajectory]:
    """Runs of the helper alone, as help: episodes without help whose field has the value."""
    chosen = {**where, takeover.field: [takeover.value]}
    found = [t for t in read_trajectories(logs, format, roles=roles, where=chosen) if not t.helped]
    if not found:
        raise ValueError(f"--assume-takeover {takeover}: no episode without help has {takeover.field}={takeover.value}")
    episodes = {t.episode for t in others}
    if twice := next((t.episode for t in found if t.episode in episodes), None):
        raise ValueError(f"--assume-takeover {takeover}: episode {twice!r} is among the agent's; use --where")
    return list(assume_takeover(found, takeover.name))


def command(
    logs: Annotated[
        list[Path], typer.Argument(metavar="LOGS...", help="Files, folders, zip archives, or - for standard input.")
    ],
    out: options.Out,
    format: options.Format = "auto",
    map: options.Map = None,
    where: options.Where = None,
    skip_bad: options.SkipBad = False,
    assume_takeover: options.AssumeTakeover = None,
    overwrite: options.Overwrite = False,
) -> None:
    """Read logs into a new run folder."""
    roles, filters = options.mapping("--map", map), options.filters(where)
    lone = options.takeovers(assume_takeover)
    with atomic_folder(out, MARKER, overwrite) as folder:
        trajectories = import_logs(RunFolder(folder), logs, format, roles, filters, skip_bad, lone)
    print(f"{len(trajectories)} episodes -> {out}")
