"""A ledger in memory; base class of all ledgers."""

from __future__ import annotations

import contextlib
import copy
import operator
import threading
from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import Any, Final, Literal, NamedTuple, Protocol, TypeAlias

Status: TypeAlias = Literal["reserved", "charged", "refunded", "refused"]
Units: TypeAlias = tuple[int, ...]
Key: TypeAlias = tuple[Hashable, Hashable]

RESERVED: Final = "reserved"
CHARGED: Final = "charged"
REFUNDED: Final = "refunded"
REFUSED: Final = "refused"
COUNTED = (RESERVED, CHARGED)


class Entry(NamedTuple):
    """A step in a ledger.

    Attributes
    ----------
    run_id, step_id : hashable
        Which step.
    status : str
        "reserved" and "charged" count as spent, "refunded" and "refused" do not.
    cost : tuple of int
        Units of each budget.
    """

    run_id: Hashable
    step_id: Hashable
    status: Status
    cost: Units


class Book(Protocol):
    """A ledger's entries within one transaction."""

    def find(self, key: Key) -> tuple[Status, Units] | None:
        """Status and cost of a step."""

    def write(self, key: Key, status: Status, cost: Units) -> None:
        """Set status and cost of a step."""

    def left(self) -> Units:
        """Units left of each budget."""

    def use(self, cost: Sequence[int]) -> None:
        """Subtract units; negative ones are returned."""


