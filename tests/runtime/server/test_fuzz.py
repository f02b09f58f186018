"""Requests that are nearly right, or not at all: no 5xx, nothing spent without an answer, the server goes on."""

from __future__ import annotations

import asyncio
import random
import socket
from urllib.parse import urlsplit

import httpx
import pytest
from fuzzer import TOKEN, fuzz, make_service


@pytest.mark.parametrize(
    ("count", "seed"), [(2000, 0), (2000, 1), *(pytest.param(10_000, i, marks=pytest.mark.long) for i in range(10, 20))]
)
def test_odd_requests_get_stated_replies(count, seed) -> None:
    found = asyncio.run(fuzz(count, seed, make_service(together=seed % 2 == 0)))
    assert found["/v1/decide", 200] > count / 50
    assert found["/v1/settle", 200]  # of the few steps that were decided with help
    assert sum(n for (path, _), n in found.items() if path == "/desk/close") > count / 50
    assert found["/desk", 200] > 0


@pytest.mark.parametrize("count", [150, pytest.param(5000, marks=pytest.mark.long)])
def test_bytes_that_are_no_http_stop_no_server(serve, count) -> None:
    server = serve()
    place = urlsplit(server.url)
    chance = random.Random(count)
    whole = (
        f"POST /v1/decide HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 47\r\n\r\n"
        '{"run_id": "a", "step_id": 0, "steps": ["model"]}'
    ).encode()
    for _ in range(count):
        data = bytearray(whole[: chance.randrange(1, len(whole) + 1)] if chance.random() < 0.5 else whole)
        for _ in range(chance.choice([0, 1, 1, 2, 20])):
            data[chance.randrange(len(data))] = chance.randrange(256)
        with socket.create_connection((place.hostname, place.port), timeout=30) as connection:
            connection.sendall(bytes(data))
            connection.shutdown(socket.SHUT_WR)
            reply = connection.recv(65536)
        assert not reply.startswith(b"HTTP/1.1 5"), (data, reply)
    assert httpx.get(f"{server.url}/health", timeout=30).json() == {"ok": True}
    assert server.stop() == 0
