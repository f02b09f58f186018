"""Episodes of one decision: regressions of success with each type of help and without, and what happened to each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from selfreg._util.threads import single_thread
from selfreg.data import NOHELP, Trajectory
from selfreg.helper.config import HelperConfig
from selfreg.helper.helper import Helper, normalize_odds
from selfreg.helper.labels import Labels
from selfreg.helper.models.gain import GainDecider
from selfreg.helper.models.transformer import deduplicate
from selfreg.helper.reasons import mask_affordable
from selfreg.helper.thresholds import choose_thresholds, request_chance
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
    distinct = list(dict.fromkeys(texts))
    model = GainDecider.build(labels.actions, limits, distinct, config)
    assert isinstance(model, GainDecider)  # `build` is that of `TfidfDecider`
    features, place = model.features(distinct), {text: i for i, text in enumerate(distinct)}
    fitted = [_fit(features, place, [part[action] for part in cases.values()], action) for action in labels.actions]
    prices = labels.prices(config.price)
    weights, intercept, strengths = (np.array(part) for part in zip(*fitted, strict=True))
    model.set_outcomes(weights, intercept, strengths, prices)
    figures = {"epochs": 0.0, "train_examples": float(len(texts))}
    parts = {"train": [*split["train"], *split["validation"]], "validation": [], "test": list(split["test"])}
    return Helper(model, labels.actions, dict(charges), limits, config.history, figures, parts)


def leave_out_chances(helper: Helper, labels: Labels, points: NDArray[np.int64]) -> HeldOutTexts | None:
    """P(action) of a helper of the form "gain" in the tasks that it learnt from, each as learnt from the others.

    None where the helper was saved without its penalties. `points` are the budgets, (points, m).
    """
    model = helper.classifier
    assert isinstance(model, GainDecider)
    rows, outcomes = _known_outcomes(labels, set(helper.split["train"]))
    every = list(zip(labels.tasks, labels.texts(helper.history), strict=True))
    queries, column = deduplicate([every[i] for i in rows])
    texts, text = deduplicate([text for _, text in queries])
    if not texts or not model.strengths.any():
        return None
    counts, won = np.zeros((2, len(queries), len(helper.actions)))
    place = column, labels.logged_action[rows]
    np.add.at(counts, place, 1.0)
    np.add.at(won, place, outcomes)
    with single_thread():
        success = model.leave_out(texts, np.asarray(text), counts, won / np.maximum(counts, 1.0))
    logits = np.repeat(model.success_logits(success), len(points), axis=0)
    payable = mask_affordable(helper.actions, helper.costs, np.tile(points, (len(queries), 1)))
    chances = normalize_odds(logits, payable).reshape(len(queries), len(points), len(helper.actions))
    return HeldOutTexts(rows, np.asarray(column), chances)


def _by_action(labels: Labels, tasks: set[str], history: int) -> dict[str, Examples]:
    """Texts and outcomes of some tasks, by what was done."""
    rows, outcomes = _known_outcomes(labels, tasks)
    every, actions, found = labels.texts(history), labels.logged_action[rows], {}
    for a, name in enumerate(labels.actions):
        mine = rows[actions == a]
        found[name] = Examples([every[i] for i in mine], outcomes[actions == a, None], np.ones(len(mine)))
    return found


def _known_outcomes(labels: Labels, tasks: set[str]) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Labelled steps of some tasks with a known action in an episode with an outcome, and these outcomes."""
    outcomes = np.array([np.nan if one.outcome is None else one.outcome for one in _episodes(labels)])
    inside = np.array([task in tasks for task in labels.tasks])
    rows = np.flatnonzero(inside & (labels.logged_action >= 0) & ~np.isnan(outcomes))
    return rows, outcomes[rows]


def _episodes(labels: Labels) -> list[Trajectory]:
    """Of every labelled step."""
    return [labels.trajectories[int(e)] for e in labels.episode]


