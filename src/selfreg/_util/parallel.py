"""Worker processes that do not outlive the process that started them, however it ends."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any


def spawn_pool(
    n: int, initializer: Callable[..., Any] | None = None, initargs: tuple[Any, ...] = ()
) -> ProcessPoolExecutor:
    """A pool of `n` spawned processes.

    Those of a plain pool wait for work for ever where the process that started them was killed: each of them holds the
    end of the pipe that work would come through, so that it is never closed.
    """
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(n, context, initializer=_begin, initargs=(initializer, initargs))


def _begin(initializer: Callable[..., Any] | None, initargs: tuple[Any, ...]) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if initializer is not None:
        initializer(*initargs)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
