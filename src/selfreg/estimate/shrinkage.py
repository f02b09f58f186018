"""Shrinkage of low-count rows: pseudo-counts learned from the rows of similar states."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from scipy.special import gammaln

from selfreg.data import NOHELP
from selfreg.estimate.abstraction import Key, StateAbstraction
from selfreg.estimate.counts import Counts
from selfreg.estimate.model import build_mdp, fill_rows
from selfreg.planning.hard import solve

Floats = npt.NDArray[np.float64]

# Candidate weights of a pooled row, in visits; and the weight for a state without one.
CONCENTRATIONS = np.geomspace(0.5, 200.0, 25)
UNIT = 1.0
MOST_SUCCESSORS = 64


def prior_pseudo_counts(counts: Counts, abstraction: StateAbstraction) -> dict[str, sp.csr_array]:
    """Parameters of a Dirichlet prior of every row, float64 (n, n) for each action.

    A row's prior mean is the pooled row of the nearest coarser class of states with two or more rows of the action. Its
    weight, the same for all rows of an action, is that of 25 values with the highest likelihood of the counts
    (Dirichlet-multinomial, Minka 2000, "Estimating a Dirichlet distribution"). Without such a class the prior is one
    visit that ends the episode. Its success is that of unhelped episodes for `nohelp`, and that of going on alone from
    this state for help.
    """
    result = {}
    for name, matrix in counts.transitions.items():
        means, of = _pool_rows(matrix, counts.keys, abstraction)
        pooled = of >= 0
        result[name] = _fit_concentration(matrix, means, of) * _spread_means(_truncate_rows(means), of)
        if name == NOHELP:
            overall = _success_share(matrix)
            result[name] = _add_endings(result[name], pooled, np.full(len(pooled), overall))
            alone = _solve_alone(counts, result[name], abstraction)
        else:
            result[name] = _add_endings(result[name], pooled, alone)
    return result


def _pool_rows(
    matrix: sp.csr_array, keys: Sequence[Key], abstraction: StateAbstraction
) -> tuple[sp.csr_array, npt.NDArray[np.intp]]:
    """Mean row of every class with two rows or more, (classes, n), and each state's nearest class (n - 2,) or -1."""
    n = matrix.shape[0]
    classes: dict[Key, list[int]] = {}
    for i in np.flatnonzero(np.diff(matrix.indptr)[:-2]).tolist():
        key = abstraction.coarser(keys[i])
        while key is not None:
            classes.setdefault(key, []).append(i)
            key = abstraction.coarser(key)
    wide = {key: c for c, key in enumerate(key for key, members in classes.items() if len(members) > 1)}
    of = np.full(n - 2, -1, dtype=np.intp)
    for i, own in enumerate(keys):
        key = abstraction.coarser(own)
        while key is not None and key not in wide:
            key = abstraction.coarser(key)
        of[i] = -1 if key is None else wide[key]
    members = [(c, i) for key, c in wide.items() for i in classes[key]]
    rows, columns = np.array(members, dtype=np.intp).reshape(-1, 2).T
    shape = (max(len(wide), 1), n)
    return _normalise(sp.csr_array(sp.coo_array((np.ones(len(rows)), (rows, columns)), shape=shape)) @ matrix), of


def _normalise(sums: sp.csr_array) -> sp.csr_array:
    """Rows scaled to 1."""
    totals = sums.sum(axis=1)
    return sp.csr_array(sp.diags_array(np.divide(1.0, totals, out=np.zeros(len(totals)), where=totals > 0)) @ sums)


def _truncate_rows(means: sp.csr_array) -> sp.csr_array:
    """Rows with their most likely successors only, which keeps the rows of wide classes short."""
    row = np.repeat(np.arange(means.shape[0]), np.diff(means.indptr))
    order = np.lexsort([means.indices, -means.data, row])
    rank = np.arange(len(order)) - means.indptr[row[order]]
    top = order[rank < MOST_SUCCESSORS]
    return _normalise(sp.csr_array(sp.coo_array((means.data[top], (row[top], means.indices[top])), shape=means.shape)))


def _spread_means(means: sp.csr_array, of: npt.NDArray[np.intp]) -> sp.csr_array:
    """Mean row of the class of every state, (n, n)."""
    states = np.flatnonzero(of >= 0)
    shape = (means.shape[1], means.shape[0])
    return sp.csr_array(sp.coo_array((np.ones(len(states)), (states, of[states])), shape=shape) @ means)


def _fit_concentration(matrix: sp.csr_array, means: sp.csr_array, of: npt.NDArray[np.intp]) -> float:
    """Weight of the pooled rows with the highest likelihood of the counts."""
    rows = np.flatnonzero((of >= 0) & (np.diff(matrix.indptr)[:-2] > 0))
    if not len(rows):
        return UNIT
    part = sp.csr_array(matrix[rows])
    where = np.repeat(of[rows], np.diff(part.indptr))
    mean, seen, visits = np.asarray(means[where, part.indices]).ravel(), part.data, part.sum(axis=1)
    likelihood = [
        float(np.sum(gammaln(a) - gammaln(a + visits)) + np.sum(gammaln(a * mean + seen) - gammaln(a * mean)))
        for a in CONCENTRATIONS
    ]
    return float(CONCENTRATIONS[int(np.argmax(likelihood))])


def _add_endings(prior: sp.csr_array, done: npt.NDArray[np.bool_], success: Floats) -> sp.csr_array:
    """`prior` with one visit that ends the episode in the states that are not `done`; `success` float64 (n - 2,)."""
    n, left = prior.shape[0], np.flatnonzero(~done)
    weights = UNIT * np.concatenate([success[left], 1.0 - success[left]])
    places = (np.concatenate([left, left]), np.repeat([n - 2, n - 1], len(left)))
    result = sp.csr_array(prior + sp.csr_array(sp.coo_array((weights, places), shape=(n, n))))
    result.eliminate_zeros()
    return result


def _success_share(matrix: sp.csr_array) -> float:
    """Share of the endings that are successes; a half if there are none."""
    won, lost = (float(matrix[:, [j]].sum()) for j in (-2, -1))
    return (won + 0.5) / (won + lost + 1.0)


def _solve_alone(counts: Counts, prior: sp.csr_array, abstraction: StateAbstraction) -> Floats:
    """Success of going on alone from every state, float64 (n - 2,), by the counts and the prior together."""
    nohelp = sp.csr_array(counts.transitions[NOHELP] + prior)
    rows = fill_rows(Counts(counts.keys, {NOHELP: nohelp}, counts.starts), abstraction, None, 0.0, False)
    value: Floats = solve(build_mdp(rows, None, {}), 0).value[:-2, 0]
    return value
