"""The proxy between a real client and a real upstream: who answers, what is paid, what a broken connection costs."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from proxy_server import STRONG_KEY, WEAK_KEY
from server_cases import TOKEN, Server
from upstream_cases import TOOL_CALL, FakeModel, serving

from selfreg.runtime import SQLiteLedger

SCRIPT = Path(__file__).with_name("proxy_server.py")
PATH = "/v1/chat/completions"


class Proxy(Server):
    """The proxy of a test."""

    def ask(self, text: str, token: str = TOKEN, /, *, headers: dict[str, str] | None = None, **more: Any):
        body = {"model": "any", "messages": [{"role": "user", "content": text}], **more}
        return httpx.post(self.url + PATH, json=body, headers=self.head(token, headers), timeout=30)

    def stream(self, text: str, headers: dict[str, str] | None = None):
        body = {"model": "any", "messages": [{"role": "user", "content": text}], "stream": True}
        return httpx.stream("POST", self.url + PATH, json=body, headers=self.head(TOKEN, headers), timeout=30)

    def head(self, token: str, more: dict[str, str] | None) -> dict[str, str]:
        return {"Authorization": f"Bearer {token}", **(more or {})}


@pytest.fixture
def model() -> Iterator[FakeModel]:
    with serving(FakeModel()) as upstream:
        yield upstream


@pytest.fixture
def start(tmp_path: Path, model: FakeModel) -> Iterator[Callable[..., Proxy]]:
    """Starts proxies over one ledger."""
    started: list[Proxy] = []

    def begin(limit: int = 10, timeout: float = 20.0, url: str = "") -> Proxy:
        command = (sys.executable, str(SCRIPT), str(tmp_path / "ledger"), str(limit), url or model.url, str(timeout))
        started.append(Proxy(*command))
        return started[-1]

    yield begin
    model.gate.set()
    for proxy in started:
        if proxy.process.poll() is None:
            proxy.stop()


@pytest.fixture
def entries(tmp_path: Path) -> Callable[[], list[tuple[str, tuple[int, ...]]]]:
    """Status and cost of each step in the ledger."""
    return lambda: [(one.status, one.cost) for one in SQLiteLedger(tmp_path / "ledger").entries()]


def until(check: Callable[[], bool], seconds: float = 15.0) -> None:
    end = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def test_a_decision_selects_the_model(start, model, entries) -> None:
    proxy = start()
    alone = proxy.ask("easy", headers={"x-selfreg-run": "r", "x-selfreg-step": "1"})
    helped = proxy.ask("model, please? no: model", headers={"x-selfreg-run": "r", "x-selfreg-step": "2"})
    assert helped.json()["choices"][0]["message"]["content"] == "small says hi"  # "model," is no help type
    helped = proxy.ask("model please", headers={"x-selfreg-run": "r", "x-selfreg-step": "3"})
    assert alone.json()["choices"][0]["message"]["content"] == "small says hi"
    assert helped.json()["choices"][0]["message"]["content"] == "large says hi"
    assert '"large":1180591620717411303424' in helped.text  # untouched
    names = ("action", "budget-left", "model", "run", "step")
    assert [helped.headers[f"x-selfreg-{name}"] for name in names] == ["model", "8", "large", "r", "3"]
    assert [alone.headers[f"x-selfreg-{name}"] for name in names] == ["nohelp", "10", "small", "r", "1"]
    assert model.keys == [f"Bearer {WEAK_KEY}", f"Bearer {WEAK_KEY}", f"Bearer {STRONG_KEY}"]
    assert entries() == [("charged", (2,))]


def test_all_fields_but_the_model_pass_untouched(start, model) -> None:
    tools = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}]
    reply = start().ask("model please", tools=tools, tool_choice="auto", temperature=0.25, seed=2**53 + 1)
    assert reply.json()["choices"][0]["message"]["tool_calls"] == [TOOL_CALL]
    sent = model.requests[0]
    assert (sent["tools"], sent["temperature"], sent["seed"], sent["model"]) == (tools, 0.25, 2**53 + 1, "large")


def test_the_state_is_built_as_in_logs(start) -> None:
    messages = [
        {"role": "system", "content": "model"},
        {"role": "user", "content": "add"},
        {"role": "assistant", "content": None, "tool_calls": [TOOL_CALL]},
        {"role": "tool", "tool_call_id": "call 1", "content": "5"},
    ]
    proxy = start()
    proxy.ask("", messages=messages, headers={"x-selfreg-run": "r", "x-selfreg-step": "1", "x-selfreg-task": "sums"})
    proxy.stop()
    (record,) = proxy_decisions(proxy)
    assert (record.state, record.keys) == ("add returned: 5", {"task": "sums"})


def proxy_decisions(proxy: Proxy) -> list[Any]:
    from word_server import ByWord, make_service

    return make_service(proxy.process.args[2], int(proxy.process.args[3]), 600.0, ByWord()).recorder.decisions()


def test_a_repeated_request_is_answered_from_before_and_pays_nothing(start, model, entries) -> None:
    proxy = start()
    first = proxy.ask("model please")
    assert proxy.ask("model please", metadata={"trace": "2"}).content == first.content
    proxy.stop()
    again = start().ask("model please")  # after a restart too
    assert again.content == first.content
    assert again.headers["x-selfreg-action"] == "model"
    assert (model.asked("large"), entries()) == (1, [("charged", (2,))])


def test_two_equal_requests_at_once_are_sent_once(start, model, entries) -> None:
    proxy = start()

    def read(_: int) -> bytes:
        with proxy.stream("model gated") as reply:
            return b"".join(reply.iter_bytes())

    with ThreadPoolExecutor(4) as pool:
        readers = [pool.submit(read, i) for i in range(4)]
        until(lambda: model.asked("large") > 0)
        time.sleep(0.5)
        model.gate.set()
        bodies = {one.result(20) for one in readers}
    assert len(bodies) == 1
    assert bodies.pop().endswith(b"data: [DONE]\n\n")
    assert (model.asked("large"), entries()) == (1, [("charged", (2,))])


def test_one_step_pays_for_one_request(start, model) -> None:
    proxy, ids = start(), {"x-selfreg-run": "r", "x-selfreg-step": "1"}
    assert proxy.ask("model please", headers=ids).status_code == 200
    other = proxy.ask("model again", headers=ids)
    assert other.status_code == 409
    assert "step ('r', '1') had another request" in other.json()["error"]["message"]
    assert model.asked("large") == 1


def test_a_client_that_goes_away_leaves_no_reservation(start, model, entries) -> None:
    proxy = start()
    with proxy.stream("model gated") as reply:
        next(reply.iter_bytes())
        assert entries() == [("reserved", (2,))]
    model.gate.set()
    until(lambda: entries() == [("charged", (2,))])
    with proxy.stream("model gated") as reply:  # the client comes back for the answer
        assert b"".join(reply.iter_bytes()).endswith(b"data: [DONE]\n\n")
    assert model.asked("large") == 1


def test_a_stream_of_the_weak_model_ends_with_its_client(start, model, entries) -> None:
    with start().stream("easy gated") as reply:
        next(reply.iter_bytes())
    until(lambda: model.cancelled == 1)
    assert entries() == []


@pytest.mark.parametrize("word", ["cut", "short", "broken"])
def test_a_stream_that_breaks_is_refunded(start, model, entries, word) -> None:
    proxy = start()
    with proxy.stream(f"model {word}") as reply:
        body = b"".join(reply.iter_bytes())
    errors = [line for line in body.splitlines() if b'"error"' in line]
    assert len(errors) == 1
    assert json.loads(errors[0].removeprefix(b"data: "))["error"]["message"]
    assert entries() == [("refunded", (0,))] or entries() == [("refunded", (2,))]


def test_errors_of_the_upstream_pass_and_are_refunded(start, model, entries) -> None:
    model.failures, proxy = 1, start(limit=2)
    failed = proxy.ask("model please")
    assert (failed.status_code, failed.headers["retry-after"]) == (503, "0")
    assert failed.json()["error"]["message"] == "overloaded; your key is ***"
    assert "set-cookie" not in failed.headers
    assert proxy.ask("model please").status_code == 200  # the next attempt pays anew
    assert [one[0] for one in entries()] == ["refunded", "charged"]
    assert proxy.ask("model at last").headers["x-selfreg-action"] == "nohelp"


def test_a_model_that_refuses_the_server_is_no_fault_of_the_client(start, entries) -> None:
    """Key and address of a model are the server's; what is wrong with a request passes."""
    proxy = start()
    for status in (401, 402, 403, 404, 405, 407):
        for word in ("model", "easy"):
            reply = proxy.ask(f"{word} refuse {status}")
            assert (reply.status_code, f"answered {status}" in reply.text) == (502, True)
            assert STRONG_KEY not in reply.text
    for status in (400, 422, 429):
        assert proxy.ask(f"easy refuse {status}").status_code == status
    assert {one[0] for one in entries()} == {"refunded"}
    proxy.stop()
    assert [one["status"] for one in proxy.log if one["event"] == "no whole answer of a model"][:2] == [502, 502]


