"""From counts to an `InterventionMDP`, with notes on how well the counts support it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from selfreg._util.showing import ShortRepr
from selfreg.data import NOHELP, StateScorer, Trajectory
from selfreg.estimate.abstraction import Key, StateAbstraction
from selfreg.estimate.counts import Counts, count
from selfreg.estimate.shrinkage import shrink_help
from selfreg.estimate.validity import handoff_notes
from selfreg.mdp import InterventionMDP
from selfreg.planning.solution import Solution

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False)
class EstimatedModel(ShortRepr):
    """A model estimated from trajectories.

    Attributes
    ----------
    mdp : InterventionMDP
        The states of `counts`: abstract states, then success and failure.
    counts : Counts
    abstraction : StateAbstraction
    start : float64 (n,)
        Start distribution: of all episodes.
    kappa : float
        Pseudo-counts of the PRM on each `nohelp` row.
    borrowed : bool (n,)
        Abstract states that were never visited without help: their `nohelp` row is the PRM's if `kappa` > 0, else the
        pooled row of the nearest coarser class of states, else certain failure.
    notes : tuple of str
        What a reader of any number from this model must know.
    """

    mdp: InterventionMDP
    counts: Counts
    abstraction: StateAbstraction
    start: Floats
    kappa: float
    borrowed: npt.NDArray[np.bool_]
    notes: tuple[str, ...]

    @cached_property
    def index(self) -> dict[Key, int]:
        """Abstract state of every key."""
        return {key: i for i, key in enumerate(self.counts.keys)}

    def state(self, trajectory: Trajectory, step: int) -> int | None:
        """Abstract state at a step; None if it is not in the logs."""
        return self.index.get(self.abstraction.encode(trajectory, step))

    def success(self, solution: Solution) -> Floats:
        """Planned success from the start distribution, float64 (B1 + 1, ...)."""
        return np.asarray(np.tensordot(self.start, solution.value, axes=1))

    def usage(self, usage: Floats) -> Floats:
        """Planned usage from the start distribution, float64 (B1 + 1, ..., budgets); `usage` as of `expected_usage`."""
        return np.asarray(np.tensordot(self.start, usage, axes=1))


def estimate_mdp(
    trajectories: Iterable[Trajectory],
    abstraction: StateAbstraction,
    *,
    kappa: float = 0.0,
    prm: StateScorer | None = None,
    costs: Mapping[str, int | tuple[int, ...]] | None = None,
    shrink: bool = True,
) -> EstimatedModel:
    """Estimate transition probabilities by counting, with rows of help shrunk.

    P_a[s, j] = N(s, a, j) / N(s, a); with a PRM, `kappa` pseudo-counts are added to each `nohelp` row, p(s) of them to
    success and 1 - p(s) to failure, where p(s) is the mean score over the visits of s. If states have coarser classes,
    pseudo-counts are added to each row of help (`selfreg.estimate.shrinkage`): those of acting alone in that state,
    moved towards better successors by one effect a help type. The counts determine how many, and the effect.

    Parameters
    ----------
    trajectories : iterable of Trajectory
    abstraction : StateAbstraction
        Fitted here.
    kappa : float
        Pseudo-counts >= 0; > 0 needs `prm`.
    prm : StateScorer, optional
        Also scores the last state of truncated episodes.
    costs : mapping, optional
        Cost of each help type; by default the logged cost, which must be one number for each type.
    shrink : bool
        Whether rows of help are shrunk. Help has a row then where any help was tried in a class of the state;
        otherwise only where it was tried in the state.

    Returns
    -------
    EstimatedModel
        With `kappa` = 0 and the step in the state, the value with budget 0 from the start distribution is the success
        rate of the unhelped episodes, if unhelped steps come from unhelped episodes only and helped episodes have the
        same shares of first states.

    Raises
    ------
    ValueError
        For no trajectories, no step without help, costs that vary, `kappa` without a PRM.

    Examples
    --------
    >>> import selfreg
    >>> from selfreg.data import Step, Trajectory
    >>> from selfreg.estimate import Features, estimate_mdp
    >>> logs = [Trajectory(f"t{i}", f"a{i}", float(i % 2), (Step("go"),)) for i in range(10)]
    >>> logs += [Trajectory(f"t{i}", f"h{i}", 1.0, (Step("go", intervention="person"),)) for i in range(10)]
    >>> model = estimate_mdp(logs, Features(["step"]))
    >>> model.success(selfreg.solve(model.mdp, budget=1)).tolist()
    [0.5, 1.0]
    """
    episodes = list(trajectories)
    if not episodes:
        raise ValueError("there are no episodes; expected at least one")
    if not 0.0 <= kappa < np.inf:
        raise ValueError(f"kappa is {kappa!r}; expected a finite number >= 0")
    if kappa and prm is None:
        raise ValueError(f"kappa={kappa:g} needs a PRM (prm=)")
    abstraction.fit(episodes)
    counts = count(episodes, abstraction, None if prm is None else score_last_states(episodes, prm))
    prior = mean_scores(episodes, abstraction, counts.keys, prm) if kappa and prm is not None else None
    rows = fill_rows(counts, abstraction, prior, kappa, shrink=shrink)
    mdp = build_mdp(rows, counts.visits, resolve_costs(episodes, rows, costs))
    visited = counts.visits[NOHELP][:-2] > 0
    start = counts.starts.sum(axis=0)
    borrowed = np.concatenate([~visited, [False, False]])
    lent = np.any([mdp.available(name)[:-2] for name in mdp.actions[1:]], axis=0) if len(rows) > 1 else ~visited
    notes = _notes(counts, borrowed, kappa, lent, handoff_notes(episodes))
    return EstimatedModel(mdp, counts, abstraction, start / start.sum(), kappa, borrowed, notes)


def fill_rows(
    counts: Counts,
    abstraction: StateAbstraction,
    prior: Floats | None,
    kappa: float,
    *,
    shrink: bool = True,
    borrow_help: bool = False,
) -> dict[str, sp.csr_array]:
    """Counts with pseudo-counts and borrowed rows, from which the model is made; arguments as in `estimate_mdp`.

    `prior` (n - 2,) is the PRM's mean score of every abstract state; None without a PRM.
    """
    if not counts.transitions[NOHELP].nnz:
        raise ValueError("every step was helped; 'nohelp' cannot be estimated: add logs of the agent alone")
    rows = dict(counts.transitions)
    if prior is None:
        rows[NOHELP] = _borrow_rows(rows[NOHELP], counts.keys, abstraction, failure=True)
    else:
        rows[NOHELP] = _add_pseudo_counts(rows[NOHELP], prior, kappa)
    if shrink:
        rows = shrink_help(rows, counts, abstraction)
    if borrow_help:
        rows |= {name: _borrow_rows(rows[name], counts.keys, abstraction) for name in rows if name != NOHELP}
    return rows


def build_mdp(
    rows: Mapping[str, sp.csr_array], visits: Mapping[str, Floats] | None, costs: Mapping[str, Any]
) -> InterventionMDP:
    """Model whose rows are `rows` scaled to 1; the last two states are success and failure."""
    terminal = np.full(rows[NOHELP].shape[0], np.nan)
    terminal[-2:] = 1.0, 0.0
    return InterventionMDP({name: _stochastic(matrix) for name, matrix in rows.items()}, terminal, costs, visits=visits)


def _stochastic(counts: sp.csr_array) -> sp.csr_array:
    totals = np.asarray(counts.sum(axis=1)).ravel()
    scale = np.divide(1.0, totals, out=np.zeros_like(totals), where=totals > 0)
    data = counts.data * np.repeat(scale, np.diff(counts.indptr))
    return sp.csr_array((data, counts.indices, counts.indptr), shape=counts.shape)


def score_last_states(episodes: Sequence[Trajectory], prm: StateScorer) -> Any:
    """P(success) of a truncated episode by the PRM's score of its last state."""
    cut = {t.episode: prm.text(t.steps) for t in episodes if t.truncated}
    scores = dict(zip(cut, prm.score(list(cut.values())), strict=True)) if cut else {}
    return lambda trajectory: float(scores[trajectory.episode])


