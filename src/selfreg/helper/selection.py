"""The form "auto": of a few forms and rules of thumb, the one that is forecast to do best in new tasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from selfreg.estimate.abstraction import ExactKey
from selfreg.estimate.forecasting.compute import step_design
from selfreg.estimate.forecasting.identification import identify
from selfreg.estimate.forecasting.logged_steps import LoggedSteps
from selfreg.estimate.forecasting.step_effects import StepDesign, step_value
from selfreg.helper.config import HelperConfig
from selfreg.helper.helper import Helper
from selfreg.helper.labels import Labels
from selfreg.helper.model_rollout import forecast_in_model
from selfreg.helper.models import CANDIDATES, FORMS
from selfreg.helper.one_step import Forecast, QueryJudge
from selfreg.helper.rationing import forecast_at_usage

# Folds of tasks, and the share of the other folds' tasks that chooses among penalties.
FOLDS, VALIDATION_SHARE = 3, 0.2
# Share of the steps whose exact key must recur in the log, so that the estimated model is more than the log itself.
RECURRING = 0.5
# In the names of figures, after a form that is trained with `fill`.
FILLED = "_filled"
# Trains a helper of one form with a split of the tasks.
FormTrainer = Callable[[HelperConfig, dict[str, list[str]]], Helper]


def choose_form(
    labels: Labels, config: HelperConfig, train: FormTrainer, usage: float | None = None
) -> tuple[HelperConfig, dict[str, float]]:
    """The settings with the form that has the best forecast, and figures: the forecast success and requests of each.

    Each candidate is trained on two thirds of the tasks and decides in the others, three times, so that every task is
    held out once. Where episodes are one decision and at least half of the queries were decided in every way, the
    outcomes there count (`QueryJudge`). Where states have exact keys that recur, they are evaluated in the filled
    model, whose errors differ less between forms, and the best form that learns labels is also tried with `fill`. Else,
    where chance decided at single steps of the log who was helped, by a structural nested mean model
    (`selfreg.estimate.forecasting.step_effects`), which needs no model of states; else in the filled model. What counts
    is success less the price of the units used. With `usage` it is the same in the filled model at that mean number of
    units, with the largest budget (`ration`). A candidate that cannot be trained from these tasks is left out.

    Raises
    ------
    ValueError
        No candidate can be trained.
    """
    splits, prices = make_splits(sorted(set(labels.tasks)), config.seed), labels.prices(config.price)
    judge: Judge
    if usage is None:
        judge = QueryJudge.of(labels, prices) or _ModelJudge(labels, prices)
        if isinstance(judge, _ModelJudge) and not _have_recurring_keys(labels):
            judge = _StepJudge.of(labels, prices) or judge
    else:
        judge = _UsageJudge(labels, prices, usage)
    tried = {form: replace(config, form=form) for form in CANDIDATES}
    found, errors = dict[str, Forecast](), list[ValueError]()

    def add(name: str) -> None:
        try:
            found[name] = judge.forecast([train(tried[name], split) for split in splits])
        except ValueError as error:
            errors.append(error)

    for form in CANDIDATES:
        add(form)
    if not found:
        raise errors[0]
    learnt = {form: forecast for form, forecast in found.items() if form in FORMS}
    recurring = _have_recurring_keys(labels) and not isinstance(judge, QueryJudge)
    if learnt and config.rounds and not config.fill and recurring:
        form = _best(learnt)
        tried[form + FILLED] = replace(config, form=form, fill=True)
        add(form + FILLED)
    chosen = tried[_best(found)]
    figures = {"fill": float(chosen.fill and chosen.form in FORMS and chosen.rounds > 0)}
    for name, forecast in found.items():
        figures |= {f"forecast_{name}": forecast.success, f"forecast_requests_{name}": forecast.requests}
    return chosen, figures


def _best(found: Mapping[str, Forecast]) -> str:
    """The name with the most success less the price of its requests; of ties, the first."""
    return max(found, key=lambda name: found[name].success - found[name].paid)


def _have_recurring_keys(labels: Labels) -> bool:
    """Whether states have exact keys, and most steps are in states that were logged more than once."""
    recur = labels.visits.sum(axis=1) > 1.0
    return isinstance(labels.model.abstraction, ExactKey) and bool(recur.mean() > RECURRING)


class Judge(Protocol):
    """Forecasts what helpers do in the test tasks of their splits."""

    def forecast(self, helpers: Sequence[Helper]) -> Forecast:
        """Means over all of these tasks."""
        ...


class _UsageJudge(NamedTuple):
    """Evaluates in the filled model, at a mean number of units used."""

    labels: Labels
    prices: NDArray[np.float64]
    usage: float

    def forecast(self, helpers: Sequence[Helper]) -> Forecast:
        """Of helpers, each in the test tasks of its split."""
        return _mean(helpers, [forecast_at_usage(one, self.labels, self.usage, self.prices) for one in helpers])


class _ModelJudge(NamedTuple):
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


class _StepJudge(NamedTuple):
    """Evaluates decisions at the logged steps of held-out tasks."""

    labels: Labels
    prices: NDArray[np.float64]
    design: StepDesign

    @classmethod
    def of(cls, labels: Labels, prices: NDArray[np.float64]) -> _StepJudge | None:
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


def make_splits(tasks: Sequence[str], seed: int) -> list[dict[str, list[str]]]:
    """Splits of the tasks into `train`, `validation` and `test`, each task in one of the tests.

    Raises
    ------
    ValueError
        Fewer than three tasks.
    """
    if len(tasks) < FOLDS:
        raise ValueError(f"{len(tasks)} task(s); expected at least {FOLDS}: forms are compared on folds of tasks")
    order = [tasks[i] for i in np.random.default_rng(seed).permutation(len(tasks))]
    result = []
    for fold in range(FOLDS):
        rest = [task for i, task in enumerate(order) if i % FOLDS != fold]
        checked = max(1, round(VALIDATION_SHARE * len(rest)))
        parts: Mapping[str, Sequence[str]] = {
            "train": rest[checked:], "validation": rest[:checked], "test": order[fold::FOLDS]
        }  # fmt: skip
        result.append({name: sorted(part) for name, part in parts.items()})
    return result
