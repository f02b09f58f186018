"""Requests that are nearly right, or not at all; used by the tests, and run by hand: `python fuzzer.py COUNT SEED`."""

from __future__ import annotations

import asyncio
import json
import random
import string
import sys
from collections import Counter
from typing import Any, NamedTuple
from urllib.parse import quote_from_bytes, urlencode

from word_server import DESK_TOKEN, TOKEN, ByWord, Together

from selfreg.runtime import Budget, Desk, Ledger, Recorder
from selfreg.runtime.server import Service, create_app

PATHS = ("/v1/decide", "/v1/settle", "/v1/refund", "/v1/outcome", "/v1/wait")
PAGES = (
    "/",
    "/login",
    "/logout",
    "/desk",
    "/desk/open",
    "/desk/close",
    "/team",
    "/health",
    "/metrics",
    "/openapi.json",
)
ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**53 + 1, 2**63 - 1, -(2**63), 2**64, 10**40, 0.5, -0.0, 1e308, float("nan"),
    float("inf"), "", " ", "0", "nan", "\x00", "\ud800", "a" * 600, "é", "\U0001f600", "' OR 1=1 --", "<b>",
    "../..", [], {}, [[]], [None], {"a": {}}, [1] * 300, {"": ""},
)  # fmt: skip
WORDS = ("person", "model", "nohelp", "person please", "model, now", "other")
LIMIT = 40_000


class Reply(NamedTuple):
    """What the application sent."""

    status: int
    headers: dict[str, str]
    body: bytes


class Fuzzer:
    """Makes requests from a seed."""

    def __init__(self, seed: int, cookie: str, form_token: str) -> None:
        self.chance, self.cookie, self.form_token = random.Random(seed), cookie, form_token

    def request(self) -> tuple[str, str, bytes, list[tuple[bytes, bytes]]]:
        """Method, path, body and headers."""
        chance = self.chance
        if chance.random() < 0.1:
            return self._form()
        path = chance.choice(PATHS if chance.random() < 0.85 else PAGES)
        body = self._bytes(path)
        if chance.random() < 0.03:
            path += chance.choice(["/", "?a=%00", "%2e%2e", "\x00", "é", "//", "?" + "x" * 500])
        token = TOKEN if chance.random() < 0.95 else chance.choice(["", "x", TOKEN + "x", "\xff", DESK_TOKEN])
        headers = [(b"host", b"localhost"), (b"authorization", b"Bearer " + token.encode("latin-1"))]
        if chance.random() < 0.1:
            headers.append(self._header())
        method = "POST" if chance.random() < 0.95 else chance.choice(["GET", "PUT", "DELETE", "HEAD", "OPTIONS", "FOO"])
        return method, path, body, headers

    def _form(self) -> tuple[str, str, bytes, list[tuple[bytes, bytes]]]:
        """A form of somebody who has logged in."""
        chance = self.chance
        key: Any = [f"run {chance.randrange(300)}", chance.randrange(6)]
        form = {"key": json.dumps(key if chance.random() < 0.8 else self._bent(key)), "form_token": self.form_token}
        form |= {"verb": chance.choice(["answer", "decline"]), "text": chance.choice(WORDS)}
        if chance.random() < 0.3:
            form |= {
                chance.choice(list(form)): chance.choice(["", "\x00", "x" * 5000, "\U0001f600", "[", "null", "<b>"])
            }
        headers = [(b"host", b"localhost"), (b"cookie", self.cookie.encode())]
        path = chance.choice(["/desk/close", "/desk/close", "/desk", "/desk/open", "/team"])
        return "POST" if path == "/desk/close" else "GET", path, urlencode(form).encode(), headers

    def _header(self) -> tuple[bytes, bytes]:
        names = (b"content-type", b"content-encoding", b"cookie", b"origin", b"host", b"x-forwarded-host", b"accept")
        values = (
            b"",
            b"gzip",
            b"\xff\xfe",
            b"selfreg=1; selfreg_session=%00",
            b"http://evil.example",
            b"a" * 3000,
            b"null",
        )
        return self.chance.choice(names), self.chance.choice(values)

    def _bytes(self, path: str) -> bytes:
        chance = self.chance
        body = self._body(path)
        while chance.random() < 0.4:
            body = self._bent(body)
        text = json.dumps(body)
        draw = chance.random()
        if draw < 0.06:  # one byte is another
            data = bytearray(text.encode())
            for _ in range(chance.randint(1, 4)):
                data[chance.randrange(len(data))] = chance.randrange(256)
            return bytes(data)
        if draw < 0.08:
            return text[: chance.randrange(len(text) + 1)].encode()
        if draw < 0.09:
            return b"[" * chance.choice([10, 3000, 200_000])
        if draw < 0.10:
            return chance.randbytes(chance.randrange(200))
        if draw < 0.11:  # one name twice
            return text[:-1].encode() + b', "run_id": "twice"}' if text.endswith("}") else b""
        if draw < 0.12:
            return "&".join(f"{name}={chance.choice(WORDS)}" for name in ("token", "name", "key", "verb")).encode()
        return text.encode()

    def _body(self, path: str) -> dict[str, Any]:
        chance = self.chance
        run: Any = chance.choice([f"run {chance.randrange(300)}", chance.randrange(300)])
        body: dict[str, Any] = {"run_id": run, "step_id": chance.randrange(6)}
        if path.endswith("decide"):
            states = [chance.choice(WORDS) for _ in range(chance.randint(1, 3))]
            if chance.random() < 0.3:
                messages = [{"role": chance.choice(["user", "assistant", "tool"]), "content": word} for word in states]
                return body | {"messages": messages}
            return body | {"steps": [{"state": word} if chance.random() < 0.3 else word for word in states]}
        if path.endswith("settle") and chance.random() < 0.7:
            return body | {"cost": chance.choice([0, 1, 2, 5, [1], {"requests": 1}])}
        if path.endswith("outcome"):
            return {"run_id": run, "success": chance.choice([True, False, 0.5, 1])}
        return body | ({"seconds": 0} if path.endswith("wait") else {})

    def _bent(self, value: Any) -> Any:
        """The value with one part that is odd, missing, or too much."""
        chance = self.chance
        if isinstance(value, dict) and value and chance.random() < 0.8:
            name, draw = chance.choice(list(value)), chance.random()
            if draw < 0.2:
                return {other: part for other, part in value.items() if other != name}
            if draw < 0.3:
                return value | {"".join(chance.choices(string.ascii_lowercase + "_", k=5)): chance.choice(ODD)}
            if draw < 0.35:
                return value | {chance.choice(["keys", "question", "cost", "seconds", "steps"]): chance.choice(ODD)}
            return value | {name: self._bent(value[name])}
        if isinstance(value, list) and value and chance.random() < 0.8:
            place = chance.randrange(len(value))
            return [*value[:place], self._bent(value[place]), *value[place + 1 :]]
        return chance.choice(ODD)


