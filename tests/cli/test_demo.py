"""The whole pipeline in BabyAI, small: collect, PRM, estimate, solve, label, helper, evaluate, report, decide."""

from __future__ import annotations

import io
import json

import pyarrow.parquet as pq
import pytest

from selfreg.cli.main import main
from selfreg.evaluate.contest import PLAN_NEAREST, PLAN_PRM
from selfreg.runs import RunFolder


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo") / "run"
    size = ["--tasks", "8", "--test-tasks", "4", "--episodes", "16", "--budget", "2", "--workers", "1", "--fallbacks"]
    assert main(["demo", "--out", str(out), "--seed", "1", *size]) == 0
    return RunFolder(out)


def test_everything_is_there(demo) -> None:
    files = {"run.toml", "trajectories.parquet", "model.npz", "solution.npz", "labels.parquet", "evaluation.parquet"}
    assert {p.name for p in demo.path.iterdir()} == files | {"summary.json", "report.html", "prm", "helper"}
    needed = {"prm": {"model.safetensors", "config.json", "tokenizer.json"}, "helper": {"weights.npz", "memory.npz"}}
    for part, kept in needed.items():
        names = {p.name for p in (demo.path / part).iterdir()}
        assert kept | {"selfreg.json", "README.md"} <= names
        assert not any(name.endswith((".bin", ".pkl", ".pt")) for name in names)


def test_evaluation_is_on_held_out_tasks_and_within_budget(demo) -> None:
    rows = pq.read_table(demo.path / "evaluation.parquet").to_pylist()
    assert {row["task"] for row in rows}.isdisjoint({t.task for t in demo.trajectories()})
    assert {row["policy"] for row in rows} == {
        "never", "always", "first-k", "last-k", "every-n", "random", "PRM threshold", "tuned PRM threshold",
        "plan", PLAN_PRM, PLAN_NEAREST, "helper",
    }  # fmt: skip
    assert all(row["help"] <= row["budget"] for row in rows if row["budget"] is not None)
    outcomes = demo.summary()["evaluation"]["outcomes"]
    success = {o["policy"]: o["success"]["mean"] for o in outcomes if o["policy"] in ("never", "always")}
    assert success["always"] > success["never"]
    words = [d["words"] for d in demo.summary()["evaluation"]["differences"]]
    assert sum("random at equal cost" in w for w in words) == 2


def test_report_shows_every_section(demo) -> None:
    page = (demo.path / "report.html").read_text()
    for heading in (
        "What happened on held-out tasks",
        "Forecast against outcome",
        "What the plan promises",
        "What the plan rests on",
        "Where help is asked",
        "Reliability",
        "Settings",
    ):
        assert heading in page
    assert page.count("<svg") == 6


def test_a_trained_helper_decides_from_the_command_line(demo, monkeypatch, capsys) -> None:
    state = demo.trajectories()[0].steps[0].state
    for left, answers in (("0", {"nohelp"}), ("2", {"nohelp", "help"})):
        monkeypatch.setattr("sys.stdin", io.StringIO(state))
        assert main(["decide", str(demo.path), "--budget-left", left]) == 0
        decision = json.loads(capsys.readouterr().out)
        assert decision["action"] in answers
        assert 0 <= decision["success_probability"]["nohelp"] <= 1
        assert decision["budget_left"] == [int(left)]
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert main(["decide", str(demo.path), "--budget-left", "1"]) == 2
    assert "the state is empty" in capsys.readouterr().err
    monkeypatch.setattr("sys.stdin", io.StringIO(state))
    assert main(["decide", str(demo.path), "--budget-left", "1,2"]) == 2
    assert "budgets" in capsys.readouterr().err


def test_a_run_from_logs_cannot_be_evaluated_in_an_environment(tmp_path, capsys, demo) -> None:
    log = str(demo.path / "trajectories.parquet")
    assert main(["import", log, "--out", str(tmp_path / "run")]) == 0
    assert main(["evaluate", str(tmp_path / "run")]) == 2
    assert "was not collected in an environment" in capsys.readouterr().err


def test_helper_and_prm_from_logs(tmp_path, demo) -> None:
    log = str(demo.path / "trajectories.parquet")
    options = ["--kappa", "0.5", "--helper", "--history", "0", "--budget", "1"]
    assert main(["fit", log, "--out", str(tmp_path / "run"), *options]) == 0
    settings = RunFolder(tmp_path / "run").settings()
    assert settings["estimate"]["kappa"] == 0.5
    assert 0 <= settings["helper"]["figures"]["agreement"] <= 1
    assert 0 <= settings["prm"]["figures"]["brier"] <= 1


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--level", "BabyAI-Nowhere-v0"], "BabyAI-Nowhere-v0"),
        (["--level", "BabyAI-KeyInBox-v0"], "BabyAI-KeyInBox-v0"),
        (["--episodes", "3"], "episodes_per_task is 3"),
        (["--kappa", "-1", "--tasks", "4", "--test-tasks", "2", "--episodes", "8"], "kappa is -1"),
    ],
)
def test_bad_settings_leave_nothing(tmp_path, capsys, more, message) -> None:
    assert main(["demo", "--out", str(tmp_path / "run"), "--workers", "1", *more]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert list(tmp_path.iterdir()) == []
