"""Success and requests of policies in a model of states in which actions that were never tried are filled in.

With exact keys a state of a long episode is visited once or twice, so that one of the two actions was often not tried
there. If that counts as certain failure, the unhelped success of long tasks is found at two thirds of what it is.
Here the action does what the other one does, or ends the episode in success or failure, with a chance that repeats the
mean effect in like states where both were tried.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from selfreg._util.progress import track
from selfreg.estimate.forecasting.candidates import Candidate, FoldModel
from selfreg.estimate.forecasting.logged_steps import Floats, Ints, LoggedSteps
from selfreg.estimate.forecasting.model_effects import tabulate
from selfreg.estimate.forecasting.step_effects import Value
from selfreg.estimate.model import EstimatedModel
from selfreg.mdp import InterventionMDP
from selfreg.planning.evaluation import evaluate_policy

# Policies without a value here: these models are those that the plans are made from, and rules of thumb go by time.
OTHERS = ("plan", "rule")
# Least share of the requests that a policy by state and budget must repeat; largest share of the steps in states that
# every logged episode reached without budget, so that the log does not say what the policy does there.
LEAST_AGREEMENT, MOST_UNKNOWN = 0.95, 0.5
# Standard deviation of the model's errors of success and of requests, in new tasks, half of the variance shared by all
# policies. Chosen on `python -m benchmarks evaluation`, seeds 6, 8 and 9.
ERROR, ERROR_REQUESTS = 0.06, 0.15
# Least distance to success or failure that a chance is a share of.
LEAST_ROOM = 0.05


class ModelValue(NamedTuple):
    """Expected success and requests of an episode under a policy, in the model."""

    success: float
    requests: float


class _Fold(NamedTuple):
    """A model of the other folds, the same filled in, and of the log as below.

    `state` (steps,) is the state of each step, -1 if unknown, `held_out` (steps,) whether the step is held out, and
    `first` the known first states of the held-out episodes.
    """

    model: EstimatedModel
    filled: InterventionMDP
    state: Ints
    held_out: npt.NDArray[np.bool_]
    first: Ints


def model_values(
    logged: LoggedSteps, states: Sequence[Ints], compared: Sequence[Candidate], models: Sequence[FoldModel]
) -> list[ModelValue | None]:
    """Each policy in the models of the other folds, from the first states of the held-out episodes.

    `states` are as of `fold_states`. None for `OTHERS`, for policies whose table by state and budget is not known from
    the log (`LEAST_AGREEMENT`, `MOST_UNKNOWN`) or that request nothing in a fold, and unless there is one help type,
    which costs something.
    """
    if logged.costs.shape != (2, 1) or not logged.costs[1, 0]:
        return [None] * len(compared)
    folds = list[_Fold]()
    for (held_out, model), state in zip(models, states, strict=True):
        first = state[logged.first[held_out]]
        if len(model.mdp.actions) > 1 and (first >= 0).any():
            folds.append(_Fold(model, fill_model(model), state, np.isin(logged.episode, held_out), first[first >= 0]))
    return [
        None if one.policy in OTHERS else _mean_value(logged, folds, one)
        for one in track(compared, "forecast: filled models", "policies")
    ]


def shrink_toward_model(value: Value, model: ModelValue | None, most: int, policy: int) -> Value:
    """The value in logged steps and that in the model, each with the inverse of its variance as its weight.

    `most` is the largest number of requests of an episode, and `policy` a number of the policy: the model's errors are
    drawn anew in each sample, one part for all policies and one for each.
    """
    if model is None:
        return value
    samples = len(value.success) - 1
    shared, own = (np.random.default_rng(seed).standard_normal((2, samples)) for seed in (1, (1, policy + 1)))
    noise = (shared + own) / np.sqrt(2.0)
    mean = float(np.clip(value.success[0], 0.0, 1.0))
    success = _weigh(value.success - value.success[0] + mean, model.success, ERROR, noise[0])
    requests = _weigh(value.requests, model.requests, ERROR_REQUESTS, noise[1])
    return value._replace(success=success, requests=np.clip(requests, 0.0, most))


def _weigh(steps: Floats, guess: float, error: float, noise: Floats) -> Floats:
    weight = error**2 / (error**2 + float(np.var(steps[1:])))
    result: Floats = weight * steps + (1.0 - weight) * (guess + error * np.append(0.0, noise))
    return result


def _mean_value(logged: LoggedSteps, folds: Sequence[_Fold], one: Candidate) -> ModelValue | None:
    """Over folds, by their episodes whose first state the other folds know."""
    rows = list[ModelValue]()
    for fold in folds:
        value = _evaluate(logged, fold, one)
        if value is None:
            return None
        rows.append(value)
    weights = [len(fold.first) for fold in folds]
    return ModelValue(*np.average(rows, axis=0, weights=weights).tolist()) if rows else None


def _evaluate(logged: LoggedSteps, fold: _Fold, one: Candidate) -> ModelValue | None:
    """In one fold; requests are those of the model without chances, which end episodes early."""
    budget, cost = one.budget[0], int(logged.costs[1, 0])
    top = max(budget, cost)
    left = np.minimum(logged.left((top,))[:, 0], budget)
    policy = tabulate(one, fold.filled, fold.state, left, top)
    known = fold.state >= 0
    seen = np.bincount(fold.state[known & (left >= cost)], minlength=len(policy)) > 0
    mine = fold.held_out & known
    wanted, tabulated = one.decided[mine] > 0, policy[fold.state[mine], left[mine]] > 0
    agreed = (wanted & tabulated).sum() >= LEAST_AGREEMENT * (wanted | tabulated).sum()
    if not wanted.any() or not agreed or np.mean(~seen[fold.state[mine]]) > MOST_UNKNOWN:
        return None
    found = evaluate_policy(fold.filled, policy)
    steps = np.flatnonzero(~fold.held_out)
    chances = _chances(fold.model, found.success, fold.state[steps], left[steps], policy)
    success = evaluate_policy(fill_model(fold.model, chances), policy).success
    requests = found.usage[..., 0] / cost
    return ModelValue(*(float(table[fold.first, budget].mean()) for table in (success, requests)))


def fill_model(model: EstimatedModel, chances: Sequence[Floats] | None = None) -> InterventionMDP:
    """The model, which has one help type, with help and going alone in every state.

    An action that was not tried in a state does there what the other one does. With its chance (of going alone, of
    help; float64 (n,) each; 0 by default) it ends in success, or in failure where the chance is below 0.
    """
    (alone, unhelped), (name, helped) = model.mdp.transitions.items()
    of_alone, of_help = chances or np.zeros((2, model.mdp.n_states))
    lacks_help = ~model.mdp.available(name)
    lacks_alone = model.borrowed & ~lacks_help
    lent = _end_rows(sp.diags_array(lacks_alone * 1.0) @ helped, of_alone)
    unhelped = sp.csr_array(sp.diags_array(~lacks_alone * 1.0) @ unhelped + lent)
    helped = sp.csr_array(helped + _end_rows(sp.diags_array(lacks_help * 1.0) @ unhelped, of_help))
    return InterventionMDP({alone: unhelped, name: helped}, model.mdp.terminal_value, model.mdp.costs)


def _end_rows(rows: sp.sparray, chance: Floats) -> sp.csr_array:
    """These rows, but for `chance` of success, or of failure where it is below 0; empty rows stay empty."""
    n, rows = rows.shape[0], sp.csr_array(rows)
    ends = np.flatnonzero(np.diff(rows.indptr))
    column = np.where(chance[ends] > 0, n - 2, n - 1)
    there = sp.csr_array((np.abs(chance)[ends], (ends, column)), shape=rows.shape)
    return sp.csr_array(sp.diags_array(1.0 - np.abs(chance)) @ rows + there)


def _chances(
    model: EstimatedModel, success: Floats, state: Ints, left: Ints, policy: npt.NDArray[np.int8]
) -> tuple[Floats, Floats]:
    """Of going alone and of help in each state, float64 (n,), by the mean effect at like steps where both were tried.

    Like steps of help are those where the policy requests it; of going alone, those where the policy does not, apart in
    states where it would with its whole budget.
    """
    alone, name = model.mdp.actions
    wanted, requests = policy[state, left] > 0, policy[:, -1] > 0
    after = {action: np.asarray(rows @ success) for action, rows in model.mdp.transitions.items()}
    both = ~model.borrowed[state] & model.mdp.available(name)[state]
    paid = np.maximum(left - model.mdp.costs[name][0], 0)
    helped, unhelped = (after[action][state, paid][both & wanted] for action in (name, alone))
    of_help = np.full(len(policy), _chance(helped - unhelped, unhelped))
    of_alone = np.zeros(len(policy))
    for kind in (False, True):
        rows = both & ~wanted & (requests[state] == kind)
        helped, unhelped = (after[action][state, left][rows] for action in (name, alone))
        of_alone[requests == kind] = _chance(unhelped - helped, helped)
    return of_alone, of_help


def _chance(effect: Floats, before: Floats) -> float:
    """Share of the way to success, or to failure below 0, that an effect is in the mean."""
    if not len(effect):
        return 0.0
    mean, start = float(effect.mean()), float(before.mean())
    room = max(1.0 - start if mean > 0 else start, LEAST_ROOM)
    return min(max(mean / room, -1.0), 1.0)
