"""Rules of thumb as helpers: the help type and the thresholds that do best in the filled model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfreg.helper.config import HelperConfig
from selfreg.helper.helper import Helper
from selfreg.helper.labels import Labels
from selfreg.helper.model_rollout import ModelRollout, forecast_in_model
from selfreg.helper.models.rules import RULES, ScoreThreshold
from selfreg.helper.models.transformer import lattice
from selfreg.prm.config import PRMConfig
from selfreg.prm.prm import PRM, train_prm

# Thresholds that are tried at each budget: these quantiles of P(failure).
QUANTILES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.85, 1.0)


def train_rule(
    labels: Labels, split: Mapping[str, Sequence[str]], charges: Mapping[str, tuple[int, ...]], config: HelperConfig
) -> Helper:
    """The rule `config.form` with the help type that does best in the training tasks, by the filled model.

    Raises
    ------
    ValueError
        The rule needs a PRM, and these tasks do not allow to train one.
    """
    limits = tuple(int(top) for top in labels.budgets.max(axis=0))
    parts = {name: list(tasks) for name, tasks in split.items()}
    prm = _train_prm(labels, [*parts["train"], *parts["validation"]], config) if config.form == "prm" else None
    best: tuple[float, Helper] | None = None
    prices = labels.prices(config.price)
    for help, cost in charges.items():
        rule = RULES[config.form](labels.actions, limits, help, cost, {"horizon": _horizon(labels, parts["train"])})
        helper = Helper(rule, labels.actions, dict(charges), limits, config.history, {}, parts)
        if prm is not None:
            helper = _with_thresholds(helper, prm, labels, prices)
        found = forecast_in_model(helper, labels, prices, "train", "validation")
        gained = float((found.success - found.paid)[labels.budgets.any(axis=1)].mean())
        if best is None or gained > best[0]:
            best = gained, helper
    assert best is not None  # the labels have a help type
    return best[1]


def _horizon(labels: Labels, tasks: Sequence[str]) -> int:
    """Median number of decisions of the unhelped episodes of some tasks; of all of theirs, where none is unhelped."""
    wanted = set(tasks)
    logs = [t for t in labels.trajectories if t.task in wanted] or list(labels.trajectories)
    lengths = [len(t.steps) for t in logs if not t.helped] or [len(t.steps) for t in logs]
    return max(1, int(np.median(lengths)))


def _train_prm(labels: Labels, tasks: Sequence[str], config: HelperConfig) -> PRM:
    """A PRM that trains in seconds, from these tasks."""
    wanted = set(tasks)
    settings: dict[str, Any] = {"kind": "tfidf", "history": config.history, "seed": config.seed}
    return train_prm([t for t in labels.trajectories if t.task in wanted], PRMConfig(**settings))


def _with_thresholds(helper: Helper, prm: PRM, labels: Labels, prices: NDArray[np.float64]) -> Helper:
    """The helper with thresholds, chosen in increasing order of budgets, each with those of smaller ones fixed.

    They are chosen on tasks that the PRM did not learn from, whose scores are like those of new tasks.
    """
    assert isinstance(helper.classifier, ScoreThreshold)
    helper.classifier.prm = prm
    checked = {"checked": [*prm.split["validation"], *prm.split["test"]]}
    states = ModelRollout.create(replace(helper, split=checked), labels, "checked")
    points = lattice(helper.limits)
    chosen = np.ones(len(points))
    for p in np.argsort(points.sum(axis=1), kind="stable")[1:]:
        at, tried = states.point(points[p]), np.unique(np.quantile(states.candidates(int(p)), QUANTILES))
        gains = []
        for threshold in tried:
            chosen[p] = threshold
            policy = states.policy(chosen)
            gains.append((states.start @ states.value(policy) - states.usage(policy, prices[:, None])[:, 0])[at])
        chosen[p] = tried[int(np.argmax(gains))]
    return replace(helper, thresholds=tuple(chosen.tolist()))
