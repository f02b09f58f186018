"""`python -m benchmarks forms RUN [RUN ...]`: what `auto` forecasts of each form, beside what each does in new tasks.

RUN is a run folder of `python -m benchmarks evaluation` or `selfreg demo`. Every candidate is trained on its labels, at
the default price and in the default rounds, and decides in its test tasks, under each budget. Loss is the success less
price of the best form in these tasks, less that of the form that `auto` takes.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from selfreg.envs import World
from selfreg.evaluate import ComparedPolicy, run_closed_loop
from selfreg.helper import HelperConfig, label, train_helper
from selfreg.helper.models import CANDIDATES
from selfreg.helper.selection import FILLED
from selfreg.runs import RunFolder

EPISODES = 2


def show_run(folder: Path, tasks: int | None) -> float:
    """Print a row of each form, means over the budgets above 0; return the loss of the chosen one."""
    run = RunFolder.open(folder)
    model, collected = run.model(), run.settings()["collect"]
    solution = run.solution(model)
    labels, config = label(run.trajectories(), model, solution), HelperConfig(history=0, seed=collected["seed"])
    auto, (budget,) = train_helper(labels, config).without_memory(), solution.budget
    taken = auto.classifier.form + FILLED * bool(auto.figures["fill"])
    every = [*CANDIDATES, *(form + FILLED for form in CANDIDATES)]
    forms = [form for form in every if f"forecast_{form}" in auto.figures]
    configs = {form: replace(config, form=form.removesuffix(FILLED), fill=form.endswith(FILLED)) for form in forms}
    helpers = {form: train_helper(labels, one).without_memory() for form, one in configs.items() if form != taken}
    helpers[taken] = auto
    policies = [ComparedPolicy(form, b, helper) for form, helper in helpers.items() for b in range(1, budget + 1)]
    names = list(collected["test_tasks"])[:tasks]
    make_world = partial(World.of(collected["world"]).make, run.path)
    found = defaultdict[str, list[tuple[float, float]]](list)
    seed = collected["seed"] + 2
    for row in run_closed_loop(make_world, lambda: policies, names, episodes_per_task=EPISODES, seed=seed, workers=1):
        found[row.policy].append((row.success, row.help))
    realised = {form: np.mean(rows, axis=0) for form, rows in found.items()}
    gain = {form: float(success - config.price * used) for form, (success, used) in realised.items()}
    for form in forms:
        told = auto.figures[f"forecast_{form}"], auto.figures[f"forecast_requests_{form}"], *realised[form], gain[form]
        print(f"| {folder.name} | {form} | " + " | ".join(f"{one:.3f}" for one in told) + " |", flush=True)
    loss = max(gain.values()) - gain[taken]
    print(f"| {folder.name} | auto takes {taken} | | | | | loss {loss:.3f} |", flush=True)
    return loss


def main(arguments: Sequence[str] = ()) -> None:
    """Print the table, and the mean loss."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks forms", description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--tasks", type=int, help="the first test tasks of each run; default all")
    options = parser.parse_args(arguments)
    header = ("run", "form", "forecast", "its requests", "realised", "its requests", "realised less price")
    print("| " + " | ".join(header) + " |\n|" + " --- |" * len(header))
    losses = [show_run(run, options.tasks) for run in options.runs]
    print(f"mean loss {np.mean(losses):.3f}, largest {max(losses):.3f}")
