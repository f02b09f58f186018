"""Chains that leave slowly or hardly ever, against exact answers: right within the bound, in bounded time."""

from __future__ import annotations

import time
from fractions import Fraction
from itertools import product

import numpy as np
import pytest

import selfreg
from benchmarks.chains import compare_with_exact, gamblers_ruin, grid_walk
from benchmarks.exact import ExactPolicy, exact_rows, exact_value, least_solution, nasty_model
from selfreg.planning import hard
from selfreg.planning.solution import Solution
from selfreg.planning.usage import usage_distribution

# Rounding of what is exact up to rounding.
SLACK = 1e-13


def as_floats(by_point, budget: int) -> np.ndarray:
    return np.array([[float(x) for x in by_point[(b,)]] for b in range(budget + 1)]).T


def check_solution(mdp: selfreg.InterventionMDP, budget: int, implementation: str | None = None) -> selfreg.Solution:
    """Solve, and compare the values and the success of the policy with exact ones."""
    solution = selfreg.solve(mdp, budget, implementation=implementation)
    exact = as_floats(exact_value(mdp, (budget,)), budget)
    attained = as_floats(ExactPolicy(mdp, solution.policy).success, budget)
    assert np.abs(solution.value - exact).max() <= solution.bound + SLACK
    assert np.abs(attained - exact).max() <= solution.bound + SLACK
    return solution


def complete_graph(n: int, leak: float) -> selfreg.InterventionMDP:
    rows = np.zeros((n + 1, n + 1))
    rows[:n, :n] = (1 - np.eye(n)) / (n - 1)
    rows[:n, n] = leak
    return selfreg.InterventionMDP({"nohelp": rows}, [np.nan] * n + [1], {})


@pytest.mark.parametrize("n", [2, 6, 10, 12])
@pytest.mark.parametrize("leak", [1e-16, 1e-17, 1e-30])
def test_complete_graphs_that_hardly_leave(n, leak, implementation) -> None:
    assert selfreg.solve(complete_graph(n, leak), 0, implementation=implementation).value.tolist() == [[1.0]] * (n + 1)


def test_a_tie_between_policies_of_a_closed_pair(implementation) -> None:
    alone, helped = np.zeros((5, 5)), np.zeros((5, 5))
    alone[0, 1] = alone[1, 0] = helped[0, 2] = helped[1, 2] = 1
    alone[2] = [0.3, 0.17, 0, 0.43, 0.1]
    mdp = selfreg.InterventionMDP({"nohelp": alone, "help": helped}, [np.nan] * 3 + [1, 0], {"help": 1})
    check_solution(mdp, 1, implementation)


def test_a_walk_that_drifts_into_a_nearly_closed_pair(implementation) -> None:
    n = 20
    alone, helped = np.zeros((n + 2, n + 2)), np.zeros((n + 2, n + 2))
    for s in range(n - 2):
        alone[s, [max(s - 1, 0), s + 1]] = [0.1, 0.9]
    alone[n - 2, n - 1] = alone[n - 1, n - 2] = 1
    helped[n - 2, 0] = helped[n - 1, 3] = 1
    alone[5] *= 0.9
    alone[5, n:] = [0.07, 0.03]
    mdp = selfreg.InterventionMDP({"nohelp": alone, "help": helped}, [np.nan] * n + [1, 0], {"help": 1})
    check_solution(mdp, 2, implementation)


@pytest.mark.parametrize("leak", [1e-9, 2e-9, 1e-12, 1e-17, 1e-30])
def test_bounds_of_nearly_closed_pairs_hold(leak, implementation) -> None:
    rows = np.array([[0, 1 - leak, leak / 2, leak / 2], [1 - leak, 0, leak / 2, leak / 2], [0] * 4, [0] * 4])
    helped = np.array([[0, 1 - leak, leak, 0], [1, 0, 0, 0], [0] * 4, [0] * 4])
    mdp = selfreg.InterventionMDP({"nohelp": rows, "help": helped}, [np.nan, np.nan, 1, 0], {"help": 1})
    solution = check_solution(mdp, 2, implementation)
    assert solution.value[0, 0] == pytest.approx(0.5, abs=1e-14)


