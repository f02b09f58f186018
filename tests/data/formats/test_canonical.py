"""Canonical trajectories: what is written is what is read."""

from __future__ import annotations

import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfreg.data import LogError, Step, Trajectory, read_trajectories, state_text, write_trajectories

texts = st.text(st.characters(codec="utf-8"), max_size=12)
numbers = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
scalars = st.none() | st.booleans() | numbers | texts
steps = st.builds(
    Step,
    state=texts,
    action=st.none() | texts,
    key=st.none() | texts,
    intervention=st.none() | st.sampled_from(["help", "person"]),
    cost=st.none() | st.integers(0, 5),
    label=st.none() | st.floats(0, 1),
)
trajectories = st.builds(
    Trajectory,
    task=texts,
    episode=texts,
    outcome=st.floats(0, 1),
    steps=st.lists(steps, min_size=1, max_size=3).map(tuple),
    truncated=st.booleans(),
    fields=st.dictionaries(texts, scalars, max_size=3),
)


@pytest.mark.parametrize("name", ["log.jsonl", "log.jsonl.gz", "log.parquet"])
@given(episodes=st.lists(trajectories, max_size=4, unique_by=lambda t: t.episode))
def test_round_trip(tmp_path_factory, name, episodes) -> None:
    path = tmp_path_factory.mktemp("store") / name
    write_trajectories(path, episodes)
    assert list(read_trajectories(path)) == episodes
    assert [p.name for p in path.parent.iterdir()] == [name]


def test_a_failed_write_leaves_the_old_file(tmp_path) -> None:
    path = tmp_path / "log.jsonl"
    good = Trajectory("t", "e", 1.0, (Step("s"),))
    write_trajectories(path, [good])

    def broken():
        yield good
        raise RuntimeError("the source broke")

    with pytest.raises(RuntimeError):
        write_trajectories(path, broken())
    assert list(read_trajectories(path)) == [good]
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"task": 1}', r"log.jsonl:2: Expected `str`, got `int` - at `\$.task`"),
        ('{"task": "t", "episode": "e", "outcome": 2, "steps": [{"state": ""}]}', "outcome is 2; expected a number in"),
        ('{"task": "t", "episode": "e", "outcome": null, "steps": [{"state": ""}]}', "outcome is null"),
        ('{"task": "t", "episode": "e", "outcome": 1, "steps": []}', "steps is empty"),
        (
            '{"task": "t", "episode": "e", "outcome": 1, "steps": [{"state": "", "cost": -1}]}',
            "cost is -1",
        ),
        ('{"task": "t", "episode": "e", "outcome": 1, "steps": [{"stat": ""}]}', "stat"),
        ("{", "log.jsonl:2"),
        (
            '{"task": "t", "episode": "good", "outcome": 1, "steps": [{"state": ""}]}',
            "duplicate episode id 'good', first in",
        ),
    ],
)
def test_a_broken_line_is_named_or_skipped(tmp_path, line, message) -> None:
    path = tmp_path / "log.jsonl"
    good = '{"task": "t", "episode": "good", "outcome": 1, "steps": [{"state": "s"}]}'
    path.write_text(f"{good}\n{line}\n")
    with pytest.raises(LogError, match=message):
        list(read_trajectories(path))
    skipped: list[LogError] = []
    assert [t.episode for t in read_trajectories(path, skipped=skipped)] == ["good"]
    assert len(skipped) == 1


def test_files_that_are_not_what_they_are_called(tmp_path) -> None:
    parquet = tmp_path / "log.parquet"
    parquet.write_text("no")
    with pytest.raises(LogError, match="not a Parquet file"):
        list(read_trajectories(parquet))
    packed = tmp_path / "log.jsonl.gz"
    packed.write_bytes(gzip.compress(b'{"task"' * 100)[:20])
    with pytest.raises(LogError, match="broken gzip data"):
        list(read_trajectories(packed))
    with pytest.raises(LogError, match="no such file"):
        list(read_trajectories(tmp_path / "nothing.jsonl"))
    with pytest.raises(ValueError, match="unknown format 'xml'"):
        read_trajectories(parquet, "xml")


def test_state_text_keeps_the_first_step_and_the_last_ones() -> None:
    history = [Step(f"see {i}", action=f"do {i}") for i in range(4)]
    assert state_text(history) == "see 3"
    assert state_text(history[:1], 3) == "see 0"
    assert state_text(history, 1) == "see 0\n> do 0\nsee 2\n> do 2\nsee 3"
    assert state_text(history, 9) == "see 0\n> do 0\nsee 1\n> do 1\nsee 2\n> do 2\nsee 3"


def test_filters_on_canonical_files_are_those_of_any_log(tmp_path) -> None:
    path = tmp_path / "log.jsonl"
    episodes = [Trajectory("t", str(x), 1.0, (Step("s"),), fields={"x": x}) for x in (True, None, 2, "a")]
    write_trajectories(path, episodes)
    for written, x in (("true", True), ("null", None), ("2", 2), ("a", "a")):
        assert [t.fields["x"] for t in read_trajectories(path, where={"x": [written]})] == [x]
    assert len(list(read_trajectories(path, where={"task": ["t"]}))) == 4
    with pytest.raises(LogError, match=r"log\.jsonl:1: field 'y' is missing; a filter names it"):
        list(read_trajectories(path, where={"y": ["1"]}))
