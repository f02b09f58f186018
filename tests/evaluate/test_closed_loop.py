"""The closed loop: pairing, workers, budgets, errors, and a helper in it."""

from __future__ import annotations

import functools
from dataclasses import replace
from functools import partial

import numpy as np
import pyarrow.parquet as pq
import pytest

from selfreg.data import Step
from selfreg.decisions import start_episode
from selfreg.envs import BabyAIConfig, RandomHelp, make_babyai, make_household, run_episode, split_tasks
from selfreg.evaluate import Always, ComparedPolicy, EveryN, Never, Recorded, run_closed_loop
from selfreg.evaluate.closed_loop import write_rows
from selfreg.helper import Helper, HelperConfig, HelperExamples, train_helper

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


def deployed_policies() -> list[ComparedPolicy]:
    budgets = (0, 1, 2)
    found = [ComparedPolicy("first-k", budget, Always("help")) for budget in budgets]
    found += [ComparedPolicy("every-n", budget, EveryN("help", 2)) for budget in budgets]
    return [*found, *(ComparedPolicy("helper", budget, household_helper()) for budget in budgets)]


@functools.cache
def household_helper() -> Helper:
    """Requests help where the state has an "a" in it, if two units are left, and where it has a "k", if one is."""
    texts = [state.state for state in household_states()]
    votes = np.array([["a" in text, "k" in text] for text in texts], dtype=float)
    examples = HelperExamples(
        texts * 3,
        np.repeat([[0], [1], [2]], len(texts), axis=0),
        np.concatenate([np.zeros(len(texts)), votes[:, 1], votes[:, 0]]).astype(int),
        np.ones(3 * len(texts)),
        [f"task {i % 4}" for i in range(3 * len(texts))],
        ("nohelp", "help"),
    )
    return train_helper(examples, HelperConfig(form="words"), costs={"help": 1})


def household_states() -> list[Step]:
    world = make_household()
    return [step for i in range(4) for step in run_episode(world, f"household-place/{i}", 0, Never()).steps]


def test_a_policy_behind_a_recorder_gets_the_same_numbers(monkeypatch) -> None:
    """What is measured is what is deployed, and the deployment changes nothing."""
    tasks = [f"household-place/{i}" for i in range(4, 9)]
    recorded: list[Recorded] = []
    monkeypatch.setattr(
        Recorded, "start", lambda self, *of, begin=Recorded.start: (begin(self, *of), recorded.append(self))
    )
    rows = run_closed_loop(make_household, deployed_policies, tasks, workers=1)
    assert len(recorded) == len(rows)
    assert recorded[-1].recorder.decisions()
    monkeypatch.setattr("selfreg.evaluate.closed_loop.behind_recorder", lambda policy, *_: policy)
    assert run_closed_loop(make_household, deployed_policies, tasks, workers=1) == rows
    assert {row.help for row in rows if row.policy == "helper"} >= {0, 1}


def test_a_ledger_that_disagrees_with_the_episode_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"the ledger has \(2,\) left, the episode \(1,\)"):
        run_episode(make_household(), "household-place/3", 0, Recorded(Always("help"), {"help": 1}, 2), budget=1)
    with pytest.raises(ValueError, match="policy 'random' has start"):
        Recorded(RandomHelp(0.3, ["help"]), {"help": 1}, 2)


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
