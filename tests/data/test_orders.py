"""Values that order rows."""

from __future__ import annotations

import json
from datetime import datetime

import pytest

from selfreg.data import LogError, ReadOptions, read_trajectories
from selfreg.data.orders import order_keys


@pytest.mark.parametrize(
    "values",
    [
        [2, 9.5, 10],
        ["2", "9,5", "10"],
        ["999.5", "1000.2", "1000.25"],
        ["2026-09-30", "2026-10-01", "2026-10-01"],
        ["2026-01-01T09:59:00Z", "2026-01-01T12:00:00+02:00", "2026-01-01T10:00:00.5Z"],
        ["2026-01-01 09:59", "2026-01-01 10:00", "2026-01-01 10:00:01"],
        [datetime(2026, 1, 1), datetime(2026, 1, 2), datetime(2026, 1, 3)],
    ],
)
def test_numbers_and_times_order(values) -> None:
    keys = order_keys(values)
    assert keys is not None
    assert keys == sorted(keys)
    assert order_keys(values[::-1]) == keys[::-1]


@pytest.mark.parametrize(
    "values",
    [["9:59", "10:00"], ["9/30", "10/1"], ["step 2", "step 10"], [1, None], [True, False], [float("nan"), 1],
     ["2026-01-01T10:00", "2026-01-01T10:00Z"]],
)  # fmt: skip
def test_other_values_do_not(values) -> None:
    assert order_keys(values) is None


def messages(times: list[str]) -> str:
    roles = ["user", "assistant", "user", "assistant"]
    rows = zip(times, roles, ["hello", "yes?", "my login fails", "try again"], strict=True)
    head = "conversation_id,time,role,content\n"
    return head + "".join(f"c1,{time},{role},{text}\n" for time, role, text in rows)


@pytest.mark.parametrize("times", [["9:58", "9:59", "10:00", "10:01"], ["step 8", "step 9", "step 10", "step 11"]])
def test_messages_stay_in_the_order_of_the_file_where_none_is_sure(tmp_path, times) -> None:
    (tmp_path / "m.csv").write_text(messages(times))
    [episode] = read_trajectories(tmp_path / "m.csv", "message_rows")
    assert [(step.state, step.action) for step in episode.steps] == [("hello", "yes?"), ("my login fails", "try again")]


def test_an_order_that_is_not_sure_is_refused(tmp_path) -> None:
    rows = [{"run": "a", "at": at, "observation": "x", "action": "y", "outcome": 1} for at in ("9:59", "10:00")]
    (tmp_path / "l.jsonl").write_text("\n".join(map(json.dumps, rows)))
    options = ReadOptions({"task": "run"}, group_by="run", order_by="at")
    with pytest.raises(LogError, match="field 'at', which orders the steps: expected numbers, or dates and times"):
        list(read_trajectories(tmp_path / "l.jsonl", options=options))
