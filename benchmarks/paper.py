"""`python -m benchmarks evaluation --paper [--quick]`: the method of arXiv 2502.04576 as a whole, beside its baselines.

One run a setting: Phase I with random rates; a causal language model that is trained here on the texts of Phase I; a
PRM that is this model with a head; the reward search to a usage C in the model of the training tasks; a helper that is
the causal model again, tuned to write the searched policy's decision (SFT); and PPO (stable-baselines3, extra `rl`)
under several prices of help. The method's own reward search and its threshold are computed offline, so that only Phase
I takes interventions; PPO takes them in every training. All policies run without a limit on the same test tasks with
the same luck; random, PRM threshold and PPO are families, shown at the helper's mean usage.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import torch

import selfreg
from benchmarks.ppo import BATCH, ENVIRONMENTS, FEATURES, HELP, STEPS
from selfreg._util.files import atomic_folder
from selfreg._util.text_features import hashed_words
from selfreg.data import NOHELP, Step, Trajectory
from selfreg.decisions import BudgetLeft, Decision, DecisionPolicy
from selfreg.envs import CollectConfig, RandomHelp, World, collect
from selfreg.envs.phase_one import VALIDATION_SEED
from selfreg.estimate import EstimatedModel, ExactKey, estimate_mdp
from selfreg.evaluate import Always, ComparedPolicy, Never, Row, compare, read_rows, run_closed_loop
from selfreg.evaluate.closed_loop import write_rows
from selfreg.evaluate.comparison import Comparison
from selfreg.evaluate.policies import RATES
from selfreg.evaluate.policy_comparison import score_quantiles
from selfreg.helper import Helper, HelperConfig, HelperExamples, train_helper
from selfreg.helper.models.transformer import DecisionWriter
from selfreg.planning.frontiers import RewardSearch
from selfreg.planning.penalized import solve_penalized
from selfreg.prm import PRM, PRMConfig, train_prm
from selfreg.prm.threshold import ThresholdPolicy
from selfreg.prm.training import shuffle_by_length

FIGURES, ROWS = "figures.json", "rows.parquet"
FAMILIES = ("random", "PRM threshold", "PPO")
KAPPA = 0.1
# Of the causal model: width, layers, tokens of a text, texts of an update, and rates of both trainings.
WIDTH, LAYERS, TOKENS, TEXTS, RATE, TUNING_RATE = 64, 2, 192, 32, 2e-3, 1e-3
# Prices of help that PPO is trained with, in units of the price that the reward search found.
PRICES = (0.5, 1.0, 2.0)
UNLIMITED = 100  # more requests than any episode has steps


class Setting(NamedTuple):
    """A world, and the usage C that the reward search is to meet."""

    world: World
    usage: int


class Size(NamedTuple):
    """How much of everything.

    Attributes
    ----------
    tasks, episodes : int
        Of Phase I: training tasks, and episodes of each.
    test_tasks : int
    updates, epochs : int
        Of the language model; of PRM and helper, at most.
    samples : int
        Decisions of each training of PPO.
    """

    tasks: int
    episodes: int
    test_tasks: int
    updates: int
    epochs: int
    samples: int


SETTINGS = {
    "household-moved": Setting(World("household", "moved"), 2),
    "unlock-pickup": Setting(World("babyai", "BabyAI-UnlockPickup-v0", {"help_steps": 2}), 2),
}
FULL, QUICK = Size(150, 40, 200, 300, 4, 20_480), Size(12, 16, 12, 20, 1, 2_048)


class Method(NamedTuple):
    """What the pipeline learned; `usage` is the helper's in the model of its validation tasks."""

    prm: PRM
    helper: Helper
    usage: float
    trajectories: list[Trajectory]
    search: RewardSearch


