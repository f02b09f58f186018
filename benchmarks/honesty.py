"""Intervals and pessimism where the truth is known: `python -m benchmarks honesty [--episodes 200 1000]`.

Random worlds of 4 steps and 6 kinds of state; every repeat draws a world and a log with help at random moments, two
episodes a task. Means over the repeats, with standard errors.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

import selfreg
from selfreg import InterventionMDP
from selfreg.data import Step, Trajectory
from selfreg.estimate import (
    Band,
    EstimatedModel,
    Features,
    Key,
    calibrated_l1,
    cross_fit,
    estimate_mdp,
    frontier_bands,
    uncertainty,
)
from selfreg.estimate.resample import Method
from selfreg.evaluate import Plan, fitted_propensity, ope
from selfreg.planning.robust import UncertaintySet

Floats = npt.NDArray[np.float64]

STEPS, KINDS, BUDGET = 4, 6, 3
FRONTIER = np.array([0.5, 1.0, 1.5, 2.0])
# Worlds from here on were not looked at when the intervals were made.
FIRST_SEED = 70_000
OPE_WORLDS = 5
PROPENSITIES = {"known": "rate", "frequencies": None, "classifier": "classifier"}
ROBUST: dict[str, UncertaintySet] = {
    "L1": selfreg.L1(confidence=0.9),
    "L1 joint": selfreg.L1(confidence=0.9, joint=True),
    "intervals": selfreg.Intervals(confidence=0.9),
}
FEATURES = Features(["step", "class"], {f"k{k}": f"^k{k}$" for k in range(KINDS)})


class World(NamedTuple):
    """State step * KINDS + kind; then success and failure."""

    mdp: selfreg.InterventionMDP
    start: Floats


def random_world(generator: np.random.Generator) -> World:
    """Rows with Dirichlet weights over kinds; the last step ends well more often in kinds of a high number."""
    n = STEPS * KINDS + 2
    matrices = {}
    for name, drift in (("nohelp", 0.0), ("help", 0.8)):
        matrices[name] = np.zeros((n, n))
        for s in range(n - 2):
            step, kind = divmod(s, KINDS)
            if step < STEPS - 1:
                likely = np.exp(-0.5 * (np.arange(KINDS) - kind - drift) ** 2)
                row = generator.dirichlet(2.0 * likely + 0.05)
                matrices[name][s, (step + 1) * KINDS : (step + 2) * KINDS] = row
            else:
                won = 1 / (1 + np.exp(-(kind - KINDS / 2 + drift + 0.5 * generator.standard_normal())))
                matrices[name][s, -2:] = won, 1 - won
    start = np.zeros(n)
    start[:KINDS] = generator.dirichlet(np.full(KINDS, 2.0))
    terminal = np.concatenate([np.full(n - 2, np.nan), [1.0, 0.0]])
    return World(selfreg.InterventionMDP(matrices, terminal, {"help": 1}), start)


def sample_log(
    world: World, episodes: int, generator: np.random.Generator, rates: Sequence[float] = (0.3, 0.0, 0.0)
) -> list[Trajectory]:
    """Episodes with help at random moments, at one of `rates` each in turn; two episodes a task."""
    dense = [world.mdp.transitions[name].toarray().cumsum(axis=1) for name in ("nohelp", "help")]
    first, result = world.start.cumsum(), []
    for i in range(episodes):
        rate, steps = rates[i % len(rates)], []
        s = int(np.searchsorted(first, generator.random() * first[-1]))
        while s < STEPS * KINDS:
            a = int(generator.random() < rate)
            steps.append(Step(f"k{s % KINDS}", intervention="help" if a else None))
            s = int(np.searchsorted(dense[a][s], generator.random() * dense[a][s][-1]))
        result.append(Trajectory(f"t{i // 2}", str(i), float(s == STEPS * KINDS), tuple(steps), fields={"rate": rate}))
    return result


def in_world(world: World, model: EstimatedModel, policy: npt.NDArray[np.int8]) -> npt.NDArray[np.int8]:
    """A plan over the states of the world; alone in states that it does not know."""
    known = np.zeros((world.mdp.n_states, *policy.shape[1:]), np.int8)
    for i, (step, kind) in enumerate(model.counts.keys):
        known[int(str(step)) * KINDS + int(str(kind)[1:])] = policy[i]
    return known


def attained(world: World, model: EstimatedModel, policy: npt.NDArray[np.int8]) -> tuple[Floats, Floats]:
    """True success and usage of a plan from the start, by budget."""
    table = selfreg.evaluate_policy(world.mdp, in_world(world, model, policy))
    return world.start @ table.success, world.start @ table.usage[..., 0]


def mixed(world: World, model: EstimatedModel, allowed: Floats) -> tuple[Floats, Floats]:
    """True success and usage of the frontier's mixtures under expected usages."""
    front, found = selfreg.frontier(model.mdp, model.start), np.zeros((2, len(allowed)))
    for k, point in enumerate(allowed):
        mixture = front.at(float(point))
        for weight, policy in zip(mixture.weights, mixture.policies, strict=True):
            one = selfreg.evaluate_policy(world.mdp, in_world(world, model, policy), world.start)
            found[:, k] += weight * np.array([one.success, one.usage[0]])
    return found[0], found[1]


