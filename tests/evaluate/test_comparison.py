"""Comparison at equal cost, intervals, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from selfreg.evaluate import Row, compare, forecasts, paired
from selfreg.evaluate.comparison import at_cost


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
    assert words["plan"] == "budget 1: the helper is not significantly different from plan"
    assert next(d for d in comparison.differences if d.other == "first-k").difference == (1.0, 1.0, 1.0)


def test_a_family_never_costs_more_than_its_most_expensive_member() -> None:
    """Here help to the end, at cost 3, succeeds at once, and the helper requests other help before."""
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


def test_paired_differences_need_both() -> None:
    rows = [Row("a", 0.0, 1, f"t{i}", 0, float(i % 3 > 0), 1, 5, 0) for i in range(30)]
    rows += [row._replace(policy="b", success=0.0) for row in rows]
    gap = paired(rows, ("a", 1), ("b", 1))
    assert gap.mean == pytest.approx(2 / 3)
    assert gap.low > 0
    with pytest.raises(ValueError, match="'b' has no episodes under budget 2"):
        paired(rows, ("a", 1), ("b", 2))
