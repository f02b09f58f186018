"""Folders as people have them: links, empty files, the same file twice, raw logs beside a trajectory."""

from __future__ import annotations

import gzip
import json
import os
import zipfile

import pytest

from selfreg.data import LogError, detect_format, look_at_logs, read_trajectories

LINES = "".join(json.dumps({"task": t, "outcome": 1, "steps": [{"observation": "a"}]}) + "\n" for t in "xy")


def episodes(*paths):
    return [one.episode for one in read_trajectories(paths)]


def test_links_to_folders_are_followed_and_have_an_end(tmp_path) -> None:
    for name in ("elsewhere", "logs"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.jsonl").write_text(LINES)
    os.symlink(tmp_path / "elsewhere", tmp_path / "logs" / "more")
    os.symlink(tmp_path / "logs", tmp_path / "elsewhere" / "up")
    assert episodes(tmp_path / "logs") == [
        "logs.jsonl:1",
        "logs.jsonl:2",
        "more/elsewhere.jsonl:1",
        "more/elsewhere.jsonl:2",
    ]


def test_links_to_nothing_and_pipes_are_left_out(tmp_path) -> None:
    (tmp_path / "a.jsonl").write_text(LINES)
    os.symlink(tmp_path / "gone", tmp_path / "b.jsonl")
    os.mkfifo(tmp_path / "c.jsonl")
    left_out = [f"{tmp_path}/b.jsonl (a link to no file)", f"{tmp_path}/c.jsonl (not a regular file)"]
    assert detect_format(tmp_path).left_out == left_out
    assert len(episodes(tmp_path)) == 2


def test_a_link_to_a_file_of_the_same_folder_adds_nothing(tmp_path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "a.jsonl").write_text(LINES)
    os.symlink(tmp_path / "run", tmp_path / "latest")
    assert len(episodes(tmp_path)) == 2


def test_a_file_that_two_paths_name_is_full_of_duplicates(tmp_path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "a.jsonl").write_text(LINES)
    with pytest.raises(LogError, match=r"duplicate episode id 'run/a\.jsonl:1'"):
        episodes(tmp_path, tmp_path / "run")


@pytest.mark.parametrize("name", ["a", "z"])  # before and after the good one
@pytest.mark.parametrize(
    ("suffix", "make", "match"),
    [
        (".jsonl.gz", lambda data: gzip.compress(data)[:40], "broken data"),
        (".jsonl.gz", lambda data: data, "Not a gzipped file"),
        (".json", lambda data: b'{"task": "t", "outc', "it ends before its last bracket"),
        (".csv", lambda data: b"\xff\xfe" + "task,outcome".encode("utf-16-le"), "UTF-16"),
    ],
)
def test_a_broken_file_of_a_folder_is_a_fault_wherever_it_stands(tmp_path, name, suffix, make, match) -> None:
    (tmp_path / "log.jsonl").write_text(LINES)
    (tmp_path / f"{name}{suffix}").write_bytes(make(LINES.encode()))
    with pytest.raises(LogError, match=rf"{name}\{suffix}.*{match}"):
        list(read_trajectories(tmp_path, skipped=None))
    skipped: list[LogError] = []
    assert len(list(read_trajectories(tmp_path, skipped=skipped))) == 2
    assert len(skipped) == 1
    assert look_at_logs(tmp_path).n_faults == 1


def test_members_of_one_name_are_an_error(tmp_path) -> None:
    log = tmp_path / "logs.zip"
    with zipfile.ZipFile(log, "w") as archive:
        archive.writestr("a.jsonl", LINES)
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("a.jsonl", LINES)
    with pytest.raises(LogError, match=r"logs\.zip: 2 members are named 'a\.jsonl'"):
        episodes(log)


@pytest.mark.parametrize("paths", [["."], ["*/*.jsonl"], ["a/empty.jsonl", "a/log.jsonl"]])
def test_empty_files_beside_others_are_left_out(tmp_path, paths) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "empty.jsonl").touch()
    messages = [{"role": "user", "content": "2 + 2 = ?"}, {"role": "assistant", "content": "4"}]
    (tmp_path / "a" / "log.jsonl").write_text(json.dumps({"messages": messages, "reward": 1}))
    found = detect_format([tmp_path / path for path in paths])
    assert (found.format.name, len(found.files)) == ("openai_messages", 1)
    assert found.left_out == [f"{tmp_path}/a/empty.jsonl (it is empty)"]


@pytest.mark.parametrize("raw", ["agent/sessions/a.jsonl", "agent/episode-0/debug.json"])
def test_raw_logs_below_a_trajectory_of_harbor_are_left_out(tmp_path, raw) -> None:
    step = {"source": "user", "message": "do it"}
    trajectory = {"schema_version": "ATIF-v1.6", "agent": {"name": "a", "version": "1"}}
    for i in range(2):
        trial = tmp_path / f"task__{i}"
        (trial / raw).parent.mkdir(parents=True)
        (trial / raw).write_text(json.dumps({"messages": [{"role": "user", "content": "hi"}]}))
        (trial / "result.json").write_text(
            json.dumps({"task_name": "task", "trial_name": f"task__{i}", "verifier_result": {"rewards": {"reward": i}}})
        )
        steps = [step, {"source": "agent", "message": "done"}]
        (trial / "agent" / "trajectory.json").write_text(json.dumps({**trajectory, "steps": steps}))
    found = look_at_logs(tmp_path)
    assert (found.format, found.episodes, found.outcomes.mean) == ("atif", 2, 0.5)
    assert f"{tmp_path}/task__0/{raw} (of format 'openai_messages')" in found.left_out
    (tmp_path / "chat.jsonl").write_text(json.dumps({"messages": [{"role": "user", "content": "hi"}]}))
    with pytest.raises(LogError, match="choose one with --format"):
        look_at_logs(tmp_path)
