"""Defects that were met in use, one test each."""

from __future__ import annotations

import contextlib
import gc
import math
import os
import random
import shutil
import signal
import sqlite3
import sys
import threading
import time
from pathlib import Path
from typing import ClassVar

import pytest

from selfreg.data import Step
from selfreg.decisions import Decision
from selfreg.runtime import Desk, Recorder
from selfreg.runtime.ledger import Ledger, SQLiteLedger


@pytest.mark.parametrize("timeout", [math.inf, 1e12])
def test_an_infinite_timeout_waits(tmp_path, timeout) -> None:
    ledger = SQLiteLedger(tmp_path / "ledger", 2, timeout=timeout)
    other = sqlite3.connect(ledger.path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN EXCLUSIVE")
    release = threading.Timer(0.3, lambda: other.execute("ROLLBACK"))
    release.start()
    start = time.monotonic()
    assert ledger.charge("run", 0, 1)
    assert time.monotonic() - start > 0.2
    release.join()
    other.close()


def test_a_folder_is_named(tmp_path) -> None:
    with pytest.raises(IsADirectoryError, match="is a folder; expected a file"):
        SQLiteLedger(tmp_path, 1)
    with pytest.raises(IsADirectoryError, match="is a folder; expected a file"):
        SQLiteLedger(tmp_path)


def test_a_deleted_file_is_named(tmp_path) -> None:
    ledger = SQLiteLedger(tmp_path / "ledger", 1)
    ledger.path.unlink()
    for call in (lambda: ledger.left, lambda: ledger.charge("run", 0, 1), ledger.entries):
        with pytest.raises(FileNotFoundError, match="the file was deleted or moved"):
            call()
    assert not ledger.path.exists()


def test_random_byte_changes_give_named_errors(tmp_path) -> None:
    ledger = SQLiteLedger(tmp_path / "ledger", (3, 5))
    for step in range(40):
        ledger.reserve("a run with é", f"step ü{step}", (0, step % 2) if step < 4 else (0, 0))
    whole, rng = ledger.path.read_bytes(), random.Random(0)
    used, errors = [i for i, byte in enumerate(whole) if byte], []
    for _ in range(400):
        content = bytearray(whole)
        for _ in range(rng.choice([1, 4])):
            content[rng.choice(used)] = rng.randrange(256)
        ledger.path.write_bytes(content)
        try:
            again = SQLiteLedger(ledger.path)
            again.entries()
            assert min(again.left) >= 0
            again.reserve("a run with é", "step ü7", (0, 0))
            again.charge("new", 1, (1, 0))
            again.refund("new", 1)
        except (ValueError, OSError) as error:
            errors.append(error)
        for rest in tmp_path.glob("ledger-*"):
            rest.unlink()
    assert len(errors) > 50
    assert not [error for error in errors if isinstance(error, UnicodeError)]
    unnamed = [error for error in errors if str(ledger.path) not in str(error)]
    assert all("was reserved at cost" in str(error) or "charged at cost" in str(error) for error in unnamed)


def test_random_byte_changes_below_recorder_and_desk_give_named_errors(tmp_path) -> None:
    class ByState:
        costs: ClassVar = {"person": 1}

        def decide(self, steps, budget_left):
            return Decision("person", 0.5, {"nohelp": 0.25}, reason="é")

    whole_ledger = SQLiteLedger(tmp_path / "ledger", 99)
    recorder, desk = Recorder(ByState(), whole_ledger), Desk(whole_ledger)
    for i in range(30):
        recorder.decide_once(f"run {i}", 0, [Step("a state with é")])
        desk.open(f"run {i}", 0, "What now?")
        recorder.outcome(f"run {i}", i % 2)
    whole_ledger.raise_limit(100, reason="more")
    whole, rng, errors = whole_ledger.path.read_bytes(), random.Random(1), []
    # Bytes of JSON, not of numbers and names of tables.
    used = [i for i in range(whole.index(b"CREATE"), len(whole)) if 32 <= whole[i] < 127]
    for _ in range(300):
        content = bytearray(whole)
        for _ in range(rng.choice([1, 4, 20])):
            content[rng.choice(used)] = rng.randrange(256)
        whole_ledger.path.write_bytes(content)
        calls = (
            recorder.decisions, recorder.trajectories, desk.requests, whole_ledger.limit_changes,
            lambda: recorder.find("run 3", 0), lambda: recorder.decide_once("run 4", 0, [Step("now")]),
            lambda: recorder.outcome("run 5", True), lambda: desk.find("run 6", 0),
        )  # fmt: skip
        for call in calls:
            try:
                call()
            except (ValueError, OSError) as error:
                errors.append(error)
        for rest in tmp_path.glob("ledger-*"):
            rest.unlink()
    assert len(errors) > 50
    kept = ("duplicate outcome", "was refused or refunded", "has no request", "has no request")
    unnamed = [error for error in errors if str(whole_ledger.path) not in str(error)]
    assert not [error for error in unnamed if not any(words in str(error) for words in kept)]


@pytest.mark.parametrize("content", ["junk", "{}", "[]", "null", "5", '{"decision": {}}'])
def test_a_damaged_record_is_named(tmp_path, content) -> None:
    ledger = SQLiteLedger(tmp_path / "ledger", 9)
    recorder, desk = Recorder(Person(), ledger), Desk(ledger)
    recorder.decide_once("run", 0, [Step("a")])
    desk.open("run", 0, "?")
    recorder.outcome("run", True)
    ledger.raise_limit(10, reason="more")
    with contextlib.closing(sqlite3.connect(ledger.path)) as file, file:
        file.execute("UPDATE record SET content = ?", (content,))
    calls = (
        lambda: recorder.decide_once("run", 0, [Step("a")]), recorder.decisions, recorder.trajectories,
        lambda: recorder.find("run", 0), lambda: recorder.outcome("run", True), desk.requests,
        lambda: desk.find("run", 0), lambda: desk.answer("run", 0, "!"), ledger.limit_changes,
    )  # fmt: skip
    for call in calls:
        with pytest.raises(ValueError, match=r"ledger: not a ledger, or a damaged one \("):
            call()
    assert ledger.left == (9,)


class Person:
    costs: ClassVar = {"person": 1}

    def decide(self, steps, budget_left):
        return Decision("person")


def test_what_is_no_regular_file_is_named(tmp_path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", "/dev/null"):
        with pytest.raises(ValueError, match="not a regular file; it is left alone"):
            SQLiteLedger(path, 5)
    with pytest.raises(ValueError, match="a path cannot hold the character 0"):
        SQLiteLedger(f"{tmp_path}/ledger\0rest", 5)
    with pytest.raises(ValueError, match=r"a ledger in memory is selfreg.Ledger\(limits\)"):
        SQLiteLedger(":memory:", 5)
    assert [one.name for one in tmp_path.iterdir()] == ["fifo"]
    for name in ("a?b=c", "a#b", "a%20b", "é", "a\nb", " "):
        assert SQLiteLedger(tmp_path / name, 5).left == SQLiteLedger(tmp_path / name).left == (5,)
        assert (tmp_path / name).is_file()


def test_a_replaced_file_is_refused(tmp_path) -> None:
    ledger, other = SQLiteLedger(tmp_path / "ledger", 100), SQLiteLedger(tmp_path / "other", 1)
    shutil.copy(other.path, ledger.path)
    for call in (lambda: ledger.left, lambda: ledger.charge("run", 0, 5), lambda: ledger.refund("run", 0)):
        with pytest.raises(ValueError, match="the file was replaced by another ledger"):
            call()
    assert SQLiteLedger(tmp_path / "ledger", 1).entries() == []


@pytest.mark.parametrize("method", ["reserve", "charge", "refund"])
def test_an_interrupt_at_any_call_leaks_nothing(method) -> None:
    """Python handles signals where a function begins: KeyboardInterrupt at each of these places, one at a time."""
    interrupted, place = True, 0
    while interrupted:
        place += 1
        ledger, interrupted, calls = Ledger(3), False, 0
        if method != "reserve":
            ledger.reserve("run", 0, 2)

        def trace(frame, event, _, place=place):
            nonlocal interrupted, calls
            if "ledger" in frame.f_code.co_filename and event == "call":
                calls += 1
                if calls == place:
                    interrupted = True
                    raise KeyboardInterrupt

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            ledger.reserve("run", 0, 2) if method == "reserve" else getattr(ledger, method)("run", 0)
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(before)
        spent = sum(entry.cost[0] for entry in ledger.entries() if entry.status in ("reserved", "charged"))
        assert ledger.left == (3 - spent,), f"interrupted at call {place}"
    assert place > 5


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers here")
def test_interrupts_at_random_moments_leak_nothing() -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    ledger, rng, hits = Ledger(10**6), random.Random(0), 0
    before = signal.signal(signal.SIGALRM, interrupt)
    gc.disable()  # callbacks of the collector swallow what a signal raises
    try:
        for step in range(3000):
            try:
                signal.setitimer(signal.ITIMER_REAL, rng.uniform(1e-6, 150e-6))
                for part in range(5):
                    ledger.charge("run", 5 * step + part, 1)
                    ledger.refund("run", 5 * step)
                signal.setitimer(signal.ITIMER_REAL, 0)
            except KeyboardInterrupt:
                hits += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        gc.enable()
    assert hits > 100
    assert ledger.left == (10**6 - len(ledger.entries("charged")),)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_child_does_not_wait_for_a_lock_of_its_parent() -> None:
    ledger, holding, done = Ledger(3), threading.Event(), threading.Event()

    def hold() -> None:
        ledger._store.write(lambda _: (holding.set(), done.wait()))

    thread = threading.Thread(target=hold)
    thread.start()
    holding.wait()
    child = os.fork()
    if not child:
        signal.alarm(3)
        os._exit(0 if ledger.charge("run", 0, 1) and ledger.left == (2,) else 1)
    done.set()
    thread.join()
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize("value", [True, 1.0, None, b"1", (1,)])
def test_steps_are_named_by_str_or_int(tmp_path, value) -> None:
    for ledger in (Ledger(3), SQLiteLedger(tmp_path / "ledger", 3)):
        ledger.charge("run", 1, 1)
        with pytest.raises(TypeError, match=r"step_id is .*; expected str or int"):
            ledger.charge("run", value, 1)
        with pytest.raises(TypeError, match=r"run_id is .*; expected str or int"):
            ledger.refund(value, 1)
        with pytest.raises(ValueError, match="64 bits"):
            ledger.charge("run", 2**64, 1)
        with pytest.raises(ValueError, match="surrogate"):
            ledger.charge("run", "\ud800", 1)
        assert ledger.left == (2,)


@pytest.mark.parametrize("limits", [{2, 3}, frozenset([2]), b"\x02", bytearray(b"\x02"), {2: 3}, iter([2]), "2"])
def test_limits_have_an_order(limits) -> None:
    with pytest.raises(TypeError, match="expected whole numbers"):
        Ledger(limits)
    with pytest.raises(TypeError, match="expected whole numbers"):
        Ledger(3).charge("run", 0, iter([1]))


def test_a_reservation_is_settled_at_real_cost(tmp_path: Path) -> None:
    for ledger in (Ledger(7), SQLiteLedger(tmp_path / "ledger", 7)):
        assert ledger.reserve("run", 0, 5)
        assert ledger.charge("run", 0, 2)
        assert ledger.left == (5,)
        assert [ledger.reserve("run", 0, 5), ledger.charge("run", 0, 2), ledger.charge("run", 0)] == [True] * 3
        assert ledger.left == (5,)
