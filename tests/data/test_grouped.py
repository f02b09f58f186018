"""Rows that are steps, from every kind of table, and outcomes from elsewhere."""

from __future__ import annotations

import csv
import json
import math
import re
import sqlite3
from contextlib import closing
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from selfreg.data import LogError, ReadOptions, look_at_logs, read_trajectories
from selfreg.data.outcomes import load_outcomes
from selfreg.data.translation import parse_rule
from selfreg.estimate import ExactKey, count_logs

ROWS: list[dict[str, Any]] = [
    {"ticket_id": "t2", "ts": "2", "said": "c", "did": "close", "who": "person", "csat": "5"},
    {"ticket_id": "t1", "ts": "10", "said": "b", "did": "reply", "who": None, "csat": "2"},
    {"ticket_id": "t2", "ts": "1", "said": "a", "did": "reply", "who": None, "csat": "5"},
    {"ticket_id": "t1", "ts": "9", "said": "a", "did": "reply", "who": "none", "csat": "2"},
]
ROLES = {"task": "ticket_id", "observation": "said", "action": "did", "intervention": "who", "outcome": "csat"}
OPTIONS = ReadOptions(ROLES, values={"outcome": ">=4"}, group_by="ticket_id", order_by="ts")


def write(path: Path, rows: list[dict[str, Any]] = ROWS) -> Path:
    if path.suffix == ".csv":
        with open(path, "w", newline="") as stream:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    elif path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".db":
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute(f"CREATE TABLE log ({', '.join(rows[0])})")
            places = ", ".join("?" for _ in rows[0])
            connection.executemany(f"INSERT INTO log VALUES ({places})", [tuple(row.values()) for row in rows])
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows, indent=2))
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("name", ["log.csv", "log.parquet", "log.db", "log.jsonl", "log.json"])
def test_rows_are_grouped_and_ordered(tmp_path, name) -> None:
    log = write(tmp_path / name)
    second, first = read_trajectories(log, options=OPTIONS)
    assert (first.episode, first.task, first.outcome) == ("t1", "t1", 0.0)
    assert [(s.state, s.action, s.intervention) for s in first.steps] == [("a", "reply", None), ("b", "reply", None)]
    assert (second.outcome, [s.intervention for s in second.steps]) == (1.0, [None, "person"])
    assert first.fields == {"ticket_id": "t1"}
    assert count_logs(log, ExactKey(), workers=1, options=OPTIONS).steps == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"csat": 1}, "log.jsonl: episode 't2': field 'csat': rows of one episode have different values"),
        ({"ts": None}, "log.jsonl: episode 't2': field 'ts', which orders the steps, is missing in a row"),
        ({"ticket_id": None}, "log.jsonl: row 3: field 'ticket_id': expected a string or an integer"),
    ],
)
def test_faults_of_groups(tmp_path, change, message) -> None:
    rows = [dict(row) for row in ROWS]
    rows[2] |= change
    log = write(tmp_path / "log.jsonl", rows)
    with pytest.raises(LogError, match=message):
        list(read_trajectories(log, options=OPTIONS))
    skipped: list[LogError] = []
    read = list(read_trajectories(log, options=OPTIONS, skipped=skipped))
    assert len(skipped) == 1
    assert "t1" in [episode.episode for episode in read]


def test_a_task_that_is_not_mapped_is_suggested_for_the_named_group(tmp_path) -> None:
    log = write(
        tmp_path / "log.jsonl", [{"Ticket Nr": f"T-{i // 2}", "observation": "a", "outcome": 1} for i in range(4)]
    )
    fault = "log.jsonl: episode 'T-0': field 'task' is missing (role 'task'): --map 'task=Ticket Nr'"
    with pytest.raises(LogError, match=re.escape(fault)):
        list(read_trajectories(log, options=ReadOptions(group_by="Ticket Nr")))
    mapped = ReadOptions({"task": "Ticket Nr"}, group_by="Ticket Nr")
    assert [episode.task for episode in read_trajectories(log, options=mapped)] == ["T-0", "T-1"]


def test_faults_of_steps_of_tables_and_messages_name_their_episode(tmp_path) -> None:
    (tmp_path / "t.csv").write_text("task,step,outcome\na,1,1\na,2,1\nb,1,7\n")
    with pytest.raises(LogError, match=r"t\.csv: episode 'b': column 'outcome'"):
        list(read_trajectories(tmp_path / "t.csv"))
    turns = [{"session": "s", "role": role, "content": "a"} for role in ("user", "assistant", "user")]
    log = write(tmp_path / "log.jsonl", [*turns, {**turns[0], "session": "t"}])
    with pytest.raises(LogError, match=r"log\.jsonl: episode 't': field 'messages': expected at least one"):
        list(read_trajectories(log))


