"""The form "auto": of a few forms and rules of thumb, the one that is forecast to do best in new tasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from selfreg.helper.config import HelperConfig
from selfreg.helper.helper import Helper
from selfreg.helper.judges import Judge, have_recurring_keys
from selfreg.helper.labels import Labels
from selfreg.helper.models import CANDIDATES, FORMS
from selfreg.helper.one_step import Forecast, QueryJudge

# Folds of tasks, and the share of the other folds' tasks that chooses among penalties.
FOLDS, VALIDATION_SHARE = 3, 0.2
# Tasks in the random sample on which forms are compared by the outcomes of queries, at most: half a minute.
MOST_QUERIES = 3_000
# In the names of figures, after a form that is trained with `fill`.
FILLED = "_filled"
# Trains a helper of one form with a split of the tasks.
FormTrainer = Callable[[HelperConfig, dict[str, list[str]]], Helper]


def choose_form(
    labels: Labels, config: HelperConfig, train: FormTrainer, judge: Judge
) -> tuple[HelperConfig, dict[str, float]]:
    """The settings with the form that has the best forecast, and figures: the forecast success and requests of each.

    Each candidate is trained on two thirds of the tasks and decides in the others, three times, so that every task is
    held out once; where the outcomes of queries are compared, a random sample of `MOST_QUERIES` tasks takes part. What
    counts is success less the price of the units used, by the judge of these labels
    (`selfreg.helper.judges.make_judge`). Where states have exact keys that recur, the best form that learns labels is
    also tried with `fill`. A candidate that cannot be trained from these tasks is left out.

    Raises
    ------
    ValueError
        No candidate can be trained.
    """
    by_outcomes = isinstance(judge, QueryJudge)
    splits = make_splits(sorted(set(labels.tasks)), config.seed, MOST_QUERIES if by_outcomes else None)
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
    recurring = have_recurring_keys(labels) and not by_outcomes
    if learnt and config.rounds and not config.fill and recurring:
        form = _best(learnt)
        tried[form + FILLED] = replace(config, form=form, fill=True)
        add(form + FILLED)
    chosen = tried[_best(found)]
    figures = {"fill": float(chosen.fill and chosen.form in FORMS and chosen.rounds > 0)}
    for name, forecast in found.items():
        success = min(max(forecast.success, 0.0), 1.0)  # estimated from effects of steps, it can be outside
        figures |= {f"forecast_{name}": success, f"forecast_requests_{name}": forecast.requests}
    return chosen, figures


def _best(found: Mapping[str, Forecast]) -> str:
    """The name with the most success less the price of its requests; of ties, the first."""
    return max(found, key=lambda name: found[name].success - found[name].paid)


def make_splits(tasks: Sequence[str], seed: int, most: int | None = None) -> list[dict[str, list[str]]]:
    """Splits into `train`, `validation` and `test` of the tasks, or of a random sample of `most`; each is in one test.

    Raises
    ------
    ValueError
        Fewer than three tasks.
    """
    if len(tasks) < FOLDS:
        raise ValueError(f"{len(tasks)} task(s); expected at least {FOLDS}: forms are compared on folds of tasks")
    order = [tasks[i] for i in np.random.default_rng(seed).permutation(len(tasks))[:most]]
    result = []
    for fold in range(FOLDS):
        rest = [task for i, task in enumerate(order) if i % FOLDS != fold]
        checked = max(1, round(VALIDATION_SHARE * len(rest)))
        parts: Mapping[str, Sequence[str]] = {
            "train": rest[checked:], "validation": rest[:checked], "test": order[fold::FOLDS]
        }  # fmt: skip
        result.append({name: sorted(part) for name, part in parts.items()})
    return result
