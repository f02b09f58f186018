"""Prices of help: what the options mean, and what the report says about them."""

from __future__ import annotations

import json
import shutil

import pytest

from selfreg.cli.decide import load_helper
from selfreg.cli.forecasting import UNPRICED
from selfreg.cli.main import main
from selfreg.cli.prices import Prices, parse_prices
from selfreg.data import Step, Trajectory, write_trajectories
from selfreg.runs import RunFolder


@pytest.mark.parametrize(
    ("price", "worth", "minutes", "in_success"),
    [
        (["0.02"], None, None, {"person": 0.02, "model": 0.02}),
        (["4"], 25.0, None, {"person": 0.16, "model": 0.16}),
        (["person=4", "model=0.5"], 25.0, ["person=5"], {"person": 0.16, "model": 0.02}),
        (["person=0.3", "model=0.1"], None, None, {"person": 0.3, "model": 0.1}),
        (["person=30"], 25.0, None, {"person": 1.2}),
        (None, 25.0, ["3"], {}),
    ],
)
def test_prices_in_units_of_success(price, worth, minutes, in_success) -> None:
    assert parse_prices(price, worth, minutes).of_help(["person", "model"]).in_units_of_success() == in_success


@pytest.mark.parametrize(
    ("price", "worth", "message"),
    [
        (["person=x"], None, "--price person=x: expected a number >= 0"),
        (["-1"], None, "--price -1: expected a number >= 0"),
        (["nan"], None, "expected a number >= 0"),
        (["person=1", "person=2"], None, "each help type once"),
        (["1", "person=2"], None, "one number for all help types, or one for each"),
        (["=2"], None, "expected HELP=NUMBER or NUMBER"),
        (["1"], 0.0, "--worth 0: expected a number > 0"),
        (["person=4", "model=0.1"], None, "--price person=4 is in success, below 1; with money, say what a success"),
        (["4"], None, "--price 4 is in success, below 1; with money, say what a success is --worth"),
    ],
)
def test_faults_are_named(price, worth, message) -> None:
    with pytest.raises(ValueError, match=message):
        parse_prices(price, worth, None)


def test_an_unknown_help_type_is_named() -> None:
    with pytest.raises(ValueError, match="--minutes robot=3: unknown help type 'robot'; the logs have person"):
        Prices(minutes={"robot": 3.0}).of_help(["person"])


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> str:
    """Tasks that ran both ways: help raises success from 0.4 to 0.9, in one request."""
    folder = tmp_path_factory.mktemp("prices")
    logs = [
        Trajectory(f"t{i}", f"{i}{help}", float(i % 10 < (9 if help else 4)), (Step("start", intervention=help),))
        for i in range(100)
        for help in (None, "person")
    ]
    write_trajectories(folder / "log.jsonl", logs)
    arguments = ["fit", str(folder / "log.jsonl"), "--budget", "1", "--samples", "0", "--out", str(folder / "run")]
    assert main(arguments) == 0
    return str(folder / "run")


@pytest.mark.parametrize(("price", "policy", "gain"), [("4", "always", "+8.50"), ("20", "never", None)])
def test_the_recommendation_depends_on_the_price(run, price, policy, gain) -> None:
    arguments = ["report", run, "--format", "json", "--price", f"person={price}", "--worth", "25", "--minutes", "3"]
    assert main(arguments) == 0
    with open(f"{run}/report.json", encoding="utf-8") as file:
        found = json.load(file)
    assert found["summary"]["recommendation"]["policy"] == policy
    (row,) = found["worth"]
    assert row["break-even price of a request"] == "12.50"
    if gain is not None:
        assert found["numbers"]["cost a task"] == "4.00"
        assert found["numbers"]["gain a task at 25 a success"] == gain
        assert found["numbers"]["time of helpers a task"] == "3.0 min"
        assert found["worth_lines"][0].endswith("for 4.00 each: worth it at 25 a success.")


@pytest.fixture(scope="module")
def priced(tmp_path_factory) -> str:
    """Dear help raises success from 0.2 to 0.9 and cheap help to 0.7; at these prices cheap help gains more."""
    folder = tmp_path_factory.mktemp("priced")
    logs = [
        Trajectory(f"t{i}", f"{i}{help}", float(i % 10 < won), (Step("start", intervention=help),))
        for i in range(100)
        for help, won in ((None, 2), ("cheap", 7), ("dear", 9))
    ]
    write_trajectories(folder / "log.jsonl", logs)
    prices = ["--price", "dear=0.5", "--price", "cheap=0.05", "--form", "gain"]
    arguments = ["fit", str(folder / "log.jsonl"), "--budget", "1", "--samples", "0", "--out", str(folder / "run")]
    assert main(arguments + prices) == 0
    return str(folder / "run")


def decided(run: str) -> str:
    return load_helper(RunFolder.open(run)).decide(["start"], (1,)).action


def test_every_part_of_a_run_weighs_each_price(priced) -> None:
    summary = RunFolder.open(priced).summary()
    assert (summary["recommendation"]["policy"], summary["recommendation"]["help"]) == ("always", "cheap")
    assert summary["rules"]["rules"] == ["Request cheap at every step, while at least 1 request is left."]
    assert decided(priced) == "cheap"
    assert UNPRICED in summary["notes"]
    assert summary["forecast"][-1]["mix"] == {"cheap": 1.0}


def test_training_anew_keeps_the_price_and_renews_what_is_known_of_the_helper(priced, tmp_path, capsys) -> None:
    run = str(shutil.copytree(priced, tmp_path / "run"))
    folder = RunFolder.open(run)
    folder.write_summary(folder.summary() | {"evaluation": {"of": "the old helper"}})
    kept = folder.settings()["helper"]["price"]
    assert main(["train", run, "--form", "gain"]) == 0
    assert (folder.settings()["helper"]["price"], decided(run)) == (kept, "cheap")
    assert "evaluation" not in folder.summary()
    assert "results on held-out tasks were of the old helper" in capsys.readouterr().err
    assert main(["train", run, "--form", "gain", "--price", "0"]) == 0
    summary = folder.summary()
    assert (decided(run), summary["forecast"][-1]["mix"]) == ("dear", {"dear": 1.0})
    assert UNPRICED not in summary["notes"]
    assert "the forecast was made anew, with this helper" in capsys.readouterr().err


def test_a_helper_that_was_given_no_price_learns_that_of_the_run(priced, tmp_path) -> None:
    run = str(shutil.copytree(priced, tmp_path / "run"))
    folder = RunFolder.open(run)
    folder.record("helper", folder.settings()["helper"] | {"price": 0.02})
    assert main(["train", run, "--form", "gain"]) == 0
    assert folder.settings()["helper"]["price"] == {"dear": 0.5, "cheap": 0.05}


def test_solving_anew_keeps_the_prices(priced, tmp_path) -> None:
    run = str(shutil.copytree(priced, tmp_path / "run"))
    assert main(["solve", run, "--budget", "2", "--samples", "0"]) == 0
    summary = RunFolder.open(run).summary()
    assert summary["prices"] == {"in_success": {"dear": 0.5, "cheap": 0.05}}
    assert summary["recommendation"]["help"] == "cheap"
    (tmp_path / "run" / "summary.json").write_text("{")
    assert main(["solve", run, "--budget", "1", "--samples", "0"]) == 0
    assert RunFolder.open(run).summary()["prices"] == {}


def test_a_price_is_of_a_helper(priced, capsys) -> None:
    assert main(["train", priced, "--part", "prm", "--price", "0.1"]) == 2
    assert "--price is of a helper; got --part prm" in capsys.readouterr().err
