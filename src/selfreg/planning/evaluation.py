"""Success and usage of any policy, exactly: from a start, or from every state and remaining budget at once.

From a start the evaluation goes forward: one linear system for the expected visits of each stage (a remaining budget,
or a time step) that an episode can reach. Without a start it goes backward: one linear system per remaining budget.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from math import prod
from typing import Any, NamedTuple, overload

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from selfreg._util import validate
from selfreg._util.showing import ShortRepr
from selfreg._util.validate import EPSILON
from selfreg.mdp import InterventionMDP
from selfreg.planning import _arguments
from selfreg.planning._chains import can_reach, closed_classes, reachable_from
from selfreg.planning._elimination import AbsorbingChain, divide_rows
from selfreg.planning._policies import policy_array
from selfreg.planning._structure import Levels, load_structure, strides
from selfreg.planning.solution import Solution
from selfreg.planning.usage import eliminate_self_loops, expected_usage, split_by_cost, states_that_reach

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

# Rounding error of an expectation of values in [0, 1], in units of EPSILON, for rows of up to a hundred entries.
ROUNDING = 100.0


@dataclass(frozen=True, eq=False, repr=False)
class PolicyValue(ShortRepr):
    """Success and usage of a policy from a start distribution.

    Attributes
    ----------
    success : float
        Probability of success; an episode that never ends does not succeed.
    usage : float64 (budgets,)
        Expected units taken from each budget; infinite if the policy may go on spending for ever.
    requests : dict of str to float
        Expected number of requests of each help type.
    bound : float
        Largest error of `success`; 0.0 if the model has no cycles: up to rounding, as in `Solution`.
    usage_bound : float
        Largest error of finite `usage` and `requests`; 0.0 likewise.
    """

    success: float
    usage: Floats
    requests: Mapping[str, float]
    bound: float
    usage_bound: float


@dataclass(frozen=True, eq=False, repr=False)
class PolicyTable(ShortRepr):
    """Success and usage of a hard-budget policy from every state and remaining budget.

    Attributes
    ----------
    mdp : InterventionMDP
    policy : int8 (n, B1 + 1, B2 + 1, ...)
        Index into `mdp.actions`.
    success : float64, shape of `policy`
        Probability of success; an episode that never ends does not succeed.
    usage : float64 (n, B1 + 1, B2 + 1, ..., budgets)
        Expected units taken from each budget; in models with cycles computed on first access.
    bound : float
        Largest error of `success`; 0.0 if the model has no cycles: up to rounding, as in `Solution`.
    """

    mdp: InterventionMDP
    policy: npt.NDArray[np.int8]
    success: Floats
    bound: float

    @cached_property
    def usage(self) -> Floats:
        budget = tuple(size - 1 for size in self.policy.shape[1:])
        return expected_usage(Solution(self.mdp, budget, self.success, self.policy, 0.0))


class _StageVisits(NamedTuple):
    """One stage of a policy (a remaining budget, a time step, or the whole episode), given the mass that enters it.

    Attributes
    ----------
    success : float
    requests : float64 (actions,)
        Expected number of times that each action is taken.
    moved : list of float64 (n,), or None
        For every action that leads to another stage, the mass that enters there.
    taken : float64 (actions, n)
        Expected number of times that each action is taken in each state, except where an episode never ends.
    relative : float
        Relative error of all of these, from this stage.
    error, steps : float
        Mass that the solution of the linear system lost or created, and the most steps that a state can still take,
        where the relative error is not known.
    """

    success: float
    requests: Floats
    moved: list[Floats | None]
    taken: Floats
    relative: float
    error: float
    steps: float


@overload
def evaluate_policy(
    mdp: InterventionMDP,
    policy: Any,
    start: Any,
    *,
    budget: int | tuple[int, ...] | None = ...,
) -> PolicyValue: ...
@overload
def evaluate_policy(mdp: InterventionMDP, policy: Any, start: None = ..., *, budget: None = ...) -> PolicyTable: ...
def evaluate_policy(
    mdp: InterventionMDP,
    policy: Any,
    start: Any = None,
    *,
    budget: int | tuple[int, ...] | None = None,
) -> PolicyValue | PolicyTable:
    """Success and usage of a policy: from `start`, or from every state and remaining budget.

    Parameters
    ----------
    mdp : InterventionMDP
        Not necessarily the model that the policy was made for.
    policy : Solution, function, mapping, str or array_like
        One of

        - a `Solution`; its largest budget is the default of `budget`;
        - with `start`, the name of an action, which is taken in every state where it is available (and payable where
          there is a `budget`), with `nohelp` elsewhere;
        - with `start`, a function of the state, or of the state and the budget left where there is a budget, that
          returns an action, or a mapping of every live state to one: names, or indices into `mdp.actions`;
        - int (n, B1 + 1, B2 + 1, ...): action for every state and remaining budget, like `Solution.policy`; with
          `start` it needs `budget`;
        - int (n,), with `start`: index into `mdp.actions` for every state;
        - float (n, actions), with `start`: probability of every action in every state, drawn anew at every visit;
        - int (T, n) or float (T, n, actions), with `start`: row t for step t of the episode, the last row from then on.
          Without `budget` int (n, n) is read as this form, also if it holds actions by remaining budget.

        Entries of terminal states are not used. Names of actions can stand for their indices.
    start : int, str, tuple, mapping or (n,) array_like, optional
        A state, or probabilities of states.
    budget : int or tuple of int, optional
        Budget at the start of an episode; only with `start` and a policy by remaining budget.

    Returns
    -------
    PolicyValue, or PolicyTable without `start`

    Raises
    ------
    ValueError, TypeError
        If an argument is not of the form above, or the policy takes an unavailable or unaffordable action: in a state
        that an episode can reach, or without `start` in any live state.

    Examples
    --------
    Help succeeds nine times in ten, the agent alone one time in two; here help is requested with probability 1/4.

    >>> import numpy as np, selfreg
    >>> alone = np.array([[0, .5, .5], [0, 0, 0], [0, 0, 0]])
    >>> helped = np.array([[0, .9, .1], [0, 0, 0], [0, 0, 0]])
    >>> mdp = selfreg.InterventionMDP({"nohelp": alone, "help": helped}, [np.nan, 1, 0], {"help": 1})
    >>> result = selfreg.evaluate_policy(mdp, [[.75, .25], [1, 0], [1, 0]], start=0)
    >>> round(result.success, 6), result.usage.tolist(), result.requests
    (0.6, [0.25], {'help': 0.25})

    A policy that requests help whenever a unit is left, from every state and budget:

    >>> table = selfreg.evaluate_policy(mdp, [[0, 1], [0, 0], [0, 0]])
    >>> table.success[0].tolist(), table.usage[0, :, 0].tolist()
    ([0.5, 0.9], [0.0, 1.0])
    """
    _arguments.check_model(mdp)
    if start is None:
        if budget is not None:
            raise ValueError("budget= needs start=; without start= all budgets are evaluated")
        if callable(policy) or isinstance(policy, str):
            kind = "a name" if isinstance(policy, str) else "a function"
            raise TypeError(f"policy is {kind}, which needs start= (and budget=, if it depends on the budget left)")
        array, _ = policy_array(mdp, policy, None, use_own_budget=False)
        return _evaluate_backward(mdp, _arguments.budget_policy(mdp, array))
    policy, budget = policy_array(mdp, policy, budget, use_own_budget=True)
    weight = mdp.start_distribution(start)
    stages = _stages(mdp, policy, budget)
    success, requests, relative, error, steps = 0.0, np.zeros(len(mdp.actions)), 0.0, 0.0, 0.0
    for _, visits in _walk_stages(mdp, stages, weight):
        success, requests = success + visits.success, requests + visits.requests
        relative, error, steps = relative + visits.relative, error + visits.error, max(steps, visits.steps)
    return _value(mdp, stages, success, requests, relative, error, steps)


def expected_visits(
    mdp: InterventionMDP, policy: npt.ArrayLike, start: int | npt.ArrayLike, *, budget: int | tuple[int, ...]
) -> Floats:
    """Expected number of times that a hard-budget policy takes each action in each state, by remaining budget.

    Parameters
    ----------
    mdp, policy, start, budget
        As for `evaluate_policy` with a budget.

    Returns
    -------
    float64 (actions, n, B1 + 1, B2 + 1, ...)
        Per episode. States in which an episode never ends count 0.

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
    _arguments.check_model(mdp)
    weight = mdp.start_distribution(start)
    stages = _stages(mdp, policy, budget)
    result = np.zeros((len(mdp.actions), mdp.n_states, prod(stages.shape)))
    for stage, visits in _walk_stages(mdp, stages, weight):
        result[:, :, stage] = visits.taken
    return result.reshape(*result.shape[:2], *stages.shape)


