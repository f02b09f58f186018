"""Hard against expected budgets: the cost of a hard cap, and how often an expected budget overspends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from selfreg._util import validate
from selfreg._util.showing import ShortRepr
from selfreg.mdp import InterventionMDP
from selfreg.planning._drawing import new_axes
from selfreg.planning.frontiers import PointSearch, StationaryMixture
from selfreg.planning.hard import solve
from selfreg.planning.solution import Solution

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False)
class HardCapPrice(ShortRepr):
    """Hard and expected budgets side by side; every array has one entry or row per budget.

    Attributes
    ----------
    budgets : int64 (k,)
    hard : float64 (k,)
        Best success of policies that never exceed the budget.
    expected : float64 (k,)
        Best success of policies whose expected usage is within the budget.
    price : float64 (k,)
        `expected - hard`: the cost of the cap.
    hard_usage : float64 (k, m)
        P(exactly u spent) under the hard-budget policy, for u = 0..m-1.
    expected_usage : float64 (k, m)
        The same under the expected-budget policy; the remainder to 1 is the probability of spending m or more.
    overspends : float64 (k,)
        Probability that the expected-budget policy spends more than the budget.
    mixtures : tuple of StationaryMixture
        The expected-budget policies.
    bound : float
        Largest proven error of `hard` and `expected`; 0.0 if the model has no cycles and the points are exact: up
        to rounding, as in `Solution`.
    """

    budgets: npt.NDArray[np.int64]
    hard: Floats
    expected: Floats
    price: Floats
    hard_usage: Floats
    expected_usage: Floats
    overspends: Floats
    mixtures: tuple[StationaryMixture, ...]
    bound: float

    def plot(self, axes: Axes | None = None) -> Axes:
        """Draw success under the hard budgets, next to `Frontier.plot` on the same axes."""
        axes = new_axes() if axes is None else axes
        axes.plot(self.budgets, self.hard, linestyle="", marker="s", markersize=5, label="hard budget")
        axes.set(xlabel="help used per episode", ylabel="success")
        axes.legend(frameon=False, loc="lower right")
        return axes


def hard_cap_price(
    mdp: InterventionMDP,
    start: int | npt.ArrayLike,
    budgets: int | Sequence[int],
    *,
    tol: float = 1e-9,
    n_threads: int | None = None,
    implementation: str | None = None,
) -> HardCapPrice:
    """Compare hard budgets with the same budgets in expectation: lost success, and how often the latter overspends.

    Parameters
    ----------
    mdp : InterventionMDP
        With one budget.
    start : int or (n,) array_like
        A state, or probabilities of states.
    budgets : int or sequence of int
        Budgets to compare.
    tol, n_threads, implementation
        As for `selfreg.reward_search` and `selfreg.solve`.

    Returns
    -------
    HardCapPrice

    Raises
    ------
    ValueError, TypeError
        If an argument is not of the form above.
    ConvergenceError
        If a model with cycles could not be solved to the tolerance.

    Examples
    --------
    An episode needs help once, twice, or not at all; one request in expectation covers all of it.

    >>> import numpy as np, selfreg
    >>> alone = np.array([[0, .25, .5, .25, 0], [0, 0, 0, 0, 1], [0, 0, 0, 0, 1], [0] * 5, [0] * 5])
    >>> helped = np.array([[0] * 5, [0, 0, 1, 0, 0], [0, 0, 0, 1, 0], [0] * 5, [0] * 5])
    >>> mdp = selfreg.InterventionMDP({"nohelp": alone, "help": helped}, [np.nan] * 3 + [1, 0], {"help": 1})
    >>> both = selfreg.hard_cap_price(mdp, start=0, budgets=[1])
    >>> both.hard.tolist(), both.expected.round(6).tolist(), both.overspends.round(6).tolist()
    ([0.75], [1.0], [0.25])
    """
    levels, tol = validate.nonneg_ints("budgets", budgets), validate.nonneg_float("tol", tol)
    search = PointSearch(mdp, start, n_threads, implementation, tol)
    points, weight = [search.at(float(level), tol) for level in levels], search.weight
    solution = solve(mdp, max(levels), n_threads=n_threads, tol=max(tol, 1e-9), implementation=implementation)
    hard_usage, expected_usage = _usages(solution, [point.mixture for point in points], weight, levels)
    hard = weight @ solution.value[:, levels].astype(np.float64)
    expected = np.array([point.mixture.success for point in points])
    within = np.array([expected_usage[row, : level + 1].sum() for row, level in enumerate(levels)])
    return HardCapPrice(
        np.array(levels, np.int64),
        hard,
        expected,
        expected - hard,
        hard_usage,
        expected_usage,
        np.clip(1.0 - within, 0.0, 1.0),
        tuple(point.mixture for point in points),
        max(solution.bound, *(point.gap for point in points)),
    )


def _usages(
    solution: Solution, mixtures: Sequence[StationaryMixture], weight: Floats, levels: Sequence[int]
) -> tuple[Floats, Floats]:
    """P(exactly u spent), float64 (budgets, largest + 1), under the hard cap and by the mixture for each budget."""
    from selfreg.planning.usage import start_usage_distribution, stationary_usage_distribution

    most = max(levels)
    hard, expected = np.zeros((2, len(levels), most + 1))
    for row, (level, mixture) in enumerate(zip(levels, mixtures, strict=True)):
        hard[row, : level + 1] = start_usage_distribution(solution, weight, level)
        for share, policy in zip(mixture.weights, mixture.policies, strict=True):
            expected[row] += share * stationary_usage_distribution(solution.mdp, policy, weight, most)
    return hard, expected
