"""Effects of help at single steps by a model of states, as a first guess that the log corrects."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from selfreg._util.progress import track
from selfreg.estimate.abstraction import StateAbstraction
from selfreg.estimate.forecasting.candidates import Candidate, FoldModel
from selfreg.estimate.forecasting.logged_steps import Floats, Ints, LoggedSteps
from selfreg.estimate.model import EstimatedModel
from selfreg.mdp import InterventionMDP
from selfreg.planning.evaluation import evaluate_policy


def fold_states(logged: LoggedSteps, abstraction: StateAbstraction, models: Sequence[FoldModel]) -> list[Ints]:
    """State of every logged step in the model of each fold, int64 (steps,); -1 where the other folds lack it."""
    keys = [abstraction.encode(t, i) for t in logged.episodes for i in range(len(t.steps))]
    return [np.array([model.index.get(key, -1) for key in keys]) for _, model in models]


def model_effects(
    logged: LoggedSteps, states: Sequence[Ints], compared: Sequence[Candidate], models: Sequence[FoldModel]
) -> list[Floats]:
    """Effects of each help type at each step on success and later requests, if a policy is followed afterwards.

    float64 (steps, kinds, 2) a policy, by a model of the other folds of tasks; 0 where it has no row for the help, and
    with several kinds of budget.
    """
    result = [np.zeros((len(logged.action), len(logged.actions) - 1, 2)) for _ in compared]
    if logged.costs.shape[1] > 1:
        return result
    for (held_out, model), state in track([*zip(models, states, strict=True)], "forecast: models", "folds"):
        rows = np.isin(logged.episode, held_out) & (state >= 0)
        for effects, one in zip(result, compared, strict=True):
            effects[rows] = _effects(logged, model, one, state)[rows]
    return result


def _effects(logged: LoggedSteps, model: EstimatedModel, one: Candidate, state: Ints) -> Floats:
    """Effects (steps, kinds, 2) under a policy; 0 in unknown states."""
    costs = logged.costs[:, 0]
    top = max(one.budget[0], int(costs.max()))
    left = np.minimum(logged.left((top,))[:, 0], one.budget[0])
    policy = tabulate(one, model.mdp, state, left, top)
    found = evaluate_policy(model.mdp, policy)
    requests = found.usage[..., 0] / max(1.0, float(costs[1:].mean()))
    value = np.stack([found.success, requests], axis=-1)
    known = np.maximum(state, 0)
    result = np.zeros((len(state), len(costs) - 1, 2))
    flat = value.reshape(len(value), -1)
    alone = np.asarray(model.mdp.transitions[model.mdp.actions[0]] @ flat).reshape(value.shape)
    for name in model.mdp.actions[1:]:
        kind = logged.actions.index(name)
        after = np.asarray(model.mdp.transitions[name] @ flat).reshape(value.shape)
        units = np.maximum(left, costs[kind])
        effect = after[known, units - costs[kind]] - alone[known, units]
        tried = model.mdp.available(name)[known]
        result[:, kind - 1] = np.where((tried & (state >= 0))[:, None], effect, 0.0)
    return result


def tabulate(one: Candidate, mdp: InterventionMDP, state: Ints, left: Ints, top: int) -> npt.NDArray[np.int8]:
    """The policy by state and budget left: its decision at most of the logged steps there, or with other budgets."""
    index = {name: a for a, name in enumerate(mdp.actions)}
    requested = {name for name in (one.help,) if name in index} or set(index) - {mdp.actions[0]}
    policy = np.zeros((mdp.n_states, top + 1), np.int8)
    if not requested or not one.decided.any():
        return policy
    votes, seen, least = np.zeros(policy.shape), np.zeros(policy.shape), _largest_cost(mdp, requested)
    steps = state >= 0
    np.add.at(seen, (state[steps], left[steps]), 1.0)
    np.add.at(votes, (state[steps], left[steps]), one.decided[steps] > 0)
    requests = np.divide(votes, seen, out=np.full(policy.shape, np.nan), where=seen > 0)
    pooled = votes.sum(axis=1) / np.maximum(seen[:, least:].sum(axis=1), 1.0)
    requests = np.where(np.isnan(requests), pooled[:, None], requests) > 0.5
    requests[:, :least] = False
    for name in requested:
        policy[requests & mdp.available(name)[:, None] & (policy == 0)] = index[name]
    policy[-2:] = 0
    return policy


def _largest_cost(mdp: InterventionMDP, names: set[str]) -> int:
    """Largest cost of these help types, in units of the only budget."""
    return max(mdp.costs[name][0] for name in names)
