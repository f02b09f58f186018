"""Phase I into a log that survives being killed, and more episodes from chosen states."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from selfreg._util.extras import require_extra
from selfreg._util.files import check_settings, write_settings
from selfreg._util.locks import Lock, try_lock
from selfreg._util.parallel import ProcessExecutor, run_tasks
from selfreg._util.progress import progress
from selfreg.data import NOHELP, Step, Trajectory
from selfreg.decisions import BudgetLeft, Decision, DecisionPolicy, policy_name
from selfreg.envs.episode import continue_episode
from selfreg.envs.protocol import AssistedEnvironment
from selfreg.envs.rollouts import CollectConfig, RandomHelp, check_collection, episode_seed, run_chunk

with require_extra("logs", "selfreg.envs"):
    import msgspec

SETTINGS, EPISODES = "collection.json", "episodes.jsonl"
CHUNK = 8  # episodes that a worker runs before they are written


class Recurrence(NamedTuple):
    """How far states come back: what decides how well a model of exact states can be known.

    Attributes
    ----------
    episodes, steps, states : int
        So far; a state is a task with a key (its text where there is no key).
    once : int
        States visited in one step only.
    known : float
        Share of the steps of the last 100 episodes whose state an earlier episode had visited.
    """

    episodes: int
    steps: int
    states: int
    once: int
    known: float


class _Counter:
    def __init__(self) -> None:
        self.visits: Counter[tuple[str, str]] = Counter()
        self.recent: list[tuple[int, int]] = []
        self.episodes = 0

    def add(self, trajectory: Trajectory) -> None:
        states = _states(trajectory)
        self.recent = [*self.recent[-99:], (sum(state in self.visits for state in states), len(states))]
        self.visits.update(states)
        self.episodes += 1

    def read(self) -> Recurrence:
        once = sum(n == 1 for n in self.visits.values())
        known, steps = (sum(pair[i] for pair in self.recent) for i in (0, 1))
        return Recurrence(self.episodes, self.visits.total(), len(self.visits), once, known / max(steps, 1))


def collect_into(
    folder: str | os.PathLike[str],
    make_world: Callable[[], AssistedEnvironment],
    tasks: Sequence[str],
    config: CollectConfig,
    report: Callable[[Recurrence], None] | None = None,
    world: Mapping[str, Any] | None = None,
    policy: DecisionPolicy | None = None,
) -> Recurrence:
    """Run every task `config.episodes_per_task` times into a log, or go on where an earlier call was stopped.

    The log is only ever appended to, whole episodes at a time and in a fixed order: however often it was stopped, by
    whatever signal, it ends up the same to the byte as in one go. What a kill left half-written is cut off when the
    log is continued.

    Parameters
    ----------
    folder : path
        ``episodes.jsonl`` holds the trajectories (canonical JSONL), ``collection.json`` the settings.
    make_world : callable
        As for `collect`.
    tasks : sequence of str
        Names of the tasks, each once.
    config : CollectConfig
    report : callable, optional
        Called with the recurrence of states so far after each few episodes; on a terminal, progress is shown anyway.
    world : mapping, optional
        What `make_world` makes, such as `World.describe` gives: a log is not continued in another one. A log begun
        without it is taken for one of any world.
    policy : DecisionPolicy, optional
        Decides instead of chance, as for `collect`. A log is not continued with a policy of another name.

    Returns
    -------
    Recurrence
        Of the whole log.

    Raises
    ------
    ValueError
        If the folder's log was started with other tasks or settings (`workers` may change), in another `world` or with
        another policy, if a line of it cannot be read, or if another process is collecting into it.
    TypeError
        If the policy has no `decide`, or cannot be sent to another process.

    Examples
    --------
    >>> import tempfile
    >>> from selfreg.envs import CollectConfig, collect_into, make_household
    >>> config = CollectConfig(episodes_per_task=16, workers=1)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     first = collect_into(folder, make_household, ["household-place/3"], config)
    ...     again = collect_into(folder, make_household, ["household-place/3"], config)
    >>> first.episodes, again == first
    (16, True)
    """
    check_collection(tasks, config, policy)
    settings = {"tasks": list(tasks), **asdict(config)} | ({} if world is None else {"world": dict(world)})
    del settings["workers"]
    if policy is not None:
        del settings["rates"]
        settings["policy"] = policy_name(policy)
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    with open(path / EPISODES, "ab") as log:
        _require_alone(log, path)
        _check_settings(path / SETTINGS, json.loads(json.dumps(settings)), empty=log.tell() == 0)
        counter, done = _Counter(), set()
        for trajectory in _read_episodes(path / EPISODES, log):
            counter.add(trajectory)
            done.add(trajectory.episode)
        chunks = ((None, chunk) for chunk in _missing_chunks(tasks, config.episodes_per_task, done))
        running = run_tasks(ProcessExecutor(config.workers), run_chunk, (make_world, config, policy), chunks)
        total = len(tasks) * config.episodes_per_task
        with progress("collect", total, "episodes", len(done)) as advance, closing(running) as results:
            for _, episodes in results:
                for trajectory in episodes:
                    counter.add(trajectory)
                log.write(b"".join(msgspec.json.encode(trajectory) + b"\n" for trajectory in episodes))
                log.flush()
                os.fsync(log.fileno())
                now = counter.read()
                advance(len(episodes), f"{now.states} states, {now.known:.0%} known")
                if report is not None:
                    report(now)
    return counter.read()


def _check_settings(path: Path, settings: dict[str, Any], empty: bool) -> None:
    """Note the settings of a new log, or compare them with those of the log.

    Not `open_resumable`: the log is one file that grows, in a folder that may hold other files, and a log that is still
    empty may change its settings.
    """
    if empty:
        write_settings(path, settings)
    elif not path.exists():
        raise ValueError(f"{path.parent} has episodes but no {SETTINGS}; expected both or none")
    check_settings(path, settings, "collection", optional=("world",))


def _read_episodes(path: Path, log: Any) -> Iterator[Trajectory]:
    """Episodes of the log; a last line without its end is cut off."""
    decoder, end = msgspec.json.Decoder(Trajectory), 0
    with open(path, "rb") as stream:
        for number, line in enumerate(stream, 1):
            if not line.endswith(b"\n"):
                break
            try:
                yield decoder.decode(line)
            except msgspec.DecodeError as error:
                raise ValueError(f"{path}:{number}: {error}") from None
            end += len(line)
    log.truncate(end)


def _missing_chunks(tasks: Sequence[str], episodes: int, done: set[str]) -> Iterator[tuple[str, list[int]]]:
    """Tasks with the numbers of the episodes that are not done, a few at a time."""
    for task in tasks:
        left = [i for i in range(episodes) if f"{task}#{i}" not in done]
        yield from ((task, left[i : i + CHUNK]) for i in range(0, len(left), CHUNK))


def _require_alone(log: Any, path: Path) -> None:
    """Keep other processes out, where the file system has locks (they go with the process, however it ends)."""
    if try_lock(log.fileno()) is Lock.REFUSED:
        raise ValueError(f"another process is collecting into {path}; expected one at a time")


class Branch(NamedTuple):
    """A moment to start from: the state before `step` of an episode."""

    trajectory: Trajectory
    step: int


def low_count_states(trajectories: Sequence[Trajectory], help_types: Sequence[str], n: int) -> list[Branch]:
    """Choose the n states that most steps went through for the least that was tried there.

    They are ranked by visits / (1 + times that the least tried of going on alone and the help types was tried), each
    shown by the first moment that was in it; the first one where they are equal.
    """
    tries: Counter[tuple[tuple[str, str], str]] = Counter()
    first: dict[tuple[str, str], Branch] = {}
    visits: Counter[tuple[str, str]] = Counter()
    for trajectory in trajectories:
        if "branch_of" in trajectory.fields:
            continue  # its actions do not lead from the start of the task
        for i, (state, step) in enumerate(zip(_states(trajectory), trajectory.steps, strict=True)):
            first.setdefault(state, Branch(trajectory, i))
            tries[state, step.intervention or NOHELP] += 1
            visits[state] += 1
    worth = {state: visits[state] / (1 + min(tries[state, name] for name in (NOHELP, *help_types))) for state in first}
    return [first[state] for state in sorted(worth, key=lambda state: -worth[state])[:n]]


def branch_rollouts(
    world: AssistedEnvironment, branches: Iterable[Branch], episodes: int, rates: Sequence[float], seed: int = 0
) -> Iterator[Trajectory]:
    """Run episodes that start at chosen states, with help at random.

    The world comes to a state by the actions of the episode it is from. Rollouts hold the steps from there on;
    `fields` name the episode (`branch_of`) and step (`branch_step`) that they start from, besides what `collect`
    notes. They are for counts of transitions; as starts of the task they would mislead, and so do not belong among
    episodes whose start counts.

    Parameters
    ----------
    world : AssistedEnvironment
    branches : iterable of Branch
        Such as `low_count_states` chooses.
    episodes : int
        Rollouts from each.
    rates : sequence of float
        Chances of help, gone through in a cycle.
    seed : int

    Raises
    ------
    ValueError
        If there is no such step, recorded actions do not lead to the recorded state, or `rates` are not in [0, 1].
    """
    if not rates or not all(0 <= rate <= 1 for rate in rates):
        raise ValueError(f"rates is {tuple(rates)}; expected one or more chances in [0, 1]")
    for trajectory, step in branches:
        saved = _replayed(world, trajectory, step)
        for i in range(episodes):
            rate = rates[i % len(rates)]
            policy = RandomHelp(rate, list(world.interventions))
            yield _rollout(world, Branch(trajectory, step), saved, policy, "", i, seed, {"rate": rate})


class RolloutRequest(Protocol):
    """Rollouts to run from some moments, with the first action."""

    @property
    def moments(self) -> Sequence[tuple[Trajectory, int]]:
        """Moments of one abstract state; rollouts go through them in a cycle."""

    @property
    def action(self) -> str:
        """ "nohelp", or a help type."""

    @property
    def rollouts(self) -> int:
        """How many."""


def advised_rollouts(
    world: AssistedEnvironment, samples: Iterable[RolloutRequest], rate: float = 0.5, seed: int = 0
) -> Iterator[Trajectory]:
    """Run the rollouts that `selfreg.estimate.advise` proposes: its action first, then help at random.

    Parameters
    ----------
    world : AssistedEnvironment
    samples : iterable
        The `samples` of an `Advice`.
    rate : float
        Chance of help after the first step.
    seed : int

    Yields
    ------
    Trajectory
        As those of `branch_rollouts`; `first` in the fields is the first action.

    Raises
    ------
    ValueError
        If a moment cannot be replayed, the rate is not in [0, 1], or an action is an unknown help type.

    Examples
    --------
    >>> from selfreg.envs import CollectConfig, advised_rollouts, collect, make_household
    >>> from selfreg.estimate import ExactKey, advise
    >>> config = CollectConfig(episodes_per_task=40, workers=1)
    >>> logs = list(collect(make_household, ["household-moved/0", "household-moved/2"], config))
    >>> advice = advise(logs, ExactKey(), 2, rollouts=20, samples=5)
    >>> more = list(advised_rollouts(make_household(), advice.samples))
    >>> len(more), more[0].steps[0].key == advice.samples[0].key[1]
    (20, True)
    """
    if not 0 <= rate <= 1:
        raise ValueError(f"rate is {rate}; expected a chance in [0, 1]")
    for sample in samples:
        if sample.action not in (NOHELP, *world.interventions):
            raise ValueError(f"unknown help type {sample.action!r}; expected one of {list(world.interventions)}")
        policy = _FirstThen(sample.action, RandomHelp(rate, list(world.interventions)))
        saved = [_replayed(world, *moment) for moment in sample.moments[: sample.rollouts]]
        for i in range(sample.rollouts):
            branch, where = Branch(*sample.moments[i % len(saved)]), saved[i % len(saved)]
            noted: dict[str, Any] = {"rate": rate, "first": sample.action}
            yield _rollout(world, branch, where, policy, f":{sample.action}", i, seed, noted)


class _FirstThen:
    """One given action, then another policy."""

    name = "first, then random"

    def __init__(self, action: str, then: RandomHelp) -> None:
        self.action, self.then = action, then

    def start(self, task: str, seed: int) -> None:
        self.then.start(task, seed)

    def decide(self, steps: Sequence[Step], budget_left: BudgetLeft) -> Decision:
        return Decision(self.action) if len(steps) == 1 else self.then.decide(steps, budget_left)


def _rollout(
    world: AssistedEnvironment,
    branch: Branch,
    saved: Any,
    policy: DecisionPolicy,
    name: str,
    number: int,
    seed: int,
    noted: dict[str, Any],
) -> Trajectory:
    """One rollout from a moment, with `noted` and the moment in its fields."""
    trajectory, step = branch
    origin = f"{trajectory.episode}@{step}{name}"
    luck = episode_seed(seed, origin, number)
    world.resume(saved, luck, _last(trajectory, step))
    rollout = continue_episode(world, trajectory.task, luck, policy, None, f"{origin}#{number}").trajectory
    where = {"branch_of": trajectory.episode, "branch_step": step}
    return msgspec.structs.replace(rollout, fields={**rollout.fields, **noted, **where})


def _replayed(world: AssistedEnvironment, trajectory: Trajectory, step: int) -> Any:
    environment = world.environment
    if not 0 <= step < len(trajectory.steps):
        raise ValueError(f"episode {trajectory.episode!r} has {len(trajectory.steps)} steps; there is no step {step}")
    environment.reset(trajectory.task)
    names = list(environment.action_names)
    for before in trajectory.steps[:step]:
        for name in (before.action or "").split(", "):
            if name not in names or environment.done:
                raise ValueError(f"episode {trajectory.episode!r} cannot be replayed: action {name!r} does not fit")
            environment.step(names.index(name))
    if environment.done or world.key(_last(trajectory, step)) != trajectory.steps[step].key:
        raise ValueError(f"episode {trajectory.episode!r} does not lead to its state at step {step} in this world")
    return environment.save()


def _last(trajectory: Trajectory, step: int) -> str | None:
    """Who took the step before; None at the beginning."""
    return (trajectory.steps[step - 1].intervention or NOHELP) if step else None


def _states(trajectory: Trajectory) -> list[tuple[str, str]]:
    return [(trajectory.task, step.state if step.key is None else step.key) for step in trajectory.steps]
