"""Options that several commands share, and the parsers of their values."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple, get_type_hints

import typer

from selfreg.data.formats import format_names

RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="Run folder of an earlier stage.")]
Out = Annotated[Path, typer.Option(help="Run folder to create.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an earlier run in that folder.")]
Seed = Annotated[int, typer.Option(help="Seed of every random choice.", min=0)]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON value, for programs.")]
Workers = Annotated[int | None, typer.Option(help="Processes; all cores by default.")]
Budget = Annotated[str, typer.Option(help="Largest budget; one number per budget if there are several (2,1).")]
Format = Annotated[str, typer.Option(help=f"Format of the logs: auto, {', '.join(format_names())}.")]
Map = Annotated[
    list[str] | None,
    typer.Option(
        "--map",
        metavar="ROLE=FIELD",
        help="The field of a role: task, outcome, steps, observation, ... (docs/mapping.md); some formats take "
        "outcome and task only. May repeat.",
    ),
]
Where = Annotated[
    list[str] | None,
    typer.Option(
        metavar="FIELD=VALUE",
        help="Keep episodes whose field has the value. May repeat: values of one field are alternatives.",
    ),
]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Skip records that cannot be read, and list them.")]
AssumeTakeover = Annotated[
    list[str] | None,
    typer.Option(
        metavar="HELP:FIELD=VALUE",
        help="Count unhelped episodes whose field has the value (a stronger agent's own runs) as help of type HELP. "
        "The model and the report note this assumption. Only --where of other fields applies to them. May repeat.",
    ),
]
State = Annotated[
    str | None,
    typer.Option(
        metavar="FEATURE,...",
        help="Abstract state: episode fields, `step`, `class`, `task`, `last_help` (who took the step before), "
        "`score` (a bin of the PRM's score). By default "
        "the exact key in its task where the logs have keys; else `step`, and the field (or `class`) with which it "
        "predicts outcomes of held-out tasks best.",
    ),
]
Classes = Annotated[
    Path | None, typer.Option(metavar="FILE.toml", help='Table [class] of name = "regular expression" for `class`.')
]
Bins = Annotated[int, typer.Option(help="Bins of the PRM's score, for `score` in the state.", min=2)]
Prm = Annotated[
    str | None,
    typer.Option(
        "--prm",
        metavar="KIND",
        help="Train a PRM: transformer, constant, step, tfidf or embedding. Default with kappa.",
    ),
]


def pseudo_counts(value: float) -> float:
    """Check --kappa before anything runs."""
    if not 0.0 <= value < math.inf:
        raise typer.BadParameter(f"{value:g}; expected a finite number >= 0")
    return value


Kappa = Annotated[
    float,
    typer.Option(help="Pseudo-counts of the PRM on each nohelp row; above 0 trains a PRM.", callback=pseudo_counts),
]
Cost = Annotated[
    list[str] | None,
    typer.Option(metavar="HELP=UNITS", help="Cost of a help type (1, or 1,0 for two budgets). Default: as logged."),
]
Price = Annotated[
    list[str] | None,
    typer.Option(
        metavar="[HELP=]PRICE",
        help="Price of a request in money (person=4.00, or 4.00 for every help type), with --worth. Without --worth it "
        "is in success: 0.02 if 50 requests are worth one success. May repeat.",
    ),
]
Worth = Annotated[float | None, typer.Option(help="What a success is worth, in the money of --price.")]
Minutes = Annotated[
    list[str] | None,
    typer.Option(metavar="[HELP=]MINUTES", help="Time that a request takes from whoever helps. May repeat."),
]
Samples = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="Models resampled by task for intervals: at least 2, or 0 for none. Default: 200 if that takes seconds.",
    ),
]


def pairs(option: str, texts: Sequence[str] | None) -> list[tuple[str, str]]:
    """NAME=VALUE texts as pairs."""
    result = []
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise ValueError(f"{option} {text!r}: expected NAME=VALUE")
        result.append((name, value))
    return result


def mapping(option: str, texts: Sequence[str] | None) -> dict[str, str]:
    """NAME=VALUE texts as a mapping; a duplicate name is an error."""
    result: dict[str, str] = {}
    for name, value in pairs(option, texts):
        if name in result:
            raise ValueError(f"{option} {name}={value}: duplicate name {name!r}")
        result[name] = value
    return result


def filters(texts: Sequence[str] | None) -> dict[str, list[str]]:
    """--where texts: field to alternatives."""
    result: dict[str, list[str]] = {}
    for field, value in pairs("--where", texts):
        result.setdefault(field, []).append(value)
    return result


class Takeover(NamedTuple):
    """Episodes of a helper alone, and the name of its help type."""

    name: str
    field: str
    value: str

    def __str__(self) -> str:
        return f"{self.name}:{self.field}={self.value}"


def takeovers(texts: Sequence[str] | None) -> list[Takeover]:
    """--assume-takeover texts."""
    result = []
    for text in texts or ():
        name, colon, rest = text.partition(":")
        field, equals, value = rest.partition("=")
        if not (name and colon and field and equals):
            raise ValueError(f"--assume-takeover {text!r}: expected HELP:FIELD=VALUE")
        result.append(Takeover(name, field, value))
    return result


def integers(option: str, text: str) -> int | tuple[int, ...]:
    """ "4" as 4, "2,1" as (2, 1); non-negative."""
    try:
        numbers = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"{option} {text!r}: expected an integer, or several separated by commas") from None
    if min(numbers) < 0:
        raise ValueError(f"{option} {text!r}: expected integers >= 0")
    return numbers[0] if len(numbers) == 1 else numbers


def costs(texts: Sequence[str] | None) -> dict[str, int | tuple[int, ...]] | None:
    """--cost texts: help type to units; None if there are none."""
    return {name: integers(f"--cost {name}=", value) for name, value in mapping("--cost", texts).items()} or None


def from_configs(**configs: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Options of a command from the fields of configuration classes, with their help texts.

    `configs` are named by the part of the command that uses them. The command gets the values that the user sets as
    `settings`, by the name of the field. A field whose `option` is None has no option here.
    """
    fields: dict[str, inspect.Parameter] = {}
    for config in configs.values():
        hints: dict[str, Any] = get_type_hints(config)
        for field in dataclasses.fields(config):
            name = field.metadata.get("option", field.name)
            if name is None:
                continue
            flag = "--" + name.replace("_", "-")
            text = f"{field.metadata['help']} Default: {_default_text(field.name, configs)}."
            option = typer.Option(flag, help=text, show_default=False)
            kind: Any = hints[field.name] | None
            annotation = Annotated[kind, option]
            fields[field.name] = inspect.Parameter(
                field.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation
            )

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        own = inspect.signature(command, eval_str=True)
        parameters = [p for p in own.parameters.values() if p.name != "settings"]

        @functools.wraps(command)
        def run(**values: Any) -> Any:
            chosen = {name: values.pop(name) for name in fields}
            return command(**values, settings={name: value for name, value in chosen.items() if value is not None})

        together = [*parameters, *fields.values()]
        run.__signature__ = own.replace(parameters=together)  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in together}
        return run

    return decorate


def _default_text(name: str, configs: dict[str, Any]) -> str:
    """The default of a field; one for each part where they differ."""
    defaults = {part: getattr(config, name) for part, config in configs.items() if hasattr(config, name)}
    texts = {part: "none" if value is None else str(value) for part, value in defaults.items()}
    if len(set(texts.values())) == 1:
        return next(iter(texts.values()))
    return ", ".join(f"{text} ({part})" for part, text in texts.items())


def configure(config: Any, settings: dict[str, Any], part: str) -> Any:
    """A configuration from `settings`; ValueError for an unknown one."""
    known = {field.name: field.metadata.get("option", field.name) for field in dataclasses.fields(config)}
    for name in settings:
        if name not in known:
            raise ValueError(f"--{name.replace('_', '-')} is not an option of --part {part}")
    return config(**settings)
