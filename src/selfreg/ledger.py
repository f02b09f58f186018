"""What is left of the budget: paid once a step, never overspent, in memory or in a file that outlives the process.

A step is known by ``(run_id, step_id)``, and its story only goes forward: ``reserved``, then ``charged`` or
``refunded``; or ``refused`` at once. What was refused or refunded stays so: a step that is executed again goes the way
that it went before, and a message that comes twice or late changes nothing. Whoever wants to try once more asks under a
new ``step_id``.

After a crash between `reserve` and `charge` nobody can know whether help was given. The rule: **the reservation stays
held**, which counts as spent, until it is charged or refunded: by the step itself when it is executed again (its
`reserve` is answered as before and takes nothing), or by whoever reads `entries` and knows better. No lease gives it
back after some time: a process that is only slow would then get help that nobody counted.
"""

from __future__ import annotations

import contextlib
import errno
import operator
import os
import sqlite3
import threading
import time
from collections.abc import Hashable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, Literal, NamedTuple, Protocol, TypeAlias

Status: TypeAlias = Literal["reserved", "charged", "refunded", "refused"]
Units: TypeAlias = tuple[int, ...]
Key: TypeAlias = tuple[Hashable, Hashable]

RESERVED: Final = "reserved"
CHARGED: Final = "charged"
REFUNDED: Final = "refunded"
REFUSED: Final = "refused"
COUNTED = (RESERVED, CHARGED)
LARGEST = 2**63 - 1  # what SQLite can hold

APPLICATION = 0x5E1F4E60  # tells our files from other databases
SCHEMA = 1
TABLES = """
CREATE TABLE budget (place INTEGER PRIMARY KEY, top INTEGER NOT NULL, used INTEGER NOT NULL,
    CHECK (0 <= used AND used <= top));
CREATE TABLE entry (place INTEGER PRIMARY KEY, run_id NOT NULL, step_id NOT NULL, status TEXT NOT NULL,
    cost TEXT NOT NULL, changed REAL NOT NULL, UNIQUE (run_id, step_id));
"""


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


class _Book(Protocol):
    """What one transaction sees of a ledger."""

    def find(self, key: Key) -> tuple[Status, Units] | None:
        """Status and cost of a step."""

    def write(self, key: Key, status: Status, cost: Units) -> None:
        """Set status and cost of a step."""

    def left(self) -> Units:
        """What is left of each budget."""

    def use(self, cost: Sequence[int]) -> None:
        """Take units, or give back negative ones."""


class Ledger:
    """Budgets of one run (or of many that share them), safe to use from several threads.

    Parameters
    ----------
    limits : int or sequence of int
        What may be spent of each budget; one int stands for one budget.

    Raises
    ------
    TypeError
        A limit or cost is not a whole number.
    ValueError
        A limit or cost is negative, or there is not one cost for each budget.

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
        self._limits = units(limits, "limits")
        self._book = _MemoryBook(self._limits)
        self._lock = threading.Lock()

    @property
    def limits(self) -> Units:
        """What may be spent of each budget in all."""
        return self._limits

    @property
    def left(self) -> Units:
        """What is left of each budget now: neither charged nor held by a reservation."""
        with self._reading() as book:
            return book.left()

    def reserve(self, run_id: Hashable, step_id: Hashable, cost: int | Sequence[int]) -> bool:
        """Hold `cost` for a step before help is called; `charge` or `refund` settles it.

        Parameters
        ----------
        run_id, step_id : hashable
            Together the identity of the step that is paid for.
        cost : int or sequence of int
            Units of each budget.

        Returns
        -------
        bool
            True where the step is paid for, now or before. False where the cost is more than what is left of any
            budget, and where the step was refused or refunded before.

        Raises
        ------
        TypeError, ValueError
            As for the limits, and ValueError where the step came before at another cost.
        """
        return self._take(run_id, step_id, self._units(cost), RESERVED)

    def charge(self, run_id: Hashable, step_id: Hashable, cost: int | Sequence[int] | None = None) -> bool:
        """Pay for a step, once: what was reserved for it or, where nothing was, `cost` at once.

        Parameters
        ----------
        run_id, step_id : hashable
        cost : int or sequence of int, optional
            May be left out where the step was reserved.

        Returns
        -------
        bool
            As of `reserve`; a repeated call gets the first answer and pays nothing.

        Raises
        ------
        TypeError, ValueError
            As of `reserve`, and ValueError where `cost` is left out for a step that was never reserved.
        """
        return self._take(run_id, step_id, None if cost is None else self._units(cost), CHARGED)

    def refund(self, run_id: Hashable, step_id: Hashable) -> bool:
        """Give back what a step holds or has paid, for good.

        Returns
        -------
        bool
            True where the step is refunded, now or before; False where it never held anything.
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
        """Steps of the ledger, in the order of their first request; those of one status if asked.

        ``entries("reserved")`` is what a crash left neither charged nor refunded, and what is under way.
        """
        return [entry for entry in self._all() if status is None or entry.status == status]

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
        spent = units(cost, "cost")
        if len(spent) != len(self._limits):
            raise ValueError(
                f"cost {spent} has {len(spent)} entries; expected one for each of {len(self._limits)} budgets"
            )
        return spent

    # ---- where it is kept

    def _key(self, run_id: Hashable, step_id: Hashable) -> Key:
        return run_id, step_id

    @contextlib.contextmanager
    def _writing(self) -> Iterator[_Book]:
        """A transaction: its changes are kept whole when the block ends well, and dropped otherwise."""
        with self._lock:
            yield self._book

    @contextlib.contextmanager
    def _reading(self) -> Iterator[_Book]:
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


