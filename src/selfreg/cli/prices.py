"""Prices of help, what a success is worth, and minutes: from options to the forecast and the report."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from selfreg.helper import HelperConfig


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
    in_success : mapping
        Prices in success, as `money` and instead of it: those without a worth.
    """

    money: Mapping[str, float] = {}
    worth: float | None = None
    minutes: Mapping[str, float] = {}
    in_success: Mapping[str, float] = {}

    def of_help(self, help_types: Sequence[str]) -> Prices:
        """With an entry for each help type that has one.

        Raises
        ------
        ValueError
            If an entry is of an unknown help type.
        """
        money, in_success = (_by_help("--price", prices, help_types) for prices in (self.money, self.in_success))
        return Prices(money, self.worth, _by_help("--minutes", self.minutes, help_types), in_success)

    def in_units_of_success(self) -> dict[str, float]:
        """For the forecast and the helper."""
        worth = self.worth or 1.0  # money has a worth
        return {name: price / worth for name, price in self.money.items()} | dict(self.in_success)

    def of_helper(self, settings: HelperConfig) -> HelperConfig:
        """Settings with the prices of requests, where some are given."""
        price = self.in_units_of_success()
        return replace(settings, price=price) if price else settings

    def to_json(self) -> dict[str, Any]:
        """What is given, for summary.json."""
        return {name: value for name, value in self._asdict().items() if value}


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
    if worth is not None:
        return Prices(money, worth, time)
    for name, price in money.items():
        if price >= 1.0:
            given = f"{name}={price:g}" if name else f"{price:g}"
            raise ValueError(f"--price {given} is in success, below 1; with money, say what a success is --worth")
    return Prices({}, None, time, money)


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
