"""Phase I: every task run many times, with help triggered at random at a swept rate."""

from __future__ import annotations

import os
import pickle
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field

import numpy as np

from selfreg._util import validate
from selfreg._util.extras import require_extra
from selfreg._util.parallel import ProcessExecutor, run_tasks
from selfreg._util.progress import progress
from selfreg.data import NOHELP, Step, Trajectory
from selfreg.decisions import BudgetLeft, Decision, DecisionPolicy, policy_name, start_episode
from selfreg.envs.episode import run_episode
from selfreg.envs.protocol import AssistedEnvironment

with require_extra("logs", "selfreg.envs"):
    import msgspec

_HELP_STREAM = 1  # separates chance in requests from chance in the base policy, which has the seed alone


@dataclass(frozen=True)
class CollectConfig:
    """How often each task is run, and how often help is triggered.

    Raises
    ------
    ValueError
        If a number is out of its range.
    """

    episodes_per_task: int = field(default=40, metadata={"help": "episodes of each task"})
    rates: tuple[float, ...] = field(
        default=(0.0, 0.1, 0.2, 0.3, 0.5, 0.75, 0.0, 1.0),
        metadata={"help": "chance of help in a decision step; episodes of a task go through them in a cycle"},
    )
    seed: int = field(default=0, metadata={"help": "seed of all chance in agent and help"})
    workers: int = field(default=os.cpu_count() or 1, metadata={"help": "processes; the result does not depend on it"})

    def __post_init__(self) -> None:
        for name in ("episodes_per_task", "workers"):
            validate.integer(f"CollectConfig.{name}", getattr(self, name), 1)
        validate.seed("CollectConfig.seed", self.seed)
        if not self.rates or not all(0 <= rate <= 1 for rate in self.rates):
            raise ValueError(f"CollectConfig.rates is {self.rates}; expected one or more chances in [0, 1]")


class RandomHelp:
    """Requests help with chance `rate` at every decision, each of `names` equally often.

    Parameters
    ----------
    rate : float
        In [0, 1].
    names : sequence of str
        Help types.

    Raises
    ------
    ValueError
        If `rate` is not in [0, 1], or is above 0 without a help type.

    Examples
    --------
    >>> from selfreg.data import Step
    >>> from selfreg.envs import RandomHelp
    >>> RandomHelp(0.3, ["help"]).action_probabilities([Step("a")], None)
    {'nohelp': 0.7, 'help': 0.3}
    """

    name = "random"

    def __init__(self, rate: float, names: Sequence[str]) -> None:
        self.rate = validate.probability("rate", rate)
        self.names = tuple(names)
        if rate and not self.names:
            raise ValueError(f"rate is {rate:g} without a help type; expected rate 0, or at least one help type")
        self._generator = np.random.default_rng(0)

    def start(self, task: str, seed: int) -> None:
        """Begin an episode."""
        self._generator = np.random.default_rng([seed, _HELP_STREAM])

    def decide(self, steps: Sequence[Step], budget_left: BudgetLeft) -> Decision:
        """Request help, or not; draws twice at every decision."""
        if not self.names:
            return Decision()
        luck, index = self._generator.random(), int(self._generator.integers(len(self.names)))
        action = self.names[index] if luck < self.rate else NOHELP
        return Decision(action, self.rate, budget_left=budget_left, reason=f"at random, with chance {self.rate:g}")

    def action_probabilities(self, steps: Sequence[Step], budget_left: BudgetLeft) -> Mapping[str, float]:
        """P(action) by name, the same in every state."""
        share = self.rate / max(len(self.names), 1)
        return {NOHELP: 1.0 - self.rate, **dict.fromkeys(self.names, share)}


class _Recorded:
    """A policy, with P(action) of every decision."""

    def __init__(self, policy: DecisionPolicy) -> None:
        self.policy, self.name = policy, policy_name(policy)
        self.chances: list[float] = []

    def start(self, task: str, seed: int) -> None:
        self.chances = []
        start_episode(self.policy, task, seed)

    def decide(self, steps: Sequence[Step], budget_left: BudgetLeft) -> Decision:
        # Not `decisions.action_probabilities`: without probabilities it decides, and a policy may remember decisions.
        of_actions = getattr(self.policy, "action_probabilities", None)
        chances = None if of_actions is None else of_actions(steps, budget_left)
        decision = self.policy.decide(steps, budget_left)
        chance = 1.0 if chances is None else float(chances.get(decision.action, 0.0))
        if not 0.0 < chance <= 1.0:
            raise ValueError(
                f"policy {self.name!r} decided {decision.action!r} and gives it the probability {chance:g}; expected a"
                " number in (0, 1]"
            )
        self.chances.append(chance)
        return decision


