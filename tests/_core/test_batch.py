"""The kernel of sweeps: the answers of `solve`, one model after another, for any start and any number of budgets."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import selfreg
import strategies
from selfreg.sweeps.batches import ModelEntry, ModelLabel, SweepSpec, solve_batch

ALL = ("value", "usage", "state_value", "policy")


def expected(mdp: selfreg.InterventionMDP, budget, weight: np.ndarray, implementation: str | None = None):
    solution = selfreg.solve(mdp, budget, implementation=implementation)
    usage = selfreg.expected_usage(solution)
    return np.tensordot(weight, solution.value, 1), np.tensordot(weight, usage, 1), solution


@settings(max_examples=60)
@given(st.data(), st.lists(strategies.models(max_help=2, budgets=1), min_size=1, max_size=6))
def test_answers_are_those_of_solve(implementation, data, drawn) -> None:
    mdps = [mdp for mdp, _ in drawn]
    budget = data.draw(st.integers(0, 3))
    starts = [np.random.default_rng(i).dirichlet(np.ones(mdp.n_states)) for i, mdp in enumerate(mdps)]
    entries = [ModelEntry(ModelLabel(i), (mdp, start)) for i, (mdp, start) in enumerate(zip(mdps, starts, strict=True))]
    found = solve_batch(SweepSpec((budget,), ALL, None, False), entries, implementation)
    for i, (mdp, start) in enumerate(zip(mdps, starts, strict=True)):
        value, usage, solution = expected(mdp, budget, start, implementation)
        np.testing.assert_allclose(found.value[i], value, rtol=0, atol=1e-8)
        np.testing.assert_allclose(found.state_value[i], solution.value, rtol=0, atol=1e-8)
        if solution.bound == 0 and np.array_equal(found.policy[i], solution.policy):  # ties may fall by a rounding
            np.testing.assert_allclose(found.usage[i].T, usage, rtol=0, atol=1e-12)
        assert found.bound[i] == solution.bound


@settings(max_examples=60)
@given(strategies.models(max_help=2, budgets=2, cyclic=False), st.integers(0, 3))
def test_several_budgets_and_any_start(implementation, drawn, state) -> None:
    mdp, budget = drawn
    if mdp.n_budgets != len(budget) or not mdp.n_states:
        return
    start = state % mdp.n_states
    found = solve_batch(SweepSpec(budget, ALL, start, False), [ModelEntry(ModelLabel(0), mdp)], implementation)
    value, usage, solution = expected(mdp, budget, np.eye(mdp.n_states)[start], implementation)
    np.testing.assert_allclose(found.value[0], value.ravel(), rtol=0, atol=1e-12)
    if np.array_equal(found.policy[0].ravel(), solution.policy.ravel()):
        np.testing.assert_allclose(found.usage[0].T, usage.reshape(-1, len(budget)), rtol=0, atol=1e-12)


def _to_last(rows: np.ndarray) -> np.ndarray:
    """Help leads to success with half of the probability, else where going on alone leads."""
    helped = 0.5 * rows
    helped[:20, 20] += 0.5
    return helped


def test_wide_indices_are_read_too() -> None:
    rows = np.triu(np.random.default_rng(0).random((22, 22)), 1)
    rows[20:] = 0
    rows[:20] /= rows[:20].sum(axis=1, keepdims=True)
    value = [np.nan] * 20 + [1, 0]
    mdp = selfreg.InterventionMDP({"nohelp": rows, "help": _to_last(rows)}, value, {"help": 1})
    wide = {name: matrix.copy() for name, matrix in mdp.transitions.items()}
    for matrix in wide.values():
        matrix.indptr, matrix.indices = matrix.indptr.astype(np.int64), matrix.indices.astype(np.int64)
    again = selfreg.InterventionMDP(wide, mdp.terminal_value, {"help": 1})
    assert again.transitions["help"].indices.dtype == np.int64
    one, other = selfreg.sweep([mdp], 4), selfreg.sweep([again], 4)
    assert np.array_equal(one.value, other.value)
    assert np.array_equal(one.usage, other.usage)