def mean_scores(
    episodes: Sequence[Trajectory], abstraction: StateAbstraction, keys: Sequence[Key], prm: StateScorer
) -> Floats:
    """p(s): mean PRM score over the visits of each abstract state, float64 (n - 2,)."""
    index = {key: i for i, key in enumerate(keys)}
    visits = [(t, i) for t in episodes for i in range(len(t.steps))]
    states = np.array([index[abstraction.encode(t, i)] for t, i in visits])
    texts = [prm.text(t.steps[: i + 1]) for t, i in visits]
    distinct = {text: i for i, text in enumerate(dict.fromkeys(texts))}
    scores = prm.score(list(distinct))[[distinct[text] for text in texts]]
    return np.asarray(np.bincount(states, scores, len(index)) / np.bincount(states, minlength=len(index)))


def _add_pseudo_counts(nohelp: sp.csr_array, prior: Floats, kappa: float) -> sp.csr_array:
    n, live = nohelp.shape[0], np.arange(len(prior))
    weights = np.concatenate([kappa * prior, kappa * (1.0 - prior)])
    places = (np.concatenate([live, live]), np.repeat([n - 2, n - 1], len(live)))
    return sp.csr_array(nohelp + sp.csr_array(sp.coo_array((weights, places), shape=(n, n))))


