"""What a solution's policy does: expected usage."""

from __future__ import annotations

from math import prod

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from scipy.sparse.linalg import spsolve

from selfreg.solve import Solution


def expected_usage(solution: Solution) -> npt.NDArray[np.float64]:
    """Expected help spent under the hard-budget policy, from every state and every remaining budget.

    Solves U(s, b) = c_a + sum_j P_a[s,j] U(j, b - c_a) with a = policy(s, b), the least solution, budget layer by
    budget layer (an ordinary linear system each; exact up to rounding).

    Returns
    -------
    float64 (n, B1 + 1, B2 + 1, ..., budgets)
        Units taken from each budget; 0 in terminal states.

    Examples
    --------
    >>> import numpy as np, selfreg
    >>> alone = np.array([[0, .5, .5], [0, 0, 0], [0, 0, 0]])
    >>> helped = np.array([[0, .9, .1], [0, 0, 0], [0, 0, 0]])
    >>> mdp = selfreg.InterventionMDP({"nohelp": alone, "help": helped}, [np.nan, 1, 0], {"help": 1})
    >>> selfreg.expected_usage(selfreg.solve(mdp, budget=2))[0, :, 0].tolist()
    [0.0, 1.0, 1.0]
    """
    mdp, shape = solution.mdp, solution.value.shape[1:]
    policy = solution.policy.reshape(mdp.n_states, prod(shape))
    strides = np.array([prod(shape[i + 1 :]) for i in range(len(shape))], dtype=np.int64)
    offset = mdp.cost_table @ strides
    usage = np.zeros((mdp.n_states, prod(shape), mdp.n_budgets))
    for layer in range(policy.shape[1]):
        spent = np.zeros((mdp.n_states, mdp.n_budgets))
        stay = sp.csr_array((mdp.n_states, mdp.n_states))
        for index, name in enumerate(mdp.actions):
            chosen = (policy[:, layer] == index) & mdp.available(name)
            if not chosen.any():
                continue
            rows = sp.diags_array(chosen.astype(np.float64)) @ mdp.transitions[name]
            if offset[index]:
                spent[chosen] = mdp.cost_table[index] + (rows @ usage[:, layer - offset[index]])[chosen]
            else:
                stay = stay + rows
        usage[:, layer] = _least_solution(sp.csr_array(stay), spent)
    return usage.reshape(mdp.n_states, *shape, mdp.n_budgets)


def _least_solution(matrix: sp.csr_array, source: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Least x >= 0 with x = matrix x + source, for a substochastic matrix whose rows are empty where source > 0."""
    reaching = source.any(axis=1)
    if not reaching.any():
        return source
    frontier = reaching
    while frontier.any():
        frontier = (np.asarray(matrix @ frontier.astype(np.float64)) > 0.0) & ~reaching
        reaching = reaching | frontier
    states = np.flatnonzero(reaching)
    system = sp.csc_array(sp.eye_array(len(states)) - matrix[states][:, states])
    result = np.zeros_like(source)
    result[states] = np.asarray(spsolve(system, source[states])).reshape(len(states), -1)
    return result
