"""Usage of hard-budget policies against brute force; simulated episodes against the exact values and the twin."""

from __future__ import annotations

from bisect import bisect_right

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

import oracles
import selfreg
import strategies
from model_shapes import cyclic_model, layered_model, ring_model
from selfreg._core import chooser
from selfreg.planning._chains import Krylov, transient_system
from selfreg.planning.simulation import CHUNK, Simulation, simulate
from selfreg.planning.usage import expected_usage, usage_distribution, usage_distribution_from


@pytest.fixture(params=["numba", "python"])
def simulator(request: pytest.FixtureRequest) -> str:
    return str(request.param)


# ---- usage --------------------------------------------------------------------------------------------------------


def brute_force_distribution(solution: selfreg.Solution) -> np.ndarray:
    """Where the policy's product chain is after 2^40 steps, by repeated squaring; (n, *lattice, *lattice)."""
    mdp = solution.mdp
    points, choices = oracles.product_choices(mdp, solution.budget)
    index = {point: i for i, point in enumerate(points)}
    chain = np.zeros((len(points), len(points)))
    for point in points:
        successors = choices[point][int(solution.policy[point])] if choices[point] else {point: 1.0}
        for successor, p in successors.items():
            chain[index[point], index[successor]] = p
    for _ in range(40):
        chain = chain @ chain
        chain /= chain.sum(axis=1, keepdims=True)
    shape = tuple(most + 1 for most in solution.budget)
    result = np.zeros((mdp.n_states, *shape, *shape))
    for i, (s, *left) in enumerate(points):
        for j, (_, *remaining) in enumerate(points):
            if chain[i, j] > 0:
                result[(s, *left, *np.subtract(left, remaining))] += chain[i, j]
    return result


@given(strategies.models())
def test_distribution_is_that_of_the_product_chain(case) -> None:
    mdp, budget = case
    solution = selfreg.solve(mdp, budget)
    distribution = usage_distribution(solution)
    np.testing.assert_allclose(distribution, brute_force_distribution(solution), rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    ("mdp", "tol"),
    [(cyclic_model(60), 1e-9), (ring_model(40, 1e-6), 1e-6), (ring_model(40, 0.0), 1e-9), (layered_model(4, 8), 1e-9)],
    ids=["mass leaves fast", "nearly closed ring", "closed ring", "layers"],
)
def test_distribution_in_large_components(mdp, tol) -> None:
    solution = selfreg.solve(mdp, 2, tol=tol)
    assert (solution.policy > 0).any()
    distribution = usage_distribution(solution)
    np.testing.assert_allclose(distribution, brute_force_distribution(solution), rtol=0, atol=1e-8)


@given(strategies.models())
def test_distribution_sums_to_one_and_has_the_expected_mean(case) -> None:
    mdp, budget = case
    solution = selfreg.solve(mdp, budget)
    shape = solution.value.shape[1:]
    distribution = usage_distribution(solution).reshape(*solution.value.shape, -1)
    np.testing.assert_allclose(distribution.sum(axis=-1), 1.0, rtol=0, atol=1e-12)
    assert np.all(distribution >= 0.0)
    units = np.indices(shape).reshape(len(shape), -1).T
    np.testing.assert_allclose(distribution @ units, expected_usage(solution), rtol=0, atol=1e-11)
    for left in np.ndindex(shape):
        assert np.all(distribution[(slice(None), *left)][:, np.any(units > left, axis=1)] == 0.0)


@given(strategies.models(), st.data())
def test_one_start_agrees_with_all_starts(case, data) -> None:
    mdp, budget = case
    solution = selfreg.solve(mdp, budget)
    state = data.draw(st.integers(0, mdp.n_states - 1))
    left = tuple(data.draw(st.integers(0, most)) for most in budget)
    row = usage_distribution_from(solution, state, left)
    assert row.shape == tuple(b + 1 for b in left)
    everything = usage_distribution(solution)[(state, *left)][tuple(slice(b + 1) for b in left)]
    np.testing.assert_allclose(row, everything, rtol=0, atol=1e-12)


def test_one_start_agrees_with_all_starts_in_large_components() -> None:
    for mdp, tol in ((cyclic_model(60), 1e-9), (ring_model(40, 1e-6), 1e-6), (layered_model(5, 10), 1e-9)):
        solution = selfreg.solve(mdp, 3, tol=tol)
        everything = usage_distribution(solution)
        for state in range(0, mdp.n_states, 7):
            row = usage_distribution_from(solution, state, 3)
            np.testing.assert_allclose(row, everything[state, 3], rtol=0, atol=1e-10)


