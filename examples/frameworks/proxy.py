"""An agent behind the proxy: fails alone, is helped once, is killed and resumed, and is refused a second request.

python examples/frameworks/proxy.py            (extra `proxy`; needs no network: the models are scripted)
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import threading
import time
from http.server import ThreadingHTTPServer
from pathlib import Path

import httpx
from fake_models import FakeModels

from selfreg import Ledger
from selfreg.decisions import Decision
from selfreg.runtime import Desk, Recorder, SQLiteLedger
from selfreg.runtime.server import Service, create_app, run_server
from selfreg.runtime.server.completions import Completions
from selfreg.runtime.server.upstream import Upstream

TOKEN = "token-of-the-agents"


class AfterAnError:
    """In the place of a trained helper."""

    costs = {"strong": 1}  # noqa: RUF012

    def decide(self, steps, budget_left):
        return Decision("strong" if "error" in steps[-1].state else "nohelp")


def serve(ledger: str, url: str) -> None:
    """The proxy; `selfreg serve RUN --weak URL,model --strong URL,model` does the same with a trained helper."""
    store: Ledger = SQLiteLedger(ledger)
    service = Service(Recorder(AfterAnError(), store), Desk(store))
    completions = Completions(service, Upstream(url, "small"), {"strong": Upstream(url, "large")})
    app = create_app(service, token=TOKEN, desk_token="token-of-the-desk", completions=completions)
    run_server(app, service, port=0)


def agent(url: str, run: str) -> None:
    """Tries until the answer is right; every step has the same ids when it is executed again."""
    messages = [{"role": "user", "content": "17 * 23 = ?"}]
    for step in range(3):
        headers = {"Authorization": f"Bearer {TOKEN}", "x-selfreg-run": run, "x-selfreg-step": str(step)}
        body = {"model": "any", "messages": messages}
        reply = httpx.post(f"{url}/v1/chat/completions", json=body, headers=headers, timeout=60).raise_for_status()
        answer = reply.json()["choices"][0]["message"]["content"]
        if answer == "391":
            print(f"{run}: solved in step {step}, {reply.headers['x-selfreg-budget-left']} left")
            return
        error = {"role": "user", "content": "error: that is wrong, try again"}
        messages += [{"role": "assistant", "content": answer}, error]
    print(f"{run}: failed, {reply.headers['x-selfreg-budget-left']} left")


def start(*arguments: str, **options) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, __file__, *arguments], text=True, **options)


def main() -> None:
    models = ThreadingHTTPServer(("127.0.0.1", 0), FakeModels)
    threading.Thread(target=models.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as folder:
        for budget in (0, 1):
            ledger = str(Path(folder) / f"ledger-{budget}")
            store = SQLiteLedger(ledger, budget)
            proxy = start("serve", ledger, f"http://127.0.0.1:{models.server_port}/v1", stderr=subprocess.PIPE)
            url = json.loads(proxy.stderr.readline())["url"]
            if budget == 0:
                start("agent", url, "alone").wait()
            else:
                killed = start("agent", url, "helped")
                while "large" not in FakeModels.calls:
                    time.sleep(0.01)
                killed.send_signal(signal.SIGKILL)
                print(f"killed while help was under way: exit status {killed.wait()}", flush=True)
                FakeModels.may_answer.set()
                start("agent", url, "helped").wait()
                start("agent", url, "refused").wait()
                print("in the ledger:", *[(one.run_id, one.step_id, one.status) for one in store.entries()])
                print("calls of the large model:", FakeModels.calls.count("large"))
            proxy.terminate()
            proxy.communicate()


if __name__ == "__main__":
    {"serve": serve, "agent": agent}.get(sys.argv[1] if sys.argv[1:] else "", main)(*sys.argv[2:])
