"""What the proxy costs in time beside a direct call, on loopback, and many streams at once.

python -m benchmarks proxy [--calls 300] [--streams 200] [--folder FOLDER]

The upstream is a server of its own process. Direct calls and calls through the proxy take turns, one at a time over
connections that stay open; the steps are new ones, in a SQLite file. Then all streams run at once, and a tenth of them
are paid.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

TOKEN = "benchmark-" + "x" * 16
TARGET = 3.0  # ms more than a direct call, p50
PARTS, PAUSE = 20, 0.05  # of a stream: number, and seconds between two
KINDS = {"alone": "easy", "helped": "help"}


def main(argv: Sequence[str] | None = None) -> int:
    """Print the figures, or run one of the servers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=300)
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--folder", help="where the ledger goes, such as /dev/shm for the time without a disk")
    options = parser.parse_args(argv)
    with (
        tempfile.TemporaryDirectory(dir=options.folder) as folder,
        _server("upstream") as upstream,
        _server("proxy", folder + "/ledger", f"http://127.0.0.1:{upstream}/v1") as proxy,
    ):
        print(f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}, SQLite")
        for name, word in KINDS.items():
            asyncio.run(_take_turns(upstream, proxy, name, word, options.calls))
        asyncio.run(_stream_all(upstream, proxy, options.streams))
    return 0


async def _take_turns(upstream: int, proxy: int, name: str, word: str, calls: int) -> None:
    direct, through = await _Connection.open(upstream), await _Connection.open(proxy)
    times: dict[str, list[float]] = {"direct": [], "through the proxy": []}
    for i in range(calls + 20):
        for title, connection in zip(times, (direct, through), strict=True):
            begin = time.perf_counter()
            body = await connection.call(f"{word} {name} {i}")
            spent = 1000 * (time.perf_counter() - begin)
            assert json.loads(body)["choices"][0]["message"]["content"] == "done", body
            if i >= 20:
                times[title].append(spent)
    for title, found in times.items():
        print(f"{name:8}{title:20}ms p50 {np.percentile(found, 50):8.2f}  p95 {np.percentile(found, 95):8.2f}")
    more = np.median(np.subtract(times["through the proxy"], times["direct"]))
    print(f"{name:8}{'more than direct':20}ms p50 {more:8.2f}  target {TARGET:g}")


async def _stream_all(upstream: int, proxy: int, streams: int) -> None:
    async def stream(port: int, i: int, begin: float) -> tuple[float, float]:
        connection = await _Connection.open(port)
        first, body = await connection.stream(f"{'help' if i % 10 == 0 else 'easy'} stream {i}")
        assert body.count(b"data: ") == PARTS + 1, body
        return first - begin, time.perf_counter() - begin

    for title, port in (("direct", upstream), ("through the proxy", proxy)):
        begin = time.perf_counter()
        found = await asyncio.gather(*(stream(port, i, begin) for i in range(streams)))
        first, last = np.transpose(found)
        print(
            f"{streams} streams {title:20}s first part p50 {np.median(first):6.2f}  end p50 {np.median(last):6.2f}  "
            f"max {last.max():6.2f}  ideal {PARTS * PAUSE:g}"
        )


class _Connection:
    """A connection that stays open."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def open(cls, port: int) -> _Connection:
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    def _send(self, text: str, stream: bool) -> None:
        body = json.dumps({"messages": [{"role": "user", "content": text}], "model": "any", "stream": stream}).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
        self._writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)

    async def call(self, text: str) -> bytes:
        self._send(text, False)
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        return await self._reader.readexactly(length)

    async def stream(self, text: str) -> tuple[float, bytes]:
        """When the first part came, and all of them."""
        self._send(text, True)
        await self._reader.readuntil(b"\r\n\r\n")
        body, first = b"", 0.0
        while not body.endswith(b"0\r\n\r\n"):
            body += await self._reader.read(65536)
            first = first or time.perf_counter()
        self._writer.close()
        return first, body


# ---- servers


@contextmanager
def _server(*arguments: str) -> Iterator[int]:
    """Port of a server in a process of its own."""
    code = f"from benchmarks import proxy; proxy._{arguments[0]}(*{list(arguments[1:])!r})"
    with tempfile.NamedTemporaryFile("w+") as log:
        process = subprocess.Popen([sys.executable, "-c", code], stderr=log)
        try:
            while '"url"' not in (text := Path(log.name).read_text()):
                if process.poll() is not None:
                    raise RuntimeError(text)
                time.sleep(0.05)
            line = next(one for one in text.splitlines() if '"url"' in one)
            yield urlsplit(json.loads(line)["url"]).port or 0
        finally:
            process.terminate()
            process.wait(30)


def _proxy(ledger: str, url: str) -> None:
    from selfreg.data import Step
    from selfreg.decisions import BudgetLeft, Decision
    from selfreg.runtime import Budget, Desk, Recorder, SQLiteLedger
    from selfreg.runtime.server import Service, create_app, run_server
    from selfreg.runtime.server.completions import Completions
    from selfreg.runtime.server.upstream import Upstream

    class ByWord:
        costs = {"large": 1}  # noqa: RUF012

        def decide(self, steps: Sequence[Step], budget_left: BudgetLeft) -> Decision:
            return Decision("large" if steps[-1].state.startswith("help") else "nohelp")

    store = SQLiteLedger(ledger, [Budget(10**9), Budget(3, scope="run")])
    service = Service(Recorder(ByWord(), store), Desk(store))
    completions = Completions(service, Upstream(url, "small"), {"large": Upstream(url, "large")})
    app = create_app(service, token=TOKEN, desk_token=TOKEN[::-1], completions=completions)
    run_server(app, service, port=0)


def _upstream() -> None:
    import socket

    import uvicorn
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import JSONResponse, Response, StreamingResponse
    from starlette.routing import Route

    async def parts() -> AsyncIterator[bytes]:
        chunk = {"choices": [{"index": 0, "delta": {"content": "word "}, "finish_reason": None}]}
        for _ in range(PARTS):
            yield b"data: " + json.dumps(chunk).encode() + b"\n\n"
            await asyncio.sleep(PAUSE)
        yield b"data: [DONE]\n\n"

    async def complete(request: Request) -> Response:
        if (await request.json()).get("stream"):
            return StreamingResponse(parts(), media_type="text/event-stream")
        return JSONResponse({"choices": [{"index": 0, "message": {"role": "assistant", "content": "done"}}]})

    app = Starlette(routes=[Route("/v1/chat/completions", complete, methods=["POST"])])
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1024)
        print(json.dumps({"url": f"http://127.0.0.1:{listener.getsockname()[1]}"}), file=sys.stderr, flush=True)
        uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off", ws="none")).run(sockets=[listener])


if __name__ == "__main__":
    raise SystemExit(main())
