"""Comparison at equal cost, intervals, and the closed loop itself."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pyarrow.parquet as pq
import pytest

import selfreg
from selfreg.data import Step, Trajectory
from selfreg.envs import BabyAIConfig, RandomHelp, make_babyai, make_household, split_tasks
from selfreg.estimate import ExactKey, estimate_mdp
from selfreg.evaluate import (
    Always,
    Contestant,
    FollowHelper,
    Never,
    Plan,
    Row,
    Threshold,
    compare,
    forecasts,
    paired,
    run_closed_loop,
    write_rows,
)
from selfreg.evaluate.comparison import at_cost
from selfreg.helper import HelperConfig, HelperExamples, train_helper

WORLD = BabyAIConfig(level="BabyAI-GoToLocalS5N2-v0", step_limit=12)


def contestants() -> list[Contestant]:
    return [
        Contestant("never", 0, Never()),
        Contestant("always", None, Always("help")),
        Contestant("first-k", 1, Always("help")),
        Contestant("random", None, RandomHelp(0.3, ["help"]), 0.3),
    ]


def test_closed_loop_is_paired_and_does_not_depend_on_workers(tmp_path) -> None:
    tasks = split_tasks(WORLD, 0, 4, seed=1)[1]
    run = partial(run_closed_loop, partial(make_babyai, WORLD), contestants, tasks, episodes_per_task=2, seed=3)
    rows = run(workers=1)
    assert rows == run(workers=2)
    assert len(rows) == 4 * 2 * 4
    for task in tasks:
        assert len({row.seed for row in rows if row.task == task}) == 2
    assert all(row.help <= row.budget for row in rows if row.budget is not None)
    assert all(row.help == 0 for row in rows if row.policy == "never")
    write_rows(tmp_path / "rows.parquet", rows)
    assert pq.read_table(tmp_path / "rows.parquet").to_pylist() == [row._asdict() for row in rows]


def row(policy: str, budget: int | None, task: str, success: float, used: int, setting: float = 0.0) -> Row:
    return Row(policy, setting, budget, task, 0, success, used, 5, 0)


def test_a_family_is_compared_at_the_helpers_cost() -> None:
    rows = []
    for i in range(40):
        task, lucky = f"t{i}", float(i % 2)
        rows += [row("never", 0, task, 0.0, 0), row("always", None, task, 1.0, 4)]
        rows += [row("random", None, task, lucky, 2, 0.5), row("helper", 1, task, 1.0, 1)]
        rows += [row("first-k", 1, task, 0.0, 1), row("plan", 1, task, 1.0, 1)]
    comparison = compare(rows, families=["random"])
    outcome = next(o for o in comparison.outcomes if o.policy == "random")
    assert outcome.help.mean == 1.0
    assert outcome.success.mean == pytest.approx(0.25)  # halfway between never (0) and the member at cost 2 (0.5)
    words = {d.other: d.words for d in comparison.differences}
    assert words["random at equal cost"] == "budget 1: the helper beats random at equal cost"
    assert words["plan"] == "budget 1: the helper is not told apart from plan"
    assert next(d for d in comparison.differences if d.other == "first-k").difference == (1.0, 1.0, 1.0)


def test_a_family_never_costs_more_than_its_dearest_member() -> None:
    """Here help to the end, at cost 3, succeeds at once, and the helper asks somebody else before."""
    rows = []
    for i in range(40):
        rows += [row("never", 0, f"t{i}", 0.0, 0), row("always", None, f"t{i}", 1.0, 3)]
        rows += [row("random", None, f"t{i}", 0.5, 1, 0.1), row("helper", 4, f"t{i}", 1.0, 4)]
    outcome = next(o for o in compare(rows, families=["random"]).outcomes if o.policy == "random")
    assert outcome.help == (3.0, 3.0, 3.0)
    assert outcome.success == (1.0, 1.0, 1.0)


def test_a_helper_that_is_no_better_is_said_to_be_so() -> None:
    rows = []
    for i in range(40):
        rows += [row("never", 0, f"t{i}", 0.0, 0), row("always", None, f"t{i}", 1.0, 2)]
        rows += [row("helper", 1, f"t{i}", 0.0, 1), row("random", None, f"t{i}", 1.0, 1, 0.5)]
    (difference,) = compare(rows, families=["random"]).differences
    assert difference.words == "budget 1: the helper falls short of random at equal cost"


def test_rows_that_cannot_be_compared_are_refused() -> None:
    """A policy that was not run on every task, a single task, and families without their ends."""
    rows = [row(name, 1, f"t{i}", 1.0, 1) for i in range(3) for name in ("helper", "plan")]
    with pytest.raises(ValueError, match="'plan' under budget 1 was not run on task 't2'"):
        compare(rows[:-1], families=())
    with pytest.raises(ValueError, match="'plan' under budget 1 was not run on task 't2'"):
        paired(rows[:-1], ("helper", 1), ("plan", 1))
    with pytest.raises(ValueError, match=r"of 1 task\(s\)"):
        compare(rows[:2], families=())
    with pytest.raises(ValueError, match=r"of 1 task\(s\)"):
        paired(rows[:2], ("helper", 1), ("plan", 1))
    with pytest.raises(ValueError, match=r"of 1 task\(s\)"):
        forecasts({1: (1.0, 1.0)}, rows[:2])
    random = [row("random", None, f"t{i}", 1.0, 1, setting) for i in range(3) for setting in (0.1, 0.2)]
    with pytest.raises(ValueError, match="'never' has no episodes"):
        compare([*rows, *random])
    with pytest.raises(ValueError, match="'random' has several settings"):
        paired([*rows, *random], ("helper", 1), ("random", None))


class Breaking(Never):
    def decide(self, steps, budget_left):
        raise RuntimeError("no idea")


def breaking() -> list[Contestant]:
    return [Contestant("never", 0, Never()), Contestant("breaking", 1, Breaking())]


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
        asked = {"tasks": ["household-place/1"], "workers": 1} | wrong
        with pytest.raises(ValueError, match=message):
            run_closed_loop(make_household, contestants, **asked)


def test_progress_keeps_out_of_what_is_printed(monkeypatch, capsys) -> None:
    """On a terminal progress goes to standard error, so that tables can be piped."""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    run_closed_loop(make_household, lambda: contestants()[:1], ["household-place/1"], workers=1)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "evaluate" in printed.err


def test_at_cost_stays_in_the_familys_range() -> None:
    costs, successes = np.array([2.0, 0.0]), np.array([0.8, 0.2])
    assert at_cost(costs, successes, 1.0) == pytest.approx(0.5)
    assert at_cost(costs, successes, 9.0) == pytest.approx(0.8)


def test_intervals_cover_the_truth_at_their_level() -> None:
    generator, covered = np.random.default_rng(0), 0
    for _ in range(200):
        rows = [row("never", 0, f"t{i}", float(generator.random() < 0.3), 0) for i in range(60)]
        (outcome,) = compare(rows).outcomes
        covered += outcome.success.low <= 0.3 <= outcome.success.high
    assert 0.88 <= covered / 200 <= 0.99


class Scorer:
    """The PRM's interface over texts that hold their score; counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def text(self, steps):
        return steps[-1].state

    def score(self, texts):
        self.calls += 1
        return np.array([float(text) for text in texts])


