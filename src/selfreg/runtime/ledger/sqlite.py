"""A ledger in a file: one SQLite transaction a call."""

from __future__ import annotations

import errno
import os
import random
import sqlite3
import threading
import time
import uuid
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias

from selfreg.runtime.ledger.accounts import same_settings
from selfreg.runtime.ledger.budgets import Budget, as_budgets, one_number
from selfreg.runtime.ledger.forks import SQLITE_GATE
from selfreg.runtime.ledger.ledger import Ledger, Limits, parse_overrun
from selfreg.runtime.ledger.sql import SCHEMA, TABLES, SQLTransaction
from selfreg.runtime.ledger.store import (
    Clock,
    DamageError,
    Overrun,
    Result,
    Row,
    Settings,
    Transaction,
    UnusableLedgerError,
    encode,
    parses,
    read_clock,
)

APPLICATION = 0x5E1F4E60  # marks our files among other databases
LONGEST = 2_000_000.0  # seconds: SQLite counts milliseconds in 32 bits
LONGEST_PAUSE = 0.005  # seconds between two tries to lock the file
MOST_IDLE = 4  # connections that are kept
Stamp: TypeAlias = "tuple[int, int, int, int]"


class SQLiteLedger(Ledger):
    """The same ledger in a file, shared by threads and processes, and there after a crash.

    Each call is one SQLite transaction that has reached the disk before it is answered. The file is in rollback-journal
    mode, since write-ahead logs cannot be shared over a network; there too it is only as safe as the locks of that file
    system. A connection is kept between calls, as long as nobody else writes to the file. The object may be forked and
    pickled: each process makes connections of its own.

    Parameters
    ----------
    path : path
        Made where it does not exist; its folder must exist. A file of an earlier version is migrated.
    limits : int, sequence of int, Budget, or sequence of Budget, optional
        What may be spent, as of `Ledger`. May be left out for a file that exists; else must be as the file was made
        with, or as it is after limits were raised.
    timeout : float
        Seconds to wait for other processes before TimeoutError; more than 2,000,000, and inf, are 2,000,000.
    overrun : {"refuse", "record"}, optional
        As of `Ledger`; stored in the file.
    clock : callable, optional
        As of `Ledger`.

    Raises
    ------
    TypeError
        A limit or cost is not a whole number, or a `run_id` or `step_id` is neither str nor int.
    ValueError
        As for `Ledger`; `path` is something else than a ledger; the ledger has other limits.
    UnusableLedgerError
        A ValueError: the file is damaged, or was replaced by another ledger. Also raised by all methods.
    OSError
        The file was deleted (FileNotFoundError), is a folder (IsADirectoryError), or cannot be read or written; with
        ENOSPC the disk is full. What was answered before is intact.
    TimeoutError
        The file was locked for longer than `timeout`; nothing was done.

    Examples
    --------
    >>> import os, tempfile
    >>> from selfreg import SQLiteLedger
    >>> path = os.path.join(tempfile.mkdtemp(), "ledger.sqlite")
    >>> SQLiteLedger(path, limits=2).reserve("run-1", 0, 1)
    True
    >>> again = SQLiteLedger(path)  # after a crash, say
    >>> again.left, again.entries("reserved")
    ((1,), [Entry(run_id='run-1', step_id=0, status='reserved', cost=(1,))])
    >>> again.charge("run-1", 0), again.left
    (True, (1,))
    """

    _store: SQLiteStore

    def __init__(
        self,
        path: str | os.PathLike[str],
        limits: Limits | None = None,
        timeout: float = 30.0,
        *,
        overrun: Overrun | None = None,
        clock: Clock | None = None,
    ) -> None:
        if not one_number(timeout, "timeout", "seconds >= 0") >= 0:
            raise ValueError(f"timeout is {timeout!r}; expected seconds >= 0")
        wanted = None if limits is None else as_budgets(limits)
        store = SQLiteStore(Path(path).absolute(), min(timeout, LONGEST), clock or time.time)
        store.open(wanted, None if overrun is None else parse_overrun(overrun))
        self._open(store)

    @property
    def path(self) -> Path:
        """The file of the ledger."""
        return self._store.path


