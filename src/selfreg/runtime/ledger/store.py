"""What a ledger needs of the place where it is stored; one protocol for all backends."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Sequence
from typing import Any, Final, Literal, NamedTuple, Protocol, TypeAlias, TypeVar

from selfreg.runtime.ledger.budgets import LARGEST, Budget, Units, one_number

Status: TypeAlias = Literal["reserved", "charged", "refunded", "refused", "expired"]
Overrun: TypeAlias = Literal["refuse", "record"]
Key: TypeAlias = "tuple[str | int, str | int]"
Clock: TypeAlias = Callable[[], float]
EARLIEST, LATEST = -6e10, 6e10  # of clocks: the years 69 to 3871
Result = TypeVar("Result")
Method = TypeVar("Method", bound=Callable[..., Any])

RESERVED: Final = "reserved"
CHARGED: Final = "charged"
REFUNDED: Final = "refunded"
REFUSED: Final = "refused"
EXPIRED: Final = "expired"
COUNTED = (RESERVED, CHARGED)
STATUSES = (RESERVED, CHARGED, REFUNDED, REFUSED, EXPIRED)


class Row(NamedTuple):
    """A step as it is stored.

    `cost` counts now, `reserved` was requested first; `accounts` names the counter of each budget; `expires` is the
    time at which a reservation ends, in seconds since 1970.
    """

    status: Status
    cost: Units
    reserved: Units
    accounts: tuple[str, ...]
    expires: float | None = None


class Settings(NamedTuple):
    """What a ledger was made with. `first` holds the limits before any was raised."""

    identity: str
    overrun: Overrun
    budgets: tuple[Budget, ...]
    first: Units


class Transaction(Protocol):
    """Reads and writes that happen together or not at all."""

    def settings(self) -> Settings:
        """The ledger's settings, with its present limits."""

    def now(self) -> float:
        """Seconds since 1970, by the clock of the store."""

    def write_limit(self, place: int, limit: int) -> None:
        """Set the limit of the budget at `place`."""

    def find_entry(self, key: Key) -> Row | None:
        """A step, or None."""

    def write_entry(self, key: Key, row: Row) -> None:
        """Set a step."""

    def entries(self) -> list[tuple[Key, Row]]:
        """All steps, in the order of their first request."""

    def due_entries(self, now: float) -> list[tuple[Key, Row]]:
        """Reservations that expire at `now` or before."""

    def read_used(self, accounts: Sequence[str]) -> list[int]:
        """Units that each counter holds; 0 where there is none yet."""

    def add_used(self, account: str, units: int, most: int) -> None:
        """Add to a counter, at most up to `most`; units < 0 are given back."""

    def find_record(self, kind: str, key: Key) -> str | None:
        """Content of a record, or None."""

    def write_record(self, kind: str, key: Key, state: str, content: str) -> None:
        """Set a record."""

    def records(self, kind: str, state: str | None = None) -> list[tuple[Key, str]]:
        """Records of a kind (in a state), in the order of their first write."""


class Store(Protocol):
    """Where a ledger is stored: memory, a file, a server."""

    def write(self, work: Callable[[Transaction], Result]) -> Result:
        """Do `work` in a transaction that no other one overlaps: kept when it returns, dropped when it raises."""

    def read(self, work: Callable[[Transaction], Result]) -> Result:
        """Do `work`, which only reads, in a transaction that sees one state of the store."""


class UnusableLedgerError(ValueError):
    """A ledger is damaged, was replaced by another one, or lost its tables; nothing that a caller could correct."""


class DamageError(Exception):
    """A table holds what no ledger wrote; the store adds its own name."""


def parses(method: Method) -> Method:
    """Turn errors about stored values into DamageError."""

    @functools.wraps(method)
    def parse(*arguments: Any) -> Any:
        try:
            return method(*arguments)
        except (ValueError, TypeError, AttributeError, LookupError) as error:
            raise DamageError(str(error)) from error

    return parse  # type: ignore[return-value]


def check_id(value: Any, name: str) -> None:
    """Raise where `value` cannot name a run, a step or a scope."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise TypeError(f"{name} is {value!r}; expected str or int")
    if isinstance(value, int):
        if not -LARGEST <= value <= LARGEST:
            raise ValueError(f"{name} is {value}; expected at most 64 bits")
    elif not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value):
        raise ValueError(f"{name} is {value!r}; a surrogate is not a character")


def as_key(run_id: Any, step_id: Any) -> Key:
    """The key of a step, checked; subclasses of str and int become plain ones."""
    check_id(run_id, "run_id")
    check_id(step_id, "step_id")
    return _plain(run_id), _plain(step_id)


def _plain(value: str | int) -> str | int:
    return str.__str__(value) if isinstance(value, str) else int(value)


_ENCODER = json.JSONEncoder(separators=(",", ":"))


def read_clock(clock: Clock) -> float:
    """Seconds since 1970 by a user's clock; milliseconds would make all periods and time limits pass at once."""
    found = clock()
    seconds = one_number(found, "the clock", "seconds since 1970")
    if not EARLIEST <= seconds <= LATEST:
        raise ValueError(f"the clock is {found!r}; expected seconds since 1970")
    return seconds


def encode(value: Any) -> str:
    """JSON in ASCII, so that 1 and "1" differ and every text can be stored."""
    return _ENCODER.encode(value)
