"""`selfreg mcp`: a tool by which agents get help from people, within a budget."""

from __future__ import annotations

from typing import Annotated

import typer

from selfreg._util.extras import require_extra
from selfreg.cli import options
from selfreg.cli.decide import load_helper
from selfreg.cli.serve import LEDGER, make_budgets
from selfreg.cli.shadow import open_ledger
from selfreg.runs import RunFolder
from selfreg.runtime import Desk, Recorder


def command(
    run: options.RunArgument,
    ledger: Annotated[
        str | None, typer.Option(help=f"SQLite file, or postgresql://...; RUN/{LEDGER} by default.")
    ] = None,
    limit: Annotated[
        str | None, typer.Option(help="Budget of all runs together; one number for each unit (2,1).")
    ] = None,
    per_run: Annotated[int | None, typer.Option(help="Budget of each run.", min=0)] = None,
    per_day: Annotated[int | None, typer.Option(help="Budget of each day.", min=0)] = None,
    timezone: Annotated[str, typer.Option(help="Whose midnight ends a day.")] = "UTC",
    run_id: Annotated[
        str | None, typer.Option(help="Run of the agent, the same when it is resumed; a new one by default.")
    ] = None,
    wait: Annotated[float, typer.Option(help="Seconds that a call waits for people at the desk.")] = 50.0,
    time_limit: Annotated[float, typer.Option(help="Seconds until a request to a person expires.")] = 600.0,
    max_open: Annotated[int | None, typer.Option(help="Requests that wait for people at a time.", min=0)] = None,
    max_per_day: Annotated[int | None, typer.Option(help="Requests to people a day.", min=0)] = None,
) -> None:
    """Serve the tool ask_for_help by MCP, on standard input and output.

    The person at the client is asked where the client can ask; else people answer at the desk of `selfreg serve`, over
    the same ledger.
    """
    with require_extra("mcp", "selfreg mcp"):
        from selfreg.integrations.mcp import make_server
    folder = RunFolder.open(run)
    with require_extra("ml", "selfreg mcp"):
        helper = load_helper(folder)
    budgets = make_budgets(limit, per_run, per_day, timezone)
    store = open_ledger(ledger or str(folder.path / LEDGER), budgets)
    desk = Desk(store, time_limit=time_limit, max_open=max_open, max_per_day=max_per_day, timezone=timezone)
    make_server(Recorder(helper, store), desk, run_id=run_id, wait=wait).run()
