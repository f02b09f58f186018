"""What policies attain and spend, against dense chains, the solver's own values and simulated episodes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import oracles
import selfreg
import strategies
from model_shapes import cyclic_model, layered_model, ring_model


def close(actual, expected, tolerance: float = 1e-9) -> None:
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance)


@st.composite
def random_policies(draw, stages: int = 1):
    """(InterventionMDP, probabilities (stages, n, actions)) of available actions."""
    mdp, _ = draw(strategies.models())
    policy = np.zeros((stages, mdp.n_states, len(mdp.actions)))
    for stage in range(stages):
        for s in np.flatnonzero(~mdp.terminal):
            allowed = [a for a, name in enumerate(mdp.actions) if mdp.available(name)[s]]
            policy[stage, s, allowed] = [draw(st.integers(0, 2)) for _ in allowed]
            policy[stage, s, 0] += not policy[stage, s].any()
    policy[:, ~mdp.terminal] /= policy[:, ~mdp.terminal].sum(axis=2, keepdims=True)
    return mdp, policy


def with_counters(mdp: selfreg.InterventionMDP, policy: np.ndarray) -> np.ndarray:
    """One step of a randomised policy over states and one counter an action; terminal states stay."""
    n, actions = mdp.n_states, len(mdp.actions)
    chain = sum(policy[:, a, None] * mdp.transitions[name].toarray() for a, name in enumerate(mdp.actions))
    step = np.eye(n + actions)
    live = ~mdp.terminal
    step[np.ix_(live, range(n))] = chain[live]
    step[np.ix_(live, range(n, n + actions))] = policy[live]
    return step


def rolled_out(mdp: selfreg.InterventionMDP, stages: np.ndarray, doublings: int) -> tuple[np.ndarray, np.ndarray]:
    """Success (n,) and requests (n, actions) after 2^doublings steps of the last stage."""
    walk = np.linalg.matrix_power(with_counters(mdp, stages[-1]), 2**doublings)
    for stage in stages[-2::-1]:
        walk = with_counters(mdp, stage) @ walk
    n = mdp.n_states
    return walk[:n, :n] @ np.nan_to_num(mdp.terminal_value), walk[:n, n:]


@given(random_policies())
def test_randomised_policy_is_its_rolled_out_chain(case) -> None:
    mdp, policy = case
    value, asked = rolled_out(mdp, policy, 12)
    growth = rolled_out(mdp, policy, 13)[1] - asked
    for s in range(mdp.n_states):
        result = selfreg.evaluate_policy(mdp, policy[0], s)
        close(result.success, value[s], 1e-7)
        spent = np.zeros(mdp.n_budgets)
        for a, name in enumerate(mdp.actions[1:], start=1):
            if growth[s, a] > 1:
                assert result.requests[name] == np.inf
            else:
                close(result.requests[name], asked[s, a], 1e-6)
            spent += [cost * result.requests[name] if cost else 0.0 for cost in mdp.costs[name]]
        np.testing.assert_allclose(result.usage, spent)


@given(random_policies(stages=3))
def test_policy_that_changes_with_time(case) -> None:
    mdp, policy = case
    weight = np.full(mdp.n_states, 1 / mdp.n_states)
    value, asked = rolled_out(mdp, policy, 12)
    assume(np.all(rolled_out(mdp, policy, 13)[1][:, 1:] < asked[:, 1:] + 1e-9))
    result = selfreg.evaluate_policy(mdp, policy, weight)
    close(result.success, weight @ value, 1e-7)
    close(list(result.requests.values()), weight @ asked[:, 1:], 1e-7)
    chosen = policy.argmax(axis=2)
    certain = np.eye(len(mdp.actions))[chosen]
    indices, probabilities = (selfreg.evaluate_policy(mdp, form, weight) for form in (chosen, certain))
    close(indices.success, probabilities.success, 1e-12)
    np.testing.assert_array_equal(indices.usage, probabilities.usage)


@given(strategies.models(), st.data())
def test_one_start_forward_is_all_starts_backward(case, data) -> None:
    mdp, budget = case
    policy = np.zeros((mdp.n_states, *(most + 1 for most in budget)), np.int64)
    for s, *left in np.ndindex(policy.shape):
        allowed = [a for a, name in enumerate(mdp.actions) if mdp.available(name)[s] and all(mdp.cost_table[a] <= left)]
        policy[(s, *left)] = data.draw(st.sampled_from(allowed or [0]))
    start, left = data.draw(st.integers(0, mdp.n_states - 1)), tuple(data.draw(st.integers(0, b)) for b in budget)
    result, point = selfreg.evaluate_policy(mdp, policy, start, budget=left), (start, *left)
    table = selfreg.evaluate_policy(mdp, policy)
    assert table.success.shape == policy.shape
    assert table.usage.shape == (*policy.shape, mdp.n_budgets)
    close(result.success, table.success[point])
    close(result.usage, table.usage[point])


@given(strategies.models())
def test_hard_budget_policy_is_worth_what_the_solver_says(case) -> None:
    mdp, budget = case
    solution, weight = selfreg.solve(mdp, budget), np.full(mdp.n_states, 1 / mdp.n_states)
    result = selfreg.evaluate_policy(mdp, solution.policy, weight, budget=budget)
    top = (slice(None), *budget)
    close(result.success, weight @ solution.value[top], solution.bound + 1e-9)
    close(result.usage, np.tensordot(weight, selfreg.expected_usage(solution)[top], 1))
    lower = tuple(b // 2 for b in budget)
    less = selfreg.evaluate_policy(mdp, solution.policy, weight, budget=lower)
    close(less.success, weight @ solution.value[(slice(None), *lower)], solution.bound + 1e-9)


@given(strategies.models(), st.sampled_from([0.05, 0.25, 1.0]))
def test_penalized_policy_is_worth_what_the_solver_says(case, price) -> None:
    mdp, _ = case
    solution = selfreg.solve_penalized(mdp, np.full((1, mdp.n_budgets), price))
    for s in range(mdp.n_states):
        result = selfreg.evaluate_policy(mdp, solution.policy[:, 0], s)
        close(result.success, solution.success[s, 0], 1e-8)
        close(result.usage, solution.usage[s, 0], 1e-8)


@pytest.mark.parametrize("mdp", [cyclic_model(150), ring_model(80, 1e-6), ring_model(80, 0.0), layered_model(8, 20)])
def test_large_models_keep_within_their_bounds(mdp) -> None:
    generator = np.random.default_rng(0)
    policy = generator.integers(0, 2, mdp.n_states) * mdp.available("help")
    success, usage = oracles.stationary_success_and_usage(mdp, policy)
    for s in (0, 7):
        result = selfreg.evaluate_policy(mdp, policy, s)
        assert abs(result.success - success[s]) <= result.bound + 1e-12
        assert abs(result.usage[0] - usage[s, 0]) <= result.usage_bound + 1e-9
        assert result.bound <= 1e-9


def test_models_without_cycles_are_exact() -> None:
    mdp = layered_model(8, 20)
    result = selfreg.evaluate_policy(mdp, np.zeros(mdp.n_states, int), 3)
    assert (result.bound, result.usage_bound) == (0.0, 0.0)
    close(result.success, selfreg.solve(mdp, 0).value[3, 0], 1e-13)


def test_agrees_with_simulated_episodes() -> None:
    mdp, episodes = cyclic_model(200), 50_000
    policy = np.random.default_rng(1).integers(0, 2, 202)
    result = selfreg.evaluate_policy(mdp, policy, 5)
    played = selfreg.simulate(mdp, policy, 5, episodes, seed=3)
    assert abs(played.success.mean() - result.success) <= 5 * played.success.std() / np.sqrt(episodes)
    assert abs(played.usage.mean() - result.usage[0]) <= 5 * played.usage.std() / np.sqrt(episodes)


def test_spending_or_waiting_for_ever() -> None:
    # State 0 goes on alone to 1, where help leads back to 1; alone 1 stays there too.
    alone = np.array([[0, 0.5, 0.5], [0, 1, 0], [0, 0, 0]])
    helped = np.array([[0, 0, 0], [0, 1, 0], [0, 0, 0]])
    mdp = selfreg.InterventionMDP(
        {"nohelp": alone, "help": helped, "advice": helped}, [np.nan, np.nan, 1], {"help": 2, "advice": 0}
    )
    waits, spends, listens = (selfreg.evaluate_policy(mdp, policy, 0) for policy in ([0, 0, 0], [0, 1, 0], [0, 2, 0]))
    assert waits.success == spends.success == listens.success == 0.5
    assert (waits.usage.tolist(), waits.requests) == ([0], {"help": 0, "advice": 0})
    assert (spends.usage.tolist(), spends.requests) == ([np.inf], {"help": np.inf, "advice": 0})
    assert (listens.usage.tolist(), listens.requests) == ([0], {"help": 0, "advice": np.inf})


@pytest.mark.parametrize(
    ("policy", "options", "error", "message"),
    [
        ([0, 1, 0], {}, ValueError, r"policy has shape \(3,\); expected \(7,\) or \(T, n\)"),
        (np.zeros((7, 3)), {}, ValueError, r"policy has shape \(7, 3\); expected \(7, 2\) or \(T, n, actions\)"),
        (np.zeros((0, 7), int), {}, ValueError, r"policy has shape \(0, 7\)"),
        (np.full(7, 2), {}, ValueError, r"policy of state 0 is 2; expected 0\.\.1"),
        (np.full((7, 2), 0.4), {}, ValueError, r"policy of state 0 sums to 0\.8; expected 1"),
        (np.full((7, 2), np.nan), {}, ValueError, "policy of state 0 holds nan"),
        (["a"] * 7, {}, ValueError, r"policy\[0\] is 'a', an unknown action; expected one of"),
        ([1j] * 7, {}, TypeError, "policy has dtype"),
        (np.zeros((7, 2)), {"budget": 1}, TypeError, "policy has dtype float64; expected int"),
        (np.zeros(7, int), {"budget": 1}, ValueError, r"shape \(7,\); expected \(n, budget \+ 1, \.\.\.\)"),
        (np.zeros((7, 2), int), {"budget": 2}, ValueError, "budget 2 is beyond the lattice"),
        (np.zeros((7, 2), int), {"budget": -1}, ValueError, "budget is -1"),
        (np.ones((7, 2), int), {"budget": 1}, ValueError, r"takes 'help' in state \d with budget 0 left.*costs \(1,\)"),
    ],
)
def test_bad_policies_are_named(policy, options, error, message) -> None:
    with pytest.raises(error, match=message):
        selfreg.evaluate_policy(cyclic_model(5), policy, 0, **options)


@pytest.mark.parametrize(
    ("policy", "options", "error", "message"),
    [
        ([0] * 7, {}, ValueError, r"shape \(7,\); without start= expected \(n, B1 \+ 1\) with n=7"),
        (np.zeros((3, 7), int), {}, ValueError, "without start= expected"),
        (np.full((7, 2), 0.5), {}, TypeError, "dtype float64; without start= expected int"),
        (np.zeros((7, 2), int), {"budget": 1}, ValueError, "budget= needs start="),
        (np.ones((7, 2), int), {}, ValueError, r"action 1 in state 0 with \[0\] left"),
    ],
)
def test_without_a_start_only_hard_budget_policies_are_evaluated(policy, options, error, message) -> None:
    with pytest.raises(error, match=message):
        selfreg.evaluate_policy(cyclic_model(5), policy, **options)


def test_models_without_states() -> None:
    """Every result is empty; a start names the fault."""
    none = np.zeros((0, 0))
    mdp = selfreg.InterventionMDP({"nohelp": none, "help": none}, [], {"help": (1, 1)})
    solution = selfreg.solve(mdp, (1, 2))
    table = selfreg.evaluate_policy(mdp, solution)
    assert (table.success.shape, table.usage.shape, table.bound) == ((0, 2, 3), (0, 2, 3, 2), 0.0)
    assert solution.q("help").shape == (0, 2, 3)
    assert selfreg.solve(mdp, (1, 2), out=solution).value.shape == (0, 2, 3)
    assert selfreg.solve(mdp, (1, 2), robust=selfreg.L1(radius=0.1)).q("help").shape == (0, 2, 3)
    for call in (
        lambda: selfreg.evaluate_policy(mdp, solution, 0),
        lambda: selfreg.simulate(mdp, solution, {0: 1.0}, 1),
        lambda: selfreg.constrained(mdp, 0, (1, 1)),
        lambda: solution.explain(0, (0, 0)),
    ):
        with pytest.raises(ValueError, match=r"(start|state) is 0; the model has no states"):
            call()


def test_unavailable_actions_are_named_where_they_are_met() -> None:
    alone = np.array([[0, 0.5, 0.5, 0], [0, 0, 0, 1], [0, 0, 0, 0], [0, 0, 0, 0]])
    helped = np.array([[0, 0, 1.0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    mdp = selfreg.InterventionMDP({"nohelp": alone, "help": helped}, [np.nan, np.nan, 1, 0], {"help": 1})
    with pytest.raises(ValueError, match="takes 'help' in state 1, where it is unavailable"):
        selfreg.evaluate_policy(mdp, [0, 1, 0, 0], 0)
    with pytest.raises(ValueError, match="takes 'help' in state 1 at step 1, where it is unavailable"):
        selfreg.evaluate_policy(mdp, [[0, 0, 0, 0], [0, 1, 0, 0]], 0)
    assert selfreg.evaluate_policy(mdp, [1, 1, 0, 0], 0).success == 1  # state 1 is never met
