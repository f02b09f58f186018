"""A ledger on a PostgreSQL server, shared by machines."""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
import uuid
import weakref
import zlib
from collections.abc import Callable, Sequence
from typing import Any

from selfreg._util.extras import require_extra
from selfreg.runtime.ledger.accounts import same_settings
from selfreg.runtime.ledger.budgets import Budget, as_budgets
from selfreg.runtime.ledger.ledger import Ledger, Limits, parse_overrun
from selfreg.runtime.ledger.sql import TABLES, SQLTransaction
from selfreg.runtime.ledger.store import (
    Clock,
    DamageError,
    Overrun,
    Result,
    Settings,
    Transaction,
    UnusableLedgerError,
    read_clock,
)

with require_extra("postgres", "PostgresLedger"):
    import psycopg

RETRY_AFTER = 0.05  # seconds, doubled with each try


class PostgresLedger(Ledger):
    """The same ledger on a PostgreSQL server.

    Each call is one transaction. One row of the ledger is locked while a call writes, so that calls queue up. Where a
    connection breaks, the call is repeated until `timeout`: whatever was committed before, a repeated call pays
    nothing. Each thread and process has a connection of its own; the object may be forked and pickled.

    Parameters
    ----------
    conninfo : str
        As of psycopg: ``"postgresql://user@host/database"`` or ``"host=... dbname=..."``.
    limits : int, sequence of int, Budget, or sequence of Budget, optional
        As of `SQLiteLedger`.
    schema : str
        Made where it does not exist; one holds one ledger.
    timeout : float
        Seconds to wait for other transactions, or for a server that does not answer, before TimeoutError.
    overrun : {"refuse", "record"}, optional
        As of `Ledger`; stored on the server.
    clock : callable, optional
        Seconds since 1970; by default the clock of the server.

    Raises
    ------
    ImportError
        psycopg is missing: install the extra 'postgres'.
    TypeError, ValueError
        As for `SQLiteLedger`.
    UnusableLedgerError
        As for `SQLiteLedger`; also where the tables were deleted.
    TimeoutError
        The ledger was locked, or the server not reachable, for longer than `timeout`. Nothing was paid twice; try
        again.

    Examples
    --------
    >>> from selfreg.runtime import PostgresLedger
    >>> ledger = PostgresLedger("postgresql:///agents", limits=100)  # doctest: +SKIP
    >>> ledger.charge("run 1", 0, 1), ledger.left  # doctest: +SKIP
    (True, (99,))
    """

    def __init__(
        self,
        conninfo: str,
        limits: Limits | None = None,
        *,
        schema: str = "selfreg",
        timeout: float = 30.0,
        overrun: Overrun | None = None,
        clock: Clock | None = None,
    ) -> None:
        if not re.fullmatch("[a-z_][a-z0-9_]{0,62}", schema):
            raise ValueError(f"schema is {schema!r}; expected lower-case letters, digits and underscores")
        if not timeout >= 0:
            raise ValueError(f"timeout is {timeout!r}; expected seconds >= 0")
        wanted = None if limits is None else as_budgets(limits)
        store = PostgresStore(conninfo, schema, min(timeout, 2_000_000.0), clock)
        store.open(wanted, None if overrun is None else parse_overrun(overrun))
        self._open(store)


