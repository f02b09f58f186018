"""Off-policy evaluation: success and usage of a policy, from logs of other policies."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from selfreg._util import validate
from selfreg._util.bootstrap import Interval, central_bounds
from selfreg.data import Trajectory
from selfreg.decisions import DecisionPolicy
from selfreg.estimate import StateAbstraction
from selfreg.estimate.abstraction import BRANCH
from selfreg.evaluate.log_weights import Overlap, Table
from selfreg.evaluate.logged import Corrected, Logged, Propensity

Floats = npt.NDArray[np.float64]
RESAMPLES, REFITS = 1000, 100
LEAST_EFFECTIVE = 25.0
# How far the mean weight may be from 1, after three standard errors.
WEIGHT_GAP = 0.05
MOST_CLIP = 1e200


class OverlapError(ValueError):
    """Too few episodes of the log agree with the policy; `overlap` has the figures."""

    def __init__(self, message: str, overlap: Overlap) -> None:
        super().__init__(message)
        self.overlap = overlap

    def __reduce__(self) -> tuple[Any, ...]:
        """For pickle and copy, which would call the class with the message alone."""
        return type(self), (*self.args, self.overlap)


class Estimate(NamedTuple):
    """Success and help used by one estimator; usage is None where it is infinite in a model."""

    success: Interval
    usage: Interval | None


@dataclass(frozen=True, eq=False)
class OffPolicy:
    """Estimates of one policy under one budget.

    Attributes
    ----------
    estimates : dict
        "importance sampling" (per decision for usage; success comes at the end, where all decisions count),
        "weighted importance sampling", "doubly robust", "model-based".
    overlap : Overlap
        Of the weights that were used: with `clip`, the clipped ones.
    propensities : {"known", "estimated"}
    confidence : float
    clip : float or None
        Bound of the weights.
    bias : dict
        With `clip`, the most by which the expected success of an estimator can differ from the truth, as far as the
        mean clipped weights of the log tell; its interval does not cover this. Importance sampling is only ever too
        low. Empty without `clip`.
    """

    estimates: dict[str, Estimate]
    overlap: Overlap
    propensities: str
    confidence: float
    clip: float | None = None
    bias: dict[str, float] = field(default_factory=dict)

    @property
    def disagreement(self) -> float:
        """Largest difference between the estimators' successes."""
        means = [estimate.success.mean for estimate in self.estimates.values()]
        return max(means) - min(means)

    def lines(self) -> list[str]:
        """The result as sentences."""
        o = self.overlap
        head = (
            f"{o.episodes} episodes of {o.tasks} tasks, propensities {self.propensities}; {100 * o.matched:.0f}% of "
            f"the episodes could be the policy's; {o.effective:.1f} effective tasks; mean weight {o.mean_weight:.2f}, "
            f"largest {100 * o.largest:.1f}% of all" + ("." if self.clip is None else f", clipped at {self.clip:g}.")
        )
        rows = []
        for name, (success, usage) in self.estimates.items():
            used = "" if usage is None else f"; help used {usage.mean:.2f} [{usage.low:.2f}, {usage.high:.2f}]"
            off = f", bias by clipping up to {self.bias[name]:.3f}" if name in self.bias else ""
            rows.append(f"{name}: success {success.mean:.3f} [{success.low:.3f}, {success.high:.3f}]{off}{used}")
        return [head, *rows, f"The estimators differ by up to {self.disagreement:.3f}."]

    def to_json(self) -> dict[str, Any]:
        """The result as JSON values."""
        estimates = {
            name: {"success": one.success._asdict(), "usage": None if one.usage is None else one.usage._asdict()}
            for name, one in self.estimates.items()
        }
        return {
            "estimates": estimates,
            "overlap": self.overlap._asdict(),
            "propensities": self.propensities,
            "confidence": self.confidence,
            "clip": self.clip,
            "bias": self.bias,
        }


