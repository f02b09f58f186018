"""Episodes of one decision: regressions of success with each type of help and without, and what happened to each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from selfreg.data import NOHELP, Trajectory
from selfreg.helper.config import HelperConfig
from selfreg.helper.helper import Helper
from selfreg.helper.labels import Labels
from selfreg.helper.models.gain import GainDecider
from selfreg.prm.linear import fit_logistic
from selfreg.prm.transformer import Examples

Parts = Mapping[str, Sequence[str]]
# Outcomes are compared query by query where at least this share of the queries was decided in every way.
COMPLETE = 0.5
# Inverse strength of the ridge penalty where there are no validation tasks to choose it on.
DEFAULT_STRENGTH = 1.0


def train_gain(labels: Labels, split: Parts, charges: Mapping[str, tuple[int, ...]], config: HelperConfig) -> Helper:
    """Learn P(success) with each type of help and without, from the outcomes of training and validation tasks.

    Raises
    ------
    ValueError
        An episode has more than one decision, or an action has no outcomes in training tasks.
    """
    longer = sum(len(one.steps) > 1 for one in labels.trajectories)
    if longer:
        raise ValueError(
            f"form {config.form!r} is for episodes of one decision; {longer} of {len(labels.trajectories)} have more"
        )
    limits = tuple(int(top) for top in labels.budgets.max(axis=0))
    cases = {name: _by_action(labels, set(split[name]), config.history) for name in ("train", "validation")}
    texts = [text for part in cases.values() for examples in part.values() for text in examples.texts]
    model = GainDecider.build(labels.actions, limits, list(dict.fromkeys(texts)), config)
    assert isinstance(model, GainDecider)  # `build` is that of `TfidfDecider`
    fitted = [_fit(model, cases, action) for action in labels.actions]
    prices = labels.prices(config.price)
    model.set_outcomes(np.array([w for w, _ in fitted]), np.array([b for _, b in fitted]), prices)
    figures = {"epochs": 0.0, "train_examples": float(len(texts))}
    parts = {"train": [*split["train"], *split["validation"]], "validation": [], "test": list(split["test"])}
    return Helper(model, labels.actions, dict(charges), limits, config.history, figures, parts)


def _by_action(labels: Labels, tasks: set[str], history: int) -> dict[str, Examples]:
    """Texts and outcomes of some tasks, by what was done."""
    rows = [
        (text, action, trajectory.outcome)
        for text, action, trajectory in zip(labels.texts(history), labels.logged_action, _episodes(labels), strict=True)
        if trajectory.task in tasks and trajectory.outcome is not None and action >= 0
    ]
    found = {}
    for a, name in enumerate(labels.actions):
        texts = [text for text, action, _ in rows if action == a]
        outcomes = np.array([[outcome] for _, action, outcome in rows if action == a]).reshape(-1, 1)
        found[name] = Examples(texts, outcomes, np.ones(len(texts)))
    return found


def _episodes(labels: Labels) -> list[Trajectory]:
    """Of every labelled step."""
    return [labels.trajectories[int(e)] for e in labels.episode]


def _fit(model: GainDecider, cases: dict[str, dict[str, Examples]], action: str) -> tuple[NDArray[np.float64], float]:
    """Weights and intercept of P(success) with one action.

    The penalty is chosen on validation tasks; then both parts are learnt, as outcomes are noisy and tables small.
    """
    parts = [cases[name][action] for name in ("train", "validation")]
    texts, outcomes = [text for one in parts for text in one.texts], np.concatenate([one.targets for one in parts])
    if not texts:
        how = "without help" if action == NOHELP else f"with {action!r}"
        raise ValueError(f"no training episode {how} has an outcome: there is no difference to learn")
    features, cut = model.features(texts), len(parts[0].texts)
    if not np.ptp(outcomes):
        rate = (outcomes.sum() + 0.5) / (len(texts) + 1.0)
        return np.zeros(features.shape[1]), float(np.log(rate / (1.0 - rate)))
    both, train, checked = Examples(texts, outcomes, np.ones(len(texts))), *parts
    if not np.ptp(train.targets if cut else outcomes) or cut in (0, len(texts)):
        return fit_logistic(features, both, features, both, (DEFAULT_STRENGTH,))[:2]
    strength = fit_logistic(features[:cut], train, features[cut:], checked)[2]
    return fit_logistic(features, both, features, both, (strength,))[:2]


class Forecast(NamedTuple):
    """Means over the budgets above 0: P(success), units used of all budgets, and what the requests cost, in success."""

    success: float
    requests: float
    paid: float


class QueryJudge(NamedTuple):
    """Judges helpers by the outcomes of held-out queries that were decided in every way: no model is needed.

    Attributes
    ----------
    labels : Labels
    prices : float64 (actions,)
        As of `Labels.prices`.
    queries : list of Trajectory
        One episode of each such query.
    outcomes : float64 (queries, actions)
        Mean outcome of each action.
    """

    labels: Labels
    prices: NDArray[np.float64]
    queries: list[Trajectory]
    outcomes: NDArray[np.float64]

    @classmethod
    def of(cls, labels: Labels, prices: NDArray[np.float64]) -> QueryJudge | None:
        """None where episodes have several decisions, or too few queries were decided in every way."""
        if any(len(one.steps) > 1 for one in labels.trajectories):
            return None
        place: dict[tuple[str, str], int] = {}
        total, count = np.zeros((2, len(labels.step), len(labels.actions)))
        first = list[Trajectory]()
        for trajectory, action in zip(_episodes(labels), labels.logged_action, strict=True):
            if trajectory.outcome is None or action < 0:
                continue
            row = place.setdefault((trajectory.task, trajectory.steps[0].state), len(place))
            first += [trajectory] if row == len(first) else []
            total[row, action] += trajectory.outcome
            count[row, action] += 1.0
        complete = np.flatnonzero((count[: len(place)] > 0).all(axis=1))
        if not len(complete) or len(complete) < COMPLETE * len(place):
            return None
        return cls(labels, prices, [first[i] for i in complete], total[complete] / count[complete])

    def forecast(self, helpers: Sequence[Helper]) -> Forecast:
        """Of helpers, each in the test tasks of its split; ValueError where these have no such query."""
        points = self.labels.budgets[self.labels.budgets.any(axis=1)]
        success, units, paid = (list[NDArray[np.float64]]() for _ in range(3))
        for helper in helpers:
            charged = np.array([0.0, *(sum(helper.costs[name]) for name in helper.actions[1:])])
            held_out = set(helper.split["test"])
            rows = [i for i, one in enumerate(self.queries) if one.task in held_out]
            texts = [helper.classifier.read(self.queries[i].steps, helper.history) for i in rows]
            for point in points if rows else ():
                chosen = helper.choices(texts, np.tile(point, (len(texts), 1)))
                success.append(self.outcomes[rows, chosen])
                units.append(charged[chosen])
                paid.append(self.prices[chosen])
        if not success:
            raise ValueError("no held-out query was decided in every way")
        return Forecast(*(float(np.concatenate(one).mean()) for one in (success, units, paid)))
