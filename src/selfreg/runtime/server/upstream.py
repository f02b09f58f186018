"""The models behind the proxy: where they are, and their answers while these come in."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from selfreg._util.extras import require_extra

with require_extra("proxy", "selfreg.runtime.server.upstream"):
    import httpx
with require_extra("logs", "selfreg.runtime.server.upstream"):
    import msgspec

STREAM = "text/event-stream"
CONNECT = 10.0  # seconds to connect
DONE = (b"data: [DONE]", b"data:[DONE]")  # the line that ends a stream
# Statuses of an upstream that a client cannot mend: key, payment, rights, address.
REFUSES_SERVER = (301, 302, 303, 307, 308, 401, 402, 403, 404, 405, 407)
# Headers of one connection, and those that no longer hold once the body is decoded.
HOP = {"connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer", "transfer-encoding"}
HOP |= {"upgrade", "content-encoding", "content-length", "date", "server", "set-cookie"}
# Headers of a client that go on to the upstream: no key, and no cookie.
PASSED = {"traceparent", "tracestate", "accept", "user-agent", "idempotency-key", "openai-beta"}


class _Part(msgspec.Struct):
    """What tells a completion, or a part of one, from an error that was sent with status 200."""

    choices: list[msgspec.Raw] | None = None
    error: Any = None
    object: Any = None

    @property
    def failed(self) -> bool:
        return bool(self.error) or self.object == "error"


@dataclass(frozen=True)
class Upstream:
    """A model behind an OpenAI-compatible API.

    Attributes
    ----------
    url : str
        Up to and without "/chat/completions", such as "http://localhost:8001/v1".
    model : str
        Its name there.
    key : str
        What is sent as bearer token; none where it is empty. It is neither shown nor logged.
    address : httpx.URL
        Where requests go.
    """

    url: str
    model: str
    key: str = field(default="", repr=False)
    address: httpx.URL = field(init=False, repr=False)

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"expected a URL with http:// or https://; got {self.url!r}")
        if "@" in parts.netloc or parts.query or parts.fragment:
            raise ValueError(f"the URL of {parts.hostname} has a user, a query or a fragment; give a key by itself")
        try:
            address = httpx.URL(f"{self.url}/chat/completions")
        except httpx.InvalidURL as error:
            raise ValueError(f"{self.url!r} is not a URL: {error}") from None
        object.__setattr__(self, "address", address)
        if not self.model.strip():
            raise ValueError(f"the model at {self.url} has no name; expected URL,model")
        if not self.key.isascii() or (self.key and not self.key.isprintable()) or " " in self.key:
            raise ValueError(f"the key of {self.url} has odd characters; expected printable ASCII without blanks")


def parse_upstream(text: str, key: str = "") -> Upstream:
    """An upstream of ``URL,model``.

    Raises
    ------
    ValueError
        Naming what is missing or wrong.

    Examples
    --------
    >>> from selfreg.runtime.server.upstream import parse_upstream
    >>> parse_upstream("http://localhost:8001/v1/,small", "secret")
    Upstream(url='http://localhost:8001/v1', model='small')
    """
    url, comma, model = text.partition(",")
    if not comma:
        raise ValueError(f"expected URL,model; got {text!r}")
    return Upstream(url.strip().rstrip("/"), model.strip(), key)


class Connections:
    """Connections to upstreams; `timeout` in seconds holds between two parts of an answer, not for all of it.

    A transport without the client above it: neither redirects nor cookies are wanted, and they cost time.
    """

    def __init__(self, timeout: float) -> None:
        if not 0 < timeout < float("inf"):
            raise ValueError(f"timeout is {timeout!r}; expected seconds > 0")
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=200)
        # Only a connection that was never made is tried again: whatever was sent may have been paid for.
        self._transport = httpx.AsyncHTTPTransport(retries=1, limits=limits)
        self._times = httpx.Timeout(timeout, connect=min(CONNECT, timeout)).as_dict()

    async def post(self, upstream: Upstream, body: bytes, headers: Mapping[str, str]) -> httpx.Response:
        """The response, when its head has come; to be closed."""
        sent = {**headers, "content-type": "application/json", "accept-encoding": "identity"}
        if upstream.key:
            sent["authorization"] = f"Bearer {upstream.key}"
        request = httpx.Request(
            "POST", upstream.address, headers=sent, content=body, extensions={"timeout": self._times}
        )
        return await self._transport.handle_async_request(request)


class Answer:
    """An answer of an upstream; any number of clients follow it from its beginning, while it comes in or later.

    Attributes
    ----------
    status : int
        0 until there is one. A failure without a status of the upstream is 502, or 504 where time ran out.
    headers : dict of str to str
    complete : bool
        Whether the upstream has answered, with all that belongs to it.
    """

    def __init__(self) -> None:
        self.status, self.headers, self.complete = 0, dict[str, str](), False
        self._parts: list[bytes] = []
        self._closed, self._news = False, asyncio.Event()

    @classmethod
    def of(cls, status: int, headers: Mapping[str, str], body: bytes) -> Answer:
        """An answer that is already there."""
        answer = cls()
        answer.status, answer.headers, answer.complete = status, dict(headers), True
        answer._parts, answer._closed = [body], True
        return answer

    @property
    def streams(self) -> bool:
        """Whether it is sent part by part."""
        return self.headers.get("content-type", "").lower().startswith(STREAM)

    @property
    def body(self) -> bytes:
        """What has come in so far."""
        return b"".join(self._parts)

    async def begun(self) -> None:
        """Wait for the status."""
        while not (self.status or self._closed):
            await self._news.wait()

    async def parts(self) -> AsyncIterator[bytes]:
        """All parts from the first one, until it is closed."""
        i = 0
        while True:
            while i < len(self._parts):
                yield self._parts[i]
                i += 1
            if self._closed:
                return
            await self._news.wait()

    async def whole(self) -> bytes:
        """The body, once it is closed."""
        while not self._closed:
            await self._news.wait()
        return self.body

    def close(self) -> None:
        """Say that nothing more comes."""
        self._closed = True
        self._tell()

    def _tell(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def receive(
        self, connections: Connections, upstream: Upstream, body: bytes, headers: Mapping[str, str]
    ) -> None:
        """Send `body`, and take in what comes; failures become an answer that says what failed. Does not close."""
        try:
            response = await connections.post(upstream, body, headers)
            try:
                await self._take(response, upstream)
            finally:
                await response.aclose()
        except httpx.TimeoutException as error:
            self._fail(504, f"{upstream.model} did not answer in time ({type(error).__name__})")
        except httpx.HTTPError as error:
            self._fail(502, f"{upstream.model} could not be reached, or ended early ({type(error).__name__})")
        else:
            parts = _read_parts(self.body, self.streams)
            failed = any(part.failed for part in parts)
            ended = not self.streams or any(line.rstrip() in DONE for line in self.body.splitlines())
            self.complete = self.status < 300 and ended and not failed and any(part.choices for part in parts)
            if self.streams and not ended and not failed:
                self._fail(502, f"{upstream.model} ended its stream early")

    async def _take(self, response: httpx.Response, upstream: Upstream) -> None:
        response.headers.encoding = "latin-1"  # their bytes, as they go on to the client
        self.headers = {name: value for name, value in response.headers.items() if name not in HOP}
        if self.streams and response.status_code < 300:
            self.status = response.status_code
            self._tell()
            async for part in response.aiter_bytes():
                self._parts.append(part)
                self._tell()
            return
        content = await response.aread()
        if response.status_code in REFUSES_SERVER:  # the key and the address are those of this server
            self.headers = {}
            self._fail(502, f"{upstream.model} answered {response.status_code}: its key or address here is wrong")
            return
        failed = response.status_code >= 300 or any(part.failed for part in _read_parts(content, False))
        if failed and upstream.key:  # some upstreams repeat a key that they refuse
            content = content.replace(upstream.key.encode(), b"***")
            self.headers = {name: value.replace(upstream.key, "***") for name, value in self.headers.items()}
        self._parts, self.status = [content], response.status_code
        self._tell()

    def _fail(self, status: int, message: str) -> None:
        """Say what failed: as a status, or within the stream where that has begun."""
        content = json.dumps(error_body(message, "upstream_error")).encode()
        if self.status:
            self._parts.append(b"\n\ndata: " + content + b"\n\n")
        else:
            self.status, self.headers, self._parts = status, {"content-type": "application/json"}, [content]
        self._tell()


def error_body(message: str, kind: str) -> dict[str, Any]:
    """An error in the form of OpenAI's API."""
    return {"error": {"message": message, "type": kind, "param": None, "code": None}}


def _read_parts(body: bytes, streams: bool) -> list[_Part]:
    """What is JSON in an answer; in a stream, one object an event."""
    lines = [line[5:] for line in body.splitlines() if line.startswith(b"data:")] if streams else [body]
    parts = []
    for line in lines:
        with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            parts.append(msgspec.json.decode(line, type=_Part))
    return parts