def collect(
    make_world: Callable[[], AssistedEnvironment],
    tasks: Sequence[str],
    config: CollectConfig,
    policy: DecisionPolicy | None = None,
) -> Iterator[Trajectory]:
    """Run every task `config.episodes_per_task` times, with unlimited help at random moments or as a policy decides.

    Parameters
    ----------
    make_world : callable
        Builds the world; picklable where there is more than one worker, such as ``partial(make_babyai, config)``.
        Workers are spawned, so a script needs its ``if __name__ == "__main__":``.
    tasks : sequence of str
        Names of the tasks, each once.
    config : CollectConfig
        Episodes, rates, seed, workers.
    policy : DecisionPolicy, optional
        Decides instead of chance; `config.rates` are then not used. Picklable where there is more than one worker.

    Returns
    -------
    iterator of Trajectory
        Task by task; episode `i` of a task is called "TASK#i". `fields["rate"]` is the chance of help in each of its
        steps (the propensity, shared equally by the help types). Under a policy, `fields["propensity t"]` is P(action)
        of step t instead, which `selfreg.runtime.logged_propensity` reads: from the policy's `action_probabilities`
        where it has them, else 1. An episode depends on its task, its number and the seed alone, not on the number of
        workers or the other tasks.

    Raises
    ------
    ValueError
        If a task is listed twice, there are fewer episodes than rates, help is to be triggered in a world that offers
        none, or the policy requests an unknown help type or gives its own decision no probability.
    TypeError
        If the policy has no `decide`, or cannot be sent to another process.

    Examples
    --------
    >>> from functools import partial
    >>> from selfreg.envs import BabyAIConfig, CollectConfig, collect, make_babyai
    >>> config = CollectConfig(episodes_per_task=2, rates=(0.0, 1.0), workers=1)
    >>> episodes = list(collect(partial(make_babyai, BabyAIConfig()), ["BabyAI-UnlockPickup-v0/17"], config))
    >>> [(one.episode, one.fields["rate"], one.helped) for one in episodes]
    [('BabyAI-UnlockPickup-v0/17#0', 0.0, False), ('BabyAI-UnlockPickup-v0/17#1', 1.0, True)]

    A policy decides:

    >>> from selfreg.envs import make_household
    >>> from selfreg.evaluate import EveryN
    >>> config = CollectConfig(episodes_per_task=1, workers=1)
    >>> episode = next(collect(make_household, ["household-place/3"], config, EveryN("help", 2)))
    >>> [step.intervention for step in episode.steps[:4]], episode.fields["policy"], episode.fields["propensity 0"]
    ([None, 'help', None, 'help'], 'every-n', 1.0)
    """
    check_collection(tasks, config, policy)
    return _run_all(make_world, config, policy, tasks)


def check_tasks(tasks: Sequence[str]) -> None:
    """Raise ValueError where a task is listed twice."""
    for task, times in Counter(tasks).items():
        if times > 1:
            raise ValueError(f"tasks lists {task!r} more than once; expected each task once")


def check_collection(tasks: Sequence[str], config: CollectConfig, policy: DecisionPolicy | None) -> None:
    """Refuse tasks listed twice, fewer episodes than rates, and a policy that cannot decide or cannot be sent."""
    check_tasks(tasks)
    if policy is None:
        if config.episodes_per_task < len(config.rates):
            raise ValueError(
                f"CollectConfig.episodes_per_task is {config.episodes_per_task}; expected at least one episode for each"
                f" of the {len(config.rates)} rates"
            )
        return
    if not callable(getattr(policy, "decide", None)):
        raise TypeError(f"policy is {policy!r}; expected an object with decide()")
    if config.workers > 1:
        try:
            pickle.dumps(policy)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise TypeError(f"policy cannot be sent to {config.workers} workers: {error}") from error


def _run_all(
    make_world: Callable[[], AssistedEnvironment],
    config: CollectConfig,
    policy: DecisionPolicy | None,
    tasks: Sequence[str],
) -> Iterator[Trajectory]:
    chunks = ((None, (task, list(range(config.episodes_per_task)))) for task in tasks)
    running = run_tasks(ProcessExecutor(config.workers), run_chunk, (make_world, config, policy), chunks)
    with progress("collect", len(tasks), "tasks") as advance, closing(running) as results:
        for _, episodes in results:
            yield from episodes
            advance(1)


def run_chunk(
    settings: tuple[Callable[[], AssistedEnvironment], CollectConfig, DecisionPolicy | None],
    chunk: tuple[str, Sequence[int]],
) -> list[Trajectory]:
    """Run the episodes of a task that have these numbers, in a new world."""
    make_world, config, policy = settings
    task, numbers = chunk
    world = make_world()
    return [_run_one(world, config, policy, task, number) for number in numbers]


def _run_one(
    world: AssistedEnvironment, config: CollectConfig, policy: DecisionPolicy | None, task: str, index: int
) -> Trajectory:
    """Run episode number `index` of a task."""
    seed, name = episode_seed(config.seed, task, index), f"{task}#{index}"
    if policy is not None:
        recorded = _Recorded(policy)
        episode = run_episode(world, task, seed, recorded, None, name)
        noted = {f"propensity {t}": chance for t, chance in enumerate(recorded.chances)}
    else:
        rate = config.rates[index % len(config.rates)]
        episode = run_episode(world, task, seed, RandomHelp(rate, list(world.interventions)), None, name)
        noted = {"rate": rate}
    return msgspec.structs.replace(episode, fields={**episode.fields, **noted})


def episode_seed(seed: int, name: str, index: int) -> int:
    """Seed of one episode of a named series; other names and numbers give seeds that have nothing to do with it."""
    return int(np.random.SeedSequence([seed, zlib.crc32(name.encode()), index]).generate_state(1)[0])
