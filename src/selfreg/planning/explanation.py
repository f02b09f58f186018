"""Why a plan decides as it does in a state: the values of all actions, and what the last unit of budget is worth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from selfreg.planning.solution import Solution

UNAVAILABLE, TOO_DEAR = "not available here", "costs more than is left"


@dataclass(frozen=True)
class Explanation:
    """A decision of a plan; `print` shows it as a table.

    Attributes
    ----------
    state : str, tuple or int
        Name of the state, or its index.
    budget : tuple of int
        Units left of each budget.
    action : str or None
        What the plan does; None in a terminal state.
    value : float
        Probability of success from here.
    values : dict of str to float
        Success if this action is taken now and the plan is followed afterwards; only actions that can be taken.
    excluded : dict of str to str
        Why each other action cannot be taken.
    last_unit : tuple of float
        What `value` would lose with one unit less of each budget; NaN where none is left.
    """

    state: Any
    budget: tuple[int, ...]
    action: str | None
    value: float
    values: Mapping[str, float]
    excluded: Mapping[str, str]
    last_unit: tuple[float, ...]

    def __str__(self) -> str:
        left = ", ".join(map(str, self.budget))
        if self.action is None:
            return f"state {self.state}: terminal, value {self.value:.4g}"
        lines = [f"state {self.state}, budget left {left}: {self.action}"]
        width = max(map(len, [*self.values, *self.excluded]))
        best = self.values[self.action]
        for name, value in sorted(self.values.items(), key=lambda item: -item[1]):
            loss = "" if name == self.action else f"  {best - value:.4f} less"
            lines.append(f"  {name:<{width}}  {value:.4f}{loss}")
        lines += [f"  {name:<{width}}  {reason}" for name, reason in self.excluded.items()]
        units = [f"{unit:.4f}" for unit in self.last_unit if not np.isnan(unit)]
        return "\n".join([*lines, *([f"  the last unit of budget adds {', '.join(units)}"] if units else [])])


def explain_decision(solution: Solution, state: Any, budget: Any) -> Explanation:
    """The decision of `solution` in a state with `budget` left; see `Solution.explain`."""
    mdp = solution.mdp
    s, *left = place = solution._place(state, budget)
    value = float(solution.value[place])
    less = [solution.value[(s, *left[:k], b - 1, *left[k + 1 :])] if b else np.nan for k, b in enumerate(left)]
    last_unit = tuple(value - float(one) for one in less)
    if mdp.terminal[s]:
        return Explanation(mdp.state_name(s), place[1:], None, value, {}, {}, last_unit)
    values, excluded = {}, {}
    for name, cost in zip(mdp.actions, mdp.cost_table.tolist(), strict=True):
        if not mdp.available(name)[s]:
            excluded[name] = UNAVAILABLE
        elif any(c > b for c, b in zip(cost, left, strict=True)):
            excluded[name] = TOO_DEAR
        else:
            values[name] = solution._entry(name, place)
    action = mdp.actions[int(solution.policy[place])]
    return Explanation(mdp.state_name(s), place[1:], action, value, values, excluded, last_unit)
