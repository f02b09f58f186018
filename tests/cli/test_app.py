"""The commands, their groups, and their exit status."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from typing import Any

import pytest
import typer

from selfreg.cli.about import ABOUT
from selfreg.cli.app import PANELS, PRM, app
from selfreg.cli.main import main


def test_every_command_is_in_the_help(capsys) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    for panel, commands in PANELS.items():
        assert panel in shown
        assert all(f" {name} " in shown for name in commands)
    assert main(["prm", "--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f" {name} " in shown for name in PRM)


@pytest.mark.parametrize("name", sorted(PRM))
def test_what_uses_a_prm_is_below_prm(tmp_path, capsys, name: str) -> None:
    assert main([name, str(tmp_path)]) == 2
    assert "No such command" in capsys.readouterr().err
    more = {"threshold": [], "recalibrate": ["x.jsonl"], "score": ["x.jsonl", "--out", str(tmp_path / "out")]}
    assert main(["prm", name, str(tmp_path), *more[name]]) == 2
    assert "run folder" in capsys.readouterr().err


def test_summaries_are_shown_in_full_in_a_narrow_terminal() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "selfreg", "--help"],
        env={**os.environ, "COLUMNS": "60", "NO_COLOR": "1"},
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert "..." not in shown.split("Commands:")[1]
    assert max(map(len, shown.splitlines())) <= 60
    names = [name for commands in PANELS.values() for name in commands] + [f"prm {name}" for name in PRM]
    assert sorted(ABOUT) == sorted(names)


@pytest.mark.parametrize("name", ABOUT)
def test_the_example_of_a_command_is_one_that_it_takes(name) -> None:
    command: Any = typer.main.get_command(app)
    words = shlex.split(ABOUT[name].example)
    assert words[: 1 + len(name.split())] == ["selfreg", *name.split()]
    for part in name.split():
        command = command.commands[part]
    values, _, _ = command.make_parser(typer.Context(command)).parse_args(words[1 + len(name.split()) :])
    needed = {option.name for option in command.params if option.required}
    assert {name for name, value in values.items() if value is not None} >= needed
