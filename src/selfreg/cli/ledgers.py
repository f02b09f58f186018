"""Where budgets are stored and what they are, and how long people have: options of `serve` and `mcp`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from selfreg.cli import options
from selfreg.data import Step
from selfreg.decisions import BudgetLeft, Decision
from selfreg.runs import RunFolder
from selfreg.runtime import Budget, Ledger, Recorder, SQLiteLedger

LEDGER = "ledger.sqlite"

Place: TypeAlias = Annotated[
    str | None, typer.Option(help=f"SQLite file, or postgresql://...; RUN/{LEDGER} by default.")
]
Limit: TypeAlias = Annotated[
    str | None, typer.Option(help="Budget of all runs together; one number for each unit (2,1).")
]
PerRun: TypeAlias = Annotated[int | None, typer.Option(help="Budget of each run.", min=0)]
PerDay: TypeAlias = Annotated[int | None, typer.Option(help="Budget of each day.", min=0)]
Timezone: TypeAlias = Annotated[str, typer.Option(help="Whose midnight ends a day.")]
TimeLimit: TypeAlias = Annotated[float, typer.Option(help="Seconds until a request to a person expires.")]
MaxOpen: TypeAlias = Annotated[int | None, typer.Option(help="Requests that wait for people at a time.", min=0)]
MaxPerDay: TypeAlias = Annotated[int | None, typer.Option(help="Requests to people a day.", min=0)]


def open_run_ledger(
    folder: RunFolder, place: str | None, limit: str | None, per_run: int | None, per_day: int | None, timezone: str
) -> Ledger:
    """The ledger of the options, in the run folder by default."""
    return open_ledger(place or str(folder.path / LEDGER), make_budgets(limit, per_run, per_day, timezone))


def open_ledger(place: str, budgets: Sequence[Budget] | None) -> Ledger:
    """The ledger in a file or on a server; `budgets` may be None where it exists."""
    if place.startswith(("postgresql://", "postgres://")):
        from selfreg.runtime import PostgresLedger

        return PostgresLedger(place, budgets)
    if budgets is None and not Path(place).exists():
        raise ValueError(f"{place} does not exist; give --limit, --per-run or --per-day to make it")
    return SQLiteLedger(place, budgets)


class _Alone:
    """Never decides: the recorder is only read."""

    def decide(self, steps: Sequence[Step], budget_left: BudgetLeft) -> Decision:
        return Decision()


def read_recorder(ledger: Ledger) -> Recorder:
    """A recorder for reading what others stored in a ledger."""
    return Recorder(_Alone(), ledger, costs={"any": (0,) * len(ledger.units)})


def make_budgets(limit: str | None, per_run: int | None, per_day: int | None, timezone: str) -> list[Budget] | None:
    """The budgets of the options; None where there are none."""
    tops = () if limit is None else options.integers("--limit", limit)
    if isinstance(tops, tuple) and tops:
        if per_run is not None or per_day is not None:
            raise ValueError(f"--limit {limit} has several units; --per-run and --per-day are for one")
        return [Budget(top, unit=f"unit {i}") for i, top in enumerate(tops)]
    found = [Budget(tops)] if isinstance(tops, int) else []
    if per_run is not None:
        found.append(Budget(per_run, scope="run"))
    if per_day is not None:
        found.append(Budget(per_day, period="day", timezone=timezone))
    return found or None
