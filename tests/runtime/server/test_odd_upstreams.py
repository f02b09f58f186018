"""What other people's servers send to the proxy: headers, errors and ends of streams that are not by the book."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest
from server_cases import DESK_TOKEN, TOKEN
from starlette.requests import Request
from starlette.responses import Response
from upstream_cases import FakeModel, serving

from selfreg.decisions import Decision
from selfreg.runtime import Desk, Ledger, Recorder
from selfreg.runtime.server import Service, create_app
from selfreg.runtime.server.completions import Completions
from selfreg.runtime.server.upstream import Upstream

KEY = "key-of-the-model"
WHOLE = json.dumps({"choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}}]})
PART = 'data: {"choices": [{"index": 0, "delta": {"content": "data: [DONE]"}}]}\n\n'
END = "data: [DONE]\n\n"


class Fixed(FakeModel):
    """Always sends the same."""

    def __init__(self, content: str, kind: str, status: int = 200, **headers: str) -> None:
        super().__init__()
        self.reply = {"content": content, "status_code": status}
        headers |= {"content-type": kind, "connection": "close"}  # nothing stays open when the loop of the test ends
        self.headers = [(name.encode(), value.encode()) for name, value in headers.items()]

    async def complete(self, request: Request) -> Response:
        await request.body()
        response = Response(**self.reply)  # type: ignore[arg-type]
        response.raw_headers = [*response.raw_headers, *self.headers]
        return response


def ask(upstream: Fixed, *, help: str = "model", model: str = "large") -> tuple[httpx.Response, str]:
    """What a client gets of a helped step, and its status in the ledger."""

    class Always:
        def decide(self, steps: Any, budget_left: Any) -> Decision:
            return Decision(help)

    async def send(url: str) -> httpx.Response:
        ends = [Upstream(url, name, KEY) for name in ("small", model)]
        completions = Completions(service, ends[0], {help: ends[1]}, timeout=20.0)
        app = create_app(service, token=TOKEN, desk_token=DESK_TOKEN, completions=completions)
        body = {"messages": [{"role": "user", "content": "question"}]}
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
            head = {"authorization": f"Bearer {TOKEN}"}
            return await client.post("/v1/chat/completions", json=body, headers=head)

    ledger = Ledger(1)
    service = Service(Recorder(Always(), ledger, costs={help: 1}), Desk(ledger))
    with serving(upstream):
        reply = asyncio.run(send(upstream.url))
    (entry,) = ledger.entries()
    return reply, entry.status


def test_headers_hold_text_in_any_script() -> None:
    """The answer was paid for, and none came."""
    upstream = Fixed(WHOLE, "application/json", **{"x-region": "東京"})
    reply, status = ask(upstream, help="専門家", model="模型")
    assert (reply.status_code, status) == (200, "charged")
    reply.headers.encoding = "utf-8"
    found = [reply.headers[name] for name in ("x-region", "x-selfreg-action", "x-selfreg-model")]
    assert found == ["東京", "専門家", "模型"]


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        ("text/event-stream", PART + END, "charged"),
        ("Text/Event-Stream; charset=utf-8", (PART + END).replace("\n", "\r\n"), "charged"),
        ("text/event-stream", PART, "refunded"),  # the model said how a stream ends
        ("text/event-stream", f'{PART}data: {{"choices": null, "error": {{"message": "full"}}}}\n\n{END}', "refunded"),
        ("text/event-stream", f'{PART}data: {{"object": "error", "message": "full"}}\n\n{END}', "refunded"),
        ("application/json", '{"object": "error", "choices": null, "message": "full"}', "refunded"),
        ("text/html", "<html>Bad gateway</html>", "refunded"),
    ],
)
def test_what_is_a_whole_answer(kind, body, status) -> None:
    reply, found = ask(Fixed(body, kind))
    assert (reply.status_code, found) == (200, status)
    assert body in reply.text


@pytest.mark.parametrize(("status", "body"), [(400, f"who is {KEY}?"), (200, f'{{"error": "who is {KEY}?"}}')])
def test_an_error_holds_no_key(status, body) -> None:
    reply, found = ask(Fixed(body, "application/json", status, **{"x-key": KEY}))
    assert (reply.status_code, found, reply.headers["x-key"]) == (status, "refunded", "***")
    assert "who is ***?" in reply.text


def test_an_upstream_that_moved_leads_no_client_away() -> None:
    reply, found = ask(Fixed("", "text/plain", 307, location="http://127.0.0.1:9/"))
    assert (reply.status_code, found, "location" in reply.headers) == (502, "refunded", False)
    assert "answered 307" in reply.json()["error"]["message"]
