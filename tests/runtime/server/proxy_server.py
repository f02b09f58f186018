"""A proxy whose policy requests what the state says; run by the tests in a process of its own."""

from __future__ import annotations

import sys

from server_cases import DESK_TOKEN, TOKEN
from word_server import make_service

from selfreg.runtime.server import create_app, run_server
from selfreg.runtime.server.completions import Completions
from selfreg.runtime.server.upstream import Upstream

WEAK_KEY, STRONG_KEY = "key-of-the-weak-model", "key-of-the-strong-model"

if __name__ == "__main__":
    path, limit, url, timeout = sys.argv[1:]
    service = make_service(path, int(limit), 600.0)
    weak, strong = Upstream(url, "small", WEAK_KEY), Upstream(url, "large", STRONG_KEY)
    completions = Completions(service, weak, {"model": strong}, timeout=float(timeout))
    run_server(create_app(service, token=TOKEN, desk_token=DESK_TOKEN, completions=completions), service, port=0)
