"""`selfreg monitor`: does the forecast of a run still hold for episodes that came in since?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from selfreg.cli import options
from selfreg.data import read_trajectories
from selfreg.evaluate import Forecast, monitor
from selfreg.runs import RunFolder

ALARM = 3  # exit status, so that a job can act on it


def forecast_of(run: RunFolder, budget: int, point: bool) -> Forecast:
    """Forecast of the run's plan; a range where the run has intervals, unless `point` selects the planned numbers."""
    model = run.model()
    solution = run.solution(model)
    trust = run.summary().get("uncertainty")
    if point or not trust or len(solution.budget) != 1:
        return Forecast.of(model, solution, budget)
    Forecast.of(model, solution, budget)  # the budget is one of the plan's
    success, usage = ((trust[name]["low"][budget], trust[name]["high"][budget]) for name in ("success", "usage"))
    return Forecast(success, usage, budget)


def command(
    run: options.RunArgument,
    logs: Annotated[list[Path], typer.Argument(metavar="LOGS...", help="Episodes run by the plan, oldest first.")],
    budget: Annotated[int, typer.Option(help="Budget that the episodes were run with.")],
    format: options.Format = "selfreg",
    map: options.Map = None,
    where: options.Where = None,
    false_alarm: Annotated[float, typer.Option(help="Chance of any alarm, ever, while the forecast holds.")] = 0.05,
    point: Annotated[
        bool, typer.Option("--point", help="Test the planned numbers themselves, not the run's intervals.")
    ] = False,
) -> None:
    """Compare a run's forecast with new episodes; may be repeated as they come in. Exit status 3 is an alarm."""
    roles, kept = options.mapping("--map", map), options.filters(where)
    folder = RunFolder.open(run)
    recent = read_trajectories(logs, format, roles=roles, where=kept)
    found = monitor(forecast_of(folder, budget, point), recent, false_alarm=false_alarm)
    for line in found.lines():
        print(line)
    if found.alarm:
        raise typer.Exit(ALARM)
