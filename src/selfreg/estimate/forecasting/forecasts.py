"""Forecast: what a policy will attain on new tasks, and which one to deploy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from selfreg._util import validate
from selfreg._util.bootstrap import Interval, central_bounds
from selfreg.data import StateScorer, Trajectory
from selfreg.estimate.abstraction import StateAbstraction
from selfreg.estimate.forecasting import candidates
from selfreg.estimate.forecasting.agreement import agreement_value, paired_values
from selfreg.estimate.forecasting.candidates import Budget, Candidate, Trainer
from selfreg.estimate.forecasting.identification import (
    Identification,
    identify,
    least_pairs,
    state_strata,
    time_blocks,
)
from selfreg.estimate.forecasting.logged_steps import Floats, LoggedSteps
from selfreg.estimate.forecasting.recommendation import OBSERVED, Scored, choose
from selfreg.estimate.forecasting.step_effects import StepDesign, Value, immediate_effect, step_value
from selfreg.estimate.model import resolve_costs

SAMPLES = 300
CONFIDENCE = 0.9
# Largest number of budgets below the largest one that are forecast.
MOST_BUDGETS = 6
# Earlier helped steps from which on an effect of help no longer changes with their number.
MOST_EARLIER = 4
# Factor of the distance of bootstrap bounds from the estimate, for the few tasks and the choice of the model.
WIDEN = 1.1


class Outlook(NamedTuple):
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
    """

    policy: str
    rule: str | None
    help: str | None
    budget: Budget
    success: Interval
    requests: Interval
    identified: bool

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
        }


@dataclass(frozen=True, eq=False)
class Forecast:
    """Forecasts of all policies that were compared.

    Attributes
    ----------
    outlooks : tuple of Outlook
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
    """

    outlooks: tuple[Outlook, ...]
    recommended: int
    identified: bool
    design: str
    reason: str
    words: str
    confidence: float

    @property
    def recommendation(self) -> Outlook:
        """The policy to deploy."""
        return self.outlooks[self.recommended]

    def to_json(self) -> dict[str, Any]:
        """The entries "recommendation" and "forecast" of summary.json."""
        chosen = self.recommendation.to_json() | {"identified": self.identified, "design": self.design}
        return {
            "recommendation": chosen | {"words": self.words, "reason": self.reason, "confidence": self.confidence},
            "forecast": [one.to_json() for one in self.outlooks],
        }


