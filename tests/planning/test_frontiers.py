"""The frontier against the occupancy linear program, and the theorems that it obeys."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import oracles
import selfreg
import strategies
from benchmarks import instances
from model_shapes import cyclic_model
from selfreg.planning.frontiers import Frontier


@st.composite
def started_models(draw, **shape):
    """(InterventionMDP with one budget, start distribution (n,))."""
    mdp, _ = draw(strategies.models(budgets=1, max_help=3, **shape))
    weight = np.array([draw(st.integers(0, 2)) for _ in range(mdp.n_states)], float)
    return mdp, weight / weight.sum() if weight.any() else np.full(mdp.n_states, 1 / mdp.n_states)


def close(actual, expected, tolerance: float = 1e-8) -> None:
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance)


def some_budgets(front: Frontier) -> list[float]:
    """Vertices, points between them, and one beyond."""
    between = (front.usage[1:] + front.usage[:-1]) / 2
    return [*front.usage.tolist(), *between.tolist(), float(front.usage[-1]) + 1]


@given(case=started_models())
def test_frontier_is_that_of_the_linear_program(implementation, case) -> None:
    mdp, weight = case
    front = selfreg.frontier(mdp, weight, tol=0, implementation=implementation)
    for budget in some_budgets(front):
        close(front.at(budget).success, oracles.occupancy_linear_program(mdp, weight, [budget]))


@given(case=started_models())
def test_ends_are_exact(implementation, case) -> None:
    mdp, weight = case
    front = selfreg.frontier(mdp, weight, tol=0, implementation=implementation)
    none = selfreg.solve(mdp, 0)
    assert front.usage[0] == 0.0
    close(front.success[0], weight @ none.value[:, 0])
    close(front.success[-1], oracles.occupancy_linear_program(mdp, weight, [None]))
    close(front.usage[-1], oracles.least_usage(mdp, weight, front.success[-1] - 1e-12), 1e-6)
    assert front.penalty[0] == np.inf or len(front.usage) == 1


@given(started_models())
def test_frontier_rises_ever_more_slowly(case) -> None:
    front = selfreg.frontier(*case, tol=0)
    slopes = np.diff(front.success) / np.diff(front.usage)
    assert np.all(np.diff(front.usage) > 0)
    assert np.all(slopes > 0)
    assert np.all(np.diff(slopes) < 0)
    assert np.all(np.diff(front.penalty) < 0)
    assert front.gap <= 1e-8


@given(started_models())
def test_mixtures_attain_what_they_say(case) -> None:
    mdp, weight = case
    front = selfreg.frontier(mdp, weight, tol=0)
    for budget in some_budgets(front):
        mixture = front.at(budget)
        values = [selfreg.evaluate_policy(mdp, policy, weight) for policy in mixture.policies]
        close([value.success for value in values], mixture.successes)
        close([value.usage[0] for value in values], mixture.usages)
        close(mixture.weights.sum(), 1.0, 1e-12)
        assert 1 <= len(mixture.weights) <= 2
        assert mixture.usage <= budget + 1e-9
        close(mixture.usage, min(budget, front.usage[-1]))


@given(started_models(), st.integers(0, 3))
def test_expected_budget_is_worth_no_less_than_a_hard_one(case, most) -> None:
    mdp, weight = case
    front, hard = selfreg.frontier(mdp, weight, tol=0), selfreg.solve(mdp, most).value
    for budget in range(most + 1):
        assert front.at(budget).success >= weight @ hard[:, budget] - 1e-8


@given(case=started_models())
def test_search_for_one_point_finds_the_frontier(implementation, case) -> None:
    mdp, weight = case
    front = selfreg.frontier(mdp, weight, tol=0)
    for budget in some_budgets(front):
        found = selfreg.reward_search(mdp, weight, budget, tol=0, implementation=implementation)
        close(found.mixture.success, front.at(budget).success)
        assert found.gap <= 1e-8
        assert found.usage <= budget + 1e-9
        value = selfreg.evaluate_policy(mdp, found.policy, weight)
        close([value.success, value.usage[0]], [found.success, found.usage])
        # At its price nothing is better than the policy, nor than the mixture.
        best = weight @ selfreg.solve_penalized(mdp, [found.penalty]).value[:, 0]
        for point in (found, found.mixture):
            close(point.success - found.penalty * point.usage, best, 1e-7)


@given(started_models(), st.randoms(use_true_random=False))
def test_relabelling_states_changes_nothing(case, random) -> None:
    mdp, weight = case
    order = np.array(random.sample(range(mdp.n_states), mdp.n_states))
    matrices = {name: matrix[order][:, order] for name, matrix in mdp.transitions.items()}
    relabelled = selfreg.InterventionMDP(matrices, mdp.terminal_value[order], mdp.costs)
    one, other = selfreg.frontier(mdp, weight, tol=0), selfreg.frontier(relabelled, weight[order], tol=0)
    for budget in some_budgets(one):
        close(one.at(budget).success, other.at(budget).success)


@pytest.mark.parametrize("mdp", [cyclic_model(40), cyclic_model(60, 1, 0.01), instances.instance_a(n_states=400).mdp])
def test_large_models_against_the_linear_program(mdp) -> None:
    front = selfreg.frontier(mdp, 0, tol=0)
    assert len(front.usage) > 20
    weight = np.zeros(mdp.n_states)
    weight[0] = 1
    for budget in np.linspace(0, front.usage[-1], 9):
        close(front.at(budget).success, oracles.occupancy_linear_program(mdp, weight, [budget]))


@pytest.mark.parametrize("tol", [1e-2, 1e-3, 1e-5])
def test_tolerance_is_kept_and_used(tol) -> None:
    mdp = instances.instance_a(n_states=2000).mdp
    exact, front = (selfreg.frontier(mdp, 25, tol=value) for value in (0, tol))
    missed = np.interp(exact.usage, exact.usage, exact.success) - np.interp(exact.usage, front.usage, front.success)
    assert missed.max() <= front.gap <= tol
    assert missed.min() >= -1e-12
    assert missed.max() >= tol / 100  # no more was done than needed
    assert len(front.usage) < len(exact.usage) / 2


def test_threads_change_no_bit() -> None:
    mdp = instances.instance_a(n_states=4000).mdp
    one, two = (selfreg.frontier(mdp, 50, n_threads=k) for k in (1, 2))
    np.testing.assert_array_equal(one.usage, two.usage)
    np.testing.assert_array_equal(one.success, two.success)


def test_slopes_and_inverse() -> None:
    front = selfreg.frontier(cyclic_model(40), 0, tol=0)
    middle = len(front.usage) // 2
    slope = np.diff(front.success)[middle] / np.diff(front.usage)[middle]
    inside = (front.usage[middle] + front.usage[middle + 1]) / 2
    assert front.penalty_for(inside) == front.penalty_for(front.usage[middle]) == slope
    assert front.penalty_for(front.usage[-1]) == front.penalty_for(1e9) == front.penalty_for(np.inf) == 0
    assert front.at(np.inf).success == front.success[-1]
    for budget in (0.0, inside, float(front.usage[-1])):
        close(front.budget_for(front.at(budget).success), budget)
    assert front.budget_for(0.0) == 0.0
    with pytest.raises(ValueError, match="the largest success on the frontier"):
        front.budget_for(1.0)
    with pytest.raises(ValueError, match=r"success is 1\.5; expected a probability"):
        front.budget_for(1.5)
    assert selfreg.reward_search(front.mdp, 0, front.usage[-1] + 1).penalty == 0


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((-1,), ValueError, "budget is -1; expected a number >= 0"),
        ((np.nan,), ValueError, "budget is nan"),
        (("three",), TypeError, "budget is 'three'"),
    ],
)
def test_bad_budgets_are_named(arguments, error, message) -> None:
    mdp = cyclic_model(5)
    with pytest.raises(error, match=message):
        selfreg.frontier(mdp, 0).at(*arguments)
    with pytest.raises(error, match=message):
        selfreg.reward_search(mdp, 0, *arguments)


def test_bad_arguments_are_named() -> None:
    mdp = cyclic_model(5)
    with pytest.raises(ValueError, match=r"start sums to 0\.9"):
        selfreg.frontier(mdp, [0.9, 0, 0, 0, 0, 0, 0])
    with pytest.raises(ValueError, match=r"tol is -1"):
        selfreg.frontier(mdp, 0, tol=-1)
    with pytest.raises(TypeError, match="InterventionMDP"):
        selfreg.frontier("model", 0)
    two = selfreg.InterventionMDP({"nohelp": np.eye(1), "help": np.eye(1)}, [1.0], {"help": (1, 2)})
    with pytest.raises(ValueError, match=r"the model has 2 budgets.*selfreg\.constrained"):
        selfreg.frontier(two, 0)


def test_models_without_help_or_without_use_for_it() -> None:
    alone = np.array([[0, 0.25, 0.75], [0, 0, 0], [0, 0, 0]])
    for matrices, costs in (({"nohelp": alone}, {}), ({"nohelp": alone, "help": alone}, {"help": 2})):
        front = selfreg.frontier(selfreg.InterventionMDP(matrices, [np.nan, 1, 0], costs), 0, tol=0)
        assert (front.usage.tolist(), front.success.tolist()) == ([0], [0.25])
        assert front.at(5).policies.tolist() == [[0, 0, 0]]


def test_plot_draws_the_vertices() -> None:
    front = selfreg.frontier(cyclic_model(20), 0)
    axes = front.plot()
    np.testing.assert_array_equal(axes.lines[0].get_xdata(), front.usage)
    both = selfreg.hard_cap_price(front.mdp, 0, [0, 1, 2]).plot(axes)
    assert both is axes
    np.testing.assert_array_equal(axes.lines[1].get_xdata(), [0, 1, 2])
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["expected budget", "hard budget"]


# ---- hard caps ----------------------------------------------------------------------------------------------------


@given(started_models(), st.lists(st.integers(0, 3), min_size=1, max_size=3))
def test_price_of_a_hard_cap(case, budgets) -> None:
    mdp, weight = case
    both = selfreg.hard_cap_price(mdp, weight, budgets)
    size = max(budgets) + 1
    assert both.hard_usage.shape == both.expected_usage.shape == (len(budgets), size)
    for row, budget in enumerate(budgets):
        hard = selfreg.solve(mdp, budget)
        close(both.hard[row], weight @ hard.value[:, budget])
        close(both.expected[row], oracles.occupancy_linear_program(mdp, weight, [budget]))
        assert both.price[row] >= -1e-8
        close(both.hard_usage[row].sum(), 1.0, 1e-9)
        close(both.hard_usage[row] @ np.arange(size), weight @ selfreg.expected_usage(hard)[:, budget, 0])
        assert not both.hard_usage[row, budget + 1 :].any()
        assert both.mixtures[row].usage <= budget + 1e-9
        # Markov's inequality for what is beyond the budget.
        assert both.overspends[row] * (budget + 1) <= both.mixtures[row].usage + 1e-9


def test_overspending_is_that_of_simulated_episodes() -> None:
    mdp = cyclic_model(60)
    both = selfreg.hard_cap_price(mdp, 3, [1, 4])
    episodes = 20_000
    for row, budget in enumerate((1, 4)):
        mixture = both.mixtures[row]
        share = [
            np.mean(selfreg.simulate(mdp, policy, 3, episodes, seed=7).usage[:, 0] > budget)
            for policy in mixture.policies
        ]
        assert abs(mixture.weights @ share - both.overspends[row]) <= 5 * np.sqrt(0.25 / episodes)
        assert both.overspends[row] > 0.05
    with pytest.raises(ValueError, match=r"budgets\[1\] is -1"):
        selfreg.hard_cap_price(mdp, 3, [1, -1])
