"""How well the logs support a model, and how much of the plan depends on low-count rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from selfreg._util import validate
from selfreg._util.showing import ShortRepr
from selfreg.data import NOHELP, Trajectory
from selfreg.estimate.model import EstimatedModel
from selfreg.mdp import InterventionMDP
from selfreg.planning.evaluation import evaluate_policy
from selfreg.planning.solution import Solution

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

FEWER_THAN = 10


@dataclass(frozen=True, eq=False, repr=False)
class Coverage(ShortRepr):
    """How well the logs support the rows of an estimated model.

    A row is an abstract state and an action. A low-count row has fewer than `fewer_than` visits of its own;
    pseudo-counts and borrowed visits do not count.

    Attributes
    ----------
    names : tuple of str
        Names of the abstract states, n-2 of them.
    fewer_than : int
    visits : dict of action to float64 (n-2,)
    successors : dict of action to int64 (n-2,)
        Distinct logged successors, success and failure among them.
    effective : dict of action to float64 (n-2,)
        Effective number of tasks of a row, (sum of visits by task)^2 / (sum of their squares) (Kish 1965): many visits
        in one task are one piece of evidence. 0 without visits.
    without_help : bool (n-2,)
        Abstract states in which no help type was tried.
    success : float64 (B1 + 1, ...) or None
        Planned success, if there is a plan.
    low_count_share : float64 (B1 + 1, ...) or None
        Share of the planned success that depends on low-count rows: it is lost if each of them leads to failure. In
        the model, the share of successful episodes that pass at least one low-count row.
    """

    names: tuple[str, ...]
    fewer_than: int
    visits: dict[str, Floats]
    successors: dict[str, Ints]
    effective: dict[str, Floats]
    without_help: npt.NDArray[np.bool_]
    success: Floats | None
    low_count_share: Floats | None

    def low_count_visits(self, action: str, fewer_than: float | None = None) -> float:
        """Share of an action's logged visits in rows with fewer than `fewer_than` visits; NaN without visits."""
        limit, visits = self.fewer_than if fewer_than is None else fewer_than, self.visits[action]
        total = visits.sum()
        return float(visits[visits < limit].sum() / total) if total else float("nan")

    def summary(self) -> dict[str, Any]:
        """Figures of every action, and of the plan, as JSON values."""
        return {
            "fewer_than": self.fewer_than,
            "states": len(self.names),
            "without_help": int(self.without_help.sum()),
            "actions": [self._summarise_action(name) for name in self.visits],
            "success_on_low_count_rows": None
            if self.low_count_share is None
            else self.low_count_share.ravel().tolist(),
        }

    def _summarise_action(self, name: str) -> dict[str, Any]:
        visited = self.visits[name] > 0
        middle = {
            what: float(np.median(values[name][visited])) if visited.any() else None
            for what, values in (("visits", self.visits), ("successors", self.successors), ("tasks", self.effective))
        }
        return {
            "action": name,
            "visits": float(self.visits[name].sum()),
            "states": int(visited.sum()),
            "low_count_rows": int(np.count_nonzero(visited & (self.visits[name] < self.fewer_than))),
            "low_count_visits": self.low_count_visits(name) if visited.any() else None,
            "median": middle,
        }

    def lines(self) -> list[str]:
        """The report in words, a sentence a line."""
        result = [
            f"{one['action']}: {one['visits']:.0f} visits of {one['states']} of {len(self.names)} states; "
            f"{one['low_count_rows']} of these rows have fewer than {self.fewer_than} visits and "
            f"{100 * one['low_count_visits']:.1f}% of all visits; median row: {one['median']['visits']:.0f} visits, "
            f"{one['median']['successors']:.0f} successors, {one['median']['tasks']:.1f} effective tasks."
            for one in map(self._summarise_action, self.visits)
            if one["states"]
        ]
        if len(self.visits) > 1:
            result.append(f"In {self.without_help.sum()} of {len(self.names)} states no help was tried.")
        if self.low_count_share is not None:
            last = self.low_count_share.ravel()[-1]
            result.append(
                f"At the largest budget {100 * last:.1f}% of the planned success depends on rows with fewer than "
                f"{self.fewer_than} visits."
            )
        return result

    def table(self) -> dict[str, npt.NDArray[Any]]:
        """One entry a row of the model (abstract state and action), as columns."""
        n, actions = len(self.names), list(self.visits)
        return {
            "state": np.tile(np.array(self.names, dtype=object), len(actions)),
            "action": np.repeat(np.array(actions, dtype=object), n),
            "visits": np.concatenate([self.visits[a] for a in actions]),
            "successors": np.concatenate([self.successors[a] for a in actions]),
            "effective_tasks": np.concatenate([self.effective[a] for a in actions]),
        }


