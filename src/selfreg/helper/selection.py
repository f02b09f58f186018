"""The form "auto": of a few forms and rules of thumb, the one that is forecast to do best in new tasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from selfreg.estimate.forecasting.compute import step_design
from selfreg.estimate.forecasting.identification import identify
from selfreg.estimate.forecasting.logged_steps import LoggedSteps
from selfreg.estimate.forecasting.step_effects import StepDesign, step_value
from selfreg.helper.config import HelperConfig
from selfreg.helper.helper import Helper
from selfreg.helper.labels import Labels
from selfreg.helper.model_rollout import forecast_in_model
from selfreg.helper.models import CANDIDATES
from selfreg.helper.one_step import Forecast, QueryJudge
from selfreg.helper.rationing import forecast_at_usage

# Folds of tasks, and the share of the other folds' tasks that chooses among penalties.
FOLDS, VALIDATION_SHARE = 3, 0.2
# Bootstrap samples of a forecast of success, and the largest standard deviation of any form by which all are compared.
SAMPLES, WIDEST = 30, 0.25
# Trains a helper of one form with a split of the tasks.
FormTrainer = Callable[[HelperConfig, dict[str, list[str]]], Helper]


def choose_form(
    labels: Labels, config: HelperConfig, train: FormTrainer, usage: float | None = None
) -> tuple[str, dict[str, float]]:
    """The form with the best forecast, and figures: the forecast success and requests of each.

    Each candidate is trained on two thirds of the tasks and decides in the others, three times, so that every task is
    held out once. Where episodes are one decision and most states were decided in every way, the outcomes there count
    (`QueryJudge`). Where chance decided at single steps of the log who was helped, these decisions are evaluated by a
    structural nested mean model (`selfreg.estimate.forecasting.step_effects`), which needs no model of states; else, or
    where the effects of the steps of long episodes add up to noise, in the estimated model. What counts is success less
    the price of the units used. With `usage` it is success in the estimated model at that mean number of units, with
    the largest budget (`ration`). A candidate that cannot be trained from these tasks is left out.

    Raises
    ------
    ValueError
        No candidate can be trained.
    """
    splits, prices = make_splits(sorted(set(labels.tasks)), config.seed), labels.prices(config.price)
    judge: Judge
    if usage is None:
        judge = QueryJudge.of(labels, prices) or _StepJudge.of(labels, prices) or _ModelJudge(labels, prices)
    else:
        judge = _UsageJudge(labels, prices, usage)
    trained, found, errors = dict[str, list[Helper]](), dict[str, Forecast](), list[ValueError]()
    for form in CANDIDATES:
        try:
            trained[form] = [train(replace(config, form=form), split) for split in splits]
            found[form] = judge.forecast(trained[form])
        except ValueError as error:
            errors.append(error)
    if not found:
        raise errors[0]
    if isinstance(judge, _StepJudge) and max(judge.spreads) > WIDEST:
        found = {form: _ModelJudge(labels, prices).forecast(trained[form]) for form in found}
    figures = dict[str, float]()
    for form, one in found.items():
        figures |= {f"forecast_{form}": one.success, f"forecast_requests_{form}": one.requests}
    return max(found, key=lambda form: found[form].success - found[form].paid), figures


class Judge(Protocol):
    """Forecasts what helpers do in the test tasks of their splits."""

    def forecast(self, helpers: Sequence[Helper]) -> Forecast:
        """Means over all of these tasks."""
        ...


class _UsageJudge(NamedTuple):
    """Evaluates in the estimated model, at a mean number of units used."""

    labels: Labels
    prices: NDArray[np.float64]
    usage: float

    def forecast(self, helpers: Sequence[Helper]) -> Forecast:
        """Of helpers, each in the test tasks of its split."""
        return _mean(helpers, [forecast_at_usage(one, self.labels, self.usage, self.prices) for one in helpers])


class _ModelJudge(NamedTuple):
    """Evaluates in the estimated model, from the first states of held-out tasks."""

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


@dataclass
class _StepJudge:
    """Evaluates decisions at the logged steps of held-out tasks; `spreads` are standard deviations, one a form."""

    labels: Labels
    prices: NDArray[np.float64]
    design: StepDesign
    spreads: list[float] = field(default_factory=list)

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
        found = [self._value(one) for one in decided]
        self.spreads.append(float(np.mean([spread for _, spread in found])))
        return Forecast(*np.mean([value for value, _ in found], axis=0).tolist())

    def _read(self, helper: Helper, step: int) -> str:
        logged = self.design.logged
        steps = logged.episodes[int(logged.episode[step])].steps
        return helper.classifier.read(steps[: int(logged.time[step]) + 1], helper.history)

    def _value(self, decided: NDArray[np.int8]) -> tuple[Forecast, float]:
        """Of the policy with these decisions, and the standard deviation of its success."""
        logged = self.design.logged
        n = len(logged.tasks)
        draws = np.random.default_rng(0).multinomial(n, np.full(n, 1.0 / n), size=SAMPLES)
        value = step_value(self.design, decided, draws.astype(np.float64))
        requested, requests = decided[decided > 0], float(value.requests[0])
        units, price = (
            one[requested].mean() if len(requested) else 0.0 for one in (logged.costs.sum(axis=1), self.prices)
        )
        found = Forecast(float(value.success[0]), requests * float(units), requests * float(price))
        return found, float(value.success[1:].std())


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
