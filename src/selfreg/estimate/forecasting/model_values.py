"""Success and requests of policies in a model of states in which actions that were never tried are filled in.

In logs with exact keys a state of a long episode is often visited once or twice, so that there only help, or only
none, was tried. As certain failure such gaps add up: the unhelped success of long tasks comes out at two thirds of what
it is. Here an action that was never tried in a state does what the other one did. Beside that it ends the episode, in
success or in failure, with a chance: so that it is better or worse than the other one by as much as in the mean of the
like states where both were tried.
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
# Least share of the requests that a policy by state and budget must repeat.
LEAST_AGREEMENT = 0.95
# Standard deviation of the model's errors of success and of requests, in new tasks. Chosen on `python -m benchmarks
# evaluation`, seeds 6, 8 and 9.
ERROR, ERROR_REQUESTS = 0.06, 0.15
# Least distance to success or failure that a chance is a share of.
LEAST_ROOM = 0.05


class ModelValue(NamedTuple):
    """Expected success and requests of an episode under a policy, in the model."""

    success: float
    requests: float


def model_values(
    logged: LoggedSteps, states: Sequence[Ints], compared: Sequence[Candidate], models: Sequence[FoldModel]
) -> list[ModelValue | None]:
    """Each policy in the models of the other folds, from the first states of the held-out episodes.

    `states` are as of `fold_states`. None for `OTHERS`, for policies that decide by more than state and budget
    (`LEAST_AGREEMENT`) or request nothing, and with several help types.
    """
    found: list[list[tuple[float, float, int]] | None] = [[] for _ in compared]
    if logged.costs.shape != (2, 1):
        return [None] * len(compared)
    for (held_out, model), state in track([*zip(models, states, strict=True)], "forecast: filled models", "folds"):
        first = state[logged.first[held_out]]
        known = first[first >= 0]
        if not len(known) or len(model.mdp.actions) == 1:
            continue
        fold = _Fold(model, fill_model(model), state, np.isin(logged.episode, held_out))
        for i, one in enumerate(compared):
            rows = found[i]
            tables = None if rows is None or one.policy in OTHERS else _evaluate(logged, fold, one)
            if rows is None or tables is None:
                found[i] = None
                continue
            success, requests = (table[known, one.budget[0]].mean() for table in tables)
            rows.append((success, requests, len(known)))
    return [_mean(rows) for rows in found]


def toward_model(value: Value, model: ModelValue | None) -> Value:
    """The value in logged steps and that in the model, each with the inverse of its variance as its weight.

    The model's error is drawn anew in each sample, the same for all policies: they share what is wrong with it.
    """
    if model is None:
        return value
    noise = np.random.default_rng(1).standard_normal(len(value.success) - 1)
    success = _weigh(value.success, float(np.clip(value.success[0], 0.0, 1.0)), model.success, ERROR, noise)
    requests = _weigh(value.requests, float(value.requests[0]), model.requests, ERROR_REQUESTS, noise)
    return value._replace(success=success, requests=requests)


def _weigh(steps: Floats, mean: float, guess: float, error: float, noise: Floats) -> Floats:
    weight = error**2 / (error**2 + float(np.var(steps[1:])))
    drawn = guess + error * np.append(0.0, noise)
    result: Floats = weight * (steps - steps[0] + mean) + (1.0 - weight) * drawn
    return result


def _mean(rows: list[tuple[float, float, int]] | None) -> ModelValue | None:
    """Over folds, by their episodes whose first state the other folds know."""
    if not rows or not sum(row[2] for row in rows):
        return None
    success, requests, _ = np.average(rows, axis=0, weights=[row[2] for row in rows]).tolist()
    return ModelValue(success, requests)


class _Fold(NamedTuple):
    """A model of the other folds, the same filled in, the state of each logged step, and whether it is held out."""

    model: EstimatedModel
    filled: InterventionMDP
    state: Ints
    held_out: npt.NDArray[np.bool_]


def _evaluate(logged: LoggedSteps, fold: _Fold, one: Candidate) -> tuple[Floats, Floats] | None:
    """Success and requests (states, budgets left) under a policy; None where it decides by more than these."""
    top = max(one.budget[0], int(logged.costs[1, 0]))
    left = np.minimum(logged.left((top,))[:, 0], one.budget[0])
    policy = tabulate(one, fold.filled, fold.state, left, top)
    wanted, told = one.decided > 0, policy[fold.state, left] > 0
    mine = fold.held_out & (fold.state >= 0)
    if not (wanted & mine).any() or (wanted & told & mine).sum() < LEAST_AGREEMENT * ((wanted | told) & mine).sum():
        return None
    found = evaluate_policy(fold.filled, policy)
    steps = np.flatnonzero(~fold.held_out)
    chances = _chances(fold.model, found.success, fold.state[steps], left[steps], policy)
    success = evaluate_policy(fill_model(fold.model, chances), policy).success
    return success, found.usage[..., 0] / max(1.0, float(logged.costs[1, 0]))


def fill_model(model: EstimatedModel, chances: Sequence[Floats] | None = None) -> InterventionMDP:
    """The model, which has one help type, with help and going alone in every state.

    An action that was not tried in a state does there what the other one does. With its chance (of going alone, of
    help; float64 (n,) each) it ends in success, or in failure where the chance is below 0.
    """
    (alone, unhelped), (name, helped) = model.mdp.transitions.items()
    of_alone, of_help = chances or (None, None)
    lacks_help = ~model.mdp.available(name)
    lacks_alone = model.borrowed & ~lacks_help
    lent = _end(sp.diags_array(lacks_alone * 1.0) @ helped, of_alone)
    unhelped = sp.csr_array(sp.diags_array(~lacks_alone * 1.0) @ unhelped + lent)
    helped = sp.csr_array(helped + _end(sp.diags_array(lacks_help * 1.0) @ unhelped, of_help))
    return InterventionMDP({alone: unhelped, name: helped}, model.mdp.terminal_value, model.mdp.costs)


def _end(rows: sp.sparray, chance: Floats | None) -> sp.csr_array:
    """These rows, but for `chance` of success, or of failure where it is below 0; empty rows stay empty."""
    n, rows = rows.shape[0], sp.csr_array(rows)
    if chance is None:
        return rows
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
    both = (state >= 0) & ~model.borrowed[state] & model.mdp.available(name)[state]
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
