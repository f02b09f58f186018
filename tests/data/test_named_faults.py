"""Files whose fault hides what they are: they are still recognised, and the fault is named as what it is."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from selfreg.cli.main import main
from selfreg.data import LogError, look_at_logs, read_trajectories

RECORD = {"task": "t", "outcome": 1, "steps": [{"observation": "a"}]}


def write(folder: Path, text: str, name: str = "log.jsonl") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_first_lines_that_are_broken_do_not_lose_the_others(tmp_path) -> None:
    good = [json.dumps(RECORD | {"episode": f"e{i}"}) for i in range(5)]
    skipped: list[LogError] = []
    log = write(tmp_path, "\n".join([good[0][:30], good[1][:20], *good[2:]]))
    assert [one.episode for one in read_trajectories(log, skipped=skipped)] == ["e2", "e3", "e4"]
    assert [str(error).split(" ")[0] for error in skipped] == [f"{log}:1:", f"{log}:2:"]


@pytest.mark.parametrize("lines", [1, 3])
def test_deep_nesting_is_named(tmp_path, lines) -> None:
    deep = json.dumps(RECORD | {"x": "@"}).replace('"@"', "[" * 2000 + "]" * 2000) + "\n"
    log = write(tmp_path, deep * lines)
    with pytest.raises(LogError, match=r"log\.jsonl:1: nested more than 500 levels"):
        list(read_trajectories(log))
    assert look_at_logs(log).n_faults == lines


def test_several_indented_documents_are_named(tmp_path) -> None:
    log = write(tmp_path, "\n".join([json.dumps(RECORD, indent=2)] * 2))
    with pytest.raises(LogError, match=r"Several documents in one file: write one a line \(jq -c \. FILE\)"):
        list(read_trajectories(log))


def test_the_byte_that_is_no_utf8_is_counted_from_the_beginning_of_the_line(tmp_path) -> None:
    (log := tmp_path / "log.jsonl").write_bytes(json.dumps(RECORD).encode().replace(b'"a"', b'"\xff"'))
    with pytest.raises(LogError, match=r"log\.jsonl:1: not UTF-8: invalid start byte \(byte 55\)"):
        list(read_trajectories(log))


@pytest.mark.parametrize(
    ("name", "data", "match"),
    [
        ("log.jsonl", b"\r".join([json.dumps(RECORD).encode()] * 3), r"its lines end in CR alone; expected LF \(tr"),
        ("log.csv", b"task,outcome,question\rt,1,a\ru,0,b\r", r"line 1: its lines end in CR alone; expected LF \(tr"),
        ("log.csv", "task,outcome\nt,1\n".encode("utf-16"), r"it is UTF-16 \(convert it: iconv -f UTF-16 -t UTF-8\)"),
        ("log.csv", b"PAR1....PAR1", r"it is Parquet \(its name must end in \.parquet\)"),
        ("log.json", b'{"task": {"0": "t"}, "won": {"0": 1}}', r"a table column by column.*orient='records'"),
        ("log.json", b'{"columns": ["task"], "index": [0], "data": [["t"]]}', "a table column by column"),
        ("log.json", b'{"post": [{"name": "a"}, {"na', "log.json: not JSON: it ends before its last bracket"),
        ("log.json", b'{"post": [{"name": "a\xff"}]}', "log.json: not UTF-8"),
        ("log.json", b"{}", "its first record has no fields"),
        ("log.csv", b"id,prompt,model_a,model_b,winner_model_a\n1,q,m,n,1\n", "a row compares two models"),
        ("log.csv", b"task,outcome,question\nt,maybe,a\n", "got 'maybe' \\(words: --value 'outcome=WORD=1,"),
        ("log.csv", b"task,outcome,question\nt,70,a\n", r"got 70 \(--value outcome=LOW\.\.HIGH\)"),
    ],
)
def test_what_to_do_is_said(tmp_path, name, data, match) -> None:
    (log := tmp_path / name).write_bytes(data)
    with pytest.raises(LogError, match=match):
        list(read_trajectories(log))


def test_the_first_of_a_folder_of_unknown_files_is_described(tmp_path) -> None:
    log = write(tmp_path, '{"trace": 1, "spans": 2}\n')
    (tmp_path / "empty.json").touch()
    with pytest.raises(
        LogError, match=r"empty\.json \(it is empty\).*first record has 'trace', 'spans'\. Map its fields"
    ):
        look_at_logs(tmp_path)
    assert main(["look", str(log)]) == 2


def test_look_fails_where_no_record_can_be_read(tmp_path, capsys) -> None:
    log = write(tmp_path, f"{json.dumps(RECORD | {'steps': []})}\n" * 3)
    assert main(["look", str(log)]) == 2
    assert re.search(r"log\.jsonl:1: .*; and 2 more\. No record can be read", capsys.readouterr().err)


WORDS = {
    "no": None, "N/A": None, "-": None, "0": None, " none ": None, 0: None, None: None,
    "yes": "help", "True": "help", 1: "help", "anna": "anna",
}  # fmt: skip


@pytest.mark.parametrize("word", WORDS)
def test_yes_and_no_as_an_intervention(tmp_path, word) -> None:
    log = write(tmp_path, json.dumps(RECORD | {"steps": [{"observation": "a", "intervention": word}]}))
    assert [one.steps[0].intervention for one in read_trajectories(log)] == [WORDS[word]]
    cell = "" if word is None else word
    log = write(tmp_path, f"task_id,question,score,intervention\nt,q,1,{cell}\n", "log.csv")
    assert [one.steps[0].intervention for one in read_trajectories(log)] == [WORDS[word]]


def test_calls_that_a_record_has_are_no_steps(tmp_path) -> None:
    calls = [{"function": {"name": "escalate"}}], [{"function": {"name": "search"}}]
    records = [{"id": i, "question": "q", "result": {"csat": i % 5 + 1}, "tool_calls": calls[i % 2]} for i in range(20)]
    found = look_at_logs(write(tmp_path, "\n".join(map(json.dumps, records))))
    assert (found.episodes, found.steps, found.tools) == (20, 20, {"escalate": 10, "search": 10})
    assert "--map 'tools=tool_calls[].function.name'" in found.command
    assert "--help-tool escalate=person" in found.command


def test_a_table_of_steps_with_other_names_is_proposed(tmp_path) -> None:
    rows = [f"{i},{step},hello,hi,{'bot' if step else 'anna'},{i % 5 + 1}" for i in range(10) for step in range(2)]
    found = look_at_logs(write(tmp_path, "\n".join(["ticket,step,saw,did,who,csat", *rows]), "log.csv"))
    assert (found.format, found.episodes, found.steps, found.help) == ("rows", 10, 20, {"person": 10})
