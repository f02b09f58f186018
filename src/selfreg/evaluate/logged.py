"""A policy on the steps of a log: what it would do there, importance weights, models."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from selfreg._util import validate
from selfreg.data import NOHELP, Trajectory
from selfreg.decisions import DecisionPolicy, action_probabilities, start_episode
from selfreg.estimate import Key, StateAbstraction
from selfreg.estimate.dataset import Fitted, ResamplingDataset
from selfreg.evaluate.log_weights import MOST_LOG_WEIGHT, Overlap, Table, finite, log_of, scale_weights
from selfreg.planning._chains import solve_transient
from selfreg.runtime import logged_requests

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]
# P(the action that was logged at a step), in (0, 1].
Propensity: TypeAlias = Callable[[Trajectory, int], float]

FOLDS = 5


class Steps(NamedTuple):
    """Logged steps, episode by episode."""

    episode: Indices
    time: Indices
    state: Indices
    action: Indices
    left: Indices  # lattice point
    charge: Floats
    target: Floats  # (steps, actions) P(action) under the policy
    chosen: Floats  # P(all that was decided in the step) under the policy


def _as_requested(episodes: Sequence[Trajectory]) -> list[Trajectory]:
    """Steps with what was requested in them, also where its help failed and the agent went on alone."""
    charges = {step.intervention: step.charge for one in episodes for step in one.steps if step.intervention}
    found = []
    for one in episodes:
        steps = list(one.steps)
        for t, step in enumerate(steps):
            last = logged_requests(one, t)[-1]
            if last != (step.intervention or NOHELP):
                steps[t] = msgspec.structs.replace(step, intervention=last, cost=charges.get(last))
        found.append(msgspec.structs.replace(one, steps=tuple(steps)))
    return found


class Corrected(NamedTuple):
    """Values of a model at the starts of episodes, and its errors along the log; success and usage in front."""

    start: Floats  # (2, episodes)
    error: Floats  # (2, steps)


class Logged:
    """A log with, for every step, its state, the budget left, and the policy's P(action)."""

    def __init__(
        self,
        episodes: Sequence[Trajectory],
        policy: DecisionPolicy,
        budget: int | None,
        abstraction: StateAbstraction,
        costs: Mapping[str, int] | None,
    ) -> None:
        self.episodes, self.policy, self.budget, self.abstraction = episodes, policy, budget, abstraction
        self.requested = _as_requested(episodes)
        self.study = ResamplingDataset(self.requested, abstraction, 0.0, None, costs, borrow_help=True, shrink=False)
        study, self.actions = self.study, self.study.moves.actions
        self.cost = {name: _one_cost(name, study.costs) for name in self.actions[1:]}
        self.lattice = [None] if budget is None else list(range(budget + 1))
        self.index: dict[Key, int] = {key: i for i, key in enumerate(study.moves.keys)}
        self.task = study.moves.start_task
        self.outcome = np.array([float(t.outcome or 0.0) for t in episodes])
        self.table = np.zeros((len(self.index), len(self.lattice), len(self.actions)))
        self.steps = self._steps()
        totals = self.table.sum(axis=2, keepdims=True)
        self.table = np.divide(self.table, totals, out=np.zeros_like(self.table), where=totals > 0)
        self.first = np.flatnonzero(self.steps.time == 0)
        self.final = np.append(self.first[1:], len(self.steps.time)) - 1

    def _steps(self) -> Steps:
        columns: list[tuple[int, int, int, int, int, int]] = []
        target: list[Floats] = []
        chosen: list[float] = []
        for i, trajectory in enumerate(self.episodes):
            start_episode(self.policy, trajectory.task, 0, trajectory.fields)
            spent = 0
            for t, step in enumerate(trajectory.steps):
                state = self.index[self.abstraction.encode(self.requested[i], t)]
                # An episode that spent more than the budget has left the policy before.
                left = 0 if self.budget is None else max(self.budget - spent, 0)
                rows = [self._decision(trajectory, t, point) for point in self.lattice]
                self.table[state] += rows
                target.append(rows[left])
                decided = [self.actions.index(name) for name in logged_requests(trajectory, t)]
                chosen.append(rows[left][decided].prod())
                charge = 0 if step.intervention is None else self.cost[step.intervention]
                columns.append((i, t, state, decided[-1], left, charge))
                spent += charge
        table = np.array(columns, dtype=np.intp)
        episode, time, where, action, left = table[:, :5].T
        charges = table[:, 5].astype(np.float64)
        return Steps(episode, time, where, action, left, charges, np.stack(target), np.array(chosen))

    def _decision(self, trajectory: Trajectory, t: int, left: int | None) -> Floats:
        """P(action) under the policy at a logged step, with so much budget left."""
        result = np.zeros(len(self.actions))
        budget_left = None if left is None else (left,)
        for name, chance in action_probabilities(self.policy, trajectory.steps[: t + 1], budget_left).items():
            if name not in self.actions:
                raise ValueError(f"the policy requests {name!r}, which no step of these logs used")
            payable = name == NOHELP or left is None or self.cost[name] <= left
            result[self.actions.index(name) if payable else 0] += validate.probability(f"P({name})", chance)
        if abs(result.sum() - 1.0) > 1e-9:
            raise ValueError(
                f"the policy's probabilities sum to {result.sum():.12g} in {trajectory.episode!r} step {t}"
            )
        return result

    # ---- weights

    def along(self, values: Floats) -> Floats:
        """Sum of `values` over the episode, up to each step."""
        table = np.zeros((len(self.episodes), int(self.steps.time.max(initial=0)) + 1))
        table[self.steps.episode, self.steps.time] = values
        return np.asarray(table.cumsum(axis=1)[self.steps.episode, self.steps.time])

    def log_weight(
        self, propensity: str | Propensity | None, clip: float | None = None, times: Floats | None = None
    ) -> Floats:
        """Logarithm of P(actions up to each step) under the policy over that under the log, at most that of `clip`.

        Frequencies are of tasks `times`; an action that these tasks never took has weight 0.
        """
        if propensity is None:
            logged = log_of(self._frequencies(times))
            result = self.along(np.where(np.isneginf(logged), -np.inf, log_of(self.steps.chosen)) - finite(logged))
        else:
            result = self.along(log_of(self.steps.chosen)) - self._logged(propensity)
        if clip is not None:
            return np.minimum(result, math.log(clip))
        if times is None and (result > MOST_LOG_WEIGHT).any():
            bad = int(result.argmax())
            raise ValueError(
                f"the weight of {self._name(bad)} is e^{result[bad]:.0f}, too large for an estimate: the policy's "
                "actions there have tiny propensities; expected larger ones, or a bound of weights (clip)"
            )
        return np.minimum(result, MOST_LOG_WEIGHT)

    def _name(self, row: int) -> str:
        return f"episode {self.episodes[self.steps.episode[row]].episode!r} step {self.steps.time[row]}"

    def _logged(self, propensity: str | Propensity) -> Floats:
        """Logarithm of P(logged actions up to each step)."""
        if isinstance(propensity, str):
            return self._mixture(propensity)
        if not callable(propensity):
            raise TypeError(f"propensity is {propensity!r}; expected the name of a field, or a function")
        chance = np.empty(len(self.steps.time))
        for k, (i, t) in enumerate(zip(self.steps.episode, self.steps.time, strict=True)):
            label = f"propensity of {self._name(k)}"
            chance[k] = value = validate.probability(label, propensity(self.episodes[i], int(t)))
            if value == 0.0:
                raise ValueError(f"{label} is 0; expected a number in (0, 1]")
        return self.along(np.log(chance))

    def _mixture(self, field: str) -> Floats:
        """Rates of help by episode, taken as one policy that draws its rate first (balance heuristic, Veach 1997)."""
        rates = []
        for trajectory in self.episodes:
            rate = trajectory.fields.get(field)
            if not isinstance(rate, int | float) or not 0.0 <= rate <= 1.0:
                raise ValueError(
                    f"episode {trajectory.episode!r}: propensity field {field!r} is {rate!r}; expected 0..1"
                )
            rates.append(float(rate))
        distinct, times = np.unique(rates, return_counts=True)
        helped, kinds = self.steps.action > 0, max(len(self.actions) - 1, 1)
        result = np.full(len(self.steps.time), -np.inf)
        for rate, count in zip(distinct, times, strict=True):
            chance = np.where(helped, rate / kinds, 1.0 - rate)
            result = np.logaddexp(result, math.log(count / len(rates)) + self.along(log_of(chance)))
        if np.isneginf(result).any():
            bad = self._name(int(np.flatnonzero(np.isneginf(result))[0]))
            raise ValueError(f"{bad} took an action whose propensity by field {field!r} is 0")
        return result

    def _frequencies(self, times: Floats | None) -> Floats:
        """Share of each logged action in its state, by whether none, some or all of the earlier steps were helped.

        Every task counts `times` (tasks,) times; the share is 0 where it counts 0 times.
        """
        helped = (self.steps.action > 0).astype(np.int64)
        before = np.concatenate([np.cumsum(helped[a : b + 1]) - helped[a : b + 1] for a, b in self._spans()])
        past = np.where(before == 0, 0, np.where(before == self.steps.time, 2, 1))
        place = self.steps.state * 3 + past
        pair = place * len(self.actions) + self.steps.action
        taken = None if times is None else times[self.task][self.steps.episode]
        logged, visits = (np.bincount(group, taken)[group].astype(np.float64) for group in (pair, place))
        return np.divide(logged, visits, out=np.zeros_like(visits), where=visits > 0)

    def _spans(self) -> list[tuple[int, int]]:
        return list(zip(self.first.tolist(), self.final.tolist(), strict=True))

    def overlap(self, log_weight: Floats) -> Overlap:
        """Overlap by logarithms of weights; shares and the effective number need no weight that a float can hold."""
        last = log_weight[self.final]
        largest = float(last.max())
        scaled = scale_weights(last)
        by_task = np.bincount(self.task, scaled, self.study.n_tasks)
        size = np.bincount(self.task, minlength=self.study.n_tasks)
        total, squares, unit = scaled.sum(), (by_task**2).sum(), math.exp(largest)
        return Overlap(
            len(last),
            self.study.n_tasks,
            float(np.mean(last > -np.inf)),
            float(total**2 / squares) if squares else 0.0,
            float(scaled.max() / total) if total else 0.0,
            float(scaled.mean() * unit),
            float(np.sqrt(((by_task - scaled.mean() * size) ** 2).sum()) / len(last) * unit),
        )

    def missing(self, weight: Floats) -> Floats:
        """What mean weights fall short of 1 at each step number, float64 (longest,); ended episodes keep the last."""
        return np.asarray(np.clip(1.0 - self._held(weight).mean(axis=0), 0.0, 1.0))

    # ---- estimators, as sums by task

    def last(self, by_step: Floats) -> Floats:
        return np.asarray(by_step[self.final])

    def summed(self, by_step: Floats) -> Floats:
        return np.asarray(np.bincount(self.steps.episode, by_step, len(self.episodes)))

    def mean(self, by_episode: Floats) -> Table:
        return Table(self._by_task(by_episode), self._by_task(np.ones(len(by_episode))))

    def ratio(self, value: Floats, log_weight: Floats) -> Table:
        """Weighted mean; weights count by their ratios, so that they may all be tiny."""
        weight = scale_weights(log_weight)
        return Table(self._by_task(value * weight), self._by_task(weight))

    def _by_task(self, by_episode: Floats) -> Floats:
        return np.bincount(self.task, by_episode, self.study.n_tasks).astype(np.float64)[:, None]

    def ratio_by_time(self, log_weight: Floats) -> Table:
        """Usage by step number: an episode that has ended keeps its last weight and spends nothing."""
        held = scale_weights(self._held(log_weight))
        spent = np.zeros_like(held)
        here = (self.steps.episode, self.steps.time)
        spent[here] = held[here] * self.steps.charge
        number = np.arange(len(self.task))
        shape = (self.study.n_tasks, len(self.task))
        sums = sp.csr_array(sp.coo_array((np.ones(len(number)), (self.task, number)), shape=shape))
        return Table(sums @ spent, sums @ held)

    def _held(self, by_step: Floats) -> Floats:
        """Values by episode and step number, float64 (episodes, longest); the last value of an episode stays."""
        longest = int(self.steps.time.max(initial=0)) + 1
        length = self.final - self.first + 1
        held = np.where(np.arange(longest) >= length[:, None], by_step[self.final][:, None], 0.0)
        held[self.steps.episode, self.steps.time] = by_step
        return held

    def corrected(self, generator: np.random.Generator) -> Corrected:
        """By models of other tasks: value at the start of each episode, and error of each step."""
        fold = generator.permutation(self.study.n_tasks) % min(FOLDS, self.study.n_tasks)
        start, error = np.zeros((2, len(self.episodes))), np.zeros((2, len(self.steps.time)))
        step_fold = fold[self.task][self.steps.episode]
        for k in range(fold.max() + 1):
            rows = np.flatnonzero(step_fold == k)
            ends, episode = np.isin(rows, self.final), self.steps.episode[rows]
            earned = np.where(ends, self.outcome[episode], 0.0), self.steps.charge[rows]
            begins = self.steps.time[rows] == 0
            for i, table in enumerate(self._q(self.study.fit((fold != k).astype(np.float64)))):
                q = table[self.steps.state[rows], self.steps.left[rows]]
                # An action of probability 0 counts 0, even if its value is infinite.
                value = np.where(self.steps.target[rows] > 0, self.steps.target[rows] * q, 0.0).sum(axis=1)
                taken = np.take_along_axis(q, self.steps.action[rows][:, None], axis=1)[:, 0]
                after = earned[i] + np.where(ends, 0.0, np.append(value[1:], 0.0))
                error[i, rows] = after - taken
                start[i, episode[begins]] = value[begins]
        return Corrected(start, error)

    def doubly_robust(self, weight: Floats, models: Corrected) -> tuple[Floats, Floats]:
        """Per episode, success and usage: value of the model at the start, and its weighted errors along the log."""
        success, usage = (
            start + self.summed(np.where(weight > 0, weight * error, 0.0))
            for start, error in zip(models.start, models.error, strict=True)
        )
        return success, usage

    def model_based(self, times: Floats) -> Floats:
        """Success and usage by a model of all tasks, then by models of resampled ones (1 + resamples, 2)."""
        alone = self.study.moves.action == self.actions.index(NOHELP)
        usable = [one for one in times if one[self.study.moves.task[alone]].any()]
        return np.array([self._by_model(one) for one in [np.ones(self.study.n_tasks), *usable]])

    def _by_model(self, times: Floats) -> tuple[float, float]:
        fitted = self.study.fit(times)
        weight = np.bincount(self.study.moves.start_state, times[self.task], fitted.mdp.n_states)
        start = weight / weight.sum()
        top = len(self.lattice) - 1
        success, usage = self._values(fitted)
        return float(start @ success[:, top]), float(start @ usage[:, top])

    def _chances(self, fitted: Fitted) -> Floats:
        """P(action | state, budget left) (n - 2, lattice, actions), alone where the model has no row."""
        result = self.table.copy()
        for a, name in enumerate(self.actions):
            missing = ~fitted.mdp.available(name)[:-2]
            if a and missing.any():
                result[missing, :, 0] += result[missing, :, a]
                result[missing, :, a] = 0.0
        return result

    def _moves(self) -> list[int]:
        return [0 if self.budget is None or not a else self.cost[name] for a, name in enumerate(self.actions)]

    def _values(self, fitted: Fitted) -> tuple[Floats, Floats]:
        """Success and usage of the policy in a model, (n, lattice) each."""
        chances, n = self._chances(fitted), fitted.mdp.n_states
        price = np.array([0.0, *(self.cost[name] for name in self.actions[1:])])
        result = np.zeros((n, len(self.lattice), 2))
        result[-2, :, 0] = 1.0
        for point in range(len(self.lattice)):
            stay = sp.csr_array((n - 2, n))
            known = np.zeros((n - 2, 2))
            known[:, 1] = chances[:, point] @ price
            for a, (name, move) in enumerate(zip(self.actions, self._moves(), strict=True)):
                rows = sp.diags_array(chances[:, point, a]) @ fitted.mdp.transitions[name][:-2]
                if move == 0:
                    stay = stay + rows
                elif move <= point:
                    known += rows @ result[:, point - move]
            stay = sp.csr_array(stay)
            right, leaving = known + stay[:, -2:] @ result[-2:, point], np.flatnonzero(_leaving(stay))
            result[leaving, point] = solve_transient(sp.csr_array(stay[leaving][:, leaving]), right[leaving])
            stuck = np.setdiff1d(np.flatnonzero(known[:, 1]), leaving)
            result[stuck, point, 1] = np.inf  # requests help without end
        return result[..., 0], result[..., 1]

    def _q(self, fitted: Fitted) -> tuple[Floats, Floats]:
        """Success and usage of an action and the policy afterwards, (n - 2, lattice, actions); 0 without a row."""
        result = np.zeros((2, *self.table.shape))
        for i, values in enumerate(self._values(fitted)):
            for a, (name, move) in enumerate(zip(self.actions, self._moves(), strict=True)):
                expected = fitted.mdp.transitions[name][:-2] @ values
                result[i, :, move:, a] = expected[:, : len(self.lattice) - move]
                result[1, :, move:, a] += self.cost[name] if i and a else 0.0
        return result[0], result[1]


def _leaving(rows: sp.csr_array) -> npt.NDArray[np.bool_]:
    """States from which mass leaves, to an end or to less budget; the others never end."""
    inner = sp.csr_array(rows[:, :-2])
    result: npt.NDArray[np.bool_] = np.asarray(inner.sum(axis=1) < 1.0 - 1e-12)
    while True:
        wider = result | (inner @ result.astype(np.float64) > 0)
        if (wider == result).all():
            return result
        result = wider


def _one_cost(name: str, costs: Mapping[str, int | tuple[int, ...]]) -> int:
    if name not in costs:
        raise ValueError(f"costs lacks help type {name!r} of these logs")
    amounts = validate.nonneg_ints(f'costs["{name}"]', costs[name])
    if len(amounts) != 1:
        raise ValueError(f"help type {name!r} takes from {len(amounts)} budgets; expected one")
    return amounts[0]
