"""Children that are forked while threads of the parent use the same ledger file."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from selfreg import SQLiteLedger

FORKS, STEPS = 15, 3

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


def charge_all(ledger: SQLiteLedger, run: str) -> int:
    """Exit status of a child: 0 if all went well."""
    try:
        return 0 if all(ledger.charge(run, step, 1) for step in range(STEPS)) else 1
    except Exception:
        return 2


def wait_for(child: int, seconds: float) -> int:
    """Exit status of the child; -1 if it still runs then."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, 9)
    os.waitpid(child, 0)
    return -1


def test_a_child_that_is_forked_in_the_middle_of_a_transaction_goes_on(tmp_path: Path) -> None:
    ledger = SQLiteLedger(tmp_path / "ledger.sqlite", 10**9, timeout=20)
    stop = threading.Event()
    done = [0, 0]

    def work(number: int) -> None:
        while not stop.is_set():
            ledger.charge(f"thread {number}", done[number], 1)
            done[number] += 1
            time.sleep(0.001)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(done))]
    for thread in threads:
        thread.start()
    try:
        statuses = []
        for fork in range(FORKS):
            child = os.fork()
            if child == 0:
                os._exit(charge_all(ledger, f"child {fork}"))
            statuses.append(wait_for(child, 30))
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert statuses == [0] * FORKS
    assert 10**9 - ledger.left[0] == FORKS * STEPS + sum(done)
