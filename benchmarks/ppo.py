"""`python -m benchmarks ppo [--quick]`: what it costs to learn when to ask, by reinforcement learning and by the plan.

PPO (stable-baselines3, extra `rl`) learns when to ask by trying, on the `HelpWrapper`: help is an action beside letting
the agent act, the budget left is part of the observation, the reward is the outcome. The pipeline collects episodes
with random help, estimates, solves, labels and trains a helper. Samples are decisions taken in the environment, seconds
those of the processor.

What favours PPO: it learns for the one budget that is tested, while one helper serves them all; it draws from 1,000
tasks where the pipeline has few; it may use up the budget, whatever the helper spends; of all its checks on validation
tasks the first that comes up to the helper's success counts; and the time that these checks take does not.
"""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import torch

import selfreg
from selfreg._util.text_features import hashed_words
from selfreg.data import NOHELP, Step
from selfreg.decisions import BudgetLeft, Decision, DecisionPolicy, budget_spent
from selfreg.envs import (
    AssistedEnvironment,
    BabyAIConfig,
    CollectConfig,
    collect,
    household_tasks,
    make_babyai,
    make_household,
    split_tasks,
)
from selfreg.estimate import ExactKey, estimate_mdp
from selfreg.evaluate import Always, ComparedPolicy, Never, compare, run_closed_loop
from selfreg.evaluate.closed_loop import Row
from selfreg.helper import HelperConfig, label, train_helper
from selfreg.integrations.gymnasium import HelpWrapper, WorldEnv

LEVEL = "BabyAI-UnlockPickup-v0"
HELP, FORM = "help", "words"
FEATURES = 2048
PPO_TASKS = 1000
ENVIRONMENTS, STEPS, BATCH = 8, 128, 256  # samples of an update: 8 * 128


class Sizes(NamedTuple):
    """How much of everything.

    Attributes
    ----------
    tasks, episodes : int
        The most training tasks of the pipeline, and episodes of each.
    validation, test : int
        Tasks; two episodes of each.
    cap : int
        Samples after which PPO is given up.
    every : int
        Samples between its checks.
    seeds : int
        Trainings of PPO.
    """

    tasks: int
    episodes: int
    validation: int
    test: int
    cap: int
    every: int
    seeds: int


FULL = Sizes(10_000, 10_000, 100, 300, 153_600, 5_120, 2)
QUICK = Sizes(24, 24, 30, 60, 16_384, 4_096, 1)


class Setting(NamedTuple):
    """A world, its budget, training tasks and episodes of each as in `python -m benchmarks evaluation`.

    `draw(n)` gives the names of n different tasks.
    """

    name: str
    budget: int
    tasks: int
    episodes: int
    make_world: Callable[[], AssistedEnvironment]
    draw: Callable[[int], list[str]]


class Tasks(NamedTuple):
    """Tasks that share none."""

    pipeline: list[str]
    ppo: list[str]
    validation: list[str]
    test: list[str]


class Learned(NamedTuple):
    """A policy, the samples and seconds of processor time that it took, and whether it came up to the helper."""

    policy: DecisionPolicy
    samples: int
    seconds: float
    reached: bool
    checks: list[float]


def settings() -> list[Setting]:
    """Household where somebody moved the thing (elsewhere help has less to win), and a BabyAI level."""
    config = BabyAIConfig(level=LEVEL)
    return [
        Setting("household-moved", 2, 400, 120, make_household, lambda n: household_tasks(n, 0, 7, ["moved"])[0]),
        Setting(LEVEL, 3, 200, 40, partial(make_babyai, config), lambda n: split_tasks(config, n, 0, 7)[0]),
    ]


def draw(setting: Setting, sizes: Sizes) -> Tasks:
    """Tasks for every purpose."""
    numbers = min(setting.tasks, sizes.tasks), PPO_TASKS, sizes.validation, sizes.test
    names, ends = setting.draw(sum(numbers)), np.cumsum(numbers).tolist()
    return Tasks(*(names[end - n : end] for n, end in zip(numbers, ends, strict=True)))


def pipeline(setting: Setting, tasks: Sequence[str], episodes: int, config: HelperConfig | None = None) -> Learned:
    """Collect, estimate, solve, label, train a helper."""
    begin = time.process_time()
    collection = CollectConfig(episodes_per_task=episodes, workers=1)
    trajectories = list(collect(setting.make_world, tasks, collection))
    model = estimate_mdp(trajectories, ExactKey())
    labels = label(trajectories, model, selfreg.solve(model.mdp, setting.budget))
    helper = replace(train_helper(labels, config or HelperConfig(form=FORM, history=0)), memory=None)
    seconds = time.process_time() - begin
    return Learned(helper, sum(len(one.steps) for one in trajectories), seconds, True, [])


class WithinBudget(gymnasium.ActionWrapper):  # type: ignore[misc]
    """A request that the budget cannot pay lets the agent act, as in every other comparison."""

    def action(self, action: Any) -> int:
        """0 where help cannot be paid."""
        return int(action) if self.env.action_mask()[int(action)] else 0


class PPOPolicy:
    """Follows a trained PPO model: its most probable action."""

    name = "PPO"

    def __init__(self, model: Any, budget: int) -> None:
        self.model, self.budget = model, budget

    def decide(self, steps: Sequence[Step], budget_left: BudgetLeft) -> Decision:
        """The help type, where the model requests it and there is budget."""
        if budget_spent(budget_left):
            return Decision()
        state = np.zeros(FEATURES, np.float32)
        state[hashed_words(steps[-1].state or "", FEATURES)] = 1.0
        left = np.array(self.budget if budget_left is None else budget_left[0])
        action, _ = self.model.predict({"state": state, "budget_left": left}, deterministic=True)
        return Decision(HELP if int(action) else NOHELP)


