"""Real servers on loopback, in processes of their own."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from server_cases import SCRIPT, Person, Server


@pytest.fixture(scope="session", autouse=True)
def server_extra() -> None:
    """Skips where the packages of the extra are missing."""
    for package in ("starlette", "uvicorn", "prometheus_client"):
        pytest.importorskip(package, reason=f"{package} is missing (extra 'serve')")


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Starts servers; stops those that the test left."""
    started = []

    def start(limit: int = 100, time_limit: float = 600.0, name: str = "ledger") -> Server:
        started.append(Server(sys.executable, str(SCRIPT), str(tmp_path / name), str(limit), str(time_limit)))
        return started[-1]

    yield start
    for server in started:
        if server.process.poll() is None:
            server.stop()


@pytest.fixture
def person() -> Iterator[Callable[[str, str], Person]]:
    """Logs people in."""
    people = []

    def enter(url: str, name: str) -> Person:
        people.append(Person(url, name))
        return people[-1]

    yield enter
    for one in people:
        one.client.close()