def forecast(
    trajectories: Iterable[Trajectory],
    abstraction: StateAbstraction,
    budget: int | tuple[int, ...],
    *,
    helper: Trainer | None = None,
    price: float = 0.0,
    costs: Mapping[str, int | tuple[int, ...]] | None = None,
    borrow_help: bool = False,
    prm: StateScorer | None = None,
    samples: int = SAMPLES,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> Forecast:
    """Forecast success and requests of never, always, rules of thumb, plan and helper on new tasks; recommend one.

    Plan and helper decide in tasks that they were not made from (5 folds of tasks). How a policy is evaluated depends
    on what identifies the effect of help:

    * Chance decided at single steps (field "rate", or help that does not depend on the state by a permutation test):
      a structural nested mean model (Robins 2004, `selfreg.estimate.forecasting.step_effects`).
    * The same tasks ran with and without help: episodes that went as the policy decides, by task; bounds for policies
      that no episode followed.
    * Episodes of different tasks: as before, if chance decided; a log without a rate cannot show that, and
      `identified` is false.
    * Help that depends on the state: bounds alone.

    Parameters
    ----------
    trajectories : iterable of Trajectory
        Truncated episodes without an outcome are left out.
    abstraction : StateAbstraction
    budget : int or tuple of int
        Largest budget, one number for each kind.
    helper : callable, optional
        Trains a helper from episodes, once a fold.
    price : float
        Price of a request, in success: 0.02 if 50 requests are worth a success.
    costs : mapping, optional
        As for `estimate_mdp`.
    borrow_help : bool
        As for `estimate_mdp`.
    prm : StateScorer, optional
        Its scores of the states take variance away.
    samples : int
        Bootstrap samples of tasks.
    confidence : float
        Of the intervals.
    seed : int

    Raises
    ------
    ValueError
        If no episode has an outcome, or those that have are of one task.

    Examples
    --------
    >>> from selfreg.data import Step, Trajectory
    >>> from selfreg.estimate import Features, forecast
    >>> alone = [Trajectory(f"t{i}", f"a{i}", float(i % 4 == 0), (Step("go"),)) for i in range(60)]
    >>> helped = [Trajectory(f"t{i}", f"h{i}", 1.0, (Step("go", intervention="person"),)) for i in range(60)]
    >>> result = forecast(alone + helped, Features(["step"]), 1)
    >>> result.recommendation.policy, result.recommendation.success.mean, result.design
    ('always', 1.0, 'tasks')
    """
    validate.confidence("confidence", confidence)
    samples, price = validate.integer("samples", samples, 2), validate.nonneg_float("price", price)
    episodes = list(trajectories)
    abstraction.fit(episodes)
    charges = _charges(episodes, costs)
    logged = LoggedSteps.of(episodes, charges)
    if len(logged.tasks) < 2:
        raise ValueError(f"the episodes are of one task ({logged.tasks[0]!r}); expected at least two tasks")
    most = (budget,) if isinstance(budget, int) else tuple(budget)
    found = identify(logged, abstraction, seed)
    compared = _candidates(logged, abstraction, most, charges, found, helper, seed, borrow_help)
    times = np.random.default_rng(seed).multinomial(
        len(logged.tasks), np.full(len(logged.tasks), 1.0 / len(logged.tasks)), size=samples
    )
    scored = _evaluate(logged, abstraction, compared, found, times.astype(np.float64), price, prm)
    recommended = choose(scored, found)
    outlooks = tuple(_outlook(one, logged, confidence) for one in scored)
    words = _words(outlooks, recommended, found)
    return Forecast(outlooks, recommended, found.identified, found.design, found.words, words, confidence)


def _charges(
    episodes: Sequence[Trajectory], costs: Mapping[str, int | tuple[int, ...]] | None
) -> dict[str, tuple[int, ...]]:
    """Cost of every help type that the log has, in alphabetical order."""
    types = sorted({step.intervention for t in episodes for step in t.steps if step.intervention is not None})
    resolved = resolve_costs(episodes, dict.fromkeys(["nohelp", *types]), costs)
    return {name: validate.nonneg_ints(f'costs["{name}"]', resolved.get(name, 1)) for name in types}


def _candidates(
    logged: LoggedSteps,
    abstraction: StateAbstraction,
    most: Budget,
    charges: Mapping[str, Budget],
    found: Identification,
    helper: Trainer | None,
    seed: int,
    borrow_help: bool,
) -> list[Candidate]:
    result = [candidates.never(logged)]
    if len(logged.actions) == 1:
        return result
    if len(most) != logged.costs.shape[1]:
        raise ValueError(f"budget has {len(most)} kind(s); the costs have {logged.costs.shape[1]}")
    budgets = _budgets(most)
    alone = logged.length[~logged.helped]
    horizon = int(np.median(alone if alone.size else logged.length))
    for action in range(1, len(logged.actions)):
        result += [candidates.always(logged, action, one) for one in budgets]
        if found.design == "steps":
            result += [rule for one in budgets for rule in candidates.rules(logged, action, one, horizon)]
        else:
            result += _unlimited(logged, action, most)
    result += candidates.plan_decisions(logged, abstraction, budgets, charges, seed, borrow_help)
    if helper is not None:
        result += candidates.helper_decisions(logged, helper, budgets, seed)
    return result


def _budgets(most: Budget) -> list[Budget]:
    """Budgets of one kind from 1 to the largest, at most `MOST_BUDGETS`; of several kinds the largest alone."""
    if len(most) > 1 or most[0] <= 1:
        return [most]
    spaced = np.unique(np.geomspace(1, most[0], MOST_BUDGETS).round().astype(int))
    numbers = range(1, most[0] + 1) if most[0] <= MOST_BUDGETS else spaced.tolist()
    return [(int(one),) for one in numbers]


def _unlimited(logged: LoggedSteps, action: int, most: Budget) -> list[Candidate]:
    """Always this help, with a budget that covers the longest episode, where `most` does not."""
    longest = tuple(int(c) * int(logged.length.max()) for c in logged.costs[action])
    covered = all(a >= b for a, b in zip(most, longest, strict=True))
    return [] if covered else [candidates.always(logged, action, tuple(map(max, most, longest)))]


def _evaluate(
    logged: LoggedSteps,
    abstraction: StateAbstraction,
    compared: Sequence[Candidate],
    found: Identification,
    times: Floats,
    price: float,
    prm: StateScorer | None,
) -> list[Scored]:
    """Values of the policies, and their gains over the first one, which goes on alone."""
    if found.design == "steps":
        design = _step_design(logged, abstraction, found, prm)
        values = [step_value(design, one.decided, times) for one in compared]
        return [
            Scored(one, value, None, _gain(value, values[0], price), immediate_effect(design, one.decided))
            for one, value in zip(compared, values, strict=True)
        ]
    by_task = found.design != "episodes" or not found.by_chance
    values = [agreement_value(logged, one.decided, times, by_task=by_task) for one in compared]
    scored = []
    for one, value in zip(compared, values, strict=True):
        policy, alone = value, values[0]
        bounds = None if by_task else agreement_value(logged, one.decided, times, by_task=True)
        observed = bool(value.unknown[0] <= OBSERVED)
        if by_task:
            policy, alone, tasks = paired_values(logged, one.decided, times)
            observed = tasks >= least_pairs(logged)
        scored.append(Scored(one, value, bounds, _gain(policy, alone, price) if observed else None, None))
    return scored


def _gain(policy: Value, alone: Value, price: float) -> Floats:
    return policy.success - alone.success - price * (policy.requests - alone.requests)


def _step_design(
    logged: LoggedSteps, abstraction: StateAbstraction, found: Identification, prm: StateScorer | None
) -> StepDesign:
    """Baseline: stratum, time, score, and earlier help; effects: time, score, and how often there was help."""
    score = [] if prm is None else [_scores(logged, prm)]
    strata, block = state_strata(logged, abstraction), time_blocks(logged)
    earlier = (logged.earlier > 0).astype(np.float64)
    blocks = _one_hot(block)
    often = np.minimum(logged.earlier, MOST_EARLIER) / MOST_EARLIER
    states = np.column_stack([np.ones(len(block)), *_one_hot(strata), *blocks, *score])
    context = np.column_stack([earlier, often, *score, *blocks, *[earlier * one for one in blocks]])
    return StepDesign(logged, found.chance, states, np.column_stack([states, earlier]), context)


def _scores(logged: LoggedSteps, prm: StateScorer) -> Floats:
    """Score of every state, float64 (steps,)."""
    texts = [prm.text(t.steps[: i + 1]) for t in logged.episodes for i in range(len(t.steps))]
    distinct = {text: i for i, text in enumerate(dict.fromkeys(texts))}
    scores: Floats = prm.score(list(distinct))[[distinct[text] for text in texts]]
    return scores


def _one_hot(values: npt.NDArray[np.int64]) -> list[Floats]:
    return [(values == value).astype(np.float64) for value in np.unique(values)]


def _outlook(scored: Scored, logged: LoggedSteps, confidence: float) -> Outlook:
    candidate, value, widest = scored.candidate, scored.value, scored.bounds or scored.value
    most = float(_most_requests(candidate, logged))
    observed = bool(value.unknown[0] <= OBSERVED)
    share = 1.0 / (1.0 - value.unknown) if observed else np.ones(len(value.unknown))
    success, requests = (
        _interval(known * share, confidence, limit)
        if observed and scored.bounds is None
        else _bounds(bounds, widest.unknown, float((known * share)[0]) if observed else None, confidence, limit)
        for known, bounds, limit in (
            (value.success, widest.success, 1.0),
            (value.requests, widest.requests, most),
        )
    )
    identified = observed and scored.bounds is None
    return Outlook(
        candidate.policy, candidate.rule, candidate.help, candidate.budget, success, requests, identified
    )  # fmt: skip


def _most_requests(candidate: Candidate, logged: LoggedSteps) -> int:
    """Largest number of requests of an episode."""
    longest = int(logged.length.max())
    paid = [
        min((b // c for b, c in zip(candidate.budget, cost, strict=True) if c), default=longest)
        for cost in logged.costs[1:].tolist()
    ]
    return min(longest, max(paid, default=0))


def _interval(values: Floats, confidence: float, most: float) -> Interval:
    """Interval around the first of `values` from the others, which are bootstrap samples."""
    low, high = (values[0] + WIDEN * (bound - values[0]) for bound in central_bounds(values[1:], confidence))
    return Interval(*(float(np.clip(one, 0.0, most)) for one in (values[0], low, high)))


def _bounds(known: Floats, unknown: Floats, mean: float | None, confidence: float, most: float) -> Interval:
    """Bounds, as wide as chance makes them on either side, around `mean`, by default their middle."""
    upper = known + most * unknown
    ends = central_bounds(known[1:], confidence)[0], central_bounds(upper[1:], confidence)[1]
    low, high = (float(np.clip(one, 0.0, most)) for one in ends)
    middle = float(np.clip(known[0], 0.0, most) + np.clip(upper[0], 0.0, most)) / 2
    return Interval(middle if mean is None else float(np.clip(mean, low, high)), low, high)


def _words(outlooks: Sequence[Outlook], recommended: int, found: Identification) -> str:
    """The recommendation in a sentence or two."""
    one, alone = outlooks[recommended], outlooks[0]
    percent = f"{100 * one.success.mean:.0f}% success ({100 * one.success.low:.0f} to {100 * one.success.high:.0f})"
    if recommended:
        policy = {"always": f"Always request {one.help}", "rule": f"Request {one.help} by the rule {one.rule}",
                  "plan": "Request help as the plan says", "helper": "Let the helper decide"}[one.policy]  # fmt: skip
        limit = f"up to {' and '.join(map(str, one.budget))} times" if one.policy == "always" else (
            f"with budget {', '.join(map(str, one.budget))}")  # fmt: skip
        words = f"{policy}, {limit}: {percent} with {one.requests.mean:.1f} requests a task"
        words += f", against {100 * alone.success.mean:.0f}% alone."
        return words if found.identified else f"{words} This holds if chance decided which episodes were helped."
    if len(outlooks) == 1:
        return f"The log has no help, so it cannot tell what help is worth: {percent} alone."
    if found.design == "none" or (found.design == "episodes" and not found.by_chance):
        return "Do not buy help on the strength of this log: it cannot tell what help is worth."
    return f"Do not buy help: no way of requesting it is better than going on alone, by more than chance ({percent})."
