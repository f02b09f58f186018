"""What every adapter must do: one table of drivers, and the cases that all of them run.

A driver runs one step of an agent through an adapter: the same run and text again are the same step executed again.
`test_conformance.py` runs all cases on all drivers; an adapter registers with a line in `DRIVERS`.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import pytest

from selfreg.decisions import Decision
from selfreg.runtime import Ledger, Recorder, SQLiteLedger

WAIT, KILL = "wait", "kill"
STRONG = "strong"


class Always:
    """Requests help at every step."""

    name = "always"

    def __init__(self) -> None:
        self.calls = 0

    def decide(self, steps: Any, budget_left: Any) -> Decision:
        self.calls += 1
        return Decision(STRONG)


def make_recorder(budget: int = 1, path: Any = None) -> Recorder:
    ledger = Ledger(budget) if path is None else SQLiteLedger(path, budget)
    return Recorder(Always(), ledger, costs={STRONG: 1})


class Models:
    """Two scripted models. A script is what each call does in turn, then it answers "NAME answered".

    An exception is raised; `WAIT` never answers (in an event loop); `KILL` kills the process; text is the answer.
    """

    def __init__(self, weak: tuple[Any, ...] = (), strong: tuple[Any, ...] = ()) -> None:
        self.scripts = {"weak": list(weak), "strong": list(strong)}
        self.calls: list[str] = []

    def answer(self, name: str) -> str:
        self.calls.append(name)
        what = self.scripts[name].pop(0) if self.scripts[name] else f"{name} answered"
        if isinstance(what, BaseException):
            raise what
        if what == KILL:
            os.kill(os.getpid(), signal.SIGKILL)
        return what

    async def answer_async(self, name: str) -> str:
        what = self.answer(name)
        if what == WAIT:
            await asyncio.Event().wait()
        return what

    def pieces(self, name: str) -> Iterator[str]:
        """The answer word by word; the script's error comes after the first one."""
        self.calls.append(name)
        what = self.scripts[name].pop(0) if self.scripts[name] else f"{name} answered"
        yield f"{name} "
        if isinstance(what, BaseException):
            raise what
        yield "answered"

    async def pieces_async(self, name: str) -> AsyncIterator[str]:
        for piece in self.pieces(name):
            await asyncio.sleep(0)
            yield piece


@dataclass(frozen=True)
class Driver:
    """How to run one step of an agent through an adapter; None where the framework has no such mode.

    Attributes
    ----------
    call, call_async : callable
        ``(recorder, run, text, models) -> answer``.
    stream, stream_async : callable
        ``(recorder, run, text, models) -> pieces``.
    error : exception types
        What reaches the caller where a model raises RuntimeError.
    reads_on : bool
        Whether an answer that nobody waits for is read to its end, and settled a little later.
    """

    call: Callable[..., str] | None = None
    call_async: Callable[..., Any] | None = None
    stream: Callable[..., Iterator[str]] | None = None
    stream_async: Callable[..., AsyncIterator[str]] | None = None
    error: tuple[type[BaseException], ...] = field(default=(RuntimeError,))
    reads_on: bool = False


# Name -> module with `DRIVER`, and the packages that it needs.
DRIVERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "session": ("driver_session", ()),
    "agent_framework": ("driver_agent_framework", ("agent_framework",)),
    "inspect_ai": ("driver_inspect_ai", ("inspect_ai",)),
    "litellm": ("driver_litellm", ("litellm",)),
    "langchain": ("driver_langchain", ("langchain", "langgraph")),
    "mini_swe_agent": ("driver_mini_swe_agent", ("minisweagent",)),
    "openai_agents": ("driver_openai_agents", ("agents",)),
    "proxy": ("driver_proxy", ("starlette", "uvicorn", "prometheus_client", "httpx")),
    "pydantic_ai": ("driver_pydantic_ai", ("pydantic_ai",)),
}


def load_driver(name: str) -> Driver:
    """A driver of the table; skips with a reason where a package is missing."""
    module, packages = DRIVERS[name]
    for package in packages:
        pytest.importorskip(package, reason=f"{package} is missing (extra 'adapters')")
    found: Driver = import_module(module).DRIVER
    return found


def run_step(driver: Driver, *arguments: Any) -> str:
    """One step by the way that the framework has: in a thread, else in an event loop."""
    if driver.call is not None:
        return driver.call(*arguments)
    assert driver.call_async is not None
    return asyncio.run(driver.call_async(*arguments))
