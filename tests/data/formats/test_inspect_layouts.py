"""Layouts of Inspect's logs: samples in chunks, transcripts of the first versions, calls and samples that failed."""

from __future__ import annotations

import copy
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from cases import COMPACT, INSPECT, STATES, put

from selfreg.data import LogError, look_at_logs, read_trajectories

EVENTS = ("samples", 0, "events")


def write_chunks(path: Path, sizes: tuple[int, int] = (1, 2), leave_out: str = "") -> Path:
    """The sample as Inspect's converter writes large ones: each input refers to a pool of messages."""
    sample = copy.deepcopy(INSPECT["samples"][0])
    pool, events = sample.pop("messages"), sample.pop("events")
    for event, end in zip((events[0], events[1], events[3]), (2, 4, 2), strict=True):
        event["input"], event["input_refs"] = [], [[0, end]]
    pool = put(pool, (1, "content"), "attachment://1")
    members: dict[str, Any] = {"sample.json": {**sample, "message_refs": [[0, 2], [2, 5]]}, "skeleton.json": {}}
    members |= {"attachments/0.json": ["unused"], "attachments/1.json": [STATES[0]], "events/stats.json": {}}
    for kind, items, size in (("messages", pool, sizes[0]), ("events", events, sizes[1])):
        members |= {f"{kind}/{i}.json": items[i : i + size] for i in range(0, len(items), size)}
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("header.json", json.dumps({"version": 2, "eval": INSPECT["eval"]}))
        for name in sorted(members, reverse=True):
            if name != leave_out:
                archive.writestr(f"samples/q1_epoch_1/{name}", json.dumps(members[name]))
    return path


@pytest.mark.parametrize("sizes", [(1, 2), (2, 1), (100, 100)], ids=["1-2", "2-1", "100-100"])
def test_a_sample_in_chunks_is_read_as_one_in_a_member(tmp_path, sizes) -> None:
    whole = tmp_path / "whole.json"
    whole.write_text(json.dumps(INSPECT))
    assert list(read_trajectories(write_chunks(tmp_path / "log.eval", sizes))) == list(read_trajectories(whole))


@pytest.mark.parametrize("member", ["messages/1.json", "events/0.json"])
def test_a_chunk_that_is_missing_is_named(tmp_path, member) -> None:
    path = write_chunks(tmp_path / "log.eval", leave_out=member)
    with pytest.raises(LogError, match=r"log\.eval.*samples/q1_epoch_1/.* is not the one that follows \d items"):
        list(read_trajectories(path))


def test_messages_are_read_where_there_are_no_events(tmp_path) -> None:
    path = write_chunks(tmp_path / "log.eval", (100, 100), leave_out="events/0.json")
    (episode,) = read_trajectories(path)
    assert [step.state for step in episode.steps] == list(STATES)


def test_transcripts_of_the_first_versions_are_read(tmp_path) -> None:
    log = copy.deepcopy(INSPECT)
    (sample,) = log["samples"]
    key = "0" * 32
    sample["events"][0]["input"][1]["content"] = f"attachment://{key}"
    sample["transcript"] = {"events": sample.pop("events"), "content": {key: STATES[0]}}
    del sample["messages"]
    (tmp_path / "log.json").write_text(json.dumps(log))
    (episode,) = read_trajectories(tmp_path / "log.json")
    assert [(step.state, step.action) for step in episode.steps] == list(zip(STATES, COMPACT, strict=True))


def test_a_call_that_failed_is_no_step(tmp_path) -> None:
    first, *others = INSPECT["samples"][0]["events"]
    empty = {"choices": [{"message": {"role": "assistant", "content": ""}}]}
    failed = {**first, "error": "RateLimitError(429)", "output": empty}
    (tmp_path / "log.json").write_text(json.dumps(put(INSPECT, EVENTS, [failed, first, failed, *others])))
    (episode,) = read_trajectories(tmp_path / "log.json")
    assert [(step.state, step.action) for step in episode.steps] == list(zip(STATES, COMPACT, strict=True))


def test_a_sample_that_failed_before_its_first_step_says_why(tmp_path) -> None:
    sample = {"id": "q1", "epoch": 1, "messages": [], "events": [], "error": {"message": "no disk"}}
    (tmp_path / "log.json").write_text(json.dumps({**INSPECT, "samples": [sample]}))
    with pytest.raises(LogError, match=r"log\.json.*failed before the first answer of a model: no disk"):
        list(read_trajectories(tmp_path / "log.json"))


def test_a_sample_without_scores_has_no_outcome_whatever_scorer_is_named(tmp_path) -> None:
    samples = [INSPECT["samples"][0], {**INSPECT["samples"][0], "id": "unscored", "scores": {}}]
    (tmp_path / "log.json").write_text(json.dumps({**INSPECT, "samples": samples}))
    (name,) = samples[0]["scores"]
    episodes = list(read_trajectories(tmp_path / "log.json", roles={"outcome": name}))
    assert [one.outcome for one in episodes] == [1.0, None]


def test_scorers_of_which_some_have_several_values(tmp_path) -> None:
    scores = {"parts": {"value": {"a": 1, "b": 0}}, "whole": {"value": "C"}, "only": {"value": {"x": 0}}}
    sample = {**INSPECT["samples"][0], "scores": scores}
    path = tmp_path / "log.json"
    path.write_text(json.dumps({**INSPECT, "samples": [sample]}))
    overview = look_at_logs(path)
    assert (overview.episodes, overview.outcomes.mean) == (1, 1.0)
    assert "--map outcome=parts.a" in overview.command
    assert any("(parts.a, parts.b, whole, only)" in hint for hint in overview.hints)
    for name, outcome in (("parts.b", 0.0), ("whole", 1.0), ("only", 0.0)):
        assert [one.outcome for one in read_trajectories(path, roles={"outcome": name})] == [outcome]
    with pytest.raises(LogError, match=r"scorer 'parts' has several values \(parts.a, parts.b\); choose one"):
        list(read_trajectories(path, roles={"outcome": "parts"}))
