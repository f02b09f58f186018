"""What `look_at_logs` says of logs, and that the command that it proposes runs."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from selfreg.cli.main import main
from selfreg.data import LogError, ReadOptions, look_at_logs

MESSAGES = [
    {"role": "user", "content": "hello"},
    {"role": "assistant", "content": "hm", "tool_calls": [{"id": "c", "function": {"name": "transfer_to_human"}}]},
    {"role": "tool", "tool_call_id": "c", "content": "ok"},
    {"role": "assistant", "content": "bye"},
]


def conversation(i: int) -> dict:
    return {"task_id": i % 5, "run_id": f"r{i}", "reward": i % 2, "domain": "ab"[i % 2], "messages": MESSAGES}


def write_lines(path: Path, records: list[dict]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_what_is_in_a_log_and_what_is_missing(tmp_path) -> None:
    log = write_lines(tmp_path / "log.jsonl", [conversation(i) for i in range(20)])
    found = look_at_logs(log)
    assert (found.format, found.files, found.complete) == ("openai_messages", 1, True)
    assert (found.episodes, found.tasks, found.steps) == (20, 5, 40)
    assert (found.outcomes.mean, found.outcomes.values) == (0.5, {"0": 10, "1": 10})
    assert found.tools == {"transfer_to_human": 20}
    assert found.help == {}
    assert any("transfer_to_human" in hint and "--help-tool" in hint for hint in found.hints)
    marked = "--help-tool transfer_to_human=person"
    assert found.command.endswith(f"{log} --format openai_messages {marked} --budget 3 --out runs/log")
    assert look_at_logs(write_lines(tmp_path / "one.jsonl", [conversation(0)])).hints[0].startswith("Every episode has")


def test_large_logs_are_sampled_from_all_of_them(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("selfreg.data.overview.SAMPLE_BYTES", 40_000)
    monkeypatch.setattr("selfreg.data.overview.SAMPLE_FILES", 16)
    log = write_lines(tmp_path / "log.jsonl", [conversation(i) | {"part": i // 100} for i in range(1000)])
    found = look_at_logs(log)
    assert not found.complete
    assert 50 < found.episodes < 500
    assert found.fields["part"] >= 8
    folder = tmp_path / "many"
    folder.mkdir()
    for i in range(100):
        (folder / f"{i:02}.json").write_text(json.dumps(conversation(i) | {"task_id": f"t{i // 2}"}))
    found = look_at_logs(folder)
    assert (found.files, found.episodes, found.tasks, found.complete) == (100, 16, 8, False)
    for i in range(100):
        (folder / f"{i:02}.json").write_text(json.dumps(conversation(i) | {"task_id": f"t{i}"}))
    assert any(hint.startswith("No task in the sample was run twice") for hint in look_at_logs(folder).hints)


def test_faults_are_listed_with_their_places(tmp_path) -> None:
    log = write_lines(tmp_path / "log.jsonl", [conversation(0), conversation(1) | {"messages": 5}, conversation(2)])
    found = look_at_logs(log)
    assert (found.episodes, found.n_faults) == (2, 1)
    assert found.faults[0].startswith(f"{log}:2: field 'messages'")
    assert "--skip-bad" in found.command


def test_roles_are_proposed_where_no_format_is_recognised(tmp_path) -> None:
    turns = [
        {"text": "a long text of the state", "did": "x", "helper": None},
        {"text": "b", "did": "y", "helper": "person"},
    ]
    log = write_lines(tmp_path / "log.jsonl", [{"ticket_id": i, "won": bool(i % 2), "turns": turns} for i in range(6)])
    found = look_at_logs(log)
    assert (found.format, found.help) == ("jsonl", {"person": 6})
    for role in (
        "steps=turns",
        "task=ticket_id",
        "outcome=won",
        "observation=text",
        "action=did",
        "intervention=helper",
    ):
        assert f"--map {role}" in found.command
    with pytest.raises(LogError, match="of no known format; its first record has 'a'"):
        look_at_logs(write_lines(tmp_path / "other.jsonl", [{"a": 1}, {"a": 2}]))


def test_the_command_line_prints_it_and_json_and_no_control_characters(tmp_path, capsys) -> None:
    log = write_lines(tmp_path / "log.jsonl", [conversation(i) | {"\x1b]0;x\x07": i} for i in range(4)])
    assert main(["look", str(log)]) == 0
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert "\\x1b]0;x\\x07" in shown
    assert "next\n  selfreg fit" in shown
    assert main(["look", "--json", str(log)]) == 0
    assert json.loads(capsys.readouterr().out)["episodes"] == 4
    assert main(["look", str(tmp_path / "no")]) == 2
    assert "no such file" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name", ["mint", "tau_bench", "router_arena", "bigbench_mistake", "inspect_ai/popularity.json"]
)
def test_the_command_runs_as_it_is(shared_data, tmp_path, monkeypatch, capsys, name) -> None:
    command = shlex.split(look_at_logs(shared_data / name).command)
    monkeypatch.chdir(tmp_path)
    assert command[:2] == ["selfreg", "fit"]
    assert main([*command[1:], "--samples", "0"]) == 0, capsys.readouterr().err
    assert "planned" in capsys.readouterr().out
    assert (tmp_path / command[command.index("--out") + 1] / "report.html").is_file()


# ---- inputs ---------------------------------------------------------------------------------------------------------


def run(*arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "selfreg", *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, env=dict(os.environ), check=False)


def test_standard_input_folders_globs_and_archives_are_read_alike(tmp_path) -> None:
    log = write_lines(tmp_path / "log.jsonl", [conversation(i) for i in range(8)])
    archive = tmp_path / "logs.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.write(log, "deep/er/log.jsonl")
        file.writestr("README.txt", "words")
        file.writestr("../../escape.jsonl", json.dumps(conversation(9)))
    folder = tmp_path / "folder"
    (folder / "a").mkdir(parents=True)
    (folder / "a" / "log.jsonl").write_bytes(log.read_bytes())
    (folder / "notes.md").write_text("words")
    (folder / ".hidden.json").write_text("{}")
    for name, episodes in ((folder, 8), (archive, 9), (str(tmp_path / "*.jsonl"), 8)):
        assert look_at_logs(name).episodes == episodes
    assert not (tmp_path.parent / "escape.jsonl").exists()
    assert [Path(one.split(" (")[0]).name for one in look_at_logs(archive).left_out] == ["README.txt"]
    shown = run("look", "--json", "-", stdin=log.read_bytes())
    assert json.loads(shown.stdout)["episodes"] == 8, shown.stderr
    shown = run("look", "--json", "-", stdin=archive.read_bytes())
    assert json.loads(shown.stdout)["episodes"] == 9, shown.stderr


def test_paths_without_logs_are_named(tmp_path) -> None:
    (tmp_path / "notes.md").write_text("words")
    broken = tmp_path / "b.zip"
    broken.write_bytes(b"PK\x03\x04 and no more")
    for path, message in (
        (tmp_path / "no.jsonl", "no such file"),
        (tmp_path / "*.csv", "no such file"),
        (broken, "broken zip file"),
        (tmp_path / "notes.md", "it is no JSON, CSV or Parquet"),
    ):
        with pytest.raises(LogError, match=message):
            look_at_logs(path)
    folder = tmp_path / "empty"
    folder.mkdir()
    with pytest.raises(LogError, match="no logs in it; expected files that end in"):
        look_at_logs(folder)


def test_a_table_of_queries_and_models_is_planned_by_a_field(tmp_path) -> None:
    rows = [f"q{i},{'ab'[i % 2]},{model},{won}" for i in range(8) for model, won in (("weak", i % 2), ("strong", 1))]
    (tmp_path / "t.csv").write_text("\n".join(["query_id,dataset,model,score", *rows]))
    command = look_at_logs(tmp_path / "t.csv").command
    assert "--help-model strong=strong --state dataset --budget 1" in command


def test_episodes_that_are_there_twice_are_faults_that_fit_has_too(tmp_path) -> None:
    records = [conversation(i) | {"episode": f"e{i % 4}", "success": i % 2} for i in range(5)]
    log = write_lines(tmp_path / "log.jsonl", records)
    found = look_at_logs(log)
    assert (found.episodes, found.faults) == (4, [f"{log}:5: duplicate episode id 'e0', first in {log}:1"])
    assert "--skip-bad" in found.command
    assert look_at_logs(write_lines(log, records[:4])).faults == []


def test_logs_without_an_episode_are_an_error_as_in_fit(tmp_path) -> None:
    log = write_lines(tmp_path / "log.jsonl", [])
    with pytest.raises(LogError, match=r"log\.jsonl: no episodes$"):
        look_at_logs(log)
    write_lines(log, [conversation(0)])
    with pytest.raises(LogError, match=r"log\.jsonl: no episodes with {'task_id': \['9'\]}"):
        look_at_logs(log, options=ReadOptions(where={"task_id": ["9"]}))