@pytest.mark.parametrize("wait", [0.9, 1 - 1e-6, 1.0])
@pytest.mark.parametrize("leak", [1e-4, 1e-15])
def test_waiting_that_is_never_best(wait, leak, implementation) -> None:
    """A free choice walks on a ring that it hardly leaves: the most steps are its, and the best policy takes few."""
    n, random = 12, np.random.default_rng(3)
    leave, stay = np.zeros((n + 2, n + 2)), np.zeros((n + 2, n + 2))
    for s in range(n):
        leave[s, (s + 1) % n] = 0.3
        leave[s, n:] = 0.7 * random.dirichlet([1, 1])
        stay[s, [(s + 1) % n, (s + 2) % n]] = np.array([wait, 1 - wait]) * (1 - leak)
        stay[s, n + 1] = leak
    mdp = selfreg.InterventionMDP({"nohelp": stay, "leave": leave}, [np.nan] * n + [1, 0], {"leave": 0})
    solution = check_solution(mdp, 0, implementation)
    assert solution.bound <= 1e-9


def test_free_choices_in_random_models(implementation) -> None:
    random = np.random.default_rng(12)
    for _ in range(60):
        n, leak = int(random.integers(3, 9)), 10.0 ** -random.integers(0, 14)
        actions = {}
        for name in ("nohelp", "second", "third"):
            rows = random.dirichlet(np.full(n, 0.3), n) * (1 - leak * random.random((n, 1)))
            rows = np.hstack([rows, random.random((n, 1)) * np.maximum(1 - rows.sum(axis=1, keepdims=True), 0)])
            rows = np.hstack([rows, np.maximum(1 - rows.sum(axis=1, keepdims=True), 0)])
            actions[name] = np.vstack([rows, np.zeros((2, n + 2))])
        mdp = selfreg.InterventionMDP(actions, [np.nan] * n + [1, 0], {"second": 0, "third": 0})
        check_solution(mdp, 0, implementation)


@pytest.mark.parametrize("n", [60, 500, 4000])
def test_gamblers_ruin(n) -> None:
    begin = time.process_time()
    solution = selfreg.solve(gamblers_ruin(n), 4)
    assert time.process_time() - begin < 10  # about a quarter of a second on a free core
    assert solution.bound <= 1e-9
    assert np.abs(solution.value[:, 0] - np.arange(n + 2) / (n + 1)).max() <= solution.bound + SLACK


def test_grid_that_is_left_at_one_corner() -> None:
    begin = time.process_time()
    solution = selfreg.solve(grid_walk(100), 4)
    assert time.process_time() - begin < 20  # about a second on a free core
    assert solution.bound <= 1e-9
    assert np.abs(solution.value[:10000, 0] - 0.5).max() <= 1e-9


def test_a_component_that_cannot_be_solved_says_so() -> None:
    mdp = selfreg.InterventionMDP({"nohelp": _dense(900, 1e-25)}, [*[np.nan] * 900, 1, 0], {})
    begin = time.process_time()
    with pytest.raises(selfreg.ConvergenceError, match="component of 900 states takes more than 1e12 steps") as raised:
        selfreg.solve(mdp, 0)
    assert time.process_time() - begin < 10  # less than a second on a free core
    assert raised.value.bound == 1.0


@pytest.mark.parametrize("leak", [1e-2, 1e-6, 1e-9])
def test_a_large_dense_component(leak) -> None:
    n = 600
    mdp = selfreg.InterventionMDP({"nohelp": _dense(n, leak)}, [*[np.nan] * n, 1, 0], {})
    begin = time.process_time()
    solution = selfreg.solve(mdp, 0)
    assert time.process_time() - begin < 10  # less than a second on a free core
    assert solution.bound <= 1e-9
    chain = selfreg.evaluate_policy(mdp, np.zeros((n + 2, 1), np.int64))
    assert np.abs(solution.value - chain.success).max() <= solution.bound + chain.bound


