"""`selfreg report`: one page about a run, as HTML, Markdown or JSON."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from selfreg.cli import options
from selfreg.cli.forecasting import renew_forecast
from selfreg.cli.prices import parse_prices
from selfreg.cli.terminal import say
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
        renew_forecast(folder, prices)
    path = write_report(folder, format)
    say(path)
    return {"run": folder.path, "report": path}
