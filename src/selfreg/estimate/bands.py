"""How far to trust a plan: intervals for what it will attain, from logs that could as well have come."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from selfreg._util import validate
from selfreg._util.bootstrap import central_bounds
from selfreg.data import Trajectory
from selfreg.estimate.abstraction import StateAbstraction
from selfreg.estimate.dataset import Costs, Fitted, ResamplingDataset
from selfreg.estimate.resample import Draw, Method, draws
from selfreg.estimate.score_bins import Scorer
from selfreg.planning.evaluation import evaluate_policy
from selfreg.planning.frontiers import Frontier, frontier
from selfreg.planning.hard import solve
from selfreg.planning.usage import success_and_usage

Floats = npt.NDArray[np.float64]

SAMPLES = 200


class Band(NamedTuple):
    """A number that the plan promises, and an interval for what it will attain; float64 (B1 + 1, ...) each."""

    estimate: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True, eq=False)
class Uncertainty:
    """What the plan will attain, as far as the logs can tell.

    Attributes
    ----------
    method : {"bootstrap", "dirichlet"}
    confidence : float
    samples, tasks : int
    success, usage : Band
        Planned success, and planned help used (the first budget's units), from the start distribution, with intervals
        for what the plan really attains. An interval may lie below what the plan promises: plans promise too much.
    corrected : float64 (B1 + 1, ...)
        Planned success less its mean optimism.
    asks : float64 (n-2, B1 + 1, ...)
        Share of the samples whose plan asks for help in an abstract state, in the order of the model's keys.
    """

    method: str
    confidence: float
    samples: int
    tasks: int
    success: Band
    usage: Band
    corrected: Floats
    asks: Floats


@dataclass(frozen=True, eq=False)
class FrontierBands:
    """Success against expected usage as planned, and what the plans of the frontier will attain and spend.

    Attributes
    ----------
    usage : float64 (k,)
        Expected usage that is allowed, as asked for.
    success, spent : Band
        Success of the best mixture under that usage, and what it spends; float64 (k,) each.
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
    prm: Scorer | None = None,
    costs: Costs | None = None,
    borrow_help: bool = False,
) -> Uncertainty:
    """Intervals for the success and usage that a plan will really attain, and how settled its decisions are.

    Every sample is a model that may be the true one and a log drawn from it. A plan is made from that log as it was
    made from the real one, and valued in the model that the log came from: what it promised too much is one draw of
    the error of the real plan. The interval is the planned value less the quantiles of that error (a basic interval,
    Davison and Hinkley 1997, section 5.2), so that the optimism of choosing by noisy rows is taken off. Rows
    hardly seen lean on those of like states (`selfreg.estimate.shrinkage`). The combination is ours.

    Parameters
    ----------
    trajectories, abstraction, kappa, prm, costs, borrow_help
        As for `estimate_mdp`. The PRM's scores are taken as given.
    budget : int or tuple of int
    method : {"bootstrap", "dirichlet"}
        "bootstrap" draws tasks, so that steps of one task stay together; "dirichlet" takes steps as
        independent, row by row (for logs of a task run many times, where all chance is within the model).
    samples : int
        Models, each solved; 2 / (1 - confidence) or more, or intervals are too narrow.
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
    study, drawn = _drawn(trajectories, abstraction, method, samples, confidence, seed, kappa, prm, costs, borrow_help)
    fitted = study.fit()
    plan = solve(fitted.mdp, budget, n_threads=1)
    estimate = _figures(fitted, plan.policy)
    errors: list[tuple[Floats, Floats]] = []
    asks = np.zeros(plan.policy[:-2].shape)
    for true, estimated in drawn:
        policy = solve(estimated.mdp, budget, n_threads=1).policy
        promised, attained = _figures(estimated, policy), _figures(true, policy)
        errors.append((promised[0] - attained[0], promised[1] - attained[1]))
        asks += policy[:-2] > 0
    success, usage = (
        _band(estimate[i], np.stack([error[i] for error in errors]), confidence, most)
        for i, most in enumerate((1.0, np.inf))
    )
    corrected = np.clip(estimate[0] - np.mean([error[0] for error in errors], axis=0), 0.0, 1.0)
    return Uncertainty(method, confidence, samples, study.n_tasks, success, usage, corrected, asks / samples)


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
    prm: Scorer | None = None,
    costs: Costs | None = None,
    borrow_help: bool = False,
) -> FrontierBands:
    """Intervals for what the mixtures of the frontier will attain, and spend, under expected usages.

    As `uncertainty`, for `selfreg.frontier(...).at(usage)`.

    Parameters
    ----------
    trajectories, abstraction, method, samples, confidence, seed, kappa, prm, costs, borrow_help
        As for `uncertainty`; one kind of budget.
    usage : sequence of float
        Expected units of help an episode, >= 0.

    Raises
    ------
    ValueError, TypeError
        As `uncertainty`, and for a usage that is no number >= 0.

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
    study, drawn = _drawn(trajectories, abstraction, method, samples, confidence, seed, kappa, prm, costs, borrow_help)
    fitted = study.fit()
    front = frontier(fitted.mdp, fitted.start, n_threads=1)
    estimate = _mixed(fitted, front, points)
    errors = []
    for true, estimated in drawn:
        front = frontier(estimated.mdp, estimated.start, n_threads=1)
        errors.append(_mixed(estimated, front, points) - _mixed(true, front, points))
    table = np.stack(errors)
    success, spent = (_band(estimate[i], table[:, i], confidence, most) for i, most in enumerate((1.0, np.inf)))
    return FrontierBands(points, success, spent, confidence, samples)


def _drawn(
    trajectories: Iterable[Trajectory],
    abstraction: StateAbstraction,
    method: Method,
    samples: int,
    confidence: float,
    seed: int,
    kappa: float,
    prm: Scorer | None,
    costs: Costs | None,
    borrow_help: bool,
) -> tuple[ResamplingDataset, Iterable[Draw]]:
    """The logs as a study, and samples of them; arguments checked."""
    if method not in ("bootstrap", "dirichlet"):
        raise ValueError(f'method is {method!r}; expected "bootstrap" or "dirichlet"')
    samples = validate.integer("samples", samples, 2)
    validate.confidence("confidence", confidence)
    study = ResamplingDataset(trajectories, abstraction, kappa, prm, costs, borrow_help)
    return study, draws(study, method, samples, np.random.default_rng(seed))


def _figures(model: Fitted, policy: npt.NDArray[np.int8]) -> tuple[Floats, Floats]:
    """Success and usage of a policy from the start of a model."""
    success, usage = success_and_usage(model.mdp, policy)
    return model.at_start(success), model.at_start(usage[..., 0])


def _mixed(model: Fitted, front: Frontier, points: Floats) -> Floats:
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


def _band(estimate: Floats, error: Floats, confidence: float, most: float) -> Band:
    low, high = central_bounds(error, confidence)
    return Band(estimate, np.clip(estimate - high, 0.0, most), np.clip(estimate - low, 0.0, most))
