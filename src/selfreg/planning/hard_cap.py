"""Hard against expected budgets: what it costs never to overspend, and how often the other kind does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from selfreg._util import validate
from selfreg.mdp import InterventionMDP
from selfreg.planning.frontiers import Points, StationaryMixture, new_axes
from selfreg.planning.hard import solve
from selfreg.planning.solution import Solution

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class HardCapPrice:
    """Hard and expected budgets side by side; every array has an entry, or row, per budget.

    Attributes
    ----------
    budgets : int64 (k,)
    hard : float64 (k,)
        Best success of policies that never spend more than the budget.
    expected : float64 (k,)
        Best success of policies that spend the budget in the mean.
    price : float64 (k,)
        `expected - hard`: what the cap costs.
    hard_usage : float64 (k, m)
        P(exactly u spent) under the hard-budget policy, for u = 0..m-1.
    expected_usage : float64 (k, m)
        The same under the expected-budget policy; what is missing to 1 is the probability of spending m or more.
    overspends : float64 (k,)
        Probability that the expected-budget policy spends more than the budget.
    mixtures : tuple of StationaryMixture
        The expected-budget policies.
    bound : float
        Largest proven error of `hard` and `expected`; 0.0 where the model has no cycles and the points are exact.
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
        """Draw success under the hard budgets, beside `Frontier.plot` on the same axes."""
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
    """What a hard cap costs against the same budget in expectation, and how often the latter overspends.

    Parameters
    ----------
    mdp : InterventionMDP
        With one kind of budget.
    start : int or (n,) array_like
        A state, or probabilities of states.
    budgets : int or sequence of int
        Budgets to compare at.
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
        If a model with cycles could not be solved well enough.

    Examples
    --------
    Trouble comes once, twice, or not at all; with one request in the mean all of it is helped.

    >>> import numpy as np, selfreg
    >>> alone = np.array([[0, .25, .5, .25, 0], [0, 0, 0, 0, 1], [0, 0, 0, 0, 1], [0] * 5, [0] * 5])
    >>> helped = np.array([[0] * 5, [0, 0, 1, 0, 0], [0, 0, 0, 1, 0], [0] * 5, [0] * 5])
    >>> mdp = selfreg.InterventionMDP({"nohelp": alone, "help": helped}, [np.nan] * 3 + [1, 0], {"help": 1})
    >>> both = selfreg.hard_cap_price(mdp, start=0, budgets=[1])
    >>> both.hard.tolist(), both.expected.round(6).tolist(), both.overspends.round(6).tolist()
    ([0.75], [1.0], [0.25])
    """
    amounts, tol = validate.nonneg_ints("budgets", budgets), validate.nonneg_float("tol", tol)
    points = Points(mdp, start, n_threads, implementation)
    found, weight = [points.at(float(amount), tol) for amount in amounts], points.weight
    solution = solve(mdp, max(amounts), n_threads=n_threads, implementation=implementation)
    hard_usage, expected_usage = _usages(solution, [point.mixture for point in found], weight, amounts)
    hard = weight @ solution.value[:, amounts].astype(np.float64)
    expected = np.array([point.mixture.success for point in found])
    within = np.array([expected_usage[row, : amount + 1].sum() for row, amount in enumerate(amounts)])
    return HardCapPrice(
        np.array(amounts, np.int64),
        hard,
        expected,
        expected - hard,
        hard_usage,
        expected_usage,
        np.clip(1.0 - within, 0.0, 1.0),
        tuple(point.mixture for point in found),
        max(solution.bound, *(point.gap for point in found)),
    )


def _usages(
    solution: Solution, mixtures: Sequence[StationaryMixture], weight: Floats, amounts: Sequence[int]
) -> tuple[Floats, Floats]:
    """P(exactly u spent), float64 (budgets, largest + 1), under the hard cap and by the mixture for each budget."""
    from selfreg.planning.usage import start_usage_distribution, stationary_usage_distribution

    most = max(amounts)
    hard, expected = np.zeros((2, len(amounts), most + 1))
    for row, (amount, mixture) in enumerate(zip(amounts, mixtures, strict=True)):
        hard[row, : amount + 1] = start_usage_distribution(solution, weight, amount)
        for share, policy in zip(mixture.weights, mixture.policies, strict=True):
            expected[row] += share * stationary_usage_distribution(solution.mdp, policy, weight, most)
    return hard, expected
