"""Shrinkage of low-count rows: pseudo-counts learned from the rows of similar states and of acting alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from selfreg.data import NOHELP
from selfreg.estimate.abstraction import Key, StateAbstraction
from selfreg.estimate.counts import Counts
from selfreg.mdp import InterventionMDP
from selfreg.planning.hard import solve

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

# Candidate weights of a prior row, in visits; and the weight for a state without one.
CONCENTRATIONS = np.geomspace(0.5, 200.0, 25)
UNIT = 1.0
MOST_SUCCESSORS = 64
# Share of a helped row's prior that is the row of its class, so that no logged successor is impossible.
CLASS_SHARE = 0.05
# Precision of the prior of the effect of help, at 0: one that a few visits outweigh.
EFFECT_PRECISION = 0.1


class Level(NamedTuple):
    """Classes of states of one level of coarseness.

    `wide` (n - 2,) is each state's class, or -1. `member` (classes, n) holds ones for the classes that are pooled, and
    `of` (n - 2,) is each state's one of these, or -1. A class that goes on to states in parts of the log that no
    episode connects (other domains, other tasks) is not pooled: it would lend moves between them.
    """

    member: sp.csr_array
    of: Indices
    wide: Indices


def nest_classes(counts: Counts, abstraction: StateAbstraction) -> list[Level]:
    """Classes of all levels, the nearest first; empty if states have no coarser class."""
    from scipy.sparse.csgraph import connected_components  # here and below: slow to import

    n = len(counts.keys)
    moves = sp.csr_array(sum(counts.transitions.values()))[:n, :n]
    part, ends = connected_components(moves, directed=False)[1], np.diff(moves.indptr) == 0
    keys: list[Key | None] = list(counts.keys)
    levels: list[Level] = []
    while True:
        keys = [None if key is None else abstraction.coarser(key) for key in keys]
        if all(key is None for key in keys):
            return levels
        index: dict[Key, list[int]] = {}
        for i, key in enumerate(keys):
            if key is not None:
                index.setdefault(key, []).append(i)
        pooled = [s for s in index.values() if len(s) > 1 and (len(set(part[s])) == 1 or ends[s].all())]
        of, wide = _number(pooled, n), _number(list(index.values()), n)
        own = np.flatnonzero(of >= 0)
        shape = (max(len(pooled), 1), n + 2)
        levels.append(Level(sp.csr_array(sp.coo_array((np.ones(len(own)), (of[own], own)), shape=shape)), of, wide))


def _number(classes: Sequence[Sequence[int]], n: int) -> Indices:
    """Class of each of n states; -1 without one."""
    of = np.full(n, -1, dtype=np.intp)
    for c, states in enumerate(classes):
        of[states] = c
    return of


def prior_pseudo_counts(counts: Counts, abstraction: StateAbstraction) -> dict[str, sp.csr_array]:
    """Parameters of a Dirichlet prior of every row, float64 (n, n) for each action.

    `nohelp`: the prior mean is the pooled row of the nearest class of states, itself shrunk towards the next coarser
    one. Help: see `prior_of_help`. Weights are those of 25 values with the highest likelihood of the counts
    (Dirichlet-multinomial, Minka 2000, "Estimating a Dirichlet distribution"). A state without such a prior has one
    visit that ends the episode. Its success is that of unhelped episodes for `nohelp`, and that of going on alone from
    this state for help.
    """
    alone, levels = counts.transitions[NOHELP], nest_classes(counts, abstraction)
    nohelp = _add_endings(_nested_prior(alone, levels), np.full(len(counts.keys), _success_share(alone)))
    value = _solve_alone(sp.csr_array(alone + nohelp))
    help_rows = prior_of_help(counts, levels, sp.csr_array(alone + nohelp)) if levels else {}
    empty = sp.csr_array(alone.shape)
    names = [name for name in counts.transitions if name != NOHELP]
    return {NOHELP: nohelp} | {name: _add_endings(help_rows.get(name, empty), value[:-2]) for name in names}


def shrink_help(
    rows: Mapping[str, sp.csr_array], counts: Counts, abstraction: StateAbstraction
) -> dict[str, sp.csr_array]:
    """`rows` with pseudo-counts on the rows of help; as they are if states have no coarser class.

    `rows` are those of `fill_rows`. The rows of `nohelp` stay as counted, so that the value of acting alone is what
    the logs say.
    """
    levels = nest_classes(counts, abstraction)
    if not levels or len(rows) == 1:
        return dict(rows)
    # States that were never left alone fail in `rows`: that is no evidence on help.
    failing = np.where(counts.visits[NOHELP] > 0, 0.0, rows[NOHELP][:, [-1]].sum(axis=1)) >= rows[NOHELP].sum(axis=1)
    alone = sp.diags_array((~failing).astype(float)) @ rows[NOHELP]
    prior = prior_of_help(counts, levels, sp.csr_array(alone + _nested_prior(counts.transitions[NOHELP], levels)))
    return {name: matrix if name == NOHELP else sp.csr_array(matrix + prior[name]) for name, matrix in rows.items()}


def prior_of_help(counts: Counts, levels: Sequence[Level], alone: sp.csr_array) -> dict[str, sp.csr_array]:
    """Pseudo-counts of the rows of each help type, from `alone`: the rows of acting alone, not normalised.

    Prior mean: the row of acting alone, tilted towards successors from which acting alone succeeds more often,
    P(j) exp(effect V(j)) to a sum of 1. The effect is one number a help type, the one of highest likelihood, shrunk
    towards that of all types together by the variance between them. With several types the row of the other types in
    that state is used instead, shrunk towards the same mean, if it predicts the type's counts better. A state has a
    prior where help of the type was tried, or where any help was tried in one of its classes. The tilt is ours.
    """
    helped = {name: matrix for name, matrix in counts.transitions.items() if name != NOHELP}
    if not helped:
        return {}
    everything = sp.csr_array(sum(helped.values()))
    value = _solve_alone(alone)
    mean = _mix(_normalise(alone), _class_rows(sp.csr_array(everything + counts.transitions[NOHELP]), levels))
    effects, common = _fit_effects(helped, mean, value)
    pooled = _tilt(mean, common, value)
    known = _tried_nearby(everything, levels)
    result = {}
    for name, matrix in helped.items():
        parents = [_tilt(mean, effects[name], value)]
        if len(helped) > 1:
            rest = sp.csr_array(everything - matrix + _fit_weight(everything, pooled)[0] * pooled)
            others = _mix(_normalise(rest), mean)
            parents.append(_tilt(others, effects[name] - common, value))
        fits = [_fit_weight(matrix, parent) for parent in parents]
        best = int(np.argmax([likelihood for _, likelihood in fits]))
        tried = known | (matrix.sum(axis=1) > 0)
        result[name] = sp.csr_array(sp.diags_array(fits[best][0] * tried) @ _truncate_rows(parents[best]))
    return result


def _nested_prior(matrix: sp.csr_array, levels: Sequence[Level]) -> sp.csr_array:
    """Weighted mean row of each state's nearest class with two rows or more, (n, n), shrunk level by level."""
    n, filled = matrix.shape[0], matrix.sum(axis=1) > 0
    nearest, stacked, first = np.full(n - 2, -1, dtype=np.intp), sp.csr_array((0, n)), 0
    above: tuple[sp.csr_array, Indices] | None = None
    for member, of, _ in reversed(levels):
        sums = sp.csr_array(sp.diags_array((member @ filled >= 2).astype(float)) @ (member @ matrix))
        if above is not None:
            parent = above[1][member.indices[member.indptr[:-1]]] if member.nnz else np.full(member.shape[0], -1)
            sums = sums + _fit_concentration(sums, above[0], parent)[0] * _spread_means(above[0], parent, len(parent))
        means = _normalise(sp.csr_array(sums))
        usable = (of >= 0) & (means.sum(axis=1) > 0)[of]
        nearest[usable] = first + of[usable]
        stacked, first, above = sp.csr_array(sp.vstack([stacked, means])), first + means.shape[0], (means, of)
    if not levels:
        return sp.csr_array(matrix.shape)
    weight = _fit_concentration(matrix, stacked, nearest)[0]
    return sp.csr_array(weight * _spread_means(_truncate_rows(stacked), nearest, n))


