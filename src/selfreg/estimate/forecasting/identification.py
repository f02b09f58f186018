"""What in a log identifies the effect of help: chance, the same tasks run both ways, or nothing."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Literal

import numpy as np

from selfreg.data import Scalar
from selfreg.estimate.abstraction import Features, StateAbstraction
from selfreg.estimate.forecasting.logged_steps import Floats, Ints, LoggedSteps

Design = Literal["steps", "tasks", "episodes", "none"]

RATE = "rate"  # field of an episode: the chance of help in each of its steps
# Shares of help between which both choices count as tried.
TRIED = (0.03, 0.97)
# Tasks that must have run with and without help; or episodes of each kind.
PAIRS = 20
# Levels of the tests that help at steps, or of episodes, does not depend on the state; a coin is rejected that often.
LEVEL, EPISODE_LEVEL = 0.02, 0.05
PERMUTATIONS = 400
# Share of the helped episodes that may have steps without help where episodes count as helped or not.
MOST_IN_PART = 0.1
MOST_STRATA = 12
MOST_BLOCKS = 8
# Levels of the rates of help of episodes, at most.
MOST_LEVELS = 8
# Steps that must be alike in their earlier help types to have a chance of their own.
CELL_STEPS = 20


@dataclass(frozen=True)
class Identification:
    """What identifies the effect of help in a log.

    Attributes
    ----------
    design : {"steps", "tasks", "episodes", "none"}
        Chance decided at single steps; tasks ran with and without help; whole episodes were helped or not, in different
        tasks; none of these.
    identified : bool
        Whether the effect of help can be told from differences between tasks and states.
    by_chance : bool
        Whether a rate is recorded, or the log does not contradict a coin.
    words : str
        The reason, in a sentence.
    chance : float64 (steps, actions)
        Chance of each action at each step, for design "steps".
    """

    design: Design
    identified: bool
    by_chance: bool
    words: str
    chance: Floats


def identify(logged: LoggedSteps, abstraction: StateAbstraction, seed: int = 0) -> Identification:
    """Find the strongest design that a log supports."""
    chance = recorded_chance(logged)
    if chance is not None:
        words = f"Chance decided at each step who was helped (field {RATE!r})."
        return Identification("steps", True, True, words, chance)
    cells = _cells(logged)
    chance = _shares(logged, cells)
    strata = state_strata(logged, abstraction)
    if _tried_later(logged, chance):
        if _independent(logged.action, cells, strata, seed):
            words = "Help changes from step to step, and does not depend on the state: as if by chance."
            return Identification("steps", True, True, words, chance)
        words = (
            "Help was given more often in some states than in others, and no chance is recorded. States that look "
            "alike may differ in what nobody logged."
        )
        return Identification("none", False, False, words, chance)
    if _helped_in_part(logged) > MOST_IN_PART:
        words = (
            "Help was given at chosen steps, and no chance is recorded. How these episodes would have ended without it "
            "is not in the log."
        )
        return Identification("none", False, False, words, chance)
    pairs = _tasks_both_ways(logged)
    if pairs >= least_pairs(logged):
        words = f"{pairs} of {len(logged.tasks)} tasks ran with and without help, and are compared with themselves."
        return Identification("tasks", True, False, words, chance)
    if len(logged.actions) == 1:
        words = "No step was helped, so nothing in the log says what help is worth."
        return Identification("episodes", False, True, words, chance)
    first = logged.first
    helped_by = np.maximum.reduceat(logged.action, first)
    coin = _independent(helped_by, np.zeros(len(first), np.int64), strata[first], seed, EPISODE_LEVEL)
    words = (
        "Episodes were helped at every step or at none, in different tasks. Nothing in the log contradicts chance, but "
        "the log does not say that chance decided."
        if coin
        else "Episodes were helped at every step or at none, and the helped ones are of other tasks than the others."
    )
    return Identification("episodes", False, coin, words, chance)


def recorded_chance(logged: LoggedSteps) -> Floats | None:
    """Chances (steps, actions) by the field "rate" of every episode; None without it, or if nothing was left to it.

    The rate is of help of any type; of the types it is divided by their shares in like steps.
    """
    rates = _recorded_rates(logged)
    if rates is None:
        return None
    rate = rates[logged.episode]
    shares = _shares(logged, _cells(logged))[:, 1:]
    total = shares.sum(axis=1, keepdims=True)
    even = np.full_like(shares, 1.0 / max(shares.shape[1], 1))
    return np.column_stack([1.0 - rate, rate[:, None] * np.divide(shares, total, out=even, where=total > 0)])


def rate_levels(logged: LoggedSteps) -> Ints:
    """Level of the rate of each episode, int64 (episodes,): that of equal rates, and of near ones where many differ.

    All are 0 where nothing was left to a rate.
    """
    rates = _recorded_rates(logged)
    if rates is None:
        return np.zeros(len(logged.episodes), np.int64)
    edges = np.unique(np.quantile(rates, np.linspace(0.0, 1.0, MOST_LEVELS + 1), method="lower"))
    return np.searchsorted(edges, rates, side="right").astype(np.int64)


def _recorded_rates(logged: LoggedSteps) -> Floats | None:
    """The field "rate" of every episode; None where one has none, or the steps contradict them."""
    fields = [trajectory.fields.get(RATE) for trajectory in logged.episodes]
    if not all(isinstance(rate, int | float) and 0.0 <= rate <= 1.0 for rate in fields):
        return None
    rates = np.array(fields, dtype=np.float64)
    rate = rates[logged.episode]
    inside = (rate > TRIED[0]) & (rate < TRIED[1])
    contradicted = ((rate == 0.0) & (logged.action > 0)) | ((rate == 1.0) & (logged.action == 0))
    return None if inside.mean() < 0.2 or contradicted.any() else rates


def time_blocks(logged: LoggedSteps, most: int = MOST_BLOCKS) -> Ints:
    """Steps grouped by their number into at most `most` blocks of like size, int64 (steps,)."""
    counts = np.bincount(logged.time)
    if len(counts) <= most:
        return logged.time
    middle = (np.cumsum(counts) - counts / 2) / counts.sum()
    block: Ints = np.minimum((middle * most).astype(np.int64), most - 1)[logged.time]
    return block


def state_strata(logged: LoggedSteps, abstraction: StateAbstraction) -> Ints:
    """Abstract state of each step without its number, rare ones together, int64 (steps,)."""
    dropped = (
        abstraction.names.index("step") if isinstance(abstraction, Features) and "step" in abstraction.names else -1
    )
    keys: list[tuple[Scalar, ...]] = []
    for trajectory in logged.episodes:
        for step in range(len(trajectory.steps)):
            key = abstraction.encode(trajectory, step)
            keys.append(tuple(value for i, value in enumerate(key) if i != dropped))
    common = {key: i for i, (key, _) in enumerate(Counter(keys).most_common(MOST_STRATA))}
    return np.array([common.get(key, MOST_STRATA) for key in keys])


def _cells(logged: LoggedSteps) -> Ints:
    """Steps alike in number, in whether none, some or all earlier steps were helped, and by which types, (steps,).

    Logs of several deployments have other help types in each: after help of one type the others are never tried.
    """
    share = np.where(logged.earlier == 0, 0, np.where(logged.earlier == logged.time, 2, 1))
    cells: Ints = time_blocks(logged) * 3 + share
    types = np.unique(logged.earlier_by_kind > 0, axis=0, return_inverse=True)[1].reshape(-1)
    fine = np.unique(cells * (int(types.max()) + 1) + types, return_inverse=True)[1]
    enough = np.bincount(fine)[fine] >= CELL_STEPS
    return np.unique(np.where(enough, fine + int(cells.max()) + 1, cells), return_inverse=True)[1]


def _shares(logged: LoggedSteps, cells: Ints) -> Floats:
    """Share of each action in the cell of each step, float64 (steps, actions)."""
    size = np.bincount(cells)[cells]
    return np.column_stack([np.bincount(cells, logged.action == a)[cells] / size for a in range(len(logged.actions))])


def _tried_later(logged: LoggedSteps, chance: Floats) -> bool:
    """Whether both choices were tried at most of the later steps of episodes that went alone so far."""
    later = (logged.time > 0) & (logged.earlier == 0)
    if not later.any():
        return False
    helped = 1.0 - chance[later, 0]
    return bool(np.mean((helped > TRIED[0]) & (helped < TRIED[1])) >= 0.5)


def _helped_in_part(logged: LoggedSteps) -> float:
    """Share of the helped episodes that have steps without help too."""
    share = logged.sum_episodes((logged.action > 0).astype(np.float64)) / logged.length
    return float(np.mean(share[logged.helped] < 1.0)) if logged.helped.any() else 0.0


def least_pairs(logged: LoggedSteps) -> int:
    """Tasks that must have run with and without help for a comparison within tasks."""
    return max(2, min(PAIRS, round(0.9 * len(logged.tasks))))


def _tasks_both_ways(logged: LoggedSteps) -> int:
    helped = np.bincount(logged.task, logged.helped, len(logged.tasks))
    return int(np.count_nonzero((helped > 0) & (helped < np.bincount(logged.task))))


def _independent(action: Ints, cells: Ints, strata: Ints, seed: int, level: float = LEVEL) -> bool:
    """Permutation test that `action` (which help type, or none) does not depend on the stratum within a cell."""
    generator = np.random.default_rng(seed)
    order = np.argsort(cells, kind="stable")
    cells, strata, action = cells[order], strata[order], action[order]
    groups = np.unique(cells * (MOST_STRATA + 1) + strata, return_inverse=True)[1]
    taken = [a for a in np.unique(action) if a > 0]
    shares = [(np.bincount(cells, action == a) / np.bincount(cells).clip(1))[cells] for a in taken]
    spreads = [np.bincount(groups, share * (1.0 - share)) for share in shares]

    def statistic(drawn: Ints) -> float:
        total = 0.0
        for a, share, spread in zip(taken, shares, spreads, strict=True):
            used = spread > 0
            total += float(np.sum(np.bincount(groups, (drawn == a) - share)[used] ** 2 / spread[used]))
        return total

    bounds = np.flatnonzero(np.diff(cells)) + 1
    observed = statistic(action)
    drawn = [statistic(np.concatenate([generator.permutation(part) for part in np.split(action, bounds)]))
             for _ in range(PERMUTATIONS)]  # fmt: skip
    return (1 + sum(one >= observed - 1e-9 for one in drawn)) / (PERMUTATIONS + 1) > level
