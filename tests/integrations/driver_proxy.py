"""The proxy as a driver: one server of this process has the proxies, and the models behind them."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from functools import cache
from typing import Any

import httpx
import uvicorn
from conformance import WAIT, Driver, Models
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from selfreg.runtime import Desk, Recorder
from selfreg.runtime.server import Service, create_app
from selfreg.runtime.server.completions import Completions
from selfreg.runtime.server.upstream import Upstream

TOKEN = "agents-of-the-conformance-suite"
APPS: list[tuple[Recorder, Models, Any]] = []


async def complete(models: Models, request: Request) -> Response:
    """What an upstream answers, by the script of `Models`."""
    body = await request.json()
    if body.get("stream"):
        return StreamingResponse(stream_events(models, body["model"]), media_type="text/event-stream")
    try:
        said = await models.answer_async(body["model"])
    except RuntimeError as error:
        return JSONResponse({"error": {"message": str(error)}}, 503)
    return JSONResponse({"choices": [{"index": 0, "message": {"role": "assistant", "content": said}}]})


async def stream_events(models: Models, name: str) -> AsyncIterator[bytes]:
    async for piece in models.pieces_async(name):
        yield b"data: " + json.dumps({"choices": [{"index": 0, "delta": {"content": piece}}]}).encode() + b"\n\n"
    yield b"data: [DONE]\n\n"


async def dispatch(scope: Any, receive: Any, send: Any) -> None:
    """``/0/proxy/...`` is the first proxy, and ``/0/models/...`` what answers it."""
    _, number, kind, rest = scope["path"].split("/", 3)
    _, models, app = APPS[int(number)]
    if kind == "models":
        await (await complete(models, Request(scope, receive)))(scope, receive, send)
    else:
        await app({**scope, "path": f"/{rest}", "raw_path": f"/{rest}".encode()}, receive, send)


@cache
def start() -> str:
    """The URL of the server, which ends with the process."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    server = uvicorn.Server(uvicorn.Config(dispatch, log_config=None, lifespan="off", ws="none"))
    threading.Thread(target=server.run, args=([listener],), daemon=True).start()
    return f"http://127.0.0.1:{listener.getsockname()[1]}"


LOCK = threading.Lock()


def find_proxy(recorder: Recorder, models: Models) -> str:
    """The URL of a proxy for these models, a new one where there is none yet."""
    with LOCK:
        for number, found in enumerate(APPS):
            if found[0] is recorder and found[1] is models:
                return f"{start()}/{number}/proxy/v1/chat/completions"
        url = f"{start()}/{len(APPS)}"
        weak, strong = (Upstream(f"{url}/models/v1", name) for name in ("weak", "strong"))
        service = Service(recorder, Desk(recorder.ledger))
        timeout = 5.0 if WAIT in models.scripts["strong"] else 300.0
        completions = Completions(service, weak, {"strong": strong}, timeout=timeout)
        APPS.append(
            (recorder, models, create_app(service, token=TOKEN, desk_token=TOKEN[::-1], completions=completions))
        )
        return f"{url}/proxy/v1/chat/completions"


OPTIONS: dict[str, Any] = {"verify": False, "trust_env": False, "timeout": 300.0}


def _request(run: str, text: str, stream: bool) -> dict[str, Any]:
    headers = {"authorization": f"Bearer {TOKEN}", "x-selfreg-run": run}
    return {"headers": headers, "json": {"messages": [{"role": "user", "content": text}], "stream": stream}}


def _content(response: httpx.Response) -> str:
    if response.status_code != 200:
        raise RuntimeError(response.text)
    content: str = response.json()["choices"][0]["message"]["content"]
    return content


def _pieces(line: str) -> Iterator[str]:
    if line.startswith("data: {"):
        event = json.loads(line[6:])
        if "error" in event:
            raise RuntimeError(event["error"]["message"])
        yield event["choices"][0]["delta"]["content"]


def call(recorder: Recorder, run: str, text: str, models: Models) -> str:
    with httpx.Client(**OPTIONS) as client:
        return _content(client.post(find_proxy(recorder, models), **_request(run, text, False)))


async def call_async(recorder: Recorder, run: str, text: str, models: Models) -> str:
    async with httpx.AsyncClient(**OPTIONS) as client:
        return _content(await client.post(find_proxy(recorder, models), **_request(run, text, False)))


def stream(recorder: Recorder, run: str, text: str, models: Models) -> Iterator[str]:
    url, request = find_proxy(recorder, models), _request(run, text, True)
    with httpx.Client(**OPTIONS) as client, client.stream("POST", url, **request) as response:
        for line in response.iter_lines():
            yield from _pieces(line)


async def stream_async(recorder: Recorder, run: str, text: str, models: Models) -> AsyncIterator[str]:
    url, request = find_proxy(recorder, models), _request(run, text, True)
    async with httpx.AsyncClient(**OPTIONS) as client, client.stream("POST", url, **request) as response:
        async for line in response.aiter_lines():
            for piece in _pieces(line):
                yield piece


DRIVER = Driver(call, call_async, stream, stream_async, reads_on=True)
