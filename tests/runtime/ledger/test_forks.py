"""Children that are forked while threads of the parent use the same ledger."""

from __future__ import annotations

import gc
import os
import threading
import time
import warnings

import pytest

from selfreg.runtime import Ledger

FORKS, STEPS = 15, 3

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


def charge_all(ledger: Ledger, run: str) -> int:
    """Exit status of a child: 0 if all went well."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # a connection that is lost open would warn
            charged = all(ledger.charge(run, step, 1) for step in range(STEPS))
            gc.collect()
        return 0 if charged else 1
    except BaseException:
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


@pytest.mark.parametrize("make", ["sqlite", "postgres"], indirect=True)
def test_a_child_that_is_forked_in_the_middle_of_a_transaction_goes_on(make) -> None:
    """The thread that forks has used the ledger before, and uses it afterwards: no connection is shared."""
    gc.collect()
    gc.freeze()  # else each child copies and goes through the whole memory of the test run
    ledger = make(10**9, timeout=20)
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
            assert ledger.charge("parent", 2 * fork, 1)
            child = os.fork()
            if child == 0:
                os._exit(charge_all(ledger, f"child {fork}"))
            assert ledger.charge("parent", 2 * fork + 1, 1)
            statuses.append(wait_for(child, 60))
            assert ledger.charge("parent", 2 * fork + 1, 1)
    finally:
        gc.unfreeze()
        stop.set()
        for thread in threads:
            thread.join()
    assert statuses == [0] * FORKS
    assert 10**9 - ledger.left[0] == FORKS * (STEPS + 2) + sum(done)
