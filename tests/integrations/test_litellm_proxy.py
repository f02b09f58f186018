"""LiteLLM's own proxy, started by its command with a configuration file, in front of scripted models."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

if importlib.util.find_spec("litellm_proxy_extras") is None:
    pytest.skip("litellm[proxy] is missing; `make test-adapters` runs this file where it is", allow_module_level=True)

import httpx

from selfreg.runtime import Budget, SQLiteLedger

FOLDER = Path(__file__).parents[2] / "examples" / "frameworks"
EXAMPLE = FOLDER / "litellm_proxy.py"
PRINTED = """\
alone: failed
killed while help was under way: ('helped', '1', 'reserved')
helped: solved in step 1
refused: failed
in the ledger: ('helped', '1', 'charged')
"""
HELPER = """
import json
import os
from selfreg.decisions import Decision
from selfreg.integrations.litellm import SelfregLogger
from selfreg.runtime import Recorder, SQLiteLedger

class ByWord:
    def decide(self, steps, budget_left):
        return Decision("strong" if "help" in steps[-1].state else "nohelp")

recorder = Recorder(ByWord(), SQLiteLedger(os.environ["LEDGER"]), costs={"strong": 1})

class Logger(SelfregLogger):
    # Also writes what LiteLLM's own log of a call has.
    async def async_log_success_event(self, kwargs, response_obj, start_time, end_time):
        with open(os.environ["LEDGER"] + ".calls", "a") as file:
            print(json.dumps(kwargs["standard_logging_object"]["metadata"]["spend_logs_metadata"]), file=file)

