"""An agent behind LiteLLM's own proxy: fails alone, is helped once, all is killed and resumed, and is then refused.

python examples/frameworks/litellm_proxy.py FOLDER     (needs `litellm[proxy]`, no network: the models are scripted)

The proxy is the command ``litellm --config litellm_proxy/config.yaml``; the file beside it, helper.py, has the helper.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from pathlib import Path

import httpx
from fake_models import FakeModels

from selfreg import SQLiteLedger

CONFIG = Path(__file__).with_name("litellm_proxy") / "config.yaml"
KEY = "sk-" + "0123456789abcdef" * 2  # LiteLLM refuses to start without one


@contextmanager
def start_proxy(config: Path, ledger: Path, models: str, wait: float = 600.0):
    """LiteLLM's proxy in a process of its own, killed at the end; its URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    variables = {
        "LEDGER": str(ledger),
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # nothing is loaded from the network
        "LITELLM_MASTER_KEY": KEY,
        "MODELS_KEY": "key-of-the-models",
        "MODELS_URL": models,
    }
    command = Path(sys.executable).with_name("litellm")
    arguments = ["--config", config, "--host", "127.0.0.1", "--port", str(port)]
    log = ledger.with_suffix(".log")
    with log.open("a") as output:
        process = subprocess.Popen([command, *arguments], env={**os.environ, **variables}, stdout=output, stderr=output)
    try:
        url, end = f"http://127.0.0.1:{port}", time.monotonic() + wait
        while not is_alive(url):
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(log.read_text()[-3000:])
            time.sleep(0.1)
        yield url
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def is_alive(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health/liveliness", timeout=5).is_success
    except httpx.TransportError:
        return False


def agent(url: str, model: str, run: str) -> None:
    """Tries until the answer is right: every step has the same ids when it is executed again."""
    messages = [{"role": "user", "content": "17 * 23 = ?"}]
    for step in range(2):
        headers = {"Authorization": f"Bearer {KEY}", "x-selfreg-run": run, "x-selfreg-step": str(step)}
        body = {"model": model, "messages": messages}
        reply = httpx.post(f"{url}/v1/chat/completions", json=body, headers=headers, timeout=300).raise_for_status()
        answer = reply.json()["choices"][0]["message"]["content"]
        if answer == "391":
            print(f"{run}: solved in step {step}")
            return
        error = {"role": "user", "content": "error: that is wrong, try again"}
        messages += [{"role": "assistant", "content": answer}, error]
    print(f"{run}: failed")


def start_agent(*arguments: str) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, __file__, *arguments], text=True)


def main(folder: str) -> None:
    ledger = Path(folder, "ledger.sqlite")
    store = SQLiteLedger(ledger, 1)
    models = ThreadingHTTPServer(("127.0.0.1", 0), FakeModels)
    threading.Thread(target=models.serve_forever, daemon=True).start()
    url_of_models = f"http://127.0.0.1:{models.server_port}/v1"
    with start_proxy(CONFIG, ledger, url_of_models) as url:
        start_agent(url, "alone", "alone").wait()
        helped = start_agent(url, "agent", "helped")
        while "large" not in FakeModels.calls:
            time.sleep(0.01)
        helped.kill()
        helped.wait()
    print(
        "killed while help was under way:",
        *[(one.run_id, one.step_id, one.status) for one in store.entries()],
        flush=True,
    )
    FakeModels.may_answer.set()
    with start_proxy(CONFIG, ledger, url_of_models) as url:
        start_agent(url, "agent", "helped").wait()
        start_agent(url, "agent", "refused").wait()
    print("in the ledger:", *[one[:3] for one in store.entries()])


if __name__ == "__main__":
    agent(*sys.argv[1:]) if len(sys.argv) > 2 else main(*sys.argv[1:])