def test_a_damaged_answer_is_no_fault_of_the_client(start, tmp_path) -> None:
    proxy = start()
    assert proxy.ask("model please").status_code == 200
    with contextlib.closing(sqlite3.connect(tmp_path / "ledger")) as file, file:
        file.execute("UPDATE record SET content = '{}' WHERE kind = 'answer'")
    reply = proxy.ask("model please")
    assert (reply.status_code, reply.json()["error"]["type"]) == (503, "server_error")


def test_an_error_with_status_200_is_refunded(start, entries) -> None:
    reply = start().ask("model odd")
    assert (reply.status_code, reply.json()["error"]["message"]) == (200, "out of credit")
    assert [one[0] for one in entries()] == ["refunded"]


def test_a_slow_upstream_is_refunded(start, entries) -> None:
    reply = start(timeout=0.3).ask("model hang")
    assert (reply.status_code, reply.json()["error"]["type"]) == (504, "upstream_error")
    assert [one[0] for one in entries()] == ["refunded"]


def test_an_upstream_that_is_down_is_refunded(start, entries) -> None:
    reply = start(url="http://127.0.0.1:9/v1").ask("model please")
    assert (reply.status_code, "large could not be reached" in reply.text) == (502, True)
    assert [one[0] for one in entries()] == ["refunded"]


