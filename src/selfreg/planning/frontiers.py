"""Expected budgets: the best success for every mean usage of help, exactly, and what a hard cap costs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from selfreg._util import validate
from selfreg._util.extras import require_extra
from selfreg.mdp import InterventionMDP
from selfreg.planning._envelope import PASS, SEARCH, Envelope
from selfreg.planning.penalized import Pricing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = npt.NDArray[np.float64]

# Proven error of every penalized value where the model has cycles.
POINT_TOLERANCE = 1e-9


@dataclass(frozen=True, eq=False)
class StationaryMixture:
    """The best for a mean usage: one stationary policy, or two, one of which is drawn at the start of an episode.

    Attributes
    ----------
    weights : float64 (k,)
        Probability of each policy; k is 1 or 2.
    penalties : float64 (k,)
        A price of a unit of help at which each policy is optimal.
    successes, usages : float64 (k,)
        Of each policy.
    gap : float
        No policy of the mixture's usage succeeds more often by more than this.
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
        """int8 (k, n): index into `mdp.actions`, worked out when first asked for."""
        return self._pricing.policies(self.penalties[:, None])


@dataclass(frozen=True, eq=False)
class Frontier:
    """Success against expected usage: the vertices of a concave, piecewise linear function, usage ascending.

    Every vertex is attained by the stationary policy that is optimal at its penalty; between two vertices the best is
    a mixture of both.

    Attributes
    ----------
    mdp : InterventionMDP
    usage, success : float64 (vertices,)
    penalty : float64 (vertices,)
        A price of a unit of help at which the vertex is optimal: from infinity down to 0.
    gap : float
        No policy succeeds more often by more than this than the frontier at the policy's usage; 0.0 where all vertices
        are found (up to rounding) in a model without cycles.
    """

    mdp: InterventionMDP
    usage: Floats
    success: Floats
    penalty: Floats
    gap: float
    _pricing: Pricing

    def at(self, budget: float) -> StationaryMixture:
        """The best policy, or mixture of two, that spends at most `budget` in the mean.

        Raises
        ------
        ValueError, TypeError
            If `budget` is not a number >= 0.
        """
        budget = validate.nonneg_float("budget", budget)
        return _mixture(self._pricing, self.usage, self.success, self.penalty, budget, self.gap)

    def penalty_for(self, budget: float) -> float:
        """What one more unit of expected help adds to the success at `budget`; 0 where more help is of no use.

        Between two vertices this is the one price at which both are optimal.

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
            If `success` is no probability, or more than any amount of help reaches.
        """
        target = validate.probability("success", success)
        if target > self.success[-1]:
            raise ValueError(f"success is {target:g}; the most that help reaches is {self.success[-1]:g}")
        return float(np.interp(target, self.success, self.usage))

    def plot(self, axes: Axes | None = None, *, label: str = "expected budget") -> Axes:
        """Draw the frontier; `axes.figure.savefig("frontier.png")` writes the picture.

        Parameters
        ----------
        axes : matplotlib Axes, optional
            Where to draw; those of a new figure by default.
        label : str
            Of the line.

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


@dataclass(frozen=True, eq=False)
class RewardSearch:
    """The price of help at which the best policy spends what there is.

    Attributes
    ----------
    penalty : float
        A price of a unit of help at which `policy` is optimal: the slope of the frontier at the budget, up to what
        `gap` leaves open; 0.0 where the budget is more than is of use.
    success, usage : float
        Of `policy`; the usage is at most the budget.
    mixture : StationaryMixture
        The optimum: it spends the budget exactly where that is of use.
    gap : float
        No policy that spends at most the budget succeeds more often than `mixture` by more than this.
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
    """All vertices of success against expected usage from a start, or as many as keep within `tol` of it.

    Solves max over policies of success, subject to usage <= C, for every C at once: by dichotomic search on the price
    of help, breadth first, many prices a pass (`docs/budgets.md`; the equations are ours).

    Parameters
    ----------
    mdp : InterventionMDP
        With one kind of budget.
    start : int or (n,) array_like
        A state, or probabilities of states.
    tol : float
        Success that may be missed between two neighbouring vertices; 0 finds all vertices (up to rounding; a large
        model can have more of them than states).
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
        If a model with cycles could not be solved well enough.

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
    points = Points(mdp, start, n_threads, implementation, PASS)
    known = points.envelope
    known.refine(tol)
    gap = float(known.heights().max(initial=0.0)) + known.error
    return Frontier(mdp, known.usage, known.success, known.found, gap, points.pricing)


def reward_search(
    mdp: InterventionMDP,
    start: int | npt.ArrayLike,
    budget: float,
    *,
    tol: float = 1e-9,
    n_threads: int | None = None,
    implementation: str | None = None,
) -> RewardSearch:
    """The price of help at which expected usage meets `budget`: one point of the frontier, without the rest of it.

    Parameters
    ----------
    mdp, start, n_threads, implementation
        As for `frontier`.
    budget : float
        Expected units of help that may be spent, >= 0.
    tol : float
        Success that may be missed.

    Returns
    -------
    RewardSearch

    Raises
    ------
    ValueError, TypeError
        If an argument is not of the form above.
    ConvergenceError
        If a model with cycles could not be solved well enough.

    Examples
    --------
    >>> import numpy as np, selfreg
    >>> alone = np.array([[0, .5, .5], [0, 0, 0], [0, 0, 0]])
    >>> helped = np.array([[0, .9, .1], [0, 0, 0], [0, 0, 0]])
    >>> mdp = selfreg.InterventionMDP({"nohelp": alone, "help": helped}, [np.nan, 1, 0], {"help": 1})
    >>> found = selfreg.reward_search(mdp, start=0, budget=0.25)
    >>> round(found.penalty, 6), found.policy.tolist(), found.usage, round(found.mixture.success, 6)
    (0.4, [0, 0, 0], 0.0, 0.6)
    """
    budget, tol = validate.nonneg_float("budget", budget), validate.nonneg_float("tol", tol)
    return Points(mdp, start, n_threads, implementation).at(budget, tol)


class Points:
    """Single points of the frontier of a model, each found with what is known from those before."""

    def __init__(
        self,
        mdp: InterventionMDP,
        start: int | npt.ArrayLike,
        n_threads: int | None,
        implementation: str | None,
        first: int = SEARCH,
    ) -> None:
        """Check the arguments and ask for `first` prices."""
        validate.model(mdp)
        validate.one_budget(mdp)
        self.weight = validate.start(start, mdp.n_states)
        self.pricing = Pricing(mdp, False, validate.threads(n_threads), POINT_TOLERANCE, implementation)
        costs = mdp.cost_table[mdp.cost_table > 0]
        self.envelope = Envelope(self._ask, 1.0 / float(costs.min()) if len(costs) else 1.0, first)

    def _ask(self, penalty: Floats) -> tuple[Floats, Floats, float]:
        points = self.pricing.points(self.weight, penalty[:, None])
        return points.success, points.usage[:, 0], points.bound

    def at(self, budget: float, tol: float) -> RewardSearch:
        """The point of this usage, within `tol`."""
        known = self.envelope
        gap, i = known.error, len(known.usage) - 1
        if budget < known.usage[-1]:
            i = known.search(budget, tol)
            gap += known.gap_at(i, budget)
        mixture = _mixture(self.pricing, known.usage, known.success, known.found, budget, gap)
        penalty = float(known.low[i])
        return RewardSearch(penalty, float(mixture.successes[0]), float(mixture.usages[0]), mixture, gap)


def _mixture(
    pricing: Pricing, usage: Floats, success: Floats, penalty: Floats, budget: float, gap: float
) -> StationaryMixture:
    """The vertices around `budget`, in the shares that spend it."""
    i = int(np.searchsorted(usage, budget, side="right")) - 1
    share = (budget - usage[i]) / (usage[i + 1] - usage[i]) if i < len(usage) - 1 else 0.0
    part = slice(i, i + 2 if share > 0 else i + 1)
    weights = np.array([1 - share, share])[: len(usage[part])]
    return StationaryMixture(weights, penalty[part], success[part], usage[part], gap, pricing)


def _slope(usage: Floats, success: Floats, i: int) -> float:
    """Success per unit of usage after vertex `i`."""
    return float((success[i + 1] - success[i]) / (usage[i + 1] - usage[i])) if i < len(usage) - 1 else 0.0


def new_axes() -> Axes:
    with require_extra("logs", "plotting"):
        from matplotlib.figure import Figure
    axes: Axes = Figure(figsize=(5.0, 3.5), layout="constrained").subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return axes
