"""A mean number of requests for a helper: it decides at random between two thresholds on P(request)."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from selfreg._util import validate
from selfreg._util.files import atomic_folder
from selfreg.data import NOHELP, Step
from selfreg.decisions import BudgetLeft, Decision
from selfreg.helper.helper import Helper
from selfreg.helper.labels import Labels, points_after
from selfreg.helper.model_rollout import check_labels, first_states
from selfreg.helper.models.gain import GainDecider
from selfreg.helper.models.transformer import deduplicate
from selfreg.helper.one_step import HeldOutTexts, leave_out_chances
from selfreg.helper.thresholds import choose_thresholds, request_chance
from selfreg.mdp import InterventionMDP
from selfreg.prm.prm import PRM
from selfreg.prm.transformer import RECORD

Floats = NDArray[np.float64]

# File of a helper's folder with the thresholds.
RATION = "ration.json"
# What is taken off every transition, so that episodes without an end have finite usage.
LEAK = 1e-9
# Logged episodes that are replayed, at most.
REPLAYED = 2_000


@dataclass
class RationedHelper:
    """Requests help where the helper's P(request) is above `high`, with chance `share` where it is above `low` only.

    A `DecisionPolicy`. All chance comes from the task and the seed that `start` gets: the same ones decide the same,
    and a `Recorder`, which gives each step a seed of its own, stores each decision once. Create with `ration`.

    Attributes
    ----------
    helper : Helper
    low, high : float
    share : float
    requests : float
        Forecast of the units used by an episode.
    """

    helper: Helper
    low: float
    high: float
    share: float
    requests: float
    name: ClassVar[str] = "helper"
    _random: random.Random = field(default_factory=lambda: random.Random(0), repr=False, compare=False)

    @property
    def costs(self) -> dict[str, tuple[int, ...]]:
        """Of each help type, in units of each budget."""
        return self.helper.costs

    @property
    def limits(self) -> tuple[int, ...]:
        """Largest budgets of the helper's training."""
        return self.helper.limits

    @property
    def history(self) -> int:
        """Earlier steps that `decide` shows to the classifier."""
        return self.helper.history

    def without_memory(self) -> RationedHelper:
        """The same without the logged states of the helper."""
        return replace(self, helper=self.helper.without_memory())

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the helper's folder with the thresholds, atomically; errors as of `Helper.save`."""
        values = {"low": self.low, "high": self.high, "share": self.share, "requests": self.requests}
        with atomic_folder(folder, RECORD, overwrite=True) as new:
            self.helper.write_into(new)
            (new / RATION).write_text(json.dumps(values), encoding="utf-8")

    def start(self, task: str, seed: int) -> None:
        """Begin an episode, or a step, whose chance comes from `task` and `seed`.

        With one seed for all tasks, as in a forecast, the first draws of the tasks differ.
        """
        self._random = random.Random(f"{seed} {task}")

    def decide(self, steps: Sequence[Step | str], budget_left: BudgetLeft) -> Decision:
        """As the helper's `decide`, with the thresholds; draws once."""
        decision, draw = self.helper.decide(steps, budget_left), self._random.random()
        chances = self.action_probabilities(steps, budget_left)
        wanted = next((name for name in chances if name != NOHELP), NOHELP)
        action = wanted if draw < 1.0 - chances[NOHELP] else NOHELP
        reason = f"{action}: with chance {1.0 - chances[NOHELP]:.2f}, for {self.requests:.2f} units on average"
        return replace(decision, action=action, reason=f"{reason}. The helper: {decision.reason}")

    def action_probabilities(self, steps: Sequence[Step | str], budget_left: BudgetLeft) -> Mapping[str, float]:
        """P(action) by name: of "nohelp", and of the help type that the helper prefers, if it may be requested."""
        probability = self.helper.action_chances(steps, budget_left)
        request = float(probability[1:].sum())
        chance = 1.0 if request > self.high else self.share if request > self.low else 0.0
        if not chance:
            return {NOHELP: 1.0}
        return {NOHELP: 1.0 - chance, self.helper.actions[1 + int(probability[1:].argmax())]: chance}