def _class_rows(matrix: sp.csr_array, levels: Sequence[Level]) -> sp.csr_array:
    """Mean row of each state's nearest class, or its own row, (n, n)."""
    own, rows = np.ones(matrix.shape[0], dtype=bool), sp.csr_array(matrix.shape)
    for member, of, _ in levels:
        lent = np.where(own[:-2], of, -1)
        rows = rows + _spread_means(_truncate_rows(_normalise(sp.csr_array(member @ matrix))), lent, len(own))
        own[:-2] &= of < 0
    # A state's own successors stay possible where a wide class was cut to its most likely ones.
    return _normalise(sp.csr_array(_normalise(matrix) + rows))


def _tried_nearby(helped: sp.csr_array, levels: Sequence[Level]) -> npt.NDArray[np.bool_]:
    """Whether any help was tried in a class of the state, bool (n,)."""
    visits = helped.sum(axis=1)
    result = np.zeros(len(visits), dtype=bool)
    for _, _, wide in levels:
        result[:-2] |= (wide >= 0) & (np.bincount(wide + 1, visits[:-2])[wide + 1] > 0)
    return result


def _fit_effects(
    helped: Mapping[str, sp.csr_array], mean: sp.csr_array, value: Floats
) -> tuple[dict[str, float], float]:
    """Effect of each help type, and of all together (DerSimonian and Laird 1986 for the variance between types)."""
    common = _fit_effect(sp.csr_array(sum(helped.values())), mean, value, 0.0, EFFECT_PRECISION)[0]
    if len(helped) == 1:
        return dict.fromkeys(helped, common), common
    own = np.array([_fit_effect(matrix, mean, value, 0.0, EFFECT_PRECISION) for matrix in helped.values()])
    effect, weight = own.T
    spread = float(weight @ (effect - common) ** 2) - (len(own) - 1)
    scale = weight.sum() - (weight @ weight) / max(weight.sum(), 1e-12)
    between = max(spread / scale, 0.0) if scale > 1e-9 else 0.0
    if not between:
        return dict.fromkeys(helped, common), common
    fits = [_fit_effect(matrix, mean, value, common, 1.0 / between)[0] for matrix in helped.values()]
    return dict(zip(helped, fits, strict=True)), common


