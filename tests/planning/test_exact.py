"""The exact oracle against textbook answers and against the enumeration of all policies."""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import numpy as np

import selfreg
from benchmarks.exact import ExactPolicy, exact_value, nasty_model


def test_gamblers_ruin() -> None:
    steps = np.zeros((6, 6))
    for s in range(1, 5):
        steps[s, [s - 1, s + 1]] = 0.5
    mdp = selfreg.InterventionMDP({"nohelp": steps}, [0, *[np.nan] * 4, 1], {})
    assert exact_value(mdp, (0,))[(0,)] == [Fraction(k, 5) for k in range(6)]


def test_rows_are_divided_by_their_exact_sums() -> None:
    third = 1 / 3
    row = [third, third, third * (1 + 2**-50)]
    mdp = selfreg.InterventionMDP({"nohelp": np.array([row, [0] * 3, [0] * 3])}, [np.nan, 1, 0], {})
    total = sum(map(Fraction, row[1:]))
    assert exact_value(mdp, (0,))[(0,)][0] == Fraction(row[1]) / total


def test_waiting_for_ever_is_worth_nothing() -> None:
    mdp = selfreg.InterventionMDP({"nohelp": np.diag([1.0, 0])}, [np.nan, 1], {})
    assert exact_value(mdp, (0,))[(0,)] == [0, 1]


def test_best_value_is_that_of_the_best_policy() -> None:
    random, models = np.random.default_rng(5), 0
    while models < 25:
        mdp, budget = nasty_model(random)
        points = [(s, b) for s in np.flatnonzero(~mdp.terminal).tolist() for b in range(budget[0] + 1)]
        choices = [
            [a for a, name in enumerate(mdp.actions) if mdp.available(name)[s] and mdp.cost_table[a, 0] <= b]
            for s, b in points
        ]
        if np.prod([float(len(some)) for some in choices]) > 300:
            continue
        models += 1
        best = np.full((mdp.n_states, budget[0] + 1), Fraction(0))
        for actions in product(*choices):
            policy = np.zeros(best.shape, np.int8)
            for point, action in zip(points, actions, strict=True):
                policy[point] = action
            success = ExactPolicy(mdp, policy).success
            best = np.maximum(best, np.array([success[(b,)] for b in range(budget[0] + 1)], dtype=object).T)
        value = exact_value(mdp, budget)
        assert [value[(b,)] for b in range(budget[0] + 1)] == best.T.tolist()


def test_distribution_of_a_policy_sums_to_one_and_has_its_mean() -> None:
    random = np.random.default_rng(8)
    for _ in range(20):
        mdp, budget = nasty_model(random)
        solved = ExactPolicy(mdp, selfreg.solve(mdp, budget).policy)
        for point, spent in solved.spent.items():
            for s in range(mdp.n_states):
                assert sum(p[s] for p in spent.values()) == 1
                assert 0 <= solved.usage(point, s) <= point[0]
