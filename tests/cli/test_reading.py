"""What `selfreg import` says about logs, and what reaches the terminal of them."""

from __future__ import annotations

import inspect
import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from selfreg._util.printable import escape_controls
from selfreg.cli.app import app
from selfreg.cli.main import main
from selfreg.cli.reading import _read_source
from selfreg.cli.terminal import remark, say, table
from selfreg.data import Step, Trajectory, write_trajectories
from selfreg.runs import RunFolder

HOSTILE = "[/x]\x1b]0;title\x07\x9b31m\u202e[bold]"


def write(path: Path, *records: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def record(number: int, **fields: Any) -> dict[str, Any]:
    step = {"observation": "a", "action": "b"}
    return {"task": f"t{number % 3}", "outcome": number % 2, "steps": [step], **fields}


def test_text_of_logs_commands_no_terminal(capsys) -> None:
    say(HOSTILE)
    remark(HOSTILE)
    table(HOSTILE, ["a", HOSTILE], [[HOSTILE, "two\nlines"]])
    printed = capsys.readouterr()
    shown = r"[/x]\x1b]0;title\x07\x9b31m\u202e[bold]"
    assert printed.out.count(shown) == 4
    assert printed.err.strip() == shown
    assert not set(printed.out + printed.err) & set("\x1b\x07\x9b\u202e")
    assert "two\\nlines" in printed.out
    assert escape_controls("plain\ttext \U0001f469\u200d\U0001f4bb\n") == "plain\ttext \U0001f469\u200d\U0001f4bb\n"


def test_a_help_type_of_any_name_is_estimated_and_shown(tmp_path, capsys) -> None:
    steps = (Step("a", intervention=HOSTILE), Step("b"))
    log = [Trajectory(f"t{i}", f"e{i}", float(i % 2), steps[i % 2 :]) for i in range(8)]
    write_trajectories(tmp_path / "log.jsonl", log)
    assert main(["import", str(tmp_path / "log.jsonl"), "--out", str(tmp_path / "run")]) == 0
    assert main(["estimate", str(tmp_path / "run")]) == 0
    printed = capsys.readouterr()
    assert "[/x]" in printed.out
    assert "\x1b" not in printed.out + printed.err


def test_errors_quote_logs_without_control_characters(tmp_path, capsys) -> None:
    log = write(tmp_path / "log.jsonl", record(0, task=[1]), record(1))
    assert main(["import", str(log), "--map", f"task={HOSTILE}", "--out", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert "selfreg: error:" in error
    assert "\x1b" not in error


def test_what_is_left_out_is_said_by_outcome(tmp_path, capsys) -> None:
    bad = [record(2, steps=[]), record(3, steps=[{"x": 1}]), {"outcome": 0}, record(4, outcome="?")]
    log = write(tmp_path / "log.jsonl", *map(record, range(4)), *bad)
    out = tmp_path / "run"
    assert main(["import", str(log), "--out", str(out)]) == 2
    assert "log.jsonl:5: field 'steps': expected a list of at least one step" in (error := capsys.readouterr().err)
    assert "--skip-bad leaves out" in error
    assert not out.exists()
    assert main(["import", str(log), "--out", str(out), "--skip-bad"]) == 0
    error = capsys.readouterr().err
    assert "skipped 4 records in total: 2 failures, 1 successes, 1 of unknown outcome. Where failures" in error
    assert len(RunFolder(out).settings()["import"]["skipped"]) == 4


def test_canonical_records_that_are_left_out_have_outcomes(tmp_path, capsys) -> None:
    good = {"task": "t", "episode": "e", "outcome": 1.0, "steps": [{"state": "a"}]}
    log = write(tmp_path / "log.jsonl", good, {**good, "episode": "f", "outcome": 0, "steps": []}, good)
    assert main(["import", str(log), "--out", str(tmp_path / "run"), "--skip-bad"]) == 0
    assert "2 records in total: 1 failures, 1 successes, 0 of unknown outcome" in capsys.readouterr().err


def test_repairs_are_counted(tmp_path, capsys) -> None:
    step = {"observation": "cut \ud83d", "action": "b", "extra": float("nan")}
    log = write(tmp_path / "log.jsonl", record(0, steps=[step]), record(1))
    log.write_bytes(b"\xef\xbb\xbf" + log.read_bytes().replace(b"\n", b"\r\n"))
    assert main(["import", str(log), "--out", str(tmp_path / "run")]) == 0
    error = capsys.readouterr().err
    assert "1 halves of characters (surrogates) were read as U+FFFD" in error
    assert "1 NaN or Infinity were read as null" in error


@pytest.mark.parametrize(
    ("outcome", "words"),
    [(0, "all 4 episodes with an outcome failed"), (1, "all 4 episodes with an outcome succeeded")],
)
def test_outcomes_that_are_all_the_same_are_said(tmp_path, capsys, outcome, words) -> None:
    log = write(tmp_path / "log.jsonl", *(record(i, outcome=outcome) for i in range(4)))
    assert main(["import", str(log), "--out", str(tmp_path / "run")]) == 0
    error = capsys.readouterr().err
    assert words in error
    assert "no step has a mark of help" in error
    assert "count as the agent's own" in error
    assert any(words in note for note in RunFolder(tmp_path / "run").settings()["import"]["notes"])


def test_marks_values_and_outcomes_of_the_command_line(tmp_path, capsys) -> None:
    calls = [{"name": "escalate"}]
    steps = [{"observation": "a", "model": "weak"}, {"observation": "b", "model": "gpt-4o", "calls": calls}]
    log = write(tmp_path / "log.jsonl", *({"id": i, "turns": steps} for i in range(4)))
    results = write(tmp_path / "results.jsonl", *({"id": i, "grade": "CI"[i % 2]} for i in range(4)))
    reading = ["--map", "task=id", "--map", "steps=turns", "--map", "tools=calls[].name"]
    reading += ["--outcomes", str(results), "--outcomes-value", "grade", "--value", "outcome=C=1,I=0"]
    out = tmp_path / "run"
    assert main(["import", str(log), *reading, "--help-model", "gpt-4*=strong", "--out", str(out)]) == 0
    read = RunFolder(out).trajectories()
    assert [(t.task, t.outcome, [s.intervention for s in t.steps]) for t in read][:2] == [
        ("0", 1.0, [None, "strong"]),
        ("1", 0.0, [None, "strong"]),
    ]
    settings = RunFolder(out).settings()["import"]
    assert settings["marks"] == {"models": {"gpt-4*": "strong"}}
    both = ["--help-model", "gpt-4*=strong", "--help-tool", "escalate=person", "--overwrite"]
    assert main(["import", str(log), *reading, *both, "--out", str(out)]) == 2
    assert "--help-model gpt-4*=strong: no step has that mark" in capsys.readouterr().err
    assert main(["import", str(log), *reading, "--help-tool", "esc=person", "--out", str(out), "--overwrite"]) == 2
    assert "--help-tool esc=person: no step has that mark" in capsys.readouterr().err
    assert main(["import", str(log), *reading, "--out", str(out), "--overwrite", "--map", "intervention=halp"]) == 0
    assert "no step has help in its field 'halp'" in capsys.readouterr().err


def rows(folder: Path, n: int = 12) -> tuple[str, list[str]]:
    """A table of events with grades elsewhere, and the options that read it; every second ticket is escalated."""
    steps = [
        f"{i},{step},t{i % 3},case {i % 3},{'senior' if step == 1 and i % 2 else 'bot'}"
        for i in range(n)
        for step in range(2)
    ]
    log, grades = folder / "events.csv", folder / "grades.csv"
    log.write_text("\n".join(["ticket,at,task,text,who", *steps]) + "\n")
    grades.write_text("\n".join(["episode,grade", *(f"{i},{'C' if i % 4 else 'I'}" for i in range(n))]) + "\n")
    words = ["--group-by", "ticket", "--order-by", "at", "--map", "observation=text", "--map", "model=who"]
    words += ["--help-model", "senior=person", "--outcomes", str(grades), "--outcomes-value", "grade"]
    return str(log), [*words, "--value", "outcome=C=1,I=0"]


def test_look_reads_with_the_options_of_fit_and_hands_them_on(tmp_path, capsys) -> None:
    log, words = rows(tmp_path)
    assert main(["look", log, *words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["format"], found["episodes"], found["steps"]) == ("rows", 12, 24)
    assert (found["help"], found["outcomes"]["mean"]) == ({"person": 6}, 0.75)
    command = shlex.split(found["command"])
    assert command[:2] == ["selfreg", "fit"]
    assert [command.count(word) for word in words] == [words.count(word) for word in words]
    assert main([*command[1:-1], str(tmp_path / "run")]) == 0


def test_ope_and_monitor_read_with_the_options_of_fit(tmp_path, capsys) -> None:
    log, words = rows(tmp_path, 40)
    run = str(tmp_path / "run")
    assert main(["fit", log, *words, "--state", "step", "--budget", "1", "--samples", "0", "--out", run]) == 0
    capsys.readouterr()
    assert main(["ope", run, log, *words, "--policy", "never", "--least-effective", "0", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["policy"] == "never"
    assert main(["ope", run, *words, "--policy", "never"]) == 2
    assert "expected logs after the run folder" in capsys.readouterr().err
    assert main(["monitor", run, log, *words, "--budget", "1", "--json"]) in (0, 3)
    found = json.loads(capsys.readouterr().out)
    assert (found["episodes"], found["counts"]) == (40, "requests")


def test_commands_that_read_logs_take_the_same_options() -> None:
    group: Any = get_command(app)
    names = set(inspect.signature(_read_source).parameters) - {"logs"}
    for command in ("fit", "import", "look", "ope", "monitor"):
        assert names <= {p.name for p in group.commands[command].params}, command
    assert names <= {p.name for p in group.commands["prm"].commands["recalibrate"].params}


def test_ope_and_monitor_skip_bad_records_and_say_so(tmp_path, capsys) -> None:
    log = write(tmp_path / "log.jsonl", *(record(i) for i in range(30)))
    run = str(tmp_path / "run")
    assert main(["fit", str(log), "--state", "step", "--budget", "1", "--samples", "0", "--out", run]) == 0
    log.write_text(log.read_text() + "{broken\n")
    capsys.readouterr()
    for words in (
        ["ope", run, str(log), "--policy", "never", "--least-effective", "0"],
        ["monitor", run, str(log), "--budget", "0"],
    ):
        assert main(words) == 2
        assert "--skip-bad" in capsys.readouterr().err
        assert main([*words, "--skip-bad"]) in (0, 3)
        assert f"skipped: {log}:31" in capsys.readouterr().err


ROWS = """ticket,ts,said,did,by,score
1,2,broken,fix,person,C
1,1,hello,hi,,C
2,1,hello,hi,,I
2,2,angry,bye,,I
"""


def test_every_command_that_reads_logs_reads_them_alike(tmp_path, capsys) -> None:
    log, results = tmp_path / "rows.csv", tmp_path / "results.jsonl"
    log.write_text("".join([ROWS, *(f"{3 + i}{line[1:]}\n" for i in range(20) for line in ROWS.splitlines()[1:3])]))
    write(results, *({"id": i, "grade": "CI"[i % 2]} for i in range(1, 23)))
    reading = ["--group-by", "ticket", "--order-by", "ts", "--map", "observation=said", "--map", "action=did"]
    reading += ["--map", "task=ticket", "--map", "outcome=score", "--value", "outcome=C=1,I=0"]
    reading += ["--outcomes", str(results), "--outcomes-value", "grade", "--help-role", "person=person"]
    reading += ["--map", "role=by"]
    assert main(["look", str(log), *reading]) == 0
    shown = capsys.readouterr().out
    assert "episodes  22 of 22 tasks, 44 steps" in shown
    assert "person (21 steps)" in shown
    assert "mean 0.500" in shown
    run = str(tmp_path / "run")
    # The command that `look` proposes reads the same.
    words = shlex.split(shown.splitlines()[-1])
    assert main([*words[1:-2], "--samples", "0", "--out", run]) == 0
    read = RunFolder(Path(run)).trajectories()
    assert sum(one.helped for one in read) == 21
    assert sorted(one.outcome for one in read) == [0.0] * 11 + [1.0] * 11
    capsys.readouterr()
    assert main(["ope", str(log), *reading, "--policy", "never", "--least-effective", "0"]) == 0
    assert "22 episodes of 22 tasks" in capsys.readouterr().out
    assert main(["monitor", run, str(log), *reading, "--budget", "1", "--json"]) in (0, 3)
    assert json.loads(capsys.readouterr().out)["episodes"] == 22
    log.write_text(log.read_text() + "99,1,a\n")
    for command in (
        ["ope", str(log), "--policy", "never", "--least-effective", "0"],
        ["monitor", run, str(log), "--budget", "1"],
    ):
        assert main([*command, *reading]) == 2
        error = capsys.readouterr().err
        assert "rows.csv" in error
        assert "--skip-bad" in error
        assert main([*command, *reading, "--skip-bad"]) in (0, 3)
        assert "skipped: " in capsys.readouterr().err


def test_a_table_whose_values_of_help_are_translated_is_read_as_rows(tmp_path, capsys) -> None:
    log = tmp_path / "log.csv"
    log.write_text("task,observation,asked,outcome\n" + "".join(f"{i},a,{'ja' if i else 'nein'},1\n" for i in range(2)))
    words = ["import", str(log), "--map", "intervention=asked", "--value", "intervention=nein=,ja=person"]
    assert main([*words, "--out", str(tmp_path / "run")]) == 2
    assert "'intervention': --format rows translates it too" in capsys.readouterr().err
    assert main([*words, "--format", "rows", "--out", str(tmp_path / "run")]) == 0
    assert [t.steps[0].intervention for t in RunFolder(tmp_path / "run").trajectories()] == [None, "person"]


def test_a_run_with_unfinished_episodes_needs_a_prm_to_be_estimated(tmp_path, capsys) -> None:
    ended = [Trajectory(f"t{i}", f"e{i}", 1.0, (Step("a"),)) for i in range(3)]
    write_trajectories(tmp_path / "log.jsonl", [*ended, Trajectory("t0", "cut", None, (Step("a"),), truncated=True)])
    assert main(["import", str(tmp_path / "log.jsonl"), "--out", str(tmp_path / "run")]) == 0
    assert main(["estimate", str(tmp_path / "run")]) == 2
    assert "1 of 4 episodes have no outcome; run `selfreg train" in capsys.readouterr().err


def test_outcomes_of_no_episode_are_said_by_look_and_fit(tmp_path, capsys) -> None:
    log, results = tmp_path / "log.jsonl", tmp_path / "res.csv"
    messages = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    write(log, *({"id": f"e{i}", "messages": messages, "success": 1} for i in range(3)))
    results.write_text("session,score\nc0,1\nc1,0\n")
    said = (
        f"0 of 2 names in {results} belong to episodes: the file has 'c0', the logs have episode 'log.jsonl:1' of task"
    )
    words = [str(log), "--outcomes", str(results), "--outcomes-key", "session", "--map", "outcome="]
    assert main(["look", *words]) == 0
    shown = capsys.readouterr().out
    assert said in shown
    assert "Name a file that has them" not in shown
    assert main(["fit", *words, "--out", str(tmp_path / "run")]) == 2
    assert f"none of the 3 episodes has an outcome, and a plan needs some: {said}" in capsys.readouterr().err
    # Those of the log are read, and not replaced.
    assert main(["import", *words[:-2], "--out", str(tmp_path / "run")]) == 0
    assert f"note: {said}" in capsys.readouterr().err
    results.write_text("session,score\ne0,1\ne1,0\n")
    assert main(["fit", *words, "--out", str(tmp_path / "run"), "--overwrite"]) == 2
    error = capsys.readouterr().err
    assert "1 of 3 episodes have no outcome (the first: 'log.jsonl:3'): --skip-bad" in error
    assert f"2 of 2 names in {results} belong to episodes: the logs have" in error
