"""Expected budgets: the best success for every expected usage of help."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from selfreg._util import validate
from selfreg._util.showing import ShortRepr, data_frame, html_table
from selfreg.mdp import InterventionMDP
from selfreg.planning import _arguments
from selfreg.planning._drawing import new_axes
from selfreg.planning._envelope import PASS, SEARCH, Envelope
from selfreg.planning.penalized import Pricing

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

Floats = npt.NDArray[np.float64]

# Error of every penalized value that is aimed at where the model has cycles.
POINT_TOLERANCE = 1e-9
MOST_ROWS = 20


@dataclass(frozen=True, eq=False, repr=False)
class StationaryMixture(ShortRepr):
    """The best policy for an expected usage: one stationary policy, or two of which one is drawn for each episode.

    Attributes
    ----------
    weights : float64 (k,)
        Probability of each policy; k is 1 or 2.
    penalties : float64 (k,)
        A price of a unit of help at which each policy is optimal.
    successes, usages : float64 (k,)
        Of each policy.
    gap : float
        No policy of the same usage has a success that is higher by more than this.
    """

    weights: Floats
    penalties: Floats
    successes: Floats
    usages: Floats
    gap: float
    _pricing: Pricing

    @property
    def success(self) -> float:
        """Probability of success of the mixture."""
        return float(self.weights @ self.successes)

    @property
    def usage(self) -> float:
        """Expected units of help that the mixture spends."""
        return float(self.weights @ self.usages)

    @cached_property
    def policies(self) -> npt.NDArray[np.int8]:
        """int8 (k, n): index into `mdp.actions`, computed on first access."""
        return self._pricing.solve_policies(self.penalties[:, None])


@dataclass(frozen=True, eq=False, repr=False)
class Frontier:
    """Success against expected usage: the vertices of a concave, piecewise linear function, usage ascending.

    The stationary policy that is optimal at its penalty attains a vertex; between two vertices the optimum is a mixture
    of their policies.

    Attributes
    ----------
    mdp : InterventionMDP
    usage, success : float64 (vertices,)
    penalty : float64 (vertices,)
        A price of a unit of help at which the vertex is optimal: from infinity down to 0.
    gap : float
        No policy has a success above the frontier at its usage by more than this; 0.0 if the frontier is complete and
        the model has no cycles: up to rounding, as in `Solution`.
    """

    mdp: InterventionMDP
    usage: Floats
    success: Floats
    penalty: Floats
    gap: float
    _pricing: Pricing

    def at(self, budget: float) -> StationaryMixture:
        """The best policy, or mixture of two, whose expected usage is at most `budget`.

        Raises
        ------
        ValueError, TypeError
            If `budget` is not a number >= 0.
        """
        budget = validate.nonneg_float("budget", budget)
        return _mixture(self._pricing, self.usage, self.success, self.penalty, budget, self.gap)

    def penalty_for(self, budget: float) -> float:
        """Marginal success of a unit of expected help at `budget`; 0 where more help adds nothing.

        Between two vertices this is the price at which both are optimal.

        Raises
        ------
        ValueError, TypeError
            If `budget` is not a number >= 0.
        """
        i = int(np.searchsorted(self.usage, validate.nonneg_float("budget", budget), side="right")) - 1
        return _slope(self.usage, self.success, i)

    def budget_for(self, success: float) -> float:
        """Least expected usage that reaches `success`.

        Raises
        ------
        ValueError, TypeError
            If `success` is not a probability, or exceeds the largest success on the frontier.
        """
        target = validate.probability("success", success)
        if target > self.success[-1]:
            raise ValueError(f"success is {target:g}; the largest success on the frontier is {self.success[-1]:g}")
        return float(np.interp(target, self.success, self.usage))

    def plot(self, axes: Axes | None = None, *, label: str = "expected budget") -> Axes:
        """Draw the frontier; `axes.figure.savefig("frontier.png")` writes the picture.

        Parameters
        ----------
        axes : matplotlib Axes, optional
            Where to draw; those of a new figure by default.
        label : str
            Label of the line.

        Returns
        -------
        matplotlib Axes
        """
        axes = new_axes() if axes is None else axes
        marker = "o" if len(self.usage) <= 40 else None
        axes.plot(self.usage, self.success, marker=marker, markersize=4, label=label)
        axes.set(xlabel="help used per episode", ylabel="success")
        axes.legend(frameon=False, loc="lower right")
        return axes

    def to_pandas(self) -> pd.DataFrame:
        """One row a vertex: usage, success, penalty.

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        return data_frame(self._columns(), "Frontier.to_pandas")

    def _columns(self) -> dict[str, Floats]:
        return {"usage": self.usage, "success": self.success, "penalty": self.penalty}

    def __repr__(self) -> str:
        ends = [f"success {self.success[i]:.4g} at usage {self.usage[i]:.4g}" for i in (0, -1)[: len(self.usage)]]
        return f"Frontier({len(self.usage)} {'vertex' if len(self.usage) == 1 else 'vertices'}, {' to '.join(ends)})"

    def _repr_html_(self) -> str:
        columns = self._columns()
        kept = range(min(len(self.usage), MOST_ROWS))
        rows = [[f"{column[i]:.4g}" for column in columns.values()] for i in kept]
        return html_table(repr(self), list(columns), rows, len(self.usage) - len(rows))


