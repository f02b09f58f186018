"""`selfreg evaluate`: never, always, first-k, random, PRM threshold, plan and helper on held-out tasks."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from selfreg.cli import options
from selfreg.cli.terminal import table
from selfreg.envs import BabyAIConfig, RandomHelp, collect, make_babyai
from selfreg.estimate import ExactKey, estimate_mdp
from selfreg.evaluate import (
    Always,
    Comparison,
    Contestant,
    FollowHelper,
    Never,
    Plan,
    Threshold,
    compare,
    run_closed_loop,
    write_rows,
)
from selfreg.runs import RunFolder
from selfreg.solve import solve

HELP = "help"
# Members of the families that are compared at equal cost; never and always close each family on both sides.
RATES = (0.03, 0.07, 0.12, 0.2, 0.35)
THRESHOLD_QUANTILES = (0.05, 0.1, 0.2, 0.35, 0.6)
EPISODES = 2


def evaluate(run: RunFolder, budget: int, plan_episodes: int, seed: int, workers: int | None) -> Comparison:
    """Closed loop on the test tasks of the run; writes evaluation.parquet and adds the outcomes to summary.json.

    The plan on test tasks rests on a Phase I of its own (`plan_episodes` of each task): it knows the tasks, the helper
    does not. That makes it the helper's reference, and no fair competitor.
    """
    from selfreg.cli.collect import collection

    settings = run.settings().get("collect")
    if settings is None:
        raise ValueError(f"{run.path} was not collected in an environment; there is nothing to run policies in")
    run.need("helper", "train --part helper")
    run.need("prm", "train --part prm")
    world = BabyAIConfig(**settings["world"])
    tasks = list(settings["test_tasks"])
    make_world = partial(make_babyai, world)
    # Other seeds than Phase I of the training tasks and than the evaluation itself.
    rehearsal = list(collect(make_world, tasks, collection(plan_episodes, seed + 1, workers)))
    abstraction = run.model().abstraction
    model = estimate_mdp(rehearsal, abstraction if isinstance(abstraction, ExactKey) else ExactKey())
    plan = Plan.of(model, solve(model.mdp, budget))
    make = partial(contestants, run.path, budget, plan)
    rows = run_closed_loop(make_world, make, tasks, episodes_per_task=EPISODES, seed=seed + 2, workers=workers)
    write_rows(run.path / "evaluation.parquet", rows)
    comparison = compare(rows)
    run.write_summary(run.summary() | {"evaluation": as_json(comparison, len(tasks))})
    run.record("evaluate", {"budget": budget, "tasks": len(tasks), "episodes_per_task": EPISODES, "seed": seed})
    return comparison


def contestants(folder: Path, budget: int, plan: Plan) -> list[Contestant]:
    """Everyone who takes part, for every budget up to `budget`; called once in each worker."""
    import torch

    from selfreg.helper import Helper
    from selfreg.prm import PRM

    torch.set_num_threads(1)  # the workers share the cores
    prm, helper = PRM.load(folder / "prm"), FollowHelper(Helper.load(folder / "helper"))
    thresholds = np.quantile(prm_scores(prm, RunFolder(folder)), THRESHOLD_QUANTILES)
    known: dict[str, float] = {}  # the PRM's scores, shared by the thresholds
    result = [Contestant("never", 0, Never()), Contestant("always", None, Always(HELP))]
    result += [Contestant("random", None, RandomHelp(rate, [HELP]), rate) for rate in RATES]
    result += [Contestant("PRM threshold", None, Threshold(prm, HELP, t, known=known), t) for t in thresholds.tolist()]
    for b in range(1, budget + 1):
        result += [Contestant("first-k", b, Always(HELP)), Contestant("plan", b, plan), Contestant("helper", b, helper)]
    return result


def prm_scores(prm: Any, run: RunFolder, sample: int = 2000) -> Any:
    """PRM scores of a sample of the training states."""
    texts = list(dict.fromkeys(prm.text(t.steps[: i + 1]) for t in run.trajectories() for i in range(len(t.steps))))
    chosen = np.random.default_rng(0).permutation(len(texts))[:sample]
    return prm.score([texts[i] for i in chosen])


def as_json(comparison: Comparison, tasks: int) -> dict[str, Any]:
    """Comparison as JSON values."""
    return {
        "tasks": tasks,
        "outcomes": [
            outcome._asdict() | {"success": outcome.success._asdict(), "help": outcome.help._asdict()}
            for outcome in comparison.outcomes
        ],
        "differences": [
            {"budget": d.budget, "other": d.other, "words": d.words, **d.difference._asdict()}
            for d in comparison.differences
        ],
    }


def show(comparison: Comparison) -> None:
    """Print outcomes and differences."""
    order = ["never", "first-k", "random", "PRM threshold", "helper", "plan", "always"]
    outcomes = sorted(
        comparison.outcomes, key=lambda o: (np.inf if o.budget is None else o.budget, order.index(o.policy))
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
    for d in comparison.differences:
        print(f"{d.words} by {d.difference.mean:+.3f} [{d.difference.low:+.3f}, {d.difference.high:+.3f}]")


def command(
    run: options.RunArgument,
    budget: Annotated[int, typer.Option(help="Largest budget to compare under.", min=1)] = 4,
    plan_episodes: Annotated[int, typer.Option(help="Phase I episodes of each test task, for the plan.", min=8)] = 40,
    seed: options.Seed = 0,
    workers: options.Workers = None,
) -> None:
    """Compare help policies on the run's held-out tasks."""
    show(evaluate(RunFolder.open(run), budget, plan_episodes, seed, workers))