logger = Logger(recorder, weak="agent", strong="agent-strong")
"""


def test_the_example(tmp_path) -> None:
    """Alone, helped once, agent and proxy killed in the middle, resumed, refused."""
    done = subprocess.run([sys.executable, EXAMPLE, tmp_path], capture_output=True, text=True, timeout=1800)
    assert (done.stdout, done.stderr, done.returncode) == (PRINTED, "", 0)


class ScriptedModels(BaseHTTPRequestHandler):
    """Does what the last message says: "down", "long", once "fail", "break", "wait"; else answers with its name."""

    seen: Counter[str] = Counter()  # noqa: RUF012
    may_answer = threading.Event()
    lock = threading.Lock()

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        text, model = request["messages"][-1]["content"], request["model"]
        with self.lock:
            self.seen[f"{model} {text}"] += 1
            first = self.seen[f"{model} {text}"] == 1
        wait = "wait" in text and first
        with suppress(OSError):
            if "down" in text or ("fail" in text and first):
                self.send(json.dumps({"error": {"message": "overloaded", "type": "server_error"}}), 500)
            elif request.get("stream"):
                self.stream(model, wait, breaks="break" in text and first, pause=0.3 if "long" in text else 0.0)
            else:
                self.may_answer.wait(600 * wait)
                message = {"role": "assistant", "content": f"{model} answered"}
                self.send(json.dumps({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}), 200)

    def send(self, body: str, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def stream(self, model: str, wait: bool, breaks: bool, pause: float) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Content-Length", "100000" if breaks else "")
        if not breaks:
            self._headers_buffer.pop()
        self.end_headers()
        self.wfile.flush()
        self.may_answer.wait(600 * wait)
        for word in (model, " ", *"answered"):
            self.event({"choices": [{"index": 0, "delta": {"content": word}}]})
            time.sleep(pause)
            if breaks:
                return
        self.event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        self.wfile.write(b"data: [DONE]\n\n")

    def event(self, fields: dict[str, Any]) -> None:
        self.wfile.write(b"data: " + json.dumps({"id": "1", "object": "chat.completion.chunk", **fields}).encode())
        self.wfile.write(b"\n\n")
        self.wfile.flush()

    def log_message(self, *_: Any) -> None:
        pass


class Proxy:
    """A client of the proxy; each run has a budget of 1."""

    def __init__(self, url: str, key: str, ledger: SQLiteLedger) -> None:
        self.url, self.headers, self.ledger = url, {"Authorization": f"Bearer {key}"}, ledger

    def request(self, run: str, text: str, step: str = "0", **fields: Any) -> dict[str, Any]:
        """The arguments of a call of httpx."""
        headers = {**self.headers, "x-selfreg-run": run, "x-selfreg-step": step}
        body = {"model": "agent", "messages": [{"role": "user", "content": text}], **fields}
        return {"url": f"{self.url}/v1/chat/completions", "json": body, "headers": headers, "timeout": 600}

    def call(self, run: str, text: str, step: str = "0", **fields: Any) -> str:
        reply = httpx.post(**self.request(run, text, step, **fields))
        if fields.get("stream"):
            parts = [json.loads(line[6:]) for line in reply.text.splitlines() if line.startswith("data: {")]
            return "".join(one["choices"][0]["delta"].get("content") or "" for one in parts if "choices" in one)
        return str(reply.json()["choices"][0]["message"]["content"]) if reply.is_success else str(reply.status_code)

    def statuses(self, run: str, wanted: list[str]) -> list[str]:
        """Of a run in the ledger; the proxy reports a little later."""
        found: list[str] = []
        for _ in range(1000):
            found = [one.status for one in self.ledger.entries() if one.run_id == run]
            if found == wanted:
                break
            time.sleep(0.1)
        return found


@pytest.fixture(scope="module")
def proxy(tmp_path_factory) -> Iterator[Proxy]:
    sys.path.insert(0, str(FOLDER))
    try:
        import litellm_proxy as example
    finally:
        sys.path.remove(str(FOLDER))
    folder = tmp_path_factory.mktemp("proxy")
    (folder / "helper.py").write_text(HELPER)
    (folder / "config.yaml").write_text(example.CONFIG.read_text())
    ledger = SQLiteLedger(folder / "ledger.sqlite", [Budget(100), Budget(1, scope="run")])
    models = ThreadingHTTPServer(("127.0.0.1", 0), ScriptedModels)
    threading.Thread(target=models.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{models.server_port}/v1"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LITELLM_USE_CHAT_COMPLETIONS_URL_FOR_ANTHROPIC_MESSAGES", "true")
        with example.start_proxy(folder / "config.yaml", ledger.path, url) as found:
            yield Proxy(found, example.KEY, ledger)
    models.shutdown()
    models.server_close()


@pytest.mark.parametrize("stream", [False, True])
def test_helped_once_then_refused(proxy, stream) -> None:
    run = f"once {stream}"
    assert proxy.call(run, "easy", "0", stream=stream) == "small answered"
    assert proxy.call(run, "help", "1", stream=stream) == "large answered"
    assert proxy.statuses(run, ["charged"]) == ["charged"]
    assert proxy.call(run, "help", "2", stream=stream) == "small answered"
    assert proxy.call(run, "help", "1", stream=stream) == "large answered"  # executed again: not paid twice
    assert proxy.statuses(run, ["charged"]) == ["charged"]


def test_runs_at_once(proxy) -> None:
    """Each of the steps of a run requests help; one of them gets it."""

    def call(i: int) -> str:
        return str(proxy.call(f"parallel {i % 3}", "help", str(i)))

    with ThreadPoolExecutor(12) as pool:
        assert sorted(pool.map(call, range(12))) == ["large answered"] * 3 + ["small answered"] * 9
    for i in range(3):
        assert proxy.statuses(f"parallel {i}", ["charged"]) == ["charged"]


@pytest.mark.parametrize("stream", [False, True])
def test_a_failure_is_paid_once_and_only_for_an_answer(proxy, stream) -> None:
    """LiteLLM tries again, within the step, also where a stream fails before it begins."""
    run = f"failing {stream}"
    assert proxy.call(run, f"help fail {stream}", stream=stream) == "large answered"
    assert proxy.statuses(run, ["charged"]) == ["charged"]
    assert proxy.call(run, "help", "1") == "small answered"


def test_a_request_that_fails_for_good_is_refunded(proxy) -> None:
    assert proxy.call("down", "help down") == "500"
    assert proxy.statuses("down", ["refunded"]) == ["refunded"]
    assert proxy.call("down", "help", "1") == "large answered"


def test_a_broken_stream_is_refunded(proxy) -> None:
    assert "answered" not in proxy.call("broken", "help break", stream=True)
    assert proxy.statuses("broken", ["refunded"]) == ["refunded"]
    assert proxy.call("broken", "help break", stream=True) == "large answered"
    assert proxy.statuses("broken", ["refunded", "charged"]) == ["refunded", "charged"]


def test_a_reader_who_leaves_a_stream_has_paid(proxy) -> None:
    with httpx.stream("POST", **proxy.request("left", "help long", stream=True)) as reply:
        next(reply.iter_lines())
    assert proxy.statuses("left", ["charged"]) == ["charged"]


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_who_leaves_before_the_answer_is_settled(proxy, stream) -> None:
    """LiteLLM waits for an answer, or for the first piece of a stream, all the same: it was given, and is paid."""
    run, text = f"gone {stream}", f"help wait {stream}"

    async def leave() -> None:
        async with httpx.AsyncClient() as client:
            task = asyncio.create_task(client.post(**proxy.request(run, text, stream=stream)))
            while not ScriptedModels.seen[f"large {text}"]:
                assert not task.done(), task
                await asyncio.sleep(0.01)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    ScriptedModels.may_answer.clear()
    asyncio.run(leave())
    assert proxy.statuses(run, ["reserved"]) == ["reserved"]
    ScriptedModels.may_answer.set()
    assert proxy.statuses(run, ["charged"]) == ["charged"]
    assert proxy.call(run, text, stream=stream) == "large answered"


@pytest.mark.parametrize("stream", [False, True])
def test_the_decision_is_in_the_response_and_in_the_log_of_the_call(proxy, stream) -> None:
    run = f"shown {stream}"
    replies = [httpx.post(**proxy.request(run, "help", str(step), stream=stream)) for step in range(2)]
    assert [one.headers["x-selfreg-action"] for one in replies] == ["strong", "nohelp"]
    file = proxy.ledger.path.with_suffix(".sqlite.calls")
    for _ in range(1000):
        logs = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
        found = [one["selfreg.action"] for one in logs if one and one["selfreg.run_id"] == run]
        if len(found) == 2:
            break
        time.sleep(0.1)
    assert found == ["strong", "nohelp"]


def test_tools_pass(proxy) -> None:
    tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}
    assert proxy.call("tools", "help", tools=[tool]) == "large answered"


@pytest.mark.parametrize("stream", [False, True])
def test_messages_of_anthropic(proxy, stream) -> None:
    """LiteLLM translates requests to ``/v1/messages``; nothing of ours is sent to the model."""
    run, body = f"messages {stream}", {"model": "agent", "max_tokens": 9, "stream": stream}
    for text, said in (("help one", "large"), ("help two", "small")):
        request = {**proxy.request(run, text, text), "url": f"{proxy.url}/v1/messages"}
        request["json"] = {**body, "messages": [{"role": "user", "content": text}]}
        reply = httpx.post(**request)
        assert said in reply.text, reply.text
    assert proxy.statuses(run, ["charged"]) == ["charged"]


def test_other_groups_are_left_alone(proxy) -> None:
    assert proxy.call("other", "help", model="alone") == "small answered"
    assert proxy.statuses("other", []) == []
