"""Results of the hard-budget solver: values and decisions for every state and remaining budget."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from selfreg.mdp import InterventionMDP


class ConvergenceError(RuntimeError):
    """The tolerance was not reached; `bound` is the bound that was."""

    def __init__(self, message: str, bound: float) -> None:
        super().__init__(message)
        self.bound = bound

    def __reduce__(self) -> tuple[Any, ...]:
        """For pickle and copy, which would call the class with the message alone."""
        return type(self), (*self.args, self.bound)


@dataclass(frozen=True, eq=False)
class Solution:
    """Optimal values and decisions for every state and remaining budget.

    Attributes
    ----------
    mdp : InterventionMDP
    budget : tuple of int
        Largest budget of every kind.
    value : float64 or float32 (n, B1 + 1, B2 + 1, ...)
        Probability of success with at most that much help, within `bound` of the optimum.
    policy : int8, same shape
        Index into `mdp.actions`. Ties go to `nohelp`, then to the lowest index; `nohelp` where all values
        are 0.
    bound : float
        Largest difference between the proven upper and lower bound; 0.0 if the solution is exact (up to rounding).
        The value of `policy` lies between them too.
    """

    mdp: InterventionMDP
    budget: tuple[int, ...]
    value: npt.NDArray[Any]
    policy: npt.NDArray[np.int8]
    bound: float

    def q(self, action: str) -> npt.NDArray[np.float64]:
        """Value of taking `action` now and acting optimally afterwards.

        Returns
        -------
        float64, shape of `value`
            NaN where the action is unavailable or unaffordable, or the state is terminal.

        Raises
        ------
        ValueError
            If the model has no such action.
        """
        index = self._index(action)
        value = self.value.reshape(self.mdp.n_states, -1)
        expected = (self.mdp.transitions[action] @ value).reshape(self.value.shape)
        return shift_by_cost(self.mdp, index, expected)

    def _index(self, action: str) -> int:
        if action not in self.mdp.actions:
            raise ValueError(f"action {action!r} is not in the model; choose from {self.mdp.actions!r}")
        return self.mdp.actions.index(action)

    def usage_distribution(self, state: int, budget: int | tuple[int, ...]) -> npt.NDArray[np.float64]:
        """P(exactly u spent) by `policy` from one state and budget; `selfreg.usage_distribution` has all of them.

        Returns
        -------
        float64 (budget + 1, ...)
            One axis per budget.
        """
        from selfreg.planning.usage import usage_distribution_from

        return usage_distribution_from(self, state, budget)


@dataclass(frozen=True, eq=False)
class StartSolution:
    """Result of `solve(..., keep="start")`.

    Attributes
    ----------
    mdp : InterventionMDP
    budget : tuple of int
    value : float64 (B1 + 1, B2 + 1, ...)
        Probability of success from the start distribution.
    bound : float
        As in `Solution`.
    """

    mdp: InterventionMDP
    budget: tuple[int, ...]
    value: npt.NDArray[np.float64]
    bound: float


def shift_by_cost(mdp: InterventionMDP, action: int, expected: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """expected[s, b - c] where the action is available and affordable, NaN elsewhere."""
    shape, cost = expected.shape[1:], mdp.cost_table[action]
    result = np.full(expected.shape, np.nan)
    moves = [min(size, int(c)) for size, c in zip(shape, cost, strict=True)]
    paid = (slice(None), *(slice(move, None) for move in moves))
    left = (slice(None), *(slice(0, size - move) for size, move in zip(shape, moves, strict=True)))
    result[paid] = expected[left]
    result[~mdp.available(mdp.actions[action])] = np.nan
    return result