def ope(
    trajectories: Iterable[Trajectory],
    policy: DecisionPolicy,
    *,
    budget: int | None = None,
    propensity: str | Propensity | None = None,
    abstraction: StateAbstraction | None = None,
    costs: Mapping[str, int] | None = None,
    confidence: float = 0.9,
    seed: int = 0,
    refits: int = REFITS,
    least_effective: float = LEAST_EFFECTIVE,
    clip: float | None = None,
) -> OffPolicy:
    """Estimate success and usage of `policy` from logs of other policies.

    Importance sampling weighs every logged step by the product, up to it, of P(action | policy) / P(action | log)
    (Precup, Sutton and Singh 2000). The doubly robust estimator (Jiang and Li 2016) adds weighted errors of a model to
    the model's value. Models are estimated from other tasks than those that they are used on (cross-fitting in 5
    folds), so that the estimator is unbiased where the propensities are right.

    Parameters
    ----------
    trajectories : iterable of Trajectory
        With an outcome each, of at least two tasks.
    policy : DecisionPolicy
        Such as `Plan`, `Always`, a `Helper`. It decides at every logged step, with the budget left there. A request
        that the budget cannot pay for is not carried out. A policy that decides at random needs a method
        `action_probabilities(steps, budget_left)`, which returns a mapping of action to probability.
    budget : int, optional
        Largest budget of an episode; unlimited by default.
    propensity : str or callable, optional
        P(logged action): the name of an episode field that holds the chance of help in each of its steps, shared
        equally by the help types ("rate" in logs of `selfreg.envs.collect`; several rates are one mixture); or a
        function of a trajectory and a step number, such as `fitted_propensity` returns. By default, the frequencies
        of the actions by abstract state, and by whether none, some or all of the earlier steps were helped, anew in
        every resample. The values of a function are not resampled: if it was fitted to the same log, intervals are
        too wide.
    abstraction : StateAbstraction, optional
        States of the model and of estimated propensities; by default that of the policy, if it is a `Plan`.
    costs : mapping, optional
        As for `estimate_mdp`, with one budget.
    confidence : float
        Of the intervals (percentile bootstrap over tasks).
    seed : int
    refits : int
        Resamples with a model, and frequencies, of their own, for their intervals. With fewer than
        2 / (1 - confidence) the interval is the range of the resamples, which is too narrow.
    least_effective : float
        Effective tasks below which there is no estimate. There is none either if the mean weight differs from 1 by
        more than chance: then part of what the policy does was never tried, or the propensities are wrong. 0 switches
        both checks off.
    clip : float, optional
        Bound of the weights, at least 1 (Ionides 2008): larger ones are set to it, which narrows the intervals and
        biases the estimates. `OffPolicy.bias` bounds this bias of success; it includes what was never tried, so the
        mean weight is not checked. Without it, a weight that is too large for a float is an error.

    Raises
    ------
    OverlapError
        If overlap is below `least_effective`; it carries the figures.
    ValueError, TypeError
        For bad propensities, a single task, an episode without an outcome, an unknown help type, a weight that is too
        large.

    Examples
    --------
    Help is given by a fair coin, and always succeeds.

    >>> from selfreg.data import Step, Trajectory
    >>> from selfreg.estimate import Features
    >>> from selfreg.evaluate import Always, ope
    >>> logs = [
    ...     Trajectory(f"t{i}", str(i), float(i % 4 > 0), (Step("go", intervention="help" if i % 2 else None),))
    ...     for i in range(200)
    ... ]
    >>> result = ope(logs, Always("help"), propensity=lambda trajectory, step: 0.5, abstraction=Features(["step"]))
    >>> {name: estimate.success.mean for name, estimate in result.estimates.items()}
    {'importance sampling': 1.0, 'weighted importance sampling': 1.0, 'doubly robust': 1.0, 'model-based': 1.0}
    """
    confidence = validate.confidence("confidence", confidence)
    refits = validate.integer("refits", refits, 2, RESAMPLES)
    least_effective = validate.nonneg_float("least_effective", least_effective)
    limit = None if budget is None else validate.integer("budget", budget, 0)
    bound = None if clip is None else _bound(clip)
    states = abstraction or getattr(policy, "abstraction", None)
    if states is None:
        raise ValueError("abstraction is missing: the policy has none, and a model needs states")
    episodes = list(trajectories)
    _check(episodes)
    problem = Logged(episodes, policy, limit, states, costs)
    study = problem.study
    weight = problem.log_weight(propensity, bound)
    overlap = problem.overlap(weight)
    gap = abs(overlap.mean_weight - 1.0) - 3.0 * overlap.mean_weight_error
    untried = bound is None and least_effective > 0 and gap > WEIGHT_GAP
    if untried or overlap.effective < least_effective:
        raise OverlapError(_refusal(problem, overlap, weight, least_effective), overlap)
    generator = np.random.default_rng(seed)
    times = generator.multinomial(study.n_tasks, np.full(study.n_tasks, 1 / study.n_tasks), size=RESAMPLES).astype(
        float
    )
    with np.errstate(invalid="ignore"):  # usage is infinite in a model where requests never end
        models = problem.corrected(generator)
        tables = _tables(problem, weight, models)
        if propensity is None:
            # Frequencies are estimates too: every resample has its own.
            again = [
                _values(_tables(problem, problem.log_weight(None, bound, one), models), one[None])
                for one in times[:refits]
            ]
            drawn = np.concatenate(again, axis=-1)
        else:
            drawn = _values(tables, times)
        means = _values(tables, np.ones((1, study.n_tasks)))[..., 0]
    estimates = {name: _estimate(means[i], drawn[i], confidence) for i, name in enumerate(tables)}
    found = problem.model_based(times[:refits])
    estimates["model-based"] = _estimate(found[0], found[1:].T, confidence)
    bias = {} if bound is None else _bias(problem, weight)
    return OffPolicy(estimates, overlap, "estimated" if propensity is None else "known", confidence, bound, bias)


