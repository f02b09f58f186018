"""`selfreg look`: what is in logs, and the command to run next."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated

import msgspec
import typer

from selfreg.cli.reading import LogSource, reads_logs
from selfreg.cli.terminal import say
from selfreg.data import LogError, look_at_logs
from selfreg.data.detection import shorten
from selfreg.data.overview import Overview

SHOWN = 6


@reads_logs
def command(
    source: LogSource,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Say what is in logs, and the command that plans from them. Large logs are sampled."""
    overview = look_at_logs(source.paths, source.format, options=source.options, words=source.words)
    if overview.n_faults and not overview.episodes:
        more = f"; and {overview.n_faults - 1} more" if overview.n_faults > 1 else ""
        raise LogError(
            f"{overview.faults[0]}{more}. No record can be read (format {overview.format}, because {overview.reason})"
        )
    if as_json:
        print(json.dumps(msgspec.to_builtins(overview), indent=2))
    else:
        show(overview)


def show(overview: Overview) -> None:
    """Print an overview for people."""
    say(f"format    {overview.format}, because {overview.reason}")
    sample = "" if overview.complete else "; the numbers below are of a sample"
    say(f"files     {overview.files} ({overview.size / 1e6:.1f} MB{sample})")
    if overview.left_out:
        say(f"left out  {shorten(overview.left_out)}")
    say(f"episodes  {overview.episodes} of {overview.tasks} tasks, {overview.steps} steps")
    say(f"outcomes  {_describe_outcomes(overview)}")
    for name, counts in (
        ("help", overview.help),
        ("models", overview.models),
        ("tools", overview.tools),
        ("roles", overview.roles),
    ):
        if counts:
            say(f"{name:9} {_list_counts(counts)}")
    if overview.fields:
        say(f"fields    {_list_counts(overview.fields, 'values')}")
    for fault in overview.faults:
        say(f"fault     {fault}")
    if overview.n_faults > len(overview.faults):
        say(f"fault     and {overview.n_faults - len(overview.faults)} more")
    for hint in overview.hints:
        say(f"note      {hint}")
    say(f"\nnext\n  {overview.command}")


def _describe_outcomes(overview: Overview) -> str:
    outcomes = overview.outcomes
    if outcomes.mean is None:
        return "none"
    values = ", ".join(f"{value}: {count}" for value, count in outcomes.values.items())
    missing = f"; {outcomes.missing} episodes have none" if outcomes.missing else ""
    return f"mean {outcomes.mean:.3f} of {outcomes.known} ({values}){missing}"


def _list_counts(counts: Mapping[str, int], unit: str = "steps") -> str:
    shown = [f"{name} ({count} {unit})" for name, count in list(counts.items())[:SHOWN]]
    return ", ".join(shown) + (f", and {len(counts) - SHOWN} more" if len(counts) > SHOWN else "")
