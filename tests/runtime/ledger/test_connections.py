"""Connections that a ledger in a file keeps between calls."""

from __future__ import annotations

import gc
import multiprocessing
import os
import pickle
import shutil
import sqlite3
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from selfreg.runtime import SQLiteLedger, UnusableLedgerError

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="this system does not list open files")


def open_files(path: Path) -> int:
    """How often this process has a file open."""
    count = 0
    for link in Path("/proc/self/fd").iterdir():
        try:
            count += os.readlink(link) == str(path)
        except OSError:  # closed meanwhile
            continue
    return count


@pytest.fixture
def ledger(tmp_path) -> SQLiteLedger:
    made = SQLiteLedger(tmp_path / "ledger", 100)
    assert made.charge("run", 0, 1)
    assert open_files(made.path) == 1
    return made


def test_one_connection_for_calls_one_after_the_other(ledger) -> None:
    for step in range(1, 20):
        assert ledger.reserve("run", step, 1)
        assert ledger.refund("run", step)
    assert (ledger.left, open_files(ledger.path)) == ((99,), 1)


def test_a_ledger_that_is_dropped_closes_its_file(tmp_path) -> None:
    made = SQLiteLedger(tmp_path / "ledger", 100)
    made.charge("run", 0, 1)
    path = made.path
    assert open_files(path) == 1
    del made
    gc.collect()
    assert open_files(path) == 0


def test_a_call_that_fails_keeps_none(ledger) -> None:
    with pytest.raises(ValueError, match="was never reserved"):
        ledger.charge("run", 7)
    assert open_files(ledger.path) == 0
    assert ledger.charge("run", 7, 2)
    assert ledger.left == (97,)


def test_many_threads_leave_a_few(ledger) -> None:
    start = threading.Barrier(16)

    def work(thread: int) -> None:
        start.wait()
        for step in range(5):
            ledger.charge(thread, step, 1)
            assert ledger.left is not None

    threads = [threading.Thread(target=work, args=(i,)) for i in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ledger.left == (19,)
    assert open_files(ledger.path) <= 4


def test_a_change_by_others_is_seen(ledger) -> None:
    with sqlite3.connect(ledger.path) as other:
        other.execute("UPDATE budget SET top = 1000")
    other.close()
    assert ledger.left == (999,)


def test_a_file_that_was_put_back_counts_from_there(ledger, tmp_path) -> None:
    shutil.copy(ledger.path, tmp_path / "copy")
    assert ledger.charge("run", 1, 9)
    shutil.copy(tmp_path / "copy", ledger.path)
    assert ledger.left == (99,)
    assert ledger.charge("run", 2, 1)
    os.replace(tmp_path / "copy", ledger.path)  # another file of the same ledger
    assert ledger.left == (99,)
    assert ledger.charge("run", 3, 4)
    assert SQLiteLedger(ledger.path).left == (95,)


def test_a_file_that_is_gone_or_another_one_is_named(ledger, tmp_path) -> None:
    moved = tmp_path / "moved"
    os.rename(ledger.path, moved)
    with pytest.raises(FileNotFoundError, match="deleted or moved"):
        ledger.charge("run", 1, 1)
    SQLiteLedger(ledger.path, 100)
    with pytest.raises(UnusableLedgerError, match="replaced by another ledger"):
        ledger.charge("run", 1, 1)
    os.replace(moved, ledger.path)
    assert ledger.left == (99,)


def test_damage_below_a_kept_connection_is_named(ledger) -> None:
    ledger.path.write_bytes(b"x" * ledger.path.stat().st_size)
    with pytest.raises(UnusableLedgerError, match="damaged"):
        ledger.charge("run", 1, 1)


def test_a_pickled_ledger_has_connections_of_its_own(ledger) -> None:
    again = pickle.loads(pickle.dumps(ledger))
    assert again.charge("run", 1, 1)
    assert open_files(ledger.path) == 2
    assert ledger.left == (98,)


def test_no_lock_is_held_between_calls(ledger) -> None:
    other = sqlite3.connect(ledger.path, timeout=0, isolation_level=None)
    calls = (
        lambda: ledger.left, lambda: ledger.limits, lambda: ledger.budgets, lambda: ledger.entries(),
        lambda: ledger.reserve("run", 1, 1), lambda: ledger.charge("run", 1), lambda: ledger.refund("run", 1),
        lambda: ledger.raise_limit(200, reason="more"), lambda: ledger.limit_changes(),
        lambda: ledger.reserve("run", 2, 1, expires_in=0.001), lambda: ledger.left,
    )  # fmt: skip
    for call in calls:
        call()
        other.execute("BEGIN EXCLUSIVE")
        other.execute("COMMIT")
    other.close()


def hammer(path: Path, run: str, seconds: float) -> float:
    """The longest call of a process that charges without a pause."""
    ledger, longest, step, end = SQLiteLedger(path), 0.0, 0, time.monotonic() + seconds
    while (begin := time.monotonic()) < end:
        assert ledger.charge(run, step, 1)
        longest, step = max(longest, time.monotonic() - begin), step + 1
    return longest


def test_processes_that_never_pause_take_turns(tmp_path) -> None:
    path = SQLiteLedger(tmp_path / "ledger", 10**9).path
    with ProcessPoolExecutor(6, mp_context=multiprocessing.get_context("spawn")) as pool:
        waits = list(pool.map(hammer, [path] * 6, "abcdef", [4.0] * 6))
    assert max(waits) < 3, waits  # 2 to 8 s where SQLite itself waits
