"""`python -m benchmarks household [--quick]`: how far a plan learned from episodes falls short of the exact optimum.

Every task of Household has a model of its own, estimated from episodes with random help, as in Phase I. Its plan is
followed in the exact model, going on alone at states that were never logged, and valued there without simulation:
regret is what is lost against the exact optimum, in points of success (hundredths), optimism what the plan promises
beyond what it holds.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

import selfreg
from selfreg.data import Trajectory
from selfreg.envs import CollectConfig, ExactModel, collect, household, household_tasks, make_household
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


def decisions(
    exact: ExactModel, task: str, model: EstimatedModel, solution: selfreg.Solution, budget: int = BUDGET
) -> npt.NDArray[np.int8]:
    """The plan as a table over the states of the exact model; alone where a state was never logged."""
    result = np.zeros((exact.mdp.n_states, budget + 1), np.int8)
    number = {name: exact.mdp.actions.index(name) for name in model.mdp.actions}
    renamed = np.array([number[name] for name in model.mdp.actions], np.int8)
    for i, key in enumerate(exact.keys):
        known = model.index.get((task, key))
        if known is not None:
            result[i] = renamed[solution.policy[known]]
    return result


def curve(task: str, episodes: Sequence[Trajectory], sizes: Sequence[int]) -> tuple[Floats, Floats, Floats]:
    """Regret and optimism by number of episodes and budget, float64 (sizes, budgets), and the optimum, (budgets,)."""
    exact = household.exact_model(task)
    optimum = selfreg.solve(exact.mdp, BUDGET).value[exact.start]
    regret, optimism = [], []
    for size in sizes:
        model = estimate_mdp(episodes[:size], ExactKey())
        solution = selfreg.solve(model.mdp, BUDGET)
        held = policy_value(exact, decisions(exact, task, model, solution))[exact.start]
        regret.append(optimum - held)
        optimism.append(model.success(solution) - held)
    return np.array(regret), np.array(optimism), optimum


def main(arguments: Sequence[str] = ()) -> None:
    """Print regret and optimism by number of episodes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks household", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="6 tasks and up to 1,000 episodes of each")
    quick = parser.parse_args(arguments).quick
    tasks = household_tasks(6 if quick else TASKS, 0, seed=0)[0]
    sizes = [size for size in EPISODES if not quick or size <= 1000]
    begin = time.perf_counter()
    curves = []
    for task in tasks:
        config = CollectConfig(episodes_per_task=sizes[-1], workers=1)
        curves.append(curve(task, list(collect(make_household, [task], config)), sizes))
    regret, optimism = (100 * np.array([one[i] for one in curves]) for i in (0, 1))
    optimum = np.mean([one[2] for one in curves], axis=0)
    print(f"Household, {len(tasks)} tasks, budgets 0..{BUDGET}; exact optimum on average {optimum.round(3).tolist()}")
    print("episodes of a task | regret in points, mean over tasks, by budget | worst task | optimism, likewise")
    for i, size in enumerate(sizes):
        means = " ".join(f"{x:6.2f}" for x in regret[:, i].mean(axis=0))
        promised = " ".join(f"{x:6.2f}" for x in optimism[:, i].mean(axis=0))
        print(f"{size:18d} | {means} | {regret[:, i].max():6.2f} | {promised}")
    if TARGET_EPISODES in sizes:
        worst = regret[:, sizes.index(TARGET_EPISODES)].mean(axis=0).max()
        verdict = "met" if worst <= TARGET else "missed"
        print(f"target: mean regret within {TARGET:g} point at {TARGET_EPISODES} episodes: {verdict} ({worst:.2f})")
    print(f"{time.perf_counter() - begin:.0f} s")
