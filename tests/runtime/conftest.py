"""A PostgreSQL server of Debian's packages, in a temporary folder, for tests of the ledger on a server."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from selfreg.runtime.ledger import Ledger, SQLiteLedger

BACKENDS = ("memory", "sqlite", "postgres")


class Server:
    """Started and stopped by the tests; as another user where they run as root, which PostgreSQL refuses."""

    def __init__(self, programs: Path) -> None:
        self.programs, self.folder = programs, Path(tempfile.mkdtemp(prefix="selfreg-postgres-"))
        self._stops = 0
        self.prefix = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"] if os.getuid() == 0 else []
        if os.getuid() == 0:
            shutil.chown(self.folder, "nobody", "nogroup")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.conninfo = f"host=127.0.0.1 port={self.port} user=selfreg dbname=postgres"
        self._run("initdb", "-D", str(self.folder / "data"), "-U", "selfreg", "-A", "trust", "-E", "UTF8", "--locale=C")
        self.start()

    def _run(self, program: str, *arguments: str) -> None:
        command = [*self.prefix, str(self.programs / program), *arguments]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self.folder}"
        data, log = str(self.folder / "data"), str(self.folder / "log")
        self._run("pg_ctl", "-D", data, "-l", log, "-o", options, "-w", "start")

    def stop(self, mode: str = "fast") -> None:
        self._run("pg_ctl", "-D", str(self.folder / "data"), "-m", mode, "-w", "stop")

    def make_trouble(self) -> None:
        """Run on for a moment, cut all connections a few times, then start anew: two of three times after a kill."""
        time.sleep(0.5)
        for _ in range(4):
            time.sleep(0.1)
            query = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
            subprocess.run(["psql", self.conninfo, "-qtc", query], check=True, capture_output=True)
        self._stops += 1
        self.stop("fast" if self._stops % 3 == 0 else "immediate")
        self.start()

    def close(self) -> None:
        pid = int((self.folder / "data" / "postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGQUIT)
        for _ in range(100):
            if not (self.folder / "data" / "postmaster.pid").exists():
                break
            time.sleep(0.05)
        shutil.rmtree(self.folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A running server; skips where there is none to run."""
    pytest.importorskip("psycopg", reason="psycopg is missing (extra 'postgres')")
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        pytest.skip("no PostgreSQL server below /usr/lib/postgresql (apt package postgresql)")
    server = Server(found[-1].parent)
    yield server
    server.close()


@pytest.fixture(params=BACKENDS)
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Ledger]:
    """Makes a ledger of each backend."""
    if request.param == "memory":
        return Ledger
    if request.param == "sqlite":
        return lambda *limits, **options: SQLiteLedger(tmp_path / "ledger.sqlite", *limits, **options)
    return new_schema(request.getfixturevalue("postgres"))


@pytest.fixture(params=("file", "server"))
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a crowd's ledger is, as of `crowds.open_ledger`."""
    return str(tmp_path / "ledger") if request.param == "file" else new_place(request.getfixturevalue("postgres"))


@pytest.fixture
def server_place(postgres: Server) -> str:
    """The same, on a server."""
    return new_place(postgres)


def new_place(server: Server) -> str:
    return f"crowd_{time.monotonic_ns()}@{server.conninfo}"


def new_schema(server: Server) -> Callable[..., Ledger]:
    """Makes a ledger in a schema that no other test uses."""
    from selfreg.runtime.ledger import PostgresLedger

    schema = f"test_{time.monotonic_ns()}"
    return lambda *limits, **options: PostgresLedger(server.conninfo, *limits, schema=schema, **options)
