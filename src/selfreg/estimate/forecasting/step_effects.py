"""Value of a policy from logs in which chance decided at single steps whether the agent was helped.

Model: structural nested mean model (Robins 2004, "Optimal structural nested models for optimal sequential decisions").
Let A be the logged action of a step, d the policy's action there, and psi_a' f the effect of help type a at a step with
features f on the mean outcome, if the policy is followed afterwards. Then

    H_t = Y + sum over u >= t of (psi_d - psi_A)' f_u          (psi of "nohelp" is 0)

has the mean of the outcome under the policy from step t on, and H_0 that of the policy. Given the past, the residual of
H_(t+1) less psi_A' f_t does not depend on A, so that

    sum over steps of (1[A = a] - p_a) f (Y + sum over u > t of (psi_d - psi_A)' f_u - psi_A' f_t - beta' g_t) = 0

for every help type a, where p_a is the chance of a. beta' g is a baseline: it takes variance away, and adds no bias
where it is wrong. The equations are linear in (beta, psi) and sums over tasks, so that a bootstrap over
tasks costs one small linear system a sample.

In long episodes the effects of many steps add up, with their errors. Where the rate of some episodes of every task left
no choice, and the policy would have chosen the same, the mean of these episodes is taken if it is much more certain.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from selfreg.estimate.forecasting.identification import RATE
from selfreg.estimate.forecasting.logged_steps import Actions, Floats, LoggedSteps

# Weight of the first guess of effects, and of a baseline of 0, in steps: RIDGE in large logs, more in small ones. The
# bootstrap does not repeat the guess, which is noise in small logs: there it counts by the share of the steps in the
# steps and SMALL. For requests there is no guess.
RIDGE, SMALL, RIDGE_REQUESTS = 60.0, 1000.0, 5.0
# Ratio of standard deviations at which episodes that went as the policy decides count alone: in long episodes the
# effects of many steps add up, with their errors.
MUCH_NARROWER = 0.5


class Value(NamedTuple):
    """Success and requests under a policy, float64 (1 + samples,) each: of the log, then of bootstrap samples.

    Success may be estimated outside of [0, 1]. `unknown` is the share of the tasks whose outcome under the policy the
    log does not show.
    """

    success: Floats
    requests: Floats
    unknown: Floats


class StepDesign(NamedTuple):
    """What the equations need of the logs, whatever the policy.

    Attributes
    ----------
    logged : LoggedSteps
    chance : float64 (steps, actions)
        Chance of each action at each step, given the past.
    states : float64 (steps, r)
        Of the state alone and not of earlier help, with a column of ones.
    baseline : float64 (steps, q)
        g: `states`, and columns of earlier help.
    context : float64 (steps, k)
        Columns of f that do not depend on the policy.
    own : float64 (steps, kinds)
        A column of f of each help type: whether the same type helped before.
    """

    logged: LoggedSteps
    chance: Floats
    states: Floats
    baseline: Floats
    context: Floats
    own: Floats


def step_value(design: StepDesign, decided: Actions, times: Floats, guess: Floats | None = None) -> Value:
    """Value of the policy that takes the actions `decided` (steps,) at the logged steps.

    Parameters
    ----------
    design : StepDesign
    decided : int8 (steps,)
        With the budget that was left at the logged step.
    times : float64 (samples, tasks)
        How often a sample holds each task.
    guess : float64 (steps, kinds), optional
        Effects by a model that was made without the tasks of the step, which count less in small logs (`SMALL`).
        psi' f corrects them: they are a column of f too, so that a model that is wrong everywhere by the same factor is
        put right.
    """
    logged = design.logged
    guess = None if guess is None else guess * (len(decided) / (len(decided) + SMALL))
    features = _features(design, decided, guess)
    kinds = features.shape[1]
    taken, policy = (_indicators(one, kinds) for one in (logged.action, decided))
    shift = _outer(policy - taken, features)
    later = _sum_from(shift, logged) - shift
    requested = (decided > 0).astype(np.float64)
    later_requests = _sum_from(requested[:, None], logged)[:, 0] - requested
    move = np.zeros(len(decided)) if guess is None else ((policy - taken) * guess).sum(axis=1)
    own = np.zeros(len(decided)) if guess is None else (taken * guess).sum(axis=1)
    outcome = logged.outcome[logged.episode] + _sum_from(move[:, None], logged)[:, 0] - move - own
    instruments = np.hstack([design.baseline, _outer(taken - design.chance[:, 1:], features)])
    regressors = np.hstack([design.baseline, _outer(taken, features) - later])
    targets = np.column_stack([outcome, later_requests])
    left = _task_products(instruments, regressors, logged)
    right = _task_products(instruments, targets, logged)
    totals = np.column_stack(
        [logged.outcome + logged.sum_episodes(move), logged.sum_episodes(requested), np.ones(len(logged.outcome))]
    )
    sums, shifts = logged.by_task(totals), logged.by_task(logged.sum_episodes(shift))
    weights = np.vstack([np.ones(len(logged.tasks)), times])
    mean, shifted = weights @ sums, weights @ shifts
    columns = np.arange(kinds * features.shape[2])
    # The guess is of success: it says nothing about later requests.
    shared = columns[columns % features.shape[2] < features.shape[2] - _has(guess)]
    q, value = design.baseline.shape[1], list[Floats]()
    for i, (ridge, used) in enumerate([(RIDGE * (1.0 + SMALL / len(features)), columns), (RIDGE_REQUESTS, shared)]):
        rows = np.concatenate([np.arange(q), q + used])
        penalty = _penalty(design, features, ridge)[rows]
        solution = _solve(weights, left[:, rows[:, None], rows], right[:, rows, i : i + 1], penalty)[:, q:, 0]
        value.append((mean[:, i] + np.einsum("sk,sk->s", shifted[:, used], solution)) / mean[:, 2])
    followed = _followed(logged, (shift == 0).all(axis=1) & (move == 0)) if len(times) else None
    if followed is not None:
        observed = weights @ logged.by_task(totals * followed[:, None])
        observed = observed[:, :2] / observed[:, 2:]
        if observed[1:, 0].std() < MUCH_NARROWER * value[0][1:].std():
            value = list(observed.T)
    return Value(value[0], np.maximum(value[1], 0.0), np.zeros(len(weights)))


def _followed(logged: LoggedSteps, same: npt.NDArray[np.bool_]) -> Floats | None:
    """Weights (episodes,) of the episodes that a policy would have made as they are, because their rate left no choice.

    That is never where the rate was 0, and always where it was 1. A rate is set before its episode, so that these are
    no selection by what happened. The episodes of each task weigh as much as all of its episodes. None where a task has
    no such episode.
    """
    sure = np.array([trajectory.fields.get(RATE) in (0, 1) for trajectory in logged.episodes])
    whole = (sure & (logged.sum_episodes((~same).astype(np.float64)) == 0)).astype(np.float64)
    found = logged.by_task(whole)
    return whole * (logged.by_task(np.ones(len(whole))) / found)[logged.task] if found.all() else None


def immediate_effect(design: StepDesign, decided: Actions) -> float:
    """z of the effect on the next state's prospects of help where a policy requests it; above 0 where help is better.

    The prospects of a state are the mean outcome of the episodes that came there (linear in `design.states`); help
    is compared with none by the change of prospects over one step, clustered by task. Without any effect of help the
    mean is 0 whatever the prospects are worth, so that a test by z holds its level. The effect on the outcome may be
    another: states that look alike may differ in what came before.
    """
    logged, states = design.logged, design.states
    outcome = logged.outcome[logged.episode]
    gram = states.T @ states + np.diag(RIDGE * np.mean(states**2, axis=0) + 1e-9)
    prospects = states @ np.linalg.solve(gram, states.T @ outcome)
    after = np.append(prospects[1:], 0.0)
    after[logged.last] = logged.outcome
    chance = np.take_along_axis(design.chance, decided[:, None].astype(np.int64), axis=1)[:, 0]
    excess = np.where(decided > 0, (logged.action == decided) - chance, 0.0)
    by_task = logged.by_task(logged.sum_episodes(excess * (after - prospects)))
    spread = float(np.sqrt(np.sum(by_task**2)))
    return float(by_task.sum()) / spread if spread else 0.0


def _features(design: StepDesign, decided: Actions, guess: Floats | None) -> Floats:
    """f of each help type: one, whether the policy requests help here, context, own, first guess; all but one centred.

    float64 (steps, kinds, columns).
    """
    wanted = (decided > 0).astype(np.float64)
    columns = np.column_stack([wanted, design.context])
    columns = columns[:, np.ptp(columns, axis=0) > 0]
    kinds = len(design.logged.actions) - 1
    shared = np.repeat(columns[:, None, :], kinds, axis=1)
    own = [design.own[:, :, None]] if kinds > 1 else []
    guesses = [guess[:, :, None]] if guess is not None and _has(guess) else []
    features = np.concatenate([shared, *own, *guesses], axis=2)
    return np.concatenate([np.ones((len(wanted), kinds, 1)), features - features.mean(axis=0)], axis=2)


def _has(guess: Floats | None) -> bool:
    return guess is not None and bool(guess.any())


def _indicators(action: npt.NDArray[np.generic], kinds: int) -> Floats:
    """Whether each help type is the action, float64 (steps, kinds)."""
    return np.asarray(action[:, None] == np.arange(1, kinds + 1), dtype=np.float64)


def _outer(kinds: Floats, features: Floats) -> Floats:
    """Products of help types and their features, (steps, kinds * columns)."""
    return (kinds[:, :, None] * features).reshape(len(features), -1)


def _sum_from(values: Floats, logged: LoggedSteps) -> Floats:
    """Sum of `values` (steps, k) over the step and all later ones of its episode."""
    total = np.cumsum(values, axis=0)
    result: Floats = total[logged.last][logged.episode] - total + values
    return result


def _penalty(design: StepDesign, features: Floats, ridge: float) -> Floats:
    """Diagonal of the penalty: `ridge` steps of the mean size of each column."""
    size = np.mean(features**2, axis=0)  # (kinds, columns)
    spread = [float(np.mean(p * (1.0 - p))) for p in design.chance[:, 1:].T]
    baseline = ridge * np.mean(design.baseline**2, axis=0)
    baseline[0] = 0.0
    return np.concatenate([baseline, *[ridge * one * mine for one, mine in zip(spread, size, strict=True)]]) + 1e-9


def _task_products(one: Floats, other: Floats, logged: LoggedSteps) -> Floats:
    """Sum over the steps of each task of the products of two rows, (tasks, columns, columns)."""
    order = np.argsort(logged.task[logged.episode], kind="stable")
    ends = np.cumsum(np.bincount(logged.task[logged.episode], minlength=len(logged.tasks)))
    one, other = one[order], other[order]
    return np.stack([one[a:b].T @ other[a:b] for a, b in zip([0, *ends[:-1]], ends, strict=True)])


def _solve(weights: Floats, left: Floats, right: Floats, ridge: Floats) -> Floats:
    """Solutions (samples, unknowns, targets) of the weighted sums of the equations of the tasks."""
    tasks, size = left.shape[:2]
    a = (weights @ left.reshape(tasks, -1)).reshape(-1, size, size) + np.diag(ridge)
    b = (weights @ right.reshape(tasks, -1)).reshape(-1, size, right.shape[2])
    return np.asarray(np.linalg.solve(a, b))
