"""Resampled logs, each with the model that it was drawn from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from selfreg.estimate.counts import Counts
from selfreg.estimate.dataset import Fitted, ResamplingDataset, count_starts, start_distribution
from selfreg.estimate.model import build_mdp, fill_rows
from selfreg.estimate.shrinkage import prior_pseudo_counts

Floats = npt.NDArray[np.float64]
Method = Literal["bootstrap", "dirichlet"]
Rows = dict[str, sp.csr_array]


class Draw(NamedTuple):
    """A possible true model, and the model estimated from a log drawn from it."""

    true: Fitted
    estimated: Fitted


def draw_models(
    dataset: ResamplingDataset, method: Method, samples: int, generator: np.random.Generator
) -> Iterator[Draw]:
    """Pairs of a possible true model and an estimate from a log drawn from it.

    "bootstrap": the truth has the tasks in Dirichlet(1, ..., 1) shares (Bayesian bootstrap, Rubin 1981) plus
    pseudo-counts drawn from the prior; its log draws tasks by these shares, steps of a task staying together, and
    each step of a row falls to the row's pseudo-counts with their share in the row.
    "dirichlet": the truth's rows are Dirichlet with counts and prior as parameters; its log has as many visits of
    every row as the real one, steps independent.
    """
    counts = dataset.moves.counts()
    prior = prior_pseudo_counts(counts, dataset.abstraction)
    for _ in range(samples):
        yield (_draw_tasks if method == "bootstrap" else _draw_rows)(dataset, counts, prior, generator)


def _draw_tasks(dataset: ResamplingDataset, counts: Counts, prior: Rows, generator: np.random.Generator) -> Draw:
    n = dataset.n_tasks
    while True:
        share = generator.dirichlet(np.ones(n))
        times = generator.multinomial(n, share).astype(np.float64)
        if dataset.has_unhelped_steps(times):
            break
    weighted, drawn = dataset.moves.counts(n * share), dataset.moves.counts(times)
    pseudo = {name: _draw_gamma(matrix, generator) for name, matrix in prior.items()}
    true = {name: sp.csr_array(matrix + pseudo[name]) for name, matrix in weighted.transitions.items()}
    log = {
        name: _redraw_share(drawn.transitions[name], weighted.transitions[name], pseudo[name], generator)
        for name in pseudo
    }
    return Draw(
        _build_true(dataset, true, weighted, start_distribution(weighted)), _estimate(dataset, log, drawn.starts)
    )


def _draw_rows(dataset: ResamplingDataset, counts: Counts, prior: Rows, generator: np.random.Generator) -> Draw:
    true = {
        name: _draw_gamma(sp.csr_array(matrix + prior[name]), generator) for name, matrix in counts.transitions.items()
    }
    log = {name: _redraw(true[name], counts.visits[name], generator) for name in true}
    starts = count_starts(counts)
    weight = generator.gamma(np.where(starts > 0, starts, 1.0)) * (starts > 0)
    start = weight / weight.sum()
    again = np.zeros_like(counts.starts)
    again[0] = generator.multinomial(round(starts.sum()), start)
    return Draw(_build_true(dataset, true, counts, start), _estimate(dataset, log, again))


def _build_true(dataset: ResamplingDataset, rows: Rows, counts: Counts, start: Floats) -> Fitted:
    """Model of drawn rows; states without any row fail."""
    drawn = Counts(counts.keys, rows, counts.starts)
    filled = fill_rows(drawn, dataset.abstraction, None, 0.0, shrink=False)
    return Fitted(build_mdp(filled, None, dataset.costs), start)


def _estimate(dataset: ResamplingDataset, rows: Rows, starts: Floats) -> Fitted:
    """Model estimated from a drawn log."""
    counts = Counts(dataset.moves.keys, rows, starts)
    return Fitted(build_mdp(dataset.rows(counts), counts.visits, dataset.costs), start_distribution(counts))


def _draw_gamma(matrix: sp.csr_array, generator: np.random.Generator) -> sp.csr_array:
    """Gamma variates with the entries as shapes: rows scaled to 1 are Dirichlet."""
    drawn = np.maximum(generator.gamma(matrix.data), 1e-300)  # smaller ones cannot be normalised
    return sp.csr_array((drawn, matrix.indices, matrix.indptr), shape=matrix.shape)


def _redraw_share(
    drawn: sp.csr_array, logged: sp.csr_array, pseudo: sp.csr_array, generator: np.random.Generator
) -> sp.csr_array:
    """Counts with each visit redrawn from the row's pseudo-counts, with their share in `logged` + `pseudo`."""
    pseudo_sum, logged_sum = pseudo.sum(axis=1), logged.sum(axis=1)
    share = np.divide(pseudo_sum, pseudo_sum + logged_sum, out=np.zeros_like(pseudo_sum), where=pseudo_sum > 0)
    row = np.repeat(np.arange(len(share)), np.diff(drawn.indptr))
    # Outcomes between failure and success split a visit: each part is redrawn or not.
    units = np.maximum(np.ceil(drawn.data).astype(np.int64), 1)
    left = drawn.data * generator.binomial(units, 1.0 - share[row]) / units
    redrawn = np.bincount(row, drawn.data - left, len(share)).astype(np.float64)
    stay = sp.csr_array((left, drawn.indices, drawn.indptr), shape=drawn.shape)
    result = sp.csr_array(stay + _redraw(pseudo, redrawn, generator))
    result.eliminate_zeros()
    return result


def _redraw(rows: sp.csr_array, visits: Floats, generator: np.random.Generator) -> sp.csr_array:
    """`visits` (n,) of every row, rounded up to whole draws, sent to successors by the weights of `rows`."""
    times = np.ceil(visits - 1e-9).astype(np.int64)
    row = np.repeat(np.arange(len(times)), times)
    ends = np.concatenate([[0.0], np.cumsum(rows.data)])
    low, high = ends[rows.indptr[row]], ends[rows.indptr[row + 1]]
    # side="right": entries of almost no weight are not hit from below. Rounding never leaves the row.
    place = np.searchsorted(ends, low + generator.random(len(row)) * (high - low), side="right") - 1
    place = np.clip(place, rows.indptr[row], rows.indptr[row + 1] - 1)
    weight = np.divide(visits, times, out=np.zeros_like(visits), where=times > 0)[row]
    return sp.csr_array(sp.coo_array((weight, (row, rows.indices[place])), shape=rows.shape))
