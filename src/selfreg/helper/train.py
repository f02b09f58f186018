"""Train a helper on the plan's decisions: P(action) from the state's text and the budget left."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from selfreg._util import validate
from selfreg._util.threads import single_thread
from selfreg.helper.config import HelperConfig
from selfreg.helper.examples import HelperExamples
from selfreg.helper.fitted_q import PooledSteps, train_fitted_q
from selfreg.helper.helper import Helper, check_costs
from selfreg.helper.judges import Judge, make_judge
from selfreg.helper.labels import Labels
from selfreg.helper.memory import Memory
from selfreg.helper.model_rollout import success_in_model
from selfreg.helper.models import AUTO, CANDIDATES, FITTED_Q, FORMS, GAIN, RULES, TRANSFORMERS
from selfreg.helper.models.transformer import FEATURES, lattice
from selfreg.helper.one_step import train_gain
from selfreg.helper.pricing import plan_at_price
from selfreg.helper.reasons import mask_affordable
from selfreg.helper.relabel import Relabelled, reading_form, relabel
from selfreg.helper.rules import train_rule
from selfreg.helper.selection import choose_form
from selfreg.prm.encoder import require_ml
from selfreg.prm.transformer import split_tasks

FALL = 0.01
# Forms that learn from more than decisions.
FITTED = (*RULES, GAIN, FITTED_Q)
# Logged states that a helper remembers for the reasons of its decisions.
MEMORY_STATES = 4_000


class _Taught:
    """What forms share of the labels that they learn: each is computed once."""

    def __init__(self, labels: Labels, config: HelperConfig, usage: float | None) -> None:
        self.labels, self._config, self._usage = labels, config, usage
        self._improved = dict[tuple[str, bool, tuple[str, ...], tuple[str, ...]], Relabelled]()

    @cached_property
    def at_price(self) -> Labels:
        """Labels of the plan at the price of help."""
        return plan_at_price(self.labels, self._config.price)

    @cached_property
    def judge(self) -> Judge:
        """What forms and help types are compared by."""
        return make_judge(self.labels, self._config.price, self._usage, lambda: self.pooled)

    @cached_property
    def pooled(self) -> PooledSteps:
        """Logged steps for fitted Q iteration."""
        return PooledSteps.of(self.labels, self._config.history, self._config.seed)

    def improve(self, split: Mapping[str, Sequence[str]], config: HelperConfig) -> Relabelled:
        """Labels that the model of the form `config.form` has improved, in these training tasks."""
        key = reading_form(config.form).form, config.fill, tuple(split["train"]), tuple(split["validation"])
        if key not in self._improved:
            self._improved[key] = relabel(self.labels, self.at_price, split, config)
        return self._improved[key]


def train_helper(
    labels: Labels | HelperExamples,
    config: HelperConfig | None = None,
    *,
    costs: Mapping[str, int | Sequence[int]] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    usage: float | None = None,
) -> Helper:
    """Train one helper for every budget of the lattice.

    Decisions are weighted by |advantage| and visits. With labels, help that gains less than `price` a unit is not
    requested. Tasks are split into training, validation (early stopping, penalties of linear models,
    number of trees) and test (figures).

    The plan uses everything in the logs of a task, the helper only its text. With labels, decisions are therefore first
    improved for a policy that reads texts, in `rounds` rounds: a linear model of words learns them, its policy is
    evaluated in the estimated model, and every decision is labelled again with the value of that policy. The helper
    learns the labels of the last round; a linear form is the model that learned them (approximate policy iteration with
    a classifier: Lagoudakis & Parr, 2003; errors weighted by cost: Ross & Bagnell, 2014).

    The form "fitted-q" learns decisions from values that are regressed over the logged steps of all tasks instead
    (`selfreg.helper.fitted_q`).

    The form "auto" is the one of a few quick forms and rules of thumb that is forecast to do best in tasks that it was
    not trained on (`selfreg.helper.selection`); of examples without labels, the quick form with the least loss on
    validation tasks; and "features" where the configuration has a model to start from.

    Parameters
    ----------
    labels : Labels or HelperExamples
        With labels the helper also stores states and their values, for its reasons.
    config : HelperConfig, optional
    costs : mapping of str to int or sequence of int, optional
        Of each help type, in units of each budget. By default those of the labels; with examples, 1 each where there is
        one budget.
    checkpoint : path, optional
        File for checkpoints. Training resumes from it, with the same data and settings.
    usage : float, optional
        Mean number of units that `ration` will allow: the form "auto" is then the one that is forecast to do best at
        it. Needs labels.

    Returns
    -------
    Helper
        Its `figures`, on held-out test tasks unless stated otherwise:

        - `agreement` with the plan's decisions, `agreement_weighted` by their weights, the same for always
          taking the training majority (`majority`, `majority_weighted`);
        - `success` in the filled model (`Labels.filled`) from the first states of test tasks, mean over the budgets
          above 0, and `success_plan`, that of the plan;
        - `recall_ACTION`, the weighted share of an action's decisions that the helper makes too, and `share_ACTION`,
          their share of the training weight;
        - `monotonicity_violations`, how often P(request) decreases by over 0.01 where one unit of budget is added, and
          `monotonicity_violations_plan`, how often the plan's decision changes from help to "nohelp";
        - `low_support_share`, the share of the training weight on decisions based on fewer visits than `min_count`;
        - `value_error`, the mean error of the values that reasons give, and `value_error_constant`, that of their mean;
        - with the form "auto", `forecast_FORM` and `forecast_requests_FORM`: success and units used of each form in
          tasks that it was not trained on, as `choose_form` forecasts them, mean over the budgets above 0; and `fill`,
          1 where the form was trained with it (`forecast_FORM_filled`);
        - `constant_decision` is 1 where every decision was the same, so that there was nothing to learn; `epochs`,
          `validation_loss`, and the number of examples.

    Raises
    ------
    ValueError
        Wrong costs, a decision over its budget, no decisions to learn, fewer than 3 tasks, or training diverges.

    Examples
    --------
    >>> import numpy as np
    >>> from selfreg.helper import HelperConfig, HelperExamples, train_helper
    >>> examples = HelperExamples(
    ...     texts=["red light", "green light"] * 10,
    ...     budgets=np.ones((20, 1), dtype=np.int64),
    ...     decisions=np.array([1, 0] * 10),
    ...     weights=np.ones(20),
    ...     tasks=[f"task {i // 2}" for i in range(20)],
    ...     actions=("nohelp", "help"),
    ... )
    >>> helper = train_helper(examples, HelperConfig(form="features", epochs=2))
    >>> helper.decide(["red light"], (1,)).action
    'help'
    """
    with single_thread():
        found = _train(labels, config or HelperConfig(), costs, checkpoint, usage)
        config, examples, split = found.config, found.examples, found.split
        if isinstance(labels, Labels) and config.form in RULES:
            examples = labels.examples(config.history, found.helper.classifier.read)
        helper = replace(found.helper, memory=_memory(found.learnt, split, config))
        figures = found.figures | _figures(helper, examples, found.learnt, split, config)
        if isinstance(labels, Labels):
            figures |= success_in_model(helper, labels)
        return replace(helper, figures=figures)


def train_bare(labels: Labels, config: HelperConfig) -> Helper:
    """As `train_helper`, without memory and the figures of its decisions: a forecast, which trains a helper for each
    fold of tasks, reads neither.

    Raises
    ------
    ValueError
        As `train_helper`.
    """
    with single_thread():
        found = _train(labels, config, None, None, None)
        return replace(found.helper, figures=found.figures)


class _Trained(NamedTuple):
    """A helper without memory, and what it was made of: `learnt` are the labels that it learnt."""

    helper: Helper
    config: HelperConfig
    examples: HelperExamples
    learnt: Labels | HelperExamples
    split: dict[str, list[str]]
    figures: dict[str, float]


def _train(
    labels: Labels | HelperExamples,
    config: HelperConfig,
    costs: Any,
    checkpoint: str | os.PathLike[str] | None,
    usage: float | None,
) -> _Trained:
    if config.form == AUTO and config.model is not None:
        config = replace(config, form=FEATURES)
    if config.form in TRANSFORMERS:
        require_ml()
    examples, costs = _examples(labels, config, costs)
    charges = _charges(examples.actions, costs, examples.budgets.shape[1])
    _check_paid(examples, charges)
    split, forecasts = split_tasks(examples.tasks, config), dict[str, float]()
    taught = _Taught(labels, config, usage) if isinstance(labels, Labels) else labels
    if config.form == AUTO and isinstance(taught, _Taught):
        config, forecasts = choose_form(
            taught.labels, config, lambda one, parts: _learn(taught, parts, charges, one)[0], taught.judge
        )
    elif config.form == AUTO:
        config = replace(config, form=_choose_by_loss(examples, charges, split, config))
    helper, learnt = _learn(taught, split, charges, config, checkpoint)
    return _Trained(helper, config, examples, learnt, split, helper.figures | forecasts)


def _learn(
    taught: _Taught | HelperExamples,
    split: dict[str, list[str]],
    charges: Mapping[str, tuple[int, ...]],
    config: HelperConfig,
    checkpoint: str | os.PathLike[str] | None = None,
) -> tuple[Helper, Labels | HelperExamples]:
    """A helper of one form, and the labels that it learnt."""
    if isinstance(taught, HelperExamples):
        if config.form in FITTED:
            raise ValueError(f"form {config.form!r} is fitted to labels; examples have neither model nor outcomes")
        return _train_form(taught, charges, split, config, checkpoint), taught
    if config.form == GAIN:
        return train_gain(taught.labels, split, charges, config), taught.labels
    if config.form in RULES:
        return train_rule(taught.labels, split, charges, config, lambda: taught.judge), taught.labels
    if config.form == FITTED_Q:
        return train_fitted_q(taught.pooled, split, charges, config)
    if config.rounds:
        return _train_improved(taught, split, charges, config, checkpoint)
    examples = taught.at_price.examples(config.history)
    return _train_form(examples, charges, split, config, checkpoint), taught.labels


def _choose_by_loss(
    examples: HelperExamples,
    charges: Mapping[str, tuple[int, ...]],
    split: dict[str, list[str]],
    config: HelperConfig,
) -> str:
    """The quick form with the least loss on validation tasks: examples have no model to forecast with."""
    forms = [form for form in CANDIDATES if form in FORMS]
    trained = [_train_form(examples, charges, split, replace(config, form=form)) for form in forms]
    return min(zip(forms, trained, strict=True), key=lambda one: one[1].figures["validation_loss"])[0]


def _figures(
    helper: Helper,
    examples: HelperExamples,
    labels: Labels | HelperExamples,
    split: Mapping[str, list[str]],
    config: HelperConfig,
) -> dict[str, float]:
    """Figures on held-out tasks; `labels` are those that the helper learnt, `examples` the plan's."""
    train, test = (examples.select_tasks(split[name]) for name in ("train", "test"))
    figures = {"test_examples": float(len(test.texts)), "constant_decision": float(np.ptp(examples.decisions) == 0)}
    figures |= (
        _agreement(helper, train, test)
        | _measure_monotonicity(helper, test)
        | _measure_support(train, config.min_count)
    )
    if isinstance(labels, Labels) and helper.memory is not None:
        figures |= _value_error(helper.memory, labels, split, config.history)
    return figures


