"""Logs as a table of transitions, for estimating a model from many samples of their tasks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from selfreg.data import NOHELP, StateScorer, Trajectory
from selfreg.estimate.abstraction import StateAbstraction
from selfreg.estimate.counts import Counts, Moves, list_moves
from selfreg.estimate.model import build_mdp, fill_rows, mean_scores, resolve_costs, score_last_states
from selfreg.mdp import InterventionMDP

Floats = npt.NDArray[np.float64]
Costs = Mapping[str, int | tuple[int, ...]]


class Fitted(NamedTuple):
    """A model and its start distribution over the abstract states of all tasks."""

    mdp: InterventionMDP
    start: Floats

    def at_start(self, value: Floats) -> Floats:
        return np.asarray(np.tensordot(self.start, value, axes=1))


class ResamplingDataset:
    """Logs as a table of transitions, from which models of many samples of tasks are estimated."""

    def __init__(
        self,
        trajectories: Iterable[Trajectory],
        abstraction: StateAbstraction,
        kappa: float,
        prm: StateScorer | None,
        costs: Costs | None,
        *,
        shrink: bool = True,
        borrow_help: bool = False,
    ) -> None:
        episodes = list(trajectories)
        if kappa and prm is None:
            raise ValueError(f"kappa={kappa:g} needs a PRM (prm=)")
        abstraction.fit(episodes)
        self.moves: Moves = list_moves(episodes, abstraction, None if prm is None else score_last_states(episodes, prm))
        if len(self.moves.tasks) < 2:
            tasks = "".join(f"one task ({name!r})" for name in self.moves.tasks) or "no task"
            raise ValueError(f"the episodes are of {tasks}; expected at least two tasks")
        self.abstraction, self.kappa, self.borrow_help, self.shrink = abstraction, kappa, borrow_help, shrink
        self.prior = None if not kappa or prm is None else mean_scores(episodes, abstraction, self.moves.keys, prm)
        self.costs = resolve_costs(episodes, dict.fromkeys(self.moves.actions), costs)
        self.n_tasks = len(self.moves.tasks)

    def rows(
        self, counts: Counts, borrow_help: bool | None = None, shrink: bool | None = None
    ) -> dict[str, sp.csr_array]:
        lend = self.borrow_help if borrow_help is None else borrow_help
        shrunk = self.shrink if shrink is None else shrink
        return fill_rows(counts, self.abstraction, self.prior, self.kappa, shrink=shrunk, borrow_help=lend)

    def fit(self, times: Floats | None = None, borrow_help: bool | None = None, shrink: bool | None = None) -> Fitted:
        """Estimate a model from the tasks, each counted `times` (tasks,) times."""
        counts = self.moves.counts(times)
        rows = self.rows(counts, borrow_help, shrink)
        return Fitted(build_mdp(rows, counts.visits, self.costs), start_distribution(counts))

    def has_unhelped_steps(self, times: Floats) -> bool:
        """Whether the tasks counted `times` have a step without help."""
        alone = self.moves.action == self.moves.actions.index(NOHELP)
        return bool(times[self.moves.task[alone]].any())


def count_starts(counts: Counts) -> Floats:
    """Episodes by first state, float64 (n,).

    Unhelped episodes alone would be the short and lucky ones where help is given at random steps.
    """
    starts: Floats = counts.starts.sum(axis=0)
    return starts


def start_distribution(counts: Counts) -> Floats:
    """Start distribution, float64 (n,)."""
    start = count_starts(counts)
    return np.asarray(start / start.sum())
