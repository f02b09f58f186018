"""The rules of every ledger, over one transaction of its store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from selfreg.runtime.ledger.budgets import LARGEST, Budget, Keys, Units, units
from selfreg.runtime.ledger.store import (
    CHARGED,
    COUNTED,
    EXPIRED,
    REFUNDED,
    REFUSED,
    RESERVED,
    Key,
    Row,
    Settings,
    Status,
    Transaction,
    check_id,
    encode,
)


class Accounts:
    """What may be taken, what is taken, and what is given back, in one transaction.

    `shadow` counts apart what a ledger would have spent.
    """

    def __init__(self, transaction: Transaction, shadow: bool = False) -> None:
        self.transaction, self.shadow = transaction, shadow
        self.settings, self.now = transaction.settings(), transaction.now()
        self.units = unit_names(self.settings.budgets)

    def expire(self) -> None:
        """Give back reservations whose time is over."""
        for key, row in self.transaction.due_entries(self.now):
            self._give_back(key, row, EXPIRED)

    # ---- what is left

    def names(self, run_id: str | int | None, keys: Keys | None) -> tuple[str, ...]:
        """The counter of each budget for a step of a run."""
        return tuple(self._name(i, one, run_id, keys or {}) for i, one in enumerate(self.settings.budgets))

    def _name(self, place: int, budget: Budget, run_id: str | int | None, keys: Keys) -> str:
        value: str | int | None = None
        if budget.scope == "run":
            value = run_id
        elif budget.scope != "all":
            if budget.scope not in keys:
                raise ValueError(f"budget {budget.name!r} needs keys={{{budget.scope!r}: ...}}; got {dict(keys)}")
            value = keys[budget.scope]
            check_id(value, f"keys[{budget.scope!r}]")
        parts = [place, value, budget.period_start(self.now)]
        return encode(["shadow", *parts] if self.shadow else parts)

    def left(self, run_id: str | int | None = None, keys: Keys | None = None, fresh: bool = False) -> Units:
        """What a step may cost, for each unit the least over its budgets."""
        return self.least(self.left_by_budget(run_id, keys, fresh))

    def least(self, left: Sequence[int]) -> Units:
        """Of each unit, the least over its budgets."""
        pairs = list(zip(left, self.settings.budgets, strict=True))
        return tuple(min(have for have, one in pairs if one.unit == unit) for unit in self.units)

    def left_by_budget(
        self, run_id: str | int | None = None, keys: Keys | None = None, fresh: bool = False
    ) -> list[int]:
        """What is left of each budget.

        `fresh` reads budgets of a run or another scope as those of one that has spent nothing.
        """
        budgets = self.settings.budgets
        read = [i for i, one in enumerate(budgets) if not fresh or one.scope == "all"]
        names = [self._name(i, budgets[i], run_id, keys or {}) for i in read]
        used = dict(zip(read, self.transaction.read_used(names), strict=True))
        return [max(one.limit - used.get(i, 0), 0) for i, one in enumerate(budgets)]

    def fits(self, names: tuple[str, ...], cost: Units) -> bool:
        """Whether all budgets can pay."""
        budgets, used = self.settings.budgets, self.transaction.read_used(names)
        wanted = [cost[self.units.index(one.unit)] for one in budgets]
        tops = [one.limit for one in budgets]
        return all(not add or have + add <= top for add, have, top in zip(wanted, used, tops, strict=True))

    def add(self, names: tuple[str, ...], cost: Units) -> None:
        """Count units that fit, that are given back (< 0), or that are recorded whether they fit or not."""
        used = self.transaction.read_used(names)
        for name, have, budget in zip(names, used, self.settings.budgets, strict=True):
            more = cost[self.units.index(budget.unit)]
            if have + more > LARGEST:
                raise ValueError(f"budget {budget.name!r} would have spent {have + more}; expected at most {LARGEST}")
            if more:
                # A file system without working locks must not overspend either: the table checks it again.
                over = self.settings.overrun == "record" or more < 0
                self.transaction.add_used(name, more, max(budget.limit, have + more) if over else budget.limit)

    # ---- steps

    def take(
        self, key: Key, cost: Units | None, status: Status, keys: Keys | None = None, expires_in: float | None = None
    ) -> bool:
        """Reserve or charge a step, as `Ledger.reserve` and `Ledger.charge` say."""
        row = self.transaction.find_entry(key)
        if row is None or (row.status == EXPIRED and status == RESERVED):
            if cost is None:
                raise ValueError(f"step {key} was never reserved; charge it with its cost")
            return self._enter(key, self.names(key[0], keys), cost, status, expires_in)
        if status == RESERVED:
            if cost != row.reserved:
                raise ValueError(f"step {key} was reserved at cost {row.reserved} before; it cannot cost {cost} now")
            return row.status in COUNTED
        return self._settle(key, row, row.reserved if cost is None else cost, cost is not None)

    def _enter(self, key: Key, names: tuple[str, ...], cost: Units, status: Status, expires_in: float | None) -> bool:
        fits = self.fits(names, cost)
        recorded = fits or (status == CHARGED and self.settings.overrun == "record")
        if recorded:
            self.add(names, cost)
        expires = self.now + expires_in if fits and expires_in is not None and status == RESERVED else None
        self.transaction.write_entry(key, Row(status if recorded else REFUSED, cost, cost, names, expires))
        return recorded

    def _settle(self, key: Key, row: Row, cost: Units, stated: bool) -> bool:
        if row.status in (CHARGED, REFUSED):
            before = row.cost
            if stated and cost != before:
                word = "charged" if row.status == CHARGED else "refused"
                raise ValueError(f"step {key} was {word} at cost {before} before; it cannot cost {cost} now")
            return row.status == CHARGED
        if row.status == REFUNDED:
            return False
        record = self.settings.overrun == "record"
        if not record and any(real > held for real, held in zip(cost, row.reserved, strict=True)):
            raise ValueError(
                f"step {key} reserved {row.reserved} and costs {cost}; a ledger with overrun='refuse' charges at most "
                "what was reserved"
            )
        if row.status == EXPIRED:
            if not record and not self.fits(row.accounts, cost):
                return False
            self.add(row.accounts, cost)
        else:
            self.add(row.accounts, tuple(real - held for real, held in zip(cost, row.cost, strict=True)))
        self.transaction.write_entry(key, row._replace(status=CHARGED, cost=cost, expires=None))
        return True

    def refund(self, key: Key) -> bool:
        """Give back what a step holds, as `Ledger.refund` says."""
        row = self.transaction.find_entry(key)
        if row is None or row.status == REFUSED:
            return False
        if row.status in COUNTED:
            self._give_back(key, row, REFUNDED)
        elif row.status == EXPIRED:
            self.transaction.write_entry(key, row._replace(status=REFUNDED))
        return True

    def _give_back(self, key: Key, row: Row, status: Status) -> None:
        self.add(row.accounts, tuple(-unit for unit in row.cost))
        self.transaction.write_entry(key, row._replace(status=status, expires=None))


def unit_names(budgets: tuple[Budget, ...]) -> tuple[str, ...]:
    """Units of budgets, in the order of their first budget."""
    return tuple(dict.fromkeys(one.unit for one in budgets))


def parse_cost(cost: Any, names: tuple[str, ...]) -> Units:
    """A cost, by order or by name of the units, as one int for each unit."""
    if isinstance(cost, Mapping):
        unknown = [name for name in cost if name not in names]
        if unknown:
            raise ValueError(f"cost has an unknown unit {unknown[0]!r}; expected {', '.join(names)}")
        return units([cost.get(name, 0) for name in names], "cost")
    spent = units(cost, "cost")
    if len(spent) != len(names):
        raise ValueError(f"cost {spent} has {len(spent)} entries; expected one for each of {len(names)} units")
    return spent


def same_settings(place: str, settings: Settings, budgets: tuple[Budget, ...] | None, overrun: str | None) -> None:
    """Raise where a ledger is opened with other budgets than it was made with; raised limits are those of today."""
    if overrun is not None and overrun != settings.overrun:
        raise ValueError(f"{place}: the ledger has overrun={settings.overrun!r}; expected {overrun!r}")
    if budgets is None:
        return
    made = tuple(
        Budget(top, *_remaining_limits(one)) for one, top in zip(settings.budgets, settings.first, strict=True)
    )
    if budgets not in (made, settings.budgets):
        simple = all(one == Budget(one.limit, one.unit) for one in (*budgets, *settings.budgets))
        if simple:
            tops, others = (tuple(one.limit for one in these) for these in (settings.budgets, budgets))
            raise ValueError(f"{place}: the ledger has limits {tops}; expected {others}")
        found, wanted = (", ".join(f"{one.limit} {one.name}" for one in these) for these in (settings.budgets, budgets))
        raise ValueError(f"{place}: the ledger has budgets {found}; expected {wanted}")


def _remaining_limits(budget: Budget) -> tuple[Any, ...]:
    return budget.unit, budget.scope, budget.period, budget.timezone