def test_options_that_do_not_fit(tmp_path) -> None:
    log = write(tmp_path / "log.csv")
    with pytest.raises(ValueError, match="order_by is 'ts' without group_by"):
        read_trajectories(log, options=ReadOptions(order_by="ts"))
    with pytest.raises(ValueError, match="has no rows that could be grouped"):
        read_trajectories(log, "tau_bench", options=ReadOptions(group_by="ts"))
    with pytest.raises(ValueError, match="format 'table' translates values of outcome only; got a rule for 'cost'"):
        read_trajectories(log, "table", options=ReadOptions(values={"cost": "a=1"}))
    with closing(sqlite3.connect(tmp_path / "two.db")) as connection, connection:
        connection.executescript("CREATE TABLE a (x); CREATE TABLE b (x);")
    with pytest.raises(LogError, match="expected a SQLite file with one table; got a, b"):
        list(read_trajectories(tmp_path / "two.db", options=OPTIONS))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("o.jsonl", '{"instance_id": "a", "resolved": true}\n{"instance_id": "b", "resolved": false}\n'),
        ("o.json", '[{"id": "a", "score": 1}, {"id": "b", "score": 0}]'),
        ("o.json", '{"a": 1, "b": 0}'),
        ("o.json", '{"a": {"resolved": true}, "b": {"resolved": false}}'),
        ("o.json", '{"resolved_ids": ["a"], "submitted_ids": ["a", "b"], "schema_version": 2}'),
        ("o.json", '{"resolved": ["a"], "unresolved": ["b"], "no_generation": []}'),
        ("o.json", '{"resolved": ["a"], "no_generation": ["b"], "no_logs": []}'),
        ("o.csv", "episode,outcome\na,1.0\nb,False\n"),
    ],
)
def test_outcomes_in_several_layouts(tmp_path, name, text) -> None:
    (tmp_path / name).write_text(text)
    assert load_outcomes(tmp_path / name) == {"a": 1.0, "b": 0.0}


@pytest.mark.parametrize(("more", "outcomes"), [({}, [1, 0]), ({"submitted_ids": ["a"]}, [1, None])])
def test_a_report_of_successes_alone_makes_failures_of_the_others(tmp_path, more, outcomes) -> None:
    (tmp_path / "report.json").write_text(json.dumps({"resolved_ids": ["a"], **more}))
    lines = [json.dumps({"task": name, "steps": [{"observation": "x"}]}) + "\n" for name in "ab"]
    (log := tmp_path / "log.jsonl").write_text("".join(lines))
    loaded = load_outcomes(tmp_path / "report.json")
    options = ReadOptions({"outcome": ""}, outcomes=loaded)
    assert [one.outcome for one in read_trajectories(log, "jsonl", options=options)] == outcomes
    assert ("all other episodes are taken as failures" in loaded.describe_misses()) == (not more)


def test_outcomes_that_are_nothing_and_ones_that_are_none(tmp_path) -> None:
    pq.write_table(pa.table({"id": ["a", "b"], "score": [1.0, math.nan]}), tmp_path / "o.parquet")
    assert load_outcomes(tmp_path / "o.parquet") == {"a": 1.0, "b": None}
    for name, verified in (("a", {"reward": 1}), ("b", None)):
        (tmp_path / "job" / name).mkdir(parents=True)
        (tmp_path / "job" / name / "result.json").write_text(json.dumps({"trial_name": name, "verified": verified}))
    assert load_outcomes(f"{tmp_path}/job/*/result.json", "trial_name", "verified.reward") == {"a": 1.0, "b": None}
    (tmp_path / "job" / "a" / "config.json").write_text('{"trial_name": "a", "job": 1}')
    with pytest.raises(LogError, match=r"config\.json: record 1: .* A glob names some files of a folder: --outcomes '"):
        load_outcomes(tmp_path / "job", "trial_name", "verified.reward")
    for text, how in (("yes", "'outcome=WORD=1,*=0'"), ("70", "outcome=LOW..HIGH")):
        (tmp_path / "o.csv").write_text(f"id,score\na,{text}\n")
        with pytest.raises(LogError, match=re.escape(f"(--value {how})")):
            load_outcomes(tmp_path / "o.csv")


def test_outcomes_in_a_folder_are_named_by_file_or_folder(tmp_path) -> None:
    for name, reward in (("a", 5), ("b", 1)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "result.json").write_text(json.dumps({"verifier": {"rewards": [reward]}}))
    rule = parse_rule(">=4")
    assert load_outcomes(tmp_path, "folder", "verifier.rewards[0]", rule) == {"a": 1.0, "b": 0.0}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"instance_id": "a"}\n', r"record 1: field 'outcome' of the outcome is missing; the record has instance_id"),
        ('{"id": "a", "score": 3}\n', r"field 'score': expected a number in \[0, 1\]"),
        ('{"id": "a", "score": 1}\n{"id": "a", "score": 0}\n', "record 2: episode 'a' has two outcomes"),
        ("", "o.jsonl"),
        ("{\n", "not JSON"),
    ],
)
def test_faults_of_outcomes(tmp_path, text, message) -> None:
    (tmp_path / "o.jsonl").write_text(text)
    with pytest.raises(LogError, match=message):
        load_outcomes(tmp_path / "o.jsonl")


