"""Logs read once, to be modelled many times."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from selfreg.data import NOHELP, StateScorer, Trajectory
from selfreg.estimate.abstraction import StateAbstraction
from selfreg.estimate.counts import Counts, Moves, record
from selfreg.estimate.model import charges, last_score, mdp_of, mean_scores, row_counts
from selfreg.mdp import InterventionMDP

Floats = npt.NDArray[np.float64]
Costs = Mapping[str, int | tuple[int, ...]]


class Fitted(NamedTuple):
    """A model with its start distribution, over the abstract states of all tasks."""

    mdp: InterventionMDP
    start: Floats

    def at_start(self, value: Floats) -> Floats:
        return np.asarray(np.tensordot(self.start, value, axes=1))


class ResamplingDataset:
    """Logs read once, to be modelled many times."""

    def __init__(
        self,
        trajectories: Iterable[Trajectory],
        abstraction: StateAbstraction,
        kappa: float,
        prm: StateScorer | None,
        costs: Costs | None,
        borrow_help: bool,
    ) -> None:
        episodes = list(trajectories)
        if kappa and prm is None:
            raise ValueError(f"kappa={kappa:g} needs a PRM to lean on")
        abstraction.fit(episodes)
        self.moves: Moves = record(episodes, abstraction, None if prm is None else last_score(episodes, prm))
        if len(self.moves.tasks) < 2:
            names = ", ".join(map(repr, self.moves.tasks)) or "none"
            raise ValueError(f"the episodes are of one task ({names}); what varies between tasks takes at least two")
        self.abstraction, self.kappa, self.borrow_help = abstraction, kappa, borrow_help
        self.prior = None if not kappa or prm is None else mean_scores(episodes, abstraction, self.moves.keys, prm)
        self.costs = charges(episodes, dict.fromkeys(self.moves.actions), costs)
        self.n_tasks = len(self.moves.tasks)

    def rows(self, counts: Counts, borrow_help: bool | None = None) -> dict[str, sp.csr_array]:
        lend = self.borrow_help if borrow_help is None else borrow_help
        return row_counts(counts, self.abstraction, self.prior, self.kappa, lend)

    def fit(self, times: Floats | None = None, borrow_help: bool | None = None) -> Fitted:
        """Model of the tasks, each taken `times` (tasks,) times."""
        counts = self.moves.counts(times)
        return Fitted(mdp_of(self.rows(counts, borrow_help), counts.visits, self.costs), start_of(counts))

    def usable(self, times: Floats) -> bool:
        """Whether any step was taken alone in tasks taken `times`."""
        alone = self.moves.action == self.moves.actions.index(NOHELP)
        return bool(times[self.moves.task[alone]].any())


def start_counts(counts: Counts) -> Floats:
    """Episodes by first state, float64 (n,): of the unhelped ones where there are any."""
    alone: Floats = counts.starts[0]
    helped: Floats = counts.starts[1]
    return alone if alone.any() else helped


def start_of(counts: Counts) -> Floats:
    """Start distribution, float64 (n,)."""
    start = start_counts(counts)
    return np.asarray(start / start.sum())
