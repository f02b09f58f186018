"""Penalized solutions against their twin, a linear program and the systems of their policies."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import oracles
import selfreg
import strategies
from benchmarks import instances
from model_shapes import cyclic_model, ring_model
from selfreg._core import chooser
from selfreg.planning import _penalized_cycles as penalized_cycles
from selfreg.planning._penalized_cycles import PenalizedGroups
from selfreg.planning.penalized import LANES, solve_penalized_start

# Round numbers, so that ties are common; free help and no help among them.
PRICE = st.sampled_from([0.0, 0.0625, 0.125, 0.25, 1 / 3, 0.5, 1.0, np.inf])


@st.composite
def priced_models(draw, **shape):
    """(InterventionMDP, penalties (L, budgets))."""
    mdp, _ = draw(strategies.models(**shape))
    count = draw(st.integers(1, 5))
    return mdp, np.array([[draw(PRICE) for _ in range(mdp.n_budgets)] for _ in range(count)])


def close(actual: np.ndarray, expected: np.ndarray, tolerance: float = 1e-8) -> None:
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance)


def action_prices(mdp: selfreg.InterventionMDP, price: np.ndarray) -> np.ndarray:
    """Price of every action; 10 where it is infinite, which is more than any success is worth."""
    return mdp.cost_table @ np.minimum(price, 10)


@given(priced_models())
def test_twin_agrees_with_kernel(case) -> None:
    mdp, penalties = case
    compiled, twin = (selfreg.solve_penalized(mdp, penalties, implementation=name) for name in ("cython", "python"))
    close(compiled.value, twin.value, 1e-9)
    close(compiled.success, twin.success)
    close(compiled.usage, twin.usage)


@given(case=priced_models())
def test_value_is_that_of_the_linear_program(implementation, case) -> None:
    mdp, penalties = case
    value = selfreg.solve_penalized(mdp, penalties, implementation=implementation).value
    for lane, price in enumerate(penalties):
        close(value[:, lane], oracles.penalized_linear_program(mdp, action_prices(mdp, price)))


@given(case=priced_models())
def test_policy_attains_success_and_usage(implementation, case) -> None:
    mdp, penalties = case
    solution = selfreg.solve_penalized(mdp, penalties, implementation=implementation)
    for lane, price in enumerate(penalties):
        success, usage = oracles.stationary_success_and_usage(mdp, solution.policy[:, lane])
        close(solution.success[:, lane], success)
        close(solution.usage[:, lane], usage)
        close(solution.value[:, lane], success - usage @ np.minimum(price, 10))


@given(case=priced_models(budgets=1))
def test_ties_go_to_less_usage(implementation, case) -> None:
    """A slightly higher price does not lower the usage: it was the least already."""
    mdp, penalties = case
    solution = selfreg.solve_penalized(mdp, penalties, implementation=implementation)
    dearer = selfreg.solve_penalized(mdp, penalties + 1e-7, implementation=implementation)
    close(solution.usage, dearer.usage)


@given(priced_models(), st.integers(1, 4))
def test_penalties_by_help_type(case, scale) -> None:
    mdp, penalties = case
    if len(mdp.actions) == 1:
        return
    prices = penalties @ mdp.cost_table[1:].T if np.isfinite(penalties).all() else np.ones((1, len(mdp.actions) - 1))
    prices = prices * scale
    by_type = {name: prices[:, k] for k, name in enumerate(mdp.actions[1:])}
    solution = selfreg.solve_penalized(mdp, by_type)
    assert solution.usage.shape == (mdp.n_states, len(prices), mdp.n_budgets)
    for lane, price in enumerate(prices):
        close(solution.value[:, lane], oracles.penalized_linear_program(mdp, np.append(0, price)))
        success, usage = oracles.stationary_success_and_usage(mdp, solution.policy[:, lane])
        close(solution.success[:, lane], success)
        close(solution.usage[:, lane], usage)


@given(priced_models(), st.data())
def test_points_are_those_of_the_solution(case, data) -> None:
    mdp, penalties = case
    weight = np.array([data.draw(st.integers(0, 3)) for _ in range(mdp.n_states)], float)
    weight = weight / weight.sum() if weight.any() else np.full(mdp.n_states, 1 / mdp.n_states)
    solution, points = selfreg.solve_penalized(mdp, penalties), solve_penalized_start(mdp, weight, penalties)
    close(points.success, weight @ solution.success, 1e-12)
    close(points.usage, np.tensordot(weight, solution.usage, 1), 1e-9)


@pytest.mark.parametrize("lanes", [1, 3, *LANES, 5, 7, 17, 33])
def test_lanes_threads_and_kinds_of_usage_change_no_bit(lanes) -> None:
    """The kernel has a path for one kind of usage and few lanes; a second budget that nothing takes from leaves it."""
    mdp = instances.instance_a(n_states=4000).mdp
    twice = selfreg.InterventionMDP(dict(mdp.transitions), mdp.terminal_value, {"help": (1, 0)})
    penalties = np.geomspace(1e-3, 0.3, lanes)
    plain = selfreg.solve_penalized(mdp, penalties, n_threads=1)
    other = selfreg.solve_penalized(twice, np.column_stack([penalties, penalties]), n_threads=1)
    for part in ("value", "policy", "success"):
        np.testing.assert_array_equal(getattr(plain, part), getattr(other, part))
    np.testing.assert_array_equal(plain.usage[..., 0], other.usage[..., 0])
    threads = selfreg.solve_penalized(mdp, penalties, n_threads=3)
    np.testing.assert_array_equal(plain.policy, threads.policy)
    np.testing.assert_array_equal(plain.usage, threads.usage)
    weight = np.full(mdp.n_states, 1 / mdp.n_states)
    points = [solve_penalized_start(mdp, weight, penalties[:, None], n_threads=k) for k in (1, 2)]
    np.testing.assert_array_equal(points[0].usage, points[1].usage)
    close(points[0].success, weight @ plain.success, 1e-12)
    assert len(np.unique(plain.policy.sum(axis=0))) > lanes // 2  # the penalties decide


@pytest.mark.parametrize("lanes", [1, 8, 16])
@pytest.mark.parametrize("mdp", [cyclic_model(30), cyclic_model(30, 1, 0.02), ring_model(20, 0.1)])
def test_sweeps_find_the_fixed_points_of_their_twin(mdp, lanes) -> None:
    """8 lanes have a path of their own in the kernel."""
    rows = PenalizedGroups(mdp, mdp.cost_table.astype(float), 1e-9, None).rows
    reward = np.vstack([np.zeros(lanes), -np.geomspace(1e-3, 0.5, lanes)])
    start = np.where(np.isnan(rows.fixed), 0.0, rows.fixed)[:, None].repeat(lanes, axis=1)
    choices = [np.empty((0, 0), np.int64), rows.starts[:-1, None] + np.arange(lanes) % 2]
    choices[1] = np.ascontiguousarray(np.where(np.diff(rows.starts)[:, None] > np.arange(lanes) % 2, choices[1], -1))
    for choice in choices:
        found = []
        for name in ("cython", "python"):
            x = start.copy()
            done = chooser.kernel("sweeps", name).sweep_components(
                rows.components,
                rows.starts,
                *rows.entries,
                rows.action,
                reward,
                rows.waits.view(np.uint8),
                choice,
                1e-13,
                20_000,
                x,
            )
            assert done
            found.append(x)
        close(found[0], found[1], 1e-9)
        assert len(choice) or np.abs(found[0] - start).max() > 0.1


def test_policy_iteration_takes_over_where_sweeps_give_up(monkeypatch) -> None:
    mdp, penalties = cyclic_model(80, 2, 1e-2), [0, 0.01, 0.1, np.inf]
    swept = selfreg.solve_penalized(mdp, penalties)
    monkeypatch.setattr(penalized_cycles, "MAX_SWEEPS", 1)
    exact = selfreg.solve_penalized(
        selfreg.InterventionMDP(dict(mdp.transitions), mdp.terminal_value, mdp.costs), penalties
    )
    assert 0 < exact.bound <= 1e-9
    np.testing.assert_array_equal(swept.policy, exact.policy)
    close(swept.usage, exact.usage, 1e-7)
    close(swept.value, exact.value, 1e-9)


def test_a_tolerance_out_of_reach_says_what_was_reached() -> None:
    with pytest.raises(selfreg.ConvergenceError, match="tol=1e-18 was not reached; the bound reached is") as caught:
        selfreg.solve_penalized(ring_model(60, 1e-4), [0.1], tol=1e-18)
    assert 1e-18 < caught.value.bound < 1e-6


def test_free_and_forbidden_help() -> None:
    alone = np.array([[0, 0.5, 0.5], [0, 0, 0], [0, 0, 0]])
    same = alone.copy()  # help that changes nothing is not asked for even for nothing
    better = np.array([[0, 0.5 + 1e-9, 0.5 - 1e-9], [0, 0, 0], [0, 0, 0]])
    mdp = selfreg.InterventionMDP(
        {"nohelp": alone, "same": same, "better": better}, [np.nan, 1, 0], {"same": 1, "better": 2}
    )
    solution = selfreg.solve_penalized(mdp, [0, np.inf])
    assert solution.policy[0].tolist() == [2, 0]
    assert solution.usage[0, :, 0].tolist() == [2, 0]
    assert solution.value[0].tolist() == [0.5 + 1e-9, 0.5]


@pytest.mark.parametrize(
    ("penalties", "error", "message"),
    [
        ([-0.1], ValueError, "holds -0.1"),
        ([np.nan], ValueError, "holds nan"),
        ([[0.1, 0.2]], ValueError, r"shape \(1, 2\); expected \(L,\)"),
        ("free", TypeError, "expected numbers"),
        ("1", TypeError, "penalties is '1'; expected numbers"),
        (None, TypeError, "penalties is None; expected numbers"),
        ([0.5, None], TypeError, r"penalties is \[0.5, None\]; expected numbers"),
        ({"help": None}, TypeError, r"penalties\['help'\] is None; expected numbers"),
        (np.array([1j]), TypeError, "expected numbers"),
        ({"helper": 1.0}, ValueError, r"names \['helper'\]; expected a price for each of \['help'\]"),
        ({"help": [-1.0]}, ValueError, r"penalties\['help'\] holds -1"),
    ],
)
def test_bad_penalties_are_named(penalties, error, message) -> None:
    mdp = selfreg.InterventionMDP({"nohelp": np.eye(1), "help": np.eye(1)}, [1.0], {"help": 1})
    with pytest.raises(error, match=message):
        selfreg.solve_penalized(mdp, penalties)
    alone = selfreg.InterventionMDP({"nohelp": np.eye(1)}, [1.0], {})
    with pytest.raises(ValueError, match=r"penalties is a mapping .*; the model has no help types"):
        selfreg.solve_penalized(alone, {})


def test_bad_penalties_of_several_budgets_are_named() -> None:
    mdp = selfreg.InterventionMDP(
        {"nohelp": np.eye(1), "a": np.eye(1), "b": np.eye(1)}, [1.0], {"a": (1, 0), "b": (0, 1)}
    )
    with pytest.raises(ValueError, match=r"shape \(3,\); expected \(L, 2\), one column per budget"):
        selfreg.solve_penalized(mdp, [1, 2, 3])
    with pytest.raises(ValueError, match=r"have shapes .*'a': \(2,\).*the same number for each"):
        selfreg.solve_penalized(mdp, {"a": [1, 2], "b": [1, 2, 3]})
    with pytest.raises(TypeError, match="InterventionMDP"):
        selfreg.solve_penalized("model", [1])


def test_no_states_to_solve_and_no_penalties() -> None:
    mdp = selfreg.InterventionMDP({"nohelp": np.zeros((2, 2))}, [1, 0.5], {})
    solution = selfreg.solve_penalized(mdp, [0.5])
    assert solution.value.tolist() == [[1], [0.5]]
    assert selfreg.solve_penalized(mdp, []).value.shape == (2, 0)
