"""`selfreg mcp`: a tool by which agents get help from people, within a budget."""

from __future__ import annotations

from typing import Annotated

import typer

from selfreg._util.extras import require_extra
from selfreg.cli import ledgers, options
from selfreg.cli.decide import load_helper
from selfreg.runs import RunFolder
from selfreg.runtime import Desk, Recorder


def command(
    run: options.RunArgument,
    ledger: ledgers.Place = None,
    limit: ledgers.Limit = None,
    per_run: ledgers.PerRun = None,
    per_day: ledgers.PerDay = None,
    timezone: ledgers.Timezone = "UTC",
    run_id: Annotated[
        str | None, typer.Option(help="Run of the agent, the same when it is resumed; a new one by default.")
    ] = None,
    wait: Annotated[float, typer.Option(help="Seconds that a call waits for people at the desk.")] = 50.0,
    time_limit: ledgers.TimeLimit = 600.0,
    max_open: ledgers.MaxOpen = None,
    max_per_day: ledgers.MaxPerDay = None,
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
    store = ledgers.open_run_ledger(folder, ledger, limit, per_run, per_day, timezone)
    desk = Desk(store, time_limit=time_limit, max_open=max_open, max_per_day=max_per_day, timezone=timezone)
    make_server(Recorder(helper, store), desk, run_id=run_id, wait=wait).run()
