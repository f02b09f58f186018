"""Training data of a helper: decisions by state text and budget left, with weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class Votes(NamedTuple):
    """Examples merged by text.

    Attributes
    ----------
    texts : list of str, length n
        Distinct.
    weights : ndarray of float64, shape (n, n_points, n_actions)
        Weight of each decision at each point of the budget lattice, in C order.
    tasks : list of list of str, length n
        Those that have the text.
    """

    texts: list[str]
    weights: Floats
    tasks: list[list[str]]


@dataclass(frozen=True)
class HelperExamples:
    """Optimal decisions to imitate: one entry for each labelled step and budget.

    Attributes
    ----------
    texts : list of str, length N
        State texts, without the budget.
    budgets : ndarray of int64, shape (N, m)
        Units left of each budget.
    decisions : ndarray of int64, shape (N,)
        Index into `actions`.
    weights : ndarray of float64, shape (N,)
        |advantage| times visits. Entries of weight 0 are ignored.
    tasks : list of str, length N
    actions : tuple of str
        "nohelp" first, then the help types.
    support : ndarray of float64, shape (N,), optional
        Number of visits that each decision is based on, see `Labels.support`.

    Raises
    ------
    TypeError
        Budgets or decisions are not of an integer type.
    ValueError
        Naming the wrong field and its first wrong entry.

    Examples
    --------
    The rule of a state, decided at two budgets; with budget 0 no help can be requested.

    >>> import numpy as np
    >>> from selfreg.helper import HelperExamples
    >>> examples = HelperExamples(
    ...     texts=["red light", "red light"],
    ...     budgets=np.array([[0], [1]]),
    ...     decisions=np.array([0, 1]),
    ...     weights=np.array([0.0, 0.8]),
    ...     tasks=["task 1", "task 1"],
    ...     actions=("nohelp", "help"),
    ... )
    >>> examples.select(examples.weights > 0).decisions.tolist()
    [1]
    """

    texts: list[str]
    budgets: NDArray[np.int64]
    decisions: NDArray[np.int64]
    weights: Floats
    tasks: list[str]
    actions: tuple[str, ...]
    support: Floats | None = None

    def __post_init__(self) -> None:
        n, m = len(self.texts), self.budgets.shape[1] if self.budgets.ndim == 2 else 0
        if not n or not m or self.budgets.shape != (n, m):
            raise ValueError(f"budgets have shape {self.budgets.shape}; expected ({n}, m), nothing empty")
        for name, values in self._columns.items():
            if values.shape != (n,):
                raise ValueError(f"{name} has shape {values.shape}; expected {(n,)}")
        if len(self.tasks) != n:
            raise ValueError(f"there are {len(self.tasks)} tasks; expected {n}, one for each text")
        for i, text in enumerate(self.texts):
            if not isinstance(text, str):
                raise TypeError(f"texts[{i}] is {text!r}; expected a str")
        for name in ("budgets", "decisions"):
            if getattr(self, name).dtype.kind not in "iu":
                raise TypeError(f"{name} have dtype {getattr(self, name).dtype}; expected whole numbers")
        _check_entries("budgets", self.budgets.min(axis=1), 0, np.inf)
        _check_entries("decisions", self.decisions, 0, len(self.actions) - 1)
        for name, values in self._columns.items():
            _check_entries(name, values, 0, np.finfo(np.float64).max)

    @property
    def _columns(self) -> dict[str, Any]:
        columns: dict[str, Any] = {"decisions": self.decisions, "weights": self.weights}
        return columns if self.support is None else columns | {"support": self.support}

    def select_tasks(self, tasks: Sequence[str]) -> HelperExamples:
        """The examples of some tasks."""
        wanted = set(tasks)
        return self.select(np.array([task in wanted for task in self.tasks]))

    def select(self, chosen: NDArray[np.bool_]) -> HelperExamples:
        """The examples where `chosen`, bool (N,), is true."""
        i = np.flatnonzero(chosen)
        support = None if self.support is None else self.support[i]
        texts, tasks = [self.texts[k] for k in i], [self.tasks[k] for k in i]
        return HelperExamples(texts, self.budgets[i], self.decisions[i], self.weights[i], tasks, self.actions, support)

    def reweight(self, min_count: int) -> HelperExamples:
        """The same examples with the weights used in training: times support / `min_count` where that is below 1."""
        weights = self.weights if self.weights.any() else np.ones(len(self.texts))
        if self.support is not None:
            weights = weights * np.minimum(self.support / min_count, 1.0)
        return replace(self, weights=weights)

    def votes(self, limits: Sequence[int]) -> Votes:
        """Texts of positive weight, with the weights of their decisions at all budgets up to `limits`."""
        shape = np.array(limits) + 1
        point = np.ravel_multi_index(tuple(np.minimum(self.budgets, limits).T), tuple(shape))
        used = np.flatnonzero(self.weights)
        tasks = dict[str, dict[str, None]]()
        for i in used.tolist():
            tasks.setdefault(self.texts[i], {})[self.tasks[i]] = None
        place = {text: i for i, text in enumerate(tasks)}
        votes = np.zeros((len(place), int(shape.prod()), len(self.actions)))
        rows = np.array([place[self.texts[i]] for i in used], dtype=np.int64)
        np.add.at(votes, (rows, point[used], self.decisions[used]), self.weights[used])
        return Votes(list(place), votes, [list(one) for one in tasks.values()])


def _check_entries(name: str, values: NDArray[np.int64] | Floats, low: float, high: float) -> None:
    wrong = ~((values >= low) & (values <= high))
    if wrong.any():
        i = int(np.argmax(wrong))
        raise ValueError(f"{name}[{i}] is {values[i]}; expected a number from {low:g} to {high:g}")
