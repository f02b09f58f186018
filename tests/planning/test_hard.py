"""The solver against its twin and two oracles, and the theorems that its answers obey."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import oracles
import selfreg
import strategies

TOLERANCE = 1e-9


def close(actual: np.ndarray, expected: np.ndarray, tolerance: float = 1e-8) -> None:
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance)


@given(strategies.models())
def test_twin_agrees_with_kernel(case) -> None:
    mdp, budget = case
    compiled = selfreg.solve(mdp, budget, implementation="cython")
    twin = selfreg.solve(mdp, budget, implementation="python")
    close(compiled.value, twin.value, 2 * TOLERANCE)
    assert (compiled.bound == 0.0) == (twin.bound == 0.0)
    if compiled.bound == 0.0:
        np.testing.assert_allclose(compiled.value, twin.value, rtol=0, atol=1e-13)


@given(case=strategies.models())
def test_value_is_that_of_the_linear_program(implementation, case) -> None:
    mdp, budget = case
    close(selfreg.solve(mdp, budget, implementation=implementation).value, oracles.linear_program(mdp, budget))


@given(case=strategies.models(max_live=3, max_help=1, budgets=1))
def test_value_is_the_best_of_all_policies(implementation, case) -> None:
    mdp, budget = case
    best = oracles.enumeration(mdp, budget)
    assume(best is not None)
    close(selfreg.solve(mdp, budget, implementation=implementation).value, best)


@given(case=strategies.models())
def test_policy_attains_the_value(implementation, case) -> None:
    mdp, budget = case
    solution = selfreg.solve(mdp, budget, implementation=implementation)
    points, choices = oracles.product_choices(mdp, budget)
    chosen = {point: int(solution.policy[point]) for point in points}
    success = oracles.policy_success(points, choices, mdp.terminal_value, chosen).reshape(solution.value.shape)
    assert np.max(np.abs(success - solution.value)) <= solution.bound + 1e-12


@given(case=strategies.models())
def test_q_of_the_policy_is_the_value_and_the_best(implementation, case) -> None:
    mdp, budget = case
    solution = selfreg.solve(mdp, budget, implementation=implementation)
    q = np.stack([solution.q(action) for action in mdp.actions])
    live = ~mdp.terminal
    assert np.isnan(q[:, mdp.terminal]).all()
    if not live.any():
        return
    best = np.nanmax(q[:, live], axis=0)
    close(best, solution.value[live], 2 * TOLERANCE)
    taken = np.take_along_axis(q, solution.policy[None].astype(int), axis=0)[0][live]
    close(taken, solution.value[live], 2 * TOLERANCE)


@given(strategies.models(budgets=1))
def test_value_grows_with_the_budget(case) -> None:
    mdp, budget = case
    value = selfreg.solve(mdp, budget).value
    assert np.all(np.diff(value, axis=1) >= -TOLERANCE)


@given(strategies.models(), st.randoms(use_true_random=False))
def test_relabelling_states_changes_nothing(case, random) -> None:
    mdp, budget = case
    order = np.array(random.sample(range(mdp.n_states), mdp.n_states))
    matrices = {name: matrix[order][:, order] for name, matrix in mdp.transitions.items()}
    relabelled = selfreg.InterventionMDP(matrices, mdp.terminal_value[order], mdp.costs)
    close(selfreg.solve(relabelled, budget).value, selfreg.solve(mdp, budget).value[order], 2 * TOLERANCE)


@given(strategies.models())
def test_one_more_help_type_never_lowers_the_value(case) -> None:
    mdp, budget = case
    fewer = {name: mdp.transitions[name] for name in mdp.actions[:-1]} or mdp.transitions
    assume(len(fewer) < len(mdp.transitions) and len(fewer) > 1)
    smaller = selfreg.InterventionMDP(fewer, mdp.terminal_value, {k: mdp.costs[k] for k in fewer if k != "nohelp"})
    assert np.all(selfreg.solve(mdp, budget).value >= selfreg.solve(smaller, budget).value - TOLERANCE)


@given(strategies.models(zero_cost=False))
def test_without_budget_help_is_worth_nothing(case) -> None:
    mdp, budget = case
    alone = selfreg.InterventionMDP({"nohelp": mdp.transitions["nohelp"]}, mdp.terminal_value, {})
    none = selfreg.solve(mdp, tuple(0 for _ in budget)).value.reshape(-1)
    close(none, selfreg.solve(alone, 0).value[:, 0], 2 * TOLERANCE)


@given(strategies.models())
def test_expected_usage_is_that_of_simulated_chains(case) -> None:
    mdp, budget = case
    solution = selfreg.solve(mdp, budget)
    usage = selfreg.expected_usage(solution)
    assert np.all(usage >= -1e-12)
    assert np.all(usage[mdp.terminal] == 0)
    for point in np.ndindex(solution.value.shape):
        assert np.all(usage[point] <= np.array(point[1:]) + 1e-9)
    # Independent: count units by walking the policy's product chain until nothing is left to move.
    points, choices = oracles.product_choices(mdp, budget)
    index = {point: i for i, point in enumerate(points)}
    matrix, spent = np.zeros((len(points), len(points))), np.zeros((len(points), mdp.n_budgets))
    for point in points:
        if choices[point]:
            a = int(solution.policy[point])
            spent[index[point]] = mdp.cost_table[a]
            for successor, p in choices[point][a].items():
                matrix[index[point], index[successor]] = p
    total, power = spent.copy(), matrix
    for _ in range(40):  # sum of matrix^k spent by doubling: 2^40 steps
        total, power = total + power @ total, power @ power
    np.testing.assert_allclose(usage.reshape(total.shape), total, rtol=0, atol=1e-7)


def test_waiting_for_ever_is_worth_nothing(implementation) -> None:
    # State 0 never ends alone; help succeeds half the time. A tie with waiting must not keep the agent waiting.
    mdp = selfreg.InterventionMDP(
        {"nohelp": np.diag([1.0, 0, 0]), "help": np.array([[0, 0.5, 0.5], [0, 0, 0], [0, 0, 0]])},
        [np.nan, 1, 0],
        {"help": 1},
    )
    solution = selfreg.solve(mdp, 2, implementation=implementation)
    assert solution.value[0].tolist() == [0.0, 0.5, 0.5]
    assert solution.policy[0].tolist() == [0, 1, 1]
    assert solution.bound == 0.0


def test_closed_ring_walks_to_its_best_exit(implementation) -> None:
    ring = np.zeros((5, 5))
    ring[[0, 1, 2], [1, 2, 0]] = 1
    helped = np.zeros((5, 5))
    helped[0, 3:] = [0.25, 0.75]
    helped[2, 3:] = [0.75, 0.25]
    mdp = selfreg.InterventionMDP({"nohelp": ring, "help": helped}, [np.nan] * 3 + [1, 0], {"help": 1})
    solution = selfreg.solve(mdp, 1, implementation=implementation)
    assert solution.value[:3, 1].tolist() == [0.75] * 3
    assert solution.policy[:3, 1].tolist() == [0, 0, 1]
    assert solution.bound == 0.0


def test_self_loop_is_eliminated_exactly(implementation) -> None:
    alone = np.array([[1 - 2.0**-40, 2.0**-41, 2.0**-41], [0, 0, 0], [0, 0, 0]])
    mdp = selfreg.InterventionMDP({"nohelp": alone}, [np.nan, 1, 0], {})
    solution = selfreg.solve(mdp, 0, implementation=implementation)
    assert solution.value[0, 0] == 0.5
    assert solution.bound == 0.0


def test_ties_go_to_nohelp_then_to_the_first_help(implementation) -> None:
    row = np.array([[0, 0.5, 0.5], [0, 0, 0], [0, 0, 0]])
    better = np.array([[0, 0.75, 0.25], [0, 0, 0], [0, 0, 0]])
    same = selfreg.InterventionMDP({"nohelp": row, "a": row, "b": row}, [np.nan, 1, 0], {"a": 1, "b": 1})
    assert selfreg.solve(same, 1, implementation=implementation).policy[0].tolist() == [0, 0]
    two = selfreg.InterventionMDP({"nohelp": row, "a": better, "b": better}, [np.nan, 1, 0], {"a": 1, "b": 1})
    assert selfreg.solve(two, 1, implementation=implementation).policy[0].tolist() == [0, 1]


def test_help_that_hurts_is_not_taken(implementation) -> None:
    alone = np.array([[0, 0.5, 0.5], [0, 0, 0], [0, 0, 0]])
    worse = np.array([[0, 0.25, 0.75], [0, 0, 0], [0, 0, 0]])
    mdp = selfreg.InterventionMDP({"nohelp": alone, "help": worse}, [np.nan, 1, 0], {"help": 1})
    solution = selfreg.solve(mdp, 3, implementation=implementation)
    assert solution.value[0].tolist() == [0.5] * 4
    assert solution.q("help")[0].tolist() == pytest.approx([np.nan, 0.25, 0.25, 0.25], nan_ok=True)


def test_zero_cost_help_is_used_at_budget_zero_and_steers_a_closed_set(implementation) -> None:
    # nohelp keeps 0 and 1 where they are; free help swaps them; costly help leaves from 1 only.
    stay = np.diag([1.0, 1, 0, 0])
    swap = np.zeros((4, 4))
    swap[0, 1] = swap[1, 0] = 1
    leave = np.zeros((4, 4))
    leave[1, 2] = 1
    mdp = selfreg.InterventionMDP(
        {"nohelp": stay, "free": swap, "dear": leave}, [np.nan, np.nan, 1, 0], {"free": 0, "dear": 1}
    )
    solution = selfreg.solve(mdp, 1, implementation=implementation)
    assert solution.value[:2].tolist() == [[0, 1], [0, 1]]
    assert solution.policy[:2, 1].tolist() == [1, 2]


def test_two_budgets_are_kept_apart(implementation) -> None:
    chain = np.zeros((4, 4))
    chain[[0, 1], [3, 3]] = 1
    small = np.zeros((4, 4))
    small[0, 1] = 1
    large = np.zeros((4, 4))
    large[1, 2] = 1
    mdp = selfreg.InterventionMDP(
        {"nohelp": chain, "peer": small, "person": large},
        [np.nan, np.nan, 1, 0],
        {"peer": (1, 0), "person": (0, 1)},
    )
    value = selfreg.solve(mdp, (2, 1), implementation=implementation).value
    assert value.shape == (4, 3, 2)
    assert value[0].tolist() == [[0, 0], [0, 1], [0, 1]]


def test_long_cycle_meets_its_tolerance(implementation) -> None:
    n = 30
    alone = np.zeros((n + 2, n + 2))
    for s in range(n):
        alone[s, (s + 1) % n] = 0.5
        alone[s, (s - 1) % n] = 0.45
        alone[s, n + s % 2] = 0.05
    mdp = selfreg.InterventionMDP({"nohelp": alone, "help": alone[:, ::1]}, [np.nan] * n + [1, 0], {"help": 1})
    solution = selfreg.solve(mdp, 1, tol=1e-6, implementation=implementation)
    assert 0 < solution.bound <= 1e-6
    assert np.all(np.abs(solution.value - oracles.linear_program(mdp, (1,))) <= solution.bound + 1e-9)


@pytest.mark.parametrize("bad", [-1, 1.5, "3", True, (1, 2), (), None])
def test_bad_budget_names_what_was_expected(bad) -> None:
    mdp = selfreg.InterventionMDP({"nohelp": np.zeros((1, 1))}, [1.0], {})
    with pytest.raises((ValueError, TypeError), match="budget"):
        selfreg.solve(mdp, bad)


def test_bad_arguments_of_solve() -> None:
    mdp = selfreg.InterventionMDP({"nohelp": np.zeros((1, 1))}, [1.0], {})
    with pytest.raises(TypeError, match="InterventionMDP"):
        selfreg.solve({"nohelp": 1}, 1)
    with pytest.raises(ValueError, match="tol"):
        selfreg.solve(mdp, 1, tol=0)
    with pytest.raises(ValueError, match="fortran"):
        selfreg.solve(mdp, 1, implementation="fortran")
    with pytest.raises(ValueError, match="not in the model"):
        selfreg.solve(mdp, 1).q("help")
