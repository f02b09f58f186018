"""`python -m benchmarks rules [SETTING ...]`: forecasts of rules of thumb, beside what they do in the very same tasks.

Phase I of the tasks is the log. Never, always, first-k, last-k and every-n are forecast from it, and then run in these
tasks with other luck. A difference is due to chance in both, or to the estimator: it is not due to other tasks.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.evaluation import SETTINGS
from selfreg.cli.collect import collect
from selfreg.decisions import spread_requests
from selfreg.envs import World
from selfreg.envs.phase_one import PhaseOne
from selfreg.estimate import ExactKey, forecast
from selfreg.evaluate import Always, ComparedPolicy, EveryN, LastK, Never, run_closed_loop
from selfreg.evaluate.policy_comparison import median_length
from selfreg.runs import RunFolder

BUDGET, EPISODES = 4, 40
HELP = "help"


def compared(horizon: int) -> list[ComparedPolicy]:
    """Never, always, and the rules under each budget, as `forecast` defines them."""
    result = [ComparedPolicy("never", 0, Never())]
    for budget in range(1, BUDGET + 1):
        every = spread_requests(budget, horizon)
        rules = (("always", Always(HELP)), ("last-k", LastK(HELP, budget, horizon)), ("every-n", EveryN(HELP, every)))
        result += [ComparedPolicy(name, budget, policy) for name, policy in rules]
    return result


def show_setting(name: str, tasks: int, luck: int, seed: int) -> list[tuple[float, bool]]:
    """Print a row of each policy; errors, and whether realised success is inside of the interval."""
    setting, rows = SETTINGS[name], list[tuple[float, bool]]()
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder(Path(folder))
        logs = collect(run, PhaseOne(setting.world, tasks, 1, EPISODES, seed, actor=setting.actor))
        world = World.of(run.settings()["collect"]["world"])
        make_world, make_policies = partial(world.make, run.path), partial(compared, median_length(logs))
        names = sorted({t.task for t in logs})
        played = run_closed_loop(make_world, make_policies, names, episodes_per_task=luck, seed=seed + 1)
    realised = defaultdict[tuple[str, int | str | None], list[float]](list)
    for row in played:
        realised[row.policy, row.budget].append(row.success)
    for one in forecast(logs, ExactKey(), BUDGET, seed=seed).outlooks:
        outcomes = realised.get((one.rule or one.policy, one.budget[0]))
        if outcomes is None:
            continue
        mean, error = np.mean(outcomes), np.std(outcomes) / len(outcomes) ** 0.5
        low, high = one.success.low, one.success.high
        inside = bool(low <= mean <= high)
        rows.append((one.success.mean - float(mean), inside))
        found = f"{one.success.mean:.3f} [{low:.3f}, {high:.3f}] | {mean:.3f} ± {error:.3f}"
        print(f"| {name} | {one.rule or one.policy} | {one.budget[0]} | {found}{'' if inside else ' (outside)'} |")
    return rows


def main(arguments: Sequence[str] = ()) -> None:
    """Print the table, and how many are inside."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks rules", description=__doc__)
    parser.add_argument("settings", nargs="*", metavar="SETTING", help="of python -m benchmarks evaluation")
    parser.add_argument("--tasks", type=int, default=100)
    parser.add_argument("--luck", type=int, default=3, help="episodes of each policy in each task; default 3")
    parser.add_argument("--seed", type=int, default=11)
    options = parser.parse_args(arguments)
    names = options.settings or [name for name, one in SETTINGS.items() if not one.named]
    if unknown := [name for name in names if name not in SETTINGS]:
        parser.error(f"{unknown[0]}: expected some of {', '.join(SETTINGS)}")
    print("| setting | policy | budget | forecast, interval at 90% | realised, standard error |\n|" + " --- |" * 5)
    rows = [row for name in names for row in show_setting(name, options.tasks, options.luck, options.seed)]
    errors, inside = zip(*rows, strict=True)
    print(f"inside {sum(inside)} of {len(rows)}; root mean square error {np.sqrt(np.mean(np.square(errors))):.3f}")
