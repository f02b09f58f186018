"""A sequential test of realised success and usage against a forecast, with a stated false-alarm rate."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from selfreg._util import validate
from selfreg.data import Trajectory
from selfreg.estimate import EstimatedModel, Uncertainty
from selfreg.planning._arguments import budget_in_lattice
from selfreg.planning.hard import Solution
from selfreg.planning.usage import expected_usage

Floats = npt.NDArray[np.float64]

# Bets as parts of the largest that cannot lose everything; the capital is spread evenly over them.
BETS = np.linspace(0.02, 0.9, 23)


class Forecast(NamedTuple):
    """Predicted success and usage of episodes run by a plan; ranges, where the prediction is uncertain.

    Attributes
    ----------
    success : (low, high)
        Of the mean outcome, in [0, 1].
    usage : (low, high), or None where usage is not monitored
        Of the mean units spent an episode, in [0, budget].
    budget : int
        Most that an episode can spend.
    """

    success: tuple[float, float]
    usage: tuple[float, float] | None
    budget: int

    @classmethod
    def of(
        cls, model: EstimatedModel, solution: Solution, budget: int, uncertainty: Uncertainty | None = None
    ) -> Forecast:
        """Forecast of a solved model with one budget; with `uncertainty`, of the same budgets, its intervals."""
        at = budget_in_lattice(solution.mdp, budget, solution.value.shape[1:])
        if len(at) != 1:
            raise ValueError(f"the solution has {len(at)} budgets; expected one")
        if uncertainty is not None:
            if uncertainty.success.low.shape != solution.value.shape[1:]:
                raise ValueError("uncertainty has other budgets than the solution")
            bands = (uncertainty.success, uncertainty.usage)
            success, usage = ((float(band.low[at]), float(band.high[at])) for band in bands)
            return cls(success, usage, budget)
        planned = float(model.success(solution)[at])
        spent = float(model.usage(expected_usage(solution))[at][0])
        return cls((planned, planned), (spent, spent), budget)


class QuantityTest(NamedTuple):
    """Test of one quantity.

    Attributes
    ----------
    name : str
    forecast : (low, high)
    realised : float
        Mean over the tasks so far.
    evidence : float
        Largest e-value so far: under the forecast, 20 has a chance of at most 1 in 20.
    alarm : int or None
        Number of tasks after which the alarm was raised.
    side : str
        "below" or "above" the forecast, whichever has more evidence.
    """

    name: str
    forecast: tuple[float, float]
    realised: float
    evidence: float
    alarm: int | None
    side: str


@dataclass(frozen=True)
class Monitoring:
    """Result of `monitor`.

    Attributes
    ----------
    tasks : int
    false_alarm : float
    tests : tuple of QuantityTest
        Of success, and of usage where it is monitored.
    """

    tasks: int
    false_alarm: float
    tests: tuple[QuantityTest, ...]

    @property
    def alarm(self) -> bool:
        """Whether any test has raised an alarm."""
        return any(test.alarm is not None for test in self.tests)

    def lines(self) -> list[str]:
        """The result as sentences."""
        result = []
        for name, (low, high), realised, evidence, alarm, side in self.tests:
            predicted = f"{low:.3f}" if low == high else f"{low:.3f} to {high:.3f}"
            verdict = f"ALARM after {alarm} tasks: {side} the forecast" if alarm else "no alarm"
            result.append(
                f"{name}: predicted {predicted}, realised {realised:.3f} over {self.tasks} tasks; {verdict} "
                f"(evidence {evidence:.3g}, alarm at {len(self.tests) / self.false_alarm:.3g})"
            )
        return result


def monitor(forecast: Forecast, recent: Iterable[Trajectory], *, false_alarm: float = 0.05) -> Monitoring:
    """Compare a forecast with new episodes; may be called again after every one.

    Testing by betting (Waudby-Smith and Ramdas 2023): half of the capital is bet on the mean being above the forecast,
    half on its being below. If the forecast holds and tasks are independent, the chance that the capital ever grows to
    1 / `false_alarm` is at most `false_alarm` (Ville's inequality), however often the test is run. The chance is
    shared between success and usage.

    Parameters
    ----------
    forecast : Forecast
    recent : iterable of Trajectory
        Episodes run by the plan, oldest first, with an outcome each. Episodes of one task count as one, their mean.
    false_alarm : float
        Chance in (0, 1) of any alarm, ever, while the forecast holds.

    Raises
    ------
    ValueError
        If there are no episodes, one has no outcome or spent more than the budget, or a number is out of range.

    Examples
    --------
    >>> from selfreg.data import Step, Trajectory
    >>> from selfreg.evaluate import Forecast, monitor
    >>> logs = [Trajectory(f"t{i}", str(i), float(i % 5 == 0), (Step("go"),)) for i in range(60)]
    >>> print(monitor(Forecast((0.6, 0.6), None, 0), logs).lines()[0])
    success: predicted 0.600, realised 0.200 over 60 tasks; ALARM after 15 tasks: below the forecast \
(evidence 6.15e+07, alarm at 20)
    """
    false_alarm = validate.confidence("false_alarm", false_alarm)
    outcomes: dict[str, list[float]] = {}
    spent: dict[str, list[float]] = {}
    for trajectory in recent:
        if trajectory.outcome is None:
            raise ValueError(f"episode {trajectory.episode!r} has no outcome; expected one")
        if trajectory.cost > forecast.budget:
            raise ValueError(f"episode {trajectory.episode!r} spent {trajectory.cost}; the budget is {forecast.budget}")
        outcomes.setdefault(trajectory.task, []).append(trajectory.outcome)
        spent.setdefault(trajectory.task, []).append(float(trajectory.cost))
    if not outcomes:
        raise ValueError("recent has no episodes; expected at least one")
    quantities = [("success", forecast.success, outcomes, 1.0)]
    if forecast.usage is not None and forecast.budget:
        quantities.append(("help used", forecast.usage, spent, float(forecast.budget)))
    level = len(quantities) / false_alarm
    return Monitoring(len(outcomes), false_alarm, tuple(_test(*one, level) for one in quantities))


def _test(
    name: str, predicted: tuple[float, float], values: dict[str, list[float]], most: float, level: float
) -> QuantityTest:
    low, high = predicted
    if not 0.0 <= low <= high <= most:
        raise ValueError(f"forecast of {name} is {predicted}; expected 0 <= low <= high <= {most:g}")
    x = np.array([np.mean(one) for one in values.values()]) / most
    above, below = capital(x, high / most), capital(1.0 - x, 1.0 - low / most)
    both = 0.5 * (above + below)
    alarms = np.flatnonzero(both >= level)
    side = "above" if above[-1] > below[-1] else "below"
    alarm = int(alarms[0]) + 1 if len(alarms) else None
    return QuantityTest(name, predicted, float(x.mean() * most), float(both.max()), alarm, side)


def capital(x: Floats, mean: float) -> Floats:
    """Capital after each of `x` in [0, 1], from 1, by bets that their mean is above `mean`.

    A supermartingale where it is not: each bet b pays 1 + b (x - mean) / mean >= 1 - b.
    """
    if mean <= 0.0:
        return np.ones(len(x))  # there is no bet at fair odds on a mean of 0
    growth = np.log1p(BETS[:, None] * (x - mean) / mean).cumsum(axis=1)
    return np.asarray(np.exp(np.minimum(growth, 700.0)).mean(axis=0))