def _walk_stages(mdp: InterventionMDP, stages: _Stages, weight: Floats) -> Iterator[tuple[int, _StageVisits]]:
    """Stages that an episode can reach, in order, with their visits."""
    after = {stages.first: weight}
    for stage in stages.order():
        arrived = after.pop(stage, None)
        if arrived is None or not arrived.any():
            continue
        visits = _visit_stage(mdp, stages.probabilities(stage), stages.exits(stage), arrived, stages.name(stage))
        yield stage, visits
        for a, mass in enumerate(visits.moved):
            if mass is not None:
                target = stages.target(stage, a)
                after[target] = after[target] + mass if target in after else mass


def _value(
    mdp: InterventionMDP,
    stages: _Stages,
    success: float,
    requests: Floats,
    relative: float,
    error: float,
    steps: float,
) -> PolicyValue:
    by_type = dict(zip(mdp.actions[1:], requests[1:].tolist(), strict=True))
    with np.errstate(invalid="ignore"):
        spent = requests[:, None] * mdp.cost_table
    usage = np.where(mdp.cost_table > 0, spent, 0.0).sum(axis=0)
    if isinstance(load_structure(mdp, None)[1], Levels):
        relative = error = 0.0
    finite = np.concatenate([usage, requests[1:]])
    most = float(np.max(finite, where=np.isfinite(finite), initial=0.0))
    # Each lost unit of mass loses at most `steps` steps in every stage, and each step costs at most this.
    largest_cost = max(1, int(mdp.cost_table.max(initial=1)))
    usage_bound = relative * most + error * largest_cost * steps * stages.count
    return PolicyValue(min(success, 1.0), usage, by_type, relative + error, usage_bound)


