"""`python -m benchmarks textworld [--tasks N]`: what the weak player and the expert do in TextWorld's games.

Never is the careless player alone, always the expert in every decision, on the same games with the same luck; one
episode a game. Intervals are 95% bootstrap intervals over games.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from functools import partial

from selfreg._bootstrap import Interval
from selfreg.envs import TEXTWORLD_LEVELS, TextWorldConfig, make_textworld, textworld_tasks
from selfreg.evaluate import Always, Contestant, Never, compare, run_closed_loop

TASKS = 300


def contestants() -> list[Contestant]:
    """The two ends of every comparison."""
    return [Contestant("never", 0, Never()), Contestant("always", None, Always("help"))]


def shown(interval: Interval) -> str:
    """Mean and interval."""
    return f"{interval.mean:.3f} [{interval.low:.3f}, {interval.high:.3f}]"


def main(argv: Sequence[str] | None = None) -> None:
    """Print a line for each level."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks textworld", description=__doc__)
    parser.add_argument("--tasks", type=int, default=TASKS, help="games of each level")
    parser.add_argument("--cache", default="", help="folder of generated games; the user's cache folder by default")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes")
    args = parser.parse_args(argv)
    begin = time.perf_counter()
    print(f"TextWorld, {args.tasks} games a level: success alone and with help")
    print("level | limit | never | always | interventions of always")
    for level, settings in TEXTWORLD_LEVELS.items():
        tasks = textworld_tasks(0, args.tasks, 0, level)[1]
        world = partial(make_textworld, TextWorldConfig(level, cache=args.cache))
        rows = run_closed_loop(world, contestants, tasks, episodes_per_task=1, workers=args.workers)
        never, always = sorted(compare(rows).outcomes, key=lambda outcome: outcome.policy != "never")
        figures = f"{shown(never.success)} | {shown(always.success)} | {always.help.mean:.2f}"
        print(f"{level} | {settings.step_limit} | {figures}")
    print(f"{time.perf_counter() - begin:.0f} s")
