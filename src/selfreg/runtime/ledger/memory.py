"""A store in memory: gone with its process, shared by its threads."""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from selfreg.runtime.ledger.budgets import Budget
from selfreg.runtime.ledger.store import Clock, Key, Overrun, Result, Row, Settings, Transaction, read_clock

Tables: TypeAlias = dict[str, dict[Any, Any]]
TABLES = ("settings", "entry", "due", "account", "record")


class MemoryStore:
    """Tables in memory, with a redo log: a signal may interrupt any line, and nothing is half done."""

    def __init__(self, budgets: tuple[Budget, ...], overrun: Overrun, clock: Clock | None = None) -> None:
        first = tuple(one.limit for one in budgets)
        self.clock = clock or time.time
        self.tables: Tables = {name: {} for name in TABLES}
        self.tables["settings"][0] = Settings(uuid.uuid4().hex, overrun, budgets, first)
        # What was committed and may not be in the tables yet.
        self.redo: Tables | None = None
        self._locks: dict[int, threading.Lock] = {}

    def lock(self) -> threading.Lock:
        """The lock of this process: in a child, nobody would release one that a thread of its parent holds."""
        return self._locks.setdefault(os.getpid(), threading.Lock())

    def write(self, work: Callable[[Transaction], Result]) -> Result:
        """Do `work`; others wait. One assignment commits it."""
        # A plain `with` on the lock: no signal is handled between taking the lock and the block, as it would be in a
        # context manager written in Python.
        with self.lock():
            self._apply_redo()
            transaction = MemoryTransaction(self)
            result = work(transaction)
            if any(transaction.rows.values()):
                self.redo = transaction.rows
                self._apply_redo()
            return result

    read = write

    def _apply_redo(self) -> None:
        """Bring committed rows into the tables; may be repeated."""
        if self.redo is not None:
            for name, rows in self.redo.items():
                self.tables[name].update(rows)
            for key, expires in self.redo["due"].items():
                if expires is None:
                    self.tables["due"].pop(key, None)
            self.redo = None

    def __getstate__(self) -> dict[str, Any]:
        with self.lock():
            self._apply_redo()
            return {"clock": self.clock, "tables": {name: dict(rows) for name, rows in self.tables.items()}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.clock, self.tables = state["clock"], state["tables"]
        self.redo, self._locks = None, {}


class MemoryTransaction:
    """Reads tables and the rows that it wrote."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self.rows: Tables = {name: {} for name in TABLES}

    def _get(self, table: str, key: Any) -> Any:
        rows = self.rows[table]
        return rows[key] if key in rows else self._store.tables[table].get(key)

    def _all(self, table: str) -> dict[Any, Any]:
        return {**self._store.tables[table], **self.rows[table]}

    def settings(self) -> Settings:
        found: Settings = self._get("settings", 0)
        return found

    def now(self) -> float:
        return read_clock(self._store.clock)

    def write_limit(self, place: int, limit: int) -> None:
        before = self.settings()
        budgets = list(before.budgets)
        budgets[place] = replace(budgets[place], limit=limit)
        self.rows["settings"][0] = before._replace(budgets=tuple(budgets))

    def find_entry(self, key: Key) -> Row | None:
        found: Row | None = self._get("entry", key)
        return found

    def write_entry(self, key: Key, row: Row) -> None:
        self.rows["entry"][key] = row
        if row.expires is not None or self._get("due", key) is not None:
            self.rows["due"][key] = row.expires

    def entries(self) -> list[tuple[Key, Row]]:
        return list(self._all("entry").items())

    def due_entries(self, now: float) -> list[tuple[Key, Row]]:
        due = [key for key, expires in self._all("due").items() if expires is not None and expires <= now]
        return [(key, self._get("entry", key)) for key in due]

    def read_used(self, accounts: Sequence[str]) -> list[int]:
        return [self._get("account", name) or 0 for name in accounts]

    def add_used(self, account: str, units: int, most: int) -> None:
        total = (self._get("account", account) or 0) + units
        assert 0 <= total <= most, f"counter {account} would be {total}"
        self.rows["account"][account] = total

    def find_record(self, kind: str, key: Key) -> str | None:
        found = self._get("record", (kind, key))
        return None if found is None else str(found[1])

    def write_record(self, kind: str, key: Key, state: str, content: str) -> None:
        self.rows["record"][kind, key] = state, content

    def records(self, kind: str, state: str | None = None) -> list[tuple[Key, str]]:
        rows = self._all("record").items()
        return [(key, content) for (k, key), (s, content) in rows if k == kind and state in (None, s)]
