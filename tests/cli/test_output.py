"""What commands print: JSON for programs, quiet, narrow terminals, no colours; and the status of the process."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
import typer

from selfreg.cli import terminal
from selfreg.cli.app import PANELS, PRM, app
from selfreg.cli.main import main

ROOT = Path(__file__).parents[2]
TICKETS = [
    str(ROOT / "examples" / "tickets.jsonl"), "--format", "jsonl", "--map", "task=id", "--map", "outcome=won",
    "--map", "intervention=helper", "--map", "steps=turns", "--map", "observation=text",
]  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> str:
    out = tmp_path_factory.mktemp("output") / "run"
    assert main(["fit", *TICKETS, "--budget", "2", "--samples", "0", "--out", str(out)]) == 0
    return str(out)


def test_every_command_has_json_and_quiet() -> None:
    found = typer.main.get_command(app)
    commands = [found.commands[name] for names in PANELS.values() for name in names]
    commands += [found.commands["prm"].commands[name] for name in PRM]
    for command in commands:
        options = {option for parameter in command.params for option in parameter.opts}
        assert {"--json", "--quiet"} <= options, command.name


@pytest.mark.parametrize(
    ("arguments", "keys"),
    [
        (["estimate"], {"run", "states", "actions", "notes"}),
        (["solve", "--budget", "2", "--samples", "0"], {"run", "recommendation", "forecast", "success"}),
        (["label"], {"run", "labels", "file"}),
        (["report"], {"run", "report"}),
        (["frontier", "--at", "1"], {"run", "usage", "success", "value_of_a_unit", "at", "gap"}),
    ],
)
def test_stages_print_json(run, capsys, arguments, keys) -> None:
    assert main([arguments[0], run, *arguments[1:], "--json"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("\n") == 1
    assert keys <= set(json.loads(printed))


def test_fit_prints_json_and_is_quiet(tmp_path, capsys) -> None:
    arguments = ["fit", *TICKETS, "--budget", "1", "--samples", "0", "--out", str(tmp_path / "run")]
    assert main([*arguments, "--json", "--quiet"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    found = json.loads(out)
    assert found["report"] == str(tmp_path / "run" / "report.html")
    assert found["recommendation"]["words"]


def test_a_command_without_a_document_prints_its_lines(capsys) -> None:
    @terminal.with_output_options
    def command(number: float = float("nan")) -> None:
        terminal.say("a line")
        terminal.table("title", ["x", "y"], [["a", "1"]])

    command(number=1.0, as_json=True, quiet=False)
    assert json.loads(capsys.readouterr().out) == {"lines": ["a line", "title", "x  y", "a  1"]}


def test_json_has_no_nan() -> None:
    assert terminal.as_plain({"a": [float("nan"), Path("b")], 1: (True, None)}) == {"a": [None, "b"], "1": [True, None]}


def test_tables_are_never_cut(monkeypatch, capsys) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    row = ["a long name of a policy", "12.3% (10.1 to 14.5)"]
    terminal.table("title", ["policy", "success"], [row])
    assert capsys.readouterr().out.splitlines()[2] == "  ".join(row)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    terminal.table("title", ["policy", "success"], [row])
    assert capsys.readouterr().out.splitlines()[1:] == [f"policy {row[0]}", f"  success: {row[1]}"]


def test_doctor_names_what_is_missing(monkeypatch, capsys) -> None:
    from selfreg.cli import doctor

    monkeypatch.setattr(doctor, "requires", lambda _: ['ray>=2.40; extra == "ray"', 'nowhere>=1; extra == "serve"'])
    assert main(["doctor"]) == 0
    shown = capsys.readouterr().out
    assert "missing: nowhere" in shown
    assert "pip install 'selfreg[serve]'" in shown
    assert main(["doctor", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["extras"]["serve"]["packages"] == {"nowhere": None}


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")
@pytest.mark.parametrize("settings", [{"COLUMNS": "60", "NO_COLOR": "1"}, {"COLUMNS": "60"}])
def test_a_narrow_terminal(run, settings) -> None:
    """In a pseudo-terminal: nothing is cut, and NO_COLOR leaves no escape sequences."""
    import pty

    shown = b""
    child, terminal_ = pty.fork()
    if child == 0:
        os.environ.update(settings)
        os.environ["PYTHONPATH"] = str(ROOT / "src")
        os.execv(sys.executable, [sys.executable, "-m", "selfreg", "solve", run, "--budget", "2", "--samples", "20"])
    try:
        while part := os.read(terminal_, 4096):
            shown += part
    except OSError:  # the end, on Linux
        pass
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    text = shown.decode()
    assert "…" not in text
    assert "..." not in text
    assert "success (90% interval):" in text
    if "NO_COLOR" in settings:
        assert "\x1b" not in text
