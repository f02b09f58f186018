"""All commands of `selfreg`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from selfreg._util.extras import require_extra
from selfreg._version import __version__

with require_extra("logs", "the selfreg command"):
    import rich  # noqa: F401
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
    look,
    mcp,
    monitor,
    ope,
    report,
    serve,
    solve,
    sweep,
    train,
)
from selfreg.cli.prm import recalibrate, score, threshold

Commands = dict[str, Callable[..., None]]

# Commands by the panel of `selfreg --help` that they are in, in its order.
PANELS: dict[str, Commands] = {
    "Whole pipeline": {"demo": demo.command, "look": look.command, "fit": fit.command},
    "Single stages": {
        "collect": collect.command,
        "import": import_.command,
        "estimate": estimate.command,
        "solve": solve.command,
        "label": label.command,
        "train": train.command,
        "evaluate": evaluate.command,
        "report": report.command,
    },
    "Use of a run": {
        "decide": decide.command,
        "serve": serve.command,
        "mcp": mcp.command,
        "monitor": monitor.command,
        "ope": ope.command,
    },
    "Many models": {"sweep": sweep.command},
}
PRM: Commands = {"threshold": threshold.command, "recalibrate": recalibrate.command, "score": score.command}

app = typer.Typer(
    help="When should an agent request help under a budget?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
prm_app = typer.Typer(no_args_is_help=True)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"selfreg {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


for panel, commands in PANELS.items():
    for name, command in commands.items():
        app.command(name, rich_help_panel=panel)(command)
for name, command in PRM.items():
    prm_app.command(name)(command)
app.add_typer(prm_app, name="prm", help="Use a run's trained PRM: threshold, recalibrate, score.",
              rich_help_panel="Use of a run")  # fmt: skip