def _borrow_rows(
    matrix: sp.csr_array, keys: Sequence[Key], abstraction: StateAbstraction, failure: bool = False
) -> sp.csr_array:
    """Fill empty rows with the summed rows of the nearest coarser class, else (if `failure`) with certain failure."""
    n = matrix.shape[0]
    filled = np.diff(matrix.indptr)[:-2] > 0
    if filled.all():
        return matrix
    classes: dict[Key, list[int]] = {}
    for i in np.flatnonzero(filled).tolist():
        key = abstraction.coarser(keys[i])
        while key is not None:
            classes.setdefault(key, []).append(i)
            key = abstraction.coarser(key)
    lenders, borrowers, failing = [], [], []
    for i in np.flatnonzero(~filled).tolist():
        key = abstraction.coarser(keys[i])
        while key is not None and key not in classes:
            key = abstraction.coarser(key)
        if key is None:
            failing.append(i)
            continue
        lenders += classes[key]
        borrowers += [i] * len(classes[key])
    lent = sp.csr_array(sp.coo_array((np.ones(len(lenders)), (borrowers, lenders)), shape=(n, n))) @ matrix
    result = matrix + lent
    if failure and failing:
        result = result + sp.csr_array(
            sp.coo_array((np.ones(len(failing)), (failing, [n - 1] * len(failing))), shape=(n, n))
        )
    return sp.csr_array(result)


def resolve_costs(
    episodes: Sequence[Trajectory], rows: Mapping[str, Any], costs: Mapping[str, int | tuple[int, ...]] | None
) -> Mapping[str, int | tuple[int, ...]]:
    """Cost of every help type: from `costs`, else as logged."""
    if costs is not None:
        unused = [name for name in costs if name not in rows or name == NOHELP]
        if unused:
            raise ValueError(f"costs names {unused[0]!r}, which is not in these logs; they have {list(rows)[1:]}")
        return costs
    charged: dict[str, tuple[int, str]] = {}
    for trajectory in episodes:
        for step in trajectory.steps:
            name, charge = step.intervention or NOHELP, step.charge
            first, where = charged.setdefault(name, (charge, trajectory.episode))
            if name == NOHELP and charge:
                raise ValueError(f"episode {trajectory.episode!r} charges {charge} for a step without help; expected 0")
            if charge != first:
                raise ValueError(
                    f"help type {name!r} cost {first} in episode {where!r} and {charge} in episode "
                    f"{trajectory.episode!r}; set its cost (costs=, --cost)"
                )
    return {name: charge for name, (charge, _) in charged.items() if name != NOHELP}


def _notes(
    counts: Counts,
    borrowed: npt.NDArray[np.bool_],
    kappa: float,
    lent: npt.NDArray[np.bool_],
    handoffs: Sequence[str],
) -> tuple[str, ...]:
    notes = []
    if len(counts.transitions) == 1:
        notes.append("No step has help: help is not available in this model, and a larger budget changes nothing.")
    notes += handoffs
    if not counts.starts[0].any():
        notes.append("No episode is without help: the value with budget 0 is put together from steps without help.")
    if borrowed.any():
        rule = (
            "their rows are the PRM's scores"
            if kappa
            else "each has the pooled row of the nearest coarser class of states, or certain failure if there is none"
        )
        share = f"{np.count_nonzero(borrowed)} of {len(counts.keys)} states"
        notes.append(f"{share} were never visited without help; {rule}.")
    helped = np.sum([visits[:-2] > 0 for name, visits in counts.visits.items() if name != NOHELP], axis=0)
    if len(counts.transitions) > 1:
        untried, known = helped == 0, int(np.count_nonzero((helped == 0) & lent))
        if untried.any():
            rule = f"{known} of them have rows from like states" if known else "help is not available there"
            notes.append(f"In {np.count_nonzero(untried)} of {len(counts.keys)} states no help was tried; {rule}.")
    return tuple(notes)