def holds(band: Band, truth: Floats) -> Floats:
    return np.asarray((band.low - 1e-9 <= truth) & (truth <= band.high + 1e-9)).astype(float)


def one_repeat(episodes: int, samples: int, seed: int) -> dict[str, Floats]:
    """Figures of one world and log, by budget (frontier: by expected usage 0.5, 1, 1.5, 2)."""
    generator = np.random.default_rng([seed, episodes])
    world = random_world(generator)
    log = sample_log(world, episodes, generator)
    model = estimate_mdp(log, FEATURES)
    plan = selfreg.solve(model.mdp, BUDGET)
    kept, spent = attained(world, model, plan.policy)
    optimum = world.start @ selfreg.solve(world.mdp, BUDGET).value
    result = {"optimism": model.success(plan) - kept, "regret": optimum - kept}
    counted = estimate_mdp(log, FEATURES, shrink=False)
    before = selfreg.solve(counted.mdp, BUDGET)
    result["optimism, unshrunk rows"] = counted.success(before) - attained(world, counted, before.policy)[0]
    result["regret, unshrunk rows"] = optimum - attained(world, counted, before.policy)[0]
    result["regret less that of unshrunk rows"] = result["regret"] - result["regret, unshrunk rows"]
    if not samples:
        return result
    methods: tuple[Method, ...] = ("bootstrap", "dirichlet")
    for method in methods:
        bands = uncertainty(log, FEATURES, BUDGET, method=method, samples=samples, seed=seed)
        result[f"{method}: success in its interval"] = holds(bands.success, kept)
        result[f"{method}: usage in its interval"] = holds(bands.usage, spent)
        result[f"{method}: optimum in success's"] = holds(bands.success, optimum)
        result[f"{method}: width"] = bands.success.high - bands.success.low
        result[f"{method}: corrected less kept"] = bands.corrected - kept
    front = frontier_bands(log, FEATURES, FRONTIER.tolist(), samples=samples, seed=seed)
    success, usage = mixed(world, model, FRONTIER)
    result["frontier: success in its interval"] = holds(front.success, success)
    result["frontier: usage in its interval"] = holds(front.spent, usage)
    crossed = cross_fit(log, FEATURES, BUDGET, splits=5, seed=seed)
    result["cross-fitted less kept"] = crossed.crossed - kept
    calibrated = calibrated_l1(log, FEATURES, BUDGET, samples=samples, seed=seed).sets
    return result | against_robust(world, model, kept, {**ROBUST, "L1 calibrated": calibrated})


def against_robust(
    world: World, model: EstimatedModel, kept: Floats, chosen: Mapping[str, UncertaintySet]
) -> dict[str, Floats]:
    """What robust plans promise and attain."""
    result = {}
    for name, sets in chosen.items():
        robust = selfreg.solve(model.mdp, BUDGET, robust=sets)
        true = attained(world, model, robust.policy)[0]
        result[f"{name}: value is a lower bound"] = (model.success(robust) <= true + 1e-9).astype(float)
        result[f"{name}: attained less plain plan's"] = true - kept
        result[f"{name}: promised less attained"] = model.success(robust) - true
    return result