@dataclass(frozen=True, eq=False, repr=False)
class RewardSearch(ShortRepr):
    """The price of help at which expected usage meets a budget.

    Attributes
    ----------
    penalty : float
        A price of a unit of help at which `policy` is optimal: the slope of the frontier at the budget, up to `gap`;
        0.0 if more help would add nothing.
    success, usage : float
        Of `policy`; the usage is at most the budget.
    mixture : StationaryMixture
        The optimum; it spends exactly the budget if more help adds success.
    gap : float
        No policy within the budget has a success above that of `mixture` by more than this.
    """

    penalty: float
    success: float
    usage: float
    mixture: StationaryMixture
    gap: float

    @property
    def policy(self) -> npt.NDArray[np.int8]:
        """int8 (n,): index into `mdp.actions`."""
        policy: npt.NDArray[np.int8] = self.mixture.policies[0]
        return policy


def frontier(
    mdp: InterventionMDP,
    start: int | npt.ArrayLike,
    *,
    tol: float = 1e-6,
    n_threads: int | None = None,
    implementation: str | None = None,
) -> Frontier:
    """Frontier of success against expected usage from a start: all vertices, or enough for an error of `tol`.

    Solves max over policies of success, subject to usage <= C, for every C at once, by dichotomic search on the price
    of help, breadth first, many prices per pass (`docs/budgets.md`; the equations are ours).

    Parameters
    ----------
    mdp : InterventionMDP
        With one budget.
    start : int or (n,) array_like
        A state, or probabilities of states.
    tol : float
        Largest error in success between two neighbouring vertices; 0 gives all vertices (up to rounding; there can be
        more vertices than states).
    n_threads : int, optional
        Threads for models without cycles; all cores by default. The result has the same bits for any number.
    implementation : {"cython", "python"}, optional
        Which kernel; the default is the environment variable SELFREG_IMPLEMENTATION, else "cython".

    Returns
    -------
    Frontier

    Raises
    ------
    ValueError, TypeError
        If an argument is not of the form above.
    ConvergenceError
        If a model with cycles could not be solved to the tolerance.

    Examples
    --------
    The agent succeeds half the time alone, and nine times in ten with help.

    >>> import numpy as np, selfreg
    >>> alone = np.array([[0, .5, .5], [0, 0, 0], [0, 0, 0]])
    >>> helped = np.array([[0, .9, .1], [0, 0, 0], [0, 0, 0]])
    >>> mdp = selfreg.InterventionMDP({"nohelp": alone, "help": helped}, [np.nan, 1, 0], {"help": 1})
    >>> front = selfreg.frontier(mdp, start=0)
    >>> front.usage.tolist(), front.success.tolist()
    ([0.0, 1.0], [0.5, 0.9])
    >>> mixture = front.at(0.25)
    >>> mixture.weights.tolist(), mixture.policies[:, 0].tolist(), round(mixture.success, 3)
    ([0.75, 0.25], [0, 1], 0.6)
    """
    tol = validate.nonneg_float("tol", tol)
    search = PointSearch(mdp, start, n_threads, implementation, tol, PASS)
    envelope = search.envelope
    envelope.refine(tol)
    gap = float(envelope.heights().max(initial=0.0)) + envelope.error
    return Frontier(mdp, envelope.usage, envelope.success, envelope.penalty, gap, search.pricing)