def _dense(n: int, leak: float) -> np.ndarray:
    random = np.random.default_rng(0)
    rows = np.zeros((n + 2, n + 2))
    rows[:n, :n] = random.random((n, n))
    rows[0, n], rows[1, n + 1] = leak * n, leak * n
    rows[:n] /= rows[:n].sum(axis=1, keepdims=True)
    return rows


def check_nasty_models(count: int, seed: int, implementation: str | None = None) -> None:
    random = np.random.default_rng(seed)
    for _ in range(count):
        mdp, budget = nasty_model(random)
        begin = time.process_time()
        check_solution(mdp, *budget, implementation)
        assert time.process_time() - begin < 10


def test_nasty_random_models(implementation) -> None:
    check_nasty_models(150, 0, implementation)


def test_nasty_random_models_by_policy_iteration(monkeypatch) -> None:
    monkeypatch.setattr(hard, "FEW_SWEEPS", 1)
    check_nasty_models(150, 2)


def test_free_help_that_only_leads_to_where_the_walk_goes_on() -> None:
    n, half = 300, 150
    rows, back = np.zeros((2, n + 3, n + 3))
    for i in range(n):
        rows[i, i + 1 if i + 1 < n else n + 1], rows[i, i - 1 if i else n + 2] = 0.5, 0.5
    rows[half] = 0
    rows[half, [half + 1, half - 1, n + 2]] = 0.5, 0.49, 0.01
    rows[n, [half - 1, n + 2]] = 0.4, 0.6  # better: back to the middle
    back[half, n] = back[n, half] = 1
    mdp = selfreg.InterventionMDP({"nohelp": rows, "back": back}, [np.nan] * (n + 1) + [1, 0], {"back": 0})
    solution = selfreg.solve(mdp, 0)
    assert solution.policy[n, 0] == 1
    assert np.abs(selfreg.evaluate_policy(mdp, solution.policy).success - solution.value).max() <= 1e-9


@pytest.mark.long
def test_many_nasty_random_models(monkeypatch) -> None:
    count = compare_with_exact(20_000, 1)
    assert (count.wrong, count.wrong_policies, count.raised) == (0, 0, 0)
    monkeypatch.setattr(hard, "FEW_SWEEPS", 1)
    count = compare_with_exact(5000, 3)
    assert (count.wrong, count.wrong_policies, count.raised) == (0, 0, 0)


# ---- evaluation of given policies


def test_evaluation_of_a_pair_that_hardly_leaves() -> None:
    p, q = 0.5128, 0.9291
    rows = np.array([[p, 1 - p, 1e-15, 0], [q, 1 - q, 0, 0], [0] * 4, [0] * 4])
    mdp = selfreg.InterventionMDP({"nohelp": rows}, [np.nan, np.nan, 1, 0], {})
    result = selfreg.evaluate_policy(mdp, [0, 0, 0, 0], 0)
    assert abs(result.success - 1.0) <= result.bound + 1e-15
    assert 0 < result.bound < 1e-12
    table = selfreg.evaluate_policy(mdp, np.zeros((4, 1), np.int64))
    assert np.abs(table.success[:2] - 1.0).max() <= table.bound < 1e-12


def random_policy(random: np.random.Generator, mdp: selfreg.InterventionMDP, budget: int) -> np.ndarray:
    policy = np.zeros((mdp.n_states, budget + 1), np.int64)
    for s, b in np.argwhere(np.broadcast_to(~mdp.terminal[:, None], policy.shape)).tolist():
        usable = [
            a for a, name in enumerate(mdp.actions) if mdp.available(name)[s] and mdp.cost_table[a].max(initial=0) <= b
        ]
        policy[s, b] = random.choice(usable)
    return policy


