"""The models behind the proxies of this folder, scripted: a server with the API of OpenAI."""

from __future__ import annotations

import json
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler


class FakeModels(BaseHTTPRequestHandler):
    """The small model is wrong; the large one is right, and answers when it may: an agent can be killed before."""

    calls: list[str] = []  # noqa: RUF012
    may_answer = threading.Event()

    def do_POST(self) -> None:
        model = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["model"]
        self.calls.append(model)
        if model == "large":
            self.may_answer.wait()
        message = {"role": "assistant", "content": "391" if model == "large" else "381"}
        body = json.dumps({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with suppress(OSError):  # the proxy was killed
            self.wfile.write(body)

    def log_message(self, *_) -> None:
        pass
