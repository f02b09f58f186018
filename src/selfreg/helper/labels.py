"""Labels: the optimal decision and its advantage for every logged step and every remaining budget."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from selfreg._util.extras import require_extra
from selfreg._util.files import atomic_write
from selfreg._util.showing import ShortRepr
from selfreg.data import NOHELP, Step, Trajectory, state_text

if TYPE_CHECKING:
    from selfreg.estimate import EstimatedModel
    from selfreg.helper.examples import HelperExamples
    from selfreg.mdp import InterventionMDP
    from selfreg.planning.solution import Solution

# Makes the text of an episode so far, given the number of earlier steps to show.
Reading = Callable[[Sequence[Step], int], str]
TIE = 1e-12
# `write` marks labels based on fewer visits.
LOW_SUPPORT = 3


@dataclass(frozen=True, eq=False, repr=False)
class Labels(ShortRepr):
    """One label per logged step and lattice point of remaining budget.

    Attributes
    ----------
    actions : tuple of str
        `nohelp`, then the help types.
    trajectories : sequence of Trajectory
        The labelled episodes.
    episode, step : int64 (steps,)
        Of every labelled step: index into `trajectories`, and into its steps.
    state : int64 (steps,)
        Its abstract state in the model.
    budgets : int64 (points, budgets)
        Remaining budgets, in C order.
    decision : int8 (steps, points)
        Index of the optimal action.
    q : float64 (steps, points, actions)
        Value of every action, NaN where it is unavailable or not affordable.
    visits : float64 (steps, actions)
        How often each action was taken in the step's abstract state, in the logs of the model.
    model : EstimatedModel
    solution : Solution
        The plan that the labels are of.
    """

    actions: tuple[str, ...]
    trajectories: Sequence[Trajectory]
    episode: npt.NDArray[np.int64]
    step: npt.NDArray[np.int64]
    state: npt.NDArray[np.int64]
    budgets: npt.NDArray[np.int64]
    decision: npt.NDArray[np.int8]
    q: npt.NDArray[np.float64]
    visits: npt.NDArray[np.float64]
    model: EstimatedModel
    solution: Solution

    @property
    def advantage(self) -> npt.NDArray[np.float64]:
        """float64 (steps, points): Q(best help) - Q(nohelp); NaN where no help is available."""
        _, q = self._best_help
        return np.where(np.isinf(q), np.nan, q - self.q[..., 0])

    @property
    def support(self) -> npt.NDArray[np.float64]:
        """float64 (steps, points): visits of going on alone or of the best help in the state, whichever is less.

        0 where one of them was never tried: the advantage then depends on a row filled from other states or by the PRM.
        0 too where no help is available.
        """
        best, q = self._best_help
        helped = np.take_along_axis(np.hstack([self.visits, np.zeros((len(self.step), 1))]), best + 1, axis=1)
        return np.where(np.isinf(q), 0.0, np.minimum(self.visits[:, :1], helped))

    @property
    def _best_help(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """Index among the help types and value, (steps, points) each; -inf where no help is available."""
        if self.q.shape[2] == 1:
            return np.zeros(self.q.shape[:2], dtype=np.int64), np.full(self.q.shape[:2], -np.inf)
        help_types = np.where(np.isnan(self.q[..., 1:]), -np.inf, self.q[..., 1:])
        return help_types.argmax(axis=2), help_types.max(axis=2)

    @cached_property
    def filled(self) -> InterventionMDP:
        """The model with every action in every labelled state: see `selfreg.helper.filling.fill_untried`."""
        from selfreg.helper.filling import fill_untried  # slow to import, and not for decisions

        return fill_untried(self)

    def prices(self, price: float | Mapping[str, float]) -> npt.NDArray[np.float64]:
        """Success that each action costs, float64 (actions,), at a price of each unit or of a request of each type."""
        if isinstance(price, Mapping):
            return np.array([0.0, *(price.get(name, 0.0) for name in self.actions[1:])])
        return np.array([0.0, *(price * np.sum(self.model.mdp.costs[name]) for name in self.actions[1:])])

    def examples(self, history: int = 0, read: Reading = state_text) -> HelperExamples:
        """Training data for `train_helper`, weighted by |advantage|; every visit of a state counts.

        Steps where no help is available, or where one side was never tried (`support` is 0), are left out.

        Parameters
        ----------
        history : int
            Earlier steps shown in the state's text; see `selfreg.data.state_text`.
        read : callable
            Makes the text of the steps so far and `history`.
        """
        from selfreg.helper.examples import HelperExamples

        support = self.support
        rows, points = np.nonzero(support)
        texts = self.texts(history, read)
        return HelperExamples(
            texts=[texts[i] for i in rows],
            budgets=self.budgets[points],
            decisions=self.decision[rows, points].astype(np.int64),
            weights=np.abs(self.advantage[rows, points]),
            tasks=[self.trajectories[e].task for e in self.episode[rows].tolist()],
            actions=self.actions,
            support=support[rows, points],
        )

    def texts(self, history: int = 0, read: Reading = state_text) -> list[str]:
        """State text of every labelled step, or what `read` makes of its steps; see `selfreg.data.state_text`."""
        places = zip(self.episode.tolist(), self.step.tolist(), strict=True)
        return [read(self.trajectories[e].steps[: t + 1], history) for e, t in places]

    @property
    def logged_action(self) -> npt.NDArray[np.int64]:
        """int64 (steps,): index of the logged action, -1 where it is not in `actions`."""
        index = {name: a for a, name in enumerate(self.actions)}
        steps = [self.trajectories[e].steps[t] for e, t in zip(self.episode.tolist(), self.step.tolist(), strict=True)]
        return np.array([index.get(step.intervention or NOHELP, -1) for step in steps], dtype=np.int64)

    @property
    def tasks(self) -> list[str]:
        """Task of every labelled step."""
        return [self.trajectories[e].task for e in self.episode.tolist()]

    def are_of(self, tasks: Sequence[str]) -> npt.NDArray[np.bool_]:
        """bool (steps,): whether each labelled step is of one of these tasks."""
        wanted = set(tasks)
        return np.array([trajectory.task in wanted for trajectory in self.trajectories], dtype=bool)[self.episode]

    def select_rows(self, rows: npt.NDArray[np.intp]) -> Labels:
        """The labels of some rows."""
        columns = ("episode", "step", "state", "decision", "q", "visits")
        return replace(self, **{name: getattr(self, name)[rows] for name in columns})

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write Parquet: one row per step and budget. `low_support` marks labels whose `support` is below 3 visits."""
        with require_extra("logs", "selfreg.helper.labels"):
            import pyarrow as pa
            import pyarrow.parquet as pq

            from selfreg.data.log_files import open_arrow
        n_points = len(self.budgets)
        place = np.repeat(np.arange(len(self.step)), n_points)
        columns: dict[str, pa.Array] = {
            "task": pa.array([t.task for t in self.trajectories]).take(pa.array(self.episode[place])),
            "episode": pa.array([t.episode for t in self.trajectories]).take(pa.array(self.episode[place])),
            "step": pa.array(self.step[place]),
            "decision": pa.array(self.actions).take(pa.array(self.decision.ravel())),
            "advantage": pa.array(self.advantage.ravel(), from_pandas=True),
            "support": pa.array(self.support.ravel()),
            "low_support": pa.array(self.support.ravel() < LOW_SUPPORT),
        }
        for i in range(self.budgets.shape[1]):
            name = "budget" if self.budgets.shape[1] == 1 else f"budget_{i}"
            columns[name] = pa.array(np.tile(self.budgets[:, i], len(self.step)))
        for a, name in enumerate(self.actions):
            columns[f"q_{name}"] = pa.array(self.q[..., a].ravel(), from_pandas=True)
            columns[f"visits_{name}"] = pa.array(self.visits[place, a])
        with atomic_write(path) as temporary, open_arrow(temporary, "wb") as file:
            pq.write_table(pa.table(columns), file, compression="zstd")