def test_evaluators_agree_with_exact_answers_on_nasty_models() -> None:
    random = np.random.default_rng(2)
    for _ in range(150):
        mdp, (budget,) = nasty_model(random)
        policy = random_policy(random, mdp, budget)
        exact, table = ExactPolicy(mdp, policy), selfreg.evaluate_policy(mdp, policy)
        solution = Solution(mdp, (budget,), table.success, policy.astype(np.int8), 0.0)
        spent = usage_distribution(solution)
        assert np.abs(table.success - as_floats(exact.success, budget)).max() <= table.bound + SLACK
        for s, b in np.argwhere(np.broadcast_to(~mdp.terminal[:, None], policy.shape)).tolist():
            assert table.usage[s, b, 0] == pytest.approx(float(exact.usage((b,), s)), rel=1e-12, abs=SLACK)
            units = [float(exact.spent[(b,)][(u,)][s]) for u in range(budget + 1)]
            np.testing.assert_allclose(spent[s, b], units, rtol=0, atol=SLACK)
            value = selfreg.evaluate_policy(mdp, policy, s, budget=b)
            assert abs(value.success - float(exact.success[(b,)][s])) <= value.bound + SLACK
            assert abs(value.usage[0] - float(exact.usage((b,), s))) <= value.usage_bound + SLACK


# ---- prices


def best_penalized(mdp: selfreg.InterventionMDP, price: np.ndarray) -> list[Fraction] | None:
    """Best success less prices of every state, over all stationary policies; None where there are many."""
    rows, live = exact_rows(mdp), np.flatnonzero(~mdp.terminal).tolist()
    choices = [[a for a in range(len(mdp.actions)) if rows[a][s]] for s in live]
    if np.prod([float(len(some)) for some in choices]) > 200:
        return None
    end = [Fraction(0) if np.isnan(g) else Fraction(float(g)) for g in mdp.terminal_value]
    best = [Fraction(0) if s in live else end[s] for s in range(mdp.n_states)]
    for actions in product(*choices):
        chain: dict[int, dict[int, Fraction]] = {s: {} for s in range(mdp.n_states)}
        paid = dict.fromkeys(range(mdp.n_states), Fraction(0))
        for s, a in zip(live, actions, strict=True):
            chain[s], paid[s] = rows[a][s], Fraction(float(price[a]))
        for_ever = endless(chain, paid)
        success = least_solution(chain, dict(enumerate(end)))
        spent = least_solution({s: {} if s in for_ever else row for s, row in chain.items()}, paid)
        best = [x if s in for_ever else max(x, success[s] - spent[s]) for s, x in enumerate(best)]
    return best


def endless(chain: dict[int, dict[int, Fraction]], paid: dict[int, Fraction]) -> set[int]:
    """States from which a policy may pay for ever."""

    def reach(targets: set[int]) -> set[int]:
        while more := {s for s, row in chain.items() if s not in targets and any(j in targets for j in row)}:
            targets = targets | more
        return targets

    leaving = reach({s for s, row in chain.items() if not row})
    return reach({s for s in chain if s not in leaving and paid[s]})


@pytest.mark.parametrize("tol", [1e-9, 1e-6])
def test_prices_in_nasty_models(tol) -> None:
    random, models = np.random.default_rng(4), 0
    while models < 60:
        mdp, _ = nasty_model(random)
        price = float(random.choice([0.0, 0.05, 10 ** -random.uniform(3, 20)]))
        exact = best_penalized(mdp, mdp.cost_table[:, 0] * price) if len(mdp.actions) > 1 else None
        if exact is None:
            continue
        models += 1
        solution = selfreg.solve_penalized(mdp, [price], tol=tol)
        error = np.abs(solution.value[:, 0] - np.array([float(x) for x in exact])).max()
        assert error <= solution.bound + SLACK
        assert solution.bound <= tol


def test_the_bound_without_a_price_holds_in_every_state() -> None:
    back, go, other = (np.zeros((4, 4)) for _ in range(3))
    back[0, 0] = back[1, 0] = 1
    go[0, [0, 1]], go[1, [2, 3]] = [0.25, 0.75], [0.5, 0.5]
    other[0, [1, 3]] = [1 - 1e-9, 1e-9]  # loses little, and takes less help
    costs = {"help": 1, "other": 1}
    mdp = selfreg.InterventionMDP({"nohelp": back, "help": go, "other": other}, [np.nan, np.nan, 1, 0], costs)
    solution = selfreg.solve_penalized(mdp, [0.0])
    assert np.abs(solution.value[:2, 0] - 0.5).max() <= solution.bound + 1e-15


