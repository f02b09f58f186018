"""What any policy attains and spends from a start, exactly: stationary, randomised, by budget left, or by time.

The work is one linear system for each stage that an episode comes to. For a hard-budget policy from every state and
budget at once see `selfreg.planning.usage.policy_value`, which solves backwards.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from selfreg._util import validate
from selfreg.mdp import InterventionMDP
from selfreg.planning._chains import closed_classes, leading_to, led_to, transient_system
from selfreg.planning._structure import Levels, prepared, strides

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

EPSILON = float(np.finfo(np.float64).eps)


@dataclass(frozen=True, eq=False)
class PolicyValue:
    """What a policy attains and spends from a start distribution.

    Attributes
    ----------
    success : float
        Probability of success; waiting for ever is none.
    usage : float64 (budgets,)
        Expected units taken from each budget; infinite where the policy may go on spending for ever.
    requests : dict of str to float
        Expected number of requests of each help type.
    bound : float
        Largest error of `success`; 0.0 where the model has no cycles (exact up to rounding).
    usage_bound : float
        Largest error of a finite `usage` or of requests, likewise.
    """

    success: float
    usage: Floats
    requests: Mapping[str, float]
    bound: float
    usage_bound: float


class _Visit(NamedTuple):
    """One stage of a policy (a remaining budget, a time, or all there is), passed through from its first states.

    Attributes
    ----------
    success : float
    requests : float64 (actions,)
        Expected times that each action is taken.
    moved : list of float64 (n,), or None
        For every action that leads to another stage, the mass that arrives there.
    taken : float64 (actions, n)
        Expected times that each action is taken in each state, but where an episode goes on for ever.
    error, steps : float
        Mass that the solution of the linear system lost or invented; most steps that a state can still take.
    """

    success: float
    requests: Floats
    moved: list[Floats | None]
    taken: Floats
    error: float
    steps: float


def evaluate_policy(
    mdp: InterventionMDP,
    policy: npt.ArrayLike,
    start: int | npt.ArrayLike,
    *,
    budget: int | tuple[int, ...] | None = None,
) -> PolicyValue:
    """Success and usage of a policy from a start, by the expected number of visits to every state.

    `selfreg.planning.usage.success_and_usage` has both for all states and budgets at once, of
    hard-budget policies only.

    Parameters
    ----------
    mdp : InterventionMDP
    policy : array_like
        One of

        - int (n,): index into `mdp.actions` for every state;
        - float (n, actions): probability of every action in every state, drawn anew at every visit;
        - int (n, B1 + 1, B2 + 1, ...) with `budget`: for every state and remaining budget, like `Solution.policy`;
        - int (T, n) or float (T, n, actions): row t for step t of the episode, the last one from then on.

        What it says of terminal states is not used.
    start : int or (n,) array_like
        A state, or probabilities of states.
    budget : int or tuple of int, optional
        What an episode starts with; for a policy per remaining budget, and only there.

    Returns
    -------
    PolicyValue

    Raises
    ------
    ValueError, TypeError
        If an argument is not of the form above, or the policy takes an action that is not available, or not
        affordable, in a state that an episode reaches.

    Examples
    --------
    Help nine times in ten succeeds, the agent alone one time in two; here help is asked for with probability 1/4.

    >>> import numpy as np, selfreg
    >>> alone = np.array([[0, .5, .5], [0, 0, 0], [0, 0, 0]])
    >>> helped = np.array([[0, .9, .1], [0, 0, 0], [0, 0, 0]])
    >>> mdp = selfreg.InterventionMDP({"nohelp": alone, "help": helped}, [np.nan, 1, 0], {"help": 1})
    >>> result = selfreg.evaluate_policy(mdp, [[.75, .25], [1, 0], [1, 0]], start=0)
    >>> round(result.success, 6), result.usage.tolist(), result.requests
    (0.6, [0.25], {'help': 0.25})
    """
    validate.model(mdp)
    weight = validate.start(start, mdp.n_states)
    stages = _stages(mdp, policy, budget)
    success, requests, error, steps = 0.0, np.zeros(len(mdp.actions)), 0.0, 0.0
    for _, visit in _visited(mdp, stages, weight):
        success, requests = success + visit.success, requests + visit.requests
        error, steps = error + visit.error, max(steps, visit.steps)
    return _value(mdp, stages, success, requests, error, steps)


def expected_visits(
    mdp: InterventionMDP, policy: npt.ArrayLike, start: int | npt.ArrayLike, *, budget: int | tuple[int, ...]
) -> Floats:
    """How often a hard-budget policy takes each action in each state, by the budget left there.

    Parameters
    ----------
    mdp, policy, start, budget
        As for `evaluate_policy` with a budget.

    Returns
    -------
    float64 (actions, n, B1 + 1, B2 + 1, ...)
        Expected times in an episode. States in which an episode goes on for ever count none.

    Raises
    ------
    ValueError, TypeError
        As `evaluate_policy`.

    Examples
    --------
    >>> import numpy as np, selfreg
    >>> from selfreg.planning.evaluation import expected_visits
    >>> alone = np.array([[0, .5, .5, 0], [0, 0, .5, .5], [0, 0, 0, 0], [0, 0, 0, 0]])
    >>> helped = np.array([[0, 1., 0, 0], [0, 0, .9, .1], [0, 0, 0, 0], [0, 0, 0, 0]])
    >>> mdp = selfreg.InterventionMDP({"nohelp": alone, "help": helped}, [np.nan, np.nan, 1, 0], {"help": 1})
    >>> visits = expected_visits(mdp, selfreg.solve(mdp, 1).policy, 0, budget=1)
    >>> visits[0, 0].tolist(), visits[1, 1].tolist()
    ([0.0, 1.0], [0.0, 0.5])
    """
    validate.model(mdp)
    weight = validate.start(start, mdp.n_states)
    stages = _stages(mdp, policy, budget)
    result = np.zeros((len(mdp.actions), mdp.n_states, prod(stages.shape)))
    for stage, visit in _visited(mdp, stages, weight):
        result[:, :, stage] = visit.taken
    return result.reshape(*result.shape[:2], *stages.shape)


def _visited(mdp: InterventionMDP, stages: _Stages, weight: Floats) -> Iterator[tuple[int, _Visit]]:
    """Stages that an episode comes to, in order, and what happens there."""
    after = {stages.first: weight}
    for stage in stages.order():
        arrived = after.pop(stage, None)
        if arrived is None or not arrived.any():
            continue
        visit = _pass_through(mdp, stages.probabilities(stage), stages.leads_on(stage), arrived, stages.name(stage))
        yield stage, visit
        for a, mass in enumerate(visit.moved):
            if mass is not None:
                target = stages.target(stage, a)
                after[target] = after[target] + mass if target in after else mass


def _value(
    mdp: InterventionMDP, stages: _Stages, success: float, requests: Floats, error: float, steps: float
) -> PolicyValue:
    asked = dict(zip(mdp.actions[1:], requests[1:].tolist(), strict=True))
    with np.errstate(invalid="ignore"):
        spent = requests[:, None] * mdp.cost_table
    usage = np.where(mdp.cost_table > 0, spent, 0.0).sum(axis=0)
    if isinstance(prepared(mdp, None)[1], Levels):
        error = 0.0
    # Every step costs at most this; in all the stages together no more steps can be lost than in each.
    most = max(1, int(mdp.cost_table.max(initial=1)))
    return PolicyValue(success, usage, asked, error, error * most * steps * stages.count)


# ---- the forms of a policy ----------------------------------------------------------------------------------------


class _Stages:
    """A policy as stages with one action, or distribution over actions, a state each."""

    def __init__(self, mdp: InterventionMDP, policy: npt.NDArray[Any], form: str, first: int, shape: tuple[int, ...]):
        self.mdp, self.policy, self.form, self.first, self.shape = mdp, policy, form, first, shape
        self.count = policy.shape[0]
        self.offset = mdp.cost_table @ strides(shape) if form == "budget" else np.zeros(len(mdp.actions), np.int64)

    def order(self) -> Iterator[int]:
        return iter(range(self.first, -1, -1) if self.form == "budget" else range(self.count))

    def probabilities(self, stage: int) -> Floats:
        """float64 (actions, n)."""
        row = self.policy[stage]
        if row.ndim == 2:
            return np.ascontiguousarray(row.T)
        taken: Mask = row == np.arange(len(self.mdp.actions))[:, None]
        return taken.astype(np.float64)

    def leads_on(self, stage: int) -> Mask:
        """bool (actions,): whether an action leads to another stage."""
        if self.form == "budget":
            return self.offset > 0
        return np.full(len(self.offset), stage < self.count - 1)

    def target(self, stage: int, action: int) -> int:
        return stage - int(self.offset[action]) if self.form == "budget" else stage + 1

    def name(self, stage: int) -> _Where:
        left = None
        if self.form == "budget":
            left = tuple(int(i) for i in np.unravel_index(stage, self.shape))
        return _Where(left, stage if self.form == "time" and self.count > 1 else None)


class _Where(NamedTuple):
    """What an error message says of a stage, and what help it can pay for."""

    left: tuple[int, ...] | None
    step: int | None

    def __str__(self) -> str:
        if self.left is not None:
            return f" with budget {self.left[0] if len(self.left) == 1 else self.left} left"
        return "" if self.step is None else f" at step {self.step}"


def _stages(mdp: InterventionMDP, policy: npt.ArrayLike, budget: Any) -> _Stages:
    array, n, actions = np.asarray(policy), mdp.n_states, len(mdp.actions)
    if array.dtype.kind not in "iuf":
        raise TypeError(f"policy has dtype {array.dtype}; expected int, or float for probabilities of actions")
    random = array.dtype.kind == "f"
    if budget is not None:
        return _budget_stages(mdp, array, budget)
    one, many = ((n, actions), "(T, n, actions)") if random else ((n,), "(T, n)")
    rows = array[None] if array.ndim == len(one) else array
    if rows.ndim != len(one) + 1 or rows.shape[1:] != one or not len(rows):
        raise ValueError(f"policy has shape {array.shape}; expected {one} or {many} without budget=")
    (validate.action_probabilities if random else validate.action_indices)(rows, mdp.terminal, actions)
    return _Stages(mdp, rows, "time", 0, (1,))


def _budget_stages(mdp: InterventionMDP, array: npt.NDArray[Any], budget: Any) -> _Stages:
    if array.dtype.kind == "f":
        raise TypeError(f"policy has dtype {array.dtype}; expected int for a policy per remaining budget")
    if array.ndim != 1 + mdp.n_budgets or array.shape[0] != mdp.n_states or 0 in array.shape[1:]:
        raise ValueError(f"policy has shape {array.shape}; expected (n, budget + 1, ...) with n={mdp.n_states}")
    shape = array.shape[1:]
    first = int(np.ravel_multi_index(validate.budget_within(mdp, budget, shape), shape))
    rows = np.ascontiguousarray(array.reshape(mdp.n_states, prod(shape)).T)
    validate.action_indices(rows, mdp.terminal, len(mdp.actions))
    return _Stages(mdp, rows, "budget", first, shape)


# ---- one stage ----------------------------------------------------------------------------------------------------


def _pass_through(mdp: InterventionMDP, chosen: Floats, leads_on: Mask, arrived: Floats, where: _Where) -> _Visit:
    """Expected visits of a stage: y = arrived + P^T y over what its actions keep in the stage.

    A solution that lost or invented mass r is off by at most |r| in success, which is at most 1 from everywhere.
    """
    live = ~mdp.terminal
    chosen = np.where(live, chosen, 0.0)
    matrices = [mdp.transitions[name] for name in mdp.actions]
    kept = [sp.diags_array(chosen[a]) @ matrix for a, matrix in enumerate(matrices) if not leads_on[a]]
    matrix = sp.csr_array(sum(kept[1:], start=kept[0])) if kept else sp.csr_array(matrices[0].shape)
    reached = led_to(matrix, arrived > 0) & live
    leaving = live & (chosen[leads_on].sum(axis=0) > 0)
    trapped = reached & ~leading_to(matrix, leaving | mdp.terminal)
    for_ever = closed_classes(matrix, trapped)
    states = np.flatnonzero(reached & ~for_ever)
    visits, error, steps = _expected_visits(matrix[states][:, states], arrived[states])
    mass = np.zeros(mdp.n_states)
    mass[states] = visits
    _check_choices(mdp, chosen, leads_on, mass, for_ever, where)
    ended = arrived + mass @ matrix
    requests = chosen @ mass
    requests[(chosen[:, for_ever] > 0).any(axis=1)] = np.inf
    moved = [(mass * chosen[a]) @ matrices[a] if leads_on[a] else None for a in range(len(matrices))]
    return _Visit(
        float(ended[~live] @ mdp.terminal_value[~live]),
        requests,
        [part if part is not None and part.any() else None for part in moved],
        mass * chosen,
        error,
        steps,
    )


def _expected_visits(matrix: sp.csr_array, arrived: Floats) -> tuple[Floats, float, float]:
    """Visits to transient states, the mass that is off, and the most steps that any of them can still take."""
    if not matrix.nnz:
        return arrived, 0.0, 1.0
    system, order = transient_system(matrix)
    visits = np.empty_like(arrived)
    visits[order] = system.solve(arrived[order], trans="T")
    lost = arrived + visits @ matrix - visits
    visits[order] += system.solve(lost[order], trans="T")
    lost = arrived + visits @ matrix - visits
    error = float(np.abs(lost).sum() + 8 * EPSILON * visits.sum())
    steps = np.empty_like(arrived)
    steps[order] = system.solve(np.ones(len(order)))
    short = float(np.max(1.0 + matrix @ steps - steps))
    most = float(steps.max()) / (1.0 - short) if short < 0.5 and steps.min() >= 0.0 else np.inf
    return visits, error, most


def _check_choices(
    mdp: InterventionMDP, chosen: Floats, leads_on: Mask, mass: Floats, for_ever: Mask, where: _Where
) -> None:
    """Raise ValueError where a state that is reached takes an action that it cannot have."""
    met = (mass > 0) | for_ever
    for a, name in enumerate(mdp.actions):
        taken = met & (chosen[a] > 0)
        bad = np.flatnonzero(taken & ~mdp.available(name))
        if len(bad):
            raise ValueError(f"policy takes {name!r} in state {bad[0]}{where}, where it is unavailable")
        if where.left is not None and taken.any() and np.any(mdp.cost_table[a] > where.left):
            state = int(np.flatnonzero(taken)[0])
            raise ValueError(f"policy takes {name!r} in state {state}{where}, but it costs {mdp.costs[name]}")
