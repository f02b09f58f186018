"""All commands of `selfreg`."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Annotated, Any, Literal

from selfreg._util.extras import require_extra
from selfreg._util.progress import plain_terminal
from selfreg._version import __version__

with require_extra("logs", "the selfreg command"):
    import rich  # noqa: F401
    import typer

from selfreg.cli import (
    collect,
    decide,
    demo,
    doctor,
    estimate,
    evaluate,
    export,
    fit,
    frontier,
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
from selfreg.cli.about import ABOUT, BEGIN
from selfreg.cli.prm import recalibrate, score, threshold
from selfreg.cli.terminal import with_output_options

Commands = dict[str, Callable[..., Any]]

# Commands by the panel of `selfreg --help` that they are in, in its order.
PANELS: dict[str, Commands] = {
    "Whole pipeline": {"look": look.command, "fit": fit.command, "demo": demo.command},
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
        "export": export.command,
        "monitor": monitor.command,
        "ope": ope.command,
        "frontier": frontier.command,
    },
    "Many models": {"sweep": sweep.command},
    "This installation": {"doctor": doctor.command},
}
PRM: Commands = {"threshold": threshold.command, "recalibrate": recalibrate.command, "score": score.command}

# Help in boxes cuts long words in narrow terminals, and has escape sequences.
MARKUP: Literal["rich"] | None = None if plain_terminal() or shutil.get_terminal_size().columns < 80 else "rich"

app = typer.Typer(
    rich_markup_mode=MARKUP,
    help="When should an agent request help under a budget?",
    epilog=BEGIN,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
prm_app = typer.Typer(rich_markup_mode=MARKUP, no_args_is_help=True)


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


def _about(name: str) -> dict[str, Any]:
    about = ABOUT[name]
    return {"short_help": about.summary, "epilog": f"Example: {about.example}"}


for panel, commands in PANELS.items():
    for name, command in commands.items():
        app.command(name, rich_help_panel=panel, **_about(name))(with_output_options(command))
for name, command in PRM.items():
    prm_app.command(name, **_about(f"prm {name}"))(with_output_options(command))
app.add_typer(prm_app, name="prm", help="Use a run's trained PRM: threshold, recalibrate, score.",
              short_help="Use a run's PRM (estimates P(success))",
              rich_help_panel="Use of a run")  # fmt: skip
