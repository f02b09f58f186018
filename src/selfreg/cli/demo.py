"""`selfreg demo`: the whole pipeline in a built-in environment, to a report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from selfreg._extras import needs
from selfreg._files import folder_written_whole
from selfreg.cli import options
from selfreg.cli.collect import LEVEL, N_EPISODES, N_TEST, N_TRAIN, Episodes, Level, Tasks, TestTasks, collect
from selfreg.cli.estimate import estimate
from selfreg.cli.evaluate import evaluate, show
from selfreg.cli.label import label
from selfreg.cli.solve import solve
from selfreg.cli.terminal import stage
from selfreg.cli.train import train_helper, train_prm
from selfreg.estimate import ExactKey
from selfreg.helper import HelperConfig
from selfreg.prm import PRMConfig
from selfreg.report import write_report
from selfreg.runs import MARKER, RunFolder

KAPPA = 0.1
# Plain models that cost no time beside the PRM.
PLAIN = ("constant", "step")


def command(
    budget: Annotated[int, typer.Option(help="Largest budget.", min=1)] = 4,
    seed: options.Seed = 0,
    out: options.Out = Path("runs/demo"),
    level: Level = LEVEL,
    tasks: Tasks = N_TRAIN,
    test_tasks: TestTasks = N_TEST,
    episodes: Episodes = N_EPISODES,
    kappa: Annotated[float, typer.Option(help="Pseudo-counts of the PRM on each nohelp row.")] = KAPPA,
    workers: options.Workers = None,
    overwrite: options.Overwrite = False,
) -> None:
    """Collect in BabyAI, train a PRM, estimate, solve, label, train a helper, evaluate, report."""
    with needs("ml", "selfreg demo"):
        import transformers  # noqa: F401  (said before a minute of collecting, not after)
    seconds: dict[str, float] = {}
    with folder_written_whole(out, MARKER, overwrite) as folder:
        run = RunFolder(folder)
        with stage("collect", seconds):
            trajectories = collect(run, level, tasks, test_tasks, episodes, seed, workers)
        with stage("train PRM", seconds):
            train_prm(run, trajectories, PRMConfig(seed=seed), PLAIN)
        with stage("estimate", seconds):
            model = estimate(run, trajectories, ExactKey(), kappa)
        with stage("solve", seconds):
            solution = solve(run, trajectories, model, budget)
        with stage("label", seconds):
            labels = label(run, trajectories, model, solution)
        with stage("train helper", seconds):
            train_helper(run, labels, HelperConfig(seed=seed))
        with stage("evaluate", seconds):
            comparison = evaluate(run, budget, episodes, seed, workers)
        with stage("report", seconds):
            write_report(run)
    show(comparison)
    print(f"{sum(seconds.values()):.1f} s ({', '.join(f'{name} {s:.1f}' for name, s in seconds.items())})")
    print(f"report: {out / 'report.html'}")
