"""Models whose untried actions are filled in, and how far a forecast is drawn to them."""

from __future__ import annotations

import numpy as np
import pytest

from selfreg.data import Step, Trajectory
from selfreg.estimate import ExactKey, estimate_mdp
from selfreg.estimate.forecasting.model_values import ERROR, ModelValue, fill_model, toward_model
from selfreg.estimate.forecasting.step_effects import Value
from selfreg.estimate.model import EstimatedModel


def make_model() -> EstimatedModel:
    """In "a" both actions were tried, in "b" going alone, in "c" and "d" help."""
    tried = [("a", None, 0), ("a", None, 1), ("a", "do", 1), ("b", None, 0), ("c", "do", 0), ("d", "do", 1)]
    return estimate_mdp(
        [
            Trajectory("t", str(i), float(outcome), (Step(state, key=state, intervention=help_type),))
            for i, (state, help_type, outcome) in enumerate(tried)
        ],
        ExactKey(),
    )


def success(chances: tuple[float, float] | None = None) -> dict[str, list[float]]:
    """Of each action in "a", "b", "c" and "d"."""
    model = make_model()
    n = model.mdp.n_states
    filled = fill_model(model, None if chances is None else [np.full(n, chance) for chance in chances])
    states = [model.state(Trajectory("t", key, 0.0, (Step(key, key=key),)), 0) for key in "abcd"]
    for matrix in filled.transitions.values():
        np.testing.assert_allclose(np.asarray(matrix.sum(axis=1)).ravel()[:-2], 1.0)
    return {name: [matrix.toarray()[i, -2] for i in states] for name, matrix in filled.transitions.items()}


def test_an_action_that_was_not_tried_does_what_the_other_does() -> None:
    assert success() == {"nohelp": [0.5, 0.0, 0.0, 1.0], "do": [1.0, 0.0, 0.0, 1.0]}


def test_chances_end_untried_rows_alone() -> None:
    assert success((-0.25, 0.5)) == {"nohelp": [0.5, 0.0, 0.0, 0.75], "do": [1.0, 0.5, 0.0, 1.0]}
    assert success((0.25, -0.5)) == {"nohelp": [0.5, 0.0, 0.25, 1.0], "do": [1.0, 0.0, 0.0, 1.0]}


def test_steps_and_model_weigh_by_the_inverse_of_their_variance() -> None:
    draws = np.random.default_rng(3).standard_normal(4000)
    steps = Value(*(np.append(0.4, 0.4 + 0.1 * draws) for _ in range(2)), np.zeros(4001))
    value = toward_model(steps, ModelValue(0.6, 1.0))
    share = ERROR**2 / (ERROR**2 + 0.1**2)
    assert value.success[0] == pytest.approx(share * 0.4 + (1 - share) * 0.6, abs=0.01)
    assert value.success[1:].std() == pytest.approx((1 / ERROR**2 + 1 / 0.1**2) ** -0.5, rel=0.05)
    assert 0.4 < value.requests[0] < 1.0
    assert toward_model(steps, None) is steps
