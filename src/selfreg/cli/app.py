"""All commands of `selfreg`."""

from __future__ import annotations

from typing import Annotated

from selfreg._util.extras import require_extra
from selfreg._version import __version__

with require_extra("logs", "the selfreg command"):
    import typer

from selfreg.cli import (
    collect,
    decide,
    demo,
    estimate,
    evaluate,
    fit,
    import_,
    label,
    monitor,
    recalibrate,
    report,
    score,
    solve,
    sweep,
    threshold,
    train,
)

app = typer.Typer(
    help="When should an agent ask for help, if help is limited?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"selfreg {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    pass


app.command("demo")(demo.command)
app.command("fit")(fit.command)
app.command("collect")(collect.command)
app.command("import")(import_.command)
app.command("estimate")(estimate.command)
app.command("solve")(solve.command)
app.command("label")(label.command)
app.command("train")(train.command)
app.command("recalibrate")(recalibrate.command)
app.command("threshold")(threshold.command)
app.command("score")(score.command)
app.command("evaluate")(evaluate.command)
app.command("monitor")(monitor.command)
app.command("report")(report.command)
app.command("sweep")(sweep.command)
app.command("decide")(decide.command)