class SQLiteLedger(Ledger):
    """The same ledger in a file, shared by threads and processes, and there after a crash.

    Each call is one SQLite transaction that has reached the disk before it is answered. The file is in rollback-journal
    mode, since write-ahead logs cannot be shared over a network; there too it is only as safe as the locks of that file
    system. Each call opens the file anew, so that the object may be forked and pickled.

    Parameters
    ----------
    path : path
        Made where it does not exist; its folder must exist.
    limits : int or sequence of int, optional
        What may be spent of each budget. May be left out for a ledger that is there already; else must be as it was.
    timeout : float
        Seconds to wait for other processes before TimeoutError.

    Raises
    ------
    TypeError
        A limit or cost is not a whole number, or a `run_id` or `step_id` is neither str nor int.
    ValueError
        As for `Ledger`; `path` is something else than a ledger; the ledger has other limits.
    OSError
        The file cannot be read or written; with ENOSPC the disk is full. What was answered before is intact.
    TimeoutError
        The file was locked for longer than `timeout`; nothing was done.

    Examples
    --------
    >>> import os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "ledger.sqlite")
    >>> SQLiteLedger(path, limits=2).reserve("run-1", 0, 1)
    True
    >>> again = SQLiteLedger(path)  # after a crash, say
    >>> again.left, again.entries("reserved")
    ((1,), [Entry(run_id='run-1', step_id=0, status='reserved', cost=(1,))])
    >>> again.charge("run-1", 0), again.left
    (True, (1,))
    """

    def __init__(
        self, path: str | os.PathLike[str], limits: int | Sequence[int] | None = None, timeout: float = 30.0
    ) -> None:
        if not timeout >= 0:
            raise ValueError(f"timeout is {timeout!r}; expected seconds >= 0")
        self._path, self._timeout = Path(path).absolute(), timeout
        wanted = None if limits is None else units(limits, "limits")
        if wanted is not None and max(wanted) > LARGEST:
            raise ValueError(f"limits is {limits}; expected at most {LARGEST}")
        if wanted is None and not self._path.is_file():
            raise ValueError(f"{path}: no such ledger; give its limits to make it")
        if not self._path.parent.is_dir():
            raise ValueError(f"{path}: its folder does not exist")
        self._limits = self._found_or_made(wanted)

    @property
    def path(self) -> Path:
        """Where the ledger is kept."""
        return self._path

    def _found_or_made(self, wanted: Units | None) -> Units:
        # An empty file is what is left where a process was killed before its first commit.
        with self._transaction("IMMEDIATE", "rw" if wanted is None else "rwc") as connection:
            application, schema = (_number(connection, f"PRAGMA {name}") for name in ("application_id", "user_version"))
            if not _number(connection, "SELECT count(*) FROM sqlite_master"):
                if wanted is None:
                    raise ValueError(f"{self._path}: no ledger is in it yet; give its limits to make it")
                self._make(connection, wanted)
            elif (application, schema) != (APPLICATION, SCHEMA):
                raise ValueError(f"{self._path}: a database, but no ledger of schema {SCHEMA}; it is left alone")
            limits = tuple(top for (top,) in connection.execute("SELECT top FROM budget ORDER BY place"))
        if wanted is not None and limits != wanted:
            raise ValueError(f"{self._path}: the ledger has limits {limits}; expected {wanted}")
        return limits

    @staticmethod
    def _make(connection: sqlite3.Connection, limits: Units) -> None:
        for statement in TABLES.split(";")[:-1]:
            connection.execute(statement)
        connection.executemany("INSERT INTO budget VALUES (?, ?, 0)", enumerate(limits))
        connection.execute(f"PRAGMA application_id = {APPLICATION}")
        connection.execute(f"PRAGMA user_version = {SCHEMA}")

    def _key(self, run_id: Hashable, step_id: Hashable) -> Key:
        for name, value in (("run_id", run_id), ("step_id", step_id)):
            if isinstance(value, bool) or not isinstance(value, str | int):
                raise TypeError(f"{name} is {value!r}; a ledger in a file takes str or int")
            if isinstance(value, int) and not -LARGEST <= value <= LARGEST:
                raise ValueError(f"{name} is {value}; expected at most 64 bits")
        return run_id, step_id

    @contextlib.contextmanager
    def _transaction(self, kind: str, mode: str = "rw") -> Iterator[sqlite3.Connection]:
        try:
            place = f"{self._path.as_uri()}?mode={mode}"
            connection = sqlite3.connect(place, timeout=self._timeout, isolation_level=None, uri=True)
            with contextlib.closing(connection):
                # An answer must outlive a loss of power: EXTRA also syncs the folder of the deleted journal.
                connection.execute("PRAGMA synchronous = EXTRA")
                connection.execute("PRAGMA fullfsync = ON")
                connection.execute(f"BEGIN {kind}")
                try:
                    yield connection
                except BaseException:
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
                    raise
                connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise self._in_words(error) from error

    def _in_words(self, error: sqlite3.Error) -> Exception:
        words = str(error)
        if "is locked" in words:
            return TimeoutError(f"{self._path}: locked by others for over {self._timeout:g} s; nothing was done")
        if "is full" in words:
            return OSError(errno.ENOSPC, "no room on disk; nothing was done", str(self._path))
        if "not a database" in words or "malformed" in words:
            return ValueError(f"{self._path}: not a ledger, or a damaged one ({words}); it is left alone")
        return OSError(errno.EIO, f"{words}; ask again, no step is paid for twice", str(self._path))

    @contextlib.contextmanager
    def _writing(self) -> Iterator[_Book]:
        with self._transaction("IMMEDIATE") as connection:
            yield _FileBook(connection)

    @contextlib.contextmanager
    def _reading(self) -> Iterator[_Book]:
        with self._transaction("DEFERRED") as connection:
            yield _FileBook(connection)

    def _all(self) -> list[Entry]:
        with self._transaction("DEFERRED") as connection:
            rows = connection.execute("SELECT run_id, step_id, status, cost FROM entry ORDER BY place")
            return [Entry(run, step, status, _parsed(cost)) for run, step, status, cost in rows]


