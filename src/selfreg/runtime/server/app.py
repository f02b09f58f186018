"""The application: paths, tokens, errors and logs; what is done is in `service`, what people see in `pages`."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

from selfreg._util.extras import require_extra
from selfreg.runtime.desk import RequestClosed
from selfreg.runtime.drafts import is_of_policy
from selfreg.runtime.ledger.store import UnusableLedgerError
from selfreg.runtime.server.batches import Batches
from selfreg.runtime.server.description import OPERATIONS, describe_api
from selfreg.runtime.server.metrics import Metrics
from selfreg.runtime.server.pages import Pages
from selfreg.runtime.server.service import Service
from selfreg.runtime.server.sessions import check_token, same_secret

with require_extra("serve", "selfreg.runtime.server"):
    import msgspec
    from starlette.applications import Starlette
    from starlette.concurrency import run_in_threadpool
    from starlette.datastructures import Headers
    from starlette.exceptions import HTTPException
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware
    from starlette.requests import Request
    from starlette.responses import JSONResponse, Response
    from starlette.routing import Route

if TYPE_CHECKING:
    from selfreg.runtime.server.completions import Completions

LOG = logging.getLogger("selfreg.serve")
LONGEST_BODY = 2**20  # bytes
LONGEST_HOST = 253  # characters
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
Handler = Callable[[Any], Awaitable[Any]]


def create_app(
    service: Service,
    *,
    token: str,
    desk_token: str,
    hosts: Sequence[str] = LOOPBACK,
    completions: Completions | None = None,
) -> Starlette:
    """The ASGI application of a service.

    Parameters
    ----------
    service : Service
    token : str
        What agents send as bearer token; at least 16 characters.
    desk_token : str
        What people log in with. An agent that does not have it cannot answer its own requests.
    hosts : sequence of str
        Names under which the server may be called, such as "help.example.com" or "*.example.com"; those of this
        machine by default.
    completions : Completions, optional
        The proxy at /v1/chat/completions.

    Raises
    ------
    ValueError
        A token is too short, or both are the same; a name of `hosts` has a "*" that is not its first label.

    Examples
    --------
    >>> from selfreg import Ledger
    >>> from selfreg.decisions import Decision
    >>> from selfreg.runtime import Desk, Recorder
    >>> from selfreg.runtime.server import Service, create_app
    >>> class Never:
    ...     costs = {"person": 1}
    ...     def decide(self, steps, budget_left):
    ...         return Decision()
    >>> ledger = Ledger(5)
    >>> app = create_app(Service(Recorder(Never(), ledger), Desk(ledger)), token="a" * 16, desk_token="b" * 16)
    >>> [route.path for route in app.routes if route.path.startswith("/v1/")]
    ['/v1/decide', '/v1/wait', '/v1/settle', '/v1/refund', '/v1/outcome']
    """
    check_token(token, "the token")
    check_token(desk_token, "the desk's token")
    if token == desk_token:
        raise ValueError("the desk has the same token as the agents; expected another one")
    for name in hosts:
        if "*" in name.removeprefix("*.") and name != "*":
            raise ValueError(f"host name {name!r}: expected a name, or one that begins with '*.'")
    metrics, api = Metrics(service), json.dumps(describe_api())

    async def openapi(_: Request) -> Response:
        return Response(api, media_type="application/json")

    async def health(_: Request) -> Response:
        await _run(lambda: service.recorder.ledger.left)
        return JSONResponse({"ok": True})

    async def show_metrics(request: Request) -> Response:
        _check_bearer(request, token)
        return Response(await _run(metrics.text), media_type="text/plain; version=0.0.4")

    operations = [
        Route(one.path, _operation(service, metrics, token, one.path, one.body), methods=["POST"]) for one in OPERATIONS
    ]
    proxy = [] if completions is None else [_proxy(metrics, token, completions)]
    routes = [
        *operations,
        *proxy,
        Route("/openapi.json", openapi),
        Route("/health", health),
        Route("/metrics", show_metrics),
        *Pages(service, desk_token, _run, read_body).routes(),
    ]
    return Starlette(
        routes=routes,
        middleware=[
            Middleware(_RequestLog, metrics=metrics, paths=frozenset(route.path for route in routes)),
            Middleware(_KnownHosts, hosts=hosts),
        ],
        exception_handlers={HTTPException: _error, Exception: _failure},
    )


def _operation(service: Service, metrics: Metrics, token: str, path: str, kind: type[Any]) -> Handler:
    name = path.rsplit("/", 1)[1]
    work: Callable[[Any], Any] = getattr(service, name)
    batches = Batches(service.decide_many) if name == "decide" and service.recorder.batches else None

    async def call(body: Any) -> Any:
        if name == "wait":
            return await _run_async(work(body))
        if batches is None:
            return await _run(work, body)
        decision = await _run_async(batches.answer(body))
        if decision.action not in service.people:
            return service.open_request(body, decision)
        return await _run(service.open_request, body, decision)

    async def handle(request: Request) -> Response:
        _check_bearer(request, token)
        try:
            body = msgspec.json.decode(await read_body(request), type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise HTTPException(400, str(error)) from None
        request.scope["selfreg.ids"] = {id: getattr(body, id) for id in ("run_id", "step_id") if hasattr(body, id)}
        reply = await call(body)
        if name == "decide":
            metrics.count_decision(reply.action)
            request.scope["selfreg.ids"]["action"] = reply.action
        return Response(msgspec.json.encode(reply), media_type="application/json")

    return handle


def _proxy(metrics: Metrics, token: str, completions: Completions) -> Route:
    from selfreg.runtime.server.completions import LONGEST_BODY as LONGEST
    from selfreg.runtime.server.completions import PATH, describe_error

    async def handle(request: Request) -> Response:
        try:
            _check_bearer(request, token)
            return await completions.complete(await read_body(request, LONGEST), request, _run, metrics.count_decision)
        except HTTPException as error:
            return describe_error(error)

    return Route(PATH, handle, methods=["POST"])


def _check_bearer(request: Request, token: str) -> None:
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not same_secret(given, token):
        raise HTTPException(401, "the bearer token is missing or wrong", {"WWW-Authenticate": "Bearer"})


async def read_body(request: Request, longest: int = LONGEST_BODY) -> bytes:
    """The body of a request, up to a limit."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > longest:
            raise HTTPException(413, f"the body has more than {longest} bytes", {"Connection": "close"})
        parts.append(part)
    return b"".join(parts)


