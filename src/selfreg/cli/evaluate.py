"""`selfreg evaluate`: baselines, plan and helper on held-out tasks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from selfreg.cli import options
from selfreg.cli.terminal import table
from selfreg.data import Trajectory
from selfreg.envs import AssistedEnvironment, World, collect, enumerate_model
from selfreg.envs.phase_one import N_VALIDATION, VALIDATION_SEED, make_config
from selfreg.envs.worlds import WEAK
from selfreg.estimate import EstimatedModel, ExactKey, StateAbstraction, estimate_mdp
from selfreg.evaluate import (
    Comparison,
    Contestant,
    FollowHelper,
    ForecastOutcome,
    NearestState,
    Plan,
    PolicyComparison,
    compare,
    forecasts,
    run_closed_loop,
    score_quantiles,
    tune_thresholds,
    usual_length,
    write_rows,
)
from selfreg.evaluate.policy_comparison import OPTIMUM, PLAN_NEAREST
from selfreg.planning.hard import Solution, solve
from selfreg.planning.usage import expected_usage
from selfreg.runs import RunFolder

Fallbacks = Annotated[
    bool, typer.Option("--fallbacks", help="Also plans that ask the PRM, or the nearest state, where unseen.")
]
EPISODES = 2


@dataclass(frozen=True)
class Evaluated:
    """What the evaluation found, per policy and budget, and how the plan's forecasts came out."""

    comparison: Comparison
    forecasts: list[ForecastOutcome]


def evaluate(
    run: RunFolder,
    budget: int,
    plan_episodes: int,
    seed: int,
    workers: int | None,
    fallbacks: bool = False,
    episodes_per_task: int = EPISODES,
) -> Evaluated:
    """Closed loop on the test tasks of the run; writes evaluation.parquet and adds the outcomes to summary.json.

    The plan on test tasks rests on a Phase I of its own (`plan_episodes` of each task): it knows the tasks, the helper
    does not. That makes it the helper's reference, and no fair competitor.
    """
    settings = run.settings().get("collect")
    if settings is None:
        raise ValueError(f"{run.path} was not collected in an environment; there is nothing to run policies in")
    abstraction = _checked(run)
    prm, trajectories = run.prm(), run.trajectories()
    world, tasks = World.of(settings["world"]), list(settings["test_tasks"])
    make_world = partial(world.make, run.path)
    # Other seeds than Phase I of the training tasks and than the evaluation itself.
    rehearsal = list(collect(make_world, tasks, make_config(plan_episodes, seed + 1, workers)))
    model = estimate_mdp(rehearsal, abstraction if isinstance(abstraction, ExactKey) else ExactKey())
    solution = solve(model.mdp, budget)
    budgets, help_type = range(1, budget + 1), next(iter(make_world().interventions.values()))
    thresholds = score_quantiles(prm, trajectories)
    validation = settings.get("validation_tasks")  # which run folders from before do not have
    if validation is None:
        validation = world.more_tasks(
            N_VALIDATION, seed + VALIDATION_SEED, sorted({*tasks, *(t.task for t in trajectories)})
        )
    tuned = tune_thresholds(make_world, prm, help_type.name, thresholds, validation, budgets, seed=seed + 3)
    contest = PolicyComparison(
        help_type.name,
        budgets,
        usual_length(trajectories),
        thresholds,
        {b: one.policy.threshold for b, one in tuned.items()},
        _plans(model, solution, rehearsal if fallbacks else None) | _optimum(world, make_world, tasks, budget),
        Plan.of(model, solution) if fallbacks else None,
        help_type.cost,
    )
    make = partial(contestants, run.path, contest)
    rows = run_closed_loop(make_world, make, tasks, episodes_per_task=episodes_per_task, seed=seed + 2, workers=workers)
    write_rows(run.path / "evaluation.parquet", rows)
    usage = model.usage(expected_usage(solution)).ravel()
    promised = {b: (float(model.success(solution)[b]), float(usage[b])) for b in budgets}
    result = Evaluated(compare(rows), forecasts(promised, rows))
    run.write_summary(run.summary() | {"evaluation": as_json(result, len(tasks))})
    noted = {"budget": budget, "tasks": len(tasks), "episodes_per_task": episodes_per_task, "seed": seed}
    run.record("evaluate", noted | {"plan_episodes": plan_episodes, "horizon": contest.horizon})
    return result


def _checked(run: RunFolder) -> StateAbstraction:
    """The abstraction of the run's model; what is missing is said before anything runs, not after."""
    from selfreg.helper import Helper

    run.summary()
    helper = Helper.load(run.need("helper", "train --part helper"))
    if len(helper.limits) != 1:
        raise ValueError(f"the helper spends {len(helper.limits)} budgets; policies are compared under one")
    return run.model().abstraction


def _plans(model: EstimatedModel, solution: Solution, rehearsal: list[Trajectory] | None) -> dict[str, Plan]:
    """The plan, and the plan with the nearest state's decisions where `rehearsal` is given."""
    plan = Plan.of(model, solution)
    if rehearsal is None:
        return {"plan": plan}
    return {"plan": plan, PLAN_NEAREST: Plan(plan.abstraction, plan.decisions, NearestState(plan, rehearsal))}


def _optimum(
    world: World, make_world: Callable[[], AssistedEnvironment], tasks: list[str], budget: int
) -> dict[str, Plan]:
    """The true optimum, where exact models can be had."""
    if not world.family.exact or world.actor != WEAK:  # a trained agent may do anything: too many states
        return {}
    one = make_world()
    return {OPTIMUM: Plan.exact({task: enumerate_model(one, task) for task in tasks}, budget)}


def contestants(folder: Path, contest: PolicyComparison) -> list[Contestant]:
    """Everyone who takes part; called once in each worker."""
    import torch

    from selfreg.helper import Helper
    from selfreg.prm import PRM

    torch.set_num_threads(1)  # the workers share the cores
    return contest.contestants(PRM.load(folder / "prm"), FollowHelper(Helper.load(folder / "helper")))


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


ORDER = ("never", "first-k", "last-k", "every-n", "random", "PRM threshold", "tuned PRM threshold", "helper", "plan")


def rank(policy: str) -> int:
    """Place of a policy in tables: baselines, helper, plans, optimum, always."""
    return ORDER.index(policy) if policy in ORDER else len(ORDER) + (policy == OPTIMUM) + 2 * (policy == "always")


def show(result: Evaluated) -> None:
    """Print outcomes, differences and forecasts."""
    outcomes = sorted(
        result.comparison.outcomes, key=lambda o: (np.inf if o.budget is None else o.budget, rank(o.policy))
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
        print(f"{d.words} by {d.difference.mean:+.3f} [{d.difference.low:+.3f}, {d.difference.high:+.3f}]")
    for one in result.forecasts:
        print(one.words)


def command(
    run: options.RunArgument,
    budget: Annotated[int, typer.Option(help="Largest budget to compare under.", min=1)] = 4,
    plan_episodes: Annotated[int, typer.Option(help="Phase I episodes of each test task, for the plan.", min=8)] = 40,
    fallbacks: Fallbacks = False,
    seed: options.Seed = 0,
    workers: options.Workers = None,
) -> None:
    """Compare help policies on the run's held-out tasks."""
    show(evaluate(RunFolder.open(run), budget, plan_episodes, seed, workers, fallbacks))
