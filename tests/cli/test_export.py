"""`selfreg export`: from the ledger of a server to a log that `monitor` and `ope` read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from selfreg.cli.main import main
from selfreg.data import Step, read_trajectories
from selfreg.decisions import Decision
from selfreg.runtime import Budget, Desk, Recorder, SQLiteLedger


class AfterAnError:
    def decide(self, steps, budget_left):
        return Decision("person" if "error" in steps[-1].state else "nohelp")


def serve(path: Path) -> None:
    """100 runs: 50 with an error, of which a person answers 40, at a share of exploration; one run goes on."""
    now = [1.79e9]
    ledger = SQLiteLedger(path, [Budget(500), Budget(3, scope="run")], clock=lambda: now[0])
    recorder = Recorder(AfterAnError(), ledger, costs={"person": 1}, explore=0.4, seed=1)
    desk = Desk(ledger, time_limit=60)
    for run in range(100):
        bad, answered = bool(run % 2), False
        if recorder.decide_once(run, 0, [Step("error" if bad else "ready")]).requests_help:
            desk.open(run, 0, "What now?")
            answered = run % 10 != 9
            now[0] += 12 if answered else 61
            if answered:
                desk.answer(run, 0, "Like this.")
        recorder.outcome(run, answered or not bad)
    recorder.decide_once("open", 0, [Step("ready")])


def test_a_ledger_becomes_a_log(tmp_path, capsys) -> None:
    (tmp_path / "run").mkdir()
    serve(tmp_path / "run" / "ledger.sqlite")
    log = tmp_path / "served.jsonl"
    assert main(["export", str(tmp_path / "run"), "--out", str(log)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"101 runs, 100 of them finished -> {log}"
    assert main(["export", str(tmp_path / "run" / "ledger.sqlite"), "--out", str(log), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    people = found["people"]
    assert (found["runs"], found["finished"], people["median_seconds"]) == (101, 100, 12.0)
    assert lines[1] == f"people answered {people['answered']} of {people['closed']} requests, half of these within 12 s"
    episodes = list(read_trajectories(log))
    assert sum(one.helped for one in episodes) == people["answered"] < people["closed"]
    for policy in ("never", "always"):
        command = ["ope", str(log), "--policy", policy, "--state", "step", "--skip-bad", "--json"]
        assert main(command) == 0
        success = json.loads(capsys.readouterr().out)["estimates"]["doubly robust"]["success"]["mean"]
        assert success == pytest.approx({"never": 0.5, "always": 0.9}[policy], abs=0.15)


def test_what_is_no_ledger_is_named(tmp_path, capsys) -> None:
    SQLiteLedger(tmp_path / "empty.sqlite", 5)
    (tmp_path / "text").write_text("no ledger")
    cases = {
        "missing": "no such ledger",
        "empty.sqlite": "has no decisions yet",
        "text": "not a ledger",
        ".": "no such",
    }
    for name, message in cases.items():
        assert main(["export", str(tmp_path / name), "--out", str(tmp_path / "log.jsonl")]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "log.jsonl").exists()
