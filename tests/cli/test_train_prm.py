"""The PRM from the command line: options, kinds, thresholds, recalibration, states by score."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

import made
from selfreg.cli.main import main
from selfreg.data import write_trajectories
from selfreg.helper import HelperConfig
from selfreg.prm import PRM, PRMConfig
from selfreg.runs import RunFolder

QUICK = ["--hidden-size", "32", "--layers", "1", "--epochs", "2", "--max-tokens", "32"]


@pytest.fixture
def run(tmp_path) -> Path:
    write_trajectories(tmp_path / "log.jsonl", made.colours())
    assert main(["import", str(tmp_path / "log.jsonl"), "--out", str(tmp_path / "run")]) == 0
    return tmp_path / "run"


def test_every_setting_is_an_option(capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "1000")
    assert main(["train", "--help"]) == 0
    shown = capsys.readouterr().out
    for config in (PRMConfig, HelperConfig):
        for field in dataclasses.fields(config):
            name = field.metadata.get("option", field.name)
            if name is None:  # one of several commands
                assert f"--{field.name} " in shown
                continue
            assert f"--{name.replace('_', '-')} " in shown
            assert field.metadata["help"] in shown


def test_training_options_reach_the_prm(run, capsys) -> None:
    assert main(["train", str(run), "--part", "prm", *QUICK, "--calibration", "isotonic", "--show-step"]) == 0
    error = capsys.readouterr().err
    assert "note: " in error
    assert "\nauroc " in error
    settings = RunFolder(run).settings()["prm"]
    assert (settings["hidden_size"], settings["layers"], settings["calibration"], settings["seed"]) == (
        32,
        1,
        "isotonic",
        0,
    )
    prm = PRM.load(run / "prm")
    assert prm.show_step
    assert prm.calibration.describe()["kind"] == "isotonic"
    assert {row["name"] for row in prm.facts["baselines"]["rows"]} == {"transformer", "constant", "step", "tfidf"}
    assert not (run / "prm.checkpoint").exists()


def test_a_killed_training_goes_on(run, capsys, monkeypatch) -> None:
    from selfreg.prm.training import Training

    plain = Training._update

    def until(training, chosen, path) -> None:
        if training.done == 40:
            raise KeyboardInterrupt
        plain(training, chosen, path)

    command = ["train", str(run), "--part", "prm", *QUICK, "--no-baselines"]
    monkeypatch.setattr(Training, "_update", until)
    assert main(command) == 130
    monkeypatch.undo()
    assert (run / "prm.checkpoint").is_file()
    assert main([*command, "--seed", "1"]) == 2
    assert "is of other data or settings; remove it" in capsys.readouterr().err
    assert main(command) == 0
    assert not (run / "prm.checkpoint").exists()
    assert PRM.load(run / "prm").figures["epochs"] == 2


def test_threshold_and_recalibration(run, tmp_path, capsys) -> None:
    assert main(["train", str(run), "--part", "prm", "--prm", "tfidf"]) == 0
    capsys.readouterr()
    assert main(["prm", "threshold", str(run), "--precision", "0.8"]) == 0
    rule = json.loads(capsys.readouterr().out)
    assert rule["validation"]["precision"] >= 0.8
    assert rule["test"]["threshold"] == rule["validation"]["threshold"]
    assert main(["prm", "threshold", str(run)]) == 2
    assert "expected one of mean_cost and precision" in capsys.readouterr().err
    assert main(["prm", "threshold", str(run), "--mean-cost", "0"]) == 0
    assert json.loads(capsys.readouterr().out)["validation"]["precision"] is None
    write_trajectories(tmp_path / "recent.jsonl", made.colours(seed=3, luck=0.6))
    assert main(["prm", "recalibrate", str(run), str(tmp_path / "recent.jsonl"), "--kind", "isotonic"]) == 0
    figures = RunFolder(run).settings()["prm"]["figures"]
    assert figures["ece"] < figures["ece_before"]
    assert PRM.load(run / "prm").calibration.describe()["kind"] == "isotonic"


def test_fit_with_states_by_score_and_a_plain_prm(tmp_path, capsys) -> None:
    write_trajectories(tmp_path / "log.jsonl", made.colours())
    command = [
        "fit",
        str(tmp_path / "log.jsonl"),
        "--prm",
        "tfidf",
        "--state",
        "step,score",
        "--bins",
        "3",
        "--budget",
        "1",
    ]
    out = tmp_path / "run"
    assert main([*command, "--out", str(out)]) == 0
    run = RunFolder(out)
    model = run.model()
    assert model.abstraction.describe()["bins"] == 3
    assert run.prm().kind == "tfidf"
    page = (out / "report.html").read_text()
    assert "tfidf beats every other model here" in page
    assert "Reliability on test tasks" in page
    assert model.abstraction.names == ["step", "score bin"]
    assert main(["label", str(out)]) == 0
    assert main(["solve", str(out), "--budget", "2"]) == 0


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--part", "helper", "--prm", "tfidf"], "--kind is not an option of --part helper"),
        (["--part", "judge"], "expected prm or helper"),
        (["--part", "prm", "--prm", "oracle"], "kind is 'oracle'; choose from"),
        (["--part", "prm", "--prm", "embedding"], "'embedding' needs a model"),
        (["--part", "prm", "--targets", "labels"], "has a label; map one"),
        (["--part", "prm", "--model", "/nowhere"], "'/nowhere' cannot be loaded"),
        (["--part", "prm", "--batch-size", "0"], "batch_size is 0"),
        (["--part", "prm", "--propensity", "rate"], "propensity field 'rate' of episode"),
    ],
)
def test_errors_name_the_culprit(run, capsys, more, message) -> None:
    before = sorted(path.name for path in run.iterdir())
    assert main(["train", str(run), *more]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert sorted(path.name for path in run.iterdir()) == before


def test_score_needs_company_and_a_prm(run, capsys) -> None:
    assert main(["estimate", str(run), "--state", "score"]) == 2
    assert "name another feature besides `score`" in capsys.readouterr().err
    assert main(["estimate", str(run), "--state", "step,score"]) == 2
    assert "run `selfreg train --part prm` first" in capsys.readouterr().err