# ---- the forms of a policy ----------------------------------------------------------------------------------------


class _Stages:
    """A policy as stages, each with one action or distribution over actions per state."""

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
        chosen: Mask = row == np.arange(len(self.mdp.actions))[:, None]
        return chosen.astype(np.float64)

    def exits(self, stage: int) -> Mask:
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
    """Position of a stage in error messages: remaining budget, or time step."""

    left: tuple[int, ...] | None
    step: int | None

    def __str__(self) -> str:
        if self.left is not None:
            return f" with budget {self.left[0] if len(self.left) == 1 else self.left} left"
        return "" if self.step is None else f" at step {self.step}"


def _stages(mdp: InterventionMDP, policy: npt.ArrayLike, budget: Any) -> _Stages:
    array, n, actions = validate.unmasked_array("policy", policy), mdp.n_states, len(mdp.actions)
    if array.dtype.kind not in "iuf":
        raise TypeError(f"policy has dtype {array.dtype}; expected int, or float for probabilities of actions")
    random = array.dtype.kind == "f"
    if budget is not None:
        return _budget_stages(mdp, array, budget)
    one, many = ((n, actions), "(T, n, actions)") if random else ((n,), "(T, n)")
    rows = array[None] if array.ndim == len(one) else array
    if rows.ndim != len(one) + 1 or rows.shape[1:] != one or not len(rows):
        raise ValueError(f"policy has shape {array.shape}; expected {one} or {many} without budget=")
    (_arguments.check_action_probabilities if random else _arguments.check_action_indices)(rows, mdp.terminal, actions)
    return _Stages(mdp, rows, "time", 0, (1,))


def _budget_stages(mdp: InterventionMDP, array: npt.NDArray[Any], budget: Any) -> _Stages:
    if array.dtype.kind == "f":
        raise TypeError(f"policy has dtype {array.dtype}; expected int for a policy per remaining budget")
    if array.ndim != 1 + mdp.n_budgets or array.shape[0] != mdp.n_states or 0 in array.shape[1:]:
        raise ValueError(f"policy has shape {array.shape}; expected (n, budget + 1, ...) with n={mdp.n_states}")
    shape = array.shape[1:]
    first = int(np.ravel_multi_index(_arguments.budget_in_lattice(mdp, budget, shape), shape))
    rows = np.ascontiguousarray(array.reshape(mdp.n_states, prod(shape)).T)
    _arguments.check_action_indices(rows, mdp.terminal, len(mdp.actions))
    return _Stages(mdp, rows, "budget", first, shape)


