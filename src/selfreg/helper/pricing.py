"""What help is worth less its price, now and later: values of policies, and labels of the plan at a price.

The plan makes the most of a budget, whatever a request costs. At a price, help now competes with help later, which is
paid for too: an advantage that counts the price of this request alone puts requests off, often until it is too late.
With later requests at their full price, on the other hand, help is requested early where the model underrates waiting,
as it does where help was never tried in later states. So a part of the price, `MARGIN`, is not paid later.

Prices are those of `Labels.prices`, float64 (actions,), in success. Points are those of the labels' budgets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from selfreg.helper.labels import Labels, best_actions, points_after
from selfreg.mdp import InterventionMDP
from selfreg.planning.evaluation import evaluate_policy
from selfreg.planning.usage import expected_charges

Floats = NDArray[np.float64]

# Part of the price that a request must gain now, and that later requests do not cost: benchmarks/NOTES.md, 34.
MARGIN = 0.5
# Rounds of policy iteration at most; it stops where no decision gains more than this.
ROUNDS, LEAST_GAIN = 50, 1e-9


def evaluate_at_price(
    labels: Labels, mdp: InterventionMDP, policy: NDArray[np.int8], prices: Floats
) -> tuple[Floats, Floats]:
    """Success of a policy, and the same less a part of the price of its requests: as they count where they come later.

    Parameters
    ----------
    labels : Labels
        Gives the shape of the budgets.
    mdp : InterventionMDP
        In which the policy is evaluated.
    policy : int8 (n_states, points)
    prices : float64 (actions,)

    Returns
    -------
    tuple of float64 (n_states, points)
    """
    prices = (1.0 - MARGIN) * prices
    shaped = policy.reshape(labels.solution.policy.shape)
    success = evaluate_policy(mdp, shaped).success
    paid = expected_charges(replace(labels.solution, mdp=mdp, policy=shaped), prices[:, None])[..., 0]
    return success.reshape(policy.shape), (success - paid).reshape(policy.shape)


def values_of_actions(labels: Labels, value: Floats, prices: Floats | None = None) -> Floats:
    """Q(s, b, a) = sum_j P_a[s,j] V(j, b - c_a), less the price of a: float64 (n_states, points, actions).

    `value` is V, float64 (n_states, points); without `prices` nothing is subtracted. NaN where an action is not
    affordable, or was never tried.
    """
    mdp = labels.model.mdp
    q = np.full((mdp.n_states, len(labels.budgets), len(labels.actions)), np.nan)
    for a, (name, left) in enumerate(zip(labels.actions, points_after(labels.budgets, mdp.cost_table), strict=True)):
        paid = np.flatnonzero(left >= 0)
        after = (mdp.transitions[name] @ value)[:, left[paid]] - (0.0 if prices is None else prices[a])
        q[:, paid, a] = np.where(mdp.available(name)[:, None], after, np.nan)
    return q


def with_values(labels: Labels, value: Floats, prices: Floats | None = None) -> Labels:
    """The labels if later decisions are worth `value`, float64 (n_states, points)."""
    q = values_of_actions(labels, value, prices)[labels.state]
    return replace(labels, q=q, decision=best_actions(q))


def plan_at_price(labels: Labels, price: float | Mapping[str, float]) -> Labels:
    """The plan's labels at a price: q is success less the price of a request now, and 1 - `MARGIN` of later ones.

    The plan makes the most of success less 1 - `MARGIN` of the price of all its requests, by policy iteration (Howard
    1960). It begins with the policy that never requests help: another one may be kept by a tie where going on alone
    leads back to the same state.

    Parameters
    ----------
    labels : Labels
    price : float or mapping of str to float
        Success that a unit of help costs, or a request of each help type, by its name.
    """
    prices = labels.prices(price)
    if not prices.any():
        return labels
    mdp = labels.model.mdp
    policy = np.zeros((mdp.n_states, len(labels.budgets)), np.int8)
    live = np.flatnonzero(~mdp.terminal)
    for _ in range(ROUNDS):
        _, value = evaluate_at_price(labels, mdp, policy, prices)
        q = values_of_actions(labels, value, (1.0 - MARGIN) * prices)[live]
        taken = np.take_along_axis(q, policy[live][..., None].astype(np.int64), axis=2)[..., 0]
        better = np.nanmax(q, axis=2) - taken > LEAST_GAIN
        if not better.any():
            break
        policy[live] = np.where(better, best_actions(q), policy[live])
    return with_values(labels, value, prices)
