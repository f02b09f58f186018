"""Budgets of a ledger: a limit on one unit, for whom it holds, and when it refills."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone, tzinfo
from decimal import ROUND_CEILING, Decimal, InvalidOperation
from typing import Any, TypeAlias

Units: TypeAlias = tuple[int, ...]
# Keys of the scopes that a step belongs to, by name: {"task": "ticket 7", "customer": "acme"}.
Keys: TypeAlias = Mapping[str, "str | int"]

LARGEST = 2**63 - 1  # what SQLite and PostgreSQL can hold
PERIODS = ("hour", "day", "week", "month")


@dataclass(frozen=True)
class Budget:
    """A limit on one unit.

    Parameters
    ----------
    limit : int
        What may be spent, from 0 to 2**63 - 1.
    unit : str
        What is counted: "requests", "tokens", micro-units of a currency. Budgets with the same unit hold at once.
    scope : str
        For whom the limit holds: "all" (everyone together), "run" (each run by itself), or the name of a key that is
        given with each step, such as "task" (each task by itself).
    period : {"hour", "day", "week", "month"} or int, optional
        When the budget refills: at the beginning of each period of the calendar (a week begins on Monday), or every so
        many seconds since 1970. Unused units do not carry over. Without it, the budget never refills.
    timezone : str
        Whose midnight ends a day, such as "Europe/Berlin".

    Raises
    ------
    TypeError, ValueError
        The limit is not an int from 0 to 2**63 - 1; the period or time zone is unknown.

    Examples
    --------
    >>> from selfreg.runtime import Budget, Ledger
    >>> ledger = Ledger([Budget(2, scope="run"), Budget(3, period="day"), Budget(5_000_000, unit="micro-dollars")])
    >>> ledger.charge("run 1", 0, {"requests": 2, "micro-dollars": 4200})
    True
    >>> ledger.budget_left("run 1"), ledger.budget_left("run 2")
    ((0, 4995800), (1, 4995800))
    """

    limit: int
    unit: str = "requests"
    scope: str = "all"
    period: str | int | None = None
    timezone: str = "UTC"

    def __post_init__(self) -> None:
        object.__setattr__(self, "limit", one_unit(self.limit, "limit"))
        for name in ("unit", "scope"):
            if not isinstance(getattr(self, name), str) or not getattr(self, name):
                raise TypeError(f"{name} is {getattr(self, name)!r}; expected a name")
        if isinstance(self.period, int) and not isinstance(self.period, bool):
            if not 1 <= self.period <= LARGEST:
                raise ValueError(f"period is {self.period}; expected seconds >= 1 and at most {LARGEST}")
        elif self.period is not None and self.period not in PERIODS:
            raise ValueError(f"period is {self.period!r}; expected one of {', '.join(PERIODS)}, or seconds as int")
        zone_of(self.timezone)

    @property
    def name(self) -> str:
        """Unit, scope and period: "requests per run per day"."""
        name = self.unit if self.scope == "all" else f"{self.unit} per {self.scope}"
        if self.period is None:
            return name
        return f"{name} per {self.period}" if isinstance(self.period, str) else f"{name} per {self.period} s"

    def period_start(self, now: float) -> int | None:
        """Beginning of the period that `now` is in; both in seconds since 1970."""
        if self.period is None:
            return None
        seconds = 3600 if self.period == "hour" else self.period
        if isinstance(seconds, int):
            return math.floor(now / seconds) * seconds
        today = datetime.fromtimestamp(now, zone_of(self.timezone)).replace(hour=0, minute=0, second=0, microsecond=0)
        if seconds == "week":
            today -= timedelta(days=today.weekday())
        elif seconds == "month":
            today = today.replace(day=1)
        return math.floor(today.timestamp())

    def period_bounds(self, now: float) -> tuple[int, int]:
        """Beginning and end of the period that `now` is in; ValueError for a budget that never refills."""
        begin = self.period_start(now)
        if begin is None:
            raise ValueError(f"budget {self.name!r} has no period")
        if self.period == "hour":
            return begin, begin + 3600
        if isinstance(self.period, int):
            return begin, begin + self.period
        # Half a day later than the shortest period that it can be, since clocks change: that is in the next one.
        end = self.period_start(begin + {"day": 1.5, "week": 7.5, "month": 31.5}[str(self.period)] * 86400)
        assert end is not None
        return begin, end


def zone_of(name: str) -> tzinfo:
    """The time zone of a name."""
    if name == "UTC":
        return timezone.utc
    from zoneinfo import ZoneInfo

    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError, TypeError):
        raise ValueError(f"timezone is {name!r}; expected a name such as 'UTC' or 'Europe/Berlin'") from None


def as_budgets(limits: Any) -> tuple[Budget, ...]:
    """Budgets from an int, ints, a budget, or budgets."""
    if isinstance(limits, Budget):
        return (limits,)
    if isinstance(limits, Sequence) and limits and all(isinstance(one, Budget) for one in limits):
        names = [one.name for one in limits]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"limits has a duplicate budget: {name!r}")
        return tuple(limits)
    tops = units(limits, "limits")
    if len(tops) == 1:
        return (Budget(tops[0]),)
    return tuple(Budget(top, unit=f"unit {i}") for i, top in enumerate(tops))


def units(value: Any, name: str) -> Units:
    """`value`, an int or ints in order, as one int for each unit.

    Raises
    ------
    TypeError, ValueError
        `name` and what is wrong with it.
    """
    if isinstance(value, str | bytes | bytearray | Mapping):
        raise TypeError(f"{name} is {value!r}; expected whole numbers")
    if getattr(value, "ndim", 0) == 1 or isinstance(value, Sequence):
        if not len(value):
            raise ValueError(f"{name} is empty; expected one entry for each budget")
        return tuple(one_unit(entry, name, value) for entry in value)
    return (one_unit(value, name),)


def one_unit(entry: Any, name: str, shown: Any = None) -> int:
    """An int from 0 to `LARGEST`."""
    shown = entry if shown is None else shown
    try:
        if isinstance(entry, bool) or type(entry).__name__ == "bool":
            raise TypeError
        number = operator.index(entry)
    except TypeError:
        raise TypeError(f"{name} is {shown!r}; expected whole numbers (money: see micro_units)") from None
    if number < 0:
        raise ValueError(f"{name} is {shown!r}; expected no negative number")
    if number > LARGEST:
        raise ValueError(f"{name} is {shown!r}; expected at most {LARGEST}")
    return number


def one_number(value: Any, name: str, expected: str) -> float:
    """A real number as float, inf where it is too large for one; TypeError says what was `expected`."""
    try:
        if isinstance(value, bool | str | bytes | bytearray):
            raise TypeError
        return float(value)
    except OverflowError:
        return math.inf
    except (TypeError, ValueError):
        raise TypeError(f"{name} is {value!r}; expected {expected}") from None


def some_seconds(value: Any, name: str) -> float:
    """A finite number > 0."""
    number = one_number(value, name, "seconds > 0")
    if not 0 < number < math.inf:
        raise ValueError(f"{name} is {value!r}; expected seconds > 0")
    return number


def one_text(value: Any, name: str, least: int = 0) -> str:
    """A str, of `least` characters or more."""
    if not isinstance(value, str):
        raise TypeError(f"{name} is {value!r}; expected a str")
    if len(value.strip()) < least:
        raise ValueError(f"{name} is {value!r}; expected some text")
    return str.__str__(value)


def micro_units(amount: str | int | float | Decimal) -> int:
    """An amount of money in millionths, rounded up, since a ledger counts whole units.

    Raises
    ------
    ValueError
        `amount` is not a finite number >= 0.

    Examples
    --------
    >>> from selfreg.runtime import micro_units
    >>> micro_units(0.0042), micro_units("12.5"), micro_units("0.0000001")
    (4200, 12500000, 1)
    """
    try:
        number = Decimal(str(amount))
    except InvalidOperation:
        raise ValueError(f"amount is {amount!r}; expected a number >= 0") from None
    if not number.is_finite() or number < 0:
        raise ValueError(f"amount is {amount!r}; expected a number >= 0")
    return one_unit(int((number * 1_000_000).to_integral_value(rounding=ROUND_CEILING)), "amount")
