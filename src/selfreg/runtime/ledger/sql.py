"""Tables and statements that SQLite and PostgreSQL share."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from selfreg.runtime.ledger.budgets import LARGEST, Budget
from selfreg.runtime.ledger.store import COUNTED, STATUSES, Key, Row, Settings, encode, parses

SCHEMA = 2
# Ids and counters are JSON, so that 1 and "1" differ.
TABLES = f"""
CREATE TABLE {{t}}ledger (identity TEXT NOT NULL, format INTEGER NOT NULL CHECK (format = {SCHEMA}),
    overrun TEXT NOT NULL CHECK (overrun IN ('refuse', 'record')));
CREATE TABLE {{t}}budget (place INTEGER PRIMARY KEY, unit TEXT NOT NULL, scope TEXT NOT NULL, period TEXT NOT NULL,
    timezone TEXT NOT NULL, made BIGINT NOT NULL, top BIGINT NOT NULL, CHECK (0 <= made AND made <= top));
CREATE TABLE {{t}}account (name TEXT PRIMARY KEY, used BIGINT NOT NULL, most BIGINT NOT NULL,
    CHECK (0 <= used AND used <= most));
CREATE TABLE {{t}}entry (place {{serial}} PRIMARY KEY, run_id TEXT NOT NULL, step_id TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN {STATUSES}), cost TEXT NOT NULL, reserved TEXT NOT NULL,
    accounts TEXT NOT NULL, expires {{real}}, changed {{real}} NOT NULL, UNIQUE (run_id, step_id),
    CHECK (expires IS NULL OR status = 'reserved'));
CREATE INDEX entry_expires ON {{t}}entry (expires) WHERE expires IS NOT NULL;
CREATE TABLE {{t}}record (place {{serial}} PRIMARY KEY, kind TEXT NOT NULL, run_id TEXT NOT NULL, step_id TEXT NOT NULL,
    state TEXT NOT NULL, content TEXT NOT NULL, changed {{real}} NOT NULL, UNIQUE (kind, run_id, step_id));
