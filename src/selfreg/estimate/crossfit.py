"""Optimism of a plan, by plans from one half of the tasks evaluated on the other."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from selfreg._util import validate
from selfreg._util.progress import track
from selfreg._util.showing import ShortRepr
from selfreg.data import StateScorer, Trajectory
from selfreg.estimate.abstraction import StateAbstraction
from selfreg.estimate.dataset import Costs, ResamplingDataset
from selfreg.planning.evaluation import evaluate_policy
from selfreg.planning.hard import solve

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False)
class CrossFit(ShortRepr):
    """Plans made from half of the tasks, evaluated by a model of the other half.

    Attributes
    ----------
    naive : float64 (B1 + 1, ...)
        Planned success of the plan made from all tasks, by its own model.
    naive_half, crossed : float64 (B1 + 1, ...)
        Mean over the splits and both directions: planned success of a plan made from half of the tasks by its own
        model, and by the model of the other half.
    low, high : float64 (B1 + 1, ...)
        5% and 95% quantiles of `crossed` over the splits: how much the split matters, not a confidence interval.
    splits : int
    """

    naive: Floats
    naive_half: Floats
    crossed: Floats
    low: Floats
    high: Floats
    splits: int

    @property
    def optimism(self) -> Floats:
        """Predicted success less the success on the other half of the tasks."""
        return self.naive_half - self.crossed


def cross_fit(
    trajectories: Iterable[Trajectory],
    abstraction: StateAbstraction,
    budget: int | tuple[int, ...],
    *,
    splits: int = 20,
    seed: int = 0,
    kappa: float = 0.0,
    prm: StateScorer | None = None,
    costs: Costs | None = None,
) -> CrossFit:
    """Make plans from half of the tasks and evaluate them by a model of the other half.

    If a plan requests help in a state in which the other half has no helped step, the pooled helped row of the nearest
    coarser class of states in that half is used; without such a class the agent goes on alone. It also goes on alone in
    states that are not in the plan.

    Parameters
    ----------
    trajectories, abstraction, budget, kappa, prm, costs
        As for `uncertainty`.
    splits : int
        Random splits, each used in both directions.
    seed : int

    Raises
    ------
    ValueError
        For less than two tasks, or if no two tasks share a state (exact keys).

    Examples
    --------
    >>> from selfreg.data import Step, Trajectory
    >>> from selfreg.estimate import Features, cross_fit
    >>> logs = [Trajectory(f"t{i}", str(i), float(i % 2), (Step("go"),)) for i in range(40)]
    >>> cross_fit(logs, Features(["step"]), 0).naive.tolist()
    [0.5]
    """
    splits = validate.integer("splits", splits, 1)
    dataset = ResamplingDataset(trajectories, abstraction, kappa, prm, costs)
    visited = np.unique(np.stack([dataset.moves.task, dataset.moves.state]), axis=1)[1]
    if np.bincount(visited).max() < 2:
        raise ValueError("no two tasks share a state; a plan of one half of the tasks says nothing of the other half")
    fitted = dataset.fit()
    plan = solve(fitted.mdp, budget, n_threads=1)
    generator = np.random.default_rng(seed)
    own, crossed = [], []
    for _ in track(range(splits), "cross-fit", "splits"):
        half = np.zeros(dataset.n_tasks)
        half[generator.permutation(dataset.n_tasks)[: dataset.n_tasks // 2]] = 1.0
        pair = [(_cross(dataset, times, 1.0 - times, budget)) for times in (half, 1.0 - half)]
        own.append(np.mean([one[0] for one in pair], axis=0))
        crossed.append(np.mean([one[1] for one in pair], axis=0))
    low, high = np.quantile(crossed, [0.05, 0.95], axis=0)
    return CrossFit(fitted.at_start(plan.value), np.mean(own, axis=0), np.mean(crossed, axis=0), low, high, splits)


def _cross(
    dataset: ResamplingDataset, planned: Floats, evaluated: Floats, budget: int | tuple[int, ...]
) -> tuple[Floats, Floats]:
    """Planned success of the plan of some tasks, by their model and by that of the others."""
    fitted = dataset.fit(planned)
    plan = solve(fitted.mdp, budget, n_threads=1)
    judge = dataset.fit(evaluated, borrow_help=True, shrink=False)  # as counted, so that it shares no bias
    policy = plan.policy.copy()
    for a, name in enumerate(judge.mdp.actions):
        policy[(policy == a) & ~judge.mdp.available(name).reshape(-1, *[1] * (policy.ndim - 1))] = 0
    return fitted.at_start(plan.value), judge.at_start(evaluate_policy(judge.mdp, policy).success)
