"""`selfreg export`: what a server recorded, as a log."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from selfreg.cli.ledgers import LEDGER, open_ledger, read_recorder
from selfreg.cli.terminal import say
from selfreg.runtime import Desk, estimate_availability
from selfreg.runtime.availability import Availability


def command(
    source: Annotated[
        str, typer.Argument(metavar="RUN|LEDGER", help="A run that was served, a SQLite file, or postgresql://...")
    ],
    out: Annotated[Path, typer.Option(help="Log to write: .jsonl, .jsonl.gz, .jsonl.zst or .parquet.")],
) -> dict[str, Any]:
    """Write what `selfreg serve` or a Recorder stored as a log, for `fit`, `monitor` and `ope`.

    The server may run meanwhile. Also says how often and how fast people answered.
    """
    place = str(Path(source) / LEDGER) if Path(source).is_dir() else source
    if "://" not in place and not Path(place).is_file():
        raise ValueError(f"{place}: no such ledger")
    ledger = open_ledger(place, None)
    recorder = read_recorder(ledger)
    runs = recorder.trajectories()
    if not runs:
        raise ValueError(f"{place} has no decisions yet")
    recorder.export(out)
    finished = sum(one.outcome is not None for one in runs)
    say(f"{len(runs)} runs, {finished} of them finished -> {out}")
    people = _people(Desk(ledger))
    if people is not None:
        speed = "" if people.median_seconds is None else f", half of these within {people.median_seconds:.3g} s"
        say(f"people answered {people.answered} of {people.closed} requests{speed}")
    described = None if people is None else asdict(people)
    return {"log": str(out), "runs": len(runs), "finished": finished, "people": described}


def _people(desk: Desk) -> Availability | None:
    """How often and how fast people answered; None where no request is closed."""
    try:
        return estimate_availability(desk.requests())
    except ValueError:
        return None
