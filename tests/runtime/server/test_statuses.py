"""Whose fault it is: what the server or its ledger does wrong is 5xx, what the caller does wrong is 4xx."""

from __future__ import annotations

import contextlib
import errno
import sqlite3
from typing import ClassVar

import pytest
from starlette.testclient import TestClient
from word_server import DESK_TOKEN, TOKEN, ByWord, Together, make_service

from selfreg.decisions import Decision
from selfreg.runtime import Desk, Ledger, PeriodPrice, Recorder, SQLiteLedger
from selfreg.runtime.server import Service, create_app

HEADERS = {"Authorization": f"Bearer {TOKEN}"}
RUN = {"run_id": "run", "step_id": 0}


def client(service: Service) -> TestClient:
    app = create_app(service, token=TOKEN, desk_token=DESK_TOKEN, hosts=["testserver"])
    found = TestClient(app, raise_server_exceptions=False, headers=HEADERS, follow_redirects=False)
    found.post("/login", data={"name": "Ada", "token": DESK_TOKEN})
    return found


@pytest.fixture(params=[ByWord, Together])
def server(request, tmp_path) -> TestClient:
    return client(make_service(str(tmp_path / "ledger"), 9, 600, request.param()))


CALLS = {
    "decide": lambda server: server.post("/v1/decide", json=RUN | {"steps": ["person"]}),
    "decide anew": lambda server: server.post("/v1/decide", json=RUN | {"step_id": 1, "steps": ["person"]}),
    "wait": lambda server: server.post("/v1/wait", json=RUN),
    "settle": lambda server: server.post("/v1/settle", json=RUN),
    "refund": lambda server: server.post("/v1/refund", json=RUN),
    "outcome": lambda server: server.post("/v1/outcome", json={"run_id": "run", "success": True}),
    "desk": lambda server: server.get("/desk"),
    "open": lambda server: server.get("/desk/open"),
    "team": lambda server: server.get("/team"),
    "metrics": lambda server: server.get("/metrics"),
    "health": lambda server: server.get("/health"),
}
# What is damaged, and the calls that cannot be answered without it; others may fail too.
DAMAGES = {
    "UPDATE record SET content = '{}' WHERE kind = 'decision'": {"decide", "team"},
    "UPDATE record SET content = '[5]' WHERE kind = 'request'": {"decide", "wait", "refund", "desk", "open", "metrics"},
    "UPDATE record SET content = 'yes' WHERE kind = 'outcome'": {"outcome", "team"},
    "UPDATE entry SET cost = 'x'": {"settle", "refund", "team"},
    "UPDATE entry SET accounts = '{'": {"settle", "refund", "team"},
    "UPDATE budget SET timezone = 'Mars'": {"decide anew", "settle", "outcome", "team", "metrics", "health"},
    "UPDATE ledger SET identity = 'another'": set(CALLS),
    "DROP TABLE record": set(CALLS) - {"settle", "health"},
}


@pytest.mark.parametrize("statement", DAMAGES)
def test_a_damaged_ledger_is_no_fault_of_the_caller(server, tmp_path, caplog, statement) -> None:
    CALLS["decide"](server)
    CALLS["outcome"](server)
    with contextlib.closing(sqlite3.connect(tmp_path / "ledger")) as file, file:
        file.execute(statement)
    replies = {name: call(server) for name, call in CALLS.items()}
    failed = {name for name, reply in replies.items() if reply.status_code != 200}
    assert {replies[name].status_code for name in failed} == {503}
    assert failed >= DAMAGES[statement]
    for name in failed:
        assert str(tmp_path / "ledger") in replies[name].json()["error"]
        assert "retry-after" not in replies[name].headers, "it does not mend itself"
    said = [one.fields["error"] for one in caplog.records if one.getMessage() == "the ledger cannot be used"]
    assert len(said) == len(failed)


@pytest.mark.parametrize("trouble", ["locked", "deleted", "full"])
def test_a_ledger_out_of_reach_is_no_fault_of_the_caller(tmp_path, monkeypatch, trouble) -> None:
    service = make_service(str(tmp_path / "ledger"), 9, 600)
    store = service.recorder.ledger._store
    store.timeout = 0.05
    server = client(service)
    CALLS["decide"](server)
    with contextlib.closing(sqlite3.connect(tmp_path / "ledger", isolation_level=None)) as other:
        if trouble == "locked":
            other.execute("BEGIN EXCLUSIVE")
        if trouble == "deleted":
            (tmp_path / "ledger").unlink()
        if trouble == "full":
            full = OSError(errno.ENOSPC, "no room on disk; nothing was done", str(store.path))
            monkeypatch.setattr(store, "_translate", lambda error: full)
            monkeypatch.setattr("selfreg.runtime.ledger.sqlite.FileTransaction.write_record", _disk_full)
            monkeypatch.setattr("selfreg.runtime.ledger.sqlite.FileTransaction.write_entry", _disk_full)
        for name in ("decide anew", "settle", "outcome"):
            reply = CALLS[name](server)
            assert (reply.status_code, reply.headers["retry-after"]) == (503, "1"), reply.text
    assert CALLS["decide"](server).status_code == (503 if trouble == "deleted" else 200)


