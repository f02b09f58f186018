"""The API of a real server: one decision a step, settled or refunded; what is wrong is said with the right status."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from server_cases import SCRIPT, TOKEN, Server

from selfreg.runtime import SQLiteLedger

RUN = {"run_id": "run", "step_id": 0}


def test_a_step_is_decided_once_and_settled(serve, tmp_path) -> None:
    server = serve(limit=5)
    first = server.decide("run", 0, "model please")
    assert (first["action"], first["budget_left"], first["request"]) == ("model", [5], None)
    assert server.decide("run", 0, "nohelp now") == first
    assert server.post("/v1/settle", RUN | {"cost": 1}).json() == {"charged": True}
    assert server.post("/v1/settle", RUN).status_code in (200, 422)
    assert server.decide("run", 1, "model")["action"] == "model"
    for _ in range(2):
        assert server.post("/v1/refund", RUN | {"step_id": 1}).json() == {"refunded": True}
        assert server.post("/v1/outcome", {"run_id": "run", "success": True}).json() == {"stored": True}
    assert server.stop() == 0
    ledger = SQLiteLedger(tmp_path / "ledger")
    assert [(one.status, one.cost) for one in ledger.entries()] == [("charged", (1,)), ("refunded", (2,))]
    again = serve(limit=5)
    assert again.decide("run", 0, "nohelp now") == first


def test_messages_are_read(serve) -> None:
    messages = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "hi"}]
    server = serve()
    body = RUN | {"messages": [*messages, {"role": "user", "content": "model, please"}], "keys": {"task": "t"}}
    assert server.post("/v1/decide", body).json()["reason"] == "The state says model,."


def test_a_person_is_asked_and_answers(serve, person) -> None:
    server = serve(limit=5)
    body = RUN | {"steps": ["first", "person needed"], "question": "May I?"}
    reply = server.post("/v1/decide", body).json()
    assert (reply["action"], reply["request"]["state"], reply["request"]["action"]) == ("person", "open", None)
    assert server.post("/v1/wait", RUN).json()["state"] == "open"
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(server.post, "/v1/wait", RUN | {"seconds": 20})
        ada = person(server.url, "Ada")
        assert "May I?" in ada.page
        assert "<b>0.75</b> with person, 0.25 alone" in ada.page
        assert ada.close("answer", "You may.").status_code == 200
        begin = time.monotonic()
        closed = waiting.result(20).json()
    assert time.monotonic() - begin < 5
    assert (closed["state"], closed["action"], closed["answer"], closed["by"]) == (
        "answered",
        "person",
        "You may.",
        "Ada",
    )
    assert server.post("/v1/decide", body).json()["request"] == closed


def test_a_refund_withdraws_the_request(serve, person) -> None:
    server = serve(limit=1)
    server.decide("run", 0, "person")
    ada = person(server.url, "Ada")
    assert server.post("/v1/refund", RUN).json() == {"refunded": True}
    late = ada.close("answer", "Yes.")
    assert late.status_code == 409
    assert "the agent has declined run run, step 0 before you" in late.text
    assert server.decide("run", 1, "person")["budget_left"] == [1]


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("/v1/decide", b"{", 400, "truncated"),
        ("/v1/decide", b"\xff", 400, "invalid"),
        ("/v1/decide", b"[" * 100_000, 400, ""),
        ("/v1/decide", [], 400, "Expected `object`"),
        ("/v1/decide", {"run_id": "a"}, 400, "missing required field"),
        ("/v1/decide", RUN | {"steps": ["a"], "budget": 1}, 400, "unknown field `budget`"),
        ("/v1/decide", RUN | {"steps": [{"text": "a"}]}, 400, "`$.steps[0]`"),
        ("/v1/decide", {"run_id": 1.5, "step_id": 0, "steps": ["a"]}, 400, "`$.run_id`"),
        ("/v1/decide", {"run_id": 2**70, "step_id": 0, "steps": ["a"]}, 400, "`$.run_id`"),
        ("/v1/decide", {"run_id": "x" * 501, "step_id": 0, "steps": ["a"]}, 400, "`$.run_id`"),
        ("/v1/decide", RUN, 422, "expected either 'steps' or 'messages'"),
        ("/v1/decide", RUN | {"steps": []}, 422, "expected a list of at least one"),
        ("/v1/decide", RUN | {"messages": [{"role": "assistant"}]}, 422, "nothing came in"),
        ("/v1/settle", RUN, 422, "was never reserved"),
        ("/v1/settle", RUN | {"cost": {"dollars": 1}}, 422, "unknown unit 'dollars'"),
        ("/v1/settle", RUN | {"cost": 1.5}, 400, "`$.cost`"),
        ("/v1/settle", RUN | {"cost": -1}, 400, "`$.cost`"),
        ("/v1/wait", RUN, 422, "has no request"),
        ("/v1/wait", RUN | {"seconds": 61}, 400, "`$.seconds`"),
        ("/v1/outcome", {"run_id": "a", "success": 2}, 400, "`$.success`"),
        ("/v1/decide", b" " * (2**20 + 1), 413, "more than"),
    ],
)
def test_what_is_wrong_is_said(shared, path, body, status, message) -> None:
    reply = shared.post(path, body)
    assert reply.status_code == status, reply.text
    assert message in reply.json()["error"]


@pytest.fixture(scope="module")
def shared(tmp_path_factory, server_extra):
    """One server for tests that change nothing."""
    server = Server(sys.executable, str(SCRIPT), str(tmp_path_factory.mktemp("shared") / "ledger"), "9", "600")
    yield server
    server.stop()


def test_nobody_decides_without_the_token(shared) -> None:
    for token in ("-", "token-of-the-desk", TOKEN + "x", "ü"):
        headers = {"Authorization": b"Bearer " + token.encode()}
        for path in ("/v1/decide", "/v1/settle", "/v1/refund", "/v1/outcome", "/v1/wait"):
            reply = httpx.post(shared.url + path, content=b"{}", headers=headers)
            assert (reply.status_code, reply.headers["www-authenticate"]) == (401, "Bearer")
        assert httpx.get(shared.url + "/metrics", headers=headers).status_code == 401
    assert httpx.post(shared.url + "/v1/decide", content=b"{}").status_code == 401
    assert httpx.get(shared.url + "/v1/decide").status_code == 405
    assert httpx.get(shared.url + "/nothing").status_code == 404


def test_other_names_of_the_host_are_refused(shared) -> None:
    for name in ("example.org", "a b?", "[::", ""):
        reply = httpx.get(shared.url + "/health", headers={"Host": name})
        assert reply.status_code == 400
        assert f"no host name {name!r}; name it with `selfreg serve --name`" in reply.json()["error"]
    assert httpx.get(shared.url + "/health").json() == {"ok": True}


def test_a_policy_that_fails_spends_nothing(serve, tmp_path) -> None:
    server = serve()
    reply = server.post("/v1/decide", RUN | {"steps": ["crash now"]})
    assert reply.status_code == 500
    assert reply.json() == {"error": "RuntimeError; the log of the server has more"}
    server.stop()
    assert any("this policy cannot decide" in line.get("error", "") for line in server.log)
    assert SQLiteLedger(tmp_path / "ledger").entries() == []


def test_a_ledger_that_is_gone_is_said(serve, tmp_path) -> None:
    server = serve()
    server.decide("run", 0, "model")
    (tmp_path / "ledger").unlink()
    reply = server.post("/v1/decide", RUN | {"steps": ["model"]})
    assert (reply.status_code, "deleted or moved" in reply.json()["error"]) == (503, True)
    (tmp_path / "ledger").write_bytes(b"something else")
    assert server.post("/v1/decide", RUN | {"steps": ["model"]}).status_code == 503
    assert httpx.get(server.url + "/health").status_code == 503


def test_a_slow_decision_blocks_nobody(serve) -> None:
    server = serve()
    slow = threading.Thread(target=server.decide, args=("slow", 0, "slow"))
    slow.start()
    time.sleep(0.3)
    begin = time.monotonic()
    for i in range(5):
        server.decide("run", i, "model")
    assert time.monotonic() - begin < 1.5
    slow.join()


def test_a_stop_answers_what_is_under_way(serve) -> None:
    server = serve()
    server.decide("run", 0, "person")
    with ThreadPoolExecutor() as pool:
        slow = pool.submit(server.decide, "slow", 0, "slow")
        waiting = pool.submit(server.post, "/v1/wait", RUN | {"seconds": 60})
        time.sleep(0.7)
        begin = time.monotonic()
        os.kill(server.process.pid, signal.SIGTERM)
        assert slow.result(10)["action"] == "nohelp"
        assert waiting.result(10).json()["state"] == "open"
        assert server.process.wait(10) == 0
    assert time.monotonic() - begin < 5
    with pytest.raises(httpx.ConnectError):
        httpx.get(server.url + "/health")
    server.stop()
    assert server.log[-1]["event"] == "stopped"


def test_many_agents_never_overspend(serve, tmp_path) -> None:
    server = serve(limit=15)
    with ThreadPoolExecutor(16) as pool:
        replies = list(pool.map(lambda i: server.decide(f"run {i % 20}", i // 20, "model"), range(80)))
    helped = sum(reply["action"] == "model" for reply in replies)
    assert helped == 7  # two units each
    assert SQLiteLedger(tmp_path / "ledger").left == (1,)


def test_figures_and_logs(serve) -> None:
    server = serve(limit=5)
    server.decide("run", 0, "person secret")
    figures = httpx.get(server.url + "/metrics", headers={"Authorization": f"Bearer {TOKEN}"}).text
    assert 'selfreg_decisions_total{action="person"} 1.0' in figures
    assert 'selfreg_budget_left{unit="requests"} 4.0' in figures
    assert "selfreg_open_requests 1.0" in figures
    assert 'selfreg_requests_total{path="/v1/decide",status="200"} 1.0' in figures
    server.stop()
    (line,) = [one for one in server.log if one.get("path") == "/v1/decide"]
    assert (line["run_id"], line["step_id"], line["action"], line["status"]) == ("run", 0, "person", 200)
    assert "secret" not in json.dumps(server.log)
    assert TOKEN not in json.dumps(server.log)
