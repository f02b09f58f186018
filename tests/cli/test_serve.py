"""`selfreg serve` with a trained helper, in a process of its own; shadow mode; what it refuses at the start."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

import selfreg
from helper_cases import lights
from selfreg.cli.main import main
from selfreg.estimate import Features, estimate_mdp
from selfreg.helper import HelperConfig, label, train_helper
from selfreg.runs import RunFolder
from selfreg.runtime import SQLiteLedger

for package in ("starlette", "uvicorn", "prometheus_client"):
    pytest.importorskip(package, reason=f"{package} is missing (extra 'serve')")

LIMIT = ("--limit", "1")
PROXY = (*LIMIT, "--weak", "http://h,m", "--strong", "http://h,m")
TOKENS = {"SELFREG_TOKEN": "token-of-the-agents", "SELFREG_DESK_TOKEN": "token-of-the-desk"}


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = RunFolder(tmp_path_factory.mktemp("serve"))
    logs = lights()
    model = estimate_mdp(logs, Features(["step", "class"], {c: c for c in ("red", "amber", "green")}))
    solution = selfreg.solve(model.mdp, 2)
    folder.record("import", {})
    folder.write_trajectories(logs)
    folder.write_model(model)
    folder.write_solution(solution)
    folder.write_summary({})
    train_helper(label(logs, model, solution), HelperConfig(form="tfidf", history=4)).save(folder.path / "helper")
    return folder.path


@pytest.fixture
def serve(run, tmp_path):
    """Starts the command; a function that calls it, and its process."""
    processes = []

    def start(*arguments: str):
        command = [sys.executable, "-m", "selfreg", "serve", str(run), "--port", "0", *arguments]
        command += ["--ledger", str(tmp_path / "ledger")]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, **TOKENS})
        processes.append(process)
        url = json.loads(process.stderr.readline())["url"]

        def call(path: str, body: dict) -> dict:
            headers = {"Authorization": f"Bearer {TOKENS['SELFREG_TOKEN']}"}
            request = urllib.request.Request(url + path, json.dumps(body).encode(), headers)
            with urllib.request.urlopen(request, timeout=30) as reply:
                return json.load(reply)

        return call, process

    yield start
    for process in processes:
        process.kill()
        process.wait()
        process.stderr.close()


def red(run_id: str) -> dict:
    return {"run_id": run_id, "step_id": 0, "steps": ["first green lamp", "second red key"]}


def test_a_trained_helper_is_served(serve, tmp_path) -> None:
    call, process = serve("--limit", "9", "--per-run", "2", "--people", "nobody")
    reply = call("/v1/decide", red("a"))
    assert (reply["action"], reply["budget_left"], reply["request"]) == ("help", [2], None)
    assert call("/v1/settle", {"run_id": "a", "step_id": 0}) == {"charged": True}
    call("/v1/outcome", {"run_id": "a", "success": True})
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    assert SQLiteLedger(tmp_path / "ledger").left == (2,)
    call, _ = serve()  # the ledger knows its budgets
    assert call("/v1/decide", red("a")) == reply


def test_in_shadow_mode_nothing_is_spent(serve, run, tmp_path, capsys) -> None:
    call, process = serve("--per-run", "2", "--shadow")
    for i in range(8):
        reply = call("/v1/decide", red(f"run {i}"))
        assert (reply["action"], reply["request"]) == ("nohelp", None)
        assert "would request 'help'" in reply["reason"]
        call("/v1/outcome", {"run_id": f"run {i}", "success": i % 4 == 0})
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    ledger = SQLiteLedger(tmp_path / "ledger")
    assert ledger.entries() == []
    assert main(["monitor", str(run), "--shadow", str(tmp_path / "ledger"), "--budget", "2"]) == 0
    said = capsys.readouterr().out
    assert "8 runs in shadow mode, 8 finished: success 0.250 without help" in said
    assert "would have spent 1.00 units a run: help 8" in said
    assert "forecast with budget 2: success " in said


@pytest.mark.parametrize(
    ("arguments", "environment", "message"),
    [
        ([], {}, "does not exist; give --limit, --per-run or --per-day"),
        (["--limit", "1,2", "--per-run", "1"], {}, "--per-run and --per-day are for one"),
        (["--limit", "1"], {"SELFREG_TOKEN": "short"}, "the token is too short"),
        (["--limit", "1"], {"SELFREG_DESK_TOKEN": TOKENS["SELFREG_TOKEN"]}, "the same token as the agents"),
        (["--limit", "1", "--shadow", "--explore", "0.1"], {}, "shadow and explore exclude each other"),
        (["--limit", "1", "--host", "203.0.113.1"], {}, "cannot listen on 203.0.113.1"),
        (["--per-day", "1", "--timezone", "Mars"], {}, "timezone is 'Mars'"),
        ([*LIMIT, "--weak", "http://h,m"], {}, "--weak and --strong belong together"),
        ([*LIMIT, "--weak", "http://h", "--strong", "http://h,m"], {}, "--weak: expected URL,model"),
        ([*LIMIT, "--weak", "http://h,m", "--strong", "h,m"], {}, "--strong: expected a URL with http:// or https://"),
        ([*LIMIT, "--weak", "http://h,m", "--strong", "big=http://h,m"], {}, "unknown help type 'big'"),
        ([*LIMIT, "--weak", "http://h,m", "--strong", "http://k@h,m"], {}, "has a user, a query or a fragment"),
        ([*PROXY, "--people", "help"], {}, "'help' is given by people; --people nobody"),
        (PROXY, {"SELFREG_STRONG_KEY_HELP": "a b"}, "the key of http://h has odd characters"),
        ([*PROXY, "--timeout", "0"], {}, "timeout is 0.0; expected seconds > 0"),
    ],
)
def test_what_is_wrong_is_said_at_the_start(
    run, tmp_path, capsys, monkeypatch, arguments, environment, message
) -> None:
    for name, value in {**TOKENS, **environment}.items():
        monkeypatch.setenv(name, value)
    if "--weak" in arguments:
        pytest.importorskip("httpx", reason="httpx is missing (extra 'proxy')")
    assert main(["serve", str(run), "--ledger", str(tmp_path / "ledger"), *arguments]) == 2
    assert message in capsys.readouterr().err