def coverage(
    model: EstimatedModel,
    trajectories: Sequence[Trajectory],
    solution: Solution | None = None,
    *,
    fewer_than: int = FEWER_THAN,
) -> Coverage:
    """How well the logs support the model that was estimated from them.

    Parameters
    ----------
    model : EstimatedModel
    trajectories : sequence of Trajectory
        Those that `model` was estimated from.
    solution : Solution, optional
        Of `model.mdp`; with it the report says how much of the planned success depends on low-count rows.
    fewer_than : int
        Rows with fewer visits are low-count rows.

    Raises
    ------
    ValueError
        If `trajectories` are not those of the model, or `solution` is of another one.

    Examples
    --------
    >>> from selfreg.data import Step, Trajectory
    >>> from selfreg.estimate import Features, coverage, estimate_mdp
    >>> logs = [Trajectory(f"t{i % 2}", str(i), float(i > 2), (Step("go"),)) for i in range(4)]
    >>> logs += [Trajectory("t0", "h", 1.0, (Step("go", intervention="help"),))]
    >>> report = coverage(estimate_mdp(logs, Features(["step"])), logs, fewer_than=3)
    >>> print(report.lines()[1])
    help: 1 visits of 1 of 1 states; 1 of these rows have fewer than 3 visits and 100.0% of all visits; \
median row: 1 visits, 1 successors, 1.0 effective tasks.
    """
    fewer_than = validate.integer("fewer_than", fewer_than, 1)
    if solution is not None and solution.mdp is not model.mdp:
        raise ValueError("solution is of another model")
    visits = {name: values[:-2] for name, values in model.counts.visits.items()}
    successors = {
        name: np.diff(matrix.indptr)[:-2].astype(np.int64) for name, matrix in model.counts.transitions.items()
    }
    helped = [values > 0 for name, values in visits.items() if name != NOHELP]
    success, share = (None, None) if solution is None else _low_count_share(model, solution, fewer_than)
    return Coverage(
        tuple(" ".join(map(str, key)) for key in model.counts.keys),
        fewer_than,
        visits,
        successors,
        _count_effective_tasks(model, trajectories),
        ~np.any([np.zeros(len(model.counts.keys), np.bool_), *helped], axis=0),
        success,
        share,
    )


def _count_effective_tasks(model: EstimatedModel, trajectories: Sequence[Trajectory]) -> dict[str, Floats]:
    n, names = len(model.counts.keys), list(model.counts.transitions)
    tasks: dict[str, int] = {}
    places: list[tuple[int, int]] = []
    for trajectory in trajectories:
        task = tasks.setdefault(trajectory.task, len(tasks))
        for t, step in enumerate(trajectory.steps):
            state, action = model.state(trajectory, t), step.intervention or NOHELP
            if state is None or action not in names:
                raise ValueError(
                    f"episode {trajectory.episode!r} step {t} is not one that the model was estimated from"
                )
            places.append((names.index(action) * n + state, task))
    rows, columns = np.array(places, dtype=np.intp).reshape(-1, 2).T
    table = sp.csr_array(sp.coo_array((np.ones(len(rows)), (rows, columns)), shape=(n * len(names), len(tasks) or 1)))
    total, squares = table.sum(axis=1), (table * table).sum(axis=1)
    if not np.allclose(total, np.concatenate([v[:-2] for v in model.counts.visits.values()])):
        raise ValueError("the trajectories are not those that the model was estimated from: visits differ")
    effective = np.divide(total**2, squares, out=np.zeros(len(total)), where=squares > 0)
    return dict(zip(names, effective.reshape(len(names), n), strict=True))


def _low_count_share(model: EstimatedModel, solution: Solution, fewer_than: int) -> tuple[Floats, Floats]:
    """Planned success by budget, and the share of it that depends on low-count rows."""
    mdp, failure = model.mdp, model.mdp.n_states - 1
    pruned = {}
    for name, matrix in mdp.transitions.items():
        low_count = mdp.available(name) & (model.counts.visits[name] < fewer_than)
        supported_rows = sp.diags_array((~low_count).astype(np.float64)) @ matrix
        rows = np.flatnonzero(low_count)
        to_failure = sp.coo_array((np.ones(len(rows)), (rows, np.full(len(rows), failure))), shape=matrix.shape)
        pruned[name] = sp.csr_array(supported_rows + to_failure)
    success = model.success(solution)
    followed = evaluate_policy(InterventionMDP(pruned, mdp.terminal_value, mdp.costs), solution.policy)
    supported = np.tensordot(model.start, followed.success, axes=1)
    share = np.divide(success - supported, success, out=np.zeros_like(success), where=success > 0)
    return success, np.clip(share, 0.0, 1.0)
