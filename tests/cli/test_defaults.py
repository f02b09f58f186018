"""One default for each option over all commands."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest
from typer.main import get_command

import made
from selfreg.cli.app import app
from selfreg.cli.main import main
from selfreg.cli.train import keep_history
from selfreg.data import write_trajectories
from selfreg.helper import HelperConfig
from selfreg.prm import EncoderConfig, PRMConfig
from selfreg.runs import RunFolder

PARTS = {"prm": PRMConfig, "helper": HelperConfig}

# Options whose default differs from command to command, and why.
REASONS = {
    "--budget": "the guides' figures are those of demo and evaluate at 4; fit and solve plan for one more",
    "--epochs": "labels of the helper are weighted and need more epochs than outcomes",
    "--kappa": "demo always trains a PRM",
    "--form": "fit trains a helper where one is asked for; train keeps that of the run",
    "--format": "of logs; of the page for report",
    "--patience": "as --epochs",
    "--price": "without one the recommendation is by success alone; a helper drops requests that gain next to nothing",
    "--shadow": "a switch of serve; the ledger that monitor reads",
    "--prm": "fit trains a PRM only where the plan needs one",
}


def _commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    if not hasattr(command, "commands"):
        yield " ".join(path), command
        return
    for name, child in command.commands.items():
        yield from _commands(child, (*path, name))


def _defaults() -> dict[str, dict[str, str]]:
    """Of each option: the default by command, and by configuration where that holds it."""
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for name, command in _commands(get_command(app)):
        for parameter in command.params:
            if parameter.param_type_name != "option":
                continue
            configs = {part: c for part, c in PARTS.items() if name.endswith("train") and hasattr(c, parameter.name)}
            for part, config in configs.items():
                found[parameter.opts[0]][f"{name} {part}"] = str(getattr(config, parameter.name))
            if not configs and not parameter.required:
                found[parameter.opts[0]][name] = str(parameter.default)
    return found


def test_an_option_has_one_default_over_all_commands() -> None:
    differing = {option for option, by in _defaults().items() if len(set(by.values())) > 1}
    assert differing == set(REASONS)


def test_history_is_that_of_the_configuration() -> None:
    history = _defaults()["--history"]
    assert set(history.values()) == {str(EncoderConfig.history)}
    assert PRMConfig.history == HelperConfig.history == EncoderConfig.history


def test_help_shows_the_default_of_each_part(capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    assert main(["train", "--help"]) == 0
    assert f"Default: {PRMConfig.epochs} (prm), {HelperConfig.epochs} (helper)." in capsys.readouterr().out


@pytest.mark.parametrize("history", [None, "1"])
def test_retraining_keeps_the_history_of_the_run(tmp_path, history) -> None:
    write_trajectories(tmp_path / "log.jsonl", made.colours())
    given = [] if history is None else ["--history", history]
    run = tmp_path / "run"
    fit = ["fit", str(tmp_path / "log.jsonl"), "--prm", "tfidf", "--budget", "1", "--samples", "0", "--out", str(run)]
    assert main([*fit, *given]) == 0
    first = RunFolder(run).settings()["prm"]["history"]
    assert first == (EncoderConfig.history if history is None else int(history))
    again = ["train", str(run), "--part", "prm", "--prm", "tfidf", "--no-baselines"]
    assert main(again) == 0
    assert RunFolder(run).settings()["prm"]["history"] == RunFolder(run).prm().history == first
    assert main([*again, "--history", "2"]) == 0
    assert RunFolder(run).prm().history == 2


def test_a_collected_run_starts_without_history(tmp_path) -> None:
    """A text of an environment describes its state completely."""
    run = RunFolder(tmp_path)
    run.record("collect", {"episodes": 1})
    assert keep_history(run, {}, "helper") == {"history": 0}
    assert keep_history(run, {"history": 3}, "helper") == {"history": 3}
    run.record("helper", {"history": 2})
    assert keep_history(run, {}, "helper") == {"history": 2}
