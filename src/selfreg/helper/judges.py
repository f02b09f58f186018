"""What forms and help types are compared by: forecasts of what helpers do in tasks that they did not learn from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from selfreg.estimate.abstraction import ExactKey
from selfreg.estimate.forecasting.compute import step_design
from selfreg.estimate.forecasting.identification import identify
from selfreg.estimate.forecasting.logged_steps import LoggedSteps
from selfreg.estimate.forecasting.step_effects import StepDesign, step_value
from selfreg.helper.fitted_q import FittedQ, PooledSteps
from selfreg.helper.helper import Helper
from selfreg.helper.labels import Labels
from selfreg.helper.model_rollout import forecast_in_model
from selfreg.helper.models.transformer import deduplicate
from selfreg.helper.one_step import Forecast, QueryJudge
from selfreg.helper.rationing import forecast_at_usage

# Share of the steps whose exact key must recur in the log, so that the estimated model is more than the log itself.
RECURRING = 0.5


def make_judge(
    labels: Labels, price: float | Mapping[str, float], usage: float | None, pooled: Callable[[], PooledSteps]
) -> Judge:
    """The judge of these labels.

    Where episodes are one decision and at least half of the queries were decided in every way, the outcomes there count
    (`QueryJudge`). With `usage` helpers are compared at that mean number of units and the largest budget (`ration`): by
    the outcomes of queries, or in the filled model. Where states have exact keys that recur, helpers are evaluated by
    fitted Q evaluation over the logged steps, `pooled`. Else, where chance decided at single steps of the log who was
    helped, by a structural nested mean model (`selfreg.estimate.forecasting.step_effects`), which needs no model of
    states; else in the filled model.
    """
    prices = labels.prices(price)
    queries = QueryJudge.of(labels, prices, usage)
    if queries is not None:
        return queries
    if usage is not None:
        return UsageJudge(labels, prices, usage)
    by_keys = have_recurring_keys(labels)
    found = FittedJudge.of(pooled, prices) if by_keys else StepJudge.of(labels, prices)
    return found or ModelJudge(labels, prices)


def have_recurring_keys(labels: Labels) -> bool:
    """Whether states have exact keys, and most steps are in states that were logged more than once."""
    recur = labels.visits.sum(axis=1) > 1.0
    return isinstance(labels.model.abstraction, ExactKey) and bool(recur.mean() > RECURRING)


class Judge(Protocol):
    """Forecasts what helpers do in the test tasks of their splits."""

    def forecast(self, helpers: Sequence[Helper]) -> Forecast:
        """Means over all of these tasks."""
        ...


class UsageJudge(NamedTuple):
    """Evaluates in the filled model, at a mean number of units used."""

    labels: Labels
    prices: NDArray[np.float64]
    usage: float

    def forecast(self, helpers: Sequence[Helper]) -> Forecast:
        """Of helpers, each in the test tasks of its split."""
        return _mean(helpers, [forecast_at_usage(one, self.labels, self.usage, self.prices) for one in helpers])


class ModelJudge(NamedTuple):
    """Evaluates in the filled model, from the first states of held-out tasks."""

    labels: Labels
    prices: NDArray[np.float64]

    def forecast(self, helpers: Sequence[Helper]) -> Forecast:
        """Of helpers, each in the test tasks of its split."""
        some = self.labels.budgets.any(axis=1)
        found = [forecast_in_model(helper, self.labels, self.prices, "test") for helper in helpers]
        return _mean(helpers, [[float(values[some].mean()) for values in one] for one in found])


def _mean(helpers: Sequence[Helper], rows: Sequence[Sequence[float]]) -> Forecast:
    """Mean over the test tasks of some helpers."""
    return Forecast(*np.average(rows, axis=0, weights=[len(helper.split["test"]) for helper in helpers]).tolist())


class FittedJudge(NamedTuple):
    """Evaluates by fitted Q evaluation (Le, Voloshin & Yue 2019), from the first logged steps of held-out tasks.

    An episode counts as it went while it did what the helper decides; what follows where it departs is the regression's
    (`selfreg.helper.fitted_q`).
    """

    labels: Labels
    prices: NDArray[np.float64]
    fitted: FittedQ

    @classmethod
    def of(cls, pooled: Callable[[], PooledSteps], prices: NDArray[np.float64]) -> FittedJudge | None:
        """None where the log does not show what follows with help and without."""
        try:
            steps = pooled()
            fitted = FittedQ.fit(steps.labels, steps.read(steps.informative), steps.place, prices, 0)
        except ValueError:
            return None
        return cls(steps.labels, prices, fitted)

    def forecast(self, helpers: Sequence[Helper]) -> Forecast:
        """Of helpers, each in the test tasks of its split; ValueError where no step of these tasks takes part."""
        labels, policy = self.labels, np.zeros(self.fitted.policy.shape, np.int8)
        held_out = np.zeros(len(policy), bool)
        for helper in helpers:
            rows = np.flatnonzero(labels.are_of(helper.split["test"]))
            texts, place = deduplicate(labels.select_rows(rows).texts(helper.history, helper.classifier.read))
            every = np.repeat(texts, len(labels.budgets)).tolist()
            choices = helper.choices(every, np.tile(labels.budgets, (len(texts), 1)))
            policy[rows] = choices.reshape(len(texts), -1)[place]
            held_out[rows] = True
        first, paid = held_out & (labels.step == 0), labels.budgets.any(axis=1)
        if not first.any():
            raise ValueError("the sample of logged steps has no first step of a held-out task")
        units = labels.model.mdp.cost_table.sum(axis=1).astype(np.float64)
        success, less_units, less_price = (
            float(self.fitted.evaluate(charged, policy)[first][:, paid].mean())
            for charged in (np.zeros_like(self.prices), units, self.prices)
        )
        return Forecast(success, success - less_units, success - less_price)


class StepJudge(NamedTuple):
    """Evaluates decisions at the logged steps of held-out tasks."""

    labels: Labels
    prices: NDArray[np.float64]
    design: StepDesign

    @classmethod
    def of(cls, labels: Labels, prices: NDArray[np.float64]) -> StepJudge | None:
        """None where the log does not show what help does at single steps."""
        costs = {name: tuple(cost) for name, cost in labels.model.mdp.costs.items()}
        try:
            logged = LoggedSteps.of(labels.trajectories, costs)
            found = identify(logged, labels.model.abstraction)
        except (ValueError, KeyError):  # no outcomes, or help that the model does not have
            return None
        if found.design != "steps" or logged.actions != labels.actions:
            return None
        return cls(labels, prices, step_design(logged, labels.model.abstraction, found, None))

    def forecast(self, helpers: Sequence[Helper]) -> Forecast:
        """Of helpers, each in the test tasks of its split."""
        logged = self.design.logged
        budgets = [tuple(map(int, budget)) for budget in self.labels.budgets if budget.any()]
        decided = np.zeros((len(budgets), len(logged.action)), np.int8)
        for helper in helpers:
            held_out = set(helper.split["test"])
            steps = np.flatnonzero([logged.episodes[e].task in held_out for e in logged.episode])
            texts = [self._read(helper, int(j)) for j in steps]
            for row, budget in zip(decided, budgets, strict=True):
                row[steps] = helper.choices(texts, logged.left(budget)[steps])
        return Forecast(*np.mean([self._value(one) for one in decided], axis=0).tolist())

    def _read(self, helper: Helper, step: int) -> str:
        logged = self.design.logged
        steps = logged.episodes[int(logged.episode[step])].steps
        return helper.classifier.read(steps[: int(logged.time[step]) + 1], helper.history)

    def _value(self, decided: NDArray[np.int8]) -> Forecast:
        """Of the policy with these decisions."""
        logged = self.design.logged
        value = step_value(self.design, decided, np.empty((0, len(logged.tasks))))
        requested, requests = decided[decided > 0], float(value.requests[0])
        units, price = (
            one[requested].mean() if len(requested) else 0.0 for one in (logged.costs.sum(axis=1), self.prices)
        )
        return Forecast(float(value.success[0]), requests * float(units), requests * float(price))
