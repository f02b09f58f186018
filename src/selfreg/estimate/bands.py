"""Intervals for what a plan will attain, from resampled logs."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from selfreg._util import validate
from selfreg._util.bootstrap import central_bounds
from selfreg._util.progress import progress
from selfreg._util.showing import ShortRepr
from selfreg.data import StateScorer, Trajectory
from selfreg.estimate.abstraction import StateAbstraction
from selfreg.estimate.dataset import Costs, Fitted, ResamplingDataset
from selfreg.estimate.resample import Draw, Method, draw_models
from selfreg.planning.evaluation import evaluate_policy
from selfreg.planning.frontiers import Frontier, frontier
from selfreg.planning.hard import solve

Floats = npt.NDArray[np.float64]

SAMPLES = 200


class Band(NamedTuple):
    """A predicted number, and an interval for the realised one; float64 (B1 + 1, ...) each."""

    estimate: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True, eq=False, repr=False)
class Uncertainty(ShortRepr):
    """Intervals for the success and usage of a plan.

    Attributes
    ----------
    method : {"bootstrap", "dirichlet"}
    confidence : float
    samples, tasks : int
    success, usage : Band
        Planned success and help used (in units of the first budget) from the start distribution, with intervals for
        the realised ones. An interval may lie below the planned value, which is optimistic.
    corrected : float64 (B1 + 1, ...)
        Planned success less its mean optimism.
    help_share : float64 (n-2, B1 + 1, ...)
        Share of the samples whose plan requests help in an abstract state, in the order of the model's keys.
    """

    method: str
    confidence: float
    samples: int
    tasks: int
    success: Band
    usage: Band
    corrected: Floats
    help_share: Floats


@dataclass(frozen=True, eq=False, repr=False)
class FrontierBands(ShortRepr):
    """Success against expected usage as planned, with intervals for the mixtures of the frontier.

    Attributes
    ----------
    usage : float64 (k,)
        Allowed expected usage.
    success, spent : Band
        Success of the best mixture under that usage, and its usage; float64 (k,) each.
    confidence : float
    samples : int
    """

    usage: Floats
    success: Band
    spent: Band
    confidence: float
    samples: int


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
    prm: StateScorer | None = None,
    costs: Costs | None = None,
    seconds: float | None = None,
) -> Uncertainty:
    """Intervals for the success and usage that a plan will attain, and how certain its decisions are.

    Every sample is a possible true model and a log drawn from it. A plan is made from that log as from the real one,
    and evaluated in the model that the log was drawn from: predicted less realised value is one draw of the error of
    the real plan. The interval is the planned value less the quantiles of that error (a basic interval, Davison and
    Hinkley 1997, section 5.2), which removes the optimism of choosing by noisy rows. The truth's low-count rows are
    shrunk towards those of similar states (`selfreg.estimate.shrinkage`). The combination is ours.

    Parameters
    ----------
    trajectories, abstraction, kappa, prm, costs
        As for `estimate_mdp`. The PRM's scores count as exact.
    budget : int or tuple of int
    method : {"bootstrap", "dirichlet"}
        "bootstrap" resamples tasks, so that steps of one task stay together; "dirichlet" resamples each row as if
        steps were independent (for logs of one task run many times).
    samples : int
        Number of models, each solved; below 2 / (1 - confidence) intervals are too narrow.
    confidence : float
        Of the intervals, in (0, 1).
    seed : int
    seconds : float, optional
        No sample begins after this time, but two are drawn at least: `Uncertainty.samples` says how many. By default
        there is no limit, so that a seed gives the same bands everywhere.

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
    >>> bool(result.success.low[0] < 0.5 < result.success.high[0]), result.help_share[0].tolist()
    (True, [0.0, 1.0])
    """
    dataset, drawn = _draw_samples(trajectories, abstraction, method, samples, confidence, seed, kappa, prm, costs)
    fitted = dataset.fit()
    plan = solve(fitted.mdp, budget, n_threads=1)
    estimate = _evaluate_plan(fitted, plan.policy)
    errors: list[tuple[Floats, Floats]] = []
    requests = np.zeros(plan.policy[:-2].shape)
    for true, estimated in _until(drawn, samples, seconds):
        policy = solve(estimated.mdp, budget, n_threads=1).policy
        predicted, realised = _evaluate_plan(estimated, policy), _evaluate_plan(true, policy)
        errors.append((predicted[0] - realised[0], predicted[1] - realised[1]))
        requests += policy[:-2] > 0
    success, usage = (
        _make_band(estimate[i], np.stack([error[i] for error in errors]), confidence, most)
        for i, most in enumerate((1.0, np.indices(estimate[1].shape)[0].astype(np.float64)))
    )
    samples = len(errors)
    corrected = np.clip(estimate[0] - np.mean([error[0] for error in errors], axis=0), 0.0, 1.0)
    return Uncertainty(method, confidence, samples, dataset.n_tasks, success, usage, corrected, requests / samples)


def frontier_bands(
    trajectories: Iterable[Trajectory],
    abstraction: StateAbstraction,
    usage: Sequence[float],
    *,
    method: Method = "bootstrap",
    samples: int = SAMPLES,
    confidence: float = 0.9,
    seed: int = 0,
    kappa: float = 0.0,
    prm: StateScorer | None = None,
    costs: Costs | None = None,
) -> FrontierBands:
    """Intervals for the success and usage of the frontier's mixtures under expected usages.

    As `uncertainty`, for `selfreg.frontier(...).at(usage)`.

    Parameters
    ----------
    trajectories, abstraction, method, samples, confidence, seed, kappa, prm, costs
        As for `uncertainty`; one kind of budget.
    usage : sequence of float
        Expected units of help an episode, >= 0.

    Raises
    ------
    ValueError, TypeError
        As `uncertainty`, and for a usage that is not a number >= 0.

    Examples
    --------
    >>> from selfreg.data import Step, Trajectory
    >>> from selfreg.estimate import Features, frontier_bands
    >>> alone = [Trajectory(f"t{i}", f"a{i}", float(i % 2), (Step("go"),)) for i in range(50)]
    >>> helped = [Trajectory(f"t{i}", f"h{i}", 1.0, (Step("go", intervention="person"),)) for i in range(50)]
    >>> bands = frontier_bands(alone + helped, Features(["step"]), [0.0, 0.5], samples=50)
    >>> bands.success.estimate.tolist(), bands.spent.estimate.tolist()
    ([0.5, 0.75], [0.0, 0.5])
    """
    points = np.array([validate.nonneg_float("usage", one) for one in usage])
    dataset, drawn = _draw_samples(trajectories, abstraction, method, samples, confidence, seed, kappa, prm, costs)
    fitted = dataset.fit()
    front = frontier(fitted.mdp, fitted.start, n_threads=1)
    estimate = _evaluate_mixtures(fitted, front, points)
    errors = []
    for true, estimated in drawn:
        front = frontier(estimated.mdp, estimated.start, n_threads=1)
        errors.append(_evaluate_mixtures(estimated, front, points) - _evaluate_mixtures(true, front, points))
    table = np.stack(errors)
    success, spent = (_make_band(estimate[i], table[:, i], confidence, most) for i, most in enumerate((1.0, np.inf)))
    return FrontierBands(points, success, spent, confidence, samples)


def _draw_samples(
    trajectories: Iterable[Trajectory],
    abstraction: StateAbstraction,
    method: Method,
    samples: int,
    confidence: float,
    seed: int,
    kappa: float,
    prm: StateScorer | None,
    costs: Costs | None,
) -> tuple[ResamplingDataset, Iterable[Draw]]:
    """Check the arguments; the logs as a dataset, and samples of them."""
    if method not in ("bootstrap", "dirichlet"):
        raise ValueError(f'method is {method!r}; expected "bootstrap" or "dirichlet"')
    samples = validate.integer("samples", samples, 2)
    validate.confidence("confidence", confidence)
    dataset = ResamplingDataset(trajectories, abstraction, kappa, prm, costs)
    return dataset, draw_models(dataset, method, samples, np.random.default_rng(seed))


def _until(drawn: Iterable[Draw], samples: int, seconds: float | None) -> Iterator[Draw]:
    """Samples until time is up, two at least, with progress."""
    end = np.inf if seconds is None else time.monotonic() + seconds
    with progress("resampled models", samples, "models") as advance:
        for number, draw in enumerate(drawn):
            if number >= 2 and time.monotonic() > end:
                return
            yield draw
            advance(1)


def _evaluate_plan(model: Fitted, policy: npt.NDArray[np.int8]) -> tuple[Floats, Floats]:
    """Success and usage of a policy from the start of a model."""
    table = evaluate_policy(model.mdp, policy)
    return model.at_start(table.success), model.at_start(table.usage[..., 0])


def _evaluate_mixtures(model: Fitted, front: Frontier, points: Floats) -> Floats:
    """Success and usage in a model of the mixtures of a frontier, float64 (2, points)."""
    result, known = np.zeros((2, len(points))), {}
    for k, point in enumerate(points):
        mixture = front.at(point)
        for weight, penalty, policy in zip(mixture.weights, mixture.penalties, mixture.policies, strict=True):
            if penalty not in known:
                found = evaluate_policy(model.mdp, policy, model.start)
                known[penalty] = np.array([found.success, found.usage[0]])
            result[:, k] += weight * known[penalty]
    return result


def _make_band(estimate: Floats, error: Floats, confidence: float, most: float | Floats) -> Band:
    low, high = central_bounds(error, confidence)
    return Band(estimate, np.clip(estimate - high, 0.0, most), np.clip(estimate - low, 0.0, most))
