"""What rows hardly seen may look like: pseudo-counts learned from the rows of like states."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from scipy.special import gammaln

from selfreg.data import NOHELP
from selfreg.estimate.abstraction import Key, StateAbstraction
from selfreg.estimate.counts import Counts
from selfreg.estimate.model import mdp_of, row_counts
from selfreg.solve import solve

Floats = npt.NDArray[np.float64]

# Weights of a pool that are tried, in visits; and that of a state without a pool.
CONCENTRATIONS = np.geomspace(0.5, 200.0, 25)
UNIT = 1.0


def prior_counts(counts: Counts, abstraction: StateAbstraction) -> dict[str, sp.csr_array]:
    """Parameters of a Dirichlet prior of every row, float64 (n, n) for each action.

    A row's prior mean is the pooled row of the nearest coarser class of states with two or more rows of the action; its
    weight, the same for all rows of an action, is the one under which the counts are likeliest
    (Dirichlet-multinomial, Minka 2000, "Estimating a Dirichlet distribution"; of 25 values). Without such a class the
    prior is one visit that ends the episode: in success as often as unhelped episodes do for `nohelp`, and as often
    as going on alone does from this state for help.
    """
    result = {}
    for name, matrix in counts.transitions.items():
        pools, pooled = _pools(matrix, counts.keys, abstraction)
        result[name] = _concentration(matrix, pools, pooled) * pools
        if name == NOHELP:
            overall = _share(matrix)
            result[name] = _ending(result[name], pooled, np.full(len(pooled), overall))
            alone = _alone(counts, result[name], abstraction)
        else:
            result[name] = _ending(result[name], pooled, alone)
    return result


def _pools(
    matrix: sp.csr_array, keys: Sequence[Key], abstraction: StateAbstraction
) -> tuple[sp.csr_array, npt.NDArray[np.bool_]]:
    """Mean row of each state's nearest coarser class with two rows or more, and which states (n - 2,) have one."""
    n = matrix.shape[0]
    classes: dict[Key, list[int]] = {}
    for i in np.flatnonzero(np.diff(matrix.indptr)[:-2]).tolist():
        key = abstraction.coarser(keys[i])
        while key is not None:
            classes.setdefault(key, []).append(i)
            key = abstraction.coarser(key)
    wide = {key: c for c, key in enumerate(key for key, members in classes.items() if len(members) > 1)}
    of = np.full(n, -1)
    for i, own in enumerate(keys):
        key = abstraction.coarser(own)
        while key is not None and key not in wide:
            key = abstraction.coarser(key)
        of[i] = -1 if key is None else wide[key]
    members = [(c, i) for key, c in wide.items() for i in classes[key]]
    rows, columns = np.array(members, dtype=np.intp).reshape(-1, 2).T
    shape = (max(len(wide), 1), n)
    sums = sp.csr_array(sp.coo_array((np.ones(len(rows)), (rows, columns)), shape=shape)) @ matrix
    totals = sums.sum(axis=1)
    means = sp.diags_array(np.divide(1.0, totals, out=np.zeros(len(totals)), where=totals > 0)) @ sums
    states = np.flatnonzero(of >= 0)
    lend = sp.csr_array(sp.coo_array((np.ones(len(states)), (states, of[states])), shape=(n, shape[0])))
    return sp.csr_array(lend @ means), of[:-2] >= 0


def _concentration(matrix: sp.csr_array, pools: sp.csr_array, pooled: npt.NDArray[np.bool_]) -> float:
    """Weight of the pools under which the counts of their rows are likeliest."""
    rows = np.flatnonzero(pooled & (np.diff(matrix.indptr)[:-2] > 0))
    if not len(rows):
        return UNIT
    part = sp.csr_array(matrix[rows])
    where = np.repeat(rows, np.diff(part.indptr))
    mean, seen, visits = np.asarray(pools[where, part.indices]).ravel(), part.data, part.sum(axis=1)
    likelihood = [
        float(np.sum(gammaln(a) - gammaln(a + visits)) + np.sum(gammaln(a * mean + seen) - gammaln(a * mean)))
        for a in CONCENTRATIONS
    ]
    return float(CONCENTRATIONS[int(np.argmax(likelihood))])


def _ending(prior: sp.csr_array, done: npt.NDArray[np.bool_], success: Floats) -> sp.csr_array:
    """`prior` with one visit to success and failure in the states that are not done; `success` float64 (n - 2,)."""
    n, left = prior.shape[0], np.flatnonzero(~done)
    weights = UNIT * np.concatenate([success[left], 1.0 - success[left]])
    places = (np.concatenate([left, left]), np.repeat([n - 2, n - 1], len(left)))
    result = sp.csr_array(prior + sp.csr_array(sp.coo_array((weights, places), shape=(n, n))))
    result.eliminate_zeros()
    return result


def _share(matrix: sp.csr_array) -> float:
    """Share of the endings that are successes; a half where there are none."""
    won, lost = (float(matrix[:, [j]].sum()) for j in (-2, -1))
    return (won + 0.5) / (won + lost + 1.0)


def _alone(counts: Counts, prior: sp.csr_array, abstraction: StateAbstraction) -> Floats:
    """Success of going on alone from every state, float64 (n - 2,), by the counts and the prior together."""
    nohelp = sp.csr_array(counts.transitions[NOHELP] + prior)
    rows = row_counts(Counts(counts.keys, {NOHELP: nohelp}, counts.starts), abstraction, None, 0.0, False)
    value: Floats = solve(mdp_of(rows, None, {}), 0).value[:-2, 0]
    return value