def _disk_full(*_: object) -> None:
    raise sqlite3.OperationalError("database or disk is full")


class Failing:
    """A policy whose failures look like faults of a caller, or of the ledger."""

    costs: ClassVar = {"person": 1}
    limits = (1,)

    def __init__(self, error: Exception | None = None, decision: object = None) -> None:
        self.error, self.decision = error, decision

    def decide(self, steps, budget_left):
        if steps[-1].state == "good":
            return Decision()
        if self.error is not None:
            raise self.error
        return self.decision


class FailingTogether(Failing):
    def decide_batch(self, histories, budgets_left):
        return [self.decide(*one) for one in zip(histories, budgets_left, strict=True)]


@pytest.mark.parametrize("kind", [Failing, FailingTogether])
@pytest.mark.parametrize(
    "policy",
    [
        {"error": ValueError("the weights have another shape")},
        {"error": OSError("the hub cannot be reached")},
        {"error": TimeoutError("the judge did not answer")},
        {"decision": Decision("unheard of")},
        {"decision": Decision(neighbours=(5,))},
        {"decision": "person"},
    ],
)
def test_a_policy_that_fails_is_no_fault_of_the_caller(kind, policy) -> None:
    ledger = Ledger(5)
    server = client(Service(Recorder(kind(**policy), ledger), Desk(ledger)))
    reply = CALLS["decide"](server)
    assert (reply.status_code, ledger.left, ledger.entries()) == (500, (5,), [])
    assert server.post("/v1/decide", json=RUN | {"steps": ["good"]}).status_code == 200


def test_a_price_that_fails_is_no_fault_of_the_caller(tmp_path) -> None:
    class Flat:
        def penalty_for(self, share: float) -> float:
            return 0.1

    ledger = Ledger(5)  # without a period, which the price needs
    recorder = Recorder(FailingTogether(decision=Decision()), ledger, price=PeriodPrice(Flat(), 10))
    assert CALLS["decide"](client(Service(recorder, Desk(ledger)))).status_code == 500


def test_missing_keys_are_the_callers_fault(tmp_path) -> None:
    from selfreg.runtime import Budget

    ledger = SQLiteLedger(tmp_path / "ledger", [Budget(5, scope="task")])
    server = client(Service(Recorder(ByWord(), ledger), Desk(ledger)))
    assert "needs keys" in server.post("/v1/decide", json=RUN | {"steps": ["model"]}).json()["error"]
    keyed = RUN | {"step_id": 1, "steps": ["model"], "keys": {"task": "t"}}
    assert server.post("/v1/decide", json=keyed).status_code == 200
    for name in ("health", "metrics", "desk", "team"):
        assert CALLS[name](server).status_code == 200


def test_ids_of_agents_break_no_page(server) -> None:
    """Runs 1 and "1" are two runs; they cannot be exported together, and the page says so."""
    for run_id in (1, "1"):
        assert server.post("/v1/decide", json={"run_id": run_id, "step_id": 0, "steps": ["a"]}).status_code == 200
        assert server.post("/v1/outcome", json={"run_id": run_id, "success": True}).status_code == 200
    page = server.get("/team")
    assert page.status_code == 200
    assert "duplicate run" in page.text


def test_two_servers_share_a_ledger_and_see_a_limit_that_is_raised(tmp_path) -> None:
    def start() -> TestClient:
        return client(make_service(str(tmp_path / "ledger"), 1, 600))

    def decide(server: TestClient, run: str, word: str) -> dict:
        return server.post("/v1/decide", json={"run_id": run, "step_id": 0, "steps": [word]}).json()

    first, second = start(), start()
    reply = decide(first, "run", "person")
    assert (reply["action"], decide(second, "run", "nohelp")) == ("person", reply)
    assert decide(second, "other", "person")["action"] == "nohelp"
    SQLiteLedger(tmp_path / "ledger").raise_limit(2, budget="requests", reason="a busy day")
    assert decide(second, "third", "person")["action"] == "person"
    again = start()  # with the limit that it was made with
    assert again.post("/v1/wait", json=RUN).json() == reply["request"]
    assert decide(again, "fourth", "person")["action"] == "nohelp"


@pytest.mark.parametrize(("names", "host", "status"), [
    (["help.example.com"], "HELP.example.com:80", 200),
    (["*.example.com"], "help.example.com", 200),
    (["*.example.com"], "example.com.evil.org", 400),
    (["[::1]"], "[::1]:8000", 200),
    (["*"], "anything", 200),
])  # fmt: skip
def test_hosts_by_name(names, host, status) -> None:
    ledger = Ledger(1)
    service = Service(Recorder(ByWord(), ledger), Desk(ledger))
    app = create_app(service, token=TOKEN, desk_token=DESK_TOKEN, hosts=names)
    assert TestClient(app).get("/health", headers={"Host": host}).status_code == status


@pytest.mark.parametrize("name", ["a*b", "*b", "*.a.*"])
def test_a_host_that_is_no_name_is_named(name) -> None:
    ledger = Ledger(1)
    service = Service(Recorder(ByWord(), ledger), Desk(ledger))
    with pytest.raises(ValueError, match="expected a name, or one that begins with"):
        create_app(service, token=TOKEN, desk_token=DESK_TOKEN, hosts=[name])
