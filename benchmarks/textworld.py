"""`python -m benchmarks textworld [--tasks N]`: what weak players and the expert do in TextWorld's games.

Never is the careless player alone, always the expert in every decision, imitation a small network alone that was
trained on the expert's play in few other games; on the same games with the same luck, one episode a game. Intervals
are 95% bootstrap intervals over games.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from functools import partial

from selfreg._util.bootstrap import Interval
from selfreg.envs import (
    ImitationPolicy,
    TextWorldConfig,
    TextWorldEnvironment,
    demonstrate,
    make_textworld,
    textworld_tasks,
    train_imitation,
)
from selfreg.envs.textworld.games import TEXTWORLD_LEVELS
from selfreg.evaluate import Always, ComparedPolicy, Never, compare, run_closed_loop

TASKS, SHOWN = 300, 20


def trained(level: str, games: Sequence[str], cache: str) -> ImitationPolicy:
    """A player trained by imitation."""
    environment = TextWorldEnvironment(level, clock=TextWorldConfig().clock, cache=cache)
    return train_imitation(demonstrate(environment, games), environment.action_names)


def contestants() -> list[ComparedPolicy]:
    """The two ends of every comparison."""
    return [ComparedPolicy("never", 0, Never()), ComparedPolicy("always", None, Always("help"))]


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
    print(f"TextWorld, {args.tasks} games a level: success; imitation saw {SHOWN} others")
    print("level | limit | imitation | never | always | interventions of always")
    for level, settings in TEXTWORLD_LEVELS.items():
        tasks = textworld_tasks(args.tasks, 0, 0, level)[0]
        others = [game for game in textworld_tasks(2 * SHOWN, 0, 1, level)[0] if game not in tasks][:SHOWN]
        config = TextWorldConfig(level, cache=args.cache)
        policy = trained(level, others, args.cache)
        worlds = partial(make_textworld, config), partial(make_textworld, config, None, policy)
        careless, imitation = (
            run_closed_loop(world, contestants, tasks, episodes_per_task=1, workers=args.workers) for world in worlds
        )
        never, always = sorted(compare(careless).outcomes, key=lambda outcome: outcome.policy != "never")
        learned = next(one for one in compare(imitation).outcomes if one.policy == "never")
        figures = " | ".join(shown(one.success) for one in (learned, never, always)) + f" | {always.help.mean:.2f}"
        print(f"{level} | {settings.step_limit} | {figures}", flush=True)
    print(f"{time.perf_counter() - begin:.0f} s")
