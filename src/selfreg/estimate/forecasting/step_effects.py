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

Where the rate of help differs between episodes, those whose rate is near to what the policy does count more: less is to
be corrected there, and a wrong form of the effects does less harm.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from selfreg.estimate.forecasting.logged_steps import Actions, Floats, Ints, LoggedSteps

# Weight of the first guess of effects, and of a baseline of 0, in steps: RIDGE in large logs, more in small ones. The
# bootstrap does not repeat the guess, which is noise in small logs: there it counts by the share of the steps in the
# steps and SMALL, and the guess of later requests not at all.
RIDGE, SMALL, RIDGE_REQUESTS = 60.0, 1000.0, 5.0
# Steps in which episodes of one rate go otherwise than the policy, by the mean, at which they count half.
NEAR_STEPS = 0.6
# In logs of so many steps with exact keys the guess counts as that share of them: only chance makes the model wrong,
# and errors of effects add up over the steps of an episode. A column that is 0 in more than 95 of 100 steps has the
# penalty of one that is not.
MANY_STEPS, GUESS_SHARE, LEAST_SIZE = 10_000, 0.02, 0.05
# Standard deviation of success there for each request that a policy would make at a logged step after it has made all
# that it may: its help was postponed there, for which f is too coarse. By `python -m benchmarks rules`.
POSTPONED = 0.02


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
    level : int64 (episodes,)
        Level of the rate of help of each episode; all 0 where the log has none.
    exact : bool
        Whether states have exact keys, so that nothing but chance makes a model of them wrong.
    """

    logged: LoggedSteps
    chance: Floats
    states: Floats
    baseline: Floats
    context: Floats
    own: Floats
    level: Ints
    exact: bool


def step_value(
    design: StepDesign, decided: Actions, times: Floats, guess: Floats | None = None, most: int | None = None
) -> Value:
    """Value of the policy that takes the actions `decided` (steps,) at the logged steps.

    Parameters
    ----------
    design : StepDesign
    decided : int8 (steps,)
        With the budget that was left at the logged step.
    times : float64 (samples, tasks)
        How often a sample holds each task.
    guess : float64 (steps, kinds, 2), optional
        Effects on success and on later requests by a model that was made without the tasks of the step, which count
        less in small logs (`SMALL`). psi' f corrects them: they are columns of f too, so that a model that is wrong
        everywhere by the same factor is put right.
    most : int, optional
        Largest number of requests of an episode under the policy.
    """
    logged, steps, kinds = design.logged, len(decided), len(design.logged.actions) - 1
    trusted = design.exact and guess is not None and steps >= MANY_STEPS
    first = np.zeros((steps, kinds, 2)) if guess is None else guess * (steps / (steps + SMALL)) * [1.0, float(trusted)]
    features, of = _features(design, decided, first)
    taken, policy = (_indicators(one, kinds) for one in (logged.action, decided))
    shift = _outer(policy - taken, features)
    move = ((policy - taken)[:, :, None] * first).sum(axis=1)
    own = (taken[:, :, None] * first).sum(axis=1)
    requested = (decided > 0).astype(np.float64)
    observed = np.column_stack([logged.outcome, logged.sum_episodes(requested)])
    later, later_move, later_requests = (_sum_from(one, logged) - one for one in (shift, move, requested[:, None]))
    targets = np.hstack([logged.outcome[logged.episode, None], later_requests]) + later_move - own
    near = _nearness(design, decided)
    instruments = np.hstack([design.baseline, _outer(taken - design.chance[:, 1:], features)])
    instruments *= near[logged.episode, None]
    left = _task_products(instruments, np.hstack([design.baseline, _outer(taken, features) - later]), logged)
    right = _task_products(instruments, targets, logged)
    weights = np.vstack([np.ones(len(logged.tasks)), times])
    totals = np.column_stack([observed + logged.sum_episodes(move), np.ones(len(near)), logged.sum_episodes(shift)])
    mean, n_baseline = weights @ logged.by_task(totals * near[:, None]), design.baseline.shape[1]

    def solve(target: int, penalty: float) -> Floats:
        chosen = np.flatnonzero(np.tile((of == target) | (of < 0), kinds))
        rows = np.concatenate([np.arange(n_baseline), n_baseline + chosen])
        ridge = _penalty(design, features, penalty, LEAST_SIZE if trusted else 0.0)[rows]
        prior = _prior(ridge, n_baseline, len(times)) * observed[:, target].std() if trusted else 0.0
        effects = _solve(weights, left[:, rows[:, None], rows], right[:, rows, target], ridge, prior)[:, n_baseline:]
        return np.asarray((mean[:, target] + np.einsum("sk,sk->s", mean[:, 3 + chosen], effects)) / mean[:, 2])

    penalties = RIDGE * (1.0 + SMALL / steps), RIDGE_REQUESTS
    if trusted:
        penalties = GUESS_SHARE * steps, GUESS_SHARE * steps * RIDGE_REQUESTS / RIDGE
    success, requests = solve(0, penalties[0]), solve(1, penalties[1])
    if trusted and most is not None:
        postponed = np.maximum(logged.sum_episodes(requested) - most, 0.0)
        # Drawn anew in each sample, the same for all policies.
        noise = np.random.default_rng(0).standard_normal(len(times))
        success[1:] += POSTPONED * (near @ postponed / near.sum()) * noise
    return Value(success, np.clip(requests, 0.0, most), np.zeros(len(weights)))


def _nearness(design: StepDesign, decided: Actions) -> Floats:
    """Weight of each episode, by how many steps the episodes with its rate of help went otherwise than the policy.

    H of an episode that went as the policy needs no effects, so that it is right whatever the effects are: of never in
    episodes of rate 0, of always in those of rate 1. A rate is set before its episode, so that the weights depend on
    nothing that happened in it. The episodes of a task weigh as much as their number.
    """
    logged, level = design.logged, design.level
    differs = logged.sum_episodes((logged.action != decided).astype(np.float64))
    mean = np.bincount(level, differs) / np.maximum(np.bincount(level), 1)
    weight: Floats = 1.0 / (1.0 + (mean / NEAR_STEPS) ** 2)[level]
    return weight * (logged.by_task(np.ones(len(weight))) / logged.by_task(weight))[logged.task]


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


def _features(design: StepDesign, decided: Actions, guess: Floats) -> tuple[Floats, Ints]:
    """f of each help type: one, whether the policy requests help here, context, own, first guesses; all but 1 centred.

    float64 (steps, kinds, columns), and what each column is a guess of: 0 success, 1 later requests, -1 of nothing.
    """
    wanted = (decided > 0).astype(np.float64)
    columns = np.column_stack([wanted, design.context])
    columns = columns[:, np.ptp(columns, axis=0) > 0]
    kinds = len(design.logged.actions) - 1
    shared = np.repeat(columns[:, None, :], kinds, axis=1)
    own = [design.own[:, :, None]] if kinds > 1 else []
    guessed = guess.any(axis=(0, 1))
    features = np.concatenate([shared, *own, guess[:, :, guessed]], axis=2)
    of = np.concatenate([np.full(features.shape[2] + 1 - guessed.sum(), -1), np.flatnonzero(guessed)])
    ones = np.ones((len(wanted), kinds, 1))
    return np.concatenate([ones, features - features.mean(axis=0)], axis=2), of


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


def _penalty(design: StepDesign, features: Floats, ridge: float, least: float) -> Floats:
    """Diagonal of the penalty: `ridge` steps of the mean size of each column of f, of at least `least`."""
    size = np.maximum(np.mean(features**2, axis=0), least)  # (kinds, columns)
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


def _prior(ridge: Floats, baseline: int, samples: int) -> Floats:
    """Guesses of the effects (1 + samples, unknowns), times the penalty, for outcomes of standard deviation 1.

    A penalty is the precision of a guess. The guess is drawn anew in each sample: otherwise the samples would agree on
    the guess where the log has nothing to say. 0 for the log itself, and for the columns of the baseline.
    """
    draws = np.random.default_rng(0).standard_normal((1 + samples, len(ridge))) * np.sqrt(ridge)
    draws[0], draws[:, :baseline] = 0.0, 0.0
    return draws


def _solve(weights: Floats, left: Floats, right: Floats, ridge: Floats, prior: Floats | float) -> Floats:
    """Solutions (samples, unknowns) of the weighted sums of the equations of the tasks."""
    tasks, size = right.shape
    a = (weights @ left.reshape(tasks, -1)).reshape(-1, size, size) + np.diag(ridge)
    return np.asarray(np.linalg.solve(a, (weights @ right + prior)[..., None]))[..., 0]
