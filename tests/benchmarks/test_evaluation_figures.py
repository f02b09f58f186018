"""The evaluation's tables say what the rows say; a run of other sizes is not taken for this one."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

from benchmarks import evaluation, evaluation_tables
from benchmarks.evaluation_tables import (
    Result,
    headline,
    on_seen,
    print_seconds,
    print_setting,
    print_summary,
    print_targets,
    stages,
)
from selfreg.cli.evaluate import Evaluated, as_json
from selfreg.evaluate import Row, compare, forecasts
from selfreg.evaluate.policies import OPTIMUM
from selfreg.helper import HelperConfig
from selfreg.runs import RunFolder

TASKS = 60
# Success and help of each policy at budgets 1 to 4; always succeeds with 16 requests.
CURVES = {
    "helper": ([0.5, 0.9, 1.0, 1.0], [1, 2, 3, 4]),
    "plan": ([0.6, 1.0, 1.0, 1.0], [1, 2, 3, 4]),
    OPTIMUM: ([0.7, 1.0, 1.0, 1.0], [1, 2, 3, 4]),
    "first-k": ([0.2, 0.2, 0.2, 0.3], [1, 2, 3, 4]),
    "tuned PRM threshold": ([0.4, 0.5, 0.6, 0.7], [1, 2, 3, 4]),
}


def test_the_form_is_that_of_helpers_and_not_the_quick_one_of_the_demo() -> None:
    assert inspect.signature(evaluation.run_setting).parameters["form"].default == HelperConfig.form == "auto"


def succeeded(rate: float, i: int) -> float:
    return float(i % TASKS < rate * TASKS)


@pytest.fixture(scope="module")
def result() -> Result:
    rows = []
    for i in range(TASKS):
        task = f"t{i}"
        rows += [
            Row("never", 0.0, 0, task, 0, succeeded(0.2, i), 0, 30, 0),
            Row("always", 0.0, None, task, 0, 1.0, 16, 16, 0),
        ]
        for family in ("random", "PRM threshold"):
            rows.append(Row(family, 0.3, None, task, 0, succeeded(0.3, i), 8, 25, 0))
        for name, (rates, used) in CURVES.items():
            for b in (1, 2, 3, 4):
                unseen = int(name == "plan" and i < 15)
                rows.append(Row(name, 0.0, b, task, 0, succeeded(rates[b - 1], i), used[b - 1], 20, unseen))
    predicted = {b: (CURVES["plan"][0][b - 1] - 0.3 * (b == 1), float(b)) for b in (1, 2, 3, 4)}
    found = as_json(Evaluated(compare(rows), forecasts(predicted, rows)), TASKS)
    return Result("made", "trees", rows, found, {"collect": 1.0})


def test_headline_takes_the_largest_budget_within_an_eighth(result: Result) -> None:
    helper, plan = headline(result, "helper"), headline(result, "plan")
    assert (helper.budget, helper.share, helper.met) == (2, 2 / 16, False)
    assert helper.gap.mean == pytest.approx(0.1)
    assert plan.budget == 2
    assert plan.met
    dear = result._replace(rows=[row._replace(help=6) if row.budget else row for row in result.rows])
    dear = dear._replace(evaluation=as_json(Evaluated(compare(dear.rows), []), TASKS))
    assert headline(dear, "helper").budget is None


def test_losses_add_up(result: Result) -> None:
    lost = stages(result, 1)
    assert [name for name, _ in lost] == ["the budget", "the estimated model", "the helper"]
    np.testing.assert_allclose([one.mean for _, one in lost], [0.3, 0.1, 0.1])


def test_seen_states_only(result: Result) -> None:
    gap, share = on_seen(result.rows, 1)
    assert share == pytest.approx(45 / 60)
    assert gap.mean == pytest.approx(6 / 45)  # all six tasks in which they differ are among the 45


def test_tables_are_printed(result: Result, capsys) -> None:
    print_setting(result)
    print_summary([result])
    print_targets([result])
    print_seconds([result, result._replace(seconds={"collect": 2.0, "forecast": 4.0})])
    said = capsys.readouterr().out
    assert "always minus never +0.800" in said
    assert "lost on the way, budget 1: the budget +0.300" in said
    assert "budget 1: predicted success 0.300, realised 0.600" in said
    assert "(outside)" in said
    assert "| made (trees) | 0.200 | 1.000 (" in said
    assert "headline, made, plan: within 1 point of always at budget 2 with 12.5% of its requests" in said
    assert "headline target (helper, 5 settings or more): missed (0 of 1)" in said
    assert "helper above equal-cost baselines, made: all clear" in said
    assert "never significantly below a rule of thumb at equal cost: met (0 of" in said
    assert "plan's predicted success outside of the interval of realised success: 1 of 4" in said
    assert "seconds of the stages in 2 settings: collect 3, forecast 4; together 7" in said


def test_a_helper_below_a_rule_of_thumb_is_named(result: Result, capsys) -> None:
    rows = [row._replace(policy="last-k", success=1.0) if row.policy == "helper" else row for row in result.rows]
    rows += [row._replace(success=0.0) for row in result.rows if row.policy == "helper"]
    evaluation_tables.print_rules([result._replace(rows=rows)])
    said = capsys.readouterr().out
    assert "helper minus last-k at equal cost, made: -1.000 [-1.000, -1.000](-)" in said
    assert "at equal cost: missed (" in said


def test_where_help_wins_little_nothing_is_claimed(result: Result, capsys) -> None:
    rows = [row._replace(success=1.0) if row.policy == "never" else row for row in result.rows]
    evaluation_tables.print_headline([result._replace(rows=rows)])
    assert "does not count, always beats never by 0.0 points only" in capsys.readouterr().out


def test_a_run_of_other_sizes_is_refused(tmp_path) -> None:
    (tmp_path / "put-next").mkdir()
    RunFolder(tmp_path / "put-next").record("benchmark", {"tasks": 3, "seconds": {}})
    with pytest.raises(ValueError, match="other sizes"):
        evaluation.run_setting("put-next", evaluation.QUICK, tmp_path)
