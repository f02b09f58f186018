"""How well the logs cover the model, and how much of the plan rests on rows that were hardly seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from selfreg._util import validate
from selfreg.data import NOHELP, Trajectory
from selfreg.estimate.model import EstimatedModel
from selfreg.mdp import InterventionMDP
from selfreg.planning.evaluation import evaluate_policy
from selfreg.planning.solution import Solution

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

FEWER_THAN = 10


@dataclass(frozen=True, eq=False)
class Coverage:
    """What the rows of an estimated model rest on.

    A row is an abstract state and an action. It is thin where it has fewer than `fewer_than` visits of its own;
    pseudo-counts and borrowed visits do not count.

    Attributes
    ----------
    names : tuple of str
        Names of the abstract states, n-2 of them.
    fewer_than : int
    visits : dict of action to float64 (n-2,)
    successors : dict of action to int64 (n-2,)
        Distinct successors seen, success and failure among them.
    effective : dict of action to float64 (n-2,)
        Effective number of tasks behind a row, (sum of visits by task)^2 / (sum of their squares) (Kish 1965): many
        visits in one task are one piece of evidence. 0 where there are no visits.
    without_help : bool (n-2,)
        Abstract states in which no help type was tried.
    success : float64 (B1 + 1, ...) or None
        Planned success, where there is a plan.
    resting : float64 (B1 + 1, ...) or None
        Share of the planned success that is lost if every thin row is taken for a failure: the share of episodes
        that succeed, by the plan's own reckoning, after passing at least one thin row.
    """

    names: tuple[str, ...]
    fewer_than: int
    visits: dict[str, Floats]
    successors: dict[str, Ints]
    effective: dict[str, Floats]
    without_help: npt.NDArray[np.bool_]
    success: Floats | None
    resting: Floats | None

    def mass(self, action: str, fewer_than: float | None = None) -> float:
        """Share of an action's logged visits that fall on rows with fewer than so many; NaN where there are none."""
        limit, visits = self.fewer_than if fewer_than is None else fewer_than, self.visits[action]
        total = visits.sum()
        return float(visits[visits < limit].sum() / total) if total else float("nan")

    def summary(self) -> dict[str, Any]:
        """Figures of every action, and of the plan, as JSON values."""
        return {
            "fewer_than": self.fewer_than,
            "states": len(self.names),
            "without_help": int(self.without_help.sum()),
            "actions": [self._of_action(name) for name in self.visits],
            "success_on_thin_rows": None if self.resting is None else self.resting.ravel().tolist(),
        }

    def _of_action(self, name: str) -> dict[str, Any]:
        seen = self.visits[name] > 0
        middle = {
            what: float(np.median(values[name][seen])) if seen.any() else None
            for what, values in (("visits", self.visits), ("successors", self.successors), ("tasks", self.effective))
        }
        return {
            "action": name,
            "visits": float(self.visits[name].sum()),
            "states": int(seen.sum()),
            "thin": int(np.count_nonzero(seen & (self.visits[name] < self.fewer_than))),
            "thin_mass": self.mass(name) if seen.any() else None,
            "median": middle,
        }

    def lines(self) -> list[str]:
        """The report in plain words, a sentence a line."""
        result = [
            f"{one['action']}: {one['visits']:.0f} visits of {one['states']} of {len(self.names)} states; "
            f"{one['thin']} of these rows have fewer than {self.fewer_than} visits and hold "
            f"{100 * one['thin_mass']:.1f}% of the visits; median row: {one['median']['visits']:.0f} visits, "
            f"{one['median']['successors']:.0f} successors, {one['median']['tasks']:.1f} effective tasks."
            for one in map(self._of_action, self.visits)
            if one["states"]
        ]
        if len(self.visits) > 1:
            result.append(f"In {self.without_help.sum()} of {len(self.names)} states no help was tried.")
        if self.resting is not None:
            last = self.resting.ravel()[-1]
            result.append(
                f"At the largest budget {100 * last:.1f}% of the planned success passes a row with fewer than "
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
    """Coverage of a model by the logs that it was estimated from.

    Parameters
    ----------
    model : EstimatedModel
    trajectories : sequence of Trajectory
        Those that `model` was estimated from.
    solution : Solution, optional
        Of `model.mdp`; with it the report says how much of the planned success rests on thin rows.
    fewer_than : int
        Rows with fewer visits are thin.

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
    help: 1 visits of 1 of 1 states; 1 of these rows have fewer than 3 visits and hold 100.0% of the visits; \
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
    success, resting = (None, None) if solution is None else _resting(model, solution, fewer_than)
    return Coverage(
        tuple(" ".join(map(str, key)) for key in model.counts.keys),
        fewer_than,
        visits,
        successors,
        _effective_tasks(model, trajectories),
        ~np.any([np.zeros(len(model.counts.keys), np.bool_), *helped], axis=0),
        success,
        resting,
    )


def _effective_tasks(model: EstimatedModel, trajectories: Sequence[Trajectory]) -> dict[str, Floats]:
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


def _resting(model: EstimatedModel, solution: Solution, fewer_than: int) -> tuple[Floats, Floats]:
    """Planned success by budget, and the share of it that passes thin rows."""
    mdp, failure = model.mdp, model.mdp.n_states - 1
    severed = {}
    for name, matrix in mdp.transitions.items():
        thin = mdp.available(name) & (model.counts.visits[name] < fewer_than)
        kept = sp.diags_array((~thin).astype(np.float64)) @ matrix
        lost = np.flatnonzero(thin)
        to_failure = sp.coo_array((np.ones(len(lost)), (lost, np.full(len(lost), failure))), shape=matrix.shape)
        severed[name] = sp.csr_array(kept + to_failure)
    success = model.success(solution)
    pruned = evaluate_policy(InterventionMDP(severed, mdp.terminal_value, mdp.costs), solution.policy)
    firm = np.tensordot(model.start, pruned.success, axes=1)
    share = np.divide(success - firm, success, out=np.zeros_like(success), where=success > 0)
    return success, np.clip(share, 0.0, 1.0)
