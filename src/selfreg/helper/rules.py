"""Rules of thumb as helpers: the help type that is forecast to do best, and thresholds of the filled model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfreg.helper.config import HelperConfig
from selfreg.helper.helper import Helper
from selfreg.helper.judges import Judge
from selfreg.helper.labels import Labels
from selfreg.helper.model_rollout import ModelRollout
from selfreg.helper.models.rules import RULES, ScoreThreshold
from selfreg.helper.models.transformer import lattice
from selfreg.prm.config import PRMConfig
from selfreg.prm.prm import PRM, train_prm

# Thresholds that are tried at each budget: these quantiles of P(failure).
QUANTILES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.85, 1.0)


def train_rule(
    labels: Labels,
    split: Mapping[str, Sequence[str]],
    charges: Mapping[str, tuple[int, ...]],
    config: HelperConfig,
    judge: Callable[[], Judge],
) -> Helper:
    """The rule `config.form` with the help type that does best where it decides in the training tasks, by the judge.

    The judge learns from all labels, also those of test tasks.

    Raises
    ------
    ValueError
        The rule needs a PRM, and these tasks do not allow to train one.
    """
    limits = tuple(int(top) for top in labels.budgets.max(axis=0))
    parts = {name: list(tasks) for name, tasks in split.items()}
    known = [*parts["train"], *parts["validation"]]
    prm = _train_prm(labels, known, config) if config.form == "prm" else None
    settings, helpers = {"horizon": _horizon(labels, parts["train"])}, list[Helper]()
    for help, cost in charges.items():
        rule = RULES[config.form](labels.actions, limits, help, cost, settings)
        helper = Helper(rule, labels.actions, dict(charges), limits, config.history, {}, parts)
        helpers.append(helper if prm is None else _with_thresholds(helper, prm, labels, labels.prices(config.price)))
    if len(helpers) == 1:
        return helpers[0]
    found = [judge().forecast([replace(one, split={"test": known})]) for one in helpers]
    return helpers[int(np.argmax([one.success - one.paid for one in found]))]


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
