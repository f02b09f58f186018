"""Judged steps as prompt, completions, labels."""

from __future__ import annotations

import json

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfreg.data import LogError, Step, Trajectory, read_trajectories, write_stepwise
from selfreg.prm import PRMConfig, train_prm

JUDGED = Trajectory(
    "t",
    "e",
    0.0,
    (
        Step("2 + 3 * 4", action="3 * 4 = 12", label=1.0),
        Step("3 * 4 = 12", action="print(2 + 12)", label=0.75),
        Step("14", label=0.0),
    ),
)


@pytest.mark.parametrize("name", ["log.jsonl", "log.parquet"])
def test_layout(tmp_path, name) -> None:
    assert write_stepwise(tmp_path / name, [JUDGED, Trajectory("t", "f", 1.0, (Step("no label"),))]) == 1
    path = tmp_path / name
    rows = pq.read_table(path).to_pylist() if name.endswith("parquet") else [json.loads(path.read_text())]
    assert rows == [
        {"prompt": "2 + 3 * 4", "completions": ["3 * 4 = 12", "print(2 + 12)\n14", ""], "labels": [True, True, False]}
    ]  # fmt: skip
    [log] = read_trajectories(tmp_path / name, "stepwise")
    assert (log.task, log.outcome, log.truncated) == ("2 + 3 * 4", None, True)
    assert [step.label for step in log.steps] == [1.0, 1.0, 0.0]
    assert [step.state for step in log.steps] == ["2 + 3 * 4", "3 * 4 = 12", "print(2 + 12)\n14"]


texts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=5)


@given(
    st.lists(
        st.tuples(texts, st.lists(st.tuples(texts, st.booleans()), min_size=1, max_size=4)), min_size=1, max_size=4
    )
)
def test_what_was_read_is_written_the_same(tmp_path_factory, traces) -> None:
    folder = tmp_path_factory.mktemp("stepwise")
    with open(folder / "a.jsonl", "w") as stream:
        for prompt, judged in traces:
            completions, labels = zip(*judged, strict=True)
            stream.write(json.dumps({"prompt": prompt, "completions": completions, "labels": labels, "id": 7}) + "\n")
    write_stepwise(folder / "b.parquet", read_trajectories(folder / "a.jsonl", "stepwise"))
    write_stepwise(folder / "c.jsonl", read_trajectories(folder / "b.parquet", "stepwise"))
    first, last = (
        [{k: v for k, v in json.loads(line).items() if k != "id"} for line in (folder / name).read_bytes().splitlines()]
        for name in ("a.jsonl", "c.jsonl")
    )
    assert last == first


def test_outcomes_as_labels(tmp_path) -> None:
    logs = [
        Trajectory("t", "a", 1.0, (Step("x", action="y"),)),
        Trajectory("t", "b", 1.0, (Step("x", intervention="help"),)),
        Trajectory("t", "c", None, (Step("x"),), truncated=True),
    ]
    assert write_stepwise(tmp_path / "log.jsonl", logs, "outcome") == 1
    assert json.loads((tmp_path / "log.jsonl").read_text())["labels"] == [True]
    with pytest.raises(ValueError, match="no episode has a label for each"):
        write_stepwise(tmp_path / "other.jsonl", logs)
    with pytest.raises(ValueError, match="labels is 'hard'"):
        write_stepwise(tmp_path / "other.jsonl", logs, "hard")
    assert not (tmp_path / "other.jsonl").exists()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"prompt": "p", "completions": ["a", "b"], "labels": [true]}', "2 completions and 1 labels"),
        ('{"prompt": "p", "completions": [], "labels": []}', "0 completions"),
        ('{"prompt": "p", "completions": ["a"]}', "`labels`"),
        ('{"prompt": "p", "completions": ["a"], "labels": ["yes"]}', "Expected `bool`"),
        ("[", "not JSON"),
    ],
)
def test_broken_records_name_their_line(tmp_path, line, message) -> None:
    (tmp_path / "log.jsonl").write_text('{"prompt": "p", "completions": ["a"], "labels": [true]}\n' + line + "\n")
    with pytest.raises(LogError, match=r"log.jsonl:2: ") as raised:
        list(read_trajectories(tmp_path / "log.jsonl", "stepwise"))
    assert message in str(raised.value)
    (tmp_path / "log.parquet").write_text("no table")
    with pytest.raises(LogError, match="not a Parquet file"):
        list(read_trajectories(tmp_path / "log.parquet", "stepwise"))


def test_a_prm_from_judged_steps(tmp_path) -> None:
    pytest.importorskip("sklearn", reason="needs the extra 'ml'")
    with open(tmp_path / "log.jsonl", "w") as stream:
        for i in range(60):
            good = [True, i % 3 != 0, i % 3 != 0]
            steps = ["so it begins", "a right step" if good[1] else "a wrong step", "and so on"]
            stream.write(json.dumps({"prompt": f"task {i}", "completions": steps, "labels": good}) + "\n")
    logs = list(read_trajectories(tmp_path / "log.jsonl", "stepwise"))
    prm = train_prm(logs, PRMConfig(kind="tfidf", targets="labels", history=9))
    assert prm.figures["auroc"] > 0.95
    trace = [Step("task"), Step("so it begins"), Step("a wrong step"), Step("and so on")]
    assert prm.score([prm.text(trace[:2])])[0] > 0.7 > 0.4 > prm.score([prm.text(trace)])[0]