def load_policy(folder: str | os.PathLike[str], prm: PRM | None = None) -> Helper | RationedHelper:
    """What was saved in a folder: a helper, with its mean number of requests if it has one.

    Raises
    ------
    ValueError
        `folder` is not a saved helper, or is damaged.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> import numpy as np
    >>> from selfreg.helper import HelperConfig, HelperExamples, RationedHelper, load_policy, train_helper
    >>> examples = HelperExamples(
    ...     texts=["red light", "green light"] * 10,
    ...     budgets=np.ones((20, 1), dtype=np.int64),
    ...     decisions=np.array([1, 0] * 10),
    ...     weights=np.ones(20),
    ...     tasks=[f"task {i // 2}" for i in range(20)],
    ...     actions=("nohelp", "help"),
    ... )
    >>> helper = train_helper(examples, HelperConfig(form="tfidf"))
    >>> with TemporaryDirectory() as folder:
    ...     RationedHelper(helper, low=0.0, high=1.0, share=0.3, requests=0.3).save(f"{folder}/helper")
    ...     load_policy(f"{folder}/helper").action_probabilities(["red light"], (1,))
    {'nohelp': 0.7, 'help': 0.3}
    """
    helper, file = Helper.load(folder, prm), Path(folder) / RATION
    if not file.is_file():
        return helper
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        low, high, share, requests = (float(values[name]) for name in ("low", "high", "share", "requests"))
        return RationedHelper(helper, low, high, share, requests)
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{str(folder)!r} is damaged: {RATION}: {error}") from None


def ration(
    helper: Helper, labels: Labels, requests: float, budget: int | Sequence[int] | None = None
) -> RationedHelper:
    """The helper at a mean number of requests: forecast usage is `requests`, and the hard budget holds.

    The forecast is made in the filled model (`Labels.filled`), from the first states of the helper's validation and
    test tasks, with `budget`. With a history the texts of one episode are alike, so that its requests cluster and the
    budget runs out sooner: the forecast is corrected by a replay of the logged episodes of these tasks. With the form
    "gain" the tasks that it learnt from count too: each as learnt from others.
    The forecast holds in new tasks as far as these are like them: for a share of queries, by about half a unit over the
    square root of the number of tasks that count. Where the helper uses less than `requests` even if it requests help
    wherever it can, it does so.

    Parameters
    ----------
    helper : Helper
    labels : Labels
        Of logs with these tasks, for budgets up to the helper's limits or larger.
    requests : float
        Mean of the units of all budgets that an episode uses; may be fractional.
    budget : int or sequence of int, optional
        With which episodes begin; by default the helper's limits.

    Raises
    ------
    ValueError
        `requests` is negative or not finite; `budget` is above the helper's limits; the labels do not fit the helper.

    Examples
    --------
    >>> import selfreg
    >>> from selfreg.data import Step, Trajectory
    >>> from selfreg.estimate import Features, estimate_mdp
    >>> from selfreg.helper import HelperConfig, label, ration, train_helper
    >>> rows = [("red", None, 0.0), ("red", "help", 1.0), ("green", None, 1.0), ("green", "help", 0.0)]
    >>> logs = [
    ...     Trajectory(f"task {i}", f"{i}/{k}", won, (Step(f"{light} light", intervention=who),))
    ...     for i in range(12)
    ...     for k, (light, who, won) in enumerate(rows)
    ... ]
    >>> model = estimate_mdp(logs, Features(["class"], {"red": "red", "green": "green"}))
    >>> labels = label(logs, model, selfreg.solve(model.mdp, 1))
    >>> policy = ration(train_helper(labels, HelperConfig(form="tfidf")), labels, 0.3)
    >>> round(policy.requests, 3), round(policy.action_probabilities(["red light"], (1,))["help"], 3)
    (0.3, 0.6)
    >>> policy.action_probabilities(["green light"], (1,))
    {'nohelp': 1.0}
    """
    wanted = validate.nonneg_float("requests", requests)
    top = helper.limits if budget is None else tuple(np.atleast_1d(budget).tolist())
    if len(top) != len(helper.limits) or any(not 0 <= b <= most for b, most in zip(top, helper.limits, strict=True)):
        raise ValueError(f"budget is {budget}; expected at most {helper.limits}")
    check_labels(helper, labels)
    parts = [_read_tasks(helper, labels, "validation", "test")]
    if isinstance(helper.classifier, GainDecider):
        learnt = leave_out_chances(helper, labels, np.minimum(labels.budgets, helper.limits))
        parts += [learnt] if learnt is not None else []
    return RationedHelper(helper, *_HeldOut.of(parts, labels, top).choose_thresholds(wanted))


def forecast_at_usage(helper: Helper, labels: Labels, requests: float, prices: Floats) -> tuple[float, float, float]:
    """Success, usage and price of its requests of the helper in its test tasks, by the filled model.

    Its thresholds are those with which it uses `requests` in these tasks; see `ration`. `prices` are as of
    `Labels.prices`.
    """
    check_labels(helper, labels)
    held_out = _HeldOut.of([_read_tasks(helper, labels, "test")], labels, helper.limits)
    low, high, share, used = held_out.choose_thresholds(requests)
    return held_out.success(low, high, share), used, held_out.paid(low, high, share, prices)


