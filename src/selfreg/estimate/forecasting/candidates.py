"""Policies that a forecast compares, as the actions that they take at the logged steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from selfreg._util.progress import track
from selfreg.data import Step, Trajectory
from selfreg.decisions import DecisionPolicy, decide_batch, spread_requests, start_episode
from selfreg.estimate.abstraction import ExactKey, StateAbstraction
from selfreg.estimate.forecasting.logged_steps import Actions, Ints, LoggedSteps
from selfreg.estimate.model import EstimatedModel, estimate_mdp
from selfreg.planning.hard import solve

FOLDS = 5
# Decisions in one batch, about.
BATCH_STEPS = 4096
Budget = tuple[int, ...]
# Trains a policy from episodes; the forecast calls it once a fold.
Trainer = Callable[[Sequence[Trajectory]], DecisionPolicy]


class FoldModel(NamedTuple):
    """Numbers of the held-out episodes, and the model of the others."""

    held_out: Ints
    model: EstimatedModel


@dataclass(frozen=True, eq=False)
class Candidate:
    """A policy under a budget.

    Attributes
    ----------
    policy : str
        "never", "always", "rule", "plan" or "helper".
    rule, help : str or None
        Name of the rule of thumb, and the help type that it requests.
    budget : tuple of int
    decided : int8 (steps,)
        Its action at each logged step, with the budget that is left there.
    """

    policy: str
    rule: str | None
    help: str | None
    budget: Budget
    decided: Actions

    @property
    def simple(self) -> bool:
        """Whether it needs neither a plan nor a helper."""
        return self.policy in ("never", "always", "rule")


def never(logged: LoggedSteps) -> Candidate:
    """Goes on alone."""
    return Candidate("never", None, None, (0,) * logged.costs.shape[1], np.zeros(len(logged.action), np.int8))


def always(logged: LoggedSteps, action: int, budget: Budget) -> Candidate:
    """Requests help at every step while the budget lasts."""
    wanted = np.full(len(logged.action), action, np.int8)
    decided = logged.affordable(wanted, logged.left(budget))
    return Candidate("always", None, logged.actions[action], budget, decided)


def most_requests(candidate: Candidate, logged: LoggedSteps) -> int:
    """Largest number of requests of an episode."""
    longest = int(logged.length.max())
    paid = [
        min((b // c for b, c in zip(candidate.budget, cost, strict=True) if c), default=longest)
        for name, cost in zip(logged.actions[1:], logged.costs[1:].tolist(), strict=True)
        if candidate.help in (None, name)
    ]
    return min(longest, max(paid, default=0))


def rules(logged: LoggedSteps, action: int, budget: Budget, horizon: int) -> Iterator[Candidate]:
    """Rules of thumb: the last k steps of episodes of `horizon` steps, and every n-th step."""
    price = logged.costs[action]
    requests = int(min((b // c for b, c in zip(budget, price, strict=True) if c), default=horizon))
    if not 0 < requests < horizon:
        return
    every = spread_requests(requests, horizon)
    number = logged.time + 1
    for rule, wanted in (("last-k", number > horizon - requests), ("every-n", number % every == 0)):
        decided = logged.affordable(np.where(wanted, action, 0).astype(np.int8), logged.left(budget))
        yield Candidate("rule", rule, logged.actions[action], budget, decided)


def fold_models(
    logged: LoggedSteps,
    abstraction: StateAbstraction,
    costs: Mapping[str, Budget],
    seed: int,
) -> list[FoldModel]:
    """A model for each fold of the tasks, estimated from the other folds; of the episodes, where tasks have models."""
    return [
        FoldModel(held_out, estimate_mdp(training, abstraction, costs=used_costs(training, costs)))
        for held_out, training in make_folds(logged, seed, by_task=not isinstance(abstraction, ExactKey))
    ]


def plan_decisions(logged: LoggedSteps, models: Sequence[FoldModel], budgets: Sequence[Budget]) -> list[Candidate]:
    """Plans made from the other folds; a state that the other folds lack is taken alone."""
    most = tuple(max(column) for column in zip(*budgets, strict=True))
    decided = np.zeros((len(budgets), len(logged.action)), np.int8)
    left = [np.minimum(logged.left(budget), most) for budget in budgets]
    for held_out, model in models:
        limit: int | Budget = most if len(model.mdp.actions) > 1 and len(most) > 1 else most[0]
        plan = solve(model.mdp, limit, n_threads=1)
        index = {name: a for a, name in enumerate(logged.actions)}
        action = np.array([index[name] for name in model.mdp.actions], np.int8)
        for i in held_out:
            trajectory = logged.episodes[i]
            for step in range(len(trajectory.steps)):
                state = model.state(trajectory, step)
                if state is not None:
                    j = int(logged.first[i]) + step
                    for b, units in enumerate(left):
                        place = tuple(units[j]) if plan.policy.ndim > 2 or len(most) == 1 else (int(units[j][0]),)
                        decided[b, j] = action[plan.policy[(state, *place)]]
    return [
        Candidate("plan", None, None, budget, logged.affordable(one, logged.left(budget)))
        for budget, one in zip(budgets, decided, strict=True)
    ]


def helper_decisions(
    logged: LoggedSteps, train: Trainer, budgets: Sequence[Budget], seed: int, folds: int = FOLDS
) -> list[Candidate]:
    """Decisions of helpers that `train` makes from the other folds of tasks."""
    decided = np.zeros((len(budgets), len(logged.action)), np.int8)
    left = [logged.left(budget) for budget in budgets]
    for held_out, training in track(
        [*make_folds(logged, seed, by_task=True, folds=folds)], "train for the forecast", "folds"
    ):
        _decide(train(training), logged, held_out, left, decided, seed)
    return [
        Candidate("helper", None, None, budget, logged.affordable(one, logged.left(budget)))
        for budget, one in zip(budgets, decided, strict=True)
    ]


def _decide(
    policy: DecisionPolicy, logged: LoggedSteps, held_out: Ints, left: Sequence[Ints], decided: Actions, seed: int
) -> None:
    """Fill the rows of `decided` (budgets, steps) with a policy's actions in these episodes, `left` of each budget.

    Many episodes are decided in one batch, unless the policy keeps a state of the episode.
    """
    index = {name: a for a, name in enumerate(logged.actions)}
    stateful = hasattr(policy, "start") or hasattr(policy, "set_fields")
    size = 1 if stateful else max(1, int(BATCH_STEPS // (len(left) * logged.length.mean())))
    for group in np.split(held_out, range(size, len(held_out), size)):
        if stateful:
            first = logged.episodes[group[0]]
            start_episode(policy, first.task, seed, first.fields)
        rows = np.concatenate([np.arange(logged.first[i], logged.last[i] + 1) for i in group])
        histories = [_until(logged.episodes[i], step) for i in group for step in range(logged.length[i])]
        units = [tuple(one) for of_budget in left for one in of_budget[rows].tolist()]
        decisions = decide_batch(policy, histories * len(left), units)
        actions = [index.get(one.action, 0) for one in decisions]
        decided[:, rows] = np.array(actions, np.int8).reshape(len(left), len(rows))


def _until(trajectory: Trajectory, step: int) -> list[Step]:
    """What a policy sees at a step: the current state has no action yet."""
    now = trajectory.steps[step]
    return [*trajectory.steps[:step], Step(now.state, key=now.key)]


def make_folds(
    logged: LoggedSteps, seed: int, *, by_task: bool, folds: int = FOLDS
) -> Iterator[tuple[Ints, list[Trajectory]]]:
    """Numbers of the held-out episodes, and the episodes of the other folds."""
    generator = np.random.default_rng(seed)
    groups = len(logged.tasks) if by_task else len(logged.episodes)
    fold = generator.permutation(groups) % min(folds, groups)
    fold = fold[logged.task] if by_task else fold
    for k in range(int(fold.max()) + 1):
        training = [logged.episodes[i] for i in np.flatnonzero(fold != k).tolist()]
        if training and any(step.intervention is None for t in training for step in t.steps):
            yield np.flatnonzero(fold == k), training


def used_costs(training: Sequence[Trajectory], costs: Mapping[str, Budget]) -> dict[str, Budget]:
    """Costs of the help types that these episodes have."""
    used = {step.intervention for t in training for step in t.steps}
    return {name: cost for name, cost in costs.items() if name in used}
