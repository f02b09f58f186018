"""What one more unit of budget adds: a policy beside the same policy under the next smaller budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from selfreg._util.bootstrap import Interval, central_bounds
from selfreg.estimate.forecasting.candidates import Candidate
from selfreg.estimate.forecasting.logged_steps import Floats, LoggedSteps
from selfreg.estimate.forecasting.recommendation import OBSERVED, Scored


class Increment(NamedTuple):
    """Success and requests that a larger budget adds.

    Attributes
    ----------
    budget : int
        The smaller budget; 0 is going alone.
    success : Interval
        Of the difference, which may be negative. The two policies share their bootstrap samples.
    requests : float
    """

    budget: int
    success: Interval
    requests: float


def increments(scored: Sequence[Scored], widen: float, confidence: float) -> list[Increment | None]:
    """For each policy; None for the first one, and where the log does not show one of the two."""
    return [_increment(one, _smaller(scored, one.candidate), widen, confidence) for one in scored]


def _smaller(scored: Sequence[Scored], one: Candidate) -> Scored | None:
    """The same policy under the next smaller budget that the log shows, or going alone."""
    if len(one.budget) != 1 or one.policy == "never":
        return None
    same = [
        other
        for other in scored
        if (other.candidate.policy, other.candidate.rule, other.candidate.help) == (one.policy, one.rule, one.help)
        and other.candidate.budget[0] < one.budget[0]
        and _is_observed(other)
    ]
    return max(same, key=lambda other: other.candidate.budget[0], default=scored[0])


def _increment(one: Scored, other: Scored | None, widen: float, confidence: float) -> Increment | None:
    if other is None or not (_is_observed(one) and _is_observed(other)):
        return None
    success, requests = (_observed_mean(one, i) - _observed_mean(other, i) for i in (0, 1))
    low, high = (success[0] + widen * (bound - success[0]) for bound in central_bounds(success[1:], confidence))
    interval = Interval(float(success[0]), float(max(low, -1.0)), float(min(high, 1.0)))
    return Increment(other.candidate.budget[0], interval, float(requests[0]))


def _is_observed(one: Scored) -> bool:
    return bool(one.value.unknown[0] <= OBSERVED) and one.bounds is None


def _observed_mean(one: Scored, which: int) -> Floats:
    """Success (0) or requests (1) of the tasks whose outcome is known."""
    unknown = one.value.unknown
    values: Floats = one.value[which] / np.where(unknown < 1.0, 1.0 - unknown, 1.0)
    return values if which else np.clip(values, 0.0, 1.0)


def shares_of_help(candidate: Candidate, logged: LoggedSteps) -> dict[str, float]:
    """Share of each help type among the requests of a policy at the logged steps."""
    counts = np.bincount(candidate.decided, minlength=len(logged.actions))[1:]
    if not counts.sum():
        return {}
    return {name: float(n / counts.sum()) for name, n in zip(logged.actions[1:], counts, strict=True) if n}


def price_of(candidate: Candidate, logged: LoggedSteps, price: float | Mapping[str, float]) -> float:
    """Mean price of a request of a policy, in success."""
    if not isinstance(price, Mapping):
        return price
    return sum(share * price.get(name, 0.0) for name, share in shares_of_help(candidate, logged).items())
