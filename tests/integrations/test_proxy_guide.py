"""The example of the proxy, and the code of its guide with the client of OpenAI."""

from __future__ import annotations

import importlib.util
import inspect
import json
import re
import subprocess
import sys
import threading
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest

from selfreg.runtime import SQLiteLedger

for package in ("starlette", "uvicorn", "prometheus_client", "httpx"):
    pytest.importorskip(package, reason=f"{package} is missing (extra 'proxy')")

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "frameworks" / "proxy.py"
PAGE = (ROOT / "docs" / "frameworks" / "proxy.md").read_text(encoding="utf-8")
PRINTED = """\
alone: failed, 0 left
killed while help was under way: exit status -9
helped: solved in step 1, 0 left
refused: failed, 0 left
in the ledger: ('helped', '1', 'charged')
calls of the large model: 1
"""


def test_the_example() -> None:
    done = subprocess.run([sys.executable, EXAMPLE], capture_output=True, text=True, timeout=300)
    assert (done.stdout, done.stderr, done.returncode) == (PRINTED, "", 0)


def test_the_code_of_the_guide(tmp_path, monkeypatch) -> None:
    pytest.importorskip("openai", reason="openai is missing, whose client the guide uses")
    monkeypatch.syspath_prepend(str(EXAMPLE.parent))
    spec = importlib.util.spec_from_file_location("proxy_example", EXAMPLE)
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    example.FakeModels.may_answer.set()
    models = ThreadingHTTPServer(("127.0.0.1", 0), example.FakeModels)
    threading.Thread(target=models.serve_forever, daemon=True).start()
    SQLiteLedger(tmp_path / "ledger", 1)
    upstream = f"http://127.0.0.1:{models.server_port}/v1"
    proxy = example.start("serve", str(tmp_path / "ledger"), upstream, stderr=subprocess.PIPE)
    try:
        url = json.loads(proxy.stderr.readline())["url"]
        code, printed = re.search(r"```python\n(.*?)```\n\n```\n(.*?)```", PAGE, re.DOTALL).groups()
        given = f"url, token = {url!r}, {example.TOKEN!r}\n"
        done = subprocess.run([sys.executable, "-c", given + code], capture_output=True, text=True, timeout=120)
        assert (done.stdout, done.stderr) == (printed, "")
    finally:
        proxy.terminate()
        proxy.communicate()
        models.shutdown()
        models.server_close()


def test_the_options_of_the_guide_exist() -> None:
    from selfreg.cli import serve

    used = {name.replace("-", "_") for name in re.findall(r"--([a-z][a-z-]*)", PAGE)}
    assert used <= set(inspect.signature(serve.command).parameters)
    assert {"weak", "strong", "timeout"} <= used