def test_threshold_asks_where_the_score_is_low_and_scores_once() -> None:
    prm = Scorer()
    policy = Threshold(prm, "help", 0.5)
    assert [policy.decide([Step(text)], 1) for text in ("0.4", "0.6", "0.4")] == ["help", None, "help"]
    assert policy.decide([Step("0.1")], 0) is None
    assert prm.calls == 2


def test_help_for_nothing_is_asked_for_when_the_budget_is_spent() -> None:
    examples = HelperExamples(
        ["red light", "green light"] * 20,
        np.tile([[0], [0], [1], [1]], (10, 1)),
        np.array([1, 0] * 20),
        np.ones(40),
        [f"task {i // 2}" for i in range(40)],
        ("nohelp", "friend"),
    )
    for cost, asks in ((0, "friend"), (1, None)):
        chosen = replace(examples, decisions=examples.decisions * (examples.budgets[:, 0] >= cost))
        policy = FollowHelper(train_helper(chosen, HelperConfig(form="words"), costs={"friend": cost}))
        policy.start("task", 0)
        assert policy.decide([Step("red light")], 0) == asks
        assert policy.decide([Step("red light")], 1) == "friend"
        assert policy.decide([Step("green light")], 1) is None


def test_plan_follows_the_solution_and_goes_on_alone_at_unknown_states() -> None:
    logs = [
        Trajectory("t", "a", 0.0, (Step("x", key="k"),)),
        Trajectory("t", "b", 1.0, (Step("x", key="k", intervention="help"),)),
    ]
    model = estimate_mdp(logs, ExactKey())
    plan = Plan.of(model, selfreg.solve(model.mdp, 2))
    plan.start("t", 0)
    known, unknown = [Step("x", key="k")], [Step("x", key="other")]
    assert [plan.decide(known, left) for left in (0, 1, 5, None)] == [None, "help", "help", "help"]
    assert plan.unseen == 0
    assert plan.decide(unknown, 2) is None
    assert plan.unseen == 1
    plan.start("other task", 0)
    assert plan.decide(known, 2) is None
    assert plan.unseen == 1