async def call(app: Any, method: str, path: str, body: bytes, headers: list[tuple[bytes, bytes]]) -> Reply:
    """Send a request to an ASGI application, as a server would."""
    sent: list[dict[str, Any]] = []
    plain, _, query = path.partition("?")
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "path": plain,
        "raw_path": quote_from_bytes(plain.encode()).encode(), "query_string": query.encode(), "headers": headers,
        "scheme": "http", "root_path": "", "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80),
    }  # fmt: skip
    parts = [body[:7], body[7:]]

    async def receive() -> dict[str, Any]:
        if parts:
            return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    try:
        await app(scope, receive, send)
    except Exception:
        if not sent:
            raise
    found = {name.decode().lower(): value.decode("latin-1") for name, value in sent[0]["headers"]}
    return Reply(sent[0]["status"], found, b"".join(one.get("body", b"") for one in sent[1:]))


def make_service(together: bool) -> Service:
    """A service over a ledger in memory."""
    ledger = Ledger([Budget(LIMIT), Budget(9, scope="run")])
    return Service(Recorder(Together() if together else ByWord(), ledger), Desk(ledger, max_open=200))


async def log_in(app: Any) -> tuple[str, str]:
    """Cookie and form token of a person."""
    form, host = urlencode({"name": "Ada", "token": DESK_TOKEN}).encode(), (b"host", b"localhost")
    cookie = (await call(app, "POST", "/login", form, [host])).headers["set-cookie"].split(";")[0]
    page = (await call(app, "GET", "/desk", b"", [host, (b"cookie", cookie.encode())])).body.decode()
    return cookie, page.split('name="form_token" value="')[1].split('"')[0]


async def fuzz(count: int, seed: int, service: Service) -> Counter[tuple[str, int]]:
    """Send requests, eight at a time, and check what must hold for each, and for the ledger at the end."""
    app = create_app(service, token=TOKEN, desk_token=DESK_TOKEN)
    fuzzer = Fuzzer(seed, *await log_in(app))
    found, decided, charged = Counter[tuple[str, int]](), dict[str, dict[str, Any]](), set[str]()

    async def one() -> None:
        method, path, body, headers = fuzzer.request()
        reply = await call(app, method, path, body, headers)
        what, path = (method, path, body[:300], headers, reply), path.partition("?")[0]
        assert reply.status < 500, what
        assert "content-security-policy" in reply.headers, what
        found[path if path in (*PATHS, *PAGES) else "other", reply.status] += 1
        if path in PATHS and method == "POST":
            answer = json.loads(reply.body) if reply.headers["content-type"] == "application/json" else {}
            assert reply.status == 200 or answer.get("error"), what
            if reply.status != 200 or path == "/v1/outcome":
                return
            given = json.loads(body.decode("utf-8"), strict=False)
            key = json.dumps([given["run_id"], given["step_id"]])
            if answer.get("charged"):
                charged.add(key)
            if path == "/v1/decide":
                first = decided.setdefault(key, answer)
                kept = ("action", "reason", "budget_left", "success_probability")
                assert [first[name] for name in kept] == [answer[name] for name in kept], what

    for _ in range(0, count, 8):
        await asyncio.gather(*(one() for _ in range(8)))
    helped = {key for key, answer in decided.items() if answer["action"] != "nohelp"}
    check_ledger(service.recorder.ledger, helped | charged)
    return found


def check_ledger(ledger: Ledger, answered: set[str]) -> None:
    """Nothing is spent without an answer, and the counters are those of the steps."""
    left = LIMIT
    for entry in ledger.entries():
        if entry.status != "refused" and sum(entry.cost):
            assert json.dumps([entry.run_id, entry.step_id]) in answered, entry
        if entry.status in ("reserved", "charged"):
            left -= entry.cost[0]
    assert ledger.left[0] == min(max(left, 0), 9), (ledger.left, left)


if __name__ == "__main__":
    total = Counter[tuple[str, int]]()
    for part in range(int(sys.argv[1]) // 2000):
        total += asyncio.run(fuzz(2000, int(sys.argv[2]) + part, make_service(part % 2 == 0)))
        print(total.total(), dict(sorted(total.items())) if part % 5 == 4 else "", flush=True)