def plan_of(world: World, budget: int) -> tuple[Plan, Floats, Floats]:
    """The world's own plan, its success and its usage from the start by budget."""
    solution = selfreg.solve(world.mdp, budget)
    keys: list[Key] = [(s // KINDS, f"k{s % KINDS}") for s in range(world.mdp.n_states - 2)]
    usage = world.start @ selfreg.expected_usage(solution)[..., 0]
    plan = Plan(FEATURES, world.mdp.actions, keys, solution.policy[: len(keys)])
    return plan, world.start @ solution.value, usage


def ope_covers(
    episodes: int, seed: int, budget: int, propensity: str | None, world: int = 7, refits: int = 100
) -> dict[str, bool]:
    """Whether each estimator's intervals hold the truth of the world's own plan; logs ask by a fair coin."""
    made = random_world(np.random.default_rng(world))
    plan, success, usage = plan_of(made, budget)
    log = sample_log(made, episodes, np.random.default_rng([world + 1, seed]), rates=(0.5,))
    how = fitted_propensity(log, FEATURES) if propensity == "classifier" else propensity
    found = ope(log, plan, budget=budget, propensity=how, refits=refits, least_effective=0).estimates
    result = {name: one.success.low <= success[budget] <= one.success.high for name, one in found.items()}
    for name, (_, spent) in found.items():
        result[f"{name}, usage"] = spent is not None and spent.low <= usage[budget] <= spent.high
    return result


def show_ope(repeats: int, episodes: int, seed: int, chosen: Sequence[str]) -> None:
    """How often intervals of each estimator hold the truth; the model's do not depend on propensities."""
    worlds = f"{repeats} logs of {episodes} episodes in {OPE_WORLDS} worlds in turn"
    print(f"90% intervals hold the truth of success and usage, {worlds}")
    for how in chosen:
        propensity = PROPENSITIES[how]
        refits = 2 if propensity == "classifier" else 100  # of the model and of frequencies
        covered = [ope_covers(episodes, i, 2, propensity, seed + i % OPE_WORLDS, refits) for i in range(repeats)]
        print(f"propensities: {how}")
        for name in covered[0]:
            if not name.endswith(", usage") and (refits > 2 or name != "model-based"):
                shares = [np.mean([one[what] for one in covered]) for what in (name, f"{name}, usage")]
                print(f"  {name:28} {shares[0]:.3f}  {shares[1]:.3f}", flush=True)


class ByKey:
    """States by step and key, shared by tasks; the step is the coarser class."""

    def fit(self, trajectories: Iterable[Trajectory]) -> None:
        """Nothing to learn."""

    def encode(self, trajectory: Trajectory, step: int) -> Key:
        """(step, key)."""
        return (step, trajectory.steps[step].key)

    def coarser(self, key: Key) -> Key | None:
        """The step alone."""
        return None if key[1] is None else (key[0], None)

    def describe(self) -> dict[str, Any]:
        """Not kept."""
        return {}


def walks(steps: int, kinds: int, episodes: int) -> list[Trajectory]:
    """Random walks over kinds of state, help moving up faster; two episodes a task."""
    generator, result = np.random.default_rng(0), []
    for i in range(episodes):
        kind, taken = int(generator.integers(kinds)), []
        for _ in range(steps):
            helped = bool(generator.random() < 0.2)
            taken.append(Step("", key=str(kind), intervention="help" if helped else None))
            kind = min(kind + int(generator.integers(-2, 3)) + helped, kinds - 1) % kinds
        result.append(Trajectory(f"t{i // 2}", str(i), float(generator.random() < kind / kinds), tuple(taken)))
    return result


def cost(samples: int) -> None:
    """Seconds of `uncertainty` against one solve."""
    for name, steps, kinds, episodes in (("MINT size", 5, 30, 1172), ("20,000 states", 40, 500, 10_000)):
        log = walks(steps, kinds, episodes)
        model = estimate_mdp(log, ByKey())
        begin = time.perf_counter()
        for _ in range(5):
            selfreg.solve(InterventionMDP(model.mdp.transitions, model.mdp.terminal_value, model.mdp.costs), 5)
        once, begin = (time.perf_counter() - begin) / 5, time.perf_counter()
        uncertainty(log, ByKey(), 5, samples=samples)
        taken = time.perf_counter() - begin
        print(
            f"{name}: {model.mdp.n_states} states, {episodes} episodes, budgets 0..5: {samples} samples {taken:.1f} s, "
            f"one model made and solved {1000 * once:.2f} ms; a sample costs {taken / samples / once:.1f} times that",
            flush=True,
        )


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks honesty", description=__doc__)
    parser.add_argument("--episodes", type=int, nargs="+", default=[200, 1000, 5000])
    parser.add_argument("--repeats", type=int, default=100)
    parser.add_argument("--samples", type=int, default=200, help="of the intervals; 0: only optimism and regret")
    parser.add_argument("--ope", type=int, default=0, help="only off-policy evaluation, so many repeats")
    parser.add_argument("--propensities", nargs="+", choices=PROPENSITIES, default=list(PROPENSITIES), help="of --ope")
    parser.add_argument("--mint", type=Path, help="only MINT's logs: a folder with mint/mint_core.jsonl.gz")
    parser.add_argument("--seed", type=int, default=FIRST_SEED, help="of the first world")
    parser.add_argument("--cost", type=int, default=0, help="only the cost of so many samples against one solve")
    options = parser.parse_args(arguments)
    if options.cost:
        cost(options.cost)
        return
    if options.mint:
        from benchmarks.honesty_mint import show  # reads logs by way of benchmarks that need torch

        show(options.mint, options.samples)
        return
    if options.ope:
        show_ope(options.ope, 1000, options.seed, options.propensities)
        return
    for episodes in options.episodes:
        repeats = [one_repeat(episodes, options.samples, options.seed + seed) for seed in range(options.repeats)]
        print(f"\n{episodes} episodes, {options.repeats} repeats: mean by budget 0..{BUDGET} (standard error)")
        for name in repeats[0]:
            values = np.stack([one[name] for one in repeats])
            error = values.std(axis=0, ddof=1) / np.sqrt(len(values))
            shown = "  ".join(f"{m:+.3f} ({e:.3f})" for m, e in zip(values.mean(axis=0), error, strict=True))
            print(f"{name:36} {shown}", flush=True)