def test_outcomes_are_joined_by_episode_or_task(tmp_path) -> None:
    log = tmp_path / "log.jsonl"
    records = [{"task": task, "episode": f"{task}1", "steps": [{"observation": "x"}]} for task in "abc"]
    log.write_text("\n".join(map(json.dumps, records)))
    options = ReadOptions(outcomes={"a1": 1.0, "b": 0.0})
    read = list(read_trajectories(log, "jsonl", options=options))
    assert [(one.outcome, one.truncated) for one in read] == [(1.0, False), (0.0, False), (None, True)]
    counted = count_logs(log, ExactKey(), format="jsonl", workers=1, options=options, skip_bad=True)
    assert (counted.episodes, len(counted.skipped)) == (2, 1)


@pytest.mark.parametrize("has_id", [True, False])
@pytest.mark.parametrize("suffix", ["json", "jsonl"])
def test_outcomes_are_joined_by_the_id_of_a_record_or_the_name_of_its_file(tmp_path, has_id, suffix) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    turns = [{"role": "user", "content": "Fix it"}, {"role": "assistant", "content": "done"}]
    for i in range(3):
        record = {"messages": turns} | ({"id": f"conv-{i}"} if has_id else {})
        (logs / f"{'x' if has_id else 'conv'}-{i}.{suffix}").write_text(json.dumps(record))
    (tmp_path / "res.csv").write_text("session,score\nconv-0,1\nconv-1,0\nconv-9,1\n")
    outcomes = load_outcomes(tmp_path / "res.csv", "session", "score")
    read = list(read_trajectories(logs, options=ReadOptions(outcomes=outcomes)))
    assert [(one.task, one.outcome) for one in read] == [("Fix it", 1.0), ("Fix it", 0.0), ("Fix it", None)]
    said = outcomes.describe_misses()
    assert said.startswith(
        f"2 of 3 names in {tmp_path / 'res.csv'} belong to episodes: the file has 'conv-9', the logs"
    )
    assert f"-2.{suffix}:1' of task 'Fix it'" in said


def test_the_name_of_a_file_is_none_of_several_episodes_in_it(tmp_path) -> None:
    chat = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    log = write(tmp_path / "log.jsonl", [chat, chat])
    read = read_trajectories(log, options=ReadOptions(outcomes={"log": 1.0}))
    assert [one.outcome for one in read] == [None, None]


def test_sqlite_with_unknown_columns_says_what_to_do(tmp_path) -> None:
    path = tmp_path / "log.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE events (case_ref TEXT, remark TEXT, csat INTEGER)")
        connection.execute("INSERT INTO events VALUES ('a', 'hello', 5)")
        connection.commit()
    with pytest.raises(LogError, match=r"log\.sqlite: .*the columns case_ref, remark, csat\. Say .*--group-by COLUMN"):
        look_at_logs(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE others (a TEXT)")
        connection.commit()
    with pytest.raises(
        LogError, match=r"log\.sqlite: expected a SQLite file with one table; got events, others\. .*SELECT"
    ):
        look_at_logs(path)


def test_ids_that_a_table_has_as_floats(tmp_path) -> None:
    columns = {"task_id": [1.0, math.nan], "model": ["a", "a"], "score": [1, 0], "question": ["2 + 2", "3 + 3"]}
    pq.write_table(pa.table(columns), tmp_path / "log.parquet")
    skipped: list[LogError] = []
    assert [one.task for one in read_trajectories(tmp_path / "log.parquet", skipped=skipped)] == ["1"]
    assert "column 'task_id': expected a string or an integer; got nan" in str(skipped[0])


def test_cells_of_parquet_that_json_has_not_stay_fields(tmp_path) -> None:
    columns = {
        "query_id": pa.array(["a"]),
        "score": pa.array([Decimal("0.50")]),
        "question": pa.array(["2 + 2"]),
        "price": pa.array([Decimal("0.25")]),
        "tokens": pa.array([Decimal("12")]),
        "asked": pa.array([1_735_689_600_000_000_001], pa.timestamp("ns")),
        "day": pa.array([date(2025, 1, 1)]),
        "took": pa.array([timedelta(seconds=2)]),
        "key": pa.array([b"k"]),
    }
    pq.write_table(pa.table(columns), tmp_path / "log.parquet")
    (episode,) = read_trajectories(tmp_path / "log.parquet")
    assert episode.outcome == 0.5
    assert episode.fields == {
        "query_id": "a", "price": 0.25, "tokens": 12, "asked": "2025-01-01T00:00:00", "day": "2025-01-01", "took": 2.0,
        "key": "k",
    }  # fmt: skip
