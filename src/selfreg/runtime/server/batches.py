"""Steps that wait at the same time are decided together: one pass of the policy and one commit for all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary

from selfreg._util.extras import require_extra

with require_extra("serve", "selfreg.runtime.server"):
    from starlette.concurrency import run_in_threadpool

MOST = 64  # steps together, so that the first of them does not wait for long
Asked = TypeVar("Asked")
Answer = TypeVar("Answer")


class Batches(Generic[Asked, Answer]):
    """Calls `work` in a thread, with all that came while it was busy.

    Parameters
    ----------
    work : callable
        Gets a list, and returns an answer, or an exception, for each.
    most : int
        Length of a list.
    """

    def __init__(self, work: Callable[[Sequence[Asked]], Sequence[Answer | Exception]], most: int = MOST) -> None:
        self._work, self._most = work, most
        # An application may run in several event loops, as in tests.
        self._waiting: WeakKeyDictionary[Any, list[tuple[Asked, asyncio.Future[Answer]]]] = WeakKeyDictionary()
        self._tasks: set[asyncio.Task[None]] = set()

    async def answer(self, asked: Asked) -> Answer:
        """The answer to one; raises where it is an exception."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answer] = loop.create_future()
        waiting = self._waiting.get(loop)
        if waiting is not None:
            waiting.append((asked, future))
        else:
            self._waiting[loop] = [(asked, future)]
            task = loop.create_task(self._answer_all(loop))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return await future

    async def _answer_all(self, loop: asyncio.AbstractEventLoop) -> None:
        batch: list[tuple[Asked, asyncio.Future[Answer]]] = []
        try:
            while waiting := self._waiting[loop]:
                batch, waiting[:] = waiting[: self._most], waiting[self._most :]
                _hand_out(batch, await run_in_threadpool(self._work, [asked for asked, _ in batch]))
        except Exception as error:  # a defect of `work`
            _hand_out([*batch, *self._waiting[loop]], [error] * (len(batch) + len(self._waiting[loop])))
        finally:  # waiters are left only where the loop ends
            for _, future in [*batch, *self._waiting.pop(loop)]:
                future.cancel()


def _hand_out(batch: Sequence[tuple[Asked, asyncio.Future[Answer]]], answers: Sequence[Answer | Exception]) -> None:
    for (_, future), answer in zip(batch, answers, strict=True):
        if future.done():  # whoever asked has gone
            continue
        if isinstance(answer, Exception):
            future.set_exception(answer)
        else:
            future.set_result(answer)
