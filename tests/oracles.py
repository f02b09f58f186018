"""Naive answers, written from the equations and sharing no code with the package."""

from __future__ import annotations

from itertools import product

import numpy as np
import scipy.sparse as sp
from scipy.optimize import linprog

import selfreg


def product_choices(mdp: selfreg.InterventionMDP, budget: tuple[int, ...]):
    """Points (s, b) of the product space and, per point, {action index: {successor point: probability}}."""
    dense = [mdp.transitions[name].toarray() for name in mdp.actions]
    points = list(product(range(mdp.n_states), *(range(b + 1) for b in budget)))
    choices: dict[tuple[int, ...], dict[int, dict[tuple[int, ...], float]]] = {}
    for s, *left in points:
        choices[(s, *left)] = {}
        if not np.isnan(mdp.terminal_value[s]):
            continue
        for a, name in enumerate(mdp.actions):
            cost = mdp.costs[name] if a else (0,) * len(budget)
            after = [b - c for b, c in zip(left, cost, strict=True)]
            if min(after) >= 0 and dense[a][s].sum() > 0.5:
                choices[(s, *left)][a] = {(int(j), *after): float(dense[a][s, j]) for j in np.flatnonzero(dense[a][s])}
    return points, choices


def linear_program(mdp: selfreg.InterventionMDP, budget: tuple[int, ...]) -> np.ndarray:
    """The least x >= 0 with x >= sum_j P_a x for every action: the value, by HiGHS on the product space."""
    points, choices = product_choices(mdp, budget)
    index = {point: i for i, point in enumerate(points)}
    rows, columns, entries, count = [], [], [], 0
    for point in points:
        for successors in choices[point].values():
            rows += [count] * (1 + len(successors))
            columns += [index[point], *(index[j] for j in successors)]
            entries += [-1.0, *successors.values()]
            count += 1
    fixed = [float(mdp.terminal_value[point[0]]) for point in points]
    bounds = [(0, None) if np.isnan(g) else (g, g) for g in fixed]
    matrix = sp.coo_array((entries, (rows, columns)), shape=(count, len(points))) if count else None
    right = np.zeros(count) if count else None
    result = linprog(np.ones(len(points)), A_ub=None if matrix is None else matrix.tocsr(), b_ub=right, bounds=bounds)
    assert result.status == 0, result.message
    return result.x.reshape(mdp.n_states, *(b + 1 for b in budget))


def policy_success(points, choices, terminal_value, chosen) -> np.ndarray:
    """Success of one deterministic policy {point: action}: the least solution of its linear system."""
    index = {point: i for i, point in enumerate(points)}
    matrix, right = np.zeros((len(points), len(points))), np.zeros(len(points))
    for point in points:
        if not np.isnan(terminal_value[point[0]]):
            right[index[point]] = terminal_value[point[0]]
            continue
        for successor, probability in choices[point][chosen[point]].items():
            matrix[index[point], index[successor]] += probability
    reaching = right > 0
    for _ in points:
        reaching = reaching | (matrix[:, reaching].sum(axis=1) > 0)
    result = np.zeros(len(points))
    live = np.flatnonzero(reaching)
    if len(live):
        result[live] = np.linalg.solve(np.eye(len(live)) - matrix[np.ix_(live, live)], right[live])
    return result


def enumeration(mdp: selfreg.InterventionMDP, budget: tuple[int, ...], limit: int = 3000) -> np.ndarray | None:
    """Best success over every deterministic policy of the product space; None where there are more than `limit`."""
    points, choices = product_choices(mdp, budget)
    live = [point for point in points if choices[point]]
    if np.prod([float(len(choices[point])) for point in live]) > limit:
        return None
    best = np.zeros(len(points))
    for actions in product(*(choices[point] for point in live)):
        chosen = dict(zip(live, actions, strict=True))
        best = np.maximum(best, policy_success(points, choices, mdp.terminal_value, chosen))
    return best.reshape(mdp.n_states, *(b + 1 for b in budget))