def best_actions(q: npt.NDArray[np.float64]) -> npt.NDArray[np.int8]:
    """Index of the best action along the last axis, ties to the first; NaN is unavailable."""
    known = np.where(np.isnan(q), -np.inf, q)
    return np.asarray((known >= known.max(axis=-1, keepdims=True) - TIE).argmax(axis=-1), np.int8)


def points_after(budgets: npt.NDArray[np.int64], costs: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Point of the budget that is left after each cost (n, budgets): int64 (n, points), -1 where it is not affordable.

    `budgets`, (points, budgets), are the points of a lattice in C order, as those of `Labels`.
    """
    left, shape = budgets - costs[:, None], tuple(budgets.max(axis=0) + 1)
    return np.where((left >= 0).all(axis=2), np.ravel_multi_index(tuple(np.moveaxis(left, 2, 0)), shape, "clip"), -1)


def label(trajectories: Sequence[Trajectory], model: EstimatedModel, solution: Solution) -> Labels:
    """Label every step whose abstract state is in the model, at every remaining budget.

    Parameters
    ----------
    trajectories : sequence of Trajectory
        Those of the model, or others.
    model : EstimatedModel
    solution : Solution
        Of `model.mdp`.

    Raises
    ------
    ValueError
        The solution is of another model.

    Examples
    --------
    >>> import selfreg
    >>> from selfreg.data import Step, Trajectory
    >>> from selfreg.estimate import Features, estimate_mdp
    >>> from selfreg.helper import label
    >>> logs = [
    ...     Trajectory("t", "a", 0.0, (Step("hard"),)),
    ...     Trajectory("t", "b", 1.0, (Step("hard", intervention="help"),)),
    ... ]
    >>> model = estimate_mdp(logs, Features(["step"]))
    >>> labels = label(logs, model, selfreg.solve(model.mdp, 1))
    >>> labels.decision.tolist(), labels.advantage.tolist()
    ([[0, 1], [0, 1]], [[nan, 1.0], [nan, 1.0]])
    """
    if solution.mdp is not model.mdp:
        raise ValueError("solution is of another model than `model`")
    places = [
        (e, t, state)
        for e, trajectory in enumerate(trajectories)
        for t in range(len(trajectory.steps))
        if (state := model.state(trajectory, t)) is not None
    ]
    episode, step, states = np.array(places, dtype=np.int64).reshape(-1, 3).T
    n = model.mdp.n_states
    actions = model.mdp.actions
    q = np.stack([solution.q(name).reshape(n, -1) for name in actions], axis=2)
    visits = np.stack([model.counts.visits.get(name, np.zeros(n)) for name in actions], axis=1)
    points = np.indices(solution.value.shape[1:]).reshape(len(solution.budget), -1).T
    decision = solution.policy.reshape(n, -1)[states]
    budgets = points.astype(np.int64)
    return Labels(
        actions, trajectories, episode, step, states, budgets, decision, q[states], visits[states], model, solution
    )
