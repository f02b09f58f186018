"""Help spent by a hard-budget policy: its expectation and its distribution, from every state and budget, exactly."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from selfreg.mdp import InterventionMDP
from selfreg.planning import _arguments
from selfreg.planning._chains import reachable_by_edges
from selfreg.planning._elimination import AbsorbingChain
from selfreg.planning._structure import strides
from selfreg.planning.solution import Solution

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]
HelpRows: TypeAlias = tuple[int, Indices, sp.csr_array]  # action, states that take it, their rows


def expected_usage(solution: Solution) -> Floats:
    """Expected help spent by the hard-budget policy, from every state and remaining budget.

    Solves U(s, b) = c_a + sum_j P_a[s,j] U(j, b - c_a) with a = policy(s, b), the least solution, one budget
    layer after the other (a linear system each; exact up to rounding).

    Returns
    -------
    float64 (n, B1 + 1, B2 + 1, ..., budgets)
        Units taken from each budget; 0 in terminal states.

    Raises
    ------
    TypeError
        If `solution` is not a `Solution` (that of `solve(..., keep="start")` has no policy).

    Examples
    --------
    >>> import numpy as np, selfreg
    >>> alone = np.array([[0, .5, .5], [0, 0, 0], [0, 0, 0]])
    >>> helped = np.array([[0, .9, .1], [0, 0, 0], [0, 0, 0]])
    >>> mdp = selfreg.InterventionMDP({"nohelp": alone, "help": helped}, [np.nan, 1, 0], {"help": 1})
    >>> selfreg.expected_usage(selfreg.solve(mdp, budget=2))[0, :, 0].tolist()
    [0.0, 1.0, 1.0]
    """
    return expected_charges(solution, solution.mdp.cost_table)


def expected_charges(solution: Solution, charges: npt.NDArray[Any]) -> Floats:
    """As `expected_usage`, where a request counts as `charges` (actions, k), such as its price, and not as its cost.

    Help without a cost counts nothing.
    """
    return _solve_layers(solution, np.zeros(charges.shape[1]), lambda action, after: after + charges[action])


def usage_distribution(solution: Solution) -> Floats:
    """Probability that the hard-budget policy spends exactly u, from every state and remaining budget.

    Solves D(s, b, u) = sum_j P_a[s,j] D(j, b - c_a, u - c_a) with a = policy(s, b), one budget layer after the other.
    An episode that never ends and requests no more help counts with what it has spent. Exact up to rounding; the mean
    over u is `expected_usage`. For one start, `Solution.usage_distribution` is cheaper.

    Returns
    -------
    float64 (n, B1 + 1, B2 + 1, ..., B1 + 1, B2 + 1, ...)
        State, remaining budget, units spent. Sums to 1 over the units spent. That is one float per state and pair of
        lattice points: 46 MB for 20,000 states and budgets 0..16.

    Raises
    ------
    TypeError
        If `solution` is not a `Solution` (that of `solve(..., keep="start")` has no policy).

    Examples
    --------
    Half of the episodes reach a state where help is worth its cost; the others succeed without.

    >>> import numpy as np, selfreg
    >>> from selfreg.planning.usage import usage_distribution
    >>> alone = np.array([[0, .5, .5, 0], [0, 0, 0, 1.], [0, 0, 0, 0], [0, 0, 0, 0]])
    >>> helped = np.array([[0, 0, 0, 0], [0, 0, .9, .1], [0, 0, 0, 0], [0, 0, 0, 0]])
    >>> mdp = selfreg.InterventionMDP({"nohelp": alone, "help": helped}, [np.nan, np.nan, 1, 0], {"help": 1})
    >>> usage_distribution(selfreg.solve(mdp, budget=1))[0].tolist()
    [[1.0, 0.0], [0.5, 0.5]]
    """
    layers = _Layers(solution)
    spends_nothing = np.zeros(prod(layers.shape))
    spends_nothing[0] = 1.0

    def shift(action: int, after: Floats) -> Floats:
        # What is left bounds what can be spent, so that a shift by the cost never wraps into another row.
        result = np.zeros_like(after)
        move = int(layers.offset[action])
        result[:, move:] = after[:, :-move]
        return result

    return _solve_layers(solution, spends_nothing, shift).reshape(-1, *layers.shape, *layers.shape)


def usage_distribution_from(solution: Solution, state: int, budget: int | tuple[int, ...]) -> Floats:
    """One row of `usage_distribution`: the probability of spending exactly u from `state` with `budget` left.

    Mass is carried forward from the start: one linear system per budget layer, with one right-hand side.

    Returns
    -------
    float64 (b + 1,) or (b1 + 1, b2 + 1, ...)

    Raises
    ------
    ValueError, TypeError
        If the model has no such state, or the budget exceeds that of the solution.
    """
    weight = np.zeros(solution.mdp.n_states)
    weight[solution.mdp.state_index(state)] = 1.0
    return start_usage_distribution(solution, weight, budget)


def start_usage_distribution(solution: Solution, weight: Floats, budget: int | tuple[int, ...]) -> Floats:
    """As `usage_distribution_from`, from a start distribution (n,) that the caller has checked."""
    layers = _Layers(solution)
    spendable = _arguments.budget_in_lattice(solution.mdp, budget, layers.shape)
    top = int(np.ravel_multi_index(spendable, layers.shape))
    mass = np.zeros((top + 1, len(weight)))
    mass[top] = weight
    result = np.zeros(prod(layers.shape))
    for point in range(top, -1, -1):
        if mass[point].any():
            result[top - point], helped = _carry_forward(layers.layer(point), mass[point])
            for action, arriving in helped:
                mass[point - layers.offset[action]] += arriving
    return result.reshape(layers.shape)[tuple(slice(most + 1) for most in spendable)]


def stationary_usage_distribution(
    mdp: InterventionMDP, policy: npt.NDArray[np.int8], weight: Floats, most: int
) -> Floats:
    """P(exactly u spent) for u = 0..most under a stationary policy (n,) from a start distribution (n,); one budget.

    The remainder to 1 is the probability of spending more. The caller checks the arguments.
    """
    cost = mdp.cost_table[:, 0]
    layer = _budget_layer([mdp.transitions[name] for name in mdp.actions], ~mdp.terminal, policy, cost)
    mass, result = np.zeros((most + 1, len(weight))), np.zeros(most + 1)
    mass[0] = weight
    for spent in range(most + 1):
        result[spent], helped = _carry_forward(layer, mass[spent])
        for action, arriving in helped:
            if spent + cost[action] <= most:
                mass[spent + cost[action]] += arriving
    return result


def _carry_forward(layer: _Layer, arrived: Floats) -> tuple[float, list[tuple[int, Floats]]]:
    """Mass that spends no more help, and per help action the mass that it moves on, given the mass that arrives."""
    if layer.chain is not None:
        arrived = arrived + layer.chain.solve(arrived[layer.waiting], transposed=True) @ layer.onward
    return float(arrived[layer.ended].sum()), [(a, arrived[states] @ rows) for a, states, rows in layer.help_rows]


class _Layer(NamedTuple):
    """One budget layer of a policy: each state requests help there, can still reach such a state, or cannot."""

    help_rows: list[HelpRows]
    ended: npt.NDArray[np.bool_]
    waiting: Indices  # states that can still reach a request
    onward: sp.csr_array  # (waiting, n) their rows, self-loops eliminated
    chain: AbsorbingChain | None  # solves with I - onward[:, waiting]; None if `waiting` is empty


class _Layers:
    """The policy of a solution, layer by layer of the flattened budget lattice."""

    def __init__(self, solution: Solution) -> None:
        if not isinstance(solution, Solution):
            raise TypeError(
                f'solution must be a Solution, as from solve(..., keep="all"); got {type(solution).__name__}'
            )
        mdp, self.shape = solution.mdp, tuple(most + 1 for most in solution.budget)
        self.matrices = [mdp.transitions[name] for name in mdp.actions]
        self.policy = solution.policy.reshape(mdp.n_states, prod(self.shape))
        self.live = ~mdp.terminal
        self.offset = mdp.cost_table @ strides(self.shape)

    def layer(self, point: int) -> _Layer:
        return _budget_layer(self.matrices, self.live, self.policy[:, point], self.offset)


def _budget_layer(
    matrices: list[sp.csr_array],
    live: npt.NDArray[np.bool_],
    policy: npt.NDArray[np.int8],
    offset: npt.NDArray[np.int64],
) -> _Layer:
    """The layer of a policy (n,); actions with an `offset` leave it."""
    help_rows, waiting, onward = split_by_cost(matrices, live, policy, offset)
    if not help_rows:
        return _Layer(help_rows, np.ones(len(policy), np.bool_), waiting[:0], onward[:0], None)
    helped = np.concatenate([states for _, states, _ in help_rows])
    ended = ~states_that_reach(helped, waiting, onward)
    open_ended = np.flatnonzero(~ended[waiting])
    waiting, onward, chain = waiting[open_ended], onward[open_ended], None
    if len(open_ended):
        onward, outside = eliminate_self_loops(waiting, onward), np.ones(len(policy))
        outside[waiting] = 0.0
        chain = AbsorbingChain(sp.csr_array(onward[:, waiting]), onward @ outside)
    return _Layer(help_rows, ended, waiting, onward, chain)


def split_by_cost(
    matrices: list[sp.csr_array],
    live: npt.NDArray[np.bool_],
    policy: npt.NDArray[np.integer[Any]],
    offset: npt.NDArray[np.int64],
) -> tuple[list[HelpRows], Indices, sp.csr_array]:
    """Rows of live states that take an action with an `offset`, by action; the other live states, and their rows."""
    chosen = [np.flatnonzero(live & (policy == a)) for a in range(len(matrices))]
    help_rows = [(a, states, matrices[a][states]) for a, states in enumerate(chosen) if offset[a] and len(states)]
    free = [a for a in range(len(chosen)) if offset[a] == 0]
    return (
        help_rows,
        np.concatenate([chosen[a] for a in free]),
        sp.vstack([matrices[a][chosen[a]] for a in free], "csr"),
    )


def _solve_layers(solution: Solution, no_more_help: Floats, pay: Callable[[int, Floats], Floats]) -> Floats:
    """A quantity Q that each request for help changes, from every state and budget; float64 (n, *lattice, width).

    With a = policy(s, b) and x = sum_j P_a[s,j] Q(j, b - c_a), Q(s, b) is x if `a` is free, pay(a, x) if it is not,
    and `no_more_help` (width,) if no request can follow.
    """
    layers = _Layers(solution)
    n, n_lattice = layers.policy.shape
    result = np.zeros((n, n_lattice, len(no_more_help)))
    for point in range(n_lattice):
        layer = layers.layer(point)
        result[layer.ended, point] = no_more_help
        for action, states, rows in layer.help_rows:
            result[states, point] = pay(action, rows @ result[:, point - layers.offset[action]])
        if layer.chain is not None:
            result[layer.waiting, point] = layer.chain.solve(layer.onward @ result[:, point])
    return result.reshape(n, *layers.shape, len(no_more_help))


def states_that_reach(targets: Indices, sources: Indices, rows: sp.csr_array) -> npt.NDArray[np.bool_]:
    """bool (n,): `targets`, and states that can reach one of them by the `rows` of `sources`."""
    row, column = rows.nonzero()
    return reachable_by_edges(column, sources[row], targets, rows.shape[1])


def eliminate_self_loops(states: Indices, rows: sp.csr_array) -> sp.csr_array:
    """`rows` of `states` conditional on leaving the state."""
    length = np.diff(rows.indptr)
    data = np.where(rows.indices == np.repeat(states, length), 0.0, rows.data)
    result = sp.csr_array((data, rows.indices, rows.indptr), shape=rows.shape)
    result.data /= np.repeat(result.sum(axis=1), length)
    result.eliminate_zeros()
    return result