async def _run(work: Callable[..., Any], *arguments: Any) -> Any:
    """`work` in a thread, since the ledger blocks; its errors as statuses."""
    return await _run_async(run_in_threadpool(work, *arguments))


async def _run_async(work: Awaitable[Any]) -> Any:
    try:
        return await work
    except RequestClosed:
        raise
    except (ValueError, OSError) as error:  # TimeoutError too
        if is_of_policy(error):
            raise
        unusable = isinstance(error, UnusableLedgerError)
        if isinstance(error, ValueError) and not unusable:
            raise HTTPException(422, str(error)) from error
        # Nothing that the caller could correct. An unusable ledger does not mend itself: no time to try again.
        LOG.error("the ledger cannot be used", extra={"fields": {"error": str(error)}})
        raise HTTPException(503, str(error), {} if unusable else {"Retry-After": "1"}) from error


async def _error(_: Request, error: HTTPException) -> Response:
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


async def _failure(_: Request, error: Exception) -> Response:
    return JSONResponse({"error": f"{type(error).__name__}; the log of the server has more"}, 500)


class _KnownHosts:
    """Refuses requests that name another host: a page elsewhere may lead a browser here by a name of its own."""

    def __init__(self, app: Any, hosts: Sequence[str]) -> None:
        self._app = app
        self._check = TrustedHostMiddleware(self._enter, list(hosts), www_redirect=False)

    async def _enter(self, scope: Any, receive: Any, send: Any) -> None:
        scope["selfreg.host_known"] = True
        await self._app(scope, receive, send)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def send_if_known(message: Any) -> None:  # the reply of starlette to others is plain text
            if "selfreg.host_known" in scope:
                await send(message)

        await self._check(scope, receive, send_if_known)
        if "selfreg.host_known" not in scope:
            host = Headers(scope=scope).get("host", "")
            error = f"this server has no host name {host[:LONGEST_HOST]!r}; name it with `selfreg serve --name`"
            await JSONResponse({"error": error}, 400)(scope, receive, send)


class _RequestLog:
    """Logs and counts every request: ids and statuses, no texts and no tokens."""

    def __init__(self, app: Any, metrics: Metrics, paths: frozenset[str]) -> None:
        self._app, self._metrics, self._paths = app, metrics, paths

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begin, status = time.perf_counter(), 500

        async def send_and_note(message: dict[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *SECURITY]
            await send(message)

        try:
            await self._app(scope, receive, send_and_note)
        finally:
            path = scope["path"] if scope["path"] in self._paths else "other"
            seconds = time.perf_counter() - begin
            self._metrics.count_request(path, status, seconds)
            words = {"method": scope["method"], "path": path, "status": status, "ms": round(1000 * seconds, 2)}
            LOG.info("request", extra={"fields": words | scope.get("selfreg.ids", {})})


# Pages load nothing from elsewhere, and stand in no frame. Without a referrer, forms would have no origin either.
SECURITY = [
    (
        b"content-security-policy",
        b"default-src 'self'; img-src data:; frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
]
