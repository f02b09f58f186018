"""Advised rollouts against uniform ones where the truth is known: `python -m benchmarks advise [--quick]`.

A first log, then rounds of rollouts from logged states: where `estimate.advise` says, or from states and with first
actions drawn evenly from those logged; after the first step both go on with help at random. Regret is what the plan
loses against the optimum, in points of success (hundredths), mean over budgets 1 to the largest; error is how far the
planned success is from what the plan attains. Means over worlds with 90% bootstrap intervals; differences are paired.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt

import selfreg
from benchmarks.honesty import BUDGET, FEATURES, KINDS, STEPS, World, attained, random_world, sample_log
from benchmarks.household import follow, policy_value
from selfreg.data import NOHELP, Scalar, Step, Trajectory
from selfreg.envs import CollectConfig, advised_rollouts, collect, household_tasks, make_household
from selfreg.envs.household import environment as household
from selfreg.estimate import ExactKey, StateAbstraction, advise, estimate_mdp
from selfreg.estimate.advice import Sample

Floats = npt.NDArray[np.float64]
Figures = tuple[float, float]

# A first log, what runs rollouts, and what is known of a log's plan.
Setting = tuple[
    list[Trajectory], Callable[[Sequence[Sample], np.random.Generator], list[Trajectory]], Callable[..., Figures]
]
STRATEGIES = ("value", "decision", "uniform")
FIGURES = ("regret", "error", "spread")
RATE, DRAWN = 0.5, 20
HOUSEHOLD_BUDGET = 3


def uniform(
    log: Sequence[Trajectory], abstraction: StateAbstraction, n: int, generator: np.random.Generator
) -> list[Sample]:
    """n rollouts from states drawn evenly from those logged, as many with help first as without."""
    moments: dict[object, list[tuple[Trajectory, int]]] = {}
    for trajectory in log:
        if "branch_of" not in trajectory.fields:
            for step in range(len(trajectory.steps)):
                moments.setdefault(abstraction.encode(trajectory, step), []).append((trajectory, step))
    groups = list(moments.values())
    drawn = [groups[i] for i in generator.integers(len(groups), size=n)]
    one = [group[int(generator.integers(len(group)))] for group in drawn]
    return [Sample((), (NOHELP, "help")[i % 2], 1, 0.0, (moment,)) for i, moment in enumerate(one)]


def in_world(world: World, samples: Sequence[Sample], generator: np.random.Generator) -> Iterator[Trajectory]:
    """Rollouts in a random world, as `advised_rollouts` makes them in an environment."""
    rows = [world.mdp.transitions[name].toarray().cumsum(axis=1) for name in (NOHELP, "help")]
    for sample in samples:
        for i in range(sample.rollouts):
            origin, step = sample.moments[i % len(sample.moments)]
            s = step * KINDS + int(origin.steps[step].state[1:])
            steps: list[Step] = []
            while s < STEPS * KINDS:
                a = int(sample.action != NOHELP) if not steps else int(generator.random() < RATE)
                steps.append(Step(f"k{s % KINDS}", intervention="help" if a else None))
                s = int(np.searchsorted(rows[a][s], generator.random() * rows[a][s][-1]))
            fields: dict[str, Scalar] = {"branch_of": origin.episode, "branch_step": step}
            name = f"{origin.episode}@{step}:{generator.integers(1 << 60)}"
            yield Trajectory(origin.task, name, float(s == STEPS * KINDS), tuple(steps), fields=fields)


def random_setting(
    seed: int, first: int
) -> tuple[list[Trajectory], Callable[..., list[Trajectory]], Callable[..., Figures]]:
    """A random world: its first log, what runs rollouts, and regret and error of the plan of a log."""
    generator = np.random.default_rng([seed, 99])
    world = random_world(generator)
    optimum = world.start @ selfreg.solve(world.mdp, BUDGET).value

    def figures(log: Sequence[Trajectory]) -> Figures:
        model = estimate_mdp(log, FEATURES)
        plan = selfreg.solve(model.mdp, BUDGET)
        kept = attained(world, model, plan.policy)[0]
        error = np.abs(model.success(plan) - kept)[1:]
        return float(np.mean((optimum - kept)[1:])), float(error.mean())

    def run(samples: Sequence[Sample], chance: np.random.Generator) -> list[Trajectory]:
        return list(in_world(world, samples, chance))

    return sample_log(world, first, generator), run, figures


def household_setting(tasks: Sequence[str], first: int, seed: int) -> Setting:
    """Some tasks of Household, a model each, and their exact truth."""
    exact = {task: household.exact_model(task) for task in tasks}
    optimum = {task: selfreg.solve(one.mdp, HOUSEHOLD_BUDGET).value[one.start] for task, one in exact.items()}
    log = list(collect(make_household, tasks, CollectConfig(episodes_per_task=first, workers=1, seed=seed)))
    world = make_household()

    def figures(log: Sequence[Trajectory]) -> Figures:
        regret, error = [], []
        for task in tasks:
            model = estimate_mdp([one for one in log if one.task == task], ExactKey())
            plan = selfreg.solve(model.mdp, HOUSEHOLD_BUDGET)
            table = follow(exact[task], task, model, plan, HOUSEHOLD_BUDGET).policy
            kept = policy_value(exact[task], table)[exact[task].start]
            regret.append(np.mean((optimum[task] - kept)[1:]))
            error.append(np.mean(np.abs(model.success(plan) - kept)[1:]))
        return float(np.mean(regret)), float(np.mean(error))

    def run(samples: Sequence[Sample], chance: np.random.Generator) -> list[Trajectory]:
        return list(advised_rollouts(world, samples, RATE, seed=int(chance.integers(1 << 30))))

    return log, run, figures


def curves(
    setting: Setting,
    abstraction: StateAbstraction,
    budget: int,
    rollouts: int,
    rounds: int,
    seed: int,
) -> Floats:
    """Regret, error and spread by strategy and round, float64 (strategies, rounds + 1, figures)."""
    log, run, figures = setting
    result = []
    for number, strategy in enumerate(STRATEGIES):
        generator, grown, line = np.random.default_rng([seed, number]), list(log), []
        for k in range(rounds + 1):
            value = advise(grown, abstraction, budget, rollouts=rollouts, rate=RATE, samples=DRAWN, seed=k)
            line.append([*figures(grown), value.before])
            if strategy == "uniform":
                samples = uniform(grown, abstraction, rollouts, generator)
            elif strategy == "value":
                samples = list(value.samples)
            else:
                advice = advise(
                    grown, abstraction, budget, rollouts=rollouts, aim="decision", rate=RATE, samples=DRAWN, seed=k
                )
                samples = list(advice.samples)
            if k < rounds:
                grown += run(samples, generator)
        result.append(line)
    return np.array(result)


def show(title: str, found: Floats, rollouts: int) -> None:
    """A row a round: means with 90% bootstrap intervals over worlds, in points."""
    print(f"\n{title}: {len(found)} worlds, points of success (90% interval)")
    generator = np.random.default_rng(0)
    drawn = generator.integers(len(found), size=(2000, len(found)))

    def cell(values: Floats) -> str:
        low, high = np.quantile(values[drawn].mean(axis=1), [0.05, 0.95])
        return f"{values.mean():6.2f} [{low:+.2f}, {high:+.2f}]"

    for what, name in enumerate(FIGURES):
        print(f"{name}\nrollouts | {' | '.join(STRATEGIES)} | value less uniform | decision less uniform")
        for k in range(found.shape[2]):
            value, decision, even = (100 * found[:, i, k, what] for i in range(len(STRATEGIES)))
            cells = map(cell, (value, decision, even, value - even, decision - even))
            print(f"{k * rollouts:8d} | " + " | ".join(cells), flush=True)


def main(arguments: Sequence[str] = ()) -> None:
    """Print regret curves of random worlds and of Household."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks advise", description=__doc__)
    parser.add_argument("--worlds", type=int, default=100, help="random worlds")
    parser.add_argument("--tasks", type=int, default=24, help="tasks of Household, in groups of 2")
    parser.add_argument("--quick", action="store_true", help="20 worlds and 8 tasks")
    options = parser.parse_args(arguments)
    worlds, tasks = (20, 8) if options.quick else (options.worlds, options.tasks)
    if worlds:
        made = [
            curves(random_setting(seed, 200), FEATURES, BUDGET, 100, 4, seed) for seed in range(20_000, 20_000 + worlds)
        ]
        show("Random worlds, 200 episodes first", np.array(made), 100)
    names = household_tasks(tasks, 0, seed=3)[0]
    groups = [names[i : i + 2] for i in range(0, len(names), 2)]
    make = partial(household_setting, first=100, seed=0)
    if groups:
        lines = [curves(make(group), ExactKey(), HOUSEHOLD_BUDGET, 200, 3, i) for i, group in enumerate(groups)]
        show("Household, groups of 2 tasks, 100 episodes of each first", np.array(lines), 200)
