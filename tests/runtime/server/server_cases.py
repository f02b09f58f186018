"""A server in a process of its own, and people who use it."""

from __future__ import annotations

import json
import queue
import subprocess
import threading
from html import unescape
from pathlib import Path
from typing import Any

import httpx

SCRIPT = Path(__file__).with_name("word_server.py")
TOKEN, DESK_TOKEN = "token-of-the-agents", "token-of-the-desk"


class Server:
    """A process that serves; `log` holds its log so far."""

    def __init__(self, *command: str, **environment: str) -> None:
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment or None)
        self.log: list[dict[str, Any]] = []
        urls: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, args=(urls,), daemon=True)
        self._reader.start()
        self.url = urls.get(timeout=60)
        assert self.url.startswith("http"), self.url

    def _read(self, urls: queue.Queue[str]) -> None:
        other = ""
        for line in self.process.stderr:
            if not line.startswith("{"):
                other += line
                continue
            self.log.append(json.loads(line))
            if self.log[-1]["event"] == "listening":
                urls.put(self.log[-1]["url"])
        urls.put(f"the server ended: {other}")

    def post(self, path: str, body: Any, token: str = TOKEN, **options: Any) -> httpx.Response:
        """Call an operation of the API."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {token}"}
        return httpx.post(self.url + path, content=content, headers=headers, timeout=30, **options)

    def decide(self, run: str, step: int, state: str) -> dict[str, Any]:
        """The decision in one state."""
        reply = self.post("/v1/decide", {"run_id": run, "step_id": step, "steps": [state]})
        assert reply.status_code == 200, reply.text
        return reply.json()

    def stop(self) -> int:
        """Ask it to stop; its exit status."""
        self.process.terminate()
        status = self.process.wait(timeout=30)
        self._reader.join(timeout=10)
        self.process.stderr.close()
        return status


class Person:
    """Somebody at the desk, without a browser."""

    def __init__(self, url: str, name: str) -> None:
        self.client = httpx.Client(base_url=url, timeout=30, follow_redirects=True)
        self.page = self.client.post("/login", data={"name": name, "token": DESK_TOKEN}).text

    def field(self, name: str) -> str:
        """Value of the last hidden field of that name on the page."""
        return unescape(self.page.rsplit(f'name="{name}" value="', 1)[1].split('"', 1)[0])

    def close(self, verb: str, text: str, /, **changed: str) -> httpx.Response:
        """Send the form of the last request on the page."""
        form = {"form_token": self.field("form_token"), "key": self.field("key"), "text": text, "verb": verb}
        return self.client.post("/desk/close", data=form | changed)
