"""The whole pipeline in BabyAI, small: collect, PRM, estimate, solve, label, helper, evaluate, report, decide."""

from __future__ import annotations

import html
import io
import json
import shutil

import pyarrow.parquet as pq
import pytest

from selfreg.cli.main import main
from selfreg.data import write_trajectories
from selfreg.evaluate.policies import PLAN_NEAREST, PLAN_PRM
from selfreg.report import words
from selfreg.runs import RunFolder


@pytest.fixture(scope="module")
def demo(demo_run):
    return RunFolder(demo_run)


def test_everything_is_there(demo) -> None:
    files = {"run.toml", "trajectories.parquet", "model.npz", "solution.npz", "labels.parquet", "evaluation.parquet"}
    assert {p.name for p in demo.path.iterdir()} == files | {"summary.json", "report.html", "prm", "helper"}
    needed = {"prm": {"weights.npz"}, "helper": {"weights.npz", "memory.npz"}}
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
        words.EVALUATION,
        words.FORECASTS,
        words.PLAN,
        words.COVERAGE,
        words.REQUESTS,
        "Reliability",
        words.SETTINGS,
    ):
        assert html.escape(heading) in page
    assert page.count("<svg") == 7
    summary = demo.summary()
    assert html.escape(summary["recommendation"]["words"]) in page
    policies = {one["policy"] for one in summary["forecast"]}
    assert policies == {"never", "always", "rule", "plan", "helper"}
    realised = summary["evaluation"]["outlooks"]
    assert {one["policy"] for one in realised} == {"never", "first-k", "last-k", "every-n", "helper"}


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
    assert main(["decide", str(demo.path), "-", "--budget-left", "1"]) == 2
    assert "the state is empty" in capsys.readouterr().err
    monkeypatch.setattr("sys.stdin", io.StringIO(state))
    assert main(["decide", str(demo.path), "--budget-left", "1,2"]) == 2
    assert "expected 1 number" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--form", "word"], "form is 'word'"),
        (["--kappa", "-1"], "expected a finite number"),
        (["--kappa", "nan"], "expected a finite number"),
        (["--episodes", "3"], "episodes_per_task is 3"),
        (["--seed", "-1"], "--seed"),
        (["--intervention", "junior,cost=1:0", "--intervention", "senior,cost=0:1"], "is charged to 2 budgets"),
    ],
)
def test_impossible_settings_are_said_before_collecting(tmp_path, capsys, monkeypatch, arguments, message) -> None:
    monkeypatch.setattr("selfreg.cli.demo.pipeline", lambda *_: pytest.fail("ran"))
    assert main(["demo", "--out", str(tmp_path / "run"), *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("broken", "command", "message"),
    [
        ("summary.json", "evaluate", "no summary.json; run `selfreg solve`"),
        ("model.npz", "evaluate", "no model.npz; run `selfreg estimate`"),
        ("model.npz", "solve", "no model.npz; run `selfreg estimate`"),
        ("solution.npz", "label", "no solution.npz; run `selfreg solve`"),
        ("run.toml", "evaluate", "not a run folder"),
    ],
)
def test_missing_and_damaged_files_are_named(
    tmp_path, capsys, monkeypatch, demo, broken: str, command: str, message: str
) -> None:
    """And before anything runs."""
    monkeypatch.setattr("selfreg.cli.evaluate.collect", lambda *_: pytest.fail("collected"))
    run = tmp_path / "run"
    shutil.copytree(demo.path, run)
    for content, said in ((b"[[ no", f"{broken} is damaged"), (None, message)):
        (run / broken).unlink() if content is None else (run / broken).write_bytes(content)
        assert main([command, str(run)]) == 2
        assert said in capsys.readouterr().err
    (run / broken).write_bytes((demo.path / broken).read_bytes()[:300])
    if broken.endswith("npz"):
        assert main([command, str(run)]) == 2
        assert f"{broken} is damaged" in capsys.readouterr().err


def test_a_plan_of_another_model_labels_nothing(tmp_path, capsys, demo) -> None:
    """A model that was estimated anew, even one of as many states, is to be solved anew."""
    run = tmp_path / "run"
    shutil.copytree(demo.path, run)
    assert main(["label", str(run)]) == 0
    assert main(["estimate", str(run), "--kappa", "3"]) == 0
    assert main(["label", str(run)]) == 2
    assert "solution.npz is of another model; run `selfreg solve` again" in capsys.readouterr().err
    assert main(["solve", str(run), "--budget", "2"]) == 0
    assert main(["label", str(run)]) == 0


def test_a_helper_of_two_budgets_is_not_compared_under_one(tmp_path, capsys, demo) -> None:
    run = tmp_path / "run"
    shutil.copytree(demo.path, run)
    for stage in (["estimate", "--cost", "help=1,0"], ["solve", "--budget", "1,1"], ["train", "--form", "tfidf"]):
        assert main([stage[0], str(run), *stage[1:]]) == 0
    assert main(["evaluate", str(run)]) == 2
    assert "the helper spends 2 budgets" in capsys.readouterr().err


def test_a_helper_for_no_budget_is_not_trained(tmp_path, capsys, demo) -> None:
    run = tmp_path / "run"
    shutil.copytree(demo.path, run)
    assert main(["solve", str(run), "--budget", "0"]) == 0
    assert main(["train", str(run), "--form", "words"]) == 2
    assert "budget 0 only" in capsys.readouterr().err


def test_a_run_from_logs_cannot_be_evaluated_in_an_environment(tmp_path, capsys, demo) -> None:
    log = str(demo.path / "trajectories.parquet")
    assert main(["import", log, "--out", str(tmp_path / "run")]) == 0
    assert main(["evaluate", str(tmp_path / "run")]) == 2
    assert "was not collected in an environment" in capsys.readouterr().err


def test_helper_and_prm_from_logs(tmp_path, demo) -> None:
    log = str(tmp_path / "log.parquet")
    write_trajectories(log, demo.trajectories()[::3])
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
    ],
)
def test_bad_settings_leave_nothing(tmp_path, capsys, more, message) -> None:
    assert main(["demo", "--out", str(tmp_path / "run"), "--workers", "1", *more]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("level", "little"), [("BabyAI-PickupAbove-v0", True), ("BabyAI-UnlockPickup-v0", False)])
def test_a_level_with_nothing_to_win_is_said_before_it_runs(tmp_path, capsys, monkeypatch, level, little) -> None:
    class Stop(ValueError):
        pass

    def stop(*_):
        raise Stop("the pipeline begins")

    monkeypatch.setattr("selfreg.cli.demo.pipeline", stop)
    arguments = ["demo", "--out", str(tmp_path / "run"), "--level", level, "--workers", "1", "--set", "step_limit=28"]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert ("there is little to win here: of 20 tasks" in error) == little
    assert ("--set step_limit=56 gives more" in error) == little
