"""`python -m benchmarks robustness [--quick]`: does the plan depend on how help was triggered in the logs?

The same number of episodes of each Household task is logged with help at random at rate 0.1, 0.5, 0.9, at mixed rates,
and by a biased trigger: somebody who helps once they see that a search was in vain. The plan from each log is valued in
the exact model, so that no simulation blurs the difference to the plan from mixed rates. Intervals are 95% bootstrap
intervals over tasks.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence

import numpy as np

from benchmarks.household import BUDGET, Floats, Regret, regret, stacked
from selfreg._util.bootstrap import bootstrap, interval
from selfreg.data import NOHELP, Step, Trajectory
from selfreg.decisions import BudgetLeft, Decision
from selfreg.envs import (
    AssistedEnvironment,
    CollectConfig,
    collect,
    household_tasks,
    make_household,
    run_episode,
)
from selfreg.envs.household import environment as household
from selfreg.envs.rollouts import episode_seed

RATES: Mapping[str, tuple[float, ...]] = {
    "mixed": CollectConfig().rates,
    "rate 0.1": (0.1,),
    "rate 0.5": (0.5,),
    "rate 0.9": (0.9,),
}
BIASED = "biased trigger"
TASKS, EPISODES = 48, (100, 1000)


class Worried:
    """Requests help with chance `often` once the text says that a search was in vain, else with chance `seldom`."""

    name = BIASED

    def __init__(self, often: float = 0.8, seldom: float = 0.05) -> None:
        self.often, self.seldom = often, seldom

    def start(self, task: str, seed: int) -> None:
        """Begin an episode."""
        self._generator = np.random.default_rng([seed, 1])

    def decide(self, steps: Sequence[Step], budget_left: BudgetLeft) -> Decision:
        """Request help, or not; draws once in every step."""
        calm = "Searched in vain: none." in steps[-1].state
        return Decision("help" if self._generator.random() < (self.seldom if calm else self.often) else NOHELP)


def logged(world: AssistedEnvironment, task: str, kind: str, episodes: int) -> list[Trajectory]:
    """Episodes of a task, with help triggered as `kind` says."""
    if kind != BIASED:
        return list(collect(make_household, [task], CollectConfig(episodes, RATES[kind], workers=1)))
    trigger = Worried()
    return [run_episode(world, task, episode_seed(0, task, i), trigger, None, f"{task}#{i}") for i in range(episodes)]


def regrets(tasks: Sequence[str], sizes: Sequence[int]) -> dict[tuple[str, int], Regret]:
    """Regret of the plan in points, by kind of log and number of episodes; float64 (tasks, budgets) each."""
    world = make_household()
    found: dict[tuple[str, int], list[Regret]] = {}
    for task in tasks:
        exact = household.exact_model(task)
        for kind in (*RATES, BIASED):
            episodes = logged(world, task, kind, max(sizes))
            for size in sizes:
                found.setdefault((kind, size), []).append(regret(exact, task, episodes[:size]))
    return {key: stacked(values) for key, values in found.items()}


def shown(values: Floats) -> str:
    """Mean over tasks with its interval, by budget from 1 on."""
    samples = bootstrap(len(values))
    cells = []
    for b in range(1, BUDGET + 1):
        mean, low, high = interval(values[:, b].mean(), values[samples, b].mean(axis=1))
        cells.append(f"{mean:6.2f} [{low:6.2f}, {high:6.2f}]")
    return " ".join(cells)


def main(arguments: Sequence[str] = ()) -> None:
    """Print regret by kind of log, how far each falls from mixed rates, and where it is lost."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks robustness", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="12 tasks, 100 and 300 episodes of each")
    quick = parser.parse_args(arguments).quick
    tasks = household_tasks(12 if quick else TASKS, 0, seed=1)[0]
    sizes = (100, 300) if quick else EPISODES
    begin = time.perf_counter()
    table = regrets(tasks, sizes)
    print(f"Household, {len(tasks)} tasks; points of success by budget 1..{BUDGET}, mean over tasks")
    for size in sizes:
        print(f"-- {size} episodes of each task: regret against the exact optimum")
        for kind in (*RATES, BIASED):
            print(f"{kind:15s} {shown(table[kind, size].regret)}")
        print("beyond the regret of mixed rates (above 0: worse)")
        for kind in (*list(RATES)[1:], BIASED):
            print(f"{kind:15s} {shown(table[kind, size].regret - table['mixed', size].regret)}")
        print(f"lost at budget {BUDGET}: at unseen states, where an action was never tried, to rows that are off")
        for kind in (*RATES, BIASED):
            one = table[kind, size]
            parts = " ".join(f"{part[:, BUDGET].mean():6.2f}" for part in (one.unseen, one.untried, one.rows))
            print(f"{kind:15s} {parts}")
    print(f"{time.perf_counter() - begin:.0f} s")
