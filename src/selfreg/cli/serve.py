"""`selfreg serve`: decisions of a trained helper over HTTP, and pages for the people who help."""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from selfreg._util.extras import require_extra
from selfreg.cli import ledgers, options
from selfreg.cli.decide import load_helper
from selfreg.cli.monitor import load_forecast
from selfreg.cli.terminal import remark
from selfreg.cli.upstreams import make_proxy
from selfreg.data import Trajectory
from selfreg.evaluate import monitor
from selfreg.runs import RunFolder
from selfreg.runtime import Desk, Ledger, Recorder

if TYPE_CHECKING:
    from selfreg.runtime.server import ForecastCheck
    from selfreg.runtime.server.service import Forecaster

TOKEN, DESK_TOKEN = "SELFREG_TOKEN", "SELFREG_DESK_TOKEN"


def command(
    run: options.RunArgument,
    ledger: ledgers.Place = None,
    limit: ledgers.Limit = None,
    per_run: ledgers.PerRun = None,
    per_day: ledgers.PerDay = None,
    timezone: ledgers.Timezone = "UTC",
    people: Annotated[
        list[str] | None, typer.Option(metavar="HELP", help="Help type that people give. Default: person, human.")
    ] = None,
    time_limit: ledgers.TimeLimit = 600.0,
    fallback: Annotated[str, typer.Option(help="Action where nobody answers.")] = "nohelp",
    max_open: ledgers.MaxOpen = None,
    max_per_day: ledgers.MaxPerDay = None,
    shadow: Annotated[bool, typer.Option("--shadow", help="Decide and record, and spend nothing.")] = False,
    explore: Annotated[float, typer.Option(help="Share of steps whose action is drawn at random.")] = 0.0,
    weak: Annotated[
        str | None, typer.Option(metavar="URL,MODEL", help="Proxy for OpenAI clients: the model that works alone.")
    ] = None,
    strong: Annotated[
        list[str] | None,
        typer.Option(metavar="[HELP=]URL,MODEL", help="The model that helps; one for each help type."),
    ] = None,
    timeout: Annotated[float, typer.Option(help="Seconds that a model may be silent.")] = 600.0,
    host: Annotated[str, typer.Option(help="Address to listen on; others than this machine's need TLS in front.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(help="0 is any that is free.", min=0, max=65535)] = 8000,
    name: Annotated[
        list[str] | None, typer.Option(metavar="HOST", help="Name under which the server is called. May repeat.")
    ] = None,
) -> None:
    """Serve decisions to agents and requests to people, until SIGTERM.

    Agents send the token in the environment variable SELFREG_TOKEN, people log in with that in SELFREG_DESK_TOKEN.
    Tokens that are not set are made and printed. The log is JSON on the error stream. Keys of models are read from
    SELFREG_WEAK_KEY and SELFREG_STRONG_KEY.
    """
    with require_extra("serve", "selfreg serve"):
        from selfreg.runtime.server import Service, create_app, run_server
        from selfreg.runtime.server.app import LOOPBACK
        from selfreg.runtime.server.service import PEOPLE
    folder = RunFolder.open(run)
    with require_extra("ml", "selfreg serve"):
        helper = load_helper(folder)
    store = ledgers.open_run_ledger(folder, ledger, limit, per_run, per_day, timezone)
    recorder = Recorder(helper, store, shadow=shadow, explore=explore)
    desk = Desk(
        store,
        time_limit=time_limit,
        fallback=fallback,
        max_open=max_open,
        max_per_day=max_per_day,
        timezone=timezone,
    )
    service = Service(recorder, desk, people or PEOPLE, None if shadow else _forecaster(folder, store))
    app = create_app(
        service,
        token=_token(TOKEN),
        desk_token=_token(DESK_TOKEN),
        hosts=[*LOOPBACK, host, *(name or ())],
        completions=make_proxy(service, helper.costs, weak, strong or (), timeout),
    )
    run_server(app, service, host=host, port=port)


def _token(variable: str) -> str:
    token = os.environ.get(variable)
    if not token:
        token = secrets.token_urlsafe(24)
        remark(f"{variable} is not set; for this time it is {token}")
    return token


def _forecaster(folder: RunFolder, ledger: Ledger) -> Forecaster | None:
    """Compares runs with the plan's forecast for the budget of a run, where the ledger has one and the plan too."""
    from selfreg.runtime.server import ForecastCheck

    limits = [one.limit for one in ledger.budgets if one.scope == "run"]
    if len(limits) != 1 or not (folder.has("model.npz") and folder.has("solution.npz") and folder.has("summary.json")):
        return None
    try:
        forecast = load_forecast(folder, limits[0], point=False).forecast
    except ValueError as error:
        remark(f"note: no forecast: {error}")
        return None

    def check(finished: Sequence[Trajectory]) -> ForecastCheck:
        try:
            found = monitor(forecast, finished)
        except ValueError as error:
            return ForecastCheck([f"cannot be compared: {error}"], False)
        return ForecastCheck(list(found.lines()), found.alarm)

    return check
