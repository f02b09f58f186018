"""What to log next: rollouts from chosen states that most reduce the variance of the start value."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from selfreg._util import validate
from selfreg.data import Trajectory
from selfreg.estimate.abstraction import BRANCH, Key, StateAbstraction
from selfreg.estimate.dataset import Costs, Fitted, ResamplingDataset
from selfreg.estimate.model import build_mdp
from selfreg.estimate.resample import draw_models
from selfreg.estimate.shrinkage import prior_pseudo_counts
from selfreg.planning._chains import transient_system
from selfreg.planning._structure import row_of_entry, strides
from selfreg.planning.evaluation import evaluate_policy, expected_visits
from selfreg.planning.hard import solve

Floats = npt.NDArray[np.float64]
Aim = Literal["value", "decision"]

# Rollouts are allocated in so many parts, each to the state and action with the largest gain after those before.
PARTS = 60
# Probability that a rollout continues after each step: rollouts end, models from few episodes may not.
CONTINUE = 1.0 - 1e-3


class Sample(NamedTuple):
    """Rollouts to run from one state.

    Attributes
    ----------
    key : Key
        Of the abstract state.
    action : str
        First action of the rollouts.
    rollouts : int
    gain : float
        Share of the start value's variance that these rollouts are expected to remove.
    moments : tuple of (Trajectory, int)
        Logged moments (episode and step) in the state, of different tasks if there are some.
    """

    key: Key
    action: str
    rollouts: int
    gain: float
    moments: tuple[tuple[Trajectory, int], ...]


@dataclass(frozen=True, eq=False)
class Advice:
    """A ranked plan of rollouts; `selfreg.envs.advised_rollouts` runs it.

    Attributes
    ----------
    samples : tuple of Sample
        Largest gain first.
    aim : {"value", "decision"}
    before, after : float
        Standard deviation of the start value (of the difference to other plans) by the posterior of the rows, now and
        expected after the rollouts.
    """

    samples: tuple[Sample, ...]
    aim: str
    before: float
    after: float

    def lines(self, most: int = 10) -> list[str]:
        """The plan in words."""
        total = sum(one.rollouts for one in self.samples)
        what = "start value" if self.aim == "value" else "difference to other plans"
        head = f"{total} rollouts: standard deviation of the {what} {self.before:.4f}, expected {self.after:.4f}"
        rows = [
            f"{one.rollouts} from {' '.join(map(str, one.key))}, first {one.action}: {100 * one.gain:.1f}% of the "
            "variance"
            for one in self.samples[:most]
        ]
        return [head, *rows]

    def rows(self) -> list[dict[str, Any]]:
        """The plan as JSON values; moments by the names of their episodes."""
        return [
            {
                **one._asdict(),
                "key": list(one.key),
                "moments": [{"episode": trajectory.episode, "step": step} for trajectory, step in one.moments],
            }
            for one in self.samples
        ]


def advise(
    trajectories: Iterable[Trajectory],
    abstraction: StateAbstraction,
    budget: int | tuple[int, ...],
    *,
    rollouts: int,
    aim: Aim = "value",
    rate: float = 0.5,
    samples: int = 30,
    seed: int = 0,
    costs: Costs | None = None,
) -> Advice:
    """Find the rollouts that most reduce the variance of the start value, or of differences between plans.

    A row P of a state and an action with n visits has posterior covariance (diag(p) - p p') / (n + 1)
    (Dirichlet). To first order (Mannor, Simester, Sun and Tsitsiklis 2007) the start value's variance is the sum over
    rows of c / (n + 1), where c = sum_j p_j u_j^2 - (sum_j p_j u_j)^2 and u_j = sum_b d(b) V(j, b - cost): the value
    after the row, weighted by how often the optimal plan takes it with b left. c is the mean over models drawn
    from the posterior, each with its own optimal plan: actions count that may turn out to be optimal. For
    aim="decision" u is that of a drawn model's optimal plan less that of the plan of all logs: the variance of how much
    better another plan may be (as top-two sampling, Russo 2016, compares the leader with a drawn rival).
    A rollout adds its expected visits to the rows on its way. Rollouts are allocated greedily (the steps of Frank and
    Wolfe 1956 for a convex function). No rollout reduces the uncertainty of the start distribution.

    Parameters
    ----------
    trajectories, abstraction, costs
        As for `estimate_mdp`, of two tasks or more.
    budget : int or tuple of int
        Budget of the start value.
    rollouts : int
        Number of rollouts to allocate.
    aim : {"value", "decision"}
        Reduce the variance of the start value, or of the difference to plans that may be better.
    rate : float
        Probability of help in a rollout after its first step.
    samples : int
        Number of drawn models.
    seed : int

    Raises
    ------
    ValueError
        For numbers out of range, and as `uncertainty`.

    Examples
    --------
    Help was tried only twice, so more of it is needed.

    >>> from selfreg.data import Step, Trajectory
    >>> from selfreg.estimate import Features, advise
    >>> logs = [Trajectory(f"t{i}", f"a{i}", float(i % 2), (Step("go"),)) for i in range(50)]
    >>> logs += [Trajectory(f"t{i}", f"h{i}", float(i), (Step("go", intervention="person"),)) for i in range(2)]
    >>> advice = advise(logs, Features(["step"]), 1, rollouts=20)
    >>> advice.samples[0].action, advice.samples[0].rollouts, advice.after < 0.6 * advice.before
    ('person', 20, True)
    """
    if aim not in ("value", "decision"):
        raise ValueError(f'aim is {aim!r}; expected "value" or "decision"')
    rollouts = validate.integer("rollouts", rollouts, 1)
    rate, samples = validate.probability("rate", rate), validate.integer("samples", samples, 1)
    episodes = list(trajectories)
    dataset = ResamplingDataset(episodes, abstraction, 0.0, None, costs)
    drawn = [draw.true for draw in draw_models(dataset, "dirichlet", samples, np.random.default_rng(seed))]
    problem = _Problem(dataset, drawn, budget, rate, aim)
    moments = _find_moments(episodes, abstraction, rollouts)
    places = np.array([key in moments for key in dataset.moves.keys])
    allocated, gains = problem.allocate(rollouts, np.flatnonzero(places))
    total = problem.variance(np.zeros_like(problem.spread))
    found = [
        Sample(dataset.moves.keys[s], dataset.moves.actions[a], n, gains[a, s] / total if total else 0.0, moments[key])
        for (a, s), n in allocated.items()
        for key in [dataset.moves.keys[s]]
    ]
    found.sort(key=lambda one: -one.gain)
    return Advice(tuple(found), aim, float(np.sqrt(total)), float(np.sqrt(max(total - gains.sum(), 0.0))))


class _Problem:
    """Rows with their spread and visits, and the continuation of rollouts; arrays are (actions, n - 2)."""

    def __init__(
        self, dataset: ResamplingDataset, drawn: Sequence[Fitted], budget: int | tuple[int, ...], rate: float, aim: Aim
    ) -> None:
        counts = dataset.moves.counts()
        prior = prior_pseudo_counts(counts, dataset.abstraction)
        rows = {name: sp.csr_array(matrix + prior[name]) for name, matrix in counts.transitions.items()}
        self.visits = np.stack([matrix.sum(axis=1)[:-2] for matrix in rows.values()])
        rival = None if aim == "value" else solve(dataset.fit().mdp, budget, n_threads=1).policy
        self.spread = np.mean([_row_spread(one, budget, rival) for one in drawn], axis=0)
        self.rows = [matrix[:-2, :-2] for matrix in build_mdp(rows, None, dataset.costs).transitions.values()]
        self.chance = np.zeros_like(self.spread)
        tried = self.visits[1:] > 0
        kinds = np.maximum(tried.sum(axis=0), 1)
        self.chance[1:] = np.where(tried, rate / kinds, 0.0)
        self.chance[0] = 1.0 - self.chance[1:].sum(axis=0)
        onward = sum(
            (sp.diags_array(c) @ p for c, p in zip(self.chance, self.rows, strict=True)), start=0.0 * self.rows[0]
        )
        self.system, self.order = transient_system(sp.csr_array(CONTINUE * onward))

    def variance(self, more: Floats) -> float:
        """Of the start value after `more` visits."""
        return float((self.spread / (self.visits + 1.0 + more)).sum())

    def _solve(self, right: Floats, trans: str = "N") -> Floats:
        result = np.empty_like(right)
        result[self.order] = self.system.solve(right[self.order], trans=trans)
        return result

    def gain_of_one(self, more: Floats) -> Floats:
        """Variance that one rollout removes, by its first action and state."""
        here = self.spread / (self.visits + 1.0 + more) ** 2
        after = self._solve((self.chance * here).sum(axis=0))
        return np.stack([w + CONTINUE * (p @ after) for w, p in zip(here, self.rows, strict=True)])

    def expected_path(self, action: int, state: int) -> Floats:
        """Expected visits of a rollout."""
        first = self.rows[action][[state]].toarray()[0]
        result = self.chance * self._solve(CONTINUE * first, "T")
        result[action, state] += 1.0
        return np.asarray(result)

    def allocate(self, rollouts: int, places: npt.NDArray[np.intp]) -> tuple[dict[tuple[int, int], int], Floats]:
        """Rollouts by action and state, and the variance that each removes."""
        more, gains = np.zeros_like(self.spread), np.zeros_like(self.spread)
        allocated: dict[tuple[int, int], int] = {}
        allowed = np.full(self.spread.shape, -np.inf)
        allowed[:, places] = 0.0
        allowed[self.visits == 0] = -np.inf
        for part in np.diff(np.linspace(0, rollouts, min(PARTS, rollouts) + 1).round()).astype(int).tolist():
            a, s = map(int, np.unravel_index(int(np.argmax(self.gain_of_one(more) + allowed)), more.shape))
            then = more + part * self.expected_path(a, s)
            gains[a, s] += self.variance(more) - self.variance(then)
            allocated[a, s] = allocated.get((a, s), 0) + part
            more = then
        return allocated, gains


def _row_spread(model: Fitted, budget: int | tuple[int, ...], rival: npt.NDArray[np.int8] | None) -> Floats:
    """c of every row in one model, float64 (actions, n - 2): of its optimal plan, or of the difference to a rival."""
    mdp, plan = model.mdp, solve(model.mdp, budget, n_threads=1)
    after = _value_afterwards(model, budget, plan.policy, plan.value)
    if rival is not None:
        other = _value_afterwards(model, budget, rival, evaluate_policy(mdp, rival).success)
        after = [one - two for one, two in zip(after, other, strict=True)]
    result = np.zeros((len(mdp.actions), mdp.n_states))
    for a, name in enumerate(mdp.actions):
        matrix = mdp.transitions[name]
        row = row_of_entry(matrix.indptr)
        mean, square = (np.bincount(row, matrix.data * after[a] ** k, mdp.n_states) for k in (1, 2))
        result[a] = np.maximum(square - mean**2, 0.0)
    return result[:, :-2]


def _value_afterwards(
    model: Fitted, budget: int | tuple[int, ...], policy: npt.NDArray[np.int8], value: Floats
) -> list[Floats]:
    """u of a plan with this value, of every entry of each action's matrix."""
    mdp, shape = model.mdp, value.shape[1:]
    flat = value.reshape(mdp.n_states, -1)
    taken = expected_visits(mdp, policy, model.start, budget=budget).reshape(len(mdp.actions), mdp.n_states, -1)
    result = []
    for a, (name, move) in enumerate(zip(mdp.actions, mdp.cost_table @ strides(shape), strict=True)):
        matrix = mdp.transitions[name]
        row = row_of_entry(matrix.indptr)
        left = flat[matrix.indices, : flat.shape[1] - move]
        result.append((taken[a][row, move:] * left).sum(axis=1))
    return result


def _find_moments(
    episodes: Sequence[Trajectory], abstraction: StateAbstraction, most: int
) -> dict[Key, tuple[tuple[Trajectory, int], ...]]:
    """Up to `most` moments of every state, one of each task first; branched episodes cannot be replayed."""
    found: dict[Key, dict[str, list[tuple[Trajectory, int]]]] = {}
    for trajectory in episodes:
        if BRANCH in trajectory.fields:
            continue
        for step in range(len(trajectory.steps)):
            by_task = found.setdefault(abstraction.encode(trajectory, step), {})
            by_task.setdefault(trajectory.task, []).append((trajectory, step))
    result = {}
    for key, by_task in found.items():
        rounds = max(map(len, by_task.values()))
        ordered = [group[i] for i in range(rounds) for group in by_task.values() if i < len(group)]
        result[key] = tuple(ordered[:most])
    return result
