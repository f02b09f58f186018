"""Why a helper decides as it does: values and visits of the nearest logged states, in numbers and in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from selfreg.data import NOHELP
from selfreg.decisions import BudgetLeft, Decision, Neighbour

if TYPE_CHECKING:
    from selfreg.helper.helper import Helper


class Recalled(NamedTuple):
    """What a helper remembers of states like the one at hand.

    Attributes
    ----------
    success : dict of str to float
        P(success) by action; none where nothing like the state was logged.
    price : tuple of float or None
        Value of the last unit of each budget.
    near : tuple of Neighbour
        Nearest first.
    strange : bool
        Whether the state is unlike all logged ones.
    """

    success: dict[str, float]
    price: tuple[float | None, ...]
    near: tuple[Neighbour, ...]
    strange: bool


def recall(helper: Helper, texts: Sequence[str], budgets: NDArray[np.int64]) -> list[Recalled]:
    """Of each state, with its budgets (n, m) left; nothing where the helper has no memory.

    A state that is unlike all logged ones has neighbours, if they have any word in common, but no values: those of the
    neighbours say nothing about it.
    """
    memory = helper.memory
    if memory is None:
        return [Recalled({}, (), (), False)] * len(budgets)
    nearest, similarity, known = memory.look_up(texts)
    strange, every = memory.is_strange(known), memory.estimate(nearest, similarity)
    found = []
    for i, left in enumerate(budgets):
        near = tuple(memory.neighbours(nearest[i], similarity[i], helper.actions)) if similarity[i, 0] > 0 else ()
        values = ({}, ()) if strange[i] else _values(helper, every[i], left)
        found.append(Recalled(*values, near, bool(strange[i])))
    return found


def _values(
    helper: Helper, values: NDArray[np.float64], left: NDArray[np.int64]
) -> tuple[dict[str, float], tuple[float | None, ...]]:
    """P(success) by action, and the value of the last unit of each budget; `values` are (points, actions)."""
    here = np.minimum(left, helper.limits)
    q = values[helper.points(here[None])[0]]
    known = mask_affordable(helper.actions, helper.costs, left[None])[0] & ~np.isnan(q)
    success = {action: float(q[a]) for a, action in enumerate(helper.actions) if known[a]}
    if not success:
        return success, (None,) * len(here)
    best, price = np.nanmax(q), list[float | None]()
    for kind in range(len(here)):
        less = here.copy()
        less[kind] -= 1
        price.append(float(best - np.nanmax(values[helper.points(less[None])[0]])) if less[kind] >= 0 else None)
    return success, tuple(price)


def make_decision(
    helper: Helper, action: str, request: float, left: NDArray[np.int64], budget_left: BudgetLeft, recalled: Recalled
) -> Decision:
    """The decision with its reason; `left` are the units of `budget_left` that count."""
    success, price, near, strange = recalled
    rule = _explain_rule(helper, action, request, left, budget_left)
    reason = ". ".join([rule, *_explain_values(helper.actions, recalled)])
    return Decision(action, request, success, budget_left, reason, price, near, strange)


def _explain_rule(helper: Helper, action: str, request: float, left: NDArray[np.int64], budget_left: BudgetLeft) -> str:
    shown = "no limit" if budget_left is None else f"budget {' '.join(map(str, budget_left))}"
    paid = mask_affordable(helper.actions, helper.costs, left[None])[0]
    dear = [
        f"{a} (cost {' '.join(map(str, helper.costs[a]))})"
        for a, can in zip(helper.actions, paid, strict=True)
        if not can
    ]
    if len(dear) == len(helper.actions) - 1:
        return f"{action}: {shown} cannot pay for {', '.join(dear)}"
    reason = f"{action}: P(request) {request:.2f} with {shown}"
    if helper.thresholds is not None:
        reason += f" against a threshold of {helper.thresholds[int(helper.points(left[None])[0])]:.2f}"
    return f"{reason}, which cannot pay for {', '.join(dear)}" if dear else reason


def _explain_values(actions: Sequence[str], recalled: Recalled) -> list[str]:
    success, price, near, strange = recalled
    words = []
    if near and not strange:
        visits = {action: sum(one.visits[action] for one in near) for action in actions}
        shown = ", ".join(f"{value:.2f} {_phrase(action)}" for action, value in success.items())
        counts = ", ".join(f"{visits[action]} visits {_phrase(action)}" for action in actions)
        words.append(f"P(success) by the {len(near)} nearest logged states ({counts}): {shown}")
        worth = [f"{unit:.2f}" for unit in price if unit is not None]
        words += [f"The last unit of budget is worth {', '.join(worth)}"] if worth else []
    else:
        words += ["The state is unlike all logged ones"] if strange else []
        words += [f"P(success) {value:.2f} alone, by the PRM" for value in success.values()]
    if near:
        first = near[0]
        words.append(f"Nearest (similarity {first.similarity:.2f}): {' '.join(first.text.split())[:120]!r}")
    return words


def _phrase(action: str) -> str:
    return "alone" if action == NOHELP else f"with {action}"


def mask_affordable(
    actions: Sequence[str], costs: Mapping[str, Sequence[int]], budgets: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Whether budgets (n, m) can pay for each action, bool (n, n_actions)."""
    charges = np.array([[0] * budgets.shape[1], *(costs[action] for action in actions[1:])])
    return np.asarray((charges[None] <= budgets[:, None]).all(axis=2))