def reward_search(
    mdp: InterventionMDP,
    start: int | npt.ArrayLike,
    budget: float,
    *,
    tol: float = 1e-9,
    n_threads: int | None = None,
    implementation: str | None = None,
) -> RewardSearch:
    """The price of help at which expected usage meets `budget`: one point of the frontier.

    Parameters
    ----------
    mdp, start, n_threads, implementation
        As for `frontier`.
    budget : float
        Largest expected usage, >= 0.
    tol : float
        Largest error in success.

    Returns
    -------
    RewardSearch

    Raises
    ------
    ValueError, TypeError
        If an argument is not of the form above.
    ConvergenceError
        If a model with cycles could not be solved to the tolerance.

    Examples
    --------
    >>> import numpy as np, selfreg
    >>> alone = np.array([[0, .5, .5], [0, 0, 0], [0, 0, 0]])
    >>> helped = np.array([[0, .9, .1], [0, 0, 0], [0, 0, 0]])
    >>> mdp = selfreg.InterventionMDP({"nohelp": alone, "help": helped}, [np.nan, 1, 0], {"help": 1})
    >>> search = selfreg.reward_search(mdp, start=0, budget=0.25)
    >>> round(search.penalty, 6), search.policy.tolist(), search.usage, round(search.mixture.success, 6)
    (0.4, [0, 0, 0], 0.0, 0.6)
    """
    budget, tol = validate.nonneg_float("budget", budget), validate.nonneg_float("tol", tol)
    return PointSearch(mdp, start, n_threads, implementation, tol).at(budget, tol)


class PointSearch:
    """Search for single points of the frontier of a model; later searches use the vertices of earlier ones."""

    def __init__(
        self,
        mdp: InterventionMDP,
        start: int | npt.ArrayLike,
        n_threads: int | None,
        implementation: str | None,
        tol: float = POINT_TOLERANCE,
        first: int = SEARCH,
    ) -> None:
        """Check the arguments and evaluate `first` prices; errors of penalized values up to `tol` are accepted."""
        _arguments.check_model(mdp)
        _arguments.check_single_budget(mdp)
        self.weight = mdp.start_distribution(start)
        self.pricing = Pricing(mdp, False, validate.threads(n_threads), POINT_TOLERANCE, implementation, tol)
        costs = mdp.cost_table[mdp.cost_table > 0]
        self.envelope = Envelope(self._evaluate, 1.0 / float(costs.min()) if len(costs) else 1.0, first)

    def _evaluate(self, penalty: Floats) -> tuple[Floats, Floats, float]:
        points = self.pricing.solve_start(self.weight, penalty[:, None])
        return points.success, points.usage[:, 0], points.bound

    def at(self, budget: float, tol: float) -> RewardSearch:
        """The point of this usage, within `tol`."""
        envelope = self.envelope
        gap, i = envelope.error, len(envelope.usage) - 1
        if budget < envelope.usage[-1]:
            i = envelope.search(budget, tol)
            gap += envelope.gap_at(i, budget)
        mixture = _mixture(self.pricing, envelope.usage, envelope.success, envelope.penalty, budget, gap)
        penalty = float(envelope.low[i])
        return RewardSearch(penalty, float(mixture.successes[0]), float(mixture.usages[0]), mixture, gap)


def _mixture(
    pricing: Pricing, usage: Floats, success: Floats, penalty: Floats, budget: float, gap: float
) -> StationaryMixture:
    """The vertices on both sides of `budget`, weighted so that their usage is `budget`."""
    i = int(np.searchsorted(usage, budget, side="right")) - 1
    share = (budget - usage[i]) / (usage[i + 1] - usage[i]) if i < len(usage) - 1 else 0.0
    part = slice(i, i + 2 if share > 0 else i + 1)
    weights = np.array([1 - share, share])[: len(usage[part])]
    return StationaryMixture(weights, penalty[part], success[part], usage[part], gap, pricing)


def _slope(usage: Floats, success: Floats, i: int) -> float:
    """Success per unit of usage after vertex `i`."""
    return float((success[i + 1] - success[i]) / (usage[i + 1] - usage[i])) if i < len(usage) - 1 else 0.0