def _train_improved(
    taught: _Taught,
    split: dict[str, list[str]],
    charges: Mapping[str, tuple[int, ...]],
    config: HelperConfig,
    checkpoint: str | os.PathLike[str] | None,
) -> tuple[Helper, Labels]:
    """A helper trained on improved labels, and these labels."""
    labels, priced, reader = taught.improve(split, config)
    examples = priced.examples(config.history)
    if not isinstance(reader, FORMS[config.form]):
        return _train_form(examples, charges, split, config, checkpoint), labels
    _weigh(examples.select_tasks(split["train"]), config)
    found = {"epochs": 0.0, "train_examples": float(len(examples.texts))}
    return Helper(reader, labels.actions, dict(charges), reader.limits, config.history, found, split), labels


def _weigh(train: HelperExamples, config: HelperConfig) -> HelperExamples:
    used = train.reweight(config.min_count)
    if not used.weights.any():
        raise ValueError("no training label is based on a visit")
    return used


def _train_form(
    examples: HelperExamples,
    charges: Mapping[str, tuple[int, ...]],
    split: dict[str, list[str]],
    config: HelperConfig,
    checkpoint: str | os.PathLike[str] | None = None,
) -> Helper:
    """A helper without memory, with the figures of its training only."""
    train, validation = (examples.select_tasks(split[name]) for name in ("train", "validation"))
    limits = tuple(int(top) for top in examples.budgets.max(axis=0))
    used = _weigh(train, config)
    checks = validation.reweight(config.min_count)
    classifier, figures = _fit(used, checks, limits, config, checkpoint)
    return Helper(classifier, examples.actions, dict(charges), limits, config.history, figures, split)