CREATE INDEX record_state ON {{t}}record (kind, state);
"""
COLUMNS = "status, cost, reserved, accounts, expires"


class SQLTransaction(ABC):
    """A transaction over the shared tables; a backend adds how a statement is run and what time it is."""

    @abstractmethod
    def run(self, statement: str, values: Sequence[Any] = ()) -> Any:
        """Run a statement with `?` for values and `{t}` before names of tables; a cursor."""

    @abstractmethod
    def now(self) -> float:
        """Seconds since 1970."""

    def make(self, identity: str, overrun: str, budgets: Sequence[Budget]) -> None:
        """Fill the settings of new tables."""
        self.run("INSERT INTO {t}ledger VALUES (?, ?, ?)", (identity, SCHEMA, overrun))
        for place, one in enumerate(budgets):
            values = place, one.unit, one.scope, encode(one.period), one.timezone, one.limit, one.limit
            self.run("INSERT INTO {t}budget VALUES (?, ?, ?, ?, ?, ?, ?)", values)

    @parses
    def settings(self) -> Settings:
        identity, overrun = self.run("SELECT identity, overrun FROM {t}ledger").fetchone()
        columns = "unit, scope, period, timezone, made, top"
        rows = self.run(f"SELECT {columns} FROM {{t}}budget ORDER BY place").fetchall()
        budgets = [Budget(top, unit, scope, json.loads(period), zone) for unit, scope, period, zone, _, top in rows]
        return Settings(identity, overrun, tuple(budgets), tuple(int(row[4]) for row in rows))

    def write_limit(self, place: int, limit: int) -> None:
        self.run("UPDATE {t}budget SET top = ? WHERE place = ?", (limit, place))

    @parses
    def find_entry(self, key: Key) -> Row | None:
        found = self.run(f"SELECT {COLUMNS} FROM {{t}}entry WHERE run_id = ? AND step_id = ?", _pair(key)).fetchone()
        return None if found is None else _row(found)

    def write_entry(self, key: Key, row: Row) -> None:
        cost, reserved, accounts = _join(row.cost), _join(row.reserved), encode(row.accounts)
        self.run(
            f"INSERT INTO {{t}}entry (run_id, step_id, {COLUMNS}, changed) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (run_id, step_id) DO UPDATE SET status = excluded.status, cost = excluded.cost,"
            " reserved = excluded.reserved, accounts = excluded.accounts, expires = excluded.expires,"
            " changed = excluded.changed",
            (*_pair(key), row.status, cost, reserved, accounts, row.expires, self.now()),
        )

    @parses
    def entries(self) -> list[tuple[Key, Row]]:
        rows = self.run(f"SELECT run_id, step_id, {COLUMNS} FROM {{t}}entry ORDER BY place").fetchall()
        return [(_key(row), _row(row[2:])) for row in rows]

    @parses
    def due_entries(self, now: float) -> list[tuple[Key, Row]]:
        where = "expires IS NOT NULL AND expires <= ? ORDER BY place"
        rows = self.run(f"SELECT run_id, step_id, {COLUMNS} FROM {{t}}entry WHERE {where}", (now,)).fetchall()
        return [(_key(row), _row(row[2:])) for row in rows]

    @parses
    def read_used(self, accounts: Sequence[str]) -> list[int]:
        if not accounts:
            return []
        marks = ", ".join("?" * len(accounts))
        rows = self.run(f"SELECT name, used FROM {{t}}account WHERE name IN ({marks})", accounts).fetchall()
        found = {name: int(used) for name, used in rows}
        if found and min(found.values()) < 0:
            raise ValueError("a counter is negative")
        return [found.get(name, 0) for name in accounts]

    def add_used(self, account: str, units: int, most: int) -> None:
        if units < 0:
            self.run("UPDATE {t}account SET used = used + ?, most = ? WHERE name = ?", (units, most, account))
            return
        self.run(
            "INSERT INTO {t}account AS a VALUES (?, ?, ?)"
            " ON CONFLICT (name) DO UPDATE SET used = a.used + excluded.used, most = excluded.most",
            (account, units, most),
        )

    @parses
    def find_record(self, kind: str, key: Key) -> str | None:
        where = "kind = ? AND run_id = ? AND step_id = ?"
        found = self.run(f"SELECT content FROM {{t}}record WHERE {where}", (kind, *_pair(key))).fetchone()
        return None if found is None else str(found[0])

    def write_record(self, kind: str, key: Key, state: str, content: str) -> None:
        self.run(
            "INSERT INTO {t}record (kind, run_id, step_id, state, content, changed) VALUES (?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (kind, run_id, step_id) DO UPDATE SET state = excluded.state, content = excluded.content,"
            " changed = excluded.changed",
            (kind, *_pair(key), state, content, self.now()),
        )

    @parses
    def records(self, kind: str, state: str | None = None) -> list[tuple[Key, str]]:
        where, values = ("kind = ?", [kind]) if state is None else ("kind = ? AND state = ?", [kind, state])
        query = f"SELECT run_id, step_id, content FROM {{t}}record WHERE {where} ORDER BY place"
        return [(_key(row), str(row[2])) for row in self.run(query, values).fetchall()]


def _pair(key: Key) -> tuple[str, str]:
    return encode(key[0]), encode(key[1])


def _key(row: Sequence[Any]) -> Key:
    run_id, step_id = json.loads(row[0]), json.loads(row[1])
    return run_id, step_id


def _join(units: Sequence[int]) -> str:
    return " ".join(map(str, units))


def _row(values: Sequence[Any]) -> Row:
    status, cost, reserved, accounts, expires = values
    held = tuple(map(int, cost.split())), tuple(map(int, reserved.split()))
    if status not in STATUSES or any(not 0 <= unit <= LARGEST for unit in (*held[0], *held[1])):
        raise ValueError(f"a step has the status {status!r} and the cost {cost!r}")
    if expires is not None and status not in COUNTED:
        raise ValueError(f"a step with the status {status!r} expires")
    return Row(status, *held, tuple(json.loads(accounts)), expires)
