"""How far to trust a plan: bands from resampled tasks or posterior models, and its optimism by cross-fitting."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from selfreg import _validate
from selfreg.data import NOHELP, Trajectory
from selfreg.estimate.abstraction import StateAbstraction
from selfreg.estimate.counts import Counts, Moves, record
from selfreg.estimate.model import charges, last_score, mdp_of, mean_scores, row_counts
from selfreg.estimate.score_bins import Scorer
from selfreg.mdp import InterventionMDP
from selfreg.policy import expected_usage, policy_value
from selfreg.solve import Solution, solve

Floats = npt.NDArray[np.float64]
Method = Literal["bootstrap", "dirichlet"]
Costs = Mapping[str, int | tuple[int, ...]]

SAMPLES = 200


class Band(NamedTuple):
    """A number of the plan, and an interval around it; float64 (B1 + 1, ...) each."""

    estimate: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True, eq=False)
class Uncertainty:
    """What the plan would have been had the logs come out differently.

    Attributes
    ----------
    method : {"bootstrap", "dirichlet"}
    confidence : float
    samples, tasks : int
    success, usage : Band
        Planned success, and planned help used (the first budget's units), from the start distribution.
    asks : float64 (n-2, B1 + 1, ...)
        Share of the samples whose plan asks for help in an abstract state, in the order of the model's keys.
    """

    method: str
    confidence: float
    samples: int
    tasks: int
    success: Band
    usage: Band
    asks: Floats


@dataclass(frozen=True, eq=False)
class CrossFit:
    """In-sample optimism: plans made from half of the tasks, valued by a model of the other half.

    Attributes
    ----------
    naive : float64 (B1 + 1, ...)
        Planned success of the plan made from all tasks, by its own model.
    naive_half, crossed : float64 (B1 + 1, ...)
        Mean over the splits and both directions: planned success of a plan made from half of the tasks by its own
        model, and by the model of the other half.
    low, high : float64 (B1 + 1, ...)
        5% and 95% quantiles of `crossed` over the splits: how much the split matters, not an interval for the truth.
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
        """How much more a plan promises than the other half of the tasks lets it keep."""
        return self.naive_half - self.crossed


class Fitted(NamedTuple):
    """A model with its start distribution, over the abstract states of all tasks."""

    mdp: InterventionMDP
    start: Floats

    def at_start(self, value: Floats) -> Floats:
        return np.asarray(np.tensordot(self.start, value, axes=1))


class Study:
    """Logs read once, to be modelled many times."""

    def __init__(
        self,
        trajectories: Iterable[Trajectory],
        abstraction: StateAbstraction,
        kappa: float,
        prm: Scorer | None,
        costs: Costs | None,
        borrow_help: bool,
    ) -> None:
        episodes = list(trajectories)
        if kappa and prm is None:
            raise ValueError(f"kappa={kappa:g} needs a PRM to lean on")
        abstraction.fit(episodes)
        self.moves: Moves = record(episodes, abstraction, None if prm is None else last_score(episodes, prm))
        if len(self.moves.tasks) < 2:
            names = ", ".join(map(repr, self.moves.tasks)) or "none"
            raise ValueError(f"the episodes are of one task ({names}); what varies between tasks takes at least two")
        self.abstraction, self.kappa, self.borrow_help = abstraction, kappa, borrow_help
        self.prior = None if not kappa or prm is None else mean_scores(episodes, abstraction, self.moves.keys, prm)
        self.costs = charges(episodes, dict.fromkeys(self.moves.actions), costs)
        self.n_tasks = len(self.moves.tasks)

    def rows(self, counts: Counts, borrow_help: bool | None = None) -> dict[str, sp.csr_array]:
        lend = self.borrow_help if borrow_help is None else borrow_help
        return row_counts(counts, self.abstraction, self.prior, self.kappa, lend)

    def fit(self, times: Floats | None = None, borrow_help: bool | None = None) -> Fitted:
        """Model of the tasks, each taken `times` (tasks,) times."""
        counts = self.moves.counts(times)
        return Fitted(mdp_of(self.rows(counts, borrow_help), counts.visits, self.costs), _start(counts))

    def bootstrapped(self, samples: int, generator: np.random.Generator) -> Iterator[Fitted]:
        """Models of tasks drawn with replacement; draws in which no step was taken alone are drawn again."""
        for _ in range(samples):
            while True:
                drawn = generator.integers(self.n_tasks, size=self.n_tasks)
                times = np.bincount(drawn, minlength=self.n_tasks).astype(np.float64)
                alone = self.moves.action == self.moves.actions.index(NOHELP)
                if times[self.moves.task[alone]].any():
                    break
            yield self.fit(times)

    def posterior(self, samples: int, generator: np.random.Generator) -> Iterator[Fitted]:
        """Models drawn row by row from Dirichlet distributions whose parameters are the counts."""
        counts = self.moves.counts()
        rows, start = self.rows(counts), _start_counts(counts)
        for _ in range(samples):
            drawn = {name: _gamma(matrix, generator) for name, matrix in rows.items()}
            weight = generator.gamma(np.where(start > 0, start, 1.0)) * (start > 0)
            yield Fitted(mdp_of(drawn, None, self.costs), weight / weight.sum())


def uncertainty(
    trajectories: Iterable[Trajectory],
    abstraction: StateAbstraction,
    budget: int | tuple[int, ...],
    *,
    method: Method = "bootstrap",
    samples: int = SAMPLES,
    confidence: float = 0.9,
    seed: int = 0,
    kappa: float = 0.0,
    prm: Scorer | None = None,
    costs: Costs | None = None,
    borrow_help: bool = False,
) -> Uncertainty:
    """Bands on planned success, usage and decisions, from many models that the logs could as well have given.

    Parameters
    ----------
    trajectories, abstraction, kappa, prm, costs, borrow_help
        As for `estimate_mdp`. The PRM's scores are taken as given.
    budget : int or tuple of int
    method : {"bootstrap", "dirichlet"}
        "bootstrap" draws tasks with replacement, so that steps of one task stay together; the interval is the basic
        one, estimate - (quantiles of sample - estimate): taking the best action by noisy rows makes every
        sample optimistic as it made the estimate, and this reflects the bias away. "dirichlet" draws each row from the
        Dirichlet distribution with its counts as parameters (a prior that adds nothing; pseudo-counts of the PRM add
        what they say) and shows quantiles; it takes steps as independent.
    samples : int
        Models, each solved.
    confidence : float
        Of the intervals, in (0, 1).
    seed : int

    Raises
    ------
    ValueError
        For less than two tasks, a confidence outside (0, 1), and as `estimate_mdp`.

    Examples
    --------
    >>> from selfreg.data import Step, Trajectory
    >>> from selfreg.estimate import Features, uncertainty
    >>> alone = [Trajectory(f"t{i}", f"a{i}", float(i % 2), (Step("go"),)) for i in range(50)]
    >>> helped = [Trajectory(f"t{i}", f"h{i}", 1.0, (Step("go", intervention="person"),)) for i in range(50)]
    >>> result = uncertainty(alone + helped, Features(["step"]), 1)
    >>> result.success.estimate.tolist()
    [0.5, 1.0]
    >>> bool(result.success.low[0] < 0.5 < result.success.high[0]), result.asks[0].tolist()
    (True, [0.0, 1.0])
    """
    if method not in ("bootstrap", "dirichlet"):
        raise ValueError(f'method is {method!r}; expected "bootstrap" or "dirichlet"')
    samples = _validate.integer("samples", samples, 2)
    confidence = _validate.confidence("confidence", confidence)
    study = Study(trajectories, abstraction, kappa, prm, costs, borrow_help)
    generator = np.random.default_rng(seed)
    [(fitted, plan)] = _plans([study.fit()], budget)
    estimate = _figures(fitted, plan)
    drawn = study.bootstrapped if method == "bootstrap" else study.posterior
    figures, asks = [], np.zeros(plan.policy[:-2].shape)
    for one, solution in _plans(drawn(samples, generator), budget):
        figures.append(_figures(one, solution))
        asks += solution.policy[:-2] > 0
    success, usage = (
        _band(estimate[i], np.stack([f[i] for f in figures]), confidence, method, most)
        for i, most in enumerate((1.0, np.inf))
    )
    return Uncertainty(method, confidence, samples, study.n_tasks, success, usage, asks / samples)


def cross_fit(
    trajectories: Iterable[Trajectory],
    abstraction: StateAbstraction,
    budget: int | tuple[int, ...],
    *,
    splits: int = 20,
    seed: int = 0,
    kappa: float = 0.0,
    prm: Scorer | None = None,
    costs: Costs | None = None,
    borrow_help: bool = False,
) -> CrossFit:
    """Make plans from half of the tasks and value them by a model of the other half.

    Where a plan asks in a state in which the other half has no helped step, it gets the helped row of the nearest
    coarser class of states in that half; where there is none it goes on alone. States that the plan does not know are
    gone through alone.

    Parameters
    ----------
    trajectories, abstraction, budget, kappa, prm, costs, borrow_help
        As for `uncertainty`.
    splits : int
        Random splits, each used in both directions.
    seed : int

    Raises
    ------
    ValueError
        For less than two tasks, or states that no two tasks share (exact keys): then halves say nothing of each other.

    Examples
    --------
    >>> from selfreg.data import Step, Trajectory
    >>> from selfreg.estimate import Features, cross_fit
    >>> logs = [Trajectory(f"t{i}", str(i), float(i % 2), (Step("go"),)) for i in range(40)]
    >>> cross_fit(logs, Features(["step"]), 0).naive.tolist()
    [0.5]
    """
    splits = _validate.integer("splits", splits, 1)
    study = Study(trajectories, abstraction, kappa, prm, costs, borrow_help)
    visited = np.unique(np.stack([study.moves.task, study.moves.state]), axis=1)[1]
    if np.bincount(visited).max() < 2:
        raise ValueError("no two tasks share a state; plans cannot be carried from one half of the tasks to the other")
    [(fitted, plan)] = _plans([study.fit()], budget)
    generator = np.random.default_rng(seed)
    own, crossed = [], []
    for _ in range(splits):
        half = np.zeros(study.n_tasks)
        half[generator.permutation(study.n_tasks)[: study.n_tasks // 2]] = 1.0
        pair = [(_crossed(study, times, 1.0 - times, budget)) for times in (half, 1.0 - half)]
        own.append(np.mean([one[0] for one in pair], axis=0))
        crossed.append(np.mean([one[1] for one in pair], axis=0))
    low, high = np.quantile(crossed, [0.05, 0.95], axis=0)
    return CrossFit(fitted.at_start(plan.value), np.mean(own, axis=0), np.mean(crossed, axis=0), low, high, splits)


def _crossed(study: Study, mine: Floats, other: Floats, budget: int | tuple[int, ...]) -> tuple[Floats, Floats]:
    """Planned success of the plan of some tasks, by their model and by that of the others."""
    [(fitted, plan)] = _plans([study.fit(mine)], budget)
    judge = study.fit(other, borrow_help=True)
    policy = plan.policy.copy()
    for a, name in enumerate(judge.mdp.actions):
        policy[(policy == a) & ~judge.mdp.available(name).reshape(-1, *[1] * (policy.ndim - 1))] = 0
    return fitted.at_start(plan.value), judge.at_start(policy_value(judge.mdp, policy))


def _plans(models: Iterable[Fitted], budget: int | tuple[int, ...]) -> Iterator[tuple[Fitted, Solution]]:
    """Every model with its solution."""
    for model in models:
        yield model, solve(model.mdp, budget, n_threads=1)


def _figures(model: Fitted, plan: Solution) -> tuple[Floats, Floats]:
    """Planned success and usage from the start."""
    return model.at_start(plan.value), model.at_start(expected_usage(plan)[..., 0])


def _band(estimate: Floats, drawn: Floats, confidence: float, method: str, most: float) -> Band:
    low, high = np.quantile(drawn, [0.5 - confidence / 2, 0.5 + confidence / 2], axis=0)
    if method == "bootstrap":
        low, high = 2 * estimate - high, 2 * estimate - low
    return Band(estimate, np.clip(low, 0.0, most), np.clip(high, 0.0, most))


def _start_counts(counts: Counts) -> Floats:
    alone: Floats = counts.starts[0]
    helped: Floats = counts.starts[1]
    return alone if alone.any() else helped


def _start(counts: Counts) -> Floats:
    start = _start_counts(counts)
    return np.asarray(start / start.sum())


def _gamma(matrix: sp.csr_array, generator: np.random.Generator) -> sp.csr_array:
    """Gamma variates with the entries as shapes: rows scaled to 1 are Dirichlet."""
    drawn = np.maximum(generator.gamma(matrix.data), 1e-300)  # smaller ones cannot be scaled
    return sp.csr_array((drawn, matrix.indices, matrix.indptr), shape=matrix.shape)