def _examples(labels: Labels | HelperExamples, config: HelperConfig, costs: Any) -> tuple[HelperExamples, Any]:
    if isinstance(labels, HelperExamples):
        return labels, costs
    if len(labels.actions) == 1:
        raise ValueError("the labels have no help type: there is nothing that a helper could request")
    if not labels.support.any() and not labels.budgets.any():
        raise ValueError("the labels are for budget 0 only, which pays for no help; solve for a larger budget")
    if not labels.support.any():
        raise ValueError(
            "both going on alone and help were tried in none of the labelled states: there is nothing to learn"
        )
    return labels.examples(config.history), costs or labels.model.mdp.costs


def _check_paid(examples: HelperExamples, charges: Mapping[str, tuple[int, ...]]) -> None:
    paid = mask_affordable(examples.actions, charges, examples.budgets)[
        np.arange(len(examples.texts)), examples.decisions
    ]
    if not paid.all():
        i = int(np.argmin(paid))
        action, budget = examples.actions[examples.decisions[i]], examples.budgets[i].tolist()
        raise ValueError(f"decisions[{i}] is {action!r} at cost {charges[action]}, over its budget {budget}")


def _fit(
    train: HelperExamples,
    validation: HelperExamples,
    limits: tuple[int, ...],
    config: HelperConfig,
    checkpoint: str | os.PathLike[str] | None,
) -> tuple[Any, dict[str, float]]:
    """The trained model, with the figures of its training."""
    votes, checks = train.votes(limits), validation.votes(limits)
    if not checks.texts:  # all its decisions are of weight 0
        checks = replace(validation, weights=np.ones_like(validation.weights)).votes(limits)
    model = FORMS[config.form].build(train.actions, limits, votes.texts, config)
    learnt = model.examples(votes)
    figures = model.fit(learnt, model.examples(checks), config, "training the helper", checkpoint=checkpoint)
    return model, figures | {"train_examples": float(len(learnt.texts))}


