"""The registry of formats: every format with every container, formats of other packages, faults of their definition."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from selfreg.data import LogError, LogFormat, Step, Trajectory, read_trajectories, write_stepwise, write_trajectories
from selfreg.data.formats import BUILT_IN, find_format, format_names
from selfreg.estimate import ExactKey, Features, count, count_logs

N = 30
EPISODES = [
    Trajectory(f"t{i % 3}", f"e{i}", i % 2, (Step(f"s{i % 4}", action="go", label=1.0), Step("end", label=0.0)))
    for i in range(N)
]
ROLES = {"task": "id", "outcome": "won", "steps": "turns", "observation": "saw"}
MAPPED = [{"id": i % 3, "won": i % 2, "turns": [{"saw": f"s{i % 4}"}, {"saw": "end"}]} for i in range(N)]
MESSAGES = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "bye"}]
TAU_BENCH = [{"task_id": i % 3, "trial": i // 3, "reward": i % 2, "traj": MESSAGES} for i in range(N)]

# Formats with many episodes in a file; the others are in test_every_format.py.
WRITERS: dict[str, Callable[[Path], object]] = {
    "selfreg": lambda path: write_trajectories(path, EPISODES),
    "jsonl": lambda path: write_jsonl(path, MAPPED),
    "tau_bench": lambda path: write_bytes(path, json.dumps(TAU_BENCH).encode()),
    "stepwise": lambda path: write_stepwise(path, EPISODES),
}


def write_bytes(path: Path, data: bytes) -> None:
    if path.suffix == ".gz":
        data = gzip.compress(data)
    with pa.output_stream(str(path), compression="zstd" if path.suffix == ".zst" else None) as stream:
        stream.write(data)


def write_jsonl(path: Path, records: list[dict]) -> None:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(records), path, row_group_size=7)
    else:
        write_bytes(path, b"".join(json.dumps(record).encode() + b"\n" for record in records))


def outcome(read: Callable[[], int]) -> int | str:
    try:
        return read()
    except LogError as error:
        return str(error)


@pytest.fixture
def small_pieces(monkeypatch) -> None:
    monkeypatch.setattr("selfreg.estimate.ingest.pieces.PIECE_BYTES", 500)
    monkeypatch.setattr("selfreg.estimate.ingest.pieces.PIECE_ROWS", 4)


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("suffix", ["", ".gz", ".zst", ".parquet"])
@pytest.mark.parametrize("format", WRITERS)
def test_what_is_read_is_what_is_counted(tmp_path, format, suffix) -> None:
    path = tmp_path / f"log{suffix}"
    if format == "stepwise" and suffix in (".gz", ".zst"):
        write_stepwise(tmp_path / "log", EPISODES)
        write_bytes(path, (tmp_path / "log").read_bytes())
    elif format == "tau_bench" and suffix == ".parquet":
        write_jsonl(path, TAU_BENCH)
    else:
        WRITERS[format](path)
    arguments = {"format": format, "roles": ROLES if format == "jsonl" else None}
    read = outcome(lambda: len(list(read_trajectories(path, **arguments))))
    counted = outcome(lambda: count_logs(path, ExactKey(), workers=1, **arguments).episodes)
    if format == "tau_bench" and suffix == ".parquet":
        assert read == counted == f"{path}: this format does not read Parquet files"
        return
    assert read == N
    if format == "stepwise":
        place = f"{path}: row 1" if suffix == ".parquet" else f"{path}:1"
        assert counted.startswith(f"{place}: episode 'log")
        assert "is truncated and has no outcome" in counted
        skipping = count_logs(path, ExactKey(), workers=1, skip_bad=True, **arguments)
        assert (skipping.episodes, len(skipping.skipped)) == (0, N)
        return
    assert counted == N
    counts = count_logs(path, ExactKey(), workers=1, **arguments).counts
    expected = count(read_trajectories(path, **arguments), ExactKey())
    assert counts.keys == expected.keys
    assert {k: v.tolist() for k, v in counts.visits.items()} == {k: v.tolist() for k, v in expected.visits.items()}


@pytest.mark.parametrize("format", BUILT_IN)
@pytest.mark.parametrize("suffix", ["", ".gz", ".zst", ".parquet"])
def test_faults_are_the_same_in_both(tmp_path, format, suffix) -> None:
    """A file of something else: an error that names it, and never no episodes."""
    path = tmp_path / f"log{suffix}"
    if suffix == ".parquet":
        pq.write_table(pa.table({"a": [1, 2, 3]}), path)
    else:
        write_bytes(path, b'{"a": 1}\n')
    read = outcome(lambda: len(list(read_trajectories(path, format))))
    counted = outcome(lambda: count_logs(path, ExactKey(), format=format, workers=1).episodes)
    assert read == counted
    assert str(read).startswith(str(path))


def test_columns_are_checked_in_files_without_rows(tmp_path) -> None:
    path = tmp_path / "log.parquet"
    pq.ParquetWriter(path, pa.schema([("a", pa.int64())])).close()
    for abstraction in (ExactKey(), Features(["step"])):
        with pytest.raises(LogError, match="column 'task' is missing"):
            count_logs(path, abstraction, format="selfreg", workers=1)
    write_trajectories(path, [])
    assert count_logs(path, ExactKey(), workers=1).episodes == len(list(read_trajectories(path))) == 0


def test_filters_apply_to_every_format(tmp_path) -> None:
    for name, write in WRITERS.items():
        if name != "stepwise":
            write(tmp_path / name)
            where = {{"selfreg": "task", "jsonl": "id", "tau_bench": "trial"}[name]: ["t1", "1"]}
            arguments = {"format": name, "roles": ROLES if name == "jsonl" else None, "where": where}
            kept = len(list(read_trajectories(tmp_path / name, **arguments)))
            assert 0 < kept < N
            assert count_logs(tmp_path / name, ExactKey(), workers=1, **arguments).episodes == kept
    write_stepwise(tmp_path / "s", EPISODES)
    assert len(list(read_trajectories(tmp_path / "s", "stepwise", where={"task": ["s1"]}))) == sum(
        t.steps[0].state == "s1" for t in EPISODES
    )


def test_a_format_needs_a_reader() -> None:
    with pytest.raises(ValueError, match="format 'mine' has no reader"):
        LogFormat("mine", "nothing")


def test_names_and_unknown_ones() -> None:
    assert format_names() == [*BUILT_IN]
    with pytest.raises(ValueError, match="unknown format 'xml'; choose from selfreg, jsonl, tau_bench, stepwise"):
        find_format("xml")


# ---- formats of other packages --------------------------------------------------------------------------------------

PACKAGE = """
from selfreg.data import LogFormat, LogError, Step, Trajectory

