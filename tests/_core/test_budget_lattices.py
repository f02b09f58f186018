"""Budget lattices of every width: whole vectors, remainders, and points below the cost of some help."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

import selfreg
from model_shapes import cyclic_model, layered_model

COSTS: list[dict[str, int]] = [
    {"help": 1},
    {"help": 3},
    {"help": 6},
    {"hint": 0, "help": 1},
    {"hint": 1, "help": 3},
    {"hint": 2, "help": 17},
]
TWO_BUDGETS = [{"hint": (1, 0), "help": (0, 1)}, {"hint": (0, 1), "help": (2, 1)}]


def with_costs(mdp: selfreg.InterventionMDP, costs: dict) -> selfreg.InterventionMDP:
    """`help` as it was; a hint is half of it."""
    alone, helped = (mdp.transitions[name] for name in ("nohelp", "help"))
    hint = {"hint": sp.csr_array(0.5 * alone + 0.5 * helped)} if "hint" in costs else {}
    return selfreg.InterventionMDP({"nohelp": alone, **hint, "help": helped}, mdp.terminal_value, costs)


def agrees(mdp: selfreg.InterventionMDP, budget: int | tuple[int, ...]) -> None:
    found, twin = selfreg.solve(mdp, budget), selfreg.solve(mdp, budget, implementation="python")
    np.testing.assert_allclose(found.value, twin.value, rtol=0, atol=1e-13)
    q = np.stack([found.q(action) for action in mdp.actions])[:, ~mdp.terminal]
    taken = np.take_along_axis(q, found.policy[None, ~mdp.terminal].astype(int), axis=0)[0]
    np.testing.assert_allclose(taken, twin.value[~mdp.terminal], rtol=0, atol=1e-13)
    single = selfreg.solve(mdp, budget, dtype=np.float32)
    np.testing.assert_allclose(single.value, twin.value, rtol=0, atol=1e-5)
    start = selfreg.solve(mdp, budget, keep="start", start=1)
    np.testing.assert_allclose(start.value, twin.value[1], rtol=0, atol=1e-13)


@pytest.mark.parametrize("costs", COSTS, ids=str)
def test_every_width_without_cycles(costs: dict) -> None:
    mdp = with_costs(layered_model(6, 4), costs)
    for budget in [*range(20), 32, 33, 40, 64]:
        agrees(mdp, budget)


@pytest.mark.parametrize("costs", TWO_BUDGETS, ids=str)
def test_two_budgets_of_every_shape(costs: dict) -> None:
    mdp = with_costs(layered_model(6, 4), costs)
    for first in range(4):
        for second in (0, 1, 2, 3, 8):
            agrees(mdp, (first, second))


@pytest.mark.parametrize("costs", [*COSTS, *TWO_BUDGETS], ids=str)
def test_every_width_with_cycles(costs: dict) -> None:
    mdp = with_costs(cyclic_model(60), costs)
    for budget in (0, 1, 2, 7, 8, 9, 15, 16, 17, 24) if costs not in TWO_BUDGETS else ((0, 0), (1, 1), (3, 2), (2, 8)):
        found, twin = selfreg.solve(mdp, budget), selfreg.solve(mdp, budget, implementation="python")
        assert found.bound <= 1e-9
        np.testing.assert_allclose(found.value, twin.value, rtol=0, atol=2e-9)
