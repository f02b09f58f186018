"""A server that answers as a model would, by what the last message says, in a thread of the tests."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

TOOL_CALL = {"id": "call 1", "type": "function", "function": {"name": "add", "arguments": '{"a": 2, "b": 3}'}}


class FakeModel:
    """Counts what it is asked; `gate` lets streams go on that wait after their first part."""

    def __init__(self) -> None:
        self.url = ""
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str] = []
        self.cancelled = 0
        self.failures = 0  # requests that still fail with status 503
        self.gate = threading.Event()

    def asked(self, model: str) -> int:
        return sum(one["model"] == model for one in self.requests)

    async def complete(self, request: Request) -> Response:
        body = await request.json()
        self.requests.append(body)
        key = request.headers.get("authorization", "")
        self.keys.append(key)
        words = str(body["messages"][-1]["content"]).split()
        if self.failures:
            self.failures -= 1
            message = {"error": {"message": f"overloaded; your key is {key[7:]}"}}
            return JSONResponse(message, 503, {"retry-after": "0", "set-cookie": "a=b"})
        if words[-2:-1] == ["refuse"]:
            return JSONResponse({"error": {"message": f"who is {key[7:]}?"}}, int(words[-1]))
        if "hang" in words:
            await asyncio.sleep(60)
        if "odd" in words:
            return JSONResponse({"error": {"message": "out of credit"}})
        if body.get("stream"):
            return StreamingResponse(self.stream(body["model"], words), media_type="text/event-stream")
        message = {"role": "assistant", "content": f"{body['model']} says hi"}
        if body.get("tools"):
            message = {"role": "assistant", "content": None, "tool_calls": [TOOL_CALL]}
        return JSONResponse(
            {
                "id": "completion",
                "object": "chat.completion",
                "created": 1,
                "model": body["model"],
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                "large": 2**70,
            }
        )

    async def stream(self, model: str, words: list[str]) -> AsyncIterator[bytes]:
        def event(**more: Any) -> bytes:
            chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": model, **more}
            return b"data: " + json.dumps(chunk).encode() + b"\n\n"

        def part(text: str | None) -> bytes:
            delta = {} if text is None else {"content": text}
            return event(choices=[{"index": 0, "delta": delta, "finish_reason": None if text else "stop"}])

        try:
            yield part(model)
            if "gated" in words:
                while not self.gate.is_set():
                    await asyncio.sleep(0.01)
            if "cut" in words:
                raise ConnectionError("this stream is cut")
            if "short" in words:
                return
            if "broken" in words:
                yield event(choices=[], error={"message": "out of memory"})
                yield b"data: [DONE]\n\n"
                return
            yield part(" says hi")
            yield part(None)
            yield b"data: [DONE]\n\n"
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


@contextmanager
def serving(model: FakeModel) -> Iterator[FakeModel]:
    app = Starlette(routes=[Route("/v1/chat/completions", model.complete, methods=["POST"])])
    config = uvicorn.Config(app, port=0, log_config=None, lifespan="off", ws="none", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        threading.Event().wait(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    model.url = f"http://127.0.0.1:{port}/v1"
    yield model
    model.gate.set()
    server.should_exit = True
    thread.join(10)