class Connections:
    """Connections to a file that are open and not in use.

    One is taken again only while the file is the one that it left: files are moved, replaced, restored and damaged, and
    what SQLite remembers of a file would hide that. Those of a parent process are never touched, as SQLite demands.
    """

    def __init__(self, path: Path, timeout: float) -> None:
        self._path, self._timeout = path, timeout
        self._idle: dict[int, list[tuple[sqlite3.Connection, Stamp]]] = {}
        weakref.finalize(self, _close_idle, self._idle)

    def take(self, mode: str | None = None) -> tuple[sqlite3.Connection, Stamp | None]:
        """A connection, and what its file was like before it was taken; None where there was none.

        `mode`, as in a URI of SQLite, means a new one.
        """
        stamp = _stamp(self._path)
        idle = self._idle.get(os.getpid(), [])
        with suppress(IndexError):  # none is left: other threads take them too
            while mode is None:
                connection, left = idle.pop()
                if left == stamp:
                    return connection, stamp
                connection.close()
        place = f"{self._path.as_uri()}?mode={mode or 'rw'}"
        connection = sqlite3.connect(
            place, timeout=self._timeout, isolation_level=None, uri=True, check_same_thread=False
        )
        try:
            # An answer must outlive a loss of power: EXTRA also syncs the folder of the deleted journal.
            connection.execute("PRAGMA synchronous = EXTRA")
            connection.execute("PRAGMA fullfsync = ON")
        except BaseException:
            connection.close()
            raise
        return connection, stamp

    def give_back(self, connection: sqlite3.Connection, before: Stamp | None) -> None:
        """Keep a connection without a transaction for the next call, unless its file was replaced meanwhile."""
        stamp = _stamp(self._path)
        idle = self._idle.setdefault(os.getpid(), [])
        if stamp is None or before is None or stamp[:2] != before[:2] or len(idle) >= MOST_IDLE:
            connection.close()
        else:
            idle.append((connection, stamp))


