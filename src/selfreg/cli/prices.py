"""Prices of help, what a success is worth, and minutes: from options to the forecast and the report."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple


class Prices(NamedTuple):
    """What a request costs.

    Attributes
    ----------
    money : mapping
        Price of a request of each help type; "" for all of them.
    worth : float or None
        Of a success, in money.
    minutes : mapping
        Time that a request takes from whoever helps, as `money`.
    in_success : float or None
        A price of every request in success, given instead of money.
    """

    money: Mapping[str, float] = {}
    worth: float | None = None
    minutes: Mapping[str, float] = {}
    in_success: float | None = None

    def of_help(self, help_types: Sequence[str]) -> Prices:
        """With an entry for each help type that has one.

        Raises
        ------
        ValueError
            If an entry is of an unknown help type.
        """
        money = _by_help("--price", self.money, help_types)
        return self._replace(money=money, minutes=_by_help("--minutes", self.minutes, help_types))

    def in_units_of_success(self) -> float | dict[str, float]:
        """For the forecast; 0 where only money is known, and not what a success is worth."""
        if self.in_success is not None:
            return self.in_success
        return {name: price / self.worth for name, price in self.money.items()} if self.worth else 0.0

    def to_json(self) -> dict[str, Any]:
        """What is given, for summary.json."""
        given = {"money": dict(self.money), "worth": self.worth, "minutes": dict(self.minutes)}
        return {name: value for name, value in given.items() if value}


def parse_prices(prices: Sequence[str] | None, worth: float | None, minutes: Sequence[str] | None) -> Prices:
    """Prices that the options --price, --worth and --minutes give.

    Raises
    ------
    ValueError
        For what is not a number >= 0, a duplicate, or prices in success beside a worth in money.
    """
    if worth is not None and not 0.0 < worth < math.inf:
        raise ValueError(f"--worth {worth:g}: expected a number > 0")
    money, time = _numbers("--price", prices), _numbers("--minutes", minutes)
    if set(money) == {""} and worth is None:
        if money[""] >= 1.0:
            raise ValueError(f"--price {money['']:g} is in success, below 1; with money, say what a success is --worth")
        return Prices({}, None, time, money[""])
    return Prices(money, worth, time)


def _numbers(option: str, texts: Sequence[str] | None) -> dict[str, float]:
    found: dict[str, float] = {}
    for text in texts or ():
        name, equals, number = text.rpartition("=")
        if (equals and not name) or name in found:
            raise ValueError(f"{option} {text}: expected HELP=NUMBER or NUMBER, each help type once")
        found[name] = _number(option, text, number)
    if "" in found and len(found) > 1:
        raise ValueError(f"{option}: expected one number for all help types, or one for each")
    return found


def _number(option: str, text: str, number: str) -> float:
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not 0.0 <= value < math.inf:
        raise ValueError(f"{option} {text}: expected a number >= 0")
    return value


def _by_help(option: str, values: Mapping[str, float], help_types: Sequence[str]) -> dict[str, float]:
    if "" in values:
        return dict.fromkeys(help_types, values[""])
    for name in values:
        if name not in help_types:
            known = ", ".join(help_types) or "no help"
            raise ValueError(f"{option} {name}={values[name]:g}: unknown help type {name!r}; the logs have {known}")
    return dict(values)


NO_PRICES = Prices()
