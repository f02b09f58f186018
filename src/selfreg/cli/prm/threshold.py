"""`selfreg prm threshold`: request help, or stop, by the PRM alone."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

from selfreg._util.extras import require_extra
from selfreg.cli import options
from selfreg.runs import RunFolder


def command(
    run: options.RunArgument,
    mean_cost: Annotated[float | None, typer.Option(help="At most this many requests per episode on average.")] = None,
    precision: Annotated[
        float | None, typer.Option(help="At least this share of requests where the agent alone fails.")
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Request help (or stop) at most once an episode.")] = False,
) -> None:
    """Choose a threshold on P(success) on validation tasks, measure it on test tasks, print both as JSON.

    The tasks are those of the PRM; both kinds need unhelped episodes. NaN is written as null.
    """
    with require_extra("ml", "selfreg prm threshold"):
        from selfreg.prm import choose_threshold, measure_threshold
    folder = RunFolder.open(run)
    prm = folder.prm()
    parts = {
        name: [t for t in folder.trajectories() if t.task in set(prm.split[name])] for name in ("validation", "test")
    }
    rule = choose_threshold(prm, parts["validation"], mean_cost=mean_cost, precision=precision, once=once)
    test = measure_threshold(prm, parts["test"], rule.threshold, once)
    found = {"validation": asdict(rule), "test": asdict(test)}
    for values in found.values():
        values |= {name: None for name, value in values.items() if value != value}
    print(json.dumps(found))