def _fit(
    rows: Any, place: Mapping[str, int], parts: Sequence[Examples], action: str
) -> tuple[NDArray[np.float64], float, float]:
    """Weights and intercept of P(success) with one action, and the inverse strength of the penalty, 0 without one.

    `rows` are the features of all texts, and `place` is the row of each; `parts` are for training and for validation.
    The penalty is chosen on validation tasks; then both parts are learnt, as outcomes are noisy and tables small.
    """
    texts, outcomes = [text for one in parts for text in one.texts], np.concatenate([one.targets for one in parts])
    if not texts:
        how = "without help" if action == NOHELP else f"with {action!r}"
        raise ValueError(f"no training episode {how} has an outcome: there is no difference to learn")
    features, cut = rows[[place[text] for text in texts]], len(parts[0].texts)
    if not np.ptp(outcomes):
        rate = (outcomes.sum() + 0.5) / (len(texts) + 1.0)
        return np.zeros(features.shape[1]), float(np.log(rate / (1.0 - rate))), 0.0
    both, train, checked = Examples(texts, outcomes, np.ones(len(texts))), *parts
    if not np.ptp(train.targets if cut else outcomes) or cut in (0, len(texts)):
        return fit_logistic(features, both, features, both, (DEFAULT_STRENGTH,))
    strength = fit_logistic(features[:cut], train, features[cut:], checked)[2]
    return fit_logistic(features, both, features, both, (strength,))


class HeldOutTexts(NamedTuple):
    """Labelled steps of some tasks, and P(action) by models that did not learn from them.

    Attributes
    ----------
    rows, column : int64 (n,)
        The steps, and the row of the text of each in `chances`.
    chances : float64 (texts, points, actions)
    """

    rows: NDArray[np.int64]
    column: NDArray[np.int64]
    chances: NDArray[np.float64]


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
    usage : float or None
        Mean number of units at which helpers are compared, at the largest budget.
    queries : list of Trajectory
        One episode of each such query.
    outcomes : float64 (queries, actions)
        Mean outcome of each action.
    """

    labels: Labels
    prices: NDArray[np.float64]
    usage: float | None
    queries: list[Trajectory]
    outcomes: NDArray[np.float64]

    @classmethod
    def of(cls, labels: Labels, prices: NDArray[np.float64], usage: float | None = None) -> QueryJudge | None:
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
        return cls(labels, prices, usage, [first[i] for i in complete], total[complete] / count[complete])

    def forecast(self, helpers: Sequence[Helper]) -> Forecast:
        """Of helpers, each in the test tasks of its split; ValueError where these have no such query."""
        points = self.labels.budgets[self.labels.budgets.any(axis=1)]
        found = list[_Queries]()
        for helper in helpers:
            held_out = set(helper.split["test"])
            rows = [i for i, one in enumerate(self.queries) if one.task in held_out]
            texts = [helper.classifier.read(self.queries[i].steps, helper.history) for i in rows]
            for point in points[-1:] if self.usage is not None else points:
                if rows:
                    found.append(self._decide(helper, texts, point, self.outcomes[rows]))
        if not found:
            raise ValueError("no held-out query was decided in every way")
        sizes = [len(one.request) for one in found]
        return Forecast(*np.average([one.forecast(self.prices) for one in found], axis=0, weights=sizes).tolist())

    def _decide(
        self, helper: Helper, texts: Sequence[str], point: NDArray[np.int64], outcomes: NDArray[np.float64]
    ) -> _Queries:
        charged = np.array([0.0, *(sum(helper.costs[name]) for name in helper.actions[1:])])
        budgets = np.tile(point, (len(texts), 1))
        if self.usage is None:
            chosen = helper.choices(texts, budgets)
            return _Queries((chosen > 0).astype(np.float64), chosen, outcomes, charged)
        chances = helper.request_probabilities(texts, budgets)[:, 1:]
        queries = _Queries(chances.sum(axis=1), chances.argmax(axis=1) + 1, outcomes, charged)
        low, high, share, _ = choose_thresholds(queries.request, queries.usage, self.usage)
        return queries._replace(request=request_chance(queries.request, low, high, share))


class _Queries(NamedTuple):
    """Held-out queries: P(request), the action that is requested, outcomes and units of each action."""

    request: NDArray[np.float64]
    wanted: NDArray[np.int64]
    outcomes: NDArray[np.float64]
    charged: NDArray[np.float64]

    def usage(self, low: float, high: float, share: float) -> float:
        """Mean units used at these thresholds."""
        return float((request_chance(self.request, low, high, share) * self.charged[self.wanted]).mean())

    def forecast(self, prices: NDArray[np.float64]) -> Forecast:
        """Means where `request` is the chance of each request."""
        gained = self.outcomes[np.arange(len(self.wanted)), self.wanted] - self.outcomes[:, 0]
        every = (gained, self.charged[self.wanted], prices[self.wanted])
        success, units, paid = (float((self.request * one).mean()) for one in every)
        return Forecast(float(self.outcomes[:, 0].mean()) + success, units, paid)
