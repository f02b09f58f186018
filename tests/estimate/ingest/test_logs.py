"""Logs to counts in pieces and processes: always what `count` finds in all of it; restarts; bad records by place."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfreg.data import Step, Trajectory, columns, read_trajectories, write_trajectories
from selfreg.data.faults import LogError
from selfreg.data.formats import find_format
from selfreg.data.formats.canonical import SCHEMA
from selfreg.data.log_files import list_log_files
from selfreg.estimate import Counts, ExactKey, Features, StateAbstraction, count, count_logs
from selfreg.estimate.ingest import piecework as _piecework
from selfreg.estimate.ingest.pieces import split_files

ROOT = Path(__file__).parents[3]


def walks(n: int = 400, seed: int = 0) -> list[Trajectory]:
    """Episodes of a few tasks, half of them helped somewhere, with a field."""
    random = np.random.default_rng(seed)
    made = []
    for i in range(n):
        steps = tuple(
            Step(
                state=f"at {random.integers(6)}",
                key=str(random.integers(4)) if random.random() < 0.5 else None,
                intervention=["expert", "human"][random.integers(2)] if random.random() < 0.2 else None,
                cost=2 if random.random() < 0.1 else None,
            )
            for _ in range(random.integers(1, 6))
        )
        outcome = float(random.choice([0, 0.25, 1]))
        made.append(Trajectory(f"t{random.integers(5)}", f"e{i}", outcome, steps, fields={"kind": "xy"[i % 2]}))
    return made


def same(one: Counts, other: Counts) -> None:
    assert one.keys == other.keys
    assert list(one.transitions) == list(other.transitions)
    for name, matrix in one.transitions.items():
        assert (matrix != other.transitions[name]).nnz == 0
    np.testing.assert_array_equal(one.starts, other.starts)


@pytest.fixture
def small_pieces(monkeypatch):
    monkeypatch.setattr("selfreg.estimate.ingest.pieces.PIECE_BYTES", 3000)
    monkeypatch.setattr("selfreg.estimate.ingest.pieces.PIECE_ROWS", 50)
    monkeypatch.setattr("selfreg.data.formats.canonical.BATCH", 20)
    monkeypatch.setattr("selfreg.estimate.ingest.counter.STEPS_HELD", 100)
    monkeypatch.setattr("selfreg.estimate.ingest.states.CHARACTERS_HELD", 300)
    monkeypatch.setattr("selfreg.estimate.ingest.sums.ROWS_HELD", 100)


ABSTRACTIONS = {
    "exact": ExactKey(),
    "exact with step": ExactKey(step=True),
    "features": Features(["step", "kind", "class"], {"low": "[0-2]"}),
}


def plain_counts(episodes: list[Trajectory], abstraction: StateAbstraction) -> dict:
    """By the definition, with dicts."""
    table: dict = {}
    for t in episodes:
        keys = [abstraction.encode(t, i) for i in range(len(t.steps))]
        for i, step in enumerate(t.steps):
            ends = {"won": t.outcome, "lost": 1 - t.outcome} if i == len(t.steps) - 1 else {keys[i + 1]: 1.0}
            for after, weight in ends.items():
                if weight:
                    place = (keys[i], step.intervention or "nohelp", after)
                    table[place] = table.get(place, 0) + weight
    return table


@pytest.mark.parametrize("kind", ABSTRACTIONS)
def test_counts_are_those_of_the_definition(kind, small_pieces) -> None:
    episodes, abstraction = walks(), ABSTRACTIONS[kind]
    counts = count(episodes, abstraction)
    names = [*counts.keys, "won", "lost"]
    found = {}
    for action, matrix in counts.transitions.items():
        entries = matrix.tocoo()
        for s, j, weight in zip(entries.row, entries.col, entries.data, strict=True):
            found[names[s], action, names[j]] = weight
    assert found == plain_counts(episodes, abstraction)
    assert counts.keys == tuple(dict.fromkeys(abstraction.encode(t, i) for t in episodes for i in range(len(t.steps))))


@settings(max_examples=50)
@given(st.lists(st.integers(0, 60), max_size=4), st.sampled_from(sorted(ABSTRACTIONS)))
def test_merged_parts_are_the_whole(cuts, kind) -> None:
    episodes, abstraction = walks(60), ABSTRACTIONS[kind]
    edges = [0, *sorted(cuts), 60]
    parts = [count(episodes[a:b], abstraction) for a, b in pairwise(edges)]
    same(Counts.merge(parts), count(episodes, abstraction))


@pytest.mark.parametrize("kind", ABSTRACTIONS)
@pytest.mark.parametrize("name", ["log.jsonl", "log.jsonl.gz", "log.jsonl.zst", "log.parquet"])
def test_files_give_the_counts_of_their_episodes(tmp_path, small_pieces, name, kind) -> None:
    episodes = walks()
    write_trajectories(tmp_path / name, episodes)
    found = count_logs(tmp_path / name, ABSTRACTIONS[kind], workers=1)
    same(found.counts, count(episodes, ABSTRACTIONS[kind]))
    assert (found.episodes, found.steps) == (400, sum(len(t.steps) for t in episodes))
    assert len(list(split_files(list_log_files(tmp_path / name).files, find_format("selfreg")))) >= 5
    assert list(read_trajectories(tmp_path / name)) == episodes


def test_processes_change_nothing(tmp_path, small_pieces) -> None:
    episodes = walks()
    write_trajectories(tmp_path / "a.jsonl", episodes[:250])
    write_trajectories(tmp_path / "b.jsonl.zst", episodes[250:])
    found = count_logs([tmp_path / "a.jsonl", tmp_path / "b.jsonl.zst"], ExactKey(), workers=2, out=tmp_path / "out")
    same(found.counts, count(episodes, ExactKey()))
    again = count_logs([tmp_path / "a.jsonl", tmp_path / "b.jsonl.zst"], ExactKey(), workers=1, out=tmp_path / "out")
    same(again.counts, found.counts)
    assert again[1:] == found[1:]


def test_records_that_do_not_come_by_column_go_to_processes(tmp_path, small_pieces) -> None:
    write_trajectories(tmp_path / "a.jsonl.zst", walks())
    kept = count_logs(tmp_path / "a.jsonl.zst", ExactKey(), where={"kind": ["x", "y"]}, workers=2)
    same(kept.counts, count(walks(), ExactKey()))


def test_mapped_logs_and_filters(tmp_path, small_pieces) -> None:
    lines = [
        {"id": i % 7, "won": i % 2 == 0, "turns": [{"seen": str(i % 5)}, {"seen": "x"}], "who": "ab"[i % 2]}
        for i in range(300)
    ]
    log = tmp_path / "log.jsonl"
    log.write_text("\n\n".join(json.dumps(line) for line in lines) + "\n")
    roles = {"task": "id", "outcome": "won", "steps": "turns", "observation": "seen"}
    arguments = {"format": "jsonl", "roles": roles, "where": {"who": ["b"]}}
    found = count_logs(log, ExactKey(), workers=1, **arguments)
    episodes = list(read_trajectories(log, **arguments))
    assert found.episodes == len(episodes) == 150
    same(found.counts, count(episodes, ExactKey()))
    write_trajectories(tmp_path / "c.parquet", walks())
    kept = count_logs(tmp_path / "c.parquet", ExactKey(), where={"kind": ["x"]}, workers=1)
    same(kept.counts, count([t for t in walks() if t.fields["kind"] == "x"], ExactKey()))


# ---- columns --------------------------------------------------------------------------------------------------------

ODD = [
    b"",
    b" \r",
    b"{",
    b'{"task": 3}',
    b'{"task":"t","episode":"x1","outcome":1,"steps":[]}',
    b'{"task":"t","episode":"x2","outcome":1.5,"steps":[{"state":"at 1"}]}',
    b'{"task":"t","episode":"x3","outcome":null,"truncated":true,"steps":[{"state":"at 1"}]}',
    b'{"task":"t","episode":"x4","outcome":1,"steps":[{"state":"at \xff"}]}',
    b'{"task":"t4","episode":"x5","outcome":1e-1,"steps":[{"state":"at 9","key":"\\ud83d\\ude00"},{"state":"at 1"}]}',
    b'{"task":"t1","episode":"x6","outcome":-0.0,"steps":[{"state":"a","state":"b","cost":1.0}],"fields":{"kind":1}}',
    b'{"task":"t2","episode":"x7","outcome":1,"steps":[{"state":"at 4"}],"fields":{}}',
    b'{"task":"t2","episode":"x8","outcome":1,"steps":[{"state":"at 4"}],"fields":{"kind":"x","branch_of":"e1"}}',
    b'{"task":"t2","episode":"x9","outcome":1,"steps":[{"state":"at 4"}],"fields":{"kind":"x","branch_step":2}}',
    b'{"task":"t2","episode":"y1","outcome":1,"steps":[{"state":"at 4"}],"fields":{"kind":"x","branch_step":2.0}}',
    b'{"task":"t2","episode":"y2","outcome":1,"steps":[{"state":"at 4"}],"fields":{"kind":[]}}',
    b'{"task":"t2","episode":"y3","outcome":1,"steps":[{"state":"at 4","intervention":""}],"fields":{"kind":true}}',
    b'{"task":"t2","episode":"y4","outcome":1,"steps":[{"state":"at 4","intervention":"new"}],"fields":{"kind":1.0}}',
]


def told(path: Path, abstraction: StateAbstraction, **arguments) -> tuple:
    """All that counting gives, or the error."""
    try:
        found = count_logs(path, abstraction, **arguments)
    except LogError as error:
        return (str(error),)
    entries = {
        name: [part.tolist() for part in (m.indptr, m.indices, m.data)] for name, m in found.counts.transitions.items()
    }
    types = [[type(value) for value in key] for key in found.counts.keys]
    return found[1:], found.counts.keys, types, list(entries), entries, found.counts.starts.tolist()


def as_trajectories(context: pytest.MonkeyPatch) -> None:
    context.setattr(_piecework, "select_text", lambda abstraction: None)


@settings(max_examples=100)
@given(
    st.lists(st.tuples(st.integers(0, 60), st.sampled_from(ODD)), max_size=4, unique_by=lambda odd: odd[1]),
    st.sampled_from(sorted(ABSTRACTIONS)),
    st.sampled_from([True, True, False]),
    st.sampled_from(["cython", "cython", "python"]),
)
def test_columns_count_what_trajectories_count(tmp_path_factory, odd, kind, skip_bad, implementation) -> None:
    folder = tmp_path_factory.mktemp("columns")
    write_trajectories(folder / "good.jsonl", walks(60))
    lines = (folder / "good.jsonl").read_bytes().splitlines()
    for place, line in odd:
        lines.insert(place, line)
    log = folder / "a.jsonl"
    log.write_bytes(b"\n".join(lines))
    with pytest.MonkeyPatch.context() as context:
        context.setenv("SELFREG_IMPLEMENTATION", implementation)
        context.setattr("selfreg.estimate.ingest.pieces.PIECE_BYTES", 3000)
        context.setattr("selfreg.estimate.ingest.pieces.BLOCK_BYTES", 700)
        context.setattr("selfreg.estimate.ingest.sums.LARGEST_TABLE", 40)
        found = told(log, ABSTRACTIONS[kind], skip_bad=skip_bad, workers=1)
        as_trajectories(context)
        assert found == told(log, ABSTRACTIONS[kind], skip_bad=skip_bad, workers=1)


@pytest.mark.parametrize("kind", ABSTRACTIONS)
@pytest.mark.parametrize("workers", [1, 3])
def test_lines_are_counted_by_column(tmp_path, small_pieces, monkeypatch, kind, workers) -> None:
    write_trajectories(tmp_path / "a.jsonl", walks())
    write_trajectories(tmp_path / "a.parquet", walks())
    expected = count(walks(), ABSTRACTIONS[kind])
    monkeypatch.setattr(_piecework, "read_records", None)
    monkeypatch.setattr(_piecework, "read_lines", None)
    for name in ("a.jsonl", "a.parquet"):
        same(count_logs(tmp_path / name, ABSTRACTIONS[kind], workers=workers).counts, expected)


CHANGES = {
    "no state": ("steps", 0, "state", None),
    "a cost below 0": ("steps", 1, "cost", -1),
    "a label above 1": ("steps", 1, "label", 1.5),
    "no label number": ("steps", 0, "label", float("nan")),
    "no outcome": ("outcome", None),
    "an outcome above 1": ("outcome", 1.5),
    "no steps": ("steps", []),
    "null steps": ("steps", None),
    "a null step": ("steps", [None]),
    "no task": ("task", None),
    "no fields": ("fields", None),
    "empty fields": ("fields", ""),
    "broken fields": ("fields", "{"),
    "nested fields": ("fields", '{"kind":[]}'),
    "null truncated": ("truncated", None),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("kind", ABSTRACTIONS)
def test_parquet_by_column_finds_the_same(tmp_path, monkeypatch, kind, change) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from selfreg.data.formats.canonical import SCHEMA, _row

    rows = [_row(t) for t in walks(9) if len(t.steps) > 1]
    *place, last, value = CHANGES[change]
    at = rows[3]
    for name in place:
        at = at[name]
    at[last] = value
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), tmp_path / "a.parquet", row_group_size=2)
    found = [told(tmp_path / "a.parquet", ABSTRACTIONS[kind], workers=1, skip_bad=skip) for skip in (True, False)]
    as_trajectories(monkeypatch)
    again = [told(tmp_path / "a.parquet", ABSTRACTIONS[kind], workers=1, skip_bad=skip) for skip in (True, False)]
    assert found == again


def test_states_of_parquet_are_read_where_keys_do_not_stand_for_them(tmp_path, monkeypatch) -> None:
    keyed = [Trajectory("t", str(i), 1.0, (Step(f"s{i}", key=f"k{i % 3}"),)) for i in range(9)]
    some = [*keyed[:8], Trajectory("t", "8", 1.0, (Step("s8"),))]
    reads: list[list[str]] = []
    real = columns._select_leaves
    monkeypatch.setattr(columns, "_select_leaves", lambda *arguments: reads.append(real(*arguments)) or reads[-1])
    for episodes in (keyed, some):
        write_trajectories(tmp_path / "a.parquet", episodes)
        same(count_logs(tmp_path / "a.parquet", ExactKey(), workers=1).counts, count(episodes, ExactKey()))
    assert [any(path.endswith(".state") for path in read) for read in reads] == [False, True]


@pytest.mark.parametrize("content", [b"", b"\n \n", b"{}\n", b"[]\n\n{}"])
def test_logs_without_episodes(tmp_path, content) -> None:
    (tmp_path / "a.jsonl").write_bytes(content)
    for abstraction in ABSTRACTIONS.values():
        found = count_logs(tmp_path / "a.jsonl", abstraction, format="selfreg", workers=2, skip_bad=True)
        assert (found.episodes, found.counts.keys, len(found.skipped)) == (0, (), len(content.split()))


def test_a_branch_begins_at_a_step_that_can_be(tmp_path) -> None:
    branch = Trajectory("t", "e", 1.0, (Step("a"),), fields={"branch_of": "x", "branch_step": -1})
    write_trajectories(tmp_path / "a.jsonl", [branch])
    with pytest.raises(ValueError, match="'branch_step' is -1; expected an integer from 0"):
        count_logs(tmp_path / "a.jsonl", ExactKey(step=True), workers=1)


# ---- bad records ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
def test_a_bad_line_is_named_by_its_number_in_the_file(tmp_path, small_pieces, suffix) -> None:
    good = walks()
    write_trajectories(tmp_path / "good.jsonl", good)
    lines = (tmp_path / "good.jsonl").read_bytes().splitlines(keepends=True)
    lines.insert(300, b'{"task": 3}\n')
    lines.insert(200, b"\n")
    lines[350] = lines[350].replace(b'"steps"', b'"stops"')
    (tmp_path / "plain.jsonl").write_bytes(b"".join(lines))
    log = tmp_path / f"bad.jsonl{suffix}"
    with open_packed(log) as stream:
        stream.write(b"".join(lines))
    with pytest.raises(LogError, match=rf"bad.jsonl{suffix}:302: .*task"):
        count_logs(log, ExactKey(), workers=1)
    found = count_logs(log, ExactKey(), workers=1, skip_bad=True)
    assert [text.split(": ")[0] for text in found.skipped] == [f"{log}:302", f"{log}:351"]
    assert found.episodes == 399


def open_packed(path: Path):
    import gzip

    import pyarrow as pa

    if path.suffix == ".gz":
        return gzip.open(path, "wb")
    return pa.output_stream(str(path), compression="zstd") if path.suffix == ".zst" else open(path, "wb")


def test_a_duplicate_episode_is_named(tmp_path, small_pieces) -> None:
    episodes = walks()
    write_trajectories(tmp_path / "a.jsonl", [*episodes[:10], episodes[3], *episodes[10:]])
    with pytest.raises(LogError, match=r"a.jsonl:11: duplicate episode id 'e3'"):
        count_logs(tmp_path / "a.jsonl", ExactKey(), workers=1)
    write_trajectories(tmp_path / "a.jsonl", [*episodes, episodes[3]])
    with pytest.raises(LogError, match=r"a.jsonl:\d+ to .*a.jsonl:401: duplicate episode id, first in an earlier part"):
        count_logs(tmp_path / "a.jsonl", ExactKey(), workers=1)


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_a_file_cut_off_is_an_error(tmp_path, small_pieces, suffix) -> None:
    log = tmp_path / f"a.jsonl{suffix}"
    write_trajectories(log, walks())
    log.write_bytes(log.read_bytes()[:-200])
    with pytest.raises(LogError, match=r"broken|invalid|truncated"):
        count_logs(log, ExactKey(), workers=1)
    with pytest.raises(LogError, match=r"broken|invalid|truncated"):
        list(read_trajectories(log))


def test_wrong_arguments_are_named(tmp_path) -> None:
    write_trajectories(tmp_path / "a.jsonl", walks(5))
    (tmp_path / "b.parquet").write_bytes(b"no parquet")
    for change, message in (
        ({"paths": tmp_path / "no.jsonl"}, "no such file"),
        ({"paths": tmp_path / "b.parquet"}, "not a Parquet file"),
        ({"format": "csv"}, "unknown format 'csv'"),
        ({"format": "selfreg", "roles": {"task": "id"}}, "format 'selfreg' takes no roles"),
        ({"workers": 0}, "expected at least 1"),
        ({"where": {"nothing": ["1"]}}, "field 'nothing' is missing"),
        ({"abstraction": Features(["domain"])}, "unknown feature 'domain'; episode 'e0' has"),
    ):
        with pytest.raises(ValueError, match=message):
            count_logs(**{"paths": tmp_path / "a.jsonl", "abstraction": ExactKey(), "workers": 1, **change})


def test_a_cut_off_episode_needs_an_outcome(tmp_path) -> None:
    cut = Trajectory("t", "cut", None, (Step("a"),), truncated=True)
    write_trajectories(tmp_path / "a.jsonl", [*walks(5), cut])
    with pytest.raises(LogError, match=r"a.jsonl:6: episode 'cut' is truncated"):
        count_logs(tmp_path / "a.jsonl", ExactKey(), workers=1)
    assert count_logs(tmp_path / "a.jsonl", ExactKey(), workers=1, skip_bad=True).episodes == 5


# ---- restarts -------------------------------------------------------------------------------------------------------


def test_a_second_call_counts_only_what_is_missing(tmp_path, small_pieces, monkeypatch) -> None:
    log = tmp_path / "a.jsonl"
    write_trajectories(log, walks())
    whole = count_logs(log, ExactKey(), workers=1, out=tmp_path / "out")
    pieces = sorted((tmp_path / "out").glob("piece-*"))
    for path in pieces[5:]:
        path.unlink()
    counted, real = [], _piecework.count_piece
    monkeypatch.setattr(_piecework, "count_piece", lambda piece, *rest: counted.append(piece) or real(piece, *rest))
    again = count_logs(log, ExactKey(), workers=1, out=tmp_path / "out")
    same(again.counts, whole.counts)
    assert len(counted) == len(pieces) - 5
    assert sorted((tmp_path / "out").glob("piece-*")) == pieces


def test_other_counts_are_refused(tmp_path) -> None:
    log = tmp_path / "a.jsonl"
    write_trajectories(log, walks(20))
    count_logs(log, ExactKey(), workers=1, out=tmp_path / "out")
    with pytest.raises(ValueError, match="its abstraction is"):
        count_logs(log, ExactKey(step=True), workers=1, out=tmp_path / "out")
    write_trajectories(log, walks(21))
    with pytest.raises(ValueError, match="its logs is"):
        count_logs(log, ExactKey(), workers=1, out=tmp_path / "out")
    with pytest.raises(ValueError, match="not a set of counts"):
        count_logs(log, ExactKey(), workers=1, out=tmp_path)


KILLED = """
import sys, time
from selfreg.estimate import ExactKey, count_logs
from selfreg.estimate.ingest import pieces as _pieces
from selfreg.estimate.ingest import saved_pieces
_pieces.PIECE_BYTES, _pieces.PIECE_ROWS = 3000, 50
real = saved_pieces.SavedPieces.save
def slow(self, *what):
    time.sleep(0.01)
    real(self, *what)