def _fit_effect(
    matrix: sp.csr_array, mean: sp.csr_array, value: Floats, prior: float, precision: float
) -> tuple[float, float]:
    """Effect of highest posterior density by Newton's method, and the information on it in the counts."""
    row, ahead = np.repeat(np.arange(mean.shape[0]), np.diff(mean.indptr)), value[mean.indices]
    weight, seen = matrix.sum(axis=1)[row], float((matrix @ value).sum())
    effect, information = prior, 0.0
    for _ in range(50):
        likely = mean.data * np.exp(effect * (ahead - (effect > 0)))
        likely /= np.bincount(row, likely)[row]
        average = np.bincount(row, likely * ahead)[row]
        information = float((weight * likely) @ (ahead - average) ** 2)
        slope = seen - float((weight * likely) @ ahead) - precision * (effect - prior)
        step = float(np.clip(slope / (information + precision), -2.0, 2.0))
        effect += step
        if abs(step) < 1e-8:
            break
    return effect, information


def _tilt(mean: sp.csr_array, effect: float, value: Floats) -> sp.csr_array:
    """Rows with the weight of each successor times exp(effect * its value alone)."""
    weights = mean.data * np.exp(effect * (value[mean.indices] - (effect > 0)))
    return _normalise(sp.csr_array((weights, mean.indices, mean.indptr), shape=mean.shape))


def _mix(rows: sp.csr_array, other: sp.csr_array) -> sp.csr_array:
    """Rows with a small share of `other`."""
    return _normalise(sp.csr_array((1.0 - CLASS_SHARE) * rows + CLASS_SHARE * other))