@pytest.mark.parametrize("price", [5e-324, 1e-300, 1e-100, 1e-13])
def test_tiny_prices_where_help_loops_back(price) -> None:
    alone, back = np.zeros((4, 4)), np.zeros((4, 4))
    alone[0, 1] = alone[1, 0] = back[0, 1] = 1
    back[1, [0, 2, 3]] = [1 - 3e-5, 2e-5, 1e-5]
    mdp = selfreg.InterventionMDP({"nohelp": alone, "help": back}, [np.nan, np.nan, 1, 0], {"help": 1})
    solution = selfreg.solve_penalized(mdp, [price, np.inf])
    paid = price / 3e-5  # of one request a round
    assert solution.bound <= 1e-9
    assert np.abs(solution.value[:2, 0] - (2 / 3 - paid)).max() <= solution.bound + SLACK
    assert solution.usage[0, 0] == pytest.approx(1 / 3e-5, rel=1e-9)
    assert solution.value[:2, 1].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("leak", [2e-6, 1e-12, 1e-17])
@pytest.mark.parametrize("tol", [0.5, 1e-6])
def test_frontier_of_a_nearly_closed_pair(leak, tol) -> None:
    alone = np.array([[0, 1 - leak, leak, 0], [1 - leak, 0, 0, leak], [0] * 4, [0] * 4])
    helped = np.array([[0, 1 - leak, leak, 0], [0.5, 0, 0.5, 0], [0] * 4, [0] * 4])
    mdp = selfreg.InterventionMDP({"nohelp": alone, "help": helped}, [np.nan, np.nan, 1, 0], {"help": 1})
    front = selfreg.frontier(mdp, 0, tol=tol)
    assert front.gap <= tol
    assert front.success[[0, -1]] == pytest.approx([0.5, 1.0], abs=1e-5)


@pytest.mark.parametrize("leak", [1e-6, 1e-10])
def test_prices_in_a_dense_component(leak) -> None:
    n = 50
    alone, helped = _dense(n, leak), _dense(n, 3 * leak)
    helped[1, [n, n + 1]] = helped[1, [n + 1, n]]
    mdp = selfreg.InterventionMDP({"nohelp": alone, "help": helped}, [*[np.nan] * n, 1, 0], {"help": 1})
    begin = time.process_time()
    solution = selfreg.solve_penalized(mdp, [0.0, 0.05, leak])
    front = selfreg.frontier(mdp, 0, tol=1e-2)
    assert time.process_time() - begin < 10  # about half a second
    assert solution.bound <= 1e-9
    assert front.gap <= 1e-2
    for lane in range(3):
        attained = selfreg.evaluate_policy(mdp, solution.policy[:, lane], 0)
        error = solution.bound + attained.bound + attained.usage_bound
        assert solution.success[0, lane] == pytest.approx(attained.success, abs=error)
    assert front.success[-1] == pytest.approx(solution.value[0, 0], abs=1e-8)
    assert solution.value[0, 1] == pytest.approx(selfreg.solve(mdp, 0).value[0, 0], abs=1e-8)  # help does not pay


def test_prices_for_a_gambler() -> None:
    n, state = 200, np.arange(202)
    begin = time.process_time()
    solution = selfreg.solve_penalized(gamblers_ruin(n), [0.0, 0.05])
    front = selfreg.frontier(gamblers_ruin(n), 1)
    assert time.process_time() - begin < 20  # less than a second on a free core
    helped = (1 - (2 / 3) ** state) / (1 - (2 / 3) ** (n + 1))
    assert np.abs(solution.value[:, 0] - helped).max() <= solution.bound + SLACK <= 1e-9
    assert np.abs(solution.value[:, 1] - state / (n + 1)).max() <= solution.bound + SLACK  # help does not pay
    assert front.success[0] == pytest.approx(1 / (n + 1), abs=front.gap + SLACK)
    assert front.success[-1] == pytest.approx(helped[1], abs=front.gap + SLACK)