def _stamp(path: Path) -> Stamp | None:
    """Device, number, size and time of a file; its number is not given to another file while it is open."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _close_idle(idle: dict[int, list[tuple[sqlite3.Connection, Stamp]]]) -> None:
    with SQLITE_GATE.inside():
        for connection, _ in idle.pop(os.getpid(), []):
            connection.close()


class SQLiteStore:
    """Tables in a file."""

    def __init__(self, path: Path, timeout: float, clock: Clock) -> None:
        self.path, self.timeout, self.clock = path, timeout, clock
        self.identity: str | None = None
        self._turns: dict[int, Any] = {}
        self._connections, self._luck = Connections(path, timeout), random.Random()

    def __reduce__(self) -> tuple[Any, ...]:
        return _same_store, (self.path, self.timeout, self.clock, self.identity)

    def open(self, wanted: tuple[Budget, ...] | None, overrun: Overrun | None) -> None:
        """Make the file, or open one that has the wanted settings."""
        if "\0" in str(self.path):
            raise ValueError(f"{str(self.path)!r}: a path cannot hold the character 0")
        if self.path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "is a folder; expected a file", str(self.path))
        if self.path.name == ":memory:":
            raise ValueError("':memory:' would be a file of that name; a ledger in memory is selfreg.Ledger(limits)")
        if self.path.exists() and not self.path.is_file():
            raise ValueError(f"{self.path}: not a regular file; it is left alone")
        if not self.path.parent.is_dir():
            raise ValueError(f"{self.path}: its folder does not exist")
        if wanted is None and not self.path.is_file():
            raise ValueError(f"{self.path}: no such ledger; give its limits to make it")
        mode = "rw" if wanted is None else "rwc"
        settings = self._transact("IMMEDIATE", lambda file: self._make(file, wanted, overrun), mode)
        same_settings(str(self.path), settings, wanted, overrun)
        self.identity = settings.identity

    def _make(self, file: FileTransaction, wanted: tuple[Budget, ...] | None, overrun: Overrun | None) -> Settings:
        # An empty file is what is left where a process was killed before its first commit.
        application, version = (file.number(f"PRAGMA {name}") for name in ("application_id", "user_version"))
        if not file.number("SELECT count(*) FROM sqlite_master"):
            if wanted is None:
                raise ValueError(f"{self.path}: an empty file; give the limits of the ledger to make it")
            file.make_tables(wanted, overrun or "refuse")
        elif (application, version) == (APPLICATION, 1):
            file.migrate(overrun or "refuse")
        elif (application, version) != (APPLICATION, SCHEMA):
            raise ValueError(f"{self.path}: a database, but not a ledger of schema {SCHEMA}; it is left alone")
        return file.settings()

    def write(self, work: Callable[[Transaction], Result]) -> Result:
        """Do `work` in a transaction that locks the file.

        SQLite polls a locked file at intervals of up to 100 ms; threads of one process take turns at once instead. The
        lock is that of the process, so that a child that is forked while a thread holds it does not wait for ever.
        """
        turn = self._turns.setdefault(os.getpid(), threading.RLock())
        # Ctrl-C may come right after the lock was taken, or before it is given back. It knows its owner, and is given
        # back here, at the latest by the next call.
        try:
            if not turn.acquire(timeout=self.timeout):
                raise TimeoutError(f"{self.path}: locked by others for over {self.timeout:g} s; nothing was done")
            return self._transact("IMMEDIATE", lambda file: work(self._check(file)))
        finally:
            while turn._is_owned():
                turn.release()

    def read(self, work: Callable[[Transaction], Result]) -> Result:
        """Do `work` in a transaction that sees one state of the file."""
        return self._transact("DEFERRED", lambda file: work(self._check(file)))

    def _check(self, file: FileTransaction) -> FileTransaction:
        try:
            found = file.run("SELECT identity FROM {t}ledger").fetchone()
        except sqlite3.OperationalError as error:
            if "no such table" not in str(error):
                raise
            found = None
        if found is None or found[0] != self.identity:
            raise UnusableLedgerError(f"{self.path}: the file was replaced by another ledger; open it anew")
        return file

    def _transact(self, kind: str, work: Callable[[FileTransaction], Result], mode: str | None = None) -> Result:
        with SQLITE_GATE.inside():
            connection = None
            try:
                connection, before = self._connections.take(mode)
                self._begin(connection, kind)
                result = work(FileTransaction(connection, self.clock))
                connection.execute("COMMIT")
                self._connections.give_back(connection, before)
                connection = None
                return result
            except sqlite3.Error as error:
                raise self._translate(error) from error
            except (UnicodeError, DamageError) as error:
                raise _damage(self.path, error) from error
            finally:
                if connection is not None:
                    connection.close()  # rolls back what was not committed

    def _begin(self, connection: sqlite3.Connection, kind: str) -> None:
        """Begin a transaction; wait for the lock of a writer as long as `timeout`.

        SQLite waits ever longer between its tries, so that who has waited longest comes last, or never. Here all try at
        the same rate.
        """
        if kind != "IMMEDIATE":
            connection.execute(f"BEGIN {kind}")
            return
        end = time.monotonic() + self.timeout
        connection.execute("PRAGMA busy_timeout = 0")
        while True:
            try:
                connection.execute(f"BEGIN {kind}")
                break
            except sqlite3.OperationalError as error:
                if "is locked" not in str(error) or time.monotonic() > end:
                    raise
            time.sleep(self._luck.uniform(0, LONGEST_PAUSE))
        connection.execute(f"PRAGMA busy_timeout = {round(1000 * self.timeout)}")  # for readers who are still there

    def _translate(self, error: sqlite3.Error) -> Exception:
        words = str(error)
        if "is locked" in words:
            return TimeoutError(f"{self.path}: locked by others for over {self.timeout:g} s; nothing was done")
        if "is full" in words:
            return OSError(errno.ENOSPC, "no room on disk; nothing was done", str(self.path))
        if self.path.is_dir():
            return IsADirectoryError(errno.EISDIR, "is a folder; expected a file", str(self.path))
        if not self.path.exists():
            return FileNotFoundError(errno.ENOENT, "the file was deleted or moved", str(self.path))
        damages = ("not a database", "malformed", "decode to UTF-8", "no such", "CHECK constraint", "unsupported")
        if any(damage in words for damage in damages):
            return _damage(self.path, error)
        return OSError(errno.EIO, f"{words}; try again, no step is paid for twice", str(self.path))


def _same_store(path: Path, timeout: float, clock: Clock, identity: str | None) -> SQLiteStore:
    """A store that was pickled."""
    store = SQLiteStore(path, timeout, clock)
    store.identity = identity
    return store


def _damage(path: Path, error: Exception) -> UnusableLedgerError:
    return UnusableLedgerError(f"{path}: not a ledger, or a damaged one ({error}); it is left alone")


class FileTransaction(SQLTransaction):
    """A transaction of a connection to a file."""

    def __init__(self, connection: sqlite3.Connection, clock: Clock) -> None:
        self._connection, self._clock = connection, clock

    def run(self, statement: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
        return self._connection.execute(statement.replace("{t}", ""), values)

    def now(self) -> float:
        return read_clock(self._clock)

    @parses
    def number(self, query: str) -> int:
        """The one number that a query gives."""
        return int(self.run(query).fetchone()[0])

    def make_tables(self, budgets: Sequence[Budget], overrun: Overrun) -> None:
        """Make the tables of a new ledger."""
        for statement in TABLES.split(";")[:-1]:
            self.run(statement.replace("{serial}", "INTEGER").replace("{real}", "REAL"))
        self.make(uuid.uuid4().hex, overrun, budgets)
        self.run(f"PRAGMA application_id = {APPLICATION}")
        self.run(f"PRAGMA user_version = {SCHEMA}")

    @parses
    def migrate(self, overrun: Overrun) -> None:
        """Bring the tables of schema 1 to the present one."""
        tops = self.run("SELECT top, used FROM budget ORDER BY place").fetchall()
        rows = self.run("SELECT run_id, step_id, status, cost FROM entry ORDER BY place").fetchall()
        for table in ("budget", "entry"):
            self.run(f"DROP TABLE {table}")
        self.make_tables(as_budgets([top for top, _ in tops]), overrun)
        accounts = tuple(encode([place, None, None]) for place in range(len(tops)))
        for name, (top, used) in zip(accounts, tops, strict=True):
            self.add_used(name, used, top)
        for run_id, step_id, status, words in rows:
            cost = tuple(map(int, words.split()))
            self.write_entry((run_id, step_id), Row(status, cost, cost, accounts))