def _bound(clip: float) -> float:
    value = validate.positive("clip", clip)
    if not 1.0 <= value <= MOST_CLIP:
        raise ValueError(f"clip is {value:g}; expected 1..{MOST_CLIP:g}")
    return value


def _check(episodes: Sequence[Trajectory]) -> None:
    for trajectory in episodes:
        if BRANCH in trajectory.fields:
            raise ValueError(f"episode {trajectory.episode!r} starts inside of another one; expected whole episodes")
        if trajectory.outcome is None:
            raise ValueError(f"episode {trajectory.episode!r} has no outcome; expected one")


def _bias(problem: Logged, log_weight: Floats) -> dict[str, float]:
    """Bounds of the bias of success by clipped weights.

    The expected weight is 1, so that 1 less the mean clipped weight is the probability that is missing, and outcomes
    lie in [0, 1]. Doubly robust: an error of the model in [-1, 1] is missed at every step with the probability that
    is missing there.
    """
    missing = problem.missing(np.exp(log_weight))
    at_end = float(missing[-1])
    robust = min(1.0, float(missing.sum()))
    return {"importance sampling": at_end, "weighted importance sampling": at_end, "doubly robust": robust}


def _tables(problem: Logged, log_weight: Floats, models: Corrected) -> dict[str, tuple[Table, Table]]:
    """Success and usage by each estimator that weighs the log."""
    weight = np.exp(log_weight)
    success, spent = problem.doubly_robust(weight, models)
    last = problem.last(weight)
    return {
        "importance sampling": (
            problem.mean(problem.outcome * last),
            problem.mean(problem.summed(weight * problem.steps.charge)),
        ),
        "weighted importance sampling": (
            problem.ratio(problem.outcome, problem.last(log_weight)),
            problem.ratio_by_time(log_weight),
        ),
        "doubly robust": (problem.mean(success), problem.mean(spent)),
    }


def _values(tables: Mapping[str, tuple[Table, Table]], times: Floats) -> Floats:
    """Estimates with every task taken `times` (samples, tasks) times, float64 (estimators, 2, samples)."""
    return np.array([[table.value(times) for table in pair] for pair in tables.values()])


def _estimate(mean: Floats, drawn: Floats, confidence: float) -> Estimate:
    """Of a mean (2,) and its resamples (2, n)."""
    success, usage = (Interval(float(mean[i]), *map(float, central_bounds(drawn[i], confidence))) for i in range(2))
    return Estimate(success, usage if np.isfinite(drawn[1]).all() else None)


def _refusal(problem: Logged, overlap: Overlap, log_weight: Floats, least: float) -> str:
    """Why there is no estimate, with the step number at which most episodes differ from the policy."""
    possible = log_weight > -np.inf
    parted = np.flatnonzero(~possible & np.append(True, possible[:-1] | (problem.steps.time[1:] == 0)))
    where = ""
    if len(parted):
        step = int(np.bincount(problem.steps.time[parted]).argmax())
        where = f"; most differ from the policy first at step {step}"
    return (
        f"too little overlap: {100 * overlap.matched:.1f}% of {overlap.episodes} episodes could be the policy's, "
        f"{overlap.effective:.1f} effective tasks (expected {least:g}), the largest weight "
        f"{100 * overlap.largest:.0f}% of all, the mean weight {overlap.mean_weight:.2f} (expected 1){where}. "
        "Log more episodes with help where the policy requests it"
    )
