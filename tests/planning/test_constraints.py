"""Several budgets in expectation: against the occupancy-measure linear program, and what must hold for any model."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.optimize import linprog

import selfreg
from benchmarks import instances
from benchmarks.pools import with_person
from selfreg.planning import constraints


def occupancy_program(mdp: selfreg.InterventionMDP, weight: np.ndarray, limits) -> float:
    """Most success over expected visits x[s, a] >= 0: what leaves a state is at most what starts or comes there.

    Mass that is dropped on the way stands for episodes that wait for ever, or go on alone unrewarded.
    """
    live = np.flatnonzero(~mdp.terminal)
    balance, reward, spent = [], [], []
    value = np.where(mdp.terminal, mdp.terminal_value, 0.0)
    for a, name in enumerate(mdp.actions):
        states = np.flatnonzero(mdp.available(name))
        rows = mdp.transitions[name][states]
        leaves = sp.csr_array((np.ones(len(states)), (np.arange(len(states)), states)), shape=rows.shape)
        balance.append((leaves - rows)[:, live].T)
        reward.append(rows @ value)
        spent.append(np.tile(mdp.cost_table[a][:, None], len(states)))
    limited = np.isfinite(limits)
    answer = linprog(
        -np.concatenate(reward),
        A_ub=sp.vstack([sp.hstack(balance), np.concatenate(spent, axis=1)[limited]]),
        b_ub=np.concatenate([weight[live], np.asarray(limits, float)[limited]]),
        options={"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10},
    )
    assert answer.status == 0, answer.message
    return float(weight @ value - answer.fun)


def random_model(random: np.random.Generator, *, cyclic: bool, n_budgets: int) -> selfreg.InterventionMDP:
    """Up to 9 live states, up to 3 help types with costs 0..2, rows of up to 3 successors, some help unavailable."""
    n_live, n_help = int(random.integers(1, 10)), int(random.integers(1, 4))
    value = np.concatenate([np.full(n_live, np.nan), [1.0, 0.0, random.random()]])
    n = len(value)
    matrices = {}
    for k in range(n_help + 1):
        matrix = np.zeros((n, n))
        for s in range(n_live):
            targets = np.arange(0 if cyclic else s + 1, n)
            chosen = random.choice(targets, size=min(len(targets), int(random.integers(1, 4))), replace=False)
            if k == 0 or random.random() < 0.7:
                matrix[s, chosen] = random.dirichlet(np.ones(len(chosen)))
        matrices[f"help{k}" if k else "nohelp"] = matrix
    costs = {f"help{k}": tuple(random.integers(0, 3, n_budgets).tolist()) for k in range(1, n_help + 1)}
    return selfreg.InterventionMDP(matrices, value, costs)


def random_limits(random: np.random.Generator, n_budgets: int) -> np.ndarray:
    """Mostly of the size of a unit; some closed, open, or so small that rounding is near."""
    special = random.choice([0.0, np.inf, 1e-6, 1e-12], n_budgets)
    return np.where(random.random(n_budgets) < 0.15, special, random.exponential(0.5, n_budgets))


@pytest.mark.parametrize("n_budgets", [1, 2, 3])
@pytest.mark.parametrize("cyclic", [False, True], ids=["acyclic", "cyclic"])
def test_success_is_that_of_the_linear_program(cyclic, n_budgets) -> None:
    random = np.random.default_rng([n_budgets, cyclic])
    for _ in range(60 if cyclic else 80):
        mdp = random_model(random, cyclic=cyclic, n_budgets=n_budgets)
        start = random.dirichlet(np.full(mdp.n_states, 0.3))
        limits = random_limits(random, n_budgets)
        best = selfreg.constrained(mdp, start, limits, n_threads=1)
        assert best.success == pytest.approx(occupancy_program(mdp, start, limits), rel=0, abs=1e-8)
        assert 0.0 <= best.bound <= 1e-9
        assert np.all(best.usage <= limits + 1e-9)
        check(mdp, start, best, limits)


def check(mdp, start, best, limits) -> None:
    """What the mixture says of itself, evaluated policy by policy; the penalties are those of an optimum."""
    parts = [selfreg.evaluate_policy(mdp, policy, start) for policy in best.policies]
    assert len(parts) <= 1 + len(limits)
    assert best.weights.sum() == pytest.approx(1.0, abs=1e-14)
    assert np.all(best.weights > 0.0)
    assert best.weights @ [part.success for part in parts] == pytest.approx(best.success, rel=0, abs=1e-9)
    np.testing.assert_allclose(best.weights @ [part.usage for part in parts], best.usage, rtol=0, atol=1e-9)
    # A budget that is not used up has no price.
    spare = np.where(np.isfinite(limits), limits - best.usage, 0.0)
    assert np.all(best.penalty * spare <= 1e-8)


def test_more_budget_never_hurts_and_is_worth_the_penalty_at_most() -> None:
    random = np.random.default_rng(7)
    for cyclic in (False, True):
        mdp = random_model(random, cyclic=cyclic, n_budgets=2)
        grid = [np.array([x, y]) for x in (0.0, 0.1, 0.4, 2.0) for y in (0.0, 0.2, 0.7)]
        found = [selfreg.constrained(mdp, 0, limits) for limits in grid]
        for limits, best in zip(grid, found, strict=True):
            for other, richer in zip(grid, found, strict=True):
                assert richer.success <= best.success + best.penalty @ (other - limits) + 1e-8
                if np.all(other >= limits):
                    assert richer.success >= best.success - 1e-9


def test_mixtures_of_limits_are_no_better_than_their_mean() -> None:
    random = np.random.default_rng(8)
    mdp = random_model(random, cyclic=False, n_budgets=3)
    for _ in range(5):
        one, other = random.exponential(0.5, (2, 3))
        ends = [selfreg.constrained(mdp, 0, limits).success for limits in (one, other)]
        assert selfreg.constrained(mdp, 0, (one + other) / 2).success >= np.mean(ends) - 1e-9


def test_expected_budgets_are_above_hard_ones() -> None:
    random = np.random.default_rng(9)
    for cyclic in (False, True):
        mdp = random_model(random, cyclic=cyclic, n_budgets=2)
        hard = selfreg.solve(mdp, (2, 2))
        for limits in ((0, 0), (1, 0), (1, 2), (2, 2)):
            best = selfreg.constrained(mdp, 0, limits)
            assert best.success + best.bound >= hard.value[(0, *limits)] - hard.bound
        assert selfreg.constrained(mdp, 0, (0, 0)).success == pytest.approx(hard.value[0, 0, 0], abs=1e-9)


def test_one_budget_is_a_point_of_the_frontier() -> None:
    random = np.random.default_rng(10)
    for cyclic in (False, True):
        mdp = random_model(random, cyclic=cyclic, n_budgets=1)
        front = selfreg.frontier(mdp, 0, tol=0)
        for limit in np.linspace(0, 1.2 * front.usage[-1], 7):
            assert selfreg.constrained(mdp, 0, limit).success == pytest.approx(front.at(limit).success, abs=1e-8)


def test_no_limit_is_free_help() -> None:
    mdp = random_model(np.random.default_rng(11), cyclic=True, n_budgets=2)
    best = selfreg.constrained(mdp, 0, (np.inf, np.inf))
    free = selfreg.InterventionMDP(mdp.transitions, mdp.terminal_value, dict.fromkeys(mdp.costs, 0))
    assert best.success == pytest.approx(selfreg.solve(free, 0).value[0, 0], abs=1e-9)
    assert best.penalty.tolist() == [0.0, 0.0]
    assert len(best.policies) == 1


def test_a_model_without_help() -> None:
    mdp = selfreg.InterventionMDP({"nohelp": np.array([[0, 0.3, 0.7], [0] * 3, [0] * 3])}, [np.nan, 1, 0], {})
    assert selfreg.constrained(mdp, 0, 1).success == pytest.approx(0.3)
    assert selfreg.constrained(mdp, 1, 0).success == 1.0


def test_both_kernels_agree(implementation) -> None:
    random = np.random.default_rng(13)
    for cyclic in (False, True):
        mdp = random_model(random, cyclic=cyclic, n_budgets=2)
        best = selfreg.constrained(mdp, 0, (0.3, 0.4), implementation=implementation)
        weight = (np.arange(mdp.n_states) == 0).astype(float)
        assert best.success == pytest.approx(occupancy_program(mdp, weight, (0.3, 0.4)), rel=0, abs=1e-8)


def test_larger_model() -> None:
    instance = instances.instance_a(n_states=2000)
    mdp = with_person(instance)
    best = selfreg.constrained(mdp, 25, (3.0, 0.5))
    assert best.bound <= 1e-9
    np.testing.assert_allclose(best.usage, [3.0, 0.5], atol=1e-9)
    check(mdp, 25, best, np.array([3.0, 0.5]))
    one, two = (selfreg.constrained(mdp, 25, (3.0, 0.5), n_threads=k) for k in (1, 2))
    assert one.success == two.success
    assert np.array_equal(one.policies, two.policies)


MDP = random_model(np.random.default_rng(12), cyclic=True, n_budgets=2)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"mdp": 3}, TypeError, "mdp must be an InterventionMDP; got int"),
        ({"budgets": (1, -1)}, ValueError, r"budgets\[1\] is -1; expected a number >= 0"),
        ({"budgets": (1, np.nan)}, ValueError, r"budgets\[1\] is nan"),
        ({"budgets": 1}, ValueError, r"budgets has shape \(1,\); the costs of this model have 2 budgets"),
        ({"budgets": (1, 1, 1)}, ValueError, r"budgets has shape \(3,\)"),
        ({"budgets": np.ma.masked_array([1, 1], [0, 1])}, TypeError, "budgets is a masked array"),
        ({"budgets": (1, [1])}, ValueError, "budgets has rows of different lengths"),
        ({"budgets": "much"}, TypeError, "budgets is 'much'; expected 2 numbers"),
        ({"start": [0.5] * MDP.n_states}, ValueError, "start sums to"),
        ({"start": -1}, ValueError, "start is -1"),
        ({"tol": 0}, ValueError, "tol is 0; expected a finite number > 0"),
    ],
)
def test_bad_input_is_named(arguments, error, message) -> None:
    with pytest.raises(error, match=message):
        selfreg.constrained(**{"mdp": MDP, "start": 0, "budgets": (1, 1)} | arguments)


def test_a_gap_that_stays_open_is_an_error_with_the_bound(monkeypatch) -> None:
    monkeypatch.setattr(constraints, "MAX_PASSES", 2)
    with pytest.raises(selfreg.ConvergenceError, match="tol=1e-09 was not reached in 2 passes") as caught:
        selfreg.constrained(with_person(instances.instance_a(n_states=400)), 5, (3.0, 0.5))
    assert 1e-9 < caught.value.bound < 1.0
