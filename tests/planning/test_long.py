"""Minutes long: many random models against two oracles. `make test-long` runs it; SELFREG_LONG_MODELS says how many."""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest

import oracles
import selfreg

MODELS = int(os.environ.get("SELFREG_LONG_MODELS", "100000"))
BATCH = 500


def random_model(generator: np.random.Generator) -> tuple[selfreg.InterventionMDP, tuple[int, ...]]:
    """Up to six live states, two help types, two budgets; cycles, self-loops, closed sets, ties, zero costs."""
    n_live, n_help, m = int(generator.integers(1, 7)), int(generator.integers(0, 3)), int(generator.integers(1, 3))
    n, cyclic = n_live + 2, generator.random() < 0.7
    names = ["nohelp", *(f"help{k}" for k in range(n_help))]
    matrices = {}
    for name in names:
        matrix = np.zeros((n, n))
        for s in range(n_live):
            if name == "nohelp" or generator.random() < 0.75:
                targets = np.arange(0 if cyclic else s + 1, n)
                support = generator.choice(targets, min(len(targets), int(generator.integers(1, 4))), replace=False)
                weights = generator.integers(1, 5, len(support)) if generator.random() < 0.5 else None
                row = generator.dirichlet(np.ones(len(support))) if weights is None else weights / weights.sum()
                matrix[s, support] = row
        matrices[name] = matrix
    if not n_help:
        m = 1
    costs = {name: tuple(generator.integers(0, 3, m).tolist()) for name in names[1:]}
    value = np.concatenate([np.full(n_live, np.nan), generator.choice([0.0, 0.25, 1.0], 2)])
    return selfreg.InterventionMDP(matrices, value, costs), tuple(generator.integers(0, 3, m).tolist())


def batch(seed: int) -> tuple[float, float, float]:
    """Largest error against the linear program, shortfall of the policy against the value, and bound claimed."""
    generator = np.random.default_rng(seed)
    worst = [0.0, 0.0, 0.0]
    for _ in range(BATCH):
        mdp, budget = random_model(generator)
        solution = selfreg.solve(mdp, budget)
        optimum = oracles.linear_program(mdp, budget)
        points, choices = oracles.product_choices(mdp, budget)
        chosen = {point: int(solution.policy[point]) for point in points}
        attained = oracles.policy_success(points, choices, mdp.terminal_value, chosen).reshape(solution.value.shape)
        found = np.abs(solution.value - optimum).max(), (solution.value - attained).max(), solution.bound
        worst = [max(old, float(new)) for old, new in zip(worst, found, strict=True)]
    return worst[0], worst[1], worst[2]


@pytest.mark.long
def test_many_random_models_against_two_oracles(capsys) -> None:
    with ProcessPoolExecutor(2) as pool:
        found = np.array(list(pool.map(batch, range(MODELS // BATCH)))).max(axis=0)
    with capsys.disabled():
        print(
            f"\n{MODELS} models: largest error against the linear program {found[0]:.2e}, "
            f"shortfall of the policy {found[1]:.2e}, largest bound claimed {found[2]:.2e}"
        )
    # HiGHS itself is good to its feasibility tolerance of 1e-7; policies are evaluated to rounding.
    assert found[0] <= found[2] + 1e-6
    assert found[1] <= found[2] + 1e-12
    assert found[2] <= 1e-9
