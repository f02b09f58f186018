"""A ledger in a file: one SQLite transaction a call."""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import time
from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path

from selfreg.runtime.ledger.memory import Book, Entry, Key, Ledger, Status, Units, check_units

LARGEST = 2**63 - 1  # what SQLite can hold

APPLICATION = 0x5E1F4E60  # marks files of this library
SCHEMA = 1
TABLES = """
CREATE TABLE budget (place INTEGER PRIMARY KEY, top INTEGER NOT NULL, used INTEGER NOT NULL,
    CHECK (0 <= used AND used <= top));
CREATE TABLE entry (place INTEGER PRIMARY KEY, run_id NOT NULL, step_id NOT NULL, status TEXT NOT NULL,
    cost TEXT NOT NULL, changed REAL NOT NULL, UNIQUE (run_id, step_id));
"""


class SQLiteLedger(Ledger):
    """A ledger in a file, shared by threads and processes, that survives crashes.

    Each call is one SQLite transaction, on disk before it returns. The file is in rollback-journal mode, since
    write-ahead logs cannot be shared over a network. On a network file system it is as safe as that system's locks.
    Each call opens the file, so that the object may be forked and pickled.

    Parameters
    ----------
    path : path
        Created if missing; its folder must exist.
    limits : int or sequence of int, optional
        Units that may be spent of each budget. Optional for an existing ledger; otherwise must match its limits.
    timeout : float
        Seconds to wait for other processes before TimeoutError.

    Raises
    ------
    TypeError
        A limit or cost is not a whole number, or a `run_id` or `step_id` is neither str nor int.
    ValueError
        As for `Ledger`; `path` is not a ledger, or a ledger with other limits.
    OSError
        The file cannot be read or written; with ENOSPC the disk is full. Earlier calls stay valid.
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
        wanted = None if limits is None else check_units(limits, "limits")
        if wanted is not None and max(wanted) > LARGEST:
            raise ValueError(f"limits is {limits}; expected at most {LARGEST}")
        if wanted is None and not self._path.is_file():
            raise ValueError(f"{path}: no such ledger; pass limits to create it")
        if not self._path.parent.is_dir():
            raise ValueError(f"{path}: its folder does not exist")
        self._limits = self._open_or_create(wanted)

    @property
    def path(self) -> Path:
        """File of the ledger."""
        return self._path

    def _open_or_create(self, wanted: Units | None) -> Units:
        # A process that was killed before its first commit leaves an empty file.
        with self._transaction("IMMEDIATE", "rw" if wanted is None else "rwc") as connection:
            application, schema = (_number(connection, f"PRAGMA {name}") for name in ("application_id", "user_version"))
            if not _number(connection, "SELECT count(*) FROM sqlite_master"):
                if wanted is None:
                    raise ValueError(f"{self._path}: an empty file; pass limits to create a ledger in it")
                self._make(connection, wanted)
            elif (application, schema) != (APPLICATION, SCHEMA):
                raise ValueError(f"{self._path}: a database, but not a ledger of schema {SCHEMA}; left unchanged")
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
                # Must survive a power failure: EXTRA also syncs the folder of the deleted journal.
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
            raise self._translate_error(error) from error

    def _translate_error(self, error: sqlite3.Error) -> Exception:
        words = str(error)
        if "is locked" in words:
            return TimeoutError(
                f"{self._path}: locked for over {self._timeout:g} s by another process; nothing was done"
            )
        if "is full" in words:
            return OSError(errno.ENOSPC, "disk full; nothing was done", str(self._path))
        if "not a database" in words or "malformed" in words:
            return ValueError(f"{self._path}: not a ledger, or damaged ({words}); left unchanged")
        return OSError(errno.EIO, f"{words}; retry, no step is charged twice", str(self._path))

    @contextlib.contextmanager
    def _writing(self) -> Iterator[Book]:
        with self._transaction("IMMEDIATE") as connection:
            yield _FileBook(connection)

    @contextlib.contextmanager
    def _reading(self) -> Iterator[Book]:
        with self._transaction("DEFERRED") as connection:
            yield _FileBook(connection)

    def _all(self) -> list[Entry]:
        with self._transaction("DEFERRED") as connection:
            rows = connection.execute("SELECT run_id, step_id, status, cost FROM entry ORDER BY place")
            return [Entry(run, step, status, _parse_cost(cost)) for run, step, status, cost in rows]


class _FileBook:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def find(self, key: Key) -> tuple[Status, Units] | None:
        rows = self._connection.execute("SELECT status, cost FROM entry WHERE run_id = ? AND step_id = ?", key)
        row = rows.fetchone()
        return None if row is None else (row[0], _parse_cost(row[1]))

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


def _number(connection: sqlite3.Connection, query: str) -> int:
    return int(connection.execute(query).fetchone()[0])


def _parse_cost(cost: str) -> Units:
    return tuple(map(int, cost.split()))