def _memory(labels: Labels | HelperExamples, split: Mapping[str, list[str]], config: HelperConfig) -> Memory | None:
    """Logged states of the training tasks; what is unlike them is calibrated on those of validation tasks."""
    if isinstance(labels, HelperExamples):
        return None
    memory = Memory.from_labels(labels, split["train"], config.history, MEMORY_STATES)
    if memory is None:
        return None
    others = set(split["validation"])
    return memory.calibrate(
        [text for text, task in zip(labels.texts(config.history), labels.tasks, strict=True) if task in others]
    )


def _agreement(helper: Helper, train: HelperExamples, test: HelperExamples) -> dict[str, float]:
    """Share of held-out decisions that the helper makes too, unweighted and weighted (if any weight is positive)."""
    hit = helper.choices(test.texts, test.budgets) == test.decisions
    figures = {}
    for name, train_weights, weights in (
        ("", np.ones(len(train.texts)), np.ones(len(test.texts))),
        ("_weighted", train.weights, test.weights),
    ):
        if weights.any():
            majority = np.bincount(train.decisions, train_weights).argmax()
            figures[f"agreement{name}"] = float(np.average(hit, weights=weights))
            figures[f"majority{name}"] = float(np.average(test.decisions == majority, weights=weights))
    for a, action in enumerate(helper.actions):
        weight = test.weights * (test.decisions == a)
        if weight.any():
            figures[f"recall_{action}"] = float(np.average(hit, weights=weight))
        if train.weights.any():
            figures[f"share_{action}"] = float(train.weights[train.decisions == a].sum() / train.weights.sum())
    return figures


