"""Trajectories of log files: read again each time, with a length if the files tell it."""

from __future__ import annotations

import copy
import pickle

import pytest

from selfreg.data import LogError, Step, Trajectory, read_trajectories, write_trajectories

EPISODES = [Trajectory("t", f"e{i}", 1.0, (Step("a"),), fields={"x": i}) for i in range(5)]


@pytest.fixture(params=["log.jsonl", "log.jsonl.gz", "log.parquet"])
def log(tmp_path, request):
    write_trajectories(tmp_path / request.param, EPISODES)
    return tmp_path / request.param


def test_a_second_iteration_reads_again(log) -> None:
    logs = read_trajectories(log)
    assert list(logs) == list(logs) == EPISODES
    one, other = iter(logs), iter(logs)
    assert next(one) == next(other) == EPISODES[0]
    write_trajectories(log, EPISODES[:2])
    assert list(logs) == EPISODES[:2]


def test_length_where_the_files_tell_it(log) -> None:
    logs = read_trajectories([log])
    if log.suffix == ".parquet":
        assert len(logs) == 5
        with pytest.raises(TypeError, match="not known before all are read"):
            len(read_trajectories(log, skipped=[]))
    else:
        with pytest.raises(TypeError, match="not known before all are read"):
            len(logs)
    with pytest.raises(TypeError, match="not known before all are read"):
        len(read_trajectories(log, where={"x": ["1"]}))
    assert logs
    assert not read_trajectories(log, where={"x": ["7"]})


def test_skipped_records_are_listed_once(tmp_path) -> None:
    path = tmp_path / "log.jsonl"
    write_trajectories(path, EPISODES)
    path.write_text(path.read_text() + "{\n" + path.read_text().splitlines()[0])
    skipped: list[LogError] = []
    logs = read_trajectories(path, skipped=skipped)
    assert list(logs) == list(logs) == EPISODES
    assert [str(error).split(": ")[0] for error in skipped] == [f"{path}:6", f"{path}:7"]
    assert str(skipped[1]) == f"{path}:7: duplicate episode id 'e0', first in {path}:1"


def test_one_file_twice_is_full_of_duplicates(log) -> None:
    with pytest.raises(LogError, match="duplicate episode id 'e0'"):
        list(read_trajectories([log, log]))


def test_streams_can_be_sent_to_workers(log) -> None:
    logs = read_trajectories(log)
    assert list(pickle.loads(pickle.dumps(logs))) == list(copy.deepcopy(logs)) == EPISODES
