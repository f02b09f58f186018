"""Options that several commands share, and how their texts are read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="Run folder of an earlier stage.")]
Out = Annotated[Path, typer.Option(help="Run folder to make.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an earlier run in that folder.")]
Seed = Annotated[int, typer.Option(help="Seed of every random choice.")]
Workers = Annotated[int | None, typer.Option(help="Processes; all cores by default.")]
Budget = Annotated[str, typer.Option(help="Largest budget; one number for each budget where there are several (2,1).")]
Format = Annotated[str, typer.Option(help="Format of the logs: selfreg, jsonl or tau_bench.")]
Map = Annotated[
    list[str] | None,
    typer.Option(
        "--map",
        metavar="ROLE=FIELD",
        help="For jsonl: the field that holds a role (task, episode, outcome, intervention, steps, observation, "
        "action, truncated, cost, key). May repeat.",
    ),
]
Where = Annotated[
    list[str] | None,
    typer.Option(
        metavar="FIELD=VALUE",
        help="Keep episodes whose field has the value. May repeat: values of one field are alternatives.",
    ),
]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Leave out records that cannot be read, and list them.")]
State = Annotated[
    str | None,
    typer.Option(
        metavar="FEATURE,...",
        help="Abstract state: episode fields, `step`, `class`, `task`. By default the exact key (or text) in its task.",
    ),
]
Classes = Annotated[
    Path | None, typer.Option(metavar="FILE.toml", help='Table [class] of name = "regular expression" for `class`.')
]
Kappa = Annotated[float, typer.Option(help="Pseudo-counts of the PRM on each nohelp row; above 0 trains a PRM.")]
Cost = Annotated[
    list[str] | None,
    typer.Option(metavar="HELP=UNITS", help="Cost of a help type (1, or 1,0 for two budgets); default: as logged."),
]
Samples = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="Models resampled by task for intervals, at least 2; 0 for none. By default 200 where that takes seconds.",
    ),
]
BorrowHelp = Annotated[
    bool, typer.Option("--borrow-help", help="Where help was never tried, take the row of a coarser class of states.")
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
    """NAME=VALUE texts as a mapping; a name given twice is an error."""
    result: dict[str, str] = {}
    for name, value in pairs(option, texts):
        if name in result:
            raise ValueError(f"{option} {name}={value}: {name!r} is given twice")
        result[name] = value
    return result


def filters(texts: Sequence[str] | None) -> dict[str, list[str]]:
    """--where texts: field to alternatives."""
    result: dict[str, list[str]] = {}
    for field, value in pairs("--where", texts):
        result.setdefault(field, []).append(value)
    return result


def integers(option: str, text: str) -> int | tuple[int, ...]:
    """ "4" as 4, "2,1" as (2, 1); non-negative."""
    try:
        numbers = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"{option} {text!r}: expected an integer, or several with commas between") from None
    if min(numbers) < 0:
        raise ValueError(f"{option} {text!r}: expected integers >= 0")
    return numbers[0] if len(numbers) == 1 else numbers


def costs(texts: Sequence[str] | None) -> dict[str, int | tuple[int, ...]] | None:
    """--cost texts: help type to units; None where there are none."""
    return {name: integers(f"--cost {name}=", value) for name, value in mapping("--cost", texts).items()} or None