# ---- forward: one stage -------------------------------------------------------------------------------------------


def _visit_stage(mdp: InterventionMDP, chosen: Floats, leads_on: Mask, arrived: Floats, where: _Where) -> _StageVisits:
    """Expected visits of a stage: y = arrived + P^T y over the actions that stay in it.

    A solution that lost or created mass r has an error of at most |r| in success, which is at most 1 in every state.
    """
    live = ~mdp.terminal
    chosen = np.where(live, chosen, 0.0)
    matrices = [mdp.transitions[name] for name in mdp.actions]
    inner = [sp.diags_array(chosen[a]) @ matrix for a, matrix in enumerate(matrices) if not leads_on[a]]
    matrix = sp.csr_array(sum(inner[1:], start=inner[0])) if inner else sp.csr_array(matrices[0].shape)
    reachable = reachable_from(matrix, arrived > 0) & live
    leaving = live & (chosen[leads_on].sum(axis=0) > 0)
    trapped = reachable & ~can_reach(matrix, leaving | mdp.terminal)
    endless = closed_classes(matrix, trapped)
    states = np.flatnonzero(reachable & ~endless)
    exits = matrix @ _outside(states, mdp.n_states)
    for a in np.flatnonzero(leads_on):
        exits += chosen[a] * np.asarray(matrices[a].sum(axis=1))
    exits[np.asarray(matrix.sum(axis=1)) + exits == 0.0] = 1.0  # an unavailable action: an error below, if visited
    visits, relative, error, steps = _expected_visits(matrix[states][:, states], exits[states], arrived[states])
    mass = np.zeros(mdp.n_states)
    mass[states] = visits
    _check_choices(mdp, chosen, mass, endless, where)
    ended = arrived + mass @ matrix
    requests = chosen @ mass
    requests[(chosen[:, endless] > 0).any(axis=1)] = np.inf
    moved = [(mass * chosen[a]) @ matrices[a] if leads_on[a] else None for a in range(len(matrices))]
    return _StageVisits(
        float(ended[~live] @ mdp.terminal_value[~live]),
        requests,
        [part if part is not None and part.any() else None for part in moved],
        mass * chosen,
        relative,
        error,
        steps,
    )


def _outside(states: npt.NDArray[np.intp], n: int) -> Floats:
    """1.0 for all of `n` states but these."""
    result = np.ones(n)
    result[states] = 0.0
    return result


def _expected_visits(matrix: sp.csr_array, exits: Floats, arrived: Floats) -> tuple[Floats, float, float, float]:
    """Visits to transient states, their relative error, and where that is not known the error in mass and most steps.

    The most steps are of any of the states.
    """
    if not matrix.nnz:
        return arrived, 0.0, 0.0, 1.0
    chain = AbsorbingChain(matrix, exits)
    visits = chain.solve(arrived, transposed=True)
    if chain.error is not None:
        return visits, chain.error, 0.0, 1.0
    matrix = divide_rows(matrix, chain.scale)
    visits += chain.solve(arrived + visits @ matrix - visits, transposed=True)
    lost = arrived + visits @ matrix - visits
    error = float(np.abs(lost).sum() + 8 * EPSILON * visits.sum())
    steps = chain.solve(np.ones(len(arrived)))
    short = float(np.max(1.0 + matrix @ steps - steps))
    most = float(steps.max()) / (1.0 - short) if short < 0.5 and steps.min() >= 0.0 else np.inf
    return visits, 0.0, error, most


def _check_choices(mdp: InterventionMDP, chosen: Floats, mass: Floats, endless: Mask, where: _Where) -> None:
    """Raise ValueError if a visited state takes an unavailable or unaffordable action."""
    visited = (mass > 0) | endless
    for a, name in enumerate(mdp.actions):
        taken = visited & (chosen[a] > 0)
        bad = np.flatnonzero(taken & ~mdp.available(name))
        if len(bad):
            raise ValueError(f"policy takes {name!r} in state {bad[0]}{where}, where it is unavailable")
        if where.left is not None and taken.any() and np.any(mdp.cost_table[a] > where.left):
            state = int(np.flatnonzero(taken)[0])
            raise ValueError(f"policy takes {name!r} in state {state}{where}, but it costs {mdp.costs[name]}")


# ---- backward -----------------------------------------------------------------------------------------------------


