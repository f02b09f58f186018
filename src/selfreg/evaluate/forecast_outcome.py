"""Predicted against realised success and usage of a plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from selfreg._util.bootstrap import Interval, bootstrap, interval
from selfreg.evaluate.closed_loop import Row
from selfreg.evaluate.comparison import Floats, several_tasks


class ForecastOutcome(NamedTuple):
    """Predicted and realised success and usage under one budget.

    Attributes
    ----------
    budget : int
    planned_success, planned_usage : float
        Predicted by the model.
    success, usage : Interval
        Realised.
    success_inside, usage_inside : bool
        Whether the interval holds the prediction.
    """

    budget: int
    planned_success: float
    success: Interval
    success_inside: bool
    planned_usage: float
    usage: Interval
    usage_inside: bool

    @property
    def words(self) -> str:
        """Prediction and outcome as a sentence."""
        parts = [
            f"predicted {what} {planned:.3f}, realised {real.mean:.3f} [{real.low:.3f}, {real.high:.3f}]"
            + ("" if inside else " (outside)")
            for what, planned, real, inside in (
                ("success", self.planned_success, self.success, self.success_inside),
                ("help", self.planned_usage, self.usage, self.usage_inside),
            )
        ]
        return f"budget {self.budget}: {'; '.join(parts)}"


def forecasts(
    planned: Mapping[int, tuple[float, float]], rows: Sequence[Row], policy: str = "plan"
) -> list[ForecastOutcome]:
    """Compare predicted success and usage with the episodes of a policy.

    Parameters
    ----------
    planned : mapping of budget to (success, usage)
        Predicted from the start distribution, by `EstimatedModel.success` and `.usage`.
    rows : sequence of Row
        Of `run_closed_loop`, on the tasks of the forecast.
    policy : str
        Name of the policy.

    Returns
    -------
    list of ForecastOutcome
        By budget. Intervals are 95% percentile bootstrap intervals over tasks. A plan that is made from the data of
        its model predicts too much success on average.

    Raises
    ------
    ValueError
        If the policy has no episodes under one of the budgets, or those of a single task.

    Examples
    --------
    >>> from selfreg.evaluate import Row, forecasts
    >>> rows = [Row("plan", 0.0, 1, f"task {i}", 0, float(i % 2), 1, 5, 0) for i in range(40)]
    >>> for one in forecasts({1: (0.9, 1.0)}, rows):
    ...     print(one.budget, one.planned_success, one.success.mean, one.success_inside, one.usage_inside)
    1 0.9 0.5 False True
    """
    result = []
    for budget, (success, usage) in sorted(planned.items()):
        mine = [row for row in rows if row.policy == policy and row.budget == budget]
        if not mine:
            raise ValueError(f"no episodes of {policy!r} under budget {budget}; expected at least one of each task")
        successes, helps = (
            _by_task([(row.task, float(getattr(row, name))) for row in mine]) for name in ("success", "help")
        )
        result.append(ForecastOutcome(budget, success, *_compare(success, successes), usage, *_compare(usage, helps)))
    return result


def _by_task(values: Sequence[tuple[str, float]]) -> Floats:
    groups: dict[str, list[float]] = {}
    for task, value in values:
        groups.setdefault(task, []).append(value)
    several_tasks(groups)
    return np.array([np.mean(group) for group in groups.values()])


def _compare(planned: float, means: Floats) -> tuple[Interval, bool]:
    realised = interval(means.mean(), means[bootstrap(len(means))].mean(axis=1))
    return realised, bool(realised.low <= planned <= realised.high)
