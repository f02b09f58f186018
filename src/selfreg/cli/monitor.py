"""`selfreg monitor`: test the forecast of a run on new episodes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from selfreg.cli import options
from selfreg.cli.shadow import describe_shadow, open_ledger
from selfreg.data import read_trajectories
from selfreg.evaluate import Forecast, monitor
from selfreg.runs import RunFolder

ALARM = 3  # exit status, so that a job can act on it


def load_forecast(run: RunFolder, budget: int, point: bool) -> Forecast:
    """Forecast of the run's plan: its intervals if the run has them, the planned values otherwise or with `point`."""
    model = run.model()
    solution = run.solution(model)
    trust = run.summary().get("uncertainty")
    if point or not trust or len(solution.budget) != 1:
        return Forecast.of(model, solution, budget)
    Forecast.of(model, solution, budget)  # raises for a budget that the plan does not have
    success, usage = ((trust[name]["low"][budget], trust[name]["high"][budget]) for name in ("success", "usage"))
    return Forecast(success, usage, budget)


def command(
    run: options.RunArgument,
    budget: Annotated[int, typer.Option(help="Budget of the episodes.")],
    logs: Annotated[
        list[Path] | None,
        typer.Argument(metavar="LOGS...", help="Logs of episodes that followed the plan, oldest first."),
    ] = None,
    format: options.Format = "selfreg",
    map: options.Map = None,
    where: options.Where = None,
    false_alarm: Annotated[
        float, typer.Option(help="Probability of any alarm, ever, if the forecast is right.")
    ] = 0.05,
    point: Annotated[bool, typer.Option("--point", help="Test the planned values, not the run's intervals.")] = False,
    shadow: Annotated[
        str | None,
        typer.Option(metavar="LEDGER", help="Instead of logs: the ledger of `selfreg serve --shadow`; no test."),
    ] = None,
) -> None:
    """Compare a run's forecast with new episodes, as often as you like. Exit status 3 is an alarm.

    With --shadow, say what the helper would have spent, and what the forecast says it would have been worth.
    """
    if bool(logs) == (shadow is not None):
        raise ValueError("give either LOGS or --shadow LEDGER")
    if shadow is not None:
        run_folder = RunFolder.open(run)
        forecasts = [load_forecast(run_folder, one, point) for one in (0, budget)]
        for line in describe_shadow(open_ledger(shadow, None), *forecasts):
            print(line)
        return
    roles, filters = options.mapping("--map", map), options.filters(where)
    folder = RunFolder.open(run)
    recent = read_trajectories(logs or [], format, roles=roles, where=filters)
    found = monitor(load_forecast(folder, budget, point), recent, false_alarm=false_alarm)
    for line in found.lines():
        print(line)
    if found.alarm:
        raise typer.Exit(ALARM)