def _evaluate_backward(mdp: InterventionMDP, policy: npt.NDArray[np.int64]) -> PolicyTable:
    """Success and usage of a checked hard-budget policy (n, B1 + 1, ...) from every state and budget."""
    structure = load_structure(mdp, None)[1]
    flat, offset = policy.reshape(len(policy), prod(policy.shape[1:])), mdp.cost_table @ strides(policy.shape[1:])
    if not isinstance(structure, Levels):
        success, bound = _solve_layers(mdp, flat, offset)
        return PolicyTable(mdp, policy.astype(np.int8), success.reshape(policy.shape), bound)
    both = _back_up_levels(mdp, structure, flat, offset)
    result = PolicyTable(mdp, policy.astype(np.int8), both[..., 0].reshape(policy.shape), 0.0)
    vars(result)["usage"] = both[..., 1:].reshape(*policy.shape, mdp.n_budgets)
    return result


def _solve_layers(
    mdp: InterventionMDP, policy: npt.NDArray[np.int64], offset: npt.NDArray[np.int64]
) -> tuple[Floats, float]:
    """Least solution (n, lattice) of V(s, b) = sum_j P_a[s,j] V(j, b - c_a), a linear system per budget layer.

    Returns it with its error: relative errors add up over the layers, and no value is above 1.
    """
    bound = 0.0
    matrices = [mdp.transitions[name] for name in mdp.actions]
    value = np.zeros(policy.shape)
    value[mdp.terminal] = mdp.terminal_value[mdp.terminal, None]
    for point in range(policy.shape[1]):
        help_rows, waiting, onward = split_by_cost(matrices, ~mdp.terminal, policy[:, point], offset)
        for a, states, rows in help_rows:
            value[states, point] = rows @ value[:, point - offset[a]]
        succeeding = states_that_reach(np.flatnonzero(value[:, point] > 0), waiting, onward)
        open_ended = np.flatnonzero(succeeding[waiting])
        if len(open_ended):
            states, rows = waiting[open_ended], eliminate_self_loops(waiting[open_ended], onward[open_ended])
            chain = AbsorbingChain(sp.csr_array(rows[:, states]), rows @ _outside(states, len(value)))
            right = rows @ value[:, point]
            solved = chain.solve(right)
            if chain.error is None:
                inner = rows[:, states]
                solved += chain.solve(right + inner @ solved - solved)
                steps = 2.0 * max(1.0, float(chain.solve(np.ones(len(states))).max()))
                bound += steps * (float(np.abs(right + inner @ solved - solved).max()) + ROUNDING * EPSILON)
            else:
                bound += chain.error
            value[states, point] = np.minimum(solved, 1.0)
        bound += ROUNDING * EPSILON
    return value, bound


def _back_up_levels(
    mdp: InterventionMDP, levels: Levels, policy: npt.NDArray[np.int64], offset: npt.NDArray[np.int64]
) -> Floats:
    """Success, then usages, (n, lattice, 1 + budgets) in a model without cycles: one pass over its levels."""
    costs = mdp.cost_table
    result = np.zeros((*policy.shape, 1 + costs.shape[1]))
    result[mdp.terminal, :, 0] = mdp.terminal_value[mdp.terminal, None]
    members = levels.members[~mdp.terminal[levels.members]]
    rows = [mdp.transitions[name][members] for name in mdp.actions]
    level = levels.level[members]
    for begin, end in pairwise(np.searchsorted(level, np.arange(level.max(initial=0) + 2))):
        here = members[begin:end]
        for a, matrix in enumerate(rows):
            row, point = np.nonzero(policy[here] == a)
            if len(row):
                after = _multiply_rows(matrix, begin, end, result)
                result[here[row], point] = after[row, point - offset[a]] + [0.0, *costs[a]]
    return result


def _multiply_rows(matrix: sp.csr_array, begin: int, end: int, values: Floats) -> Floats:
    """Rows begin..end of `matrix` times `values` (n, ...), without the cost of making a matrix of them."""
    starts = matrix.indptr[begin : end + 1]
    entries = slice(starts[0], starts[-1])
    weight = matrix.data[entries].reshape(-1, *[1] * (values.ndim - 1))
    filled = np.flatnonzero(np.diff(starts))
    result = np.zeros((end - begin, *values.shape[1:]))
    if len(filled):
        result[filled] = np.add.reduceat(weight * values[matrix.indices[entries]], (starts - starts[0])[filled])
    return result
