"""`selfreg fit` and the stages one by one, as an engineer with a folder of logs runs them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import selfreg
from selfreg.cli.forecasting import _Trainer
from selfreg.cli.main import main
from selfreg.data import Step, Trajectory, write_trajectories
from selfreg.helper import Helper, HelperConfig, RationedHelper
from selfreg.runs import RunFolder

CLASSES = Path(__file__).parents[2] / "examples" / "mint_classes.toml"


@pytest.fixture(autouse=True)
def few_samples(monkeypatch) -> None:
    """The default number of resampled models is tested by the documented example."""
    monkeypatch.setattr("selfreg.cli.solve.SAMPLES", 5)


@pytest.fixture
def log(tmp_path) -> Path:
    """40 tasks, alone and helped: after an error the agent alone mostly fails; help mostly rescues."""
    generator = np.random.default_rng(0)
    lines = []
    for task in range(40):
        for helper in (None, "person"):
            wrong = generator.random() < 0.6
            won = generator.random() < ((0.8 if helper else 0.2) if wrong else 0.9)
            turns = [{"saw": f"task {task}"}, {"saw": "Error: no" if wrong else "fine"}]
            record = {"id": task, "won": int(won), "who": helper, "agent": "a" if task % 2 else "b", "turns": turns}
            lines.append(json.dumps(record))
    path = tmp_path / "log.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path


def options(log: Path, out: Path, *more: str) -> list[str]:
    roles = ["task=id", "outcome=won", "intervention=who", "steps=turns", "observation=saw"]
    mapped = [part for role in roles for part in ("--map", role)]
    return ["fit", str(log), "--format", "jsonl", *mapped, "--out", str(out), *more]


def test_fit_makes_a_whole_run_folder(log, tmp_path, capsys) -> None:
    out = tmp_path / "run"
    state = ["--state", "step,class", "--classes", str(CLASSES), "--budget", "2"]
    assert main(options(log, out, *state)) == 0
    printed = capsys.readouterr().out
    assert "planned" in printed
    assert "report:" in printed
    files = {"run.toml", "trajectories.parquet", "model.npz", "solution.npz", "labels.parquet", "summary.json"}
    files |= {"uncertainty.npz"}
    assert {p.name for p in out.iterdir()} == files | {"report.html"}
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []
    summary = json.loads((out / "summary.json").read_text())
    assert summary["schema"] == "selfreg.summary/2"
    assert summary["recommendation"]["words"] in printed
    assert {one["policy"] for one in summary["forecast"]} >= {"never", "always", "plan"}
    assert summary["budgets"] == [0, 1, 2]
    assert summary["episodes"] == 80
    assert summary["success"][0] == pytest.approx(summary["unhelped"]["success"], abs=1e-12)
    assert np.all(np.diff(summary["success"]) >= 0)
    assert all(u <= b + 1e-12 for u, b in zip(summary["usage"], summary["budgets"], strict=True))
    trust = summary["uncertainty"]
    assert np.all(np.array(trust["success"]["low"]) <= np.array(trust["success"]["high"]))
    assert len(trust["cross_fit"]["crossed"]) == 3
    labels = pq.read_table(out / "labels.parquet")
    assert labels.num_rows == 80 * 2 * 3
    assert set(labels["decision"].to_pylist()) == {"nohelp", "person"}
    page = (out / "report.html").read_text()
    assert "<svg" in page
    assert "http://" not in page.replace("http://www.w3.org", "").replace("http://purl.org", "").replace(
        "http://creativecommons.org", ""
    )


def test_a_run_folder_reads_back_what_was_written(log, tmp_path) -> None:
    out = tmp_path / "run"
    assert main(options(log, out, "--budget", "3")) == 0
    run = RunFolder.open(out)
    model = run.model()
    solution = run.solution(model)
    again = selfreg.solve(model.mdp, 3)
    np.testing.assert_array_equal(solution.value, again.value)
    np.testing.assert_array_equal(solution.policy, again.policy)
    assert model.success(solution).tolist() == run.summary()["success"]
    assert len(run.trajectories()) == 80
    assert run.settings()["solve"]["budget"] == [3]


def test_stages_one_by_one_give_what_fit_gives(log, tmp_path, capsys) -> None:
    whole, steps = tmp_path / "whole", tmp_path / "steps"
    assert main(options(log, whole, "--state", "step", "--budget", "2")) == 0
    imported = options(log, steps)
    assert main(["import", *imported[1:]]) == 0
    for command in (["estimate", "--state", "step"], ["solve", "--budget", "2"], ["label"], ["report"]):
        assert main([command[0], str(steps), *command[1:]]) == 0
    assert RunFolder(whole).summary() == RunFolder(steps).summary()
    assert (whole / "labels.parquet").read_bytes() == (steps / "labels.parquet").read_bytes()
    assert {p.name for p in whole.iterdir()} == {p.name for p in steps.iterdir()}


def test_filters_and_an_earlier_run(log, tmp_path, capsys) -> None:
    out = tmp_path / "run"
    assert main(options(log, out, "--where", "agent=a")) == 0
    assert RunFolder(out).summary()["episodes"] == 40
    assert main(options(log, out)) == 2
    assert "exists" in capsys.readouterr().err
    assert main(options(log, out, "--where", "agent=a", "--where", "agent=b", "--overwrite")) == 0
    assert RunFolder(out).summary()["episodes"] == 80


def test_a_folder_of_somebody_else_is_never_replaced(log, tmp_path, capsys) -> None:
    out = tmp_path / "thesis"
    out.mkdir()
    (out / "chapter.txt").write_text("years of work")
    assert main(options(log, out, "--overwrite")) == 2
    assert "cannot be overwritten" in capsys.readouterr().err
    assert (out / "chapter.txt").read_text() == "years of work"


def test_skip_bad_counts_and_lists(log, tmp_path, capsys) -> None:
    with log.open("a") as stream:
        stream.write('{"id": 99, "won": 7}\n')
    out = tmp_path / "run"
    assert main(options(log, out)) == 2
    error = capsys.readouterr().err
    assert "log.jsonl:81: field 'won': expected a number" in error
    assert "--skip-bad leaves out" in error
    assert "Traceback" not in error
    assert not out.exists()
    assert main(options(log, out, "--skip-bad")) == 0
    assert "skipped 1 records in total: 0 failures, 0 successes, 1 of unknown outcome" in capsys.readouterr().err
    assert "log.jsonl:81" in RunFolder(out).settings()["import"]["skipped"][0]
    assert "log.jsonl:81" in (out / "report.html").read_text()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--where", "agent=nobody"], "no episodes with"),
        (["--where", "agent"], "expected NAME=VALUE"),
        (["--where", "model=a"], "field 'model' is missing"),
        (["--map", "reward=won"], "unknown role 'reward'"),
        (["--map", "task=agent"], "duplicate name 'task'"),
        (["--state", "domain"], "unknown feature 'domain'"),
        (["--state", "class"], "'class' needs classes"),
        (["--classes", "x.toml"], "x.toml: no such file"),
        (["--state", "class", "--classes", "nothing.toml"], "nothing.toml: no such file"),
        (["--budget", "-1"], "expected integers >= 0"),
        (["--budget", "1.5"], "expected an integer"),
        (["--budget", "1,2"], "has 2 entries; the costs of this model have 1"),
        (["--cost", "robot=1"], "which is not in these logs"),
        (["--cost", "person=x"], "expected an integer"),
        (["--where", "who=person"], "every step was helped"),
        (["--kappa", "-1"], "kappa"),
    ],
)
def test_errors_name_the_culprit_and_leave_nothing(log, tmp_path, capsys, more, message) -> None:
    out = tmp_path / "run"
    assert main(options(log, out, *more)) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert [p.name for p in tmp_path.iterdir()] == ["log.jsonl"]


def test_episodes_without_an_outcome_are_named_or_left_out(log, tmp_path, capsys) -> None:
    lines = log.read_text().splitlines()
    cut = json.loads(lines[0]) | {"won": None, "truncated": True}
    log.write_text("\n".join([json.dumps(cut), *lines[1:]]) + "\n")
    assert main(options(log, tmp_path / "run", "--samples", "0")) == 2
    assert "1 of 80 episodes have no outcome (the first: 'log.jsonl:1'): --skip-bad" in capsys.readouterr().err
    assert main(options(log, tmp_path / "run", "--samples", "0", "--skip-bad")) == 0
    assert "skipped: episode 'log.jsonl:1': it has no outcome" in capsys.readouterr().err
    assert len(RunFolder(tmp_path / "run").trajectories()) == 79


def test_an_empty_log_and_a_missing_one(tmp_path, capsys) -> None:
    empty = tmp_path / "empty.jsonl"
    empty.write_text("")
    assert main(options(empty, tmp_path / "run")) == 2
    assert "empty.jsonl: no episodes" in capsys.readouterr().err
    assert main(options(tmp_path / "nothing.jsonl", tmp_path / "run")) == 2
    assert "no such file" in capsys.readouterr().err


def test_no_helped_episode_means_no_help_and_says_so(log, tmp_path, capsys) -> None:
    out = tmp_path / "run"
    assert main(options(log, out, "--where", "who=null", "--budget", "2")) == 0
    assert "help is not available in this model" in capsys.readouterr().err
    summary = RunFolder(out).summary()
    assert summary["success"] == [summary["unhelped"]["success"]] * 3
    assert summary["actions"] == ["nohelp"]


def test_the_seed_reaches_intervals_and_cross_fitting(log, tmp_path) -> None:
    trust = {}
    for name, seed in (("one", "1"), ("again", "1"), ("two", "2")):
        state = ["--state", "step,class", "--classes", str(CLASSES)]
        assert main(options(log, tmp_path / name, *state, "--budget", "1", "--seed", seed)) == 0
        trust[name] = json.loads((tmp_path / name / "summary.json").read_text())["uncertainty"]
    assert trust["one"] == trust["again"]
    assert trust["one"]["success"] != trust["two"]["success"]
    assert trust["one"]["cross_fit"]["crossed"] != trust["two"]["cross_fit"]["crossed"]


def test_what_was_not_checked_is_said(log, tmp_path, capsys) -> None:
    assert main(options(log, tmp_path / "none", "--state", "step", "--budget", "1", "--samples", "0")) == 0
    assert "was not checked on resampled logs" in capsys.readouterr().err
    # Tasks as states: a plan of one half says nothing of the other half.
    assert main(options(log, tmp_path / "apart", "--state", "task,step", "--budget", "1")) == 0
    assert "not cross-fitted: no two tasks share a state" in capsys.readouterr().err
    summary = json.loads((tmp_path / "apart" / "summary.json").read_text())
    assert summary["uncertainty"]["cross_fit"] is None
    assert any("not cross-fitted" in note for note in summary["notes"])


def test_samples_that_take_too_long_are_fewer_and_said(log, tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setattr("selfreg.cli.solve.SAMPLING_SECONDS", 0.0)
    assert main(options(log, tmp_path / "run", "--state", "step", "--budget", "1")) == 0
    assert "Intervals are from 2 of 5 resampled models" in capsys.readouterr().err


def test_two_budgets(log, tmp_path) -> None:
    out = tmp_path / "run"
    assert main(options(log, out, "--cost", "person=1,2", "--budget", "1,2", "--state", "step")) == 0
    summary = RunFolder(out).summary()
    assert summary["budgets"] == [[i, j] for i in range(2) for j in range(3)]
    assert summary["success"][-1] > summary["success"][0]
    assert summary["success"][4] == summary["success"][0]  # one unit of the second budget does not pay


def test_stages_out_of_order_name_the_stage_that_is_missing(tmp_path, capsys) -> None:
    assert main(["solve", str(tmp_path)]) == 2
    assert "is not a run folder" in capsys.readouterr().err
    write_trajectories(tmp_path / "log.jsonl", [Trajectory("t", "e", 1.0, (Step("s"),))])
    assert main(["import", str(tmp_path / "log.jsonl"), "--out", str(tmp_path / "run")]) == 0
    for command, needed in (("solve", "estimate"), ("label", "estimate"), ("report", "solve")):
        assert main([command, str(tmp_path / "run")]) == 2
        assert f"run `selfreg {needed}` first" in capsys.readouterr().err


def test_usage_errors_and_version(capsys) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"selfreg {selfreg.__version__}\n"
    assert main(["fit"]) == 2
    assert main(["nonsense"]) == 2


def test_mint_in_under_a_minute(shared_data, tmp_path) -> None:
    out = tmp_path / "run"
    path = shared_data / "mint" / "mint_core.jsonl.gz"
    roles = ["task=task_id", "outcome=success", "intervention=helper", "steps=steps"]
    roles += ["observation=observation", "action=action"]
    mapped = [part for role in roles for part in ("--map", role)]
    state = ["--state", "domain,step,class", "--classes", str(CLASSES), "--budget", "5"]
    command = ["fit", str(path), "--format", "jsonl", *mapped, "--where", "actor=gpt-3.5-turbo-0613", *state]
    done = subprocess.run(
        [sys.executable, "-m", "selfreg", *command, "--out", str(out)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    summary = RunFolder(out).summary()
    assert summary["success"][0] == pytest.approx(212 / 586, abs=1e-9)
    assert np.all(np.diff(summary["success"]) >= 0)
    assert summary["episodes"] == 2 * 586


def test_monitor_says_whether_the_forecast_holds(log, tmp_path, capsys) -> None:
    out = tmp_path / "run"
    state = ["--state", "step,class", "--classes", str(CLASSES), "--budget", "1"]
    assert main(options(log, out, *state)) == 0
    capsys.readouterr()
    lost = [Trajectory(f"n{i}", str(i), 0.0, (Step("task"), Step("fine"))) for i in range(60)]
    write_trajectories(tmp_path / "lost.jsonl", lost)
    # Of the plan there are only bounds; alone is known well enough for an alarm.
    assert main(["monitor", str(out), str(tmp_path / "lost.jsonl"), "--budget", "0"]) == 3
    assert "success: predicted" in (printed := capsys.readouterr().out)
    assert "ALARM" in printed
    assert "below the forecast" in printed
    assert main(["monitor", str(out), str(log), "--budget", "9"]) == 2
    assert main(["monitor", str(out), str(tmp_path / "none.jsonl"), "--budget", "1"]) == 2
    assert "no such file" in capsys.readouterr().err


def test_a_helper_s_own_runs_are_help_only_where_asked(log, tmp_path, capsys) -> None:
    out = tmp_path / "run"
    agent = ["--where", "agent=a", "--where", "who=null", "--budget", "1"]
    assert main(options(log, out, *agent, "--assume-takeover", "expert:agent=b")) == 0
    assert "assume_takeover: the effect of 'expert' is that of 20 episodes" in capsys.readouterr().err
    page = (out / "report.html").read_text()
    assert 0 < page.find("assume_takeover: the effect of") < page.index("<details")
    assert RunFolder.open(out).model().mdp.actions == ("nohelp", "expert")
    assert main(options(log, tmp_path / "x", *agent, "--assume-takeover", "expert:agent=c")) == 2
    assert "no episode without help has agent=c" in capsys.readouterr().err
    assert main(options(log, tmp_path / "x", *agent, "--assume-takeover", "expert")) == 2
    assert "expected HELP:FIELD=VALUE" in capsys.readouterr().err
    assert main(options(log, tmp_path / "x", *agent, "--assume-takeover", "expert:agent=a")) == 2
    assert "is among the agent's" in capsys.readouterr().err


def test_the_prm_learns_from_step_labels(tmp_path) -> None:
    steps = (Step("good", action="x", label=1.0), Step("bad", action="y", label=0.0))
    log = [Trajectory(f"t{i}", f"e{i}", float(i % 2), steps[i % 2 :]) for i in range(20)]
    write_trajectories(tmp_path / "log.jsonl", log)
    out = tmp_path / "run"
    arguments = ["fit", str(tmp_path / "log.jsonl"), "--prm", "tfidf", "--targets", "labels", "--out", str(out)]
    assert main(arguments) == 0
    assert RunFolder(out).settings()["prm"]["targets"] == "labels"
    assert main([*arguments[:-1], str(tmp_path / "other"), "--targets", "words"]) == 2


def test_states_by_default_are_chosen_and_said(log, tmp_path, capsys) -> None:
    out = tmp_path / "run"
    assert main(options(log, out, "--classes", str(CLASSES))) == 0
    assert "note: states are --state step" in capsys.readouterr().err
    assert RunFolder(out).settings()["estimate"]["abstraction"]["kind"] == "features"


def test_fit_at_a_mean_number_of_requests(log, tmp_path, capsys) -> None:
    out, state = tmp_path / "run", ["--state", "step,class", "--classes", str(CLASSES), "--budget", "2"]
    assert main(options(log, out, *state, "--form", "tfidf", "--usage", "0.3")) == 0
    saved = json.loads((out / "helper" / "ration.json").read_text())
    assert saved["requests"] == pytest.approx(0.3, abs=1e-6)
    # The forecast, of `report` too, is of such helpers.
    run = RunFolder.open(out)
    config = HelperConfig(form=run.settings()["helper"]["form"], history=run.settings()["helper"]["history"])
    trained = _Trainer(run, run.model(), 2, config, None)(run.trajectories())
    assert isinstance(trained, RationedHelper)
    assert trained.requests == pytest.approx(0.3, abs=1e-6)
    assert main(["train", str(out), "--form", "tfidf", "--usage", "9"]) == 0
    assert "requesting help wherever it can, the helper uses" in capsys.readouterr().err
    assert main(["train", str(out), "--form", "tfidf"]) == 0
    assert not (out / "helper" / "ration.json").exists()
    # Without a mean number of requests a fold's helper needs no test tasks: it learns from more of them.
    free, deployed = _Trainer(run, run.model(), 2, config, None)(run.trajectories()), Helper.load(out / "helper")
    assert len(free.split["test"]) == 1 < len(deployed.split["test"])
    assert len(free.split["train"]) > len(deployed.split["train"])
    assert main(["train", str(out), "--usage", "-1"]) != 0
    assert main(["train", str(out), "--usage", "1", "--calibrate"]) != 0
    assert "expected one of them" in capsys.readouterr().err


def test_a_usage_is_of_a_helper(log, tmp_path, capsys) -> None:
    assert main(["train", str(tmp_path), "--part", "prm", "--usage", "1"]) == 2
    assert "--usage is of a helper; got --part prm" in capsys.readouterr().err
