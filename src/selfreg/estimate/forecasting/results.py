"""What a forecast says: of each policy, and which one to deploy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from selfreg._util.bootstrap import Interval, central_bounds
from selfreg.estimate.forecasting.candidates import Budget, most_requests
from selfreg.estimate.forecasting.identification import Identification
from selfreg.estimate.forecasting.increments import Increment, shares_of_help
from selfreg.estimate.forecasting.logged_steps import Floats, LoggedSteps
from selfreg.estimate.forecasting.recommendation import OBSERVED, Scored, is_largest

# Factors of the distance of bootstrap bounds from the estimate: for the few tasks; and for effects at steps, which
# depend on a choice of features that the bootstrap does not repeat. By measurement (`python -m benchmarks forecast`).
WIDEN, WIDEN_STEPS = 1.1, 1.25
# Success by which always requesting help may gain and lose at once, from where on the log does not tell what it does.
WIDE = 0.25
# When the rules of thumb request help, for a sentence.
WHEN = {"last-k": "in the last steps", "every-n": "every few steps"}


class PolicyForecast(NamedTuple):
    """What a policy under a budget will attain on new tasks.

    Attributes
    ----------
    policy : {"never", "always", "rule", "plan", "helper"}
    rule, help : str or None
    budget : tuple of int
    success, requests : Interval
        Of the mean over tasks. Where the log does not show all outcomes of the policy, `low` and `high` are bounds for
        whatever the rest may be, and `mean` is the middle between them.
    identified : bool
        Whether `success` is an estimate and not bounds.
    added : Increment, optional
        What it adds to the same policy under the next smaller budget; None where the log does not show that.
    mix : mapping, optional
        Share of each help type among the requests.
    """

    policy: str
    rule: str | None
    help: str | None
    budget: Budget
    success: Interval
    requests: Interval
    identified: bool
    added: Increment | None = None
    mix: Mapping[str, float] | None = None

    def to_json(self) -> dict[str, Any]:
        """As JSON values; a budget of one kind is a number."""
        return {
            "policy": self.policy,
            "rule": self.rule,
            "help": self.help,
            "budget": self.budget[0] if len(self.budget) == 1 else list(self.budget),
            "success": self.success._asdict(),
            "requests": self.requests._asdict(),
            "identified": self.identified,
            "added": None if self.added is None else self.added._asdict() | {"success": self.added.success._asdict()},
            "mix": dict(self.mix or {}),
        }


@dataclass(frozen=True, eq=False)
class PolicyForecasts:
    """Forecasts of all policies that were compared.

    Attributes
    ----------
    outlooks : tuple of PolicyForecast
        Never first; then always, rules, plan and helper by budget.
    recommended : int
        Index of the policy to deploy.
    identified : bool
        Whether the log can tell what selective help is worth. If not, the recommendation is never or always.
    design : {"steps", "tasks", "episodes", "none"}
        What identifies the effect of help: see `reason`.
    reason, words : str
        Why the log can tell, or cannot; and the recommendation in words.
    confidence : float
    by_help : tuple of str
        A sentence for each help type: what always requesting it gains, and whether to buy it.
    beside : tuple of PolicyForecast
        By budget, of a policy that is not among those that are compared.
    """

    outlooks: tuple[PolicyForecast, ...]
    recommended: int
    identified: bool
    design: str
    reason: str
    words: str
    confidence: float
    by_help: tuple[str, ...] = ()
    beside: tuple[PolicyForecast, ...] = ()

    @property
    def recommendation(self) -> PolicyForecast:
        """The policy to deploy."""
        return self.outlooks[self.recommended]

    def to_json(self) -> dict[str, Any]:
        """The entries "recommendation" and "forecast" of summary.json."""
        chosen = self.recommendation.to_json() | {"identified": self.identified, "design": self.design}
        chosen |= {"words": self.words, "reason": self.reason, "by_help": list(self.by_help)}
        return {
            "recommendation": chosen | {"confidence": self.confidence},
            "forecast": [one.to_json() for one in self.outlooks],
        }


def make_outlook(
    scored: Scored, logged: LoggedSteps, confidence: float, added: Increment | None = None
) -> PolicyForecast:
    candidate, value, widest = scored.candidate, scored.value, scored.bounds or scored.value
    most = float(most_requests(candidate, logged))
    observed = bool(value.unknown[0] <= OBSERVED)
    share = 1.0 / np.where(observed & (value.unknown < 1.0), 1.0 - value.unknown, 1.0)
    steps = scored.immediate is not None
    interval = partial(make_interval, widen=WIDEN_STEPS if steps else WIDEN, cut=steps)
    success, requests = (
        interval(known * share, confidence=confidence, most=limit)
        if observed and scored.bounds is None
        else _bounds(bounds, widest.unknown, float((known * share)[0]) if observed else None, confidence, limit)
        for known, bounds, limit in (
            (value.success, widest.success, 1.0),
            (value.requests, widest.requests, most),
        )
    )
    identified = observed and scored.bounds is None
    return PolicyForecast(
        candidate.policy, candidate.rule, candidate.help, candidate.budget, success, requests, identified,
        added if identified else None, shares_of_help(candidate, logged),
    )  # fmt: skip


def make_interval(values: Floats, *, widen: float, cut: bool, confidence: float, most: float) -> Interval:
    """Interval around the first of `values` from the others, which are bootstrap samples.

    With `cut` an interval that reaches over 0 or `most` ends there. Its mean and its other end are those of a normal
    distribution cut there: an estimate above the largest possible value is known to be too high, and the truth need
    not be close to that value.
    """
    from scipy.stats import norm, truncnorm  # takes long to import

    low, high = (float(values[0] + widen * (bound - values[0])) for bound in central_bounds(values[1:], confidence))
    spread = (high - low) / (2.0 * norm.isf((1.0 - confidence) / 2.0))
    if not cut or (low >= 0.0 and high <= most) or spread <= 0.0:
        return Interval(*(float(np.clip(one, 0.0, most)) for one in (values[0], low, high)))
    inside = truncnorm(-values[0] / spread, (most - values[0]) / spread, loc=values[0], scale=spread)
    ends = inside.interval(confidence)
    with np.errstate(invalid="ignore"):  # far outside SciPy also computes a skewness, of which it warns
        mean = float(inside.mean())
    return Interval(mean, 0.0 if low < 0.0 else float(ends[0]), most if high > most else float(ends[1]))


def _bounds(known: Floats, unknown: Floats, mean: float | None, confidence: float, most: float) -> Interval:
    """Bounds, as wide as chance makes them on either side, around `mean`, by default their middle."""
    upper = known + most * unknown
    ends = central_bounds(known[1:], confidence)[0], central_bounds(upper[1:], confidence)[1]
    low, high = (float(np.clip(one, 0.0, most)) for one in ends)
    middle = float(np.clip(known[0], 0.0, most) + np.clip(upper[0], 0.0, most)) / 2
    return Interval(middle if mean is None else float(np.clip(mean, low, high)), low, high)


def help_in_words(scored: Sequence[Scored], confidence: float, priced: bool) -> tuple[str, ...]:
    """A sentence for each help type: what always requesting it gains over going alone, less the price."""
    lines, less = [], ", less the price" if priced else ""
    for i, one in enumerate(scored):
        if not is_largest(scored, i):
            continue
        if one.gain is None:
            lines.append(f"With {one.candidate.help}: the log cannot tell.")
            continue
        low, high = central_bounds(one.gain[1:], confidence)
        if min(-low, high) > WIDE:
            lines.append(
                f"Requesting {one.candidate.help} at every step: the log cannot tell ({100 * low:+.1f} to "
                f"{100 * high:+.1f} points of success{less})."
            )
            continue
        verdict = "not worth it" if one.gain[0] <= 0 or high < 0 else "worth it" if low > 0 else "may be chance"
        lines.append(
            f"Requesting {one.candidate.help} at every step: {100 * one.gain[0]:+.1f} points of success "
            f"({100 * low:+.1f} to {100 * high:+.1f}{less}): {verdict}."
        )
    return tuple(lines)


def recommend_in_words(
    outlooks: Sequence[PolicyForecast],
    recommended: int,
    found: Identification,
    gain: Floats | None,
    told: bool,
    priced: bool,
    most: int,
) -> str:
    """The recommendation in a sentence or two; `most` requests fit into its budget."""
    one, alone = outlooks[recommended], outlooks[0]
    percent = f"{100 * one.success.mean:.0f}% success ({100 * one.success.low:.0f} to {100 * one.success.high:.0f})"
    if recommended:
        when = f" {WHEN[one.rule]} (rule {one.rule})" if one.rule in WHEN else ""
        policy = {"always": f"Always request {one.help}", "rule": f"Request {one.help}{when}",
                  "plan": "Request help as the plan says", "helper": "Let the helper decide"}[one.policy]  # fmt: skip
        limit = f"with budget {', '.join(map(str, one.budget))}"
        if one.policy == "always":
            limit = "once" if most == 1 else f"up to {most} times"
        if found.identified and not one.identified and gain is not None:
            low, high = (100 * bound for bound in central_bounds(gain[1:], 0.9))
            return (
                f"{policy}, {limit}: {100 * gain[0]:+.0f} points of success ({low:+.0f} to {high:+.0f}) in the tasks "
                f"that ran both ways. In all tasks success is between {100 * one.success.low:.0f}% and "
                f"{100 * one.success.high:.0f}%."
            )
        words = f"{policy}, {limit}: {percent} with {one.requests.mean:.1f} requests a task"
        words += f", against {100 * alone.success.mean:.0f}% alone."
        return words if found.identified else f"{words} This holds if chance decided which episodes were helped."
    if len(outlooks) == 1:
        return f"The log has no help, so it cannot tell what help is worth: {percent} alone."
    if not told or found.design == "none" or (found.design == "episodes" and not found.by_chance):
        return "Do not buy help on the strength of this log: it cannot tell what help is worth."
    better = "worth its price" if priced else "better than going on alone"
    return f"Do not buy help: no way of requesting it is {better} by more than chance (alone {percent})."
