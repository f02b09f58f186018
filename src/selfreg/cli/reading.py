"""What commands that read logs are told: the files, their format, roles, values, marks of help, and outcomes."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from selfreg.cli import options
from selfreg.cli.terminal import remark
from selfreg.data import HelpMarks, LogError, ReadOptions, Trajectory, read_trajectories
from selfreg.data.outcomes import load_outcomes
from selfreg.data.translation import parse_rule


class LogSource(NamedTuple):
    """Logs, and how they are read; `outcomes` are the words of the command that name other files with them."""

    paths: Sequence[str]
    format: str
    options: ReadOptions
    skip_bad: bool = False
    takeover: Sequence[options.Takeover] = ()
    outcomes: Sequence[str] = ()

    def read(self) -> list[Trajectory]:
        """The episodes; what cannot be read is an error, or, with --skip-bad, listed on the error stream."""
        skipped: list[LogError] | None = [] if self.skip_bad else None
        try:
            found = list(read_trajectories(self.paths, self.format, skipped=skipped, options=self.options))
        except LogError as error:
            raise LogError(f"{error}; --skip-bad leaves out what cannot be read, and lists it") from None
        for one in skipped or ():
            remark(f"skipped: {one}")
        return found


def _read_source(
    logs: Annotated[
        list[str],
        typer.Argument(
            metavar="LOGS...",
            help="Files, folders, globs, zip archives; - is standard input; .gz and .zst are unpacked.",
        ),
    ],
    format: options.Format = "auto",
    map: options.Map = None,
    value: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ROLE=RULE",
            help="Translate the values of a role: outcome=C=1,I=0 (* is every other value), outcome=-1..1 (a range), "
            "outcome=>=4 (a threshold). May repeat.",
        ),
    ] = None,
    shift_observation: Annotated[
        bool, typer.Option("--shift-observation", help="The observation in a step is what followed its action.")
    ] = False,
    group_by: Annotated[
        str,
        typer.Option(metavar="FIELD", help="A row (CSV, Parquet, SQLite, JSONL) is a step: the field of its episode."),
    ] = "",
    order_by: Annotated[
        str, typer.Option(metavar="FIELD", help="With --group-by: the field that orders the steps.")
    ] = "",
    where: options.Where = None,
    outcomes: Annotated[
        Path | None, typer.Option(metavar="FILE", help="File or folder with the outcomes of the episodes.")
    ] = None,
    outcomes_key: Annotated[
        str | None, typer.Option(metavar="FIELD", help="Its field with the episode (or task); by default a usual name.")
    ] = None,
    outcomes_value: Annotated[
        str | None, typer.Option(metavar="FIELD", help="Its field with the outcome; by default a usual name.")
    ] = None,
    help_model: Annotated[
        list[str] | None,
        typer.Option(metavar="MODEL=HELP", help="Steps of that model are help: 'gpt-4*=strong'. May repeat."),
    ] = None,
    help_tool: Annotated[
        list[str] | None,
        typer.Option(metavar="TOOL=HELP", help="Steps that call that tool are help: 'escalate=person'. May repeat."),
    ] = None,
    help_role: Annotated[
        list[str] | None,
        typer.Option(metavar="ROLE=HELP", help="Steps of that role are help: 'helper=expert'. May repeat."),
    ] = None,
    help_decision: Annotated[
        list[str] | None,
        typer.Option(metavar="DECISION=HELP", help="Steps that a person decided about: 'rejected=person'. May repeat."),
    ] = None,
    skip_bad: options.SkipBad = False,
    assume_takeover: options.AssumeTakeover = None,
) -> LogSource:
    rules = options.mapping("--value", value)
    marks = HelpMarks(
        decisions=options.mapping("--help-decision", help_decision),
        tools=options.mapping("--help-tool", help_tool),
        roles=options.mapping("--help-role", help_role),
        models=options.mapping("--help-model", help_model),
    )
    if outcomes is None and (outcomes_key or outcomes_value):
        raise ValueError("--outcomes-key and --outcomes-value say where things are in the file of --outcomes")
    named = (("--outcomes", outcomes), ("--outcomes-key", outcomes_key), ("--outcomes-value", outcomes_value))
    words = [word for name, given in named if given for word in (name, str(given))]
    rule = None
    if outcomes is not None and "outcome" in rules:
        words += ["--value", f"outcome={rules['outcome']}"]
        rule = parse_rule(rules.pop("outcome"))
    reading = ReadOptions(
        roles=options.mapping("--map", map),
        where=options.filters(where),
        values=rules,
        shift_observation=shift_observation,
        group_by=group_by,
        order_by=order_by,
        outcomes=None if outcomes is None else load_outcomes(outcomes, outcomes_key, outcomes_value, rule),
        marks=marks,
    )
    return LogSource(logs, format, reading, skip_bad, options.takeovers(assume_takeover), words)


def reads_logs(command: Callable[..., Any]) -> Callable[..., Any]:
    """The command with LOGS and the options that say how to read them; it gets them as `source`, a `LogSource`."""
    return _with_reading(command, left_out=())


def reads_named_logs(command: Callable[..., Any]) -> Callable[..., Any]:
    """The same for a command that names its logs itself: the paths of its `source` are empty."""
    return _with_reading(command, left_out=("logs", "assume_takeover"))


def _with_reading(command: Callable[..., Any], left_out: Sequence[str]) -> Callable[..., Any]:
    parts = [inspect.signature(function, eval_str=True) for function in (_read_source, command)]
    reading = [p for p in parts[0].parameters.values() if p.name not in left_out]
    own = [p.replace(kind=p.KEYWORD_ONLY) for p in parts[1].parameters.values() if p.name != "source"]

    @functools.wraps(command)
    def run(**values: Any) -> Any:
        named = {p.name: values.pop(p.name) for p in reading}
        return command(source=_read_source(**({"logs": []} | named)), **values)

    keywords = [p.replace(kind=p.KEYWORD_ONLY) for p in reading]
    together = [*own, *keywords] if left_out else [*keywords, *own]  # arguments stand before options in the help
    run.__signature__ = parts[1].replace(parameters=together)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in together}
    return run
