"""Labels that several test modules learn from."""

from __future__ import annotations

import pytest

import selfreg
from helper_cases import lights
from selfreg.estimate import Features, estimate_mdp
from selfreg.helper import Labels, label


@pytest.fixture(scope="session")
def light_labels() -> Labels:
    """Labels of `lights` at budgets 0 to 2; the model's states are step and color."""
    logs = lights()
    colors = {color: color for color in ("red", "amber", "green")}
    model = estimate_mdp(logs, Features(["step", "class"], colors), shrink=False)
    return label(logs, model, selfreg.solve(model.mdp, 2))
