"""Labels at a price: every request counts, this one and those that follow."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

import selfreg
from selfreg.data import Step, Trajectory
from selfreg.estimate import ExactKey, Features, StateAbstraction, estimate_mdp
from selfreg.helper import Labels, label, pricing
from selfreg.helper.pricing import evaluate_at_price, plan_at_price
from selfreg.planning.usage import expected_usage

PRICES = {"person": 0.12, "model": 0.03}
COSTS = {"person": 2, "model": 1}
KEYS = ExactKey()


def walks(seed: int, cyclic: bool, episodes: int = 300) -> list[Trajectory]:
    """Random walks among a few states, which chance and help bring to success."""
    rng, logs = np.random.default_rng(seed), []
    chance = rng.uniform(0.05, 0.5, (4, 3)).cumsum(axis=1) / 1.6
    for i in range(episodes):
        place, steps, won = int(rng.integers(4)), list[Step](), 0.0
        for t in range(6):
            action = int(rng.choice(3, p=[0.6, 0.2, 0.2]))
            key = str(place) if cyclic else f"{t} {place}"
            steps.append(Step(f"place {place}", key=key, intervention=(None, "model", "person")[action]))
            won = float(rng.random() < chance[place, action])
            if won or rng.random() < 0.1:
                break
            place = int(rng.integers(4))
        logs.append(Trajectory(f"task {i % 20}", str(i), won, tuple(steps)))
    return logs


def labels_of(
    logs: list[Trajectory], budget: int, costs: Mapping[str, int] | None = None, abstraction: StateAbstraction = KEYS
) -> Labels:
    model = estimate_mdp(logs, abstraction, costs=costs)
    return label(logs, model, selfreg.solve(model.mdp, budget))


def iterate_values(labels: Labels, prices: Mapping[str, float], rounds: int = 400) -> np.ndarray:
    """Q(s, b, a) of the best policy less prices, by value iteration in plain Python; NaN where a is impossible."""
    mdp, most = labels.model.mdp, int(labels.budgets.max())
    rows = {name: matrix.toarray() for name, matrix in mdp.transitions.items()}
    ends = np.nan_to_num(np.array(mdp.terminal_value, dtype=float))
    value = np.tile(ends[:, None], (1, most + 1))
    q = np.full((mdp.n_states, most + 1, len(labels.actions)), np.nan)
    for _ in range(rounds):
        for a, name in enumerate(labels.actions):
            cost = 0 if a == 0 else mdp.costs[name][0]
            for s in range(mdp.n_states):
                for b in range(cost, most + 1):
                    if rows[name][s].any():
                        q[s, b, a] = rows[name][s] @ value[:, b - cost] - prices.get(name, 0.0)
        known = ~np.isnan(q).all(axis=2)
        value = np.where(known, np.nanmax(np.where(known[..., None], q, 0.0), axis=2), ends[:, None])
    return q


@pytest.mark.parametrize("cyclic", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_the_plan_at_a_price_is_that_of_value_iteration(
    seed: int, cyclic: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pricing, "MARGIN", 0.0)
    labels = labels_of(walks(seed, cyclic), 3, COSTS)
    found, q = plan_at_price(labels, PRICES), iterate_values(labels, PRICES)[labels.state]
    np.testing.assert_allclose(found.q, q, atol=1e-8)
    best = np.take_along_axis(q, found.decision[..., None].astype(np.int64), axis=2)[..., 0]
    np.testing.assert_allclose(best, np.nanmax(q, axis=2), atol=1e-8)
    assert (found.decision != labels.decision).any()
    assert plan_at_price(labels, 0.0) is labels


def test_a_request_is_not_put_off_because_a_later_one_costs_nothing() -> None:
    rng, logs = np.random.default_rng(0), []
    for i in range(10_000):  # an episode fails at each of ten steps with chance .3; help wins with chance .5
        steps, won = list[Step](), 0.0
        for _ in range(10):
            helped = rng.random() < 0.2
            steps.append(Step("go", intervention="help" if helped else None))
            won = float(helped and rng.random() < 0.5)
            if won or rng.random() < 0.3:
                break
        logs.append(Trajectory(f"task {i % 20}", str(i), won, tuple(steps)))
    labels = labels_of(logs, 1, abstraction=Features(["step"]))
    priced, first = plan_at_price(labels, 0.18), labels.step == 0
    # a step later the help is worth .15 less: below its price, of which half would be paid then too
    assert (labels.advantage[first, 1] < 0.18).all()
    assert (priced.advantage[first, 1] > 0.0).all()
    assert priced.decision[first, 1].all()


def test_what_is_paid_at_a_price_of_a_unit_is_the_usage(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = labels_of(walks(7, False), 3, COSTS)
    mdp, shape = labels.model.mdp, labels.solution.policy.shape
    policy = labels.solution.policy.reshape(mdp.n_states, -1)
    monkeypatch.setattr(pricing, "MARGIN", 0.0)
    success, value = evaluate_at_price(labels, mdp, policy, labels.prices(0.01))
    np.testing.assert_allclose(success.reshape(shape), labels.solution.value, atol=1e-9)
    np.testing.assert_allclose(
        (success - value).reshape(shape), 0.01 * expected_usage(labels.solution)[..., 0], atol=1e-9
    )


def test_help_that_never_pays_is_not_requested_where_going_alone_may_last_for_ever() -> None:
    logs = [
        Trajectory("task", str(i), float(i == 0), (Step("go"), Step("go", intervention="help"))) for i in range(100)
    ]
    priced = plan_at_price(labels_of(logs, 1, abstraction=Features(["class"], {"go": "go"})), 0.05)
    assert not priced.decision.any()
    assert (priced.q[..., 0] > -1e-12).all()