def test_a_killed_proxy_pays_once(start, model, entries) -> None:
    proxy = start(limit=2)
    with pytest.raises(httpx.HTTPError), proxy.stream("model gated") as reply:  # noqa: PT012
        for _ in reply.iter_bytes():
            proxy.process.kill()
    proxy.stop()
    assert entries() == [("reserved", (2,))]
    model.gate.set()
    proxy = start(limit=2)
    with proxy.stream("model gated") as reply:
        assert b"".join(reply.iter_bytes()).endswith(b"data: [DONE]\n\n")
    assert entries() == [("charged", (2,))]
    assert proxy.ask("model again").headers["x-selfreg-action"] == "nohelp"


def test_nobody_spends_more_than_the_budget(start, model, entries) -> None:
    proxy = start(limit=6)
    with ThreadPoolExecutor(12) as pool:
        replies = list(pool.map(lambda i: proxy.ask(f"model {i}"), range(24)))
    assert {one.status_code for one in replies} == {200}
    assert sum(one.headers["x-selfreg-action"] == "model" for one in replies) == 3
    assert (model.asked("large"), entries()) == (3, [("charged", (2,))] * 3)


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"{", 400, "JSON"),
        (b"[]", 400, "JSON"),
        (b'{"messages": 1}', 400, "messages"),
        (b'{"messages": []}', 400, "messages"),
        (b'{"messages": [{"content": "x"}]}', 422, "role"),
        (b'{"messages": [{"role": "assistant", "content": "x"}]}', 422, "after the last message"),
    ],
)
def test_what_cannot_be_decided_is_said(start, model, body, status, words) -> None:
    proxy = start()
    reply = httpx.post(proxy.url + PATH, content=body, headers=proxy.head(TOKEN, None), timeout=30)
    assert (reply.status_code, model.requests) == (status, [])
    assert words in reply.json()["error"]["message"]


def test_ids_and_tokens_are_checked(start, model) -> None:
    proxy = start()
    assert proxy.ask("easy", "wrong").json()["error"]["type"] == "invalid_request_error"
    assert proxy.ask("easy", headers={"x-selfreg-run": ""}).status_code == 400
    assert proxy.ask("easy", headers={"x-selfreg-step": "s" * 501}).status_code == 400
    assert proxy.ask("crash now").status_code == 500
    named = httpx.Headers([(b"x-selfreg-run", "Lauf ä".encode()), (b"authorization", f"Bearer {TOKEN}".encode())])
    body = {"messages": [{"role": "user", "content": "easy"}]}
    reply = httpx.post(proxy.url + PATH, json=body, headers=named, timeout=30)
    assert dict(reply.headers.raw)[b"x-selfreg-run"].decode() == "Lauf ä"
    assert proxy.post("/v1/outcome", {"run_id": "Lauf ä", "success": True}).status_code == 200


def test_the_log_has_no_texts_and_no_keys(start, model) -> None:
    proxy = start(timeout=0.5)
    proxy.ask("easy secret-of-the-user")
    proxy.ask("model hang secret-of-the-user")
    model.failures = 1
    proxy.ask("model fails secret-of-the-user")
    proxy.stop()
    text = json.dumps(proxy.log)
    for secret in (WEAK_KEY, STRONG_KEY, TOKEN, "secret-of-the-user"):
        assert secret not in text
    actions = [one["action"] for one in proxy.log if one.get("path") == PATH]
    assert actions == ["nohelp", "model", "model"]


def test_many_streams_at_once(start, model) -> None:
    proxy, streams = start(limit=40), 200
    ready, done = threading.Semaphore(0), []
    limits = httpx.Limits(max_connections=None)

    def read(client: httpx.Client, i: int) -> None:
        text = f"{'model' if i % 10 == 0 else 'easy'} gated {i}"
        body = {"model": "any", "messages": [{"role": "user", "content": text}], "stream": True}
        with client.stream("POST", proxy.url + PATH, json=body, headers=proxy.head(TOKEN, None)) as reply:
            parts = reply.iter_bytes()
            first = next(parts)
            ready.release()
            done.append(first + b"".join(parts))

    with httpx.Client(limits=limits, timeout=90) as client:
        threads = [threading.Thread(target=read, args=(client, i)) for i in range(streams)]
        for thread in threads:
            thread.start()
        for _ in range(streams):
            assert ready.acquire(timeout=90)
        model.gate.set()
        for thread in threads:
            thread.join(60)
    assert len(done) == streams
    assert all(one.endswith(b"data: [DONE]\n\n") for one in done)
    assert model.asked("large") == 20
