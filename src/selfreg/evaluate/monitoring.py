"""A sequential test of realised success and usage against a forecast, with a stated false-alarm rate."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from selfreg._util import validate
from selfreg.data import Trajectory
from selfreg.estimate import EstimatedModel
from selfreg.estimate.bands import Uncertainty
from selfreg.planning._arguments import budget_in_lattice
from selfreg.planning.hard import Solution
from selfreg.planning.usage import expected_usage

Floats = npt.NDArray[np.float64]

# Bets as parts of the largest that cannot lose everything; the capital is spread evenly over them.
BETS = np.linspace(0.02, 0.9, 23)
MOST_LOG_CAPITAL = 700.0
ROUNDING = 1e-12
UNITS, REQUESTS = "units", "requests"
# What harms: less success, and more help.
SUCCESS, USAGE = ("success", "below"), ("help used", "above")


class Forecast(NamedTuple):
    """Predicted success and usage of episodes run by a policy; ranges, where the prediction is uncertain.

    Attributes
    ----------
    success : (low, high)
        Of the mean outcome, in [0, 1].
    usage : (low, high), or None where usage is not monitored
        Of the mean usage of an episode, in [0, budget].
    budget : int or None
        Most units that an episode may spend; None is no limit, and usage is not monitored then.
    counts : {"units", "requests"}
        What usage is: budget units spent, or steps with help. Free requests can be more than the budget.
    """

    success: tuple[float, float]
    usage: tuple[float, float] | None
    budget: int | None
    counts: str = UNITS

    @classmethod
    def of(
        cls, model: EstimatedModel, solution: Solution, budget: int, uncertainty: Uncertainty | None = None
    ) -> Forecast:
        """Forecast of a solved model with one budget; with `uncertainty`, of the same budgets, its intervals.

        Intervals that reach beyond [0, 1], or beyond the budget, end there.
        """
        at = budget_in_lattice(solution.mdp, budget, solution.value.shape[1:])
        if len(at) != 1:
            raise ValueError(f"the solution has {len(at)} budgets; expected one")
        if uncertainty is not None:
            if uncertainty.success.low.shape != solution.value.shape[1:]:
                raise ValueError("uncertainty has other budgets than the solution")
            bands = (uncertainty.success, uncertainty.usage)
            success, usage = ((float(band.low[at]), float(band.high[at])) for band in bands)
        else:
            planned = float(model.success(solution)[at])
            spent = float(model.usage(expected_usage(solution))[at][0])
            success, usage = (planned, planned), (spent, spent)
        return cls(bounded(success, 1.0), bounded(usage, budget), budget)


def bounded(values: tuple[float, float], most: float) -> tuple[float, float]:
    """An interval within [0, most]."""
    low, high = (min(max(float(value), 0.0), float(most)) for value in values)
    return low, high


class QuantityTest(NamedTuple):
    """Test of one quantity.

    Attributes
    ----------
    name : str
    forecast : (low, high)
    realised : float
        Mean over the tasks so far.
    harm : {"below", "above"}
        The side of the forecast that raises an alarm: below it for success, above it for help used.
    evidence : float
        Largest e-value so far that the mean lies on that side: under the forecast, 20 has a chance of at most 1 in 20.
    alarm : int or None
        Number of tasks after which the alarm was raised.
    other_evidence : float
        Likewise for the other side, more success or less help than forecast.
    note : int or None
        Number of tasks after which the other side was as certain; no alarm.
    """

    name: str
    forecast: tuple[float, float]
    realised: float
    harm: str
    evidence: float
    alarm: int | None
    other_evidence: float
    note: int | None


class Overspending(NamedTuple):
    """Episodes that spent more than the budget: how many, and the first of them with its units."""

    episodes: int
    first: str
    spent: int


@dataclass(frozen=True)
class Monitoring:
    """Result of `monitor`.

    Attributes
    ----------
    episodes, tasks : int
    budget : int or None
    false_alarm : float
    tests : tuple of QuantityTest
        Of success, and of usage where it is monitored.
    overspending : Overspending or None
    """

    episodes: int
    tasks: int
    budget: int | None
    false_alarm: float
    tests: tuple[QuantityTest, ...]
    overspending: Overspending | None

    @property
    def alarm(self) -> bool:
        """Whether any test has raised an alarm."""
        return any(test.alarm is not None for test in self.tests)

    @property
    def level(self) -> float:
        """Evidence from which on there is an alarm, or a note."""
        return len(self.tests) / self.false_alarm

    def lines(self) -> list[str]:
        """The result as sentences."""
        result = []
        for test in self.tests:
            low, high = test.forecast
            predicted = f"{low:.3f}" if low == high else f"{low:.3f} to {high:.3f}"
            result.append(
                f"{test.name}: predicted {predicted}, realised {test.realised:.3f} over {self.tasks} tasks; "
                f"{self._verdict(test)}"
            )
        if self.overspending:
            count, first, spent = self.overspending
            result.append(
                f"budget: {count} of {self.episodes} episodes spent more than {self.budget}; "
                f"the first is {first!r} with {spent}"
            )
        return result

    def _verdict(self, test: QuantityTest) -> str:
        parts = []
        if test.alarm is not None:
            parts.append(f"ALARM after {test.alarm} tasks: {test.harm} the forecast")
        if test.note is not None:
            other = "above" if test.harm == "below" else "below"
            parts.append(f"note after {test.note} tasks: {other} the forecast (evidence {test.other_evidence:.3g})")
        if test.alarm is None:
            parts.append("no alarm")
        return f"{'; '.join(parts)} (evidence {test.evidence:.3g}, alarm at {self.level:.3g})"

    def to_json(self) -> dict[str, Any]:
        """The result as JSON values."""
        return {
            "alarm": self.alarm,
            "episodes": self.episodes,
            "tasks": self.tasks,
            "budget": self.budget,
            "false_alarm": self.false_alarm,
            "alarm_at": self.level,
            "tests": [test._asdict() | {"forecast": list(test.forecast)} for test in self.tests],
            "overspending": None if self.overspending is None else self.overspending._asdict(),
        }


def monitor(forecast: Forecast, recent: Iterable[Trajectory], *, false_alarm: float = 0.05) -> Monitoring:
    """Compare a forecast with new episodes; may be called again after every one.

    Testing by betting (Waudby-Smith and Ramdas 2023): capital is bet on the mean being outside of the forecast, by
    itself on either side. If the forecast holds and tasks are independent, the chance that the capital ever grows to
    1 / `false_alarm` is at most `false_alarm` (Ville's inequality), however often the test is run. Less success and
    more help than forecast raise an alarm; that chance is shared between them. More success and less help are noted,
    at the same level.

    Parameters
    ----------
    forecast : Forecast
    recent : iterable of Trajectory
        Episodes run by the policy, oldest first, with an outcome each. Episodes of one task count as one, their mean.
        Those that spent more than the budget are counted like others, and reported.
    false_alarm : float
        Chance in (0, 1) of any alarm, ever, while the forecast holds.

    Raises
    ------
    ValueError
        If there are no episodes, one has no outcome, or a number is out of range.

    Examples
    --------
    >>> from selfreg.data import Step, Trajectory
    >>> from selfreg.evaluate import Forecast, monitor
    >>> logs = [Trajectory(f"t{i}", str(i), float(i % 5 == 0), (Step("go"),)) for i in range(60)]
    >>> print(monitor(Forecast((0.6, 0.6), None, 0), logs).lines()[0])
    success: predicted 0.600, realised 0.200 over 60 tasks; ALARM after 14 tasks: below the forecast \
(evidence 1.23e+08, alarm at 20)
    """
    false_alarm = validate.confidence("false_alarm", false_alarm)
    episodes = list(recent)
    if not episodes:
        raise ValueError("recent has no episodes; expected at least one")
    tests = _quantities(forecast, episodes)
    level, tasks = len(tests) / false_alarm, len({one.task for one in episodes})
    results = tuple(_test(*one, level) for one in tests)
    return Monitoring(
        len(episodes), tasks, forecast.budget, false_alarm, results, _overspending(episodes, forecast.budget)
    )


class _Quantity(NamedTuple):
    name: str
    harm: str
    forecast: tuple[float, float]
    means: Floats  # by task, in the order of their first episodes
    most: float


def _quantities(forecast: Forecast, episodes: list[Trajectory]) -> list[_Quantity]:
    """What is monitored, by task."""
    if forecast.counts not in (UNITS, REQUESTS):
        raise ValueError(f"forecast.counts is {forecast.counts!r}; expected {UNITS!r} or {REQUESTS!r}")
    outcomes: dict[str, list[float]] = {}
    used: dict[str, list[float]] = {}
    for one in episodes:
        if one.outcome is None:
            raise ValueError(f"episode {one.episode!r} has no outcome; expected one")
        requests = sum(step.intervention is not None for step in one.steps)
        outcomes.setdefault(one.task, []).append(one.outcome)
        used.setdefault(one.task, []).append(float(one.cost if forecast.counts == UNITS else requests))
    quantities = [_Quantity(*SUCCESS, forecast.success, _means(outcomes), 1.0)]
    if forecast.usage is not None:
        if forecast.budget is None:
            raise ValueError("forecast has a usage and no budget; expected a budget, or usage=None")
        most = validate.integer("forecast.budget", forecast.budget, 0)
        free = forecast.usage[1] if forecast.counts == REQUESTS else 0.0
        quantities.append(_Quantity(*USAGE, forecast.usage, _means(used), max(float(most), free)))
    return quantities


def _means(values: dict[str, list[float]]) -> Floats:
    return np.array([np.mean(one) for one in values.values()])


def _overspending(episodes: list[Trajectory], budget: int | None) -> Overspending | None:
    over = [one for one in episodes if budget is not None and one.cost > budget]
    return Overspending(len(over), over[0].episode, over[0].cost) if over else None


def _test(
    name: str, harm: str, predicted: tuple[float, float], means: Floats, most: float, level: float
) -> QuantityTest:
    low, high = predicted
    if not 0.0 <= low <= high <= most < np.inf:
        raise ValueError(f"forecast of {name} is {predicted}; expected 0 <= low <= high <= {most:g}")
    scale = most or 1.0  # with a budget of 0, any usage is above the forecast
    above = capital(means / scale, high / scale)
    below = capital(np.maximum(1.0 - means / scale, 0.0), 1.0 - low / scale)  # an episode that overspent spent it all
    bad, good = (below, above) if harm == "below" else (above, below)
    alarms, notes = np.flatnonzero(bad >= level), np.flatnonzero(good >= level)
    return QuantityTest(
        name,
        predicted,
        float(means.mean()),
        harm,
        float(bad.max()),
        int(alarms[0]) + 1 if len(alarms) else None,
        float(good.max()),
        int(notes[0]) + 1 if len(notes) else None,
    )


def capital(x: Floats, mean: float) -> Floats:
    """Capital after each of `x` >= 0, from 1, by bets that their mean is above `mean`.

    A supermartingale where it is not: each bet b pays 1 + b (x - mean) / mean >= 1 - b. Where the mean is at most 0,
    every `x` is 0, and the first that is not pays without bound.
    """
    if mean <= 0.0:
        return np.where(np.maximum.accumulate(x) > ROUNDING, np.exp(MOST_LOG_CAPITAL), 1.0)
    growth = np.log1p(BETS[:, None] * (x - mean) / mean).cumsum(axis=1)
    return np.asarray(np.exp(np.minimum(growth, MOST_LOG_CAPITAL)).mean(axis=0))