def read_lines(numbered, options):
    for number, line in numbered:
        try:
            question, answer, won = line.decode().strip().split("|")
        except ValueError:
            yield number, LogError("expected question|answer|outcome")
            continue
        yield number, Trajectory(question, f"{options.source}:{number}", float(won), (Step(question, action=answer),))

pipes = LogFormat("pipes", "question, answer and outcome with | between", read_lines=read_lines)
other_name = pipes
not_a_format = 3
"""

USE = """
import sys
from selfreg.data import read_trajectories
from selfreg.estimate import ExactKey, count_logs
if __name__ == "__main__":
    path = sys.argv[1]
    print([t.outcome for t in read_trajectories(path, "pipes")])
    print(count_logs(path, ExactKey(), format="pipes", workers=2).episodes)
    for name in ("other", "broken", "three"):
        try:
            read_trajectories(path, name)
        except ValueError as error:
            print(error)
"""


@pytest.fixture
def package(tmp_path) -> dict[str, str]:
    """Environment in which a distribution with formats is installed."""
    folder = tmp_path / "site"
    info = folder / "pipelogs-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / "pipelogs.py").write_text(PACKAGE)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: pipelogs\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[selfreg.formats]\npipes = pipelogs:pipes\nother = pipelogs:other_name\nbroken = pipelogs:missing\n"
        "three = pipelogs:not_a_format\n"
    )
    path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": path, "COLUMNS": "200"}


def run(environment: dict[str, str], *command: str) -> str:
    done = subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_formats_of_other_packages(tmp_path, package) -> None:
    log, script = tmp_path / "log.txt", tmp_path / "use.py"
    log.write_text("".join(f"{i} + 1|{i}|{i % 2}\n" for i in range(6)))
    script.write_text(USE)
    lines = run(package, str(script), str(log)).splitlines()
    assert lines[:2] == ["[0.0, 1.0, 0.0, 1.0, 0.0, 1.0]", "6"]
    assert "format 'other' of pipelogs is LogFormat(name='pipes'" in lines[2]
    assert lines[3].startswith("format 'broken' of pipelogs cannot be loaded: module 'pipelogs' has no attribute")
    assert lines[4] == "format 'three' of pipelogs is 3; expected a LogFormat of that name"


def test_formats_of_other_packages_in_the_command_line(tmp_path, package) -> None:
    assert "pipes" in run(package, "-m", "selfreg", "fit", "--help")
    log, out = tmp_path / "log.txt", tmp_path / "run"
    log.write_text("".join(f"{i} + 1|{i}|{i % 2}\n" for i in range(6)))
    command = ["-m", "selfreg", "fit", str(log), "--format", "pipes", "--state", "step", "--budget", "1"]
    assert "planned" in run(package, *command, "--samples", "0", "--out", str(out))