saved_pieces.SavedPieces.save = slow
print("ready", flush=True)
count_logs(sys.argv[1], ExactKey(), workers=int(sys.argv[3]), out=sys.argv[2])
"""


@pytest.mark.parametrize("kills", [3, pytest.param(50, marks=pytest.mark.long)])
def test_kills_lose_nothing(tmp_path, small_pieces, kills) -> None:
    log, out, random = tmp_path / "a.jsonl", tmp_path / "out", np.random.default_rng(kills)
    write_trajectories(log, walks(1000))
    hits = 0
    for turn in range(kills + 1):
        # Processes take a second to start: mostly one, some turns with two.
        command = [sys.executable, "-c", KILLED, str(log), str(out), "2" if turn % 10 == 2 else "1"]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            if turn < kills:
                time.sleep(random.uniform(0, 0.2))
                process.send_signal(signal.SIGKILL)
            hits += process.wait() == -signal.SIGKILL
    assert hits >= min(kills, 3) - 1
    found = count_logs(log, ExactKey(), workers=1, out=out)
    same(found.counts, count(walks(1000), ExactKey()))
    assert found.episodes == 1000
    whole = tmp_path / "whole"
    count_logs(log, ExactKey(), workers=1, out=whole)
    for path in whole.iterdir():
        assert (out / path.name).exists(), path.name


@pytest.mark.parametrize("name", ["log.jsonl", "log.parquet"])
@pytest.mark.parametrize("where", [None, {"task": ["t"]}])
def test_words_for_no_help_are_no_action(tmp_path, name, where) -> None:
    steps = [{"state": "a", "intervention": word} for word in ("None", "False", " ", "null", "", None)]
    text = json.dumps({"task": "t", "episode": "e", "outcome": 1.0, "steps": steps})
    (tmp_path / "log.jsonl").write_text(text)
    if name.endswith(".parquet"):
        row = {**json.loads(text), "truncated": False, "fields": "{}"}
        row["steps"] = [{"action": None, "key": None, "cost": None, "label": None, **step} for step in steps]
        pq.write_table(pa.Table.from_pylist([row], SCHEMA), tmp_path / name)
    counted = count_logs(tmp_path / name, ExactKey(), where=where, workers=1).counts
    assert list(counted.transitions) == ["nohelp"]
    assert counted.starts[1].sum() == 0
