"""`python -m benchmarks household [--quick]`: how far a plan learned from episodes falls short of the exact optimum.

Every task of Household has a model of its own, estimated from episodes with random help, as in Phase I. Its plan is
followed in the exact model, going on alone at states that were never logged, and valued there without simulation:
regret is what is lost against the exact optimum, in points of success (hundredths), optimism what the plan promises
beyond what it holds. What is lost at unseen states, and where going on alone or help was never tried, is told apart by
following the true optimum there; the rest is lost to rows that are off.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

import selfreg
from selfreg._util.bootstrap import bootstrap, interval
from selfreg.data import Trajectory
from selfreg.envs import CollectConfig, collect, household_tasks, make_household
from selfreg.envs.exact import ExactModel
from selfreg.envs.household import environment as household
from selfreg.estimate import EstimatedModel, ExactKey, estimate_mdp

Floats = npt.NDArray[np.float64]

BUDGET = 4
EPISODES = (40, 100, 300, 1000, 2000, 5000)
TASKS = 24  # the kinds in turn
TARGET_EPISODES, TARGET = 5000, 1.0


def policy_value(exact: ExactModel, policy: npt.NDArray[np.int8]) -> Floats:
    """Success of a table of decisions (n, budgets) in the exact model, float64 (n, budgets).

    By sweeps: the step is in the key, so that as many as there are steps reach the end.
    """
    mdp = exact.mdp
    value = np.repeat(np.nan_to_num(mdp.terminal_value)[:, None], policy.shape[1], axis=1)
    live = sp.diags_array((~mdp.terminal).astype(float))
    for b in range(policy.shape[1]):
        chosen = [
            live @ sp.diags_array((policy[:, b] == a).astype(float)) @ mdp.transitions[name]
            for a, name in enumerate(mdp.actions)
        ]
        base = value[:, b].copy()
        for a, name in enumerate(mdp.actions[1:], 1):
            cost = mdp.costs[name][0]
            base += chosen[a] @ value[:, b - cost] if cost <= b else 0.0
        last = None
        while last is None or not np.array_equal(last, value[:, b]):
            last, value[:, b] = value[:, b].copy(), base + chosen[0] @ value[:, b]
    return value


class Followed(NamedTuple):
    """A plan over the states of the exact model.

    Attributes
    ----------
    policy : int8 (n, budgets)
        Its decisions; alone where a state was never logged.
    seen, tried : bool (n,)
        States that were logged, and those where going on alone and every help type were tried.
    """

    policy: npt.NDArray[np.int8]
    seen: npt.NDArray[np.bool_]
    tried: npt.NDArray[np.bool_]


def follow(
    exact: ExactModel, task: str, model: EstimatedModel, solution: selfreg.Solution, budget: int = BUDGET
) -> Followed:
    """The plan in the exact model."""
    n = exact.mdp.n_states
    policy, seen, tried = np.zeros((n, budget + 1), np.int8), np.zeros(n, bool), np.zeros(n, bool)
    renamed = np.array([exact.mdp.actions.index(name) for name in model.mdp.actions], np.int8)
    least = np.min([model.counts.visits.get(name, np.zeros(model.mdp.n_states)) for name in exact.mdp.actions], axis=0)
    for i, key in enumerate(exact.keys):
        known = model.index.get((task, key))
        if known is not None:
            policy[i], seen[i], tried[i] = renamed[solution.policy[known]], True, least[known] > 0
    return Followed(policy, seen, tried)


class Regret(NamedTuple):
    """What a plan is worth in the exact model, float64 (budgets,) each, from the start of the task.

    Attributes
    ----------
    optimum : of the exact model
    regret : optimum minus what the plan holds
    unseen, untried, rows : parts of the regret that are lost at states never logged, at states where an action was
        never tried, and to rows that are off
    optimism : what the plan promises beyond what it holds
    """

    optimum: Floats
    regret: Floats
    unseen: Floats
    untried: Floats
    rows: Floats
    optimism: Floats


def regret(exact: ExactModel, task: str, episodes: Sequence[Trajectory]) -> Regret:
    """Regret of the plan learned from episodes of one task."""
    best = selfreg.solve(exact.mdp, BUDGET)
    model = estimate_mdp(episodes, ExactKey())
    solution = selfreg.solve(model.mdp, BUDGET)
    policy, seen, tried = follow(exact, task, model, solution)
    held, told_unseen, told_untried = (
        policy_value(exact, np.where(own[:, None], policy, best.policy))[exact.start]
        for own in (np.ones_like(seen), seen, seen & tried)
    )
    optimum = best.value[exact.start]
    return Regret(
        optimum,
        optimum - held,
        told_unseen - held,
        told_untried - told_unseen,
        optimum - told_untried,
        model.success(solution) - held,
    )


def stacked(curves: Sequence[Regret]) -> Regret:
    """Regrets of several tasks in points, float64 (tasks, budgets) each."""
    return Regret(*(100 * np.array(one) for one in zip(*curves, strict=True)))


def main(arguments: Sequence[str] = ()) -> None:
    """Print regret, its parts and optimism by number of episodes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks household", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="6 tasks and up to 1,000 episodes of each")
    quick = parser.parse_args(arguments).quick
    tasks = household_tasks(6 if quick else TASKS, 0, seed=0)[0]
    sizes = [size for size in EPISODES if not quick or size <= 1000]
    begin = time.perf_counter()
    curves: dict[int, list[Regret]] = {size: [] for size in sizes}
    for task in tasks:
        episodes = list(collect(make_household, [task], CollectConfig(episodes_per_task=sizes[-1], workers=1)))
        exact = household.exact_model(task)
        for size in sizes:
            curves[size].append(regret(exact, task, episodes[:size]))
    table = {size: stacked(found) for size, found in curves.items()}
    optimum = table[sizes[0]].optimum.mean(axis=0) / 100
    print(f"Household, {len(tasks)} tasks, budgets 0..{BUDGET}; exact optimum on average {optimum.round(3).tolist()}")
    print("episodes of a task | regret in points, mean over tasks, by budget | worst task | optimism, likewise")
    for size, found in table.items():
        print(f"{size:18d} | {_row(found.regret)} | {found.regret.max():6.2f} | {_row(found.optimism)}")
    print("episodes of a task | lost at unseen states | where an action was never tried | to rows that are off")
    for size, found in table.items():
        print(f"{size:18d} | {_row(found.unseen)} | {_row(found.untried)} | {_row(found.rows)}")
    if TARGET_EPISODES in table:
        print_target(table[TARGET_EPISODES].regret)
    print(f"{time.perf_counter() - begin:.0f} s")


def _row(values: Floats) -> str:
    return " ".join(f"{x:6.2f}" for x in values.mean(axis=0))


def print_target(regrets: Floats) -> None:
    """Whether the mean regret, points (tasks, budgets), is within the target, with its interval over tasks."""
    b = int(regrets.mean(axis=0).argmax())
    worst = interval(regrets[:, b].mean(), regrets[bootstrap(len(regrets)), b].mean(axis=1))
    verdict = "met" if worst.mean <= TARGET else "missed"
    print(
        f"target: mean regret within {TARGET:g} point at {TARGET_EPISODES} episodes of a task: {verdict} "
        f"({worst.mean:.2f} [{worst.low:.2f}, {worst.high:.2f}] at budget {b}, the worst one)"
    )