class PostgresStore:
    """Tables in a schema of a database."""

    def __init__(self, conninfo: str, schema: str, timeout: float, clock: Clock | None) -> None:
        self.conninfo, self.schema, self.timeout, self.clock = conninfo, schema, timeout, clock
        self.identity: str | None = None
        self._local = threading.local()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_local"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._local = threading.local()

    def open(self, wanted: tuple[Budget, ...] | None, overrun: Overrun | None) -> None:
        """Make the tables, or open those that have the wanted settings."""
        settings = self._retry(lambda tables: self._make(tables, wanted, overrun))
        same_settings(f"schema {self.schema!r}", settings, wanted, overrun)
        self.identity = settings.identity

    def _make(self, tables: ServerTransaction, wanted: tuple[Budget, ...] | None, overrun: Overrun | None) -> Settings:
        # Who makes the same schema at the same moment waits here.
        tables.run("SELECT pg_advisory_xact_lock(?)", (zlib.crc32(self.schema.encode()),))
        if tables.run("SELECT 1 WHERE to_regclass(?) IS NULL", (f"{self.schema}.ledger",)).fetchone():
            if wanted is None:
                raise ValueError(f"schema {self.schema!r} has no ledger; give its limits to make it")
            tables.run(f'CREATE SCHEMA IF NOT EXISTS "{self.schema}"')
            for statement in TABLES.split(";")[:-1]:
                serial = "BIGINT GENERATED ALWAYS AS IDENTITY"
                tables.run(statement.replace("{serial}", serial).replace("{real}", "DOUBLE PRECISION"))
            tables.make(uuid.uuid4().hex, overrun or "refuse", wanted)
        return tables.settings()

    def write(self, work: Callable[[Transaction], Result]) -> Result:
        """Do `work` while the ledger's row is locked."""
        return self._retry(lambda tables: work(self._check(tables, " FOR UPDATE")))

    def read(self, work: Callable[[Transaction], Result]) -> Result:
        """Do `work` in a snapshot."""
        return self._retry(lambda tables: work(self._check(tables, "")), "REPEATABLE READ READ ONLY")

    def _check(self, tables: ServerTransaction, lock: str) -> ServerTransaction:
        found = tables.run(f"SELECT identity FROM {{t}}ledger{lock}").fetchone()
        if found is None or found[0] != self.identity:
            raise UnusableLedgerError(f"schema {self.schema!r}: the ledger was replaced by another one; open it anew")
        return tables

    def _retry(self, work: Callable[[ServerTransaction], Result], level: str = "READ COMMITTED") -> Result:
        """Do `work` in a transaction, again where the connection breaks: all work of a ledger may be repeated."""
        end, pause = time.monotonic() + self.timeout, RETRY_AFTER
        while True:
            try:
                return self._once(work, level)
            except (psycopg.errors.LockNotAvailable, psycopg.errors.QueryCanceled) as error:
                raise TimeoutError(f"schema {self.schema!r}: locked for over {self.timeout:g} s") from error
            except (psycopg.OperationalError, psycopg.InterfaceError) as error:
                self._disconnect()
                if time.monotonic() + pause > end:
                    raise TimeoutError(f"no answer from the server for {self.timeout:g} s ({error})") from error
                time.sleep(pause)
                pause = min(2 * pause, 1.0)
            except psycopg.errors.UndefinedTable as error:
                raise UnusableLedgerError(f"schema {self.schema!r}: its tables were deleted ({error})") from error
            except DamageError as error:
                raise UnusableLedgerError(
                    f"schema {self.schema!r}: not a ledger, or a damaged one ({error})"
                ) from error
            except psycopg.Error as error:
                raise OSError(f"schema {self.schema!r}: {error}") from error

    def _once(self, work: Callable[[ServerTransaction], Result], level: str) -> Result:
        connection, ended = self._connection(), False
        try:
            connection.execute(f"BEGIN ISOLATION LEVEL {level}")
            result = work(ServerTransaction(connection, self.schema, self.clock))
            connection.execute("COMMIT")
            ended = True
            return result
        finally:
            if not ended:
                # Also where a signal came between two statements.
                try:
                    connection.execute("ROLLBACK")
                except BaseException:
                    self._disconnect()

    def _connection(self) -> psycopg.Connection[Any]:
        mine: _Held | None = getattr(self._local, "mine", None)
        if mine is None or mine.process != os.getpid():
            connection = psycopg.connect(self.conninfo, autocommit=True, connect_timeout=max(2, int(self.timeout)))
            mine = self._local.mine = _Held(connection)
            wait = max(1, int(1000 * self.timeout))
            connection.execute(f"SET lock_timeout = {wait}; SET synchronous_commit = on")
        return mine.connection

    def _disconnect(self) -> None:
        self._local.mine = None


class _Held:
    """A connection that is closed with its thread; one of a parent process is left to the parent."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self.connection, self.process = connection, os.getpid()
        weakref.finalize(self, _close, connection, self.process)


def _close(connection: psycopg.Connection[Any], process: int) -> None:
    if process == os.getpid():
        with contextlib.suppress(psycopg.Error):
            connection.close()


class ServerTransaction(SQLTransaction):
    """A transaction of a connection to a server."""

    def __init__(self, connection: psycopg.Connection[Any], schema: str, clock: Clock | None) -> None:
        self._connection, self._prefix, self._clock = connection, f'"{schema}".', clock
        self._now: float | None = None

    def run(self, statement: str, values: Sequence[Any] = ()) -> psycopg.Cursor[Any]:
        text = statement.replace("{t}", self._prefix).replace("?", "%s")
        return self._connection.execute(text, values or None)

    def now(self) -> float:
        if self._now is None:
            query = "SELECT extract(epoch FROM clock_timestamp())::float8"
            self._now = read_clock(self._clock) if self._clock else float(self.run(query).fetchone()[0])  # type: ignore[index]
        return self._now