def _normalise(sums: sp.csr_array) -> sp.csr_array:
    """Rows scaled to 1."""
    row = np.repeat(np.arange(sums.shape[0]), np.diff(sums.indptr))
    totals = np.bincount(row, sums.data, sums.shape[0])[row]
    scale = np.divide(1.0, totals, out=np.zeros(len(row)), where=totals > 0)
    return sp.csr_array((sums.data * scale, sums.indices, sums.indptr), shape=sums.shape)


def _truncate_rows(means: sp.csr_array) -> sp.csr_array:
    """Rows with their most likely successors only, which keeps the rows of wide classes short."""
    row = np.repeat(np.arange(means.shape[0]), np.diff(means.indptr))
    order = np.lexsort([means.indices, -means.data, row])
    rank = np.arange(len(order)) - means.indptr[row[order]]
    top = order[rank < MOST_SUCCESSORS]
    return _normalise(sp.csr_array(sp.coo_array((means.data[top], (row[top], means.indices[top])), shape=means.shape)))


def _spread_means(means: sp.csr_array, of: Indices, n: int) -> sp.csr_array:
    """Row `of` of `means` for each of n rows, (n, columns); empty where `of` is -1 or ends."""
    rows = np.flatnonzero(of >= 0)
    shape = (n, means.shape[0])
    return sp.csr_array(sp.coo_array((np.ones(len(rows)), (rows, of[rows])), shape=shape) @ means)


def _fit_weight(matrix: sp.csr_array, means: sp.csr_array) -> tuple[float, float]:
    """As `_fit_concentration`, with a mean of its own for every row."""
    return _fit_concentration(matrix, means, np.arange(matrix.shape[0]))


def _fit_concentration(matrix: sp.csr_array, means: sp.csr_array, of: Indices) -> tuple[float, float]:
    """Weight of the rows `of` of `means` with the highest likelihood of the counts, and that likelihood's logarithm."""
    from scipy.special import gammaln

    rows = np.flatnonzero((of >= 0) & (np.diff(matrix.indptr)[: len(of)] > 0))
    if not len(rows):
        return UNIT, 0.0
    part = sp.csr_array(matrix[rows])
    where = np.repeat(of[rows], np.diff(part.indptr))
    mean, seen, visits = np.asarray(means[where, part.indices]).ravel(), part.data, part.sum(axis=1)
    likelihood = [
        float(np.sum(gammaln(a) - gammaln(a + visits)) + np.sum(gammaln(a * mean + seen) - gammaln(a * mean)))
        for a in CONCENTRATIONS
    ]
    best = int(np.argmax(likelihood))
    return float(CONCENTRATIONS[best]), likelihood[best]


def _add_endings(prior: sp.csr_array, success: Floats) -> sp.csr_array:
    """`prior` with one visit that ends the episode in the states without a row; `success` float64 (n - 2,)."""
    n, left = prior.shape[0], np.flatnonzero(prior.sum(axis=1)[:-2] == 0)
    weights = UNIT * np.concatenate([success[left], 1.0 - success[left]])
    places = (np.concatenate([left, left]), np.repeat([n - 2, n - 1], len(left)))
    result = sp.csr_array(prior + sp.csr_array(sp.coo_array((weights, places), shape=(n, n))))
    result.eliminate_zeros()
    return result


def _success_share(matrix: sp.csr_array) -> float:
    """Share of the endings that are successes; a half if there are none."""
    won, lost = (float(matrix[:, [j]].sum()) for j in (-2, -1))
    return (won + 0.5) / (won + lost + 1.0)


def _solve_alone(rows: sp.csr_array) -> Floats:
    """Success of going on alone from every state, float64 (n,); a state without a row fails."""
    n, empty = rows.shape[0], np.flatnonzero(rows.sum(axis=1)[:-2] == 0)
    failing = sp.coo_array((np.ones(len(empty)), (empty, np.full(len(empty), n - 1))), shape=(n, n))
    terminal = np.concatenate([np.full(n - 2, np.nan), [1.0, 0.0]])
    mdp = InterventionMDP({NOHELP: _normalise(sp.csr_array(rows + failing))}, terminal, {})
    value: Floats = solve(mdp, 0, n_threads=1).value[:, 0]
    return value
