"""What requests are worth: success, requests, money and minutes by budget, of the policy that is recommended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

IDENTITY = ("policy", "rule", "help")
# Policies whose budgets are shown where none is recommended, the first that there is.
OTHERS = ("helper", "plan", "always")


@dataclass(frozen=True)
class BudgetWorth:
    """A policy under one budget, beside the next smaller one.

    Attributes
    ----------
    budget, smaller : int
    success : mapping
        "mean", "low", "high", as forecast.
    requests : float
        A task.
    added : mapping or None
        Success that it adds to the smaller budget; None where the log does not show it.
    added_requests : float
    per_request : float or None
        Success per request, against going alone: a price in success above which the budget does not pay.
    price, minutes : float or None
        Of a request.
    worth : float or None
        Of a success, in money.
    by_request : bool
        Whether each request takes one unit of budget.
    """

    budget: int
    smaller: int
    success: Mapping[str, float]
    requests: float
    added: Mapping[str, float] | None
    added_requests: float
    per_request: float | None
    price: float | None = None
    minutes: float | None = None
    worth: float | None = None
    alone: float = 0.0
    by_request: bool = True

    @property
    def cost(self) -> float | None:
        """Money a task."""
        return None if self.price is None else self.price * self.requests

    @property
    def break_even(self) -> float | None:
        """Price of a request at which the budget pays for itself, in money."""
        return None if self.per_request is None or self.worth is None else self.per_request * self.worth

    @property
    def net(self) -> float | None:
        """Money a task that it gains over going alone."""
        if self.cost is None or self.worth is None:
            return None
        return self.worth * (self.success["mean"] - self.alone) - self.cost

    @property
    def verdict(self) -> str:
        """ "yes", "no" or "unsure": whether what it adds to the smaller budget is more than it costs."""
        if self.added is None:
            return "unsure"
        cost = 0.0 if self.price is None or not self.worth else self.price * self.added_requests / self.worth
        if self.added["low"] > cost:
            return "yes"
        paid = self.price is not None and self.worth is not None
        return "no" if self.added["high"] < cost or (paid and self.added["mean"] < cost) else "unsure"


def prices_of(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Prices, worth of a success and minutes that the run was given."""
    return dict(summary.get("prices") or {})


def mean_of(values: Mapping[str, float], mix: Mapping[str, float]) -> float | None:
    """Mean over the requests of a policy of a value by help type; None where a type has none."""
    if not mix or any(name not in values for name in mix):
        return None
    return sum(share * values[name] for name, share in mix.items())


def is_same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two entries are of one policy, whatever the budgets."""
    return all(one[name] == other[name] for name in IDENTITY)


def chosen_policy(summary: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Entries of the recommended policy by budget, or of what help could do where none is recommended."""
    rows: Sequence[Mapping[str, Any]] = summary["forecast"]
    chosen = summary["recommendation"]
    known = [one for one in rows if isinstance(one["budget"], int) and one["policy"] != "never"]
    if chosen["policy"] != "never":
        found = [one for one in known if is_same(one, chosen)]
    else:
        names = [name for name in OTHERS if any(one["policy"] == name for one in known)]
        first = next((one for one in known if names and one["policy"] == names[0]), None)
        found = [] if first is None else [one for one in known if is_same(one, first)]
    return sorted(found, key=lambda one: int(one["budget"]))


def budget_worths(summary: Mapping[str, Any]) -> list[BudgetWorth]:
    """A row for each budget of the recommended policy."""
    if not summary.get("recommendation"):
        return []
    return [_worth(one, summary) for one in chosen_policy(summary) if one["identified"] and _costs(one, summary)]


def _costs(one: Mapping[str, Any], summary: Mapping[str, Any]) -> set[int]:
    """Units that a request of a policy may take, as far as its budget pays for them."""
    costs = {name: cost[0] for name, cost in summary["costs"].items() if one["help"] in (None, name)}
    return {cost for cost in costs.values() if cost <= one["budget"]}


def _worth(one: Mapping[str, Any], summary: Mapping[str, Any]) -> BudgetWorth:
    given, alone = prices_of(summary), summary["forecast"][0]
    requests, mix = one["requests"]["mean"], one.get("mix") or {}
    gain = one["success"]["mean"] - alone["success"]["mean"]
    added = one.get("added")
    return BudgetWorth(
        one["budget"], 0 if added is None else added["budget"], one["success"], requests,
        None if added is None else added["success"], 0.0 if added is None else added["requests"],
        gain / requests if requests > 0.005 else None,
        mean_of(given.get("money", {}), mix), mean_of(given.get("minutes", {}), mix), given.get("worth"),
        alone["success"]["mean"], _costs(one, summary) == {1},
    )  # fmt: skip


def enough(rows: Sequence[BudgetWorth]) -> int:
    """Number of the first rows that each add more than they cost."""
    for number, row in enumerate(rows):
        if row.verdict != "yes":
            return number
    return len(rows)
