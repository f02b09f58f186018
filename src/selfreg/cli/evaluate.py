"""`selfreg evaluate`: baselines, plan, helper and policies of other packages on held-out tasks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from selfreg._util.text_index import WordGroups
from selfreg.cli import options
from selfreg.cli.forecasting import compare_with_realised, in_words
from selfreg.cli.terminal import say, table
from selfreg.data import Trajectory
from selfreg.decisions import DecisionPolicy
from selfreg.envs import AssistedEnvironment, World, collect, enumerate_model
from selfreg.envs.phase_one import N_VALIDATION, VALIDATION_SEED, make_config
from selfreg.envs.worlds import WEAK, parse_help
from selfreg.estimate import EstimatedModel, ExactKey, StateAbstraction, estimate_mdp
from selfreg.evaluate import (
    ComparedPolicy,
    Extrapolating,
    ForecastOutcome,
    NearestText,
    Plan,
    PolicyComparison,
    compare,
    forecasts,
    run_closed_loop,
)
from selfreg.evaluate.closed_loop import write_rows
from selfreg.evaluate.comparison import Comparison
from selfreg.evaluate.policies import OPTIMUM, PLAN, PLAN_NEAREST, load_policy, policy_order
from selfreg.evaluate.policy_comparison import median_length, score_quantiles, tune_thresholds
from selfreg.planning.hard import Solution, solve
from selfreg.planning.usage import expected_usage
from selfreg.runs import RunFolder

Fallbacks = Annotated[
    bool,
    typer.Option("--fallbacks", help="Also plans that follow the PRM, or the nearest state, at states never logged."),
]
Added = Annotated[
    list[str] | None,
    typer.Option(
        "--policy",
        metavar="NAME",
        help="Also a policy of an installed package (entry points selfreg.policies). May repeat.",
    ),
]
EPISODES = 2


@dataclass(frozen=True)
class Evaluated:
    """The comparison of the policies, and predicted against realised: of the plan in its model, and of the forecast."""

    comparison: Comparison
    forecasts: list[ForecastOutcome]
    outlooks: list[dict[str, Any]] = field(default_factory=list)


def check_one_budget(world: World) -> None:
    """ValueError where help is charged to several budgets: policies are compared under one."""
    for text in world.helps:
        if len(units := parse_help(text).units) != 1:
            raise ValueError(
                f"{text!r} is charged to {len(units)} budgets; policies are compared under one. `selfreg collect` and "
                "`selfreg fit` take several (docs/handoffs.md)"
            )


def evaluate(
    run: RunFolder,
    budget: int,
    plan_episodes: int,
    seed: int,
    workers: int | None,
    fallbacks: bool = False,
    episodes_per_task: int = EPISODES,
    added: Sequence[str] = (),
) -> Evaluated:
    """Closed loop on the test tasks of the run; writes evaluation.parquet and adds the outcomes to summary.json.

    The plan on test tasks is made from a Phase I of its own (`plan_episodes` of each task). It has seen the tasks and
    the helper has not: it is the helper's reference, not a competitor.
    """
    settings = run.settings().get("collect")
    if settings is None:
        raise ValueError(f"{run.path} was not collected in an environment; expected a run of selfreg collect or demo")
    for name in added:
        load_policy(name)
    abstraction = _checked(run)
    prm, trajectories = run.prm(), run.trajectories()
    world, tasks = World.of(settings["world"]), list(settings["test_tasks"])
    make_world = partial(world.make, run.path)
    check_one_budget(world)
    # Other seeds than Phase I of the training tasks and than the evaluation itself.
    rehearsal = list(collect(make_world, tasks, make_config(plan_episodes, seed + 1, workers)))
    model = estimate_mdp(rehearsal, abstraction if isinstance(abstraction, ExactKey) else ExactKey())
    solution = solve(model.mdp, budget)
    budgets, help_type = range(1, budget + 1), next(iter(make_world().interventions.values()))
    thresholds = score_quantiles(prm, trajectories)
    validation = settings.get("validation_tasks")  # missing in early run folders
    if validation is None:
        validation = world.more_tasks(
            N_VALIDATION, seed + VALIDATION_SEED, sorted({*tasks, *(t.task for t in trajectories)})
        )
    tuned = tune_thresholds(make_world, prm, help_type.name, thresholds, validation, budgets, seed=seed + 3)
    comparison = PolicyComparison(
        help_type.name,
        budgets,
        median_length(trajectories),
        thresholds,
        {b: one.policy.threshold for b, one in tuned.items()},
        _plans(model, solution, rehearsal if fallbacks else None) | _optimum(world, make_world, tasks, budget),
        Plan.of(model, solution) if fallbacks else None,
        help_type.units[0],
        tuple(added),
    )
    make = partial(_policies, run.path, comparison)
    rows = run_closed_loop(make_world, make, tasks, episodes_per_task=episodes_per_task, seed=seed + 2, workers=workers)
    write_rows(run.path / "evaluation.parquet", rows)
    usage = model.usage(expected_usage(solution)).ravel()
    predicted = {b: (float(model.success(solution)[b]), float(usage[b])) for b in budgets}
    result = Evaluated(compare(rows), forecasts(predicted, rows))
    summary, evaluation = run.summary(), as_json(result, len(tasks))
    evaluation["outlooks"] = compare_with_realised(summary.get("forecast", []), evaluation["outcomes"], help_type.name)
    result.outlooks.extend(evaluation["outlooks"])
    run.write_summary(summary | {"evaluation": evaluation})
    noted = {"budget": budget, "tasks": len(tasks), "episodes_per_task": episodes_per_task, "seed": seed}
    run.record("evaluate", noted | {"plan_episodes": plan_episodes, "horizon": comparison.horizon})
    return result


def _checked(run: RunFolder) -> StateAbstraction:
    """The abstraction of the run's model; raises for missing parts before anything runs."""
    from selfreg.helper import Helper

    run.summary()
    helper = Helper.load(run.need("helper", "train --part helper"))
    if len(helper.limits) != 1:
        raise ValueError(
            f"the helper spends {len(helper.limits)} budgets; expected one. `run_closed_loop` compares policies under "
            "several (docs/handoffs.md)"
        )
    return run.model().abstraction