class _FileBook:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def find(self, key: Key) -> tuple[Status, Units] | None:
        rows = self._connection.execute("SELECT status, cost FROM entry WHERE run_id = ? AND step_id = ?", key)
        row = rows.fetchone()
        return None if row is None else (row[0], _parsed(row[1]))

    def write(self, key: Key, status: Status, cost: Units) -> None:
        self._connection.execute(
            "INSERT INTO entry (run_id, step_id, status, cost, changed) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET status = excluded.status, changed = excluded.changed",
            (*key, status, " ".join(map(str, cost)), time.time()),
        )

    def left(self) -> Units:
        return tuple(have for (have,) in self._connection.execute("SELECT top - used FROM budget ORDER BY place"))

    def use(self, cost: Sequence[int]) -> None:
        self._connection.executemany(
            "UPDATE budget SET used = used + ? WHERE place = ?", [(unit, i) for i, unit in enumerate(cost)]
        )


def units(value: int | Sequence[int], name: str) -> Units:
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
        raise ValueError(f"{name} is {value!r}; expected no negative number")
    return whole


def _number(connection: sqlite3.Connection, query: str) -> int:
    return int(connection.execute(query).fetchone()[0])


def _parsed(cost: str) -> Units:
    return tuple(map(int, cost.split()))
