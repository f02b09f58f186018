"""What a hard-budget policy does, exactly, from every state and budget at once: success, and the help it spends.

All systems are solved backwards. From one start, and for policies of other forms, `selfreg.evaluate_policy` goes
forward by the expected number of visits.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from math import prod
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from scipy.sparse.linalg import SuperLU

from selfreg._util import validate
from selfreg.mdp import InterventionMDP
from selfreg.planning._chains import Krylov, Powers, reached, solve_transient, transient_system
from selfreg.planning._structure import Levels, prepared, strides
from selfreg.planning.solution import Solution

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]
HelpRows: TypeAlias = tuple[int, Indices, sp.csr_array]  # action, states, their rows


def expected_usage(solution: Solution) -> Floats:
    """Expected help spent under the hard-budget policy, from every state and every remaining budget.

    Solves U(s, b) = c_a + sum_j P_a[s,j] U(j, b - c_a) with a = policy(s, b), the least solution, budget layer by
    budget layer (an ordinary linear system each; exact up to rounding).

    Returns
    -------
    float64 (n, B1 + 1, B2 + 1, ..., budgets)
        Units taken from each budget; 0 in terminal states.

    Raises
    ------
    TypeError
        If `solution` is not one that holds the policy of every state.

    Examples
    --------
    >>> import numpy as np, selfreg
    >>> alone = np.array([[0, .5, .5], [0, 0, 0], [0, 0, 0]])
    >>> helped = np.array([[0, .9, .1], [0, 0, 0], [0, 0, 0]])
    >>> mdp = selfreg.InterventionMDP({"nohelp": alone, "help": helped}, [np.nan, 1, 0], {"help": 1})
    >>> selfreg.expected_usage(selfreg.solve(mdp, budget=2))[0, :, 0].tolist()
    [0.0, 1.0, 1.0]
    """
    costs = solution.mdp.cost_table
    return _by_layers(solution, np.zeros(costs.shape[1]), lambda action, after: after + costs[action])


def usage_distribution(solution: Solution) -> Floats:
    """Probability of spending exactly u under the hard-budget policy, from every state and every remaining budget.

    Solves D(s, b, u) = sum_j P_a[s,j] D(j, b - c_a, u - c_a) with a = policy(s, b), budget layer by budget layer;
    episodes that end, or that go on for ever without more help, have spent what they had spent before. Exact up to
    rounding; the mean over u is `expected_usage`. For one start only, `Solution.usage_distribution` is cheaper.

    Returns
    -------
    float64 (n, B1 + 1, B2 + 1, ..., B1 + 1, B2 + 1, ...)
        State, remaining budget, units spent. Sums to 1 over the units spent. That is one float per state and pair of
        lattice points: 46 MB for 20,000 states and budgets 0..16.

    Raises
    ------
    TypeError
        If `solution` is not one that holds the policy of every state.

    Examples
    --------
    Half of the episodes come to a state where help is worth asking for; the others succeed without.

    >>> import numpy as np, selfreg
    >>> from selfreg.planning.usage import usage_distribution
    >>> alone = np.array([[0, .5, .5, 0], [0, 0, 0, 1.], [0, 0, 0, 0], [0, 0, 0, 0]])
    >>> helped = np.array([[0, 0, 0, 0], [0, 0, .9, .1], [0, 0, 0, 0], [0, 0, 0, 0]])
    >>> mdp = selfreg.InterventionMDP({"nohelp": alone, "help": helped}, [np.nan, np.nan, 1, 0], {"help": 1})
    >>> usage_distribution(selfreg.solve(mdp, budget=1))[0].tolist()
    [[1.0, 0.0], [0.5, 0.5]]
    """
    layers = _Layers(solution)
    nothing = np.zeros(prod(layers.shape))
    nothing[0] = 1.0

    def shifted(action: int, after: Floats) -> Floats:
        # What is left bounds what can be spent, so that a shift by the cost never wraps into another row.
        result = np.zeros_like(after)
        move = int(layers.offset[action])
        result[:, move:] = after[:, :-move]
        return result

    return _by_layers(solution, nothing, shifted).reshape(-1, *layers.shape, *layers.shape)


def usage_distribution_from(solution: Solution, state: int, budget: int | tuple[int, ...]) -> Floats:
    """One row of `usage_distribution`: the probability of spending exactly u from `state` with `budget` left.

    The mass of the start is carried forward, budget layer by budget layer: one linear system with one right side each.

    Returns
    -------
    float64 (b + 1,) or (b1 + 1, b2 + 1, ...)

    Raises
    ------
    ValueError, TypeError
        If the model has no such state, or the budget is beyond that of the solution.
    """
    weight = np.zeros(solution.mdp.n_states)
    weight[validate.integer("state", state, 0, len(weight) - 1)] = 1.0
    return start_usage_distribution(solution, weight, budget)


def start_usage_distribution(solution: Solution, weight: Floats, budget: int | tuple[int, ...]) -> Floats:
    """The same from a start distribution (n,), checked by the caller."""
    layers = _Layers(solution)
    spendable = validate.budget_within(solution.mdp, budget, layers.shape)
    top = int(np.ravel_multi_index(spendable, layers.shape))
    mass = np.zeros((top + 1, len(weight)))
    mass[top] = weight
    result = np.zeros(prod(layers.shape))
    for point in range(top, -1, -1):
        if mass[point].any():
            result[top - point], asked = _carried(layers.split(point), mass[point])
            for action, arriving in asked:
                mass[point - layers.offset[action]] += arriving
    return result.reshape(layers.shape)[tuple(slice(most + 1) for most in spendable)]


def stationary_usage_distribution(
    mdp: InterventionMDP, policy: npt.NDArray[np.int8], weight: Floats, most: int
) -> Floats:
    """P(exactly u spent) for u = 0..most under a stationary policy (n,) from a start distribution (n,); one budget.

    What is missing to 1 is the probability of spending more. Arguments are checked by the caller.
    """
    cost = mdp.cost_table[:, 0]
    layer = _split([mdp.transitions[name] for name in mdp.actions], ~mdp.terminal, policy, cost)
    mass, result = np.zeros((most + 1, len(weight))), np.zeros(most + 1)
    mass[0] = weight
    for spent in range(most + 1):
        result[spent], asked = _carried(layer, mass[spent])
        for action, arriving in asked:
            if spent + cost[action] <= most:
                mass[spent + cost[action]] += arriving
    return result


def _carried(layer: _Layer, arrived: Floats) -> tuple[float, list[tuple[int, Floats]]]:
    """Mass that ends in a layer, and what each kind of help carries on, from the mass that arrives there."""
    if layer.system is not None:
        arrived = arrived + layer.system.solve(arrived[layer.waiting], trans="T") @ layer.onward
    return float(arrived[layer.ended].sum()), [(a, arrived[states] @ rows) for a, states, rows in layer.asking]


def policy_value(mdp: InterventionMDP, policy: npt.ArrayLike) -> Floats:
    """Probability of success under any hard-budget policy, from every state and every remaining budget.

    The least solution of V(s, b) = sum_j P_a[s,j] V(j, b - c_a) with a = policy(s, b), one linear system a budget
    layer, exact up to rounding. For one start, and for other forms of policies, see `selfreg.evaluate_policy`; with the
    usage too, and faster in models without cycles, `success_and_usage`.

    Parameters
    ----------
    mdp : InterventionMDP
        Not necessarily the one that the policy was made for.
    policy : array_like of int (n, B1 + 1, B2 + 1, ...)
        Index into `mdp.actions`; not used in terminal states.

    Returns
    -------
    float64, shape of `policy`

    Raises
    ------
    ValueError
        Where the policy takes an action that is not available or cannot be paid for.

    Examples
    --------
    >>> import numpy as np, selfreg
    >>> from selfreg.planning.usage import policy_value
    >>> alone = np.array([[0, .5, .5], [0, 0, 0], [0, 0, 0]])
    >>> helped = np.array([[0, .9, .1], [0, 0, 0], [0, 0, 0]])
    >>> mdp = selfreg.InterventionMDP({"nohelp": alone, "help": helped}, [np.nan, 1, 0], {"help": 1})
    >>> policy_value(mdp, [[0, 0, 1], [0, 0, 0], [0, 0, 0]])[0].tolist()
    [0.5, 0.5, 0.9]
    """
    chosen = validate.policy(mdp, policy)
    shape = chosen.shape[1:]
    flat, offset = chosen.reshape(len(chosen), -1), mdp.cost_table @ strides(shape)
    matrices = [mdp.transitions[name] for name in mdp.actions]
    value = np.zeros(flat.shape)
    value[mdp.terminal] = mdp.terminal_value[mdp.terminal, None]
    for point in range(flat.shape[1]):
        asking, waiting, onward = _parted(matrices, ~mdp.terminal, flat[:, point], offset)
        for a, states, rows in asking:
            value[states, point] = rows @ value[:, point - offset[a]]
        kept = np.flatnonzero(_reaching(np.flatnonzero(value[:, point] > 0), waiting, onward)[waiting])
        if len(kept):
            states, rows = waiting[kept], _without_self_loops(waiting[kept], onward[kept])
            value[states, point] = solve_transient(rows[:, states], (rows @ value[:, point])[:, None])[:, 0]
    return value.reshape(chosen.shape)


def success_and_usage(mdp: InterventionMDP, policy: npt.ArrayLike) -> tuple[Floats, Floats]:
    """Success and expected usage of any hard-budget policy, from every state and every remaining budget.

    Parameters
    ----------
    mdp, policy
        As for `policy_value`.

    Returns
    -------
    float64, shape of `policy`, and float64 (*shape of `policy`, budgets)
        Probability of success, and units taken from each budget. Exact up to rounding.

    Raises
    ------
    ValueError
        As `policy_value`.

    Examples
    --------
    >>> import numpy as np, selfreg
    >>> from selfreg.planning.usage import success_and_usage
    >>> alone = np.array([[0, .5, .5], [0, 0, 0], [0, 0, 0]])
    >>> helped = np.array([[0, .9, .1], [0, 0, 0], [0, 0, 0]])
    >>> mdp = selfreg.InterventionMDP({"nohelp": alone, "help": helped}, [np.nan, 1, 0], {"help": 1})
    >>> success, usage = success_and_usage(mdp, [[0, 1], [0, 0], [0, 0]])
    >>> success[0].tolist(), usage[0, :, 0].tolist()
    ([0.5, 0.9], [0.0, 1.0])
    """
    structure = prepared(mdp, None)[1]
    if not isinstance(structure, Levels):
        value = policy_value(mdp, policy)
        plan = Solution(mdp, tuple(most - 1 for most in value.shape[1:]), value, np.asarray(policy, np.int8), 0.0)
        return value, expected_usage(plan)
    chosen = validate.policy(mdp, policy)
    shape = chosen.shape[1:]
    flat, offset, costs = chosen.reshape(len(chosen), -1), mdp.cost_table @ strides(shape), mdp.cost_table
    found = np.zeros((*flat.shape, 1 + costs.shape[1]))
    found[mdp.terminal, :, 0] = mdp.terminal_value[mdp.terminal, None]
    members = structure.members[~mdp.terminal[structure.members]]
    rows = [mdp.transitions[name][members] for name in mdp.actions]
    level = structure.level[members]
    for begin, end in pairwise(np.searchsorted(level, np.arange(level.max(initial=0) + 2))):
        here = members[begin:end]
        for a, matrix in enumerate(rows):
            row, point = np.nonzero(flat[here] == a)
            if len(row):
                after = _rows_times(matrix, begin, end, found)
                found[here[row], point] = after[row, point - offset[a]] + [0.0, *costs[a]]
    return found[..., 0].reshape(chosen.shape), found[..., 1:].reshape(*chosen.shape, -1)


def _rows_times(matrix: sp.csr_array, begin: int, end: int, values: Floats) -> Floats:
    """Rows begin..end of `matrix` times `values` (n, ...), without the cost of making a matrix of them."""
    starts = matrix.indptr[begin : end + 1]
    entries = slice(starts[0], starts[-1])
    weight = matrix.data[entries].reshape(-1, *[1] * (values.ndim - 1))
    filled = np.flatnonzero(np.diff(starts))
    result = np.zeros((end - begin, *values.shape[1:]))
    if len(filled):
        result[filled] = np.add.reduceat(weight * values[matrix.indices[entries]], (starts - starts[0])[filled])
    return result


class _Layer(NamedTuple):
    """One budget layer of a policy: every state asks for help there, waits until it may, or never will."""

    asking: list[HelpRows]
    ended: npt.NDArray[np.bool_]
    waiting: Indices
    onward: sp.csr_array  # (waiting, n) rows of those that wait, self-loops eliminated
    system: SuperLU | Powers | Krylov | None  # solves with I - onward[:, waiting]; None where nothing waits


class _Layers:
    """The policy of a solution, layer by layer of the flattened budget lattice."""

    def __init__(self, solution: Solution) -> None:
        if not isinstance(solution, Solution):
            raise TypeError(f'solution must be a Solution, as of solve(..., keep="all"); got {type(solution).__name__}')
        mdp, self.shape = solution.mdp, tuple(most + 1 for most in solution.budget)
        self.matrices = [mdp.transitions[name] for name in mdp.actions]
        self.policy = solution.policy.reshape(mdp.n_states, prod(self.shape))
        self.live = ~mdp.terminal
        self.offset = mdp.cost_table @ strides(self.shape)

    def split(self, point: int) -> _Layer:
        return _split(self.matrices, self.live, self.policy[:, point], self.offset)


def _split(
    matrices: list[sp.csr_array],
    live: npt.NDArray[np.bool_],
    policy: npt.NDArray[np.int8],
    offset: npt.NDArray[np.int64],
) -> _Layer:
    """The layer of a policy (n,); help that moves by `offset` leaves it."""
    asking, waiting, onward = _parted(matrices, live, policy, offset)
    if not asking:
        return _Layer(asking, np.ones(len(policy), np.bool_), waiting[:0], onward[:0], None)
    helped = np.concatenate([states for _, states, _ in asking])
    ended = ~_reaching(helped, waiting, onward)
    kept = np.flatnonzero(~ended[waiting])
    system, order = None, kept
    if len(kept):
        waiting, onward = waiting[kept], _without_self_loops(waiting[kept], onward[kept])
        system, order = transient_system(onward[:, waiting])
    return _Layer(asking, ended, waiting[order], onward[order], system)


def _parted(
    matrices: list[sp.csr_array],
    live: npt.NDArray[np.bool_],
    policy: npt.NDArray[np.integer[Any]],
    offset: npt.NDArray[np.int64],
) -> tuple[list[HelpRows], Indices, sp.csr_array]:
    """Live states of a layer that ask for help that moves by `offset`; those that do not, and their rows."""
    chosen = [np.flatnonzero(live & (policy == a)) for a in range(len(matrices))]
    asking = [(a, states, matrices[a][states]) for a, states in enumerate(chosen) if offset[a] and len(states)]
    free = [a for a in range(len(chosen)) if offset[a] == 0]
    return asking, np.concatenate([chosen[a] for a in free]), sp.vstack([matrices[a][chosen[a]] for a in free], "csr")


def _by_layers(solution: Solution, never: Floats, paid: Callable[[int, Floats], Floats]) -> Floats:
    """A quantity Q that help changes when it is asked for, from every state and budget; float64 (n, *lattice, width).

    With a = policy(s, b) and x = sum_j P_a[s,j] Q(j, b - c_a), Q(s, b) is x where `a` is free, paid(a, x) where it is
    not, and `never` (width,) where no help will be asked for any more.
    """
    layers = _Layers(solution)
    n, n_lattice = layers.policy.shape
    result = np.zeros((n, n_lattice, len(never)))
    for point in range(n_lattice):
        layer = layers.split(point)
        result[layer.ended, point] = never
        for action, states, rows in layer.asking:
            result[states, point] = paid(action, rows @ result[:, point - layers.offset[action]])
        if layer.system is not None:
            result[layer.waiting, point] = layer.system.solve(layer.onward @ result[:, point])
    return result.reshape(n, *layers.shape, len(never))


def _reaching(targets: Indices, sources: Indices, rows: sp.csr_array) -> npt.NDArray[np.bool_]:
    """bool (n,): states that lead to one of `targets` by the `rows` of `sources`, the targets included."""
    row, column = rows.nonzero()
    return reached(column, sources[row], targets, rows.shape[1])


def _without_self_loops(states: Indices, rows: sp.csr_array) -> sp.csr_array:
    """`rows` of `states`, given that they leave: a self-loop only delays."""
    length = np.diff(rows.indptr)
    data = np.where(rows.indices == np.repeat(states, length), 0.0, rows.data)
    result = sp.csr_array((data, rows.indices, rows.indptr), shape=rows.shape)
    result.data /= np.repeat(result.sum(axis=1), length)
    result.eliminate_zeros()
    return result
