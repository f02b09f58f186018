"""Forecast: what a policy will attain on new tasks, and which one to deploy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from selfreg._util import validate
from selfreg._util.progress import track
from selfreg.data import StateScorer, Trajectory
from selfreg.estimate.abstraction import ExactKey, StateAbstraction
from selfreg.estimate.forecasting import candidates
from selfreg.estimate.forecasting.agreement import agreement_value, paired_values
from selfreg.estimate.forecasting.candidates import Budget, Candidate, Trainer
from selfreg.estimate.forecasting.identification import (
    PAIRS,
    Identification,
    identify,
    least_pairs,
    rate_levels,
    state_strata,
    time_blocks,
)
from selfreg.estimate.forecasting.increments import increments, price_of
from selfreg.estimate.forecasting.logged_steps import Floats, LoggedSteps
from selfreg.estimate.forecasting.model_effects import fold_states, model_effects
from selfreg.estimate.forecasting.model_values import ModelValue, model_values, shrink_toward_model
from selfreg.estimate.forecasting.recommendation import OBSERVED, Scored, choose
from selfreg.estimate.forecasting.results import (
    WIDEN,
    WIDEN_STEPS,
    PolicyForecasts,
    help_in_words,
    make_outlook,
    recommend_in_words,
)
from selfreg.estimate.forecasting.step_effects import MANY_STEPS, StepDesign, Value, immediate_effect, step_value
from selfreg.estimate.model import resolve_costs

SAMPLES = 300
CONFIDENCE = 0.9
# Largest number of budgets below the largest one that are forecast.
MOST_BUDGETS = 6
# Standard deviation of the requests of helpers that are trained from other tasks, as a share. Chosen on
# `python -m benchmarks evaluation`, seeds 8 and 9.
TRAINING_ERROR = 0.06
# Earlier helped steps from which on an effect of help no longer changes with their number.
MOST_EARLIER = 4
# Steps in a block of time with an effect of its own, and the largest number of blocks.
BLOCK_STEPS, MOST_BLOCKS = 250, 8


def forecast(
    trajectories: Iterable[Trajectory],
    abstraction: StateAbstraction,
    budget: int | tuple[int, ...],
    *,
    helper: Trainer | None = None,
    beside: Trainer | None = None,
    price: float | Mapping[str, float] = 0.0,
    costs: Mapping[str, int | tuple[int, ...]] | None = None,
    prm: StateScorer | None = None,
    samples: int = SAMPLES,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> PolicyForecasts:
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
    beside : callable, optional
        Likewise, of a policy that is forecast but never recommended, such as rules to print.
    price : float or mapping
        Price of a request, in success: 0.02 if 50 requests are worth a success; or of each help type, by its name.
    costs : mapping, optional
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
        If no episode has an outcome, those that have are of one task, or a price is of an unknown help type.

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
    samples = validate.integer("samples", samples, 2)
    episodes = list(trajectories)
    abstraction.fit(episodes)
    charges = _charges(episodes, costs)
    logged = LoggedSteps.of(episodes, charges)
    price = _checked_price(price, charges)
    if len(logged.tasks) < 2:
        raise ValueError(f"the episodes are of one task ({logged.tasks[0]!r}); expected at least two tasks")
    most = (budget,) if isinstance(budget, int) else tuple(budget)
    found = identify(logged, abstraction, seed)
    helped = len(logged.actions) > 1
    models = candidates.fold_models(logged, abstraction, charges, seed) if helped else []
    compared = _candidates(logged, most, found, models, helper, seed)
    n_compared = len(compared)
    if helped and beside is not None:
        compared += candidates.helper_decisions(logged, beside, _budgets(most), seed)
    times = np.random.default_rng(seed).multinomial(
        len(logged.tasks), np.full(len(logged.tasks), 1.0 / len(logged.tasks)), size=samples
    )
    guesses = _guesses(logged, abstraction, compared, models) if found.design == "steps" else []
    scored = _evaluate(logged, abstraction, compared, found, times.astype(np.float64), price, prm, guesses)
    scored, aside = scored[:n_compared], scored[n_compared:]
    recommended = choose(scored, found, len(logged.tasks))
    widen = WIDEN if found.design != "steps" else WIDEN_STEPS
    added = increments(scored, widen, confidence)
    outlooks = tuple(make_outlook(one, logged, confidence, more) for one, more in zip(scored, added, strict=True))
    told = len(scored) == 1 or any(one.gain is not None for one in scored[1:])
    priced = any(price.values()) if isinstance(price, Mapping) else price > 0
    chosen = scored[recommended]
    limit = candidates.most_requests(chosen.candidate, logged)
    words = recommend_in_words(outlooks, recommended, found, chosen.gain, told, priced, limit)
    by_help = help_in_words(scored, confidence, priced)
    others = tuple(make_outlook(one, logged, confidence) for one in aside)
    return PolicyForecasts(
        outlooks, recommended, found.identified and told, found.design, found.words, words, confidence, by_help, others
    )  # fmt: skip


def _charges(
    episodes: Sequence[Trajectory], costs: Mapping[str, int | tuple[int, ...]] | None
) -> dict[str, tuple[int, ...]]:
    """Cost of every help type that the log has, in alphabetical order."""
    types = sorted({step.intervention for t in episodes for step in t.steps if step.intervention is not None})
    resolved = resolve_costs(episodes, dict.fromkeys(["nohelp", *types]), costs)
    return {name: validate.nonneg_ints(f'costs["{name}"]', resolved.get(name, 1)) for name in types}


def _checked_price(price: float | Mapping[str, float], charges: Mapping[str, Budget]) -> float | dict[str, float]:
    if not isinstance(price, Mapping):
        return validate.nonneg_float("price", price)
    if unknown := sorted(set(price) - set(charges)):
        raise ValueError(f"price has the help type {unknown[0]!r}; the log has {', '.join(charges) or 'no help'}")
    return {name: validate.nonneg_float(f'price["{name}"]', one) for name, one in price.items()}


def _candidates(
    logged: LoggedSteps,
    most: Budget,
    found: Identification,
    models: Sequence[candidates.FoldModel],
    helper: Trainer | None,
    seed: int,
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
    result += candidates.plan_decisions(logged, models, budgets)
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


class _Guess(NamedTuple):
    """What models of the other folds say of a policy: effects as of `model_effects`, and its value where it counts."""

    effects: Floats
    value: ModelValue | None


def _guesses(
    logged: LoggedSteps,
    abstraction: StateAbstraction,
    compared: Sequence[Candidate],
    models: Sequence[candidates.FoldModel],
) -> list[_Guess]:
    """A guess for each policy; values in large logs with exact keys, where the models have sampling error only."""
    states = fold_states(logged, abstraction, models)
    effects = model_effects(logged, states, compared, models)
    trusted = isinstance(abstraction, ExactKey) and len(logged.action) >= MANY_STEPS
    values = model_values(logged, states, compared, models) if trusted else [None] * len(compared)
    return [*map(_Guess, effects, values)]


def _evaluate(
    logged: LoggedSteps,
    abstraction: StateAbstraction,
    compared: Sequence[Candidate],
    found: Identification,
    times: Floats,
    price: float | Mapping[str, float],
    prm: StateScorer | None,
    guesses: Sequence[_Guess],
) -> list[Scored]:
    """Values of the policies, and their gains over the first one, which goes on alone."""
    if found.design == "steps":
        design = step_design(logged, abstraction, found, prm)
        values = []
        for i, (one, guess) in enumerate(track([*zip(compared, guesses, strict=True)], "forecast", "policies")):
            most = candidates.most_requests(one, logged)
            value = step_value(design, one.decided, times, guess.effects, most)
            value = shrink_toward_model(value, guess.value, most, i)
            values.append(_add_training_error(value, most) if one.policy == "helper" else value)
        return [
            Scored(
                one,
                value,
                None,
                _gain(value, values[0], price_of(one, logged, price)),
                immediate_effect(design, one.decided),
            )
            for one, value in zip(compared, values, strict=True)
        ]
    by_task = found.design != "episodes" or not found.by_chance
    values = [agreement_value(logged, one.decided, times, by_task=by_task) for one in compared]
    fewest = int(min(np.count_nonzero(logged.helped), np.count_nonzero(~logged.helped)))
    scored = []
    for one, value in zip(compared, values, strict=True):
        policy, alone = value, values[0]
        bounds = None if by_task or len(compared) == 1 else agreement_value(logged, one.decided, times, by_task=True)
        observed = max(value.unknown[0], alone.unknown[0]) <= OBSERVED and fewest >= PAIRS
        if by_task:
            policy, alone, tasks = paired_values(logged, one.decided, times)
            observed = tasks >= least_pairs(logged)
        gain = _gain(policy, alone, price_of(one, logged, price)) if observed else None
        scored.append(Scored(one, value, bounds, gain, None))
    return scored


def _gain(policy: Value, alone: Value, price: float) -> Floats:
    success, without = (np.clip(value.success, 0.0, 1.0) for value in (policy, alone))
    return success - without - price * (policy.requests - alone.requests)


def _add_training_error(value: Value, most: int) -> Value:
    """With the difference in requests between a helper of a fold and the deployed one, drawn anew in each sample."""
    drawn = np.append(0.0, np.random.default_rng(2).standard_normal(len(value.requests) - 1))
    return value._replace(requests=np.minimum(value.requests * (1.0 + TRAINING_ERROR * drawn), most))


def step_design(
    logged: LoggedSteps, abstraction: StateAbstraction, found: Identification, prm: StateScorer | None
) -> StepDesign:
    """Baseline: stratum, time, score, and earlier help; effects: time, score, and how often there was help."""
    score = [] if prm is None else [_scores(logged, prm)]
    strata = state_strata(logged, abstraction)
    block = time_blocks(logged, max(1, min(MOST_BLOCKS, len(strata) // BLOCK_STEPS)))
    earlier = (logged.earlier > 0).astype(np.float64)
    blocks = _one_hot(block)
    often = np.minimum(logged.earlier, MOST_EARLIER) / MOST_EARLIER
    states = np.column_stack([np.ones(len(block)), *_one_hot(strata), *blocks, *score])
    context = np.column_stack([earlier, often, *score, *blocks, *[earlier * one for one in blocks]])
    by_kind = np.minimum(logged.earlier_by_kind, 1).astype(np.float64)
    baseline = np.column_stack([states, earlier, by_kind[:, 1:]])
    exact = isinstance(abstraction, ExactKey)
    return StepDesign(logged, found.chance, states, baseline, context, by_kind, rate_levels(logged), exact)


def _scores(logged: LoggedSteps, prm: StateScorer) -> Floats:
    """Score of every state, float64 (steps,)."""
    texts = [prm.text(t.steps[: i + 1]) for t in logged.episodes for i in range(len(t.steps))]
    distinct = {text: i for i, text in enumerate(dict.fromkeys(texts))}
    scores: Floats = prm.score(list(distinct))[[distinct[text] for text in texts]]
    return scores


def _one_hot(values: npt.NDArray[np.int64]) -> list[Floats]:
    return [(values == value).astype(np.float64) for value in np.unique(values)]