def train_language_model(texts: Sequence[str], folder: Path, updates: int, seed: int) -> float:
    """Train a small causal model on `texts`, token by token, save it, and return its last loss."""
    config = HelperConfig(form="sft", hidden_size=WIDTH, layers=LAYERS, max_tokens=TOKENS, seed=seed)
    writer = DecisionWriter.create([], list(texts), config)
    encoded, model = writer._encode(texts, None), writer._model
    batches = shuffle_by_length(np.array([len(ids) for ids, _ in encoded]), TEXTS, seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=updates + 1)
    model.train()
    for _ in range(updates):
        inputs = writer._tokens.batch([encoded[i] for i in next(batches)], model.device)
        labels = inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, -100)
        loss = model(**inputs, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    model.eval()
    writer.save(folder, {"schema": "selfreg.benchmark/1"})
    return float(loss.item())


def learn(setting: Setting, tasks: Sequence[str], size: Size, folder: Path, seed: int) -> Method:
    """Phase I, language model, PRM, reward search and helper."""
    config = CollectConfig(episodes_per_task=size.episodes, seed=seed, workers=1)
    trajectories = list(collect(setting.world.make, tasks, config))
    texts = list(dict.fromkeys(step.state for one in trajectories for step in one.steps))
    train_language_model(texts, folder / "lm", size.updates, seed)
    tuning: dict[str, Any] = {"model": str(folder / "lm"), "learning_rate": TUNING_RATE, "max_tokens": TOKENS}
    tuning |= {"history": 0, "seed": seed, "epochs": size.epochs}
    prm = train_prm(trajectories, PRMConfig(**tuning))
    model = estimate_mdp(trajectories, ExactKey(), kappa=KAPPA, prm=prm)
    search = selfreg.reward_search(model.mdp, model.start, setting.usage)
    helper = train_helper(searched_examples(trajectories, model, search), HelperConfig(form="sft", **tuning))
    return Method(prm, *meet_usage(helper, trajectories, model, setting.usage), trajectories, search)


def searched_examples(
    trajectories: Sequence[Trajectory], model: EstimatedModel, search: RewardSearch
) -> HelperExamples:
    """Decisions of the searched policies at all visits where both choices were tried.

    A visit weighs by what the better decision gains at the searched price, times the policy's share in the mixture. All
    of it is at budget 1: there is no limit, and so no budget that the helper could spend.
    """
    mdp, mixture = model.mdp, search.mixture
    value = solve_penalized(mdp, mixture.penalties).value
    gains = mdp.transitions[HELP] @ value - mixture.penalties - mdp.transitions[NOHELP] @ value
    tried = np.minimum(model.counts.visits[NOHELP], model.counts.visits[HELP])
    rows: list[tuple[str, str, int, float, float]] = []
    for trajectory in trajectories:
        for t, step in enumerate(trajectory.steps):
            state = model.state(trajectory, t)
            if state is not None and tried[state]:
                for k, share in enumerate(mixture.weights):
                    decision, gain = int(mixture.policies[k, state]), float(share * abs(gains[state, k]))
                    rows.append((step.state, trajectory.task, decision, gain, float(tried[state])))
    texts, names, decisions, weights, support = zip(*rows, strict=True)
    return HelperExamples(
        list(texts),
        np.ones((len(rows), 1), np.int64),
        np.array(decisions),
        np.array(weights),
        list(names),
        (NOHELP, HELP),
        np.array(support),
    )


def meet_usage(
    helper: Helper, trajectories: Sequence[Trajectory], model: EstimatedModel, usage: float
) -> tuple[Helper, float]:
    """The helper with the threshold on P(request) whose usage in the model of its validation tasks is next to `usage`.

    Nothing is run: the model says what every threshold spends.
    """
    texts = {model.state(one, t): step.state for one in trajectories for t, step in enumerate(one.steps)}
    states = np.array([state for state in texts if state is not None])
    shown = [texts[state] for state in states.tolist()]
    chance = helper.request_probabilities(shown, np.ones((len(shown), 1), np.int64))[:, 1]
    held_out = set(helper.split["validation"])
    start = model.start * [*(key[0] in held_out for key in model.counts.keys), False, False]
    available = model.mdp.available(HELP)[states]

    def spent(threshold: float) -> float:
        policy = np.zeros(model.mdp.n_states, np.int8)
        policy[states] = (chance > threshold) & available
        return float(np.sum(selfreg.evaluate_policy(model.mdp, policy, start=start / start.sum()).usage))

    grid = np.unique(np.quantile(chance, np.linspace(0.0, 1.0, 41)))
    found = np.array([spent(float(threshold)) for threshold in grid])
    best = int(np.argmin(np.abs(found - usage)))
    return replace(helper, thresholds=(1.0, float(grid[best]))), float(found[best])


class PricedHelp(gymnasium.Wrapper):  # type: ignore[misc]
    """The reward is the outcome less the price of every request; the observation is the state alone."""

    def __init__(self, env: Any, price: float) -> None:
        super().__init__(env)
        self.price, self.requests = price, 0
        self.observation_space = env.observation_space["state"]

    def reset(self, **options: Any) -> Any:
        """Begin an episode."""
        observation, info = self.env.reset(**options)
        return observation["state"], info

    def step(self, action: Any) -> Any:
        """Act or request help, and pay."""
        observation, reward, *ends, info = self.env.step(action)
        self.requests += int(info["charge"] > 0)
        return observation["state"], reward - self.price * info["charge"], *ends, info


class Trained:
    """Follows a trained PPO model: its most probable action."""

    name = "PPO"

    def __init__(self, model: Any) -> None:
        self.model = model

    def decide(self, steps: Sequence[Step], budget_left: BudgetLeft) -> Decision:
        """The help type, where the model requests it."""
        state = np.zeros(FEATURES, np.float32)
        state[hashed_words(steps[-1].state, FEATURES)] = 1.0
        action, _ = self.model.predict(state, deterministic=True)
        return Decision(HELP if int(action) else NOHELP)


def train_ppo(setting: Setting, tasks: Sequence[str], samples: int, price: float, seed: int) -> tuple[Trained, int]:
    """PPO that pays `price` for a request, and the requests that its training took."""
    from stable_baselines3 import PPO
    from stable_baselines3.common.vec_env import DummyVecEnv

    from selfreg.integrations.gymnasium import HelpWrapper, WorldEnv

    envs = [
        PricedHelp(HelpWrapper(WorldEnv(setting.world.make(), list(tasks), FEATURES), UNLIMITED, True), price)
        for _ in range(ENVIRONMENTS)
    ]
    environments = DummyVecEnv([lambda env=env: env for env in envs])
    environments.seed(seed)
    how: dict[str, Any] = {"n_steps": STEPS, "batch_size": BATCH, "gamma": 1.0, "ent_coef": 0.01}
    model = PPO("MlpPolicy", environments, seed=seed, device="cpu", **how)
    model.learn(samples)
    return Trained(model), sum(env.requests for env in envs)


def compared(method: Method, usage: int, ppo: Sequence[tuple[float, DecisionPolicy]]) -> list[ComparedPolicy]:
    """Everyone who takes part, none with a limit."""
    scores: dict[str, float] = {}
    thresholds = score_quantiles(method.prm, method.trajectories)
    return [
        ComparedPolicy("never", 0, Never()),
        ComparedPolicy("always", None, Always(HELP)),
        *(ComparedPolicy("random", None, RandomHelp(rate, [HELP]), rate) for rate in RATES),
        *(
            ComparedPolicy("PRM threshold", None, ThresholdPolicy(method.prm, HELP, t, scores=scores), t)
            for t in thresholds
        ),
        *(ComparedPolicy("PPO", None, policy, price) for price, policy in ppo),
        ComparedPolicy("helper", None, method.helper),
    ]


def run_setting(name: str, size: Size, out: Path, seed: int) -> tuple[list[Row], dict[str, Any]]:
    """Run a setting unless its folder is there, and read its rows and figures.

    Raises
    ------
    ValueError
        If the folder holds a run of other sizes or another seed.
    """
    setting, folder = SETTINGS[name], out / name
    sizes = {**size._asdict(), "seed": seed, "usage": setting.usage}
    if not folder.exists():
        with atomic_folder(folder, FIGURES) as temporary:
            rows, figures = _run(setting, size, temporary, seed)
            write_rows(temporary / ROWS, rows)
            (temporary / FIGURES).write_text(json.dumps({"sizes": sizes, **figures}, indent=1) + "\n")
    figures = json.loads((folder / FIGURES).read_text())
    if figures["sizes"] != sizes:
        raise ValueError(f"{folder} holds a run of other sizes ({figures['sizes']}); choose another --out")
    return read_rows(folder / ROWS), figures


def _run(setting: Setting, size: Size, folder: Path, seed: int) -> tuple[list[Row], dict[str, Any]]:
    train, test = setting.world.tasks(size.tasks, size.test_tasks, seed)
    seconds: dict[str, float] = {}
    method = _timed(seconds, "method", lambda: learn(setting, train, size, folder, seed))
    more = setting.world.more_tasks(size.tasks, seed + VALIDATION_SEED, [*train, *test])
    price = max(method.search.penalty, 1e-3)
    trained = []
    for factor in PRICES:
        one = _timed(
            seconds,
            "PPO",
            lambda factor=factor: train_ppo(setting, [*train, *more], size.samples, factor * price, seed),  # type: ignore[misc]
        )
        trained.append((factor * price, *one))
    policies = compared(method, setting.usage, [(at, policy) for at, policy, _ in trained])
    rows = _timed(
        seconds,
        "evaluate",
        lambda: run_closed_loop(setting.world.make, lambda: policies, test, seed=seed + 2, workers=1),
    )
    logged = [step for one in method.trajectories for step in one.steps]
    requests = sum(step.intervention is not None for step in logged)
    figures = {
        "price": method.search.penalty,
        "planned": {"success": method.search.mixture.success, "usage": method.search.mixture.usage},
        "predicted_usage": method.usage,
        "training": {
            "helper": {"decisions": len(logged), "interventions": requests},
            "PPO": {"decisions": size.samples * len(PRICES), "interventions": sum(count for *_, count in trained)},
        },
        "seconds": seconds,
    }
    return [row._replace(budget=setting.usage) if row.policy == "helper" else row for row in rows], figures


def _timed(seconds: dict[str, float], name: str, run: Callable[[], Any]) -> Any:
    """What `run` returns; its processor time is added."""
    begin = time.process_time()
    result = run()
    seconds[name] = seconds.get(name, 0.0) + time.process_time() - begin
    return result


def print_setting(name: str, rows: Sequence[Row], figures: dict[str, Any]) -> None:
    """The table of a setting, in Markdown, and what it says of the helper against each baseline."""
    comparison, training = compare(rows, FAMILIES), figures["training"]
    asked, planned = figures["sizes"]["usage"], figures["planned"]
    print(f"\n== {name}: usage asked for {asked}, price of a request {figures['price']:.3f}; in the model success")
    print(
        f"{planned['success']:.3f} with {planned['usage']:.2f} requests; the helper's usage in the model of validation"
    )
    print(f"tasks {figures['predicted_usage']:.2f}; {len({row.task for row in rows})} test tasks\n")
    print("| policy | success | requests an episode | helper less it | decisions in training | interventions |")
    print(f"|{' --- |' * 6}")
    for cells in table_rows(comparison, training):
        print(f"| {' | '.join(cells)} |")
    ours, theirs = (training[one]["interventions"] for one in ("helper", "PPO"))
    print(f"\ninterventions in training: PPO {theirs / max(ours, 1):.2f} times the method's")
    for one in comparison.differences:
        print(f"{one.words} ({one.difference.mean:+.3f} [{one.difference.low:+.3f}, {one.difference.high:+.3f}])")
    told = ", ".join(f"{part} {value:.0f}" for part, value in figures["seconds"].items())
    print(f"processor seconds: {told}")


def table_rows(comparison: Comparison, training: dict[str, dict[str, int]]) -> list[list[str]]:
    """A row a policy; the PRM of the threshold learned from the method's log, at its cost in interventions."""
    order = ("never", "random", "PRM threshold", "PPO", "helper", "always")
    gaps = {one.other.removesuffix(" at equal cost"): one.difference for one in comparison.differences}
    rows = []
    for one in sorted(comparison.outcomes, key=lambda outcome: order.index(outcome.policy)):
        counts = training.get("helper" if one.policy == "PRM threshold" else one.policy, {})
        gap = gaps.get(one.policy)
        rows.append(
            [
                one.policy,
                "{:.3f} [{:.3f}, {:.3f}]".format(*one.success),
                "{:.2f} [{:.2f}, {:.2f}]".format(*one.help),
                "" if gap is None else "{:+.3f} [{:+.3f}, {:+.3f}]".format(*gap),
                *(f"{counts.get(count, 0):,}" for count in ("decisions", "interventions")),
            ]
        )
    return rows


def run_paper(quick: bool, out: Path | None, names: Sequence[str] | None, seed: int) -> None:
    """Run the settings that are missing, and print their tables."""
    unknown = [name for name in names or () if name not in SETTINGS]
    if unknown:
        raise SystemExit(f"--paper has no setting {unknown[0]!r}; expected some of {', '.join(SETTINGS)}")
    torch.set_num_threads(1)
    folder = out or Path("runs") / ("paper-quick" if quick else "paper")
    for name in names or (list(SETTINGS)[:1] if quick else SETTINGS):
        print_setting(name, *run_setting(name, QUICK if quick else FULL, folder, seed))
