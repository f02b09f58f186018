"""`selfreg monitor`: test the forecast of a run on new episodes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import typer

from selfreg.cli import options
from selfreg.cli.import_ import load_logs
from selfreg.cli.ledgers import open_ledger
from selfreg.cli.reading import LogSource, reads_logs
from selfreg.cli.shadow import describe_shadow
from selfreg.cli.terminal import remark, say
from selfreg.evaluate import Forecast, monitor
from selfreg.evaluate.monitoring import REQUESTS, bounded
from selfreg.runs import RunFolder

NO_LOGS = LogSource()
ALARM = 3  # exit status, so that a job can act on it
# Policies of the forecast that a budget alone names, the first that there is.
DEPLOYED = ("helper", "plan", "never")
IDENTITY = ("policy", "rule", "help", "budget")


class RunForecast(NamedTuple):
    """The forecast of a run that is tested, and of which policy it is."""

    forecast: Forecast
    policy: str
    identified: bool = True


def load_forecast(run: RunFolder, budget: int | None, point: bool) -> RunForecast:
    """Forecast of the helper, else of the plan, under a budget; of the recommended policy where there is no budget.

    With `point`, the predicted means, not their intervals. Runs without a forecast have that of the plan in its model.
    """
    summary = run.summary()
    if summary.get("forecast"):
        return _of_entry(run, _choose(run, summary, budget), summary, point)
    if budget is None:
        raise ValueError(f"{run.path} has no recommendation; expected --budget")
    return _of_plan(run, summary, budget, point)


def _choose(run: RunFolder, summary: Mapping[str, Any], budget: int | None) -> Mapping[str, Any]:
    entries: Sequence[Mapping[str, Any]] = summary["forecast"]
    if budget is None:
        recommended: Mapping[str, Any] | None = summary.get("recommendation")
        if not recommended:
            raise ValueError(f"{run.path} has no recommendation; expected --budget")
        # There, "identified" is of the effect of help; in its entry, of this policy's success.
        return next((one for one in entries if all(one[key] == recommended[key] for key in IDENTITY)), recommended)
    named = [one for policy in DEPLOYED for one in entries if one["policy"] == policy]
    found = next((one for one in named if one["budget"] == budget), None)
    if found is None:
        budgets = ", ".join(dict.fromkeys(str(one["budget"]) for one in named))
        raise ValueError(f"{run.path} has no forecast of helper or plan under --budget {budget}; it has {budgets}")
    return found


def _of_entry(run: RunFolder, entry: Mapping[str, Any], summary: Mapping[str, Any], point: bool) -> RunForecast:
    """One entry of "forecast" in summary.json."""
    budget, identified = entry["budget"], bool(entry.get("identified", True))
    policy = " ".join(filter(None, (entry["policy"], entry.get("rule"), entry.get("help"))))
    if isinstance(budget, list):
        raise ValueError(f"{run.path}: the forecast of {policy} has {len(budget)} budgets; expected one")
    if point and not identified:
        raise ValueError(f"--point: the logs of {run.path} give only bounds for {policy}")
    success, requests = (
        (one["mean"], one["mean"]) if point else (one["low"], one["high"])
        for one in (entry["success"], entry["requests"])
    )
    free = any(not max(cost) for cost in summary.get("costs", {}).values())
    usage = None if budget is None else bounded(requests, max(requests[1], 0.0) if free else budget)
    return RunForecast(Forecast(bounded(success, 1.0), usage, budget, REQUESTS), policy, identified)


def _of_plan(run: RunFolder, summary: Mapping[str, Any], budget: int, point: bool) -> RunForecast:
    """Of the plan in its model: the run's intervals if it has them, the planned values otherwise or with `point`."""
    model = run.model()
    solution = run.solution(model)
    planned = Forecast.of(model, solution, budget)  # raises for a budget that the plan does not have
    trust = summary.get("uncertainty")
    if point or not trust:
        return RunForecast(planned, "plan")
    success, usage = ((trust[name]["low"][budget], trust[name]["high"][budget]) for name in ("success", "usage"))
    return RunForecast(Forecast(bounded(success, 1.0), bounded(usage, budget), budget), "plan")


@reads_logs
def command(
    run: options.RunArgument,
    source: Annotated[
        LogSource, typer.Argument(metavar="LOGS", help="Logs of episodes that followed the policy, oldest first.")
    ] = NO_LOGS,
    budget: Annotated[
        int | None,
        typer.Option(
            help="Budget of the episodes: the forecast of helper or plan. Default: that of the recommendation."
        ),
    ] = None,
    false_alarm: Annotated[
        float, typer.Option(help="Probability of any alarm, ever, if the forecast is right.")
    ] = 0.05,
    point: Annotated[bool, typer.Option("--point", help="Test the predicted means, not their intervals.")] = False,
    as_json: options.Json = False,
    shadow: Annotated[
        str | None,
        typer.Option(metavar="LEDGER", help="Instead of logs: the ledger of `selfreg serve --shadow`; no test."),
    ] = None,
) -> None:
    """Compare a run's forecast with new episodes, as often as you like.

    Exit status 3 is an alarm: less success or more help than forecast. More success or less help is a note. Episodes
    without an outcome are left out and counted. With --shadow, say what the helper would have spent, and what the
    forecast says it would have been worth.
    """
    if bool(source.paths) == (shadow is not None):
        raise ValueError("give either LOGS or --shadow LEDGER")
    if shadow is not None:
        run_folder = RunFolder.open(run)
        alone, helped = (load_forecast(run_folder, one, point).forecast for one in (0, budget))
        for line in describe_shadow(open_ledger(shadow, None), alone, helped):
            say(line)
        return
    chosen = load_forecast(RunFolder.open(run), budget, point)
    recent = load_logs(source)
    for note in recent.notes:
        remark(f"note: {note}")
    finished = [one for one in recent.trajectories if one.outcome is not None]
    unfinished = len(recent.trajectories) - len(finished)
    if not finished:
        raise ValueError(f"none of the {unfinished} episodes has an outcome; expected some that are finished")
    found = monitor(chosen.forecast, finished, false_alarm=false_alarm)
    if as_json:
        named = {"policy": chosen.policy, "identified": chosen.identified, "counts": chosen.forecast.counts}
        print(json.dumps(named | found.to_json() | {"unfinished": unfinished}))
    else:
        limit = "no budget" if found.budget is None else f"budget {found.budget}"
        unsure = "" if chosen.identified else "; bounds, as its logs cannot tell more"
        print(f"forecast of {chosen.policy} ({limit}{unsure}), {found.episodes} episodes")
        if unfinished:
            print(f"{unfinished} of {len(recent.trajectories)} episodes are not finished and were left out")
        for line in found.lines():
            say(line)
    if found.alarm:
        raise typer.Exit(ALARM)