def penalized_linear_program(mdp: selfreg.InterventionMDP, price: np.ndarray) -> np.ndarray:
    """The least x >= 0 with x >= sum_j P_a x - price_a for every action, by HiGHS; `price` (actions,)."""
    rows, columns, entries, right = [], [], [], []
    for a, name in enumerate(mdp.actions):
        matrix = mdp.transitions[name].toarray()
        for s in np.flatnonzero(mdp.available(name)):
            successors = np.flatnonzero(matrix[s])
            rows += [len(right)] * (1 + len(successors))
            columns += [s, *successors]
            entries += [-1.0, *matrix[s, successors]]
            right.append(float(price[a]))
    bounds = [(0, None) if np.isnan(g) else (g, g) for g in mdp.terminal_value]
    matrix = sp.coo_array((entries, (rows, columns)), shape=(len(right), mdp.n_states)) if right else None
    left = None if matrix is None else matrix.tocsr()
    result = linprog(np.ones(mdp.n_states), A_ub=left, b_ub=right if right else None, bounds=bounds)
    assert result.status == 0, result.message
    return result.x


def chain_of(mdp: selfreg.InterventionMDP, policy: np.ndarray) -> np.ndarray:
    """Dense (n, n) transitions under a stationary policy; zero rows in terminal states."""
    dense = np.stack([mdp.transitions[name].toarray() for name in mdp.actions])
    chain = dense[policy, np.arange(mdp.n_states)]
    chain[mdp.terminal] = 0
    return chain


def stationary_success_and_usage(mdp: selfreg.InterventionMDP, policy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Success (n,) and usage (n, budgets) of a stationary policy that does not spend for ever."""
    chain = chain_of(mdp, policy)
    spent = mdp.cost_table[policy] * ~mdp.terminal[:, None]
    right = np.column_stack([np.where(mdp.terminal, np.nan_to_num(mdp.terminal_value), 0), spent])
    ending = right.any(axis=1)
    for _ in range(mdp.n_states):
        ending = ending | (chain[:, ending].sum(axis=1) > 0)
    result, live = np.zeros_like(right, dtype=float), np.flatnonzero(ending)
    if len(live):
        result[live] = np.linalg.solve(np.eye(len(live)) - chain[np.ix_(live, live)], right[live])
    return result[:, 0], result[:, 1:]


def occupancy_linear_program(mdp: selfreg.InterventionMDP, weight: np.ndarray, budgets: list[float | None]) -> float:
    """Best success from `weight` whose expected usages are at most `budgets` (None: no limit), by HiGHS.

    Variables are the expected times that an action is taken in a state, and that waiting for ever begins in a state.
    """
    costs, flow, outcome = _occupancy_rows(mdp)
    limited = [d for d, limit in enumerate(budgets) if limit is not None]
    at_once = float(weight @ np.nan_to_num(mdp.terminal_value))
    if not len(outcome):
        return at_once
    result = linprog(
        -outcome,
        A_ub=costs[:, limited].T if limited else None,
        b_ub=[budgets[d] for d in limited] if limited else None,
        A_eq=flow,
        b_eq=weight[~mdp.terminal],
    )
    assert result.status == 0, result.message
    return at_once - float(result.fun)


def least_usage(mdp: selfreg.InterventionMDP, weight: np.ndarray, success: float) -> float:
    """Least expected usage of the first budget that reaches `success`, by HiGHS."""
    costs, flow, outcome = _occupancy_rows(mdp)
    if not len(outcome):
        return 0.0
    result = linprog(
        costs[:, 0],
        A_ub=-outcome[None],
        b_ub=[-success + float(weight @ np.nan_to_num(mdp.terminal_value))],
        A_eq=flow,
        b_eq=weight[~mdp.terminal],
    )
    assert result.status == 0, result.message
    return float(result.fun)


def _occupancy_rows(mdp: selfreg.InterventionMDP):
    """Costs (variables, budgets), balance (live, variables), success (variables,)."""
    live = np.flatnonzero(~mdp.terminal)
    costs, columns, outcome = [], [], []
    for a, name in enumerate(mdp.actions):
        matrix = mdp.transitions[name].toarray()
        for s in np.flatnonzero(mdp.available(name)):
            column = -matrix[s]
            column[s] += 1
            costs.append(mdp.cost_table[a])
            columns.append(column[live])
            outcome.append(float(matrix[s] @ np.nan_to_num(mdp.terminal_value)))
    for s in live:
        costs.append(np.zeros(mdp.n_budgets))
        columns.append((live == s).astype(float))
        outcome.append(0.0)
    if not costs:
        return np.zeros((0, mdp.n_budgets)), np.zeros((0, 0)), np.zeros(0)
    return np.array(costs, float), np.column_stack(columns), np.array(outcome)