def _plans(model: EstimatedModel, solution: Solution, rehearsal: list[Trajectory] | None) -> dict[str, DecisionPolicy]:
    """The plan, and the one with decisions of the nearest state of the same task, where `rehearsal` is given."""
    plans: dict[str, DecisionPolicy] = {PLAN: Plan.of(model, solution)}
    if rehearsal is not None:
        nearest = NearestText(model, rehearsal, least=0.0, vectors=WordGroups(), within_task=True)
        plans[PLAN_NEAREST] = Extrapolating(model, solution, nearest)
    return plans


def _optimum(
    world: World, make_world: Callable[[], AssistedEnvironment], tasks: list[str], budget: int
) -> dict[str, DecisionPolicy]:
    """The true optimum, where tasks have exact models."""
    if not world.family.exact or world.actor != WEAK:  # a trained agent may take any action: too many states
        return {}
    one = make_world()
    return {OPTIMUM: Plan.exact({task: enumerate_model(one, task) for task in tasks}, budget)}


def _policies(folder: Path, comparison: PolicyComparison) -> list[ComparedPolicy]:
    """Everyone who takes part; called once in each worker."""
    import torch

    from selfreg.helper import load_policy
    from selfreg.prm import PRM

    torch.set_num_threads(1)  # the workers share the cores
    # Without memory: the closed loop reads no reasons.
    helper = load_policy(folder / "helper").without_memory()
    return comparison.policies(PRM.load(folder / "prm"), helper)


def as_json(result: Evaluated, tasks: int) -> dict[str, Any]:
    """Comparison and forecasts as JSON values."""
    return {
        "tasks": tasks,
        "outcomes": [
            outcome._asdict() | {"success": outcome.success._asdict(), "help": outcome.help._asdict()}
            for outcome in result.comparison.outcomes
        ],
        "differences": [
            {"budget": d.budget, "other": d.other, "words": d.words, **d.difference._asdict()}
            for d in result.comparison.differences
        ],
        "forecasts": [
            one._asdict() | {"success": one.success._asdict(), "usage": one.usage._asdict()} for one in result.forecasts
        ],
    }


def show(result: Evaluated) -> None:
    """Print outcomes, differences and forecasts."""
    outcomes = sorted(
        result.comparison.outcomes, key=lambda o: (np.inf if o.budget is None else o.budget, policy_order(o.policy))
    )
    rows = [
        [
            o.policy,
            "none" if o.budget is None else str(o.budget),
            f"{o.success.mean:.3f} [{o.success.low:.3f}, {o.success.high:.3f}]",
            f"{o.help.mean:.2f} [{o.help.low:.2f}, {o.help.high:.2f}]",
            f"{o.steps:.1f}",
            "" if o.unseen is None else f"{o.unseen:.0%}",
        ]
        for o in outcomes
    ]
    table(
        "held-out tasks, closed loop, 95% bootstrap intervals over tasks\n"
        "(random and PRM threshold: without a limit, at the helper's mean cost)",
        ["policy", "limit", "success", "help used", "steps", "unseen states"],
        rows,
    )
    for d in result.comparison.differences:
        say(f"{d.words} by {d.difference.mean:+.3f} [{d.difference.low:+.3f}, {d.difference.high:+.3f}]")
    for one in result.forecasts:
        say(one.words)
    for outlook in result.outlooks:
        say(in_words(outlook))


def command(
    run: options.RunArgument,
    budget: Annotated[int, typer.Option(help="Largest budget to compare under.", min=1)] = 4,
    plan_episodes: Annotated[int, typer.Option(help="Phase I episodes of each test task, for the plan.", min=8)] = 40,
    fallbacks: Fallbacks = False,
    policies: Added = None,
    seed: options.Seed = 0,
    workers: options.Workers = None,
) -> dict[str, Any]:
    """Compare policies on the run's held-out tasks."""
    folder = RunFolder.open(run)
    show(evaluate(folder, budget, plan_episodes, seed, workers, fallbacks, added=policies or ()))
    return {"run": folder.path, **folder.summary()["evaluation"]}