def learn(setting: Setting, tasks: Tasks, sizes: Sizes, target: float, seed: int) -> Learned:
    """Train PPO until its success on the validation tasks is `target`, or the samples are used up."""
    from stable_baselines3 import PPO
    from stable_baselines3.common.vec_env import DummyVecEnv

    def make() -> gymnasium.Env[Any, Any]:
        return WithinBudget(HelpWrapper(WorldEnv(setting.make_world(), tasks.ppo, FEATURES), setting.budget, True))

    environments = DummyVecEnv([make] * ENVIRONMENTS)
    environments.seed(seed)
    model = PPO(
        "MultiInputPolicy",
        environments,
        n_steps=STEPS,
        batch_size=BATCH,
        gamma=1.0,  # the value is the chance of success, as in the plan
        ent_coef=0.01,
        seed=seed,
        device="cpu",
    )
    policy = PPOPolicy(model, setting.budget)
    seconds = 0.0
    checks: list[float] = []
    while model.num_timesteps < sizes.cap and not (checks and checks[-1] >= target):
        begin = time.process_time()
        model.learn(min(sizes.every, sizes.cap - model.num_timesteps), reset_num_timesteps=False)
        seconds += time.process_time() - begin
        checks.append(success(run(setting, [ComparedPolicy("PPO", setting.budget, policy)], tasks.validation)))
    return Learned(policy, model.num_timesteps, seconds, checks[-1] >= target, checks)


def run(setting: Setting, policies: Sequence[ComparedPolicy], tasks: Sequence[str]) -> list[Row]:
    """Two episodes of each task with each policy, on the same luck."""
    return run_closed_loop(setting.make_world, lambda: policies, tasks, workers=1)


def success(rows: Sequence[Row]) -> float:
    """Mean success."""
    return float(np.mean([row.success for row in rows]))


def compare_on(setting: Setting, sizes: Sizes) -> None:
    """Print what both took on one setting, and how both do on the test tasks."""
    tasks, b = draw(setting, sizes), setting.budget
    ours = pipeline(setting, tasks.pipeline, min(setting.episodes, sizes.episodes))
    target = success(run(setting, [ComparedPolicy("helper", b, ours.policy)], tasks.validation))
    print(f"\n{setting.name}, budget {b}, {sizes.test} test tasks x 2; helper on validation tasks {target:.3f}")
    many = f"{len(tasks.pipeline)} tasks x {min(setting.episodes, sizes.episodes)} episodes"
    print(f"helper: {ours.samples} samples ({many}), {ours.seconds:.0f} s", flush=True)
    alone = [ComparedPolicy("never", 0, Never()), ComparedPolicy("always", None, Always(HELP))]
    common = run(setting, [*alone, ComparedPolicy("helper", b, ours.policy)], tasks.test)
    for seed in range(sizes.seeds):
        rival = learn(setting, tasks, sizes, target, seed)
        more = "" if rival.reached else "> "
        times = rival.samples / ours.samples, rival.seconds / ours.seconds
        curve = " ".join(f"{x:.2f}" for x in rival.checks[:: max(1, len(rival.checks) // 12)])
        print(f"PPO, seed {seed}: {more}{rival.samples} samples, {more}{rival.seconds:.0f} s", end="")
        print(f" ({more}{times[0]:.1f} times the samples, {more}{times[1]:.1f} times the seconds)")
        print(f"  validation success by samples: {curve}; best {max(rival.checks):.2f}")
        report([*common, *run(setting, [ComparedPolicy("PPO", b, rival.policy)], tasks.test)], first=seed == 0)


def report(rows: Sequence[Row], first: bool) -> None:
    """Print what was done on the test tasks."""
    comparison = compare(rows, families=())
    for one in comparison.outcomes:
        if first or one.policy == "PPO":
            value, used = one.success, one.help
            told = f"success {value.mean:.3f} [{value.low:.3f}, {value.high:.3f}], help used {used.mean:.2f}"
            print(f"  {one.policy}: {told}")
    for gap in comparison.differences:
        print(f"  helper minus {gap.other}: {gap.difference.mean:+.3f}", end=" ")
        print(f"[{gap.difference.low:+.3f}, {gap.difference.high:+.3f}], paired by task", flush=True)


def main(argv: Sequence[str] | None = None) -> None:
    """Print both settings."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks ppo", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small numbers: shows that it runs, not who wins")
    parser.add_argument("--tasks", type=int, help="the most training tasks of the pipeline")
    parser.add_argument("--episodes", type=int, help="the most episodes of each of them")
    parser.add_argument("--only", choices=[one.name for one in settings()], help="one setting")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    logging.getLogger("transformers").setLevel(logging.ERROR)
    sizes, begin = QUICK if args.quick else FULL, time.perf_counter()
    sizes = sizes._replace(tasks=args.tasks or sizes.tasks, episodes=args.episodes or sizes.episodes)
    print(f"PPO: {PPO_TASKS} training tasks, at most {sizes.cap} samples")
    for setting in settings():
        if args.only in (None, setting.name):
            compare_on(setting, sizes)
    print(f"\n{time.perf_counter() - begin:.0f} s")