class _HeldOut(NamedTuple):
    """Texts of held-out tasks with the helper's P(request), and the states that they are of.

    Attributes
    ----------
    mdp : InterventionMDP
    budgets : int64 (points, m)
        Of the labels.
    start : float64 (n_states,)
    place : int
        Point of the budget with which episodes begin.
    request : float64 (texts, points)
    wanted : int64 (texts, points)
        Index of the help type that would be requested.
    of_state : sparse (n_states, texts)
        Share of each text in the visits of a state.
    episodes : _Episodes, optional
        Where a state has several texts.
    """

    mdp: InterventionMDP
    budgets: NDArray[np.int64]
    start: Floats
    place: int
    request: Floats
    wanted: NDArray[np.int64]
    of_state: sp.csr_array
    episodes: _Episodes | None

    @classmethod
    def of(cls, parts: Sequence[HeldOutTexts], labels: Labels, top: tuple[int, ...]) -> _HeldOut:
        """Tasks of some parts; ValueError where they have none."""
        rows = np.concatenate([one.rows for one in parts])
        start = first_states(labels, np.unique(np.array(labels.tasks, dtype=object)[rows]).tolist())
        if start is None:
            raise ValueError("the labels have no held-out task of the helper")
        before = np.cumsum([0, *(len(one.chances) for one in parts)])
        column = np.concatenate([one.column + first for one, first in zip(parts, before, strict=False)])
        help_types = np.concatenate([one.chances for one in parts])[:, :, 1:]
        of_state = _share_texts(labels.state[rows], column, labels.model.mdp.n_states, len(help_types))
        place = int(np.flatnonzero((labels.budgets == top).all(axis=1))[0])
        several = labels.step[rows].any() and np.diff(of_state.indptr).max() > 1
        episodes = _Episodes.of(labels, rows, column) if several else None
        request, wanted = help_types.sum(axis=2), help_types.argmax(axis=2) + 1
        return cls(labels.filled, labels.budgets, start, place, request, wanted, of_state, episodes)

    def choose_thresholds(self, wanted: float) -> tuple[float, float, float, float]:
        """Those that use `wanted`, and what they use."""
        return choose_thresholds(self.request, self.usage, wanted)

    def usage(self, low: float, high: float, share: float) -> float:
        """Units used from the start."""
        return self.paid(low, high, share, self.mdp.cost_table.sum(axis=1))

    def paid(self, low: float, high: float, share: float, prices: Floats) -> float:
        """Price of the requests from the start, at these prices of the actions."""
        paid = self._evaluate(low, high, share, np.zeros(self.mdp.n_states), prices)
        return paid * self._compare_with_states(request_chance(self.request, low, high, share))

    def _compare_with_states(self, chance: Floats) -> float:
        if self.episodes is None:
            return 1.0
        chance, wanted = chance[self.episodes.column, :, None], self.wanted[self.episodes.column, :, None]
        asked = chance * (wanted == np.arange(1, len(self.mdp.actions)))
        return self.episodes.compare(asked, self.budgets, self.mdp.cost_table[1:], self.place)

    def success(self, low: float, high: float, share: float) -> float:
        """P(success) from the start; as usage, what help adds is that of the requests that the budget pays for."""
        ended, free = np.where(self.mdp.terminal, self.mdp.terminal_value, 0.0), np.zeros(len(self.mdp.actions))
        alone, helped = (self._evaluate(*one, ended, free) for one in ((1.0, 1.0, 0.0), (low, high, share)))
        return alone + (helped - alone) * self._compare_with_states(request_chance(self.request, low, high, share))

    def _evaluate(self, low: float, high: float, share: float, ended: Floats, charges: Floats) -> float:
        """Expected value from the start: `ended` where an episode ends, and `charges` for each request.

        U(s, b) = sum_a P(a) (charge_a + sum_j P_a[s, j] U(j, b - c_a)), budget by budget.
        """
        from scipy.sparse.linalg import spsolve  # slow to import

        chance = request_chance(self.request, low, high, share)
        mdp, shape = self.mdp, tuple(self.budgets.max(axis=0) + 1)
        value = np.zeros((mdp.n_states, len(self.budgets)))
        for p, left in enumerate(self.budgets):
            if (left > self.budgets[self.place]).any():
                continue
            alone, known = np.ones(mdp.n_states), ended.copy()
            here = sp.csr_array((mdp.n_states, mdp.n_states))
            for a, name in enumerate(mdp.actions):
                cost = mdp.cost_table[a]
                if not a or (cost > left).any():
                    continue
                asked = self.of_state @ (chance[:, p] * (self.wanted[:, p] == a))
                alone, moved = alone - asked, sp.diags_array(asked) @ mdp.transitions[name]
                if cost.any():
                    after = value[:, np.ravel_multi_index(tuple(left - cost), shape)]
                    known += charges[a] * asked + moved @ after
                else:
                    here = here + moved
            here = here + sp.diags_array(alone) @ mdp.transitions[NOHELP]
            value[:, p] = spsolve(sp.csc_array(sp.eye_array(mdp.n_states) - (1.0 - LEAK) * here), known)
        return float(self.start @ value[:, self.place])


