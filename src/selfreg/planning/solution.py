"""Results of the hard-budget solver: values and decisions for every state and remaining budget."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from selfreg._util.showing import ShortRepr, counted, data_frame, html_table
from selfreg.mdp import InterventionMDP
from selfreg.planning import _arguments, _drawing, _solution_files
from selfreg.planning.explanation import Explanation, explain_decision

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

MOST_ROWS, MOST_BUDGETS = 10, 12


class ConvergenceError(RuntimeError):
    """The tolerance was not reached; `bound` is the bound that was."""

    def __init__(self, message: str, bound: float) -> None:
        super().__init__(message)
        self.bound = bound

    def __reduce__(self) -> tuple[Any, ...]:
        """For pickle and copy, which would call the class with the message alone."""
        return type(self), (*self.args, self.bound)


@dataclass(frozen=True, eq=False, repr=False)
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
        Largest difference between the proven upper and lower bound; the value of `policy` lies between them too. 0.0
        if the solution is exact up to rounding, which in models without cycles adds up along the levels: about 1e-15
        a level, times the entries of the longest row.
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
        value = self.value.reshape(self.mdp.n_states, prod(self.value.shape[1:]))
        expected = (self.mdp.transitions[action] @ value).reshape(self.value.shape)
        return shift_by_cost(self.mdp, index, expected)

    def q_at(self, action: str, state: Any, budget: int | tuple[int, ...]) -> float:
        """One entry of `q`; cheaper than all of them.

        Raises
        ------
        ValueError, TypeError
            If the model has no such action or state, or the budget exceeds that of the solution.
        """
        return self._entry(action, self._place(state, budget))

    def _entry(self, action: str, place: tuple[int, ...]) -> float:
        """As `q_at`, of a place in `value`."""
        s, *at = place
        cost = self.mdp.cost_table[self._index(action)]
        left = [b - c for b, c in zip(at, cost.tolist(), strict=True)]
        if self.mdp.terminal[s] or not self.mdp.available(action)[s] or min(left) < 0:
            return float("nan")
        matrix = self.mdp.transitions[action]
        row = slice(matrix.indptr[s], matrix.indptr[s + 1])
        return float(matrix.data[row] @ self.value[(matrix.indices[row], *left)])

    def _place(self, state: Any, budget: int | tuple[int, ...]) -> tuple[int, ...]:
        """Where in `value` a state and a budget left are."""
        return self.mdp.state_index(state), *_arguments.budget_in_lattice(self.mdp, budget, self.value.shape[1:])

    def explain(self, state: Any, budget: int | tuple[int, ...]) -> Explanation:
        """Why the plan decides as it does in a state: the value of every action, and of the last unit of budget.

        Parameters
        ----------
        state : str, tuple or int
            Name or index.
        budget : int or tuple of int
            Units left.

        Raises
        ------
        ValueError, TypeError
            If the model has no such state, or the budget exceeds that of the solution.

        Examples
        --------
        >>> import selfreg
        >>> mdp = selfreg.InterventionMDP.from_dict(
        ...     {"start": {"nohelp": {"done": .6, "trouble": .4}, "help": {"done": .7, "trouble": .3}},
        ...      "trouble": {"nohelp": {"done": .1, "lost": .9}, "help": {"done": .8, "lost": .2}}},
        ...     terminal_value={"done": 1, "lost": 0},
        ... )
        >>> print(selfreg.solve(mdp, budget=2).explain("start", 1))
        state start, budget left 1: nohelp
          nohelp  0.9200
          help    0.7300  0.1900 less
          the last unit of budget adds 0.2800
        """
        return explain_decision(self, state, budget)

    def plot(self, states: Sequence[Any] | None = None, *, axes: Axes | None = None) -> Axes:
        """Draw success against the budget left, a line a state; with two budgets, an image of one state.

        Parameters
        ----------
        states : sequence, optional
            Names or indices; the first live states (at most seven) by default.
        axes : matplotlib Axes, optional
            Where to draw; those of a new figure by default.

        Raises
        ------
        ValueError, TypeError
            If the model has no such state, or more than two budgets.
        """
        return _drawing.draw_values(self, states, axes)

    def to_pandas(self) -> pd.DataFrame:
        """One row a live state and budget left: state, budget (or budget_1, ...), action, value.

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        mdp = self.mdp
        live = np.flatnonzero(~mdp.terminal)
        places = np.indices((len(live), *self.value.shape[1:])).reshape(1 + mdp.n_budgets, -1)
        names = ["budget"] if mdp.n_budgets == 1 else [f"budget_{k + 1}" for k in range(mdp.n_budgets)]
        columns = {
            "state": [mdp.state_name(int(live[i])) for i in places[0]],
            **dict(zip(names, places[1:], strict=True)),
            "action": [mdp.actions[a] for a in self.policy[live].ravel().tolist()],
            "value": self.value[live].ravel(),
        }
        return data_frame(columns, "Solution.to_pandas")

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write the solution and its model as a folder of npy arrays, atomically.

        Raises
        ------
        FileExistsError
            If `path` exists and may not be replaced: without `overwrite`, or if it is not a saved solution.
        """
        _solution_files.save_solution(path, self, overwrite)

    @staticmethod
    def load(path: str | os.PathLike[str], *, mmap: bool = False) -> Solution:
        """Read a solution that `save` wrote; a `RobustSolution` where it was one.

        Parameters
        ----------
        path : path
        mmap : bool
            Map the arrays into memory instead of reading them.

        Raises
        ------
        ValueError
            If the folder is not a saved solution; names the file and what is wrong with it.

        Examples
        --------
        >>> import tempfile, selfreg
        >>> mdp = selfreg.InterventionMDP.from_dict({"a": {"nohelp": {"b": .5, "c": .5}}}, {"b": 1, "c": 0})
        >>> folder = tempfile.mkdtemp()
        >>> selfreg.solve(mdp, 1).save(folder)
        >>> selfreg.Solution.load(folder)
        Solution(3 states, budget 1, exact)
        """
        return _solution_files.load_solution(path, mmap)  # type: ignore[no-any-return]

    def __repr__(self) -> str:
        budget = self.budget[0] if len(self.budget) == 1 else self.budget
        exact = "exact" if self.bound == 0.0 else f"bound {self.bound:.2g}"
        return f"{type(self).__name__}({counted(self.mdp.n_states, 'state')}, budget {budget}, {exact})"

    def _repr_html_(self) -> str:
        """Action and value of the first live states, by the first budget; other budgets are at their largest."""
        live = np.flatnonzero(~self.mdp.terminal)
        budgets = range(min(self.budget[0] + 1, MOST_BUDGETS))
        full = self.budget[1:]
        rows = [
            [str(self.mdp.state_name(s))]
            + [f"{self.mdp.actions[self.policy[(s, b, *full)]]} {self.value[(s, b, *full)]:.3f}" for b in budgets]
            for s in live[:MOST_ROWS].tolist()
        ]
        head = [f"{(b, *full) if full else b} left" for b in budgets]
        return html_table(repr(self), ["state", *head], rows, len(live) - len(rows))

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


@dataclass(frozen=True, eq=False, repr=False)
class StartSolution(ShortRepr):
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