def _measure_monotonicity(helper: Helper, test: HelperExamples) -> dict[str, float]:
    """How often more budget makes a request less likely, by the helper and by its labels."""
    texts, points = list(dict.fromkeys(test.texts)), lattice(helper.limits)
    shape = tuple(top + 1 for top in helper.limits)
    every = helper.request_probabilities(np.repeat(texts, len(points)).tolist(), np.tile(points, (len(texts), 1)))
    request = every[:, 1:].sum(axis=1).reshape(len(texts), *shape)
    votes = test.votes(helper.limits)
    asked = np.where(votes.weights.any(axis=2), votes.weights[..., 1:].sum(axis=2) > votes.weights[..., 0], np.nan)
    figures: dict[str, float] = {}
    for name, values, least in (
        ("monotonicity_violations", request, FALL),
        ("monotonicity_violations_plan", asked.reshape(-1, *shape), 0.0),
    ):
        steps = np.concatenate([np.diff(values, axis=axis).ravel() for axis in range(1, values.ndim)])
        steps = steps[~np.isnan(steps)]
        figures |= {name: float(np.mean(steps < -least))} if len(steps) else {}
    return figures


def _measure_support(train: HelperExamples, min_count: int) -> dict[str, float]:
    if train.support is None or not train.weights.any():
        return {}
    return {"low_support_share": float(train.weights[train.support < min_count].sum() / train.weights.sum())}


def _value_error(memory: Memory, labels: Labels, split: Mapping[str, Sequence[str]], history: int) -> dict[str, float]:
    """Mean |error| of the memory's values in test states where help and going on alone were tried, by visits."""
    tasks, texts = np.array(labels.tasks), labels.texts(history)
    rows = np.flatnonzero(np.isin(tasks, split["test"]) & (labels.support > 0).any(axis=1))
    known = np.flatnonzero(np.isin(tasks, split["train"]) & (labels.support > 0).any(axis=1))
    distinct = {text: i for i, text in enumerate(dict.fromkeys(texts[i] for i in rows))}
    if not distinct or not len(known):
        return {}
    found = np.concatenate([memory.estimate(*memory.nearest([text])) for text in distinct])
    truth, guess = labels.q[rows], found[[distinct[texts[i]] for i in rows]]
    counted = ~np.isnan(labels.q[known])
    mean = np.nan_to_num(labels.q[known]).sum(axis=0) / np.maximum(counted.sum(axis=0), 1)
    both = ~np.isnan(truth) & ~np.isnan(guess)
    errors = {"value_error": guess, "value_error_constant": np.broadcast_to(mean, truth.shape)}
    return {name: float(np.abs(value - truth)[both].mean()) for name, value in errors.items() if both.any()}


def _charges(
    actions: Sequence[str], costs: Mapping[str, int | Sequence[int]] | None, n_budgets: int
) -> dict[str, tuple[int, ...]]:
    if costs is None:
        if n_budgets != 1:
            raise ValueError(f"costs are needed where there are {n_budgets} budgets")
        costs = dict.fromkeys(actions[1:], 1)
    charges = {action: validate.nonneg_ints(f"cost of {action!r}", cost) for action, cost in costs.items()}
    check_costs(actions, charges, n_budgets)
    return charges