def test_waiting_for_ever_spends_what_was_spent_before() -> None:
    # Help succeeds, or leads to a state that never ends.
    alone = np.array([[0, 0, 0, 1.0], [0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    helped = np.array([[0, 0.25, 0.75, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    mdp = selfreg.InterventionMDP({"nohelp": alone, "help": helped}, [np.nan, np.nan, 1, 0], {"help": 2})
    assert usage_distribution(selfreg.solve(mdp, 3))[:2, 3].tolist() == [[0, 0, 1, 0], [1, 0, 0, 0]]


def test_acyclic_layers_are_eliminated_without_fill() -> None:
    mdp = layered_model(20, 10)
    system, order = transient_system(mdp.transitions["nohelp"])
    assert sorted(order) == list(range(mdp.n_states))
    assert system.U.nnz == mdp.n_states
    assert system.L.nnz == mdp.n_states + mdp.transitions["nohelp"].nnz


def mixing_chain(n: int, leak: float) -> sp.csr_array:
    """Transient, strongly connected: three successors each, all of it left with probability `leak` a step."""
    random = np.random.default_rng(n)
    row, column = np.repeat(np.arange(n), 3), random.integers(0, n, 3 * n)
    column[::3] = (np.arange(n) + 1) % n
    return sp.csr_array((np.full(3 * n, (1 - leak) / 3), (row, column)), shape=(n, n))


@pytest.mark.parametrize("leak", [0.01, 1e-6])
@pytest.mark.parametrize("trans", ["N", "T"])
def test_large_components_are_solved_by_krylov_steps(leak: float, trans: str) -> None:
    matrix = mixing_chain(400, leak)
    system, order = transient_system(matrix)
    assert isinstance(system, Krylov)
    right = np.random.default_rng(0).random((400, 2))
    right[:, 1] = 0.0
    found = np.empty_like(right)
    found[order] = system.solve(right[order], trans)
    dense = np.eye(400) - matrix.toarray()
    expected = np.linalg.solve(dense if trans == "N" else dense.T, right)
    np.testing.assert_allclose(found, expected, rtol=1e-14 / leak)
    assert "factors" not in vars(system)


def test_chains_that_krylov_steps_do_not_solve_get_factors() -> None:
    n = 3000
    kept = 1 - 1e-4 * np.random.default_rng(0).random(n)
    ring = sp.csr_array((kept, (np.arange(n), (np.arange(n) + 1) % n)), shape=(n, n))
    system, order = transient_system(ring)
    assert not isinstance(system, Krylov)
    steps = np.empty(n)
    steps[order] = system.solve(np.ones(n))
    np.testing.assert_allclose(steps, 1 + ring @ steps, rtol=1e-12)
    # One that was taken for its first right side, and fails for another.
    right = np.zeros(n)
    right[0] = 1.0
    found = Krylov(ring).solve(right)
    np.testing.assert_allclose(found, right + ring @ found, rtol=1e-12)


def test_bad_arguments_of_usage() -> None:
    solution = selfreg.solve(cyclic_model(5), 2)
    with pytest.raises(ValueError, match=r"state is 7; expected 0\.\.6"):
        usage_distribution_from(solution, 7, 2)
    with pytest.raises(TypeError, match=r"state is 0\.5"):
        usage_distribution_from(solution, 0.5, 2)
    with pytest.raises(ValueError, match=r"budget 3 is beyond the lattice of the policy, which ends at \(2,\)"):
        usage_distribution_from(solution, 0, 3)
    start_only = selfreg.solve(solution.mdp, 2, keep="start", start=0)
    for function in (expected_usage, usage_distribution):
        with pytest.raises(TypeError, match=r"solution must be a Solution.*got StartSolution"):
            function(start_only)


# ---- simulation ---------------------------------------------------------------------------------------------------


def fields(outcome: Simulation) -> tuple[np.ndarray, ...]:
    return outcome.success, outcome.usage, outcome.steps, outcome.ended


def same(one: Simulation, other: Simulation) -> None:
    for a, b in zip(fields(one), fields(other), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def within_five_sigma(counts: np.ndarray, probabilities: np.ndarray, n: int, slack: float = 0.0) -> None:
    """Binomial counts, with room for rare events and for episodes that were cut off."""
    allowed = 5 * np.sqrt(n * np.maximum(probabilities * (1 - probabilities), 0.0)) + 10 + slack
    assert np.all(np.abs(counts - n * probabilities) <= allowed)


def agrees_with_exact_values(solution: selfreg.Solution, start: np.ndarray, outcome: Simulation) -> None:
    n, top = len(outcome.success), solution.budget
    cut = n - np.count_nonzero(outcome.ended)
    at_top = (slice(None), *top)
    # A terminal value in [0, 1] varies at most like a coin.
    within_five_sigma(outcome.success.sum(), np.array(start @ solution.value[at_top]), n, cut)
    shape = tuple(most + 1 for most in top)
    distribution = np.tensordot(start, usage_distribution(solution)[at_top], 1)
    counts = np.zeros(shape)
    np.add.at(counts, tuple(outcome.usage.T), 1)
    within_five_sigma(counts, distribution, n, cut)
    units = np.indices(shape).reshape(len(top), -1).T
    mean = start @ expected_usage(solution)[at_top]
    deviation = np.sqrt(np.maximum(distribution.ravel() @ (units - mean) ** 2, 0))
    allowed = 5 * deviation / np.sqrt(n) + (cut + 10) * np.array(top) / n
    assert np.all(np.abs(outcome.usage.mean(axis=0) - mean) <= allowed)


@given(strategies.models())
def test_episodes_agree_with_exact_values(case) -> None:
    mdp, budget = case
    solution = selfreg.solve(mdp, budget)
    start = np.full(mdp.n_states, 1 / mdp.n_states)
    outcome = simulate(mdp, solution.policy, start, 1000, budget=budget, max_steps=1000, n_threads=1)
    agrees_with_exact_values(solution, start, outcome)
    assert np.all(outcome.usage <= budget)


def test_episodes_agree_with_exact_values_in_a_large_cyclic_model() -> None:
    mdp = cyclic_model(500)
    solution = selfreg.solve(mdp, 6)
    start = np.append(np.random.default_rng(1).dirichlet(np.ones(500)), [0.0, 0.0])
    outcome = simulate(mdp, solution.policy, start, 100_000, budget=6, seed=3)
    assert outcome.ended.all()
    agrees_with_exact_values(solution, start, outcome)


def test_budget_may_be_less_than_the_policy_holds(simulator) -> None:
    mdp = cyclic_model(20)
    large, small = selfreg.solve(mdp, 5), selfreg.solve(mdp, 2)
    runs = [simulate(mdp, s.policy, 0, 300, budget=2, implementation=simulator) for s in (large, small)]
    same(*runs)
    assert runs[0].usage.max() == 2


@st.composite
def stationary_cases(draw):
    mdp, _ = draw(strategies.models())
    policy = np.zeros(mdp.n_states, np.int64)
    for s in np.flatnonzero(~mdp.terminal):
        policy[s] = draw(st.sampled_from([a for a, name in enumerate(mdp.actions) if mdp.available(name)[s]]))
    return mdp, policy


@given(strategies.models(), st.integers(0, 2**64 - 1))
def test_twin_is_equal_to_the_kernel(case, seed) -> None:
    mdp, budget = case
    policy = selfreg.solve(mdp, budget).policy
    start = np.random.default_rng(0).dirichlet(np.ones(mdp.n_states))
    options = {"budget": budget, "seed": seed, "max_steps": 60}
    runs = [simulate(mdp, policy, start, 30, implementation=name, **options) for name in ("numba", "python")]
    same(*runs)


@given(stationary_cases())
def test_twin_is_equal_to_the_kernel_on_stationary_policies(case) -> None:
    mdp, policy = case
    runs = [simulate(mdp, policy, 0, 30, max_steps=60, implementation=name) for name in ("numba", "python")]
    same(*runs)


def test_threads_and_later_episodes_change_nothing(simulator) -> None:
    mdp = cyclic_model(30)
    policy = selfreg.solve(mdp, 2).policy
    n = 3 * CHUNK + 17
    runs = [
        simulate(mdp, policy, 3, n, budget=2, seed=5, n_threads=k, implementation=simulator) for k in (1, 2, 5, None)
    ]
    for other in runs[1:]:
        same(runs[0], other)
    fewer = simulate(mdp, policy, 3, 100, budget=2, seed=5, implementation=simulator)
    for all_of, first in zip(fields(runs[0]), fields(fewer), strict=True):
        np.testing.assert_array_equal(all_of[:100], first)
    assert (simulate(mdp, policy, 3, n, budget=2, seed=6).steps != runs[0].steps).any()


def test_stationary_policies_spend_without_a_budget(simulator) -> None:
    mdp = cyclic_model(40)
    n = 2000
    never = simulate(mdp, np.zeros(42, np.int8), 0, n, implementation=simulator)
    assert not never.usage.any()
    within_five_sigma(never.success.sum(), selfreg.solve(mdp, 0).value[0], n)
    always = simulate(mdp, np.ones(42, np.int8), 0, n, implementation=simulator)
    np.testing.assert_array_equal(always.usage[:, 0], always.steps)
    # Every step leaves with probability 0.05: 20 steps in the mean, with a deviation of sqrt(0.95) / 0.05.
    assert abs(always.steps.mean() - 20) <= 5 * np.sqrt(0.95) / 0.05 / np.sqrt(n)


def test_starts_and_successive_steps_are_independent_draws() -> None:
    n, width = 100_000, 6
    generator = np.random.default_rng(2)
    start, first, second = (generator.dirichlet(np.ones(width)) for _ in range(3))
    start[[2, 5]] = 0  # the last start and one within are never taken
    start /= start.sum()
    # Two steps through copies of the width: the terminal state and its number tell the whole path.
    states = width + width**2 + width**3
    rows, columns = np.arange(width + width**2), width + np.arange(width**2 + width**3).reshape(-1, width)
    weights = np.where((rows < width)[:, None], first, second)
    matrix = sp.csr_array((weights.ravel(), (np.repeat(rows, width), columns.ravel())), shape=(states, states))
    paths = width**3
    value = np.append(np.full(width + width**2, np.nan), np.arange(paths) / paths)
    mdp = selfreg.InterventionMDP({"nohelp": matrix}, value, {})
    weight = np.append(start, np.zeros(states - width))
    outcome = simulate(mdp, np.zeros(states, np.int8), weight, n, seed=9)
    assert np.all(outcome.steps == 2)
    counts = np.bincount(np.rint(outcome.success * paths).astype(int), minlength=paths)
    expected = np.einsum("i,j,k->ijk", start, first, second).ravel()
    assert not counts[expected == 0].any()
    positive = expected > 0
    statistic = np.sum((counts - n * expected)[positive] ** 2 / (n * expected[positive]))
    freedom = np.count_nonzero(positive) - 1
    assert abs(statistic - freedom) <= 5 * np.sqrt(2 * freedom)


def test_episodes_are_cut_off_at_max_steps(simulator) -> None:
    mdp = selfreg.InterventionMDP({"nohelp": np.diag([1.0, 0])}, [np.nan, 1], {})
    outcome = simulate(mdp, np.zeros(2, np.int8), 0, 3, max_steps=11, implementation=simulator)
    assert outcome.steps.tolist() == [11] * 3
    assert outcome.success.tolist() == [0.0] * 3
    assert not outcome.ended.any()
    at_once = simulate(mdp, np.zeros(2, np.int8), 1, 3, max_steps=0, implementation=simulator)
    assert at_once.success.tolist() == [1.0] * 3
    assert at_once.ended.all()
    assert not at_once.steps.any()


def test_no_episodes_are_no_error(simulator) -> None:
    outcome = simulate(cyclic_model(3), np.zeros(5, np.int8), 0, 0, implementation=simulator)
    assert [field.shape for field in fields(outcome)] == [(0,), (0, 1), (0,), (0,)]


def test_inputs_are_left_alone() -> None:
    mdp = cyclic_model(6)
    policy = selfreg.solve(mdp, 1).policy
    start = np.full(8, 0.125)
    before = policy.copy(), start.copy(), {name: matrix.copy() for name, matrix in mdp.transitions.items()}
    simulate(mdp, policy, start, 10, budget=1)
    np.testing.assert_array_equal(policy, before[0])
    np.testing.assert_array_equal(start, before[1])
    for name, matrix in mdp.transitions.items():
        np.testing.assert_array_equal(matrix.toarray(), before[2][name].toarray())


def test_actions_that_cannot_be_had_are_named_when_reached(simulator) -> None:
    # Help is there in state 0 only; state 2 is never reached.
    alone = np.array([[0, 1.0, 0, 0], [0, 0, 0, 1], [0, 0, 0, 1], [0, 0, 0, 0]])
    helped = np.array([[0, 1.0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    mdp = selfreg.InterventionMDP({"nohelp": alone, "help": helped}, [np.nan] * 3 + [1], {"help": 2})

    def run(policy: list, **options) -> Simulation:
        return simulate(mdp, np.array(policy), 0, 1000, implementation=simulator, **options)

    with pytest.raises(ValueError, match="policy takes 'help' in state 1, where it is un"):
        run([1, 1, 0, 0])
    assert run([1, 0, 1, 0]).usage.tolist() == [[2]] * 1000
    with pytest.raises(ValueError, match=r"policy takes 'help' in state 0 with too little budget left: it costs \(2,"):
        run([[0, 1]] * 4, budget=1)
    assert run([[0, 0]] * 4, budget=1).ended.all()


def test_the_first_episode_at_fault_is_named_whatever_the_threads() -> None:
    # Every start but the last is at fault, each after a way of its own length.
    n = 12
    alone = np.zeros((n + 1, n + 1))
    alone[np.arange(n), np.arange(1, n + 1)] = 1
    mdp = selfreg.InterventionMDP({"nohelp": alone, "help": alone * 0}, [np.nan] * n + [1], {"help": 1})
    policy = np.array([0, 0, 1] * 4 + [0])
    for seed in range(10):
        messages = set()
        for options in ({"n_threads": 1}, {"n_threads": 2}, {"implementation": "python"}):
            with pytest.raises(ValueError, match="unavailable") as raised:
                simulate(mdp, policy, np.full(n + 1, 1 / (n + 1)), 3 * CHUNK, seed=seed, **options)
            messages.add(str(raised.value))
        assert len(messages) == 1


def test_search_is_that_of_bisect() -> None:
    cumulative = np.array([0.125, 0.25, 0.25, 0.5, 0.5, 0.5, 0.625, 0.75, 1.0])
    for begin in range(9):
        for end in range(begin + 1, 10):
            for u in (0.0, 0.125, 0.2, 0.25, 0.5, 0.6, 0.75, 0.99):
                found = chooser.kernel("simulate", "numba").search(cumulative, begin, end, u)
                assert found == bisect_right(cumulative, u, begin, end - 1)


def test_bad_arguments_of_simulate() -> None:
    mdp = cyclic_model(3)
    policy = selfreg.solve(mdp, 2).policy
    none = np.zeros(5, np.int8)
    wrong = [
        (ValueError, r"policy has shape \(5, 3\).*without budget", (policy, 0, 1), {}),
        (ValueError, r"policy has shape \(5,\).*with 1 budget", (none, 0, 1), {"budget": 2}),
        (ValueError, r"policy has shape \(4,\)", (none[:4], 0, 1), {}),
        (TypeError, "policy has dtype float64", (none * 1.0, 0, 1), {}),
        (ValueError, r"policy\[\(0,\)\] is 2; expected 0..1", (none + 2, 0, 1), {}),
        (ValueError, r"policy\[\(0, 0\)\] is -1; expected 0..1", (policy * 0 - 1, 0, 1), {"budget": 2}),
        (ValueError, "budget 3 is beyond the lattice", (policy, 0, 1), {"budget": 3}),
        (ValueError, "budget is -1", (policy, 0, 1), {"budget": -1}),
        (ValueError, "2 entries", (policy, 0, 1), {"budget": (1, 1)}),
        (ValueError, r"start is 5; expected a state 0\.\.4", (none, 5, 1), {}),
        (TypeError, "start is 0.5", (none, 0.5, 1), {}),
        (ValueError, r"start has shape \(2,\)", (none, [0.5, 0.5], 1), {}),
        (ValueError, "start sums to 0.9; expected 1", (none, [0.9, 0, 0, 0, 0], 1), {}),
        (ValueError, r"start\[1\] is -0.5", (none, [1, -0.5, 0.5, 0, 0], 1), {}),
        (ValueError, r"start\[0\] is nan", (none, [np.nan, 1, 0, 0, 0], 1), {}),
        (ValueError, "episodes is -1", (none, 0, -1), {}),
        (TypeError, "episodes is 1.5", (none, 0, 1.5), {}),
        (TypeError, "episodes is True", (none, 0, True), {}),
        (ValueError, "max_steps is -1", (none, 0, 1), {"max_steps": -1}),
        (ValueError, "seed is -1", (none, 0, 1), {"seed": -1}),
        (ValueError, "n_threads is 0", (none, 0, 1), {"n_threads": 0}),
        (ValueError, "implementation 'fortran'", (none, 0, 1), {"implementation": "fortran"}),
    ]
    for error, message, arguments, options in wrong:
        with pytest.raises(error, match=message):
            simulate(mdp, *arguments, **options)
    with pytest.raises(TypeError, match="mdp must be an InterventionMDP"):
        simulate({"nohelp": 1}, none, 0, 1)


def test_environment_chooses_the_simulator(monkeypatch) -> None:
    names = {"cython": "nb", "python": "py", "": "nb"}
    for asked, suffix in names.items():
        monkeypatch.setenv("SELFREG_IMPLEMENTATION", asked)
        assert chooser.kernel("simulate").__name__.endswith(suffix)
    monkeypatch.setenv("SELFREG_IMPLEMENTATION", "fortran")
    with pytest.raises(ValueError, match="fortran"):
        chooser.kernel("simulate")
    assert chooser.kernel("simulate", "numba").__name__.endswith("nb")
