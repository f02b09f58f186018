"""The closed loop: pairing, workers, budgets, errors, and a helper in it."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pyarrow.parquet as pq
import pytest

from selfreg.data import Step
from selfreg.decisions import start_episode
from selfreg.envs import BabyAIConfig, RandomHelp, make_babyai, make_household, split_tasks
from selfreg.evaluate import Always, ComparedPolicy, Never, run_closed_loop, write_rows
from selfreg.helper import HelperConfig, HelperExamples, train_helper

WORLD = BabyAIConfig(level="BabyAI-GoToLocalS5N2-v0", step_limit=12)


def policies() -> list[ComparedPolicy]:
    return [
        ComparedPolicy("never", 0, Never()),
        ComparedPolicy("always", None, Always("help")),
        ComparedPolicy("first-k", 1, Always("help")),
        ComparedPolicy("random", None, RandomHelp(0.3, ["help"]), 0.3),
    ]


def test_closed_loop_is_paired_and_does_not_depend_on_workers(tmp_path) -> None:
    tasks = split_tasks(WORLD, 0, 4, seed=1)[1]
    run = partial(run_closed_loop, partial(make_babyai, WORLD), policies, tasks, episodes_per_task=2, seed=3)
    rows = run(workers=1)
    assert rows == run(workers=2)
    assert len(rows) == 4 * 2 * 4
    for task in tasks:
        assert len({row.seed for row in rows if row.task == task}) == 2
    assert all(row.help <= row.budget for row in rows if row.budget is not None)
    assert all(row.help == 0 for row in rows if row.policy == "never")
    write_rows(tmp_path / "rows.parquet", rows)
    assert pq.read_table(tmp_path / "rows.parquet").to_pylist() == [row._asdict() for row in rows]


class Breaking(Never):
    def decide(self, steps, budget_left):
        raise RuntimeError("no idea")


def breaking() -> list[ComparedPolicy]:
    return [ComparedPolicy("never", 0, Never()), ComparedPolicy("breaking", 1, Breaking())]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_policy_that_raises_stops_the_loop(workers: int) -> None:
    with pytest.raises(RuntimeError, match="no idea"):
        run_closed_loop(make_household, breaking, ["household-place/1", "household-place/2"], workers=workers)


def test_impossible_loops_are_refused() -> None:
    for wrong, message in (
        ({"tasks": ["household-place/1"] * 2}, "more than once"),
        ({"episodes_per_task": 0}, "episodes_per_task is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"workers": 0}, "workers is 0"),
    ):
        settings = {"tasks": ["household-place/1"], "workers": 1} | wrong
        with pytest.raises(ValueError, match=message):
            run_closed_loop(make_household, policies, **settings)


def test_progress_keeps_out_of_what_is_printed(monkeypatch, capsys) -> None:
    """On a terminal progress goes to standard error, so that tables can be piped."""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    run_closed_loop(make_household, lambda: policies()[:1], ["household-place/1"], workers=1)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "evaluate" in printed.err


def test_free_help_is_requested_when_the_budget_is_spent() -> None:
    examples = HelperExamples(
        ["red light", "green light"] * 20,
        np.tile([[0], [0], [1], [1]], (10, 1)),
        np.array([1, 0] * 20),
        np.ones(40),
        [f"task {i // 2}" for i in range(40)],
        ("nohelp", "friend"),
    )
    for cost, action in ((0, "friend"), (1, "nohelp")):
        chosen = replace(examples, decisions=examples.decisions * (examples.budgets[:, 0] >= cost))
        helper = train_helper(chosen, HelperConfig(form="words"), costs={"friend": cost})
        start_episode(helper, "task", 0)
        assert helper.decide([Step("red light")], (0,)).action == action
        assert helper.decide([Step("red light")], (1,)).action == "friend"
        assert helper.decide([Step("red light")], None).action == "friend"
        assert helper.decide([Step("green light")], (1,)).action == "nohelp"
