"""Keeps forks and SQLite apart.

A child that is forked while another thread is inside SQLite inherits SQLite's locks as they are at that moment, in
memory and on the file, and nobody gives them back: it waits for ever, or finds the file locked. So a fork waits until
no thread is inside, and lets none in until it is over.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

# Seconds for which a fork waits at most: a transaction may itself wait for another process.
PATIENCE = 30.0


class ForkGate:
    """Counts threads inside; `inside` is entered around each use of what must not be forked.

    Examples
    --------
    >>> from selfreg.runtime.ledger.forks import ForkGate
    >>> gate = ForkGate()
    >>> with gate.inside():
    ...     pass
    """

    def __init__(self) -> None:
        self._state = threading.Condition()
        self._threads: dict[int, int] = {}
        self._forking: int | None = None  # the thread that forks
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(
                before=self._before, after_in_parent=self._after_in_parent, after_in_child=self._after_in_child
            )

    @contextmanager
    def inside(self) -> Iterator[None]:
        """No other thread forks meanwhile; may be entered again by the same thread, and by the one that forks."""
        mine = threading.get_ident()
        try:
            with self._state:
                while self._forking not in (None, mine) and mine not in self._threads:
                    self._state.wait()
                self._threads[mine] = self._threads.get(mine, 0) + 1
            yield
        finally:
            with self._state:
                depth = self._threads.pop(mine, 0) - 1
                if depth > 0:
                    self._threads[mine] = depth
                else:
                    self._state.notify_all()

    def _before(self) -> None:
        mine = threading.get_ident()
        with self._state:
            self._forking = mine
            self._state.wait_for(lambda: not self._threads.keys() - {mine}, timeout=PATIENCE)

    def _after_in_parent(self) -> None:
        with self._state:
            self._forking = None
            self._state.notify_all()

    def _after_in_child(self) -> None:
        mine = threading.get_ident()
        depth = self._threads.get(mine, 0)
        self._state, self._forking = threading.Condition(), None
        self._threads = {mine: depth} if depth else {}


SQLITE_GATE = ForkGate()
