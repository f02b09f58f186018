"""`python -m benchmarks moments [SETTING ...]`: a policy that sees the environment, as a reference for helpers.

In the BabyAI settings the agent's hands fail: where it should pick up, put down or toggle it often does not. This
policy requests help exactly there, once few steps are left (several limits, told in units of the clock), under several
budgets. Printed are the cheapest one within a point of always and the best one at an eighth of always' requests, chosen
on the tasks that they are shown for. A helper reads only the text; other timings may do better still.
"""

from __future__ import annotations

import argparse
import re
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.evaluation import SETTINGS
from selfreg.decisions import Decision
from selfreg.envs.babyai.environment import DROP, PICKUP, TOGGLE
from selfreg.envs.worlds import WEAK
from selfreg.evaluate import Always, ComparedPolicy, run_closed_loop

HELP = "help"
BUDGETS, SHARES = (1, 2, 3, 4, 6, 8), (1.0, 0.6, 0.5, 0.4, 0.3)  # shares of the step limit


class AtHands:
    """Requests help where the expert would use its hands, once at most `left` steps remain."""

    def __init__(self, world: Any, left: int) -> None:
        self.world, self.left = world, left

    def decide(self, steps: Sequence[Any], budget_left: Any) -> Decision:
        """By the environment, not by the text."""
        least = int(re.findall(r"Steps left: (\d+)", steps[-1].state)[0])
        hands = self.world.environment.expert_action() in (PICKUP, DROP, TOGGLE)
        return Decision(HELP if hands and least <= self.left else "nohelp")


def show_setting(name: str, tasks: int, seed: int) -> None:
    """Print the cheapest row within a point of always, and the one with most success at an eighth of its requests."""
    setting = SETTINGS[name]
    world = setting.world.make()
    limits = sorted({round(share * setting.world.config.step_limit) for share in SHARES})
    policies = [ComparedPolicy(f"{left}", k, AtHands(world, left)) for left in limits for k in BUDGETS]
    names = setting.world.tasks(1, tasks, seed)[1]
    every = [*policies, ComparedPolicy("always", None, Always(HELP))]
    found = defaultdict[tuple[str, Any], list[tuple[float, float]]](list)
    for row in run_closed_loop(lambda: world, lambda: every, names, episodes_per_task=2, seed=seed + 2, workers=1):
        found[row.policy, row.budget].append((row.success, row.help))
    mean = {key: np.mean(rows, axis=0) for key, rows in found.items()}
    success, requests = mean.pop(("always", None))
    near = [(used, won, key) for key, (won, used) in mean.items() if won >= success - 0.01]
    cheap = [(won, used, key) for key, (won, used) in mean.items() if used <= requests / 8]
    print(f"{name}: always {success:.3f} with {requests:.1f} requests")
    if near:
        used, won, key = min(near)
        print(f"  within a point: {won:.3f} with {used / requests:.1%} of them (budget {key[1]}, {key[0]} steps left)")
    if cheap:
        won, used, key = max(cheap)
        print(f"  at an eighth: {won - success:+.3f} with {used / requests:.1%} (budget {key[1]}, {key[0]} steps left)")


def main(arguments: Sequence[str] = ()) -> None:
    """Print each setting."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks moments", description=__doc__)
    able = [n for n, one in SETTINGS.items() if one.world.environment == "babyai" and one.actor == WEAK]
    parser.add_argument("settings", nargs="*", metavar="SETTING", help=f"some of {', '.join(able)}; all by default")
    parser.add_argument("--tasks", type=int, default=150)
    parser.add_argument("--seed", type=int, default=4)
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.settings if name not in able]:
        parser.error(f"{unknown[0]}: expected some of {', '.join(able)}")
    for name in options.settings or able:
        show_setting(name, options.tasks, options.seed)