class _Episodes(NamedTuple):
    """Logged episodes, decision by decision.

    Attributes
    ----------
    column : int64 (k,)
        Columns of their texts.
    text, state : int64 (decisions, episodes)
        Of each decision: a place in `column`, and a state of the model; -1 after the end.
    of_state : sparse (states, k)
        Share of each text in the decisions of a state.
    """

    column: NDArray[np.int64]
    text: NDArray[np.int64]
    state: NDArray[np.int64]
    of_state: sp.csr_array

    @classmethod
    def of(cls, labels: Labels, rows: NDArray[np.int64], column: NDArray[np.int64]) -> _Episodes:
        """At most `REPLAYED` episodes of some labelled steps, whose texts have these columns."""
        episodes = np.unique(labels.episode[rows])
        chosen = episodes[np.linspace(0, len(episodes) - 1, min(len(episodes), REPLAYED)).astype(int)]
        inside = np.isin(labels.episode[rows], chosen)
        rows, (columns, text) = rows[inside], np.unique(column[inside], return_inverse=True)
        decisions, states = int(labels.step[rows].max()) + 1, labels.state[rows]
        texts_at, states_at = np.full((2, decisions, len(chosen)), -1)
        place = labels.step[rows], np.searchsorted(chosen, labels.episode[rows])
        texts_at[place], states_at[place] = text, states
        return cls(columns, texts_at, states_at, _share_texts(states, text, int(states.max()) + 1, len(columns)))

    def compare(self, asked: Floats, budgets: NDArray[np.int64], costs: NDArray[np.int64], start: int) -> float:
        """Units used if help changed nothing, over those where each state has the mean P(request) of its texts here.

        `asked` is P(request) in the texts of `column`, (k, points, help types); `costs` are (help types, m); `start` is
        a point.
        """
        mean = np.stack([self.of_state @ one for one in np.moveaxis(asked, 2, 0)], axis=2)
        used, of_means = (
            _replay(place, one, budgets, costs, start) for place, one in ((self.text, asked), (self.state, mean))
        )
        return used / of_means if of_means else 1.0


def _replay(
    place: NDArray[np.int64], asked: Floats, budgets: NDArray[np.int64], costs: NDArray[np.int64], start: int
) -> float:
    """Units used in all logged episodes; `place` (decisions, episodes) are rows of `asked`."""
    units, after = costs.sum(axis=1), points_after(budgets, costs)
    payable = (after >= 0).T
    asked = np.concatenate([asked * payable, np.zeros((1, *asked.shape[1:]))])  # at place -1 nothing is requested
    left, used = np.zeros((place.shape[1], len(budgets))), 0.0
    left[:, start] = 1.0
    for now in place:
        moved = left[:, :, None] * asked[now]
        used += float((moved.sum(axis=(0, 1)) * units).sum())
        left = left - moved.sum(axis=2)
        for a, target in enumerate(after):
            left[:, target[payable[:, a]]] += moved[:, payable[:, a], a]
    return used


def _share_texts(state: NDArray[np.int64], text: NDArray[np.int64], n_states: int, n_texts: int) -> sp.csr_array:
    """Share of each text in the visits of each state, (n_states, n_texts)."""
    visits = sp.csr_array((np.ones(len(state)), (state, text)), shape=(n_states, n_texts))
    return sp.csr_array(sp.diags_array(1.0 / np.maximum(visits.sum(axis=1), 1.0)) @ visits)


def _read_tasks(helper: Helper, labels: Labels, *parts: str) -> HeldOutTexts:
    """Some parts of the helper's tasks."""
    tasks = [task for part in parts for task in helper.split.get(part, [])]
    rows = np.flatnonzero(np.isin(labels.tasks, tasks))
    every = labels.texts(helper.history, helper.classifier.read)
    texts, column = deduplicate([every[i] for i in rows])
    points = np.minimum(labels.budgets, helper.limits)
    chances = helper.request_probabilities(
        np.repeat(np.array(texts, dtype=object), len(points)).tolist(), np.tile(points, (len(texts), 1))
    )
    return HeldOutTexts(rows, np.asarray(column), chances.reshape(len(texts), len(points), len(helper.actions)))
