"""`selfreg demo`: the whole pipeline in a built-in environment, to a report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from selfreg._util.extras import require_extra
from selfreg._util.files import atomic_folder
from selfreg.cli import options
from selfreg.cli.collect import (
    Actor,
    Demonstrations,
    Environment,
    Episodes,
    Help,
    Level,
    Set,
    Tasks,
    TestTasks,
    collect,
    make_world,
)
from selfreg.cli.estimate import estimate
from selfreg.cli.evaluate import EPISODES, Evaluated, Fallbacks, check_one_budget, evaluate, show
from selfreg.cli.forecasting import add_forecast, show_forecast
from selfreg.cli.label import label
from selfreg.cli.prices import NO_PRICES, Prices, parse_prices
from selfreg.cli.solve import solve
from selfreg.cli.terminal import remark, say, stage
from selfreg.cli.train import train_helper, train_prm
from selfreg.envs import World
from selfreg.envs import collect as collect_episodes
from selfreg.envs.phase_one import N_DEMONSTRATIONS, N_EPISODES, N_TEST, N_TRAIN, PhaseOne, make_config
from selfreg.envs.rollouts import check_collection
from selfreg.envs.worlds import WEAK
from selfreg.estimate import ExactKey
from selfreg.helper import HelperConfig
from selfreg.helper.models import AUTO, KNOWN, TRANSFORMERS
from selfreg.prm import PRMConfig
from selfreg.prm.config import KINDS, TRANSFORMER
from selfreg.report import write_report
from selfreg.runs import MARKER, RunFolder

KAPPA = 0.1
# The observations of the built-in environments hold the whole state.
HISTORY = 0
# Less than the stages by themselves do, so that the demo takes a minute or two. In BabyAI no difference to a
# transformer as a PRM is significant (benchmarks/RESULTS.md); 24 episodes are three of each rate of help.
PRM_KIND, PLAN_EPISODES, EPISODES_PER_TASK = "tfidf", 24, 1
# Elsewhere rules of thumb are often better than "words" (Household), so that the form is chosen.
FORMS_BY_ENVIRONMENT = {"babyai": "words"}
# Tasks that are tried before the demo, and what help at every step must attain at least, and gain.
TRIED, LEAST_HELPED, LEAST_GAIN = 20, 0.7, 0.2
# Baseline models that train in no time.
PLAIN = ("constant", "step")


def pipeline(
    run: RunFolder,
    phase: PhaseOne,
    budget: int,
    kappa: float = KAPPA,
    fallbacks: bool = False,
    form: str = HelperConfig.form,
    seconds: dict[str, float] | None = None,
    prices: Prices = NO_PRICES,
    prm: str = PRMConfig.kind,
    plan_episodes: int | None = None,
    episodes_per_task: int = EPISODES,
) -> Evaluated:
    """Run every stage from collection to the report in a new run folder; `seconds` gets the time of each.

    `plan_episodes` of each test task, by default as of training tasks, and `episodes_per_task` are for `evaluate`.
    """
    clock = {} if seconds is None else seconds
    with stage("collect", clock):
        trajectories = collect(run, phase)
    with stage("train PRM", clock):
        train_prm(run, trajectories, PRMConfig(kind=prm, history=HISTORY, seed=phase.seed), PLAIN)
    with stage("estimate", clock):
        model = estimate(run, trajectories, ExactKey(), kappa)
    with stage("solve", clock):
        solution = solve(run, trajectories, model, budget)
    with stage("label", clock):
        labels = label(run, trajectories, model, solution)
    with stage("train helper", clock):
        config = HelperConfig(history=HISTORY, seed=phase.seed, form=form)
        config = train_helper(run, labels, prices.of_help(model.mdp.actions[1:]).of_helper(config))
    with stage("forecast", clock):
        add_forecast(run, trajectories, model, budget, config, prices, phase.seed)
    with stage("evaluate", clock):
        rehearsed = phase.episodes if plan_episodes is None else plan_episodes
        result = evaluate(run, budget, rehearsed, phase.seed, phase.workers, fallbacks, episodes_per_task)
    with stage("report", clock):
        write_report(run)
    return result


def describe_room(world: World, tasks: Sequence[str], seed: int) -> str:
    """What help at every step could win at most, if that is little: the step limit ends even such episodes.

    Every task is tried alone and with help at every step. "" where there is something to win.
    """
    config = replace(make_config(2, seed, 1), rates=(0.0, 1.0))
    outcomes: dict[bool, list[float]] = {False: [], True: []}
    for episode in collect_episodes(world.make, tasks, config):
        outcomes[episode.helped].append(float(episode.outcome or 0.0))
    alone, helped = (sum(found) / len(found) for found in outcomes.values())
    limit = getattr(world.config, "step_limit", None)
    if helped >= LEAST_HELPED and helped - alone >= LEAST_GAIN:
        return ""
    text = (
        f"there is little to win here: of {len(tasks)} tasks {100 * alone:.0f}% succeed alone, and {100 * helped:.0f}%"
    )
    text += " with help at every step"
    return text if limit is None else f"{text}, within {limit} steps. --set step_limit={2 * limit} gives more"


def command(
    budget: Annotated[int, typer.Option(help="Largest budget.", min=1)] = 4,
    seed: options.Seed = 0,
    out: options.Out = Path("runs/demo"),
    environment: Environment = "babyai",
    level: Level = "",
    settings: Set = None,
    interventions: Help = None,
    actor: Actor = WEAK,
    demonstrations: Demonstrations = N_DEMONSTRATIONS,
    tasks: Tasks = N_TRAIN,
    test_tasks: TestTasks = N_TEST,
    episodes: Episodes = N_EPISODES,
    kappa: Annotated[
        float, typer.Option(help="Pseudo-counts of the PRM on each nohelp row.", callback=options.pseudo_counts)
    ] = KAPPA,
    prm: Annotated[str, typer.Option(help=f"The PRM's model: {', '.join(KINDS)}.")] = PRM_KIND,
    form: Annotated[
        str | None,
        typer.Option(help=f"Form of the helper: {', '.join((AUTO, *KNOWN))}. By default words in BabyAI, else auto."),
    ] = None,
    price: options.Price = None,
    worth: options.Worth = None,
    minutes: options.Minutes = None,
    fallbacks: Fallbacks = False,
    workers: options.Workers = None,
    overwrite: options.Overwrite = False,
) -> dict[str, Any]:
    """Collect in an environment, train a PRM, estimate, solve, label, train a helper, evaluate, report."""
    form = form or FORMS_BY_ENVIRONMENT.get(environment, AUTO)
    with require_extra("ml", "selfreg demo"):
        import sklearn  # noqa: F401  (fail before anything is collected)

        if prm == TRANSFORMER or form in TRANSFORMERS:
            import transformers  # noqa: F401
    prices = parse_prices(price, worth, minutes)
    HelperConfig(form=form), PRMConfig(kind=prm)  # fail before anything runs
    check_collection([], make_config(episodes, seed, workers), None)
    seconds: dict[str, float] = {}
    effort = min(PLAN_EPISODES, episodes), EPISODES_PER_TASK
    world = make_world(environment, level, settings, interventions)
    check_one_budget(world)
    phase = PhaseOne(world, tasks, test_tasks, episodes, seed, workers, actor, demonstrations)
    with atomic_folder(out, MARKER, overwrite) as folder:
        if actor == WEAK and (text := describe_room(world, world.tasks(tasks, test_tasks, seed)[0][:TRIED], seed)):
            remark(f"note: {text}")
        result = pipeline(RunFolder(folder), phase, budget, kappa, fallbacks, form, seconds, prices, prm, *effort)
    summary = RunFolder.open(out).summary()
    show_forecast(summary)
    show(result)
    say(f"{sum(seconds.values()):.1f} s ({', '.join(f'{name} {s:.1f}' for name, s in seconds.items())})")
    say(f"report: {out / 'report.html'}")
    return {"run": out, "report": out / "report.html", "seconds": seconds} | summary
