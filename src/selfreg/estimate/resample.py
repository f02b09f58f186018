"""Logs that could as well have come, each with the model that they would have come from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from selfreg.estimate.counts import Counts
from selfreg.estimate.dataset import Fitted, ResamplingDataset, start_counts, start_of
from selfreg.estimate.model import mdp_of, row_counts
from selfreg.estimate.shrinkage import prior_counts

Floats = npt.NDArray[np.float64]
Method = Literal["bootstrap", "dirichlet"]
Rows = dict[str, sp.csr_array]


class Draw(NamedTuple):
    """A model that may be the true one, and the model estimated from a log drawn from it."""

    true: Fitted
    estimated: Fitted


def draws(study: ResamplingDataset, method: Method, samples: int, generator: np.random.Generator) -> Iterator[Draw]:
    """Pairs of a possible truth and an estimate from a log that it could have given.

    "bootstrap": the truth has the tasks in Dirichlet(1, ..., 1) shares (Bayesian bootstrap, Rubin 1981) plus
    pseudo-counts drawn from the prior; its log draws tasks by these shares, steps of a task staying together, and
    each step of a row falls to the row's pseudo-counts with their share in the row.
    "dirichlet": the truth's rows are Dirichlet with counts and prior as parameters; its log has as many visits of
    every row as the real one, steps independent.
    """
    counts = study.moves.counts()
    prior = prior_counts(counts, study.abstraction)
    for _ in range(samples):
        yield (_by_tasks if method == "bootstrap" else _by_rows)(study, counts, prior, generator)


def _by_tasks(study: ResamplingDataset, counts: Counts, prior: Rows, generator: np.random.Generator) -> Draw:
    n = study.n_tasks
    while True:
        share = generator.dirichlet(np.ones(n))
        times = generator.multinomial(n, share).astype(np.float64)
        if study.usable(times):
            break
    heavy, drawn = study.moves.counts(n * share), study.moves.counts(times)
    thin = {name: _gamma(matrix, generator) for name, matrix in prior.items()}
    true = {name: sp.csr_array(matrix + thin[name]) for name, matrix in heavy.transitions.items()}
    log = {
        name: _partly_redrawn(drawn.transitions[name], heavy.transitions[name], thin[name], generator) for name in thin
    }
    return Draw(_fitted(study, true, heavy, start_of(heavy)), _estimated(study, log, drawn.starts))


def _by_rows(study: ResamplingDataset, counts: Counts, prior: Rows, generator: np.random.Generator) -> Draw:
    true = {name: _gamma(sp.csr_array(matrix + prior[name]), generator) for name, matrix in counts.transitions.items()}
    log = {name: _redrawn(true[name], counts.visits[name], generator) for name in true}
    starts = start_counts(counts)
    weight = generator.gamma(np.where(starts > 0, starts, 1.0)) * (starts > 0)
    start = weight / weight.sum()
    again = np.zeros_like(counts.starts)
    again[0] = generator.multinomial(round(starts.sum()), start)
    return Draw(_fitted(study, true, counts, start), _estimated(study, log, again))


def _fitted(study: ResamplingDataset, rows: Rows, counts: Counts, start: Floats) -> Fitted:
    """Model of drawn rows; states that nothing is known of fail."""
    filled = row_counts(Counts(counts.keys, rows, counts.starts), study.abstraction, None, 0.0, study.borrow_help)
    return Fitted(mdp_of(filled, None, study.costs), start)


def _estimated(study: ResamplingDataset, rows: Rows, starts: Floats) -> Fitted:
    """What the estimator makes of a drawn log."""
    counts = Counts(study.moves.keys, rows, starts)
    return Fitted(mdp_of(study.rows(counts), counts.visits, study.costs), start_of(counts))


def _gamma(matrix: sp.csr_array, generator: np.random.Generator) -> sp.csr_array:
    """Gamma variates with the entries as shapes: rows scaled to 1 are Dirichlet."""
    drawn = np.maximum(generator.gamma(matrix.data), 1e-300)  # smaller ones cannot be scaled
    return sp.csr_array((drawn, matrix.indices, matrix.indptr), shape=matrix.shape)


def _partly_redrawn(
    drawn: sp.csr_array, heavy: sp.csr_array, thin: sp.csr_array, generator: np.random.Generator
) -> sp.csr_array:
    """Counts of which every visit goes to the row's pseudo-counts `thin` with their share in `heavy` + `thin`."""
    pseudo, logged = thin.sum(axis=1), heavy.sum(axis=1)
    share = np.divide(pseudo, pseudo + logged, out=np.zeros_like(pseudo), where=pseudo > 0)
    row = np.repeat(np.arange(len(share)), np.diff(drawn.indptr))
    # Outcomes between failure and success split a visit: its parts stay or go.
    units = np.maximum(np.ceil(drawn.data).astype(np.int64), 1)
    kept = drawn.data * generator.binomial(units, 1.0 - share[row]) / units
    gone = np.bincount(row, drawn.data - kept, len(share)).astype(np.float64)
    stay = sp.csr_array((kept, drawn.indices, drawn.indptr), shape=drawn.shape)
    result = sp.csr_array(stay + _redrawn(thin, gone, generator))
    result.eliminate_zeros()
    return result


def _redrawn(rows: sp.csr_array, visits: Floats, generator: np.random.Generator) -> sp.csr_array:
    """`visits` (n,) of every row, rounded up to whole draws, sent to successors by the weights of `rows`."""
    times = np.ceil(visits - 1e-9).astype(np.int64)
    row = np.repeat(np.arange(len(times)), times)
    ends = np.concatenate([[0.0], np.cumsum(rows.data)])
    low, high = ends[rows.indptr[row]], ends[rows.indptr[row + 1]]
    # side="right": entries of weight nearly nothing are not hit from below; never beyond the row by rounding.
    place = np.searchsorted(ends, low + generator.random(len(row)) * (high - low), side="right") - 1
    place = np.clip(place, rows.indptr[row], rows.indptr[row + 1] - 1)
    weight = np.divide(visits, times, out=np.zeros_like(visits), where=times > 0)[row]
    return sp.csr_array(sp.coo_array((weight, (row, rows.indices[place])), shape=rows.shape))