class Ledger:
    """Budgets of one run (or of many that share them), safe to use from several threads.

    Parameters
    ----------
    limits : int or sequence of int
        Units that may be spent of each budget; an int for one budget.

    Raises
    ------
    TypeError
        A limit or cost is not a whole number.
    ValueError
        A limit or cost is negative, or the number of costs differs from the number of budgets.

    Examples
    --------
    >>> ledger = Ledger(2)
    >>> ledger.charge("run-1", 0, 1), ledger.charge("run-1", 0, 1), ledger.left
    (True, True, (1,))
    >>> ledger.reserve("run-1", 1, 1), ledger.left, ledger.refund("run-1", 1), ledger.left
    (True, (0,), True, (1,))
    >>> ledger.charge("run-1", 2, 2), ledger.left
    (False, (1,))
    """

    def __init__(self, limits: int | Sequence[int]) -> None:
        self._limits = check_units(limits, "limits")
        self._book = _MemoryBook(self._limits)
        self._lock = threading.Lock()

    @property
    def limits(self) -> Units:
        """Units that may be spent of each budget in total."""
        return self._limits

    @property
    def left(self) -> Units:
        """Units left of each budget: neither charged nor reserved."""
        with self._reading() as book:
            return book.left()

    def reserve(self, run_id: Hashable, step_id: Hashable, cost: int | Sequence[int]) -> bool:
        """Hold `cost` for a step before help is called; `charge` or `refund` settles it.

        Parameters
        ----------
        run_id, step_id : hashable
            Identify the step.
        cost : int or sequence of int
            Units of each budget.

        Returns
        -------
        bool
            True where the step is reserved or charged, now or before. False where the cost exceeds what is left of any
            budget, or the step was refused or refunded before.

        Raises
        ------
        TypeError, ValueError
            As for the limits, and ValueError where the step was entered before at another cost.
        """
        return self._take(run_id, step_id, self._units(cost), RESERVED)

    def charge(self, run_id: Hashable, step_id: Hashable, cost: int | Sequence[int] | None = None) -> bool:
        """Charge a step once: its reservation or, without one, `cost`.

        Parameters
        ----------
        run_id, step_id : hashable
        cost : int or sequence of int, optional
            Optional where the step was reserved.

        Returns
        -------
        bool
            As of `reserve`; a repeated call returns the first answer and charges nothing.

        Raises
        ------
        TypeError, ValueError
            As of `reserve`, and ValueError where `cost` is left out for a step that was never reserved.
        """
        return self._take(run_id, step_id, None if cost is None else self._units(cost), CHARGED)

    def refund(self, run_id: Hashable, step_id: Hashable) -> bool:
        """Refund a step's reservation or charge; final.

        Returns
        -------
        bool
            True where the step is refunded, now or before; False where it was refused or never entered.
        """
        key = self._key(run_id, step_id)
        with self._writing() as book:
            found = book.find(key)
            if found is None or found[0] == REFUSED:
                return False
            status, cost = found
            if status in COUNTED:
                book.use([-unit for unit in cost])
                book.write(key, REFUNDED, cost)
            return True

    def entries(self, status: Status | None = None) -> list[Entry]:
        """Steps of the ledger, in the order of their first request; optionally those of one status.

        ``entries("reserved")`` lists steps in progress, and those that a crash left neither charged nor refunded.
        """
        return [entry for entry in self._all() if status is None or entry.status == status]

    def __getstate__(self) -> dict[str, Any]:
        """For pickle and copy: everything but the lock. The copy of a ledger in memory is independent of it."""
        state = dict(vars(self))
        with state.pop("_lock", contextlib.nullcontext()):
            return copy.deepcopy(state)

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        if "_book" in state:
            self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(limits={self._limits}, left={self.left})"

    def _take(self, run_id: Hashable, step_id: Hashable, cost: Units | None, status: Status) -> bool:
        key = self._key(run_id, step_id)
        with self._writing() as book:
            found = book.find(key)
            if found is None:
                if cost is None:
                    raise ValueError(f"step {key} was never reserved; charge it with its cost")
                fits = all(unit <= have for unit, have in zip(cost, book.left(), strict=True))
                if fits:
                    book.use(cost)
                book.write(key, status if fits else REFUSED, cost)
                return fits
            before, asked = found
            if cost is not None and cost != asked:
                raise ValueError(f"step {key} was entered at cost {asked} before; it cannot cost {cost} now")
            if (before, status) == (RESERVED, CHARGED):
                book.write(key, CHARGED, asked)
            return before in COUNTED

    def _units(self, cost: int | Sequence[int]) -> Units:
        spent = check_units(cost, "cost")
        if len(spent) != len(self._limits):
            raise ValueError(
                f"cost {spent} has {len(spent)} entries; expected one for each of {len(self._limits)} budgets"
            )
        return spent

    # ---- storage

    def _key(self, run_id: Hashable, step_id: Hashable) -> Key:
        return run_id, step_id

    @contextlib.contextmanager
    def _writing(self) -> Iterator[Book]:
        """A transaction: committed when the block succeeds, rolled back otherwise."""
        with self._lock:
            yield self._book

    @contextlib.contextmanager
    def _reading(self) -> Iterator[Book]:
        with self._lock:
            yield self._book

    def _all(self) -> list[Entry]:
        with self._lock:
            return [Entry(*key, *content) for key, content in self._book.entries.items()]


class _MemoryBook:
    def __init__(self, limits: Units) -> None:
        self.entries: dict[Key, tuple[Status, Units]] = {}
        self._left = limits

    def find(self, key: Key) -> tuple[Status, Units] | None:
        return self.entries.get(key)

    def write(self, key: Key, status: Status, cost: Units) -> None:
        self.entries[key] = status, cost

    def left(self) -> Units:
        return self._left

    def use(self, cost: Sequence[int]) -> None:
        self._left = tuple(have - unit for have, unit in zip(self._left, cost, strict=True))


def check_units(value: int | Sequence[int], name: str) -> Units:
    """`value` as one whole nonnegative number for each budget."""
    entries = tuple(value) if isinstance(value, Iterable) else (value,)
    if not entries:
        raise ValueError(f"{name} is empty; expected one entry for each budget")
    try:
        if any(isinstance(entry, bool) for entry in entries):
            raise TypeError
        whole = tuple(operator.index(entry) for entry in entries)
    except TypeError:
        raise TypeError(f"{name} is {value!r}; expected whole numbers") from None
    if min(whole) < 0:
        raise ValueError(f"{name} is {value!r}; expected numbers >= 0")
    return whole
