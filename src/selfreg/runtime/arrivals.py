"""When runs begin: how many are to be expected in each hour of a week, from those that were recorded."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import TYPE_CHECKING

from selfreg.runtime.ledger.budgets import zone_of

if TYPE_CHECKING:
    from selfreg.runtime.records import RecordedDecision

HOUR, DAY_HOURS, WEEK_HOURS = 3600.0, 24, 168


@dataclass(frozen=True)
class Arrivals:
    """Runs that are expected in each hour of a week.

    Attributes
    ----------
    rates : tuple of float
        Runs in each of 168 hours, the first one from Monday 00:00.
    timezone : str
        Of these hours.

    Raises
    ------
    ValueError
        There are not 168 rates, one of them is negative or not finite, or the time zone is unknown.

    Examples
    --------
    >>> from selfreg.runtime import Arrivals
    >>> busy = Arrivals((20.0,) * 24 + (10.0,) * 144)  # twice as many on Mondays
    >>> monday = 4 * 86400  # 5 January 1970
    >>> busy.between(monday, monday + 86400), busy.between(monday + 86400, monday + 2 * 86400)
    (480.0, 240.0)
    """

    rates: tuple[float, ...]
    timezone: str = "UTC"

    def __post_init__(self) -> None:
        if len(self.rates) != WEEK_HOURS:
            raise ValueError(f"there are {len(self.rates)} rates; expected {WEEK_HOURS}, one for each hour of a week")
        wrong = [rate for rate in self.rates if not 0 <= rate < math.inf]
        if wrong:
            raise ValueError(f"rates have {wrong[0]!r}; expected numbers >= 0")
        zone_of(self.timezone)

    def between(self, begin: float, end: float) -> float:
        """Runs expected from `begin` to `end`, in seconds since 1970."""
        parts = _parts(begin, end, zone_of(self.timezone))
        return sum(self.rates[hour] * seconds / HOUR for hour, seconds in parts)


def _parts(begin: float, end: float, zone: tzinfo) -> Iterator[tuple[int, float]]:
    """Hours of the week from `begin` to `end`, and how much of each."""
    while begin < end:
        local = datetime.fromtimestamp(begin, zone)
        past = 60 * local.minute + local.second + local.microsecond / 1e6
        step = min(max(HOUR - past, 1e-3), end - begin)
        yield DAY_HOURS * local.weekday() + local.hour, step
        begin += step


def estimate_arrivals(decisions: Iterable[RecordedDecision], *, timezone: str = "UTC") -> Arrivals:
    """Arrivals of what a recorder has stored: a run begins with its first decision.

    Parameters
    ----------
    decisions : iterable of RecordedDecision
        `Recorder.decisions`, of some days at least. An hour of the week that they do not reach is read as the same hour
        of the other days.
    timezone : str
        Of the hours of the week; best that of the budget.

    Raises
    ------
    ValueError
        Less than an hour lies between the first run and the last one; the time zone is unknown.

    Examples
    --------
    >>> from selfreg import Ledger
    >>> from selfreg.data import Step
    >>> from selfreg.decisions import Decision
    >>> from selfreg.runtime import Recorder, estimate_arrivals
    >>> class Never:
    ...     def decide(self, steps, budget_left):
    ...         return Decision()
    >>> now = [0.0]
    >>> recorder = Recorder(Never(), Ledger(1, clock=lambda: now[0]), costs={"person": 1})
    >>> for i in range(49):  # one run an hour, for two days
    ...     now[0] = 3600.0 * i
    ...     _ = recorder.decide_once(f"run {i}", 0, [Step("ready")])
    >>> round(estimate_arrivals(recorder.decisions()).between(0, 86400))
    24
    """
    first: dict[str | int, float] = {}
    for one in decisions:
        first[one.run_id] = min(one.time, first.get(one.run_id, math.inf))
    begin, end = min(first.values(), default=0.0), max(first.values(), default=0.0)
    if end - begin < HOUR:
        raise ValueError(f"the {len(first)} runs began within {end - begin:.0f} s; expected an hour at least")
    zone = zone_of(timezone)
    seen, seconds = [0.0] * WEEK_HOURS, [0.0] * WEEK_HOURS
    for time in first.values():
        local = datetime.fromtimestamp(time, zone)
        seen[DAY_HOURS * local.weekday() + local.hour] += 1
    for hour, part in _parts(begin, end, zone):
        seconds[hour] += part
    mean = len(first) / (end - begin)

    def rate(hours: list[int], otherwise: float) -> float:
        covered = sum(seconds[hour] for hour in hours)
        return sum(seen[hour] for hour in hours) / covered if covered > HOUR - 1 else otherwise

    by_day = [rate(list(range(hour, WEEK_HOURS, DAY_HOURS)), mean) for hour in range(DAY_HOURS)]
    return Arrivals(tuple(HOUR * rate([hour], by_day[hour % DAY_HOURS]) for hour in range(WEEK_HOURS)), timezone)
