"""Ledgers: what is left of budgets, paid once a step and never overspent."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from selfreg.runtime.ledger.accounts import Accounts, parse_cost, unit_names
from selfreg.runtime.ledger.budgets import Budget, Keys, Units, as_budgets, one_text, one_unit, some_seconds
from selfreg.runtime.ledger.memory import MemoryStore
from selfreg.runtime.ledger.store import (
    CHARGED,
    RESERVED,
    STATUSES,
    Clock,
    Overrun,
    Result,
    Status,
    Store,
    Transaction,
    as_key,
    encode,
    parses,
)

Limits: TypeAlias = "int | Sequence[int] | Budget | Sequence[Budget]"
Cost: TypeAlias = "int | Sequence[int] | Mapping[str, int]"


class Entry(NamedTuple):
    """A step in a ledger.

    Attributes
    ----------
    run_id, step_id : str or int
        Which step.
    status : str
        "reserved" and "charged" count as spent; "refunded", "refused" and "expired" do not.
    cost : tuple of int
        Units.
    """

    run_id: str | int
    step_id: str | int
    status: Status
    cost: Units


class LimitChange(NamedTuple):
    """A limit that was raised.

    Attributes
    ----------
    budget : str
        Its name.
    before, after : int
        Limits.
    reason : str
    time : float
        Seconds since 1970.
    """

    budget: str
    before: int
    after: int
    reason: str
    time: float


class Ledger:
    """Budgets in memory, shared by runs and by threads.

    Parameters
    ----------
    limits : int, sequence of int, Budget, or sequence of Budget
        What may be spent. One int is one budget for everyone together; several ints are budgets of different units.
    overrun : {"refuse", "record"}
        What happens where a step costs more than was reserved: "refuse" raises ValueError; "record" charges the real
        cost, even beyond the limit, and nothing more can be reserved until there is room again.
    clock : callable, optional
        Seconds since 1970, for periods and expiry; `time.time` by default.

    Raises
    ------
    TypeError
        A limit is not a whole number.
    ValueError
        A limit is negative or above 2**63 - 1; there are none; `overrun` is unknown.

    Examples
    --------
    >>> from selfreg import Ledger
    >>> ledger = Ledger(5)
    >>> ledger.reserve("run 1", 0, 3), ledger.left  # before help is called
    (True, (2,))
    >>> ledger.charge("run 1", 0, 1), ledger.left  # afterwards, at real cost
    (True, (4,))
    >>> ledger.charge("run 1", 0, 1), ledger.left  # the step is executed again: nothing is paid
    (True, (4,))
    >>> ledger.charge("run 1", 1, 5), ledger.left
    (False, (4,))
    """

    _store: Store

    def __init__(self, limits: Limits, *, overrun: Overrun = "refuse", clock: Clock | None = None) -> None:
        self._open(MemoryStore(as_budgets(limits), parse_overrun(overrun), clock))

    def _open(self, store: Store) -> None:
        self._store = store
        self._units = unit_names(self.budgets)

    @property
    def units(self) -> tuple[str, ...]:
        """Names of the units, in the order of costs."""
        return self._units

    @property
    def budgets(self) -> tuple[Budget, ...]:
        """All budgets, with their present limits."""
        return self._store.read(lambda transaction: transaction.settings().budgets)

    @property
    def limits(self) -> Units:
        """Of each unit, the least limit over its budgets."""
        budgets = self.budgets
        return tuple(min(one.limit for one in budgets if one.unit == unit) for unit in self._units)

    @property
    def left(self) -> Units:
        """Of each unit, what a new run could spend: neither charged nor reserved by others."""
        return self._left(None, None, fresh=True)

    def budget_left(self, run_id: str | int, keys: Keys | None = None) -> Units:
        """Of each unit, what a step of `run_id` could cost: the least over all budgets that hold for it.

        Parameters
        ----------
        run_id : str or int
        keys : mapping of str to str or int, optional
            The task or other scopes of the run, for budgets that have them.

        Raises
        ------
        ValueError
            A budget has a scope that is not in `keys`.
        """
        return self._left(as_key(run_id, 0)[0], keys, fresh=False)

    def _left(self, run_id: str | int | None, keys: Keys | None, fresh: bool) -> Units:
        def read(transaction: Transaction) -> Units | None:
            accounts = Accounts(transaction)
            due = transaction.due_entries(accounts.now)
            return None if due else accounts.left(run_id, keys, fresh)

        left = self._store.read(read)
        return self.write(lambda accounts: accounts.left(run_id, keys, fresh)) if left is None else left

    def read(self, work: Callable[[Transaction], Result]) -> Result:
        """Do `work`, which only reads, in one transaction of the store; for what is stored beside the ledger."""
        return self._store.read(work)

    def write(self, work: Callable[[Accounts], Result], shadow: bool = False) -> Result:
        """Do `work` in one transaction of the store, after reservations whose time is over were given back."""

        def expire_first(transaction: Transaction) -> Result:
            accounts = Accounts(transaction, shadow)
            accounts.expire()
            return work(accounts)

        return self._store.write(expire_first)

    def reserve(
        self,
        run_id: str | int,
        step_id: str | int,
        cost: Cost,
        *,
        keys: Keys | None = None,
        expires_in: float | None = None,
    ) -> bool:
        """Hold `cost` for a step before help is called; `charge` or `refund` settles it.

        Parameters
        ----------
        run_id, step_id : str or int
            Together the identity of the step.
        cost : int, sequence of int, or mapping of str to int
            Units, in the order of `units` or by their names.
        keys : mapping of str to str or int, optional
            The task or other scopes of the run, for budgets that have them.
        expires_in : float, optional
            Seconds after which an unsettled reservation is given back. By default it never is: a process that is only
            slow would then get help that nobody counted.

        Returns
        -------
        bool
            True where the step is paid for, now or before. False where a budget has too little left, and where the
            step was refused or refunded before.

        Raises
        ------
        TypeError, ValueError
            An id is neither str nor int; a cost is not a whole number >= 0 for each unit; the step was reserved at
            another cost before; a budget has a scope that is not in `keys`.
        """
        key, spent = as_key(run_id, step_id), self.parse_cost(cost)
        expires_in = None if expires_in is None else some_seconds(expires_in, "expires_in")
        return self.write(lambda accounts: accounts.take(key, spent, RESERVED, keys, expires_in))

    def charge(
        self, run_id: str | int, step_id: str | int, cost: Cost | None = None, *, keys: Keys | None = None
    ) -> bool:
        """Pay for a step, once.

        Parameters
        ----------
        run_id, step_id : str or int
        cost : int, sequence of int, or mapping of str to int, optional
            What the step really cost; by default what was reserved for it.
        keys : mapping of str to str or int, optional
            As of `reserve`, where nothing was reserved.

        Returns
        -------
        bool
            As of `reserve`; a repeated call gets the first answer and pays nothing. False also where the reservation
            expired and a budget has too little left by now.

        Raises
        ------
        TypeError, ValueError
            As of `reserve`; `cost` is missing for a step that was never reserved; `cost` is more than was reserved and
            the ledger refuses overruns; the step was charged at another cost before.
        """
        key, spent = as_key(run_id, step_id), None if cost is None else self.parse_cost(cost)
        return self.write(lambda accounts: accounts.take(key, spent, CHARGED, keys))

    def refund(self, run_id: str | int, step_id: str | int) -> bool:
        """Give back what a step holds or has paid, for good.

        Returns
        -------
        bool
            True where the step is refunded, now or before; False where it never held anything.
        """
        key = as_key(run_id, step_id)
        return self.write(lambda accounts: accounts.refund(key))

    def raise_limit(self, limit: int, *, budget: str | None = None, reason: str) -> None:
        """Raise the limit of a budget, and record who needed it and why.

        Parameters
        ----------
        limit : int
            The new limit; the present one changes nothing.
        budget : str, optional
            Name of the budget; may be left out where there is one.
        reason : str
            For `limit_changes`.

        Raises
        ------
        TypeError, ValueError
            The limit is not a whole number, or below the present one; the budget is unknown.

        Examples
        --------
        >>> from selfreg import Ledger
        >>> ledger = Ledger(2)
        >>> ledger.raise_limit(5, reason="release week")
        >>> ledger.left, ledger.limit_changes()[0][:4]
        ((5,), ('requests', 2, 5, 'release week'))
        """
        after, reason = one_unit(limit, "limit"), one_text(reason, "reason")

        def change_limit(transaction: Transaction) -> None:
            budgets = transaction.settings().budgets
            names = [one.name for one in budgets]
            if budget not in names and (budget is not None or len(names) > 1):
                raise ValueError(f"budget is {budget!r}; expected one of {', '.join(names)}")
            place = 0 if budget is None else names.index(budget)
            before = budgets[place].limit
            if after < before:
                raise ValueError(f"limit is {after}; expected at least the present {before}")
            if after > before:
                transaction.write_limit(place, after)
                change = LimitChange(names[place], before, after, reason, transaction.now())
                transaction.write_record("limit", (names[place], after), "", encode(change))

        self._store.write(change_limit)

    def limit_changes(self) -> list[LimitChange]:
        """All limits that were raised, in order."""

        def read(transaction: Transaction) -> list[LimitChange]:
            return [_limit_change(content) for _, content in transaction.records("limit")]

        return self._store.read(read)

    def entries(self, status: Status | None = None) -> list[Entry]:
        """Steps of the ledger, in the order of their first request; those of one status where it is given.

        ``entries("reserved")`` is what is under way, and what a crash left neither charged nor refunded.
        """
        if status is not None and status not in STATUSES:
            raise ValueError(f"status is {status!r}; expected one of {', '.join(STATUSES)}")
        rows = self._store.read(lambda transaction: transaction.entries())
        return [Entry(*key, row.status, row.cost) for key, row in rows if status in (None, row.status)]

    def __repr__(self) -> str:
        return f"{type(self).__name__}(limits={self.limits}, left={self.left})"

    def parse_cost(self, cost: Any) -> Units:
        """A cost as one int for each unit; raises as `reserve` does."""
        return parse_cost(cost, self._units)


@parses
def _limit_change(content: str) -> LimitChange:
    return LimitChange(*json.loads(content))


def parse_overrun(overrun: Any) -> Overrun:
    """`overrun`, where it is known."""
    if overrun not in ("refuse", "record"):
        raise ValueError(f"overrun is {overrun!r}; expected 'refuse' or 'record'")
    result: Overrun = overrun
    return result
