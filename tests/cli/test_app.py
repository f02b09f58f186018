"""The commands, their groups, and their exit status."""

from __future__ import annotations

import pytest

from selfreg.cli.app import PANELS, PRM
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
