"""What commands that read logs are told: the files, their format, roles, values, marks of help, and outcomes."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from selfreg.cli import options
from selfreg.data import HelpMarks, ReadOptions
from selfreg.data.outcomes import load_outcomes
from selfreg.data.translation import parse_rule


class LogSource(NamedTuple):
    """Logs, and how they are read; `words` are the options of the command line that say so, but for --map."""

    paths: Sequence[str] = ()
    format: str = "auto"
    options: ReadOptions = ReadOptions()
    skip_bad: bool = False
    takeover: Sequence[options.Takeover] = ()
    words: Sequence[str] = ()


def _read_source(
    logs: Annotated[
        list[str],
        typer.Argument(
            metavar="LOGS",
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
    rule = parse_rule(rules.pop("outcome")) if outcomes is not None and "outcome" in rules else None
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
    words = _list_words(
        value=value, shift_observation=shift_observation, group_by=group_by, order_by=order_by, where=where,
        outcomes=outcomes, outcomes_key=outcomes_key, outcomes_value=outcomes_value, help_model=help_model,
        help_tool=help_tool, help_role=help_role, help_decision=help_decision, skip_bad=skip_bad,
        assume_takeover=assume_takeover,
    )  # fmt: skip
    return LogSource(logs or (), format, reading, skip_bad, options.takeovers(assume_takeover), words)


def _list_words(**values: Any) -> list[str]:
    """Options that are set, as words of a command line."""
    words: list[str] = []
    for name, value in values.items():
        flag = f"--{name.replace('_', '-')}"
        if value is True:
            words.append(flag)
        for one in value if isinstance(value, list) else [value] if value and value is not True else []:
            words += [flag, str(one)]
    return words


def reads_logs(command: Callable[..., Any]) -> Callable[..., Any]:
    """The command with the options that say what to read; it gets them as `source`, a `LogSource`.

    They stand where `source` does. An annotation of `source` by an Argument describes the logs; with a default they
    need not be given.
    """
    parts = [inspect.signature(function, eval_str=True) for function in (_read_source, command)]
    parameters = list(parts[1].parameters.values())
    place = [p.name for p in parameters].index("source")
    reading = _describe_logs(parameters[place], list(parts[0].parameters.values()))

    @functools.wraps(command)
    def run(**values: Any) -> Any:
        source = _read_source(**{p.name: values.pop(p.name) for p in reading})
        return command(source=source, **values)

    ordered = [*parameters[:place], *reading, *parameters[place + 1 :]]
    together = [p.replace(kind=p.KEYWORD_ONLY) for p in ordered]
    run.__signature__ = parts[1].replace(parameters=together)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in together}
    return run


def _describe_logs(source: inspect.Parameter, reading: list[inspect.Parameter]) -> list[inspect.Parameter]:
    """The options that say what to read, with the logs as `source` describes them."""
    logs, *rest = reading
    kind: Any = Annotated
    if source.default is not source.empty:
        logs = logs.replace(annotation=kind[(list[str] | None, *logs.annotation.__metadata__)], default=None)
    if about := getattr(source.annotation, "__metadata__", ()):
        logs = logs.replace(annotation=kind[(logs.annotation.__origin__, *about)])
    return [logs, *rest]
