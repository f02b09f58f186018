"""`selfreg report`: one page about a run, as HTML, Markdown or JSON."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

import typer

from selfreg.cli import options
from selfreg.cli.forecasting import add_forecast
from selfreg.cli.prices import Prices, parse_prices
from selfreg.cli.terminal import say
from selfreg.helper import HelperConfig
from selfreg.report import write_report
from selfreg.runs import RunFolder


def command(
    run: options.RunArgument,
    format: Annotated[
        str, typer.Option(help="html (a page that also prints well), md (text), json (for programs).")
    ] = "html",
    price: options.Price = None,
    worth: options.Worth = None,
    minutes: options.Minutes = None,
) -> dict[str, Any]:
    """Write report.html, report.md or report.json: what to buy, when to request help, and the evidence.

    With --price, --worth or --minutes the forecast is made anew, and the run keeps them.
    """
    folder, prices = RunFolder.open(run), parse_prices(price, worth, minutes)
    if price or worth is not None or minutes:
        _forecast_at(folder, prices)
    path = write_report(folder, format)
    say(path)
    return {"run": folder.path, "report": path}


def _forecast_at(folder: RunFolder, prices: Prices) -> None:
    """Forecast anew at these prices, with the helper that the run has."""
    model, recorded = folder.model(), folder.settings().get("helper")
    budget = folder.solution(model).budget
    names = {field.name for field in dataclasses.fields(HelperConfig)}
    settings = {name: value for name, value in (recorded or {}).items() if name in names}
    helper = HelperConfig(**settings) if recorded else None
    limit = budget[0] if len(budget) == 1 else budget
    add_forecast(folder, folder.trajectories(), model, limit, helper, prices)
