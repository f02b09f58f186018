"""What a unit of help costs at the moment, for budgets that many runs share."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from selfreg.runtime.arrivals import Arrivals
from selfreg.runtime.ledger.budgets import Budget, Units

if TYPE_CHECKING:
    from selfreg.planning.frontiers import Frontier


class Moment(NamedTuple):
    """What a price may depend on.

    Attributes
    ----------
    now : float
        Seconds since 1970, by the clock of the ledger.
    left : tuple of int
        Of each unit, what the step could cost.
    by_budget : mapping of Budget to int
        What is left of each budget, for the run of the step.
    """

    now: float
    left: Units
    by_budget: Mapping[Budget, int]


# P(success) that a unit must be worth; infinity stops all help.
Price: TypeAlias = Callable[[Moment], float]


@dataclass(frozen=True)
class PeriodPrice:
    """The price at which the runs that are still to come in a period use up what is left of its budget.

    It rises where the budget is spent faster than the period goes by, and falls where it is spent more slowly. This is
    the common penalty of `selfreg.allocate`, of the runs to come as the frontier describes them.

    Parameters
    ----------
    frontier : Frontier
        Success against usage of one run (`selfreg.frontier`).
    runs : float or Arrivals
        Runs that are expected in a whole period, spread evenly over it; or when they come (`estimate_arrivals`), for
        days with busy hours and weeks with busy days.

    Raises
    ------
    ValueError
        `runs` is not positive and finite. When called: the ledger has no budget with a period, or several.

    Examples
    --------
    Help is worth 0.4 in one run of two and nothing in the other; five units are left for twenty runs, or for two.

    >>> import numpy as np, selfreg
    >>> from selfreg.runtime import Budget, Moment, PeriodPrice
    >>> alone = np.array([[0, .5, .5], [0, 0, 0], [0, 0, 0]])
    >>> helped = np.array([[0, .9, .1], [0, 0, 0], [0, 0, 0]])
    >>> mdp = selfreg.InterventionMDP({"nohelp": alone, "help": helped}, [np.nan, 1, 0], {"help": 1})
    >>> price = PeriodPrice(selfreg.frontier(mdp, [0.5, 0.5, 0]), runs=20)
    >>> day = Budget(5, period="day")
    >>> [round(price(Moment(hour * 3600, (5,), {day: 5})), 9) for hour in (0, 21.6)]
    [0.4, 0.0]
    """

    frontier: Frontier
    runs: float | Arrivals

    def __post_init__(self) -> None:
        if isinstance(self.runs, Arrivals):
            return
        try:
            positive = 0 < self.runs < math.inf
        except TypeError:
            positive = False
        if not positive:
            raise ValueError(f"runs is {self.runs!r}; expected a number > 0, or Arrivals")

    def __call__(self, moment: Moment) -> float:
        """The price of a unit."""
        refilled = [one for one in moment.by_budget if one.period is not None]
        if len(refilled) != 1:
            names = ", ".join(one.name for one in moment.by_budget)
            raise ValueError(f"the ledger has the budgets {names}; expected one with a period")
        begin, end = refilled[0].period_bounds(moment.now)
        left = moment.by_budget[refilled[0]]
        if not left:
            return math.inf
        if isinstance(self.runs, Arrivals):
            runs = self.runs.between(moment.now, end)
        else:
            runs = self.runs * (end - moment.now) / (end - begin)
        return self.frontier.penalty_for(left / max(runs, 1.0))


def check_price(price: float) -> float:
    """A price, where it is a number >= 0.

    Raises
    ------
    ValueError
        It is negative or NaN.
    """
    if not price >= 0:
        raise ValueError(f"price gave {price!r}; expected a number >= 0")
    return float(price)
