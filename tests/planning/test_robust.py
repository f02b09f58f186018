"""Robust solutions: the twin, a linear program a row, models drawn from the sets, and bad input."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

import selfreg
import strategies
from selfreg.planning.robust import RobustSolution

FEW = settings(max_examples=40)
radii = st.sampled_from([0.05, 0.3, 1.0, 2.0])


def worst_by_linear_program(p: np.ndarray, v: np.ndarray, radius: float) -> float:
    """min q.v over distributions q on the states and one more, worth nothing, with |q - p|_1 <= radius."""
    n = len(p) + 1
    p, v = np.append(p, 0.0), np.append(v, 0.0)
    # q, then the distances d >= |q - p|
    cost = np.concatenate([v, np.zeros(n)])
    eye = np.eye(n)
    limits = np.vstack([np.hstack([eye, -eye]), np.hstack([-eye, -eye]), np.concatenate([np.zeros(n), np.ones(n)])])
    result = linprog(
        cost, limits, np.concatenate([p, -p, [radius]]), np.concatenate([np.ones(n), np.zeros(n)])[None], [1.0]
    )
    assert result.status == 0
    return float(result.fun)


def naive(mdp: selfreg.InterventionMDP, budget: int, radius: float) -> np.ndarray:
    """Robust values of an acyclic model with one budget and ordered states, by a linear program a row and budget."""
    dense = [mdp.transitions[name].toarray() for name in mdp.actions]
    value = np.nan_to_num(np.repeat(mdp.terminal_value[:, None], budget + 1, axis=1))
    for _ in range(mdp.n_states):  # as often as the longest path
        for s in np.flatnonzero(~mdp.terminal):
            for b in range(budget + 1):
                value[s, b] = max(
                    worst_by_linear_program(dense[a][s], value[:, b - cost], radius)
                    for a, cost in enumerate(mdp.cost_table[:, 0])
                    if cost <= b and mdp.available(mdp.actions[a])[s]
                )
    return value


def drawn_model(mdp: selfreg.InterventionMDP, radius: float, generator: np.random.Generator) -> selfreg.InterventionMDP:
    """A model whose rows lie within `radius` of those of `mdp`: mass is moved to states drawn at random."""
    matrices = {}
    for name in mdp.actions:
        matrix = mdp.transitions[name].toarray()
        for s in np.flatnonzero(mdp.available(name)):
            other = generator.dirichlet(np.full(mdp.n_states, 0.2))
            share = generator.random() if generator.random() < 0.5 else 1.0
            distance = np.abs(other - matrix[s]).sum()
            step = min(1.0, share * radius / distance) if distance else 0.0
            matrix[s] = (1 - step) * matrix[s] + step * other
        matrices[name] = matrix
    return selfreg.InterventionMDP(matrices, mdp.terminal_value, mdp.costs)


@given(strategies.models(), radii)
def test_twin_agrees_with_kernel(case, radius) -> None:
    mdp, budget = case
    for sets in (selfreg.L1(radius=radius), selfreg.Intervals(width=radius / 4)):
        compiled = selfreg.solve(mdp, budget, robust=sets, implementation="cython")
        twin = selfreg.solve(mdp, budget, robust=sets, implementation="python")
        np.testing.assert_allclose(compiled.value, twin.value, rtol=0, atol=2e-9)
        assert compiled.bound <= 1e-9


@settings(max_examples=15)
@given(case=strategies.models(cyclic=False, max_live=2, max_help=1, budgets=1, zero_cost=False), radius=radii)
def test_value_is_that_of_a_linear_program_a_row(implementation, case, radius) -> None:
    mdp, budget = case
    solution = selfreg.solve(mdp, budget, robust=selfreg.L1(radius=radius), implementation=implementation)
    np.testing.assert_allclose(solution.value, naive(mdp, budget[0], radius), rtol=0, atol=1e-7)


@given(case=strategies.models())
def test_radius_nothing_is_the_plain_solution(implementation, case) -> None:
    mdp, budget = case
    plain = selfreg.solve(mdp, budget, implementation=implementation)
    for sets in (selfreg.L1(radius=0.0), selfreg.Intervals(width=0.0)):
        robust = selfreg.solve(mdp, budget, robust=sets, implementation=implementation)
        np.testing.assert_allclose(robust.value, plain.value, rtol=0, atol=2e-9)


@given(case=strategies.models(cyclic=True, max_live=4))
def test_sets_of_nearly_nothing_give_nearly_the_plain_solution_of_models_that_end(case) -> None:
    mdp, budget = case
    leak = {name: 0.9 * m.toarray() for name, m in mdp.transitions.items()}
    for matrix in leak.values():
        matrix[:, -1] += 0.1 * (matrix.sum(axis=1) > 0)
    ending = np.where(np.arange(mdp.n_states) == mdp.n_states - 1, 0.0, mdp.terminal_value)
    model = selfreg.InterventionMDP(leak, ending, mdp.costs)
    robust = selfreg.solve(model, budget, robust=selfreg.L1(radius=1e-12))
    np.testing.assert_allclose(robust.value, selfreg.solve(model, budget).value, rtol=0, atol=3e-9)


@FEW
@given(strategies.models(), radii, st.integers(0, 2**32))
def test_value_is_a_lower_bound_for_every_model_in_the_set(case, radius, seed) -> None:
    mdp, budget = case
    robust = selfreg.solve(mdp, budget, robust=selfreg.L1(radius=radius))
    generator = np.random.default_rng(seed)
    for _ in range(4):
        other = drawn_model(mdp, radius, generator)
        attained = selfreg.evaluate_policy(other, robust.policy).success
        assert np.all(attained >= robust.value - 1e-9)
        assert np.all(selfreg.solve(other, budget).value >= robust.value - 2e-9)


@FEW
@given(strategies.models(), radii)
def test_more_doubt_is_never_worth_more_and_more_budget_never_less(case, radius) -> None:
    mdp, budget = case
    values = [selfreg.solve(mdp, budget, robust=selfreg.L1(radius=r)).value for r in (0.0, radius / 2, radius)]
    assert np.all(values[1] <= values[0] + 2e-9)
    assert np.all(values[2] <= values[1] + 2e-9)
    for axis in range(1, values[2].ndim):
        assert np.all(np.diff(values[2], axis=axis) >= -2e-9)


@FEW
@given(strategies.models(cyclic=False), radii)
def test_q_of_the_policy_is_the_value(case, radius) -> None:
    mdp, budget = case
    solution = selfreg.solve(mdp, budget, robust=selfreg.L1(radius=radius))
    q = np.stack([solution.q(name) for name in mdp.actions])
    chosen = np.take_along_axis(q, solution.policy[None].astype(np.intp), axis=0)[0]
    np.testing.assert_allclose(chosen[~mdp.terminal], solution.value[~mdp.terminal], rtol=0, atol=1e-12)
    assert np.all(np.nan_to_num(q, nan=-1.0)[:, ~mdp.terminal] <= solution.value[~mdp.terminal] + 1e-12)


@pytest.fixture
def seen() -> selfreg.InterventionMDP:
    """One decision: alone .5 (200 visits), helped .9 (`help` visits 3)."""
    alone, helped = (np.array([[0, p, 1 - p], [0, 0, 0], [0, 0, 0]]) for p in (0.5, 0.9))
    visits = {"nohelp": [200, 0, 0], "help": [3, 0, 0]}
    return selfreg.InterventionMDP({"nohelp": alone, "help": helped}, [np.nan, 1, 0], {"help": 1}, visits=visits)


def test_radius_is_that_of_weissman(seen) -> None:
    value = selfreg.solve(seen, 1, robust=selfreg.L1(confidence=0.9)).value[0]
    # Two successors and one more outcome: (2^3 - 2) exp(-n r^2 / 2) = 0.1
    assert value[0] == pytest.approx(0.5 - 0.5 * np.sqrt(2 * np.log(6 / 0.1) / 200))
    joint = selfreg.solve(seen, 1, robust=selfreg.L1(confidence=0.9, joint=True)).value[0]
    assert joint[0] == pytest.approx(0.5 - 0.5 * np.sqrt(2 * np.log(6 / 0.05) / 200))
    sets = selfreg.L1(confidence=0.9).row_sets(seen)
    assert sets.rest[1][1] == 0.0  # no visits: nothing is known


@pytest.mark.parametrize("sets", [selfreg.L1(confidence=0.9), selfreg.Intervals(confidence=0.9)])
def test_sets_hold_the_true_row_as_often_as_they_say(sets) -> None:
    generator, true, held, repeats = np.random.default_rng(0), np.array([0.6, 0.3, 0.1]), 0, 1000
    for _ in range(repeats):
        counts = generator.multinomial(12, true)
        matrix = np.zeros((4, 4))
        matrix[0, 1:] = counts / 12
        mdp = selfreg.InterventionMDP(
            {"nohelp": matrix}, [np.nan, 1, 0.5, 0], {}, visits={"nohelp": np.array([12, 0, 0, 0])}
        )
        low, room, rest = (part[0] for part in sets.row_sets(mdp))
        place = mdp.transitions["nohelp"].indices - 1
        if isinstance(sets, selfreg.L1):
            held += np.abs(matrix[0, 1:] - true).sum() <= 2 * (1 - rest[0])
        else:
            inside = (true[place] >= low - 1e-12) & (true[place] <= low + room + 1e-12)
            held += inside.all() and true.sum() - true[place].sum() <= 1 - low.sum() - rest[0] + 1e-12
    assert held >= 0.9 * repeats


def test_robust_values_reach_all_forms_of_solve(seen) -> None:
    sets = selfreg.L1(confidence=0.9)
    whole = selfreg.solve(seen, 1, robust=sets)
    assert isinstance(whole, RobustSolution)
    start = selfreg.solve(seen, 1, robust=sets, keep="start", start=0)
    assert start.value.tolist() == whole.value[0].tolist()
    assert selfreg.solve(seen, 1, robust=sets, dtype=np.float32).value.dtype == np.float32
    with pytest.raises(MemoryError, match="max_memory is 10"):
        selfreg.solve(seen, 1, robust=sets, max_memory=10)
    assert whole.usage_distribution(0, 1).tolist() == [1.0, 0.0]


@pytest.mark.parametrize("number", [0.0, 1.0, -0.5, 1.5, np.nan])
def test_confidence_lies_between_nothing_and_one(number) -> None:
    with pytest.raises(ValueError, match="confidence is"):
        selfreg.L1(confidence=number)


def test_bad_sets_are_named(seen) -> None:
    with pytest.raises(ValueError, match="expected either a confidence or a radius"):
        selfreg.L1()
    with pytest.raises(ValueError, match="expected either a confidence or a width"):
        selfreg.Intervals(0.9, 0.1)
    with pytest.raises(ValueError, match=r"radius is 2.5; expected a number in \[0, 2\]"):
        selfreg.L1(radius=2.5)
    with pytest.raises(ValueError, match=r'radius\["help"\]\[1\] is -1; expected a number in \[0, 2\]'):
        selfreg.L1(radius={"nohelp": 0.1, "help": [0, -1, 0]})
    with pytest.raises(ValueError, match=r"width is 1.5; expected a number in \[0, 1\]"):
        selfreg.Intervals(width=1.5)
    with pytest.raises(ValueError, match="width is nan"):
        selfreg.Intervals(width=np.nan)
    for number in ("a", True):
        with pytest.raises(TypeError, match="radius has dtype"):
            selfreg.L1(radius=number)
    with pytest.raises(TypeError, match=r'width\["help"\] is a masked array'):
        selfreg.Intervals(width={"help": np.ma.masked_array([0.1], [True])})
    with pytest.raises(ValueError, match=r'radius\["help"\] has shape \(2,\)'):
        selfreg.solve(seen, 1, robust=selfreg.L1(radius={"nohelp": 0.1, "help": [0.1, 0.1]}))
    with pytest.raises(ValueError, match=r"radius names \['nohelp'\]"):
        selfreg.solve(seen, 1, robust=selfreg.L1(radius={"nohelp": 0.1}))
    with pytest.raises(TypeError, match="robust must be"):
        selfreg.solve(seen, 1, robust=0.9)
    bare = selfreg.InterventionMDP(seen.transitions, seen.terminal_value, seen.costs)
    with pytest.raises(ValueError, match="needs the visits of every row"):
        selfreg.solve(bare, 1, robust=selfreg.L1(confidence=0.9))
    with pytest.raises(ValueError, match=r'visits\["help"\]\[0\] is -1'):
        selfreg.InterventionMDP(
            seen.transitions, seen.terminal_value, seen.costs, visits={"nohelp": [1, 1, 1], "help": [-1, 0, 0]}
        )


def test_long_rows_are_filled_from_the_least_value_up() -> None:
    generator, n, live = np.random.default_rng(1), 300, 5
    matrices = {}
    for name in ("nohelp", "help"):
        matrices[name] = np.zeros((n, n))
        matrices[name][:live, live:] = generator.dirichlet(np.full(n - live, 0.5), size=live)
    mdp = selfreg.InterventionMDP(matrices, [*[np.nan] * live, *generator.random(n - live)], {"help": 1})
    for sets in (selfreg.L1(radius=0.4), selfreg.Intervals(width=0.002)):
        values = [selfreg.solve(mdp, 2, robust=sets, implementation=name).value for name in ("cython", "python")]
        np.testing.assert_allclose(values[0], values[1], rtol=0, atol=1e-13)
    row, g = matrices["nohelp"][0], mdp.terminal_value
    value = selfreg.solve(mdp, 0, robust=selfreg.L1(radius=0.4)).value[0, 0]
    assert value == pytest.approx(worst_by_linear_program(row[live:], g[live:], 0.4), abs=1e-9)
