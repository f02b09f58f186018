"""Models made from models: discounting, a finite horizon."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

Floats = npt.NDArray[np.float64]


def stop_at_random(matrix: sp.csr_array, live: npt.NDArray[np.bool_], discount: float) -> sp.csr_array:
    """Rows scaled by `discount`, with the rest of their mass on one more state, the last."""
    n = matrix.shape[0]
    filled = np.flatnonzero((np.diff(matrix.indptr) > 0) & live)
    stop = sp.csr_array((np.full(len(filled), 1.0 - discount), (filled, np.zeros(len(filled), np.int64))), shape=(n, 1))
    rows = sp.hstack([matrix * discount, stop])
    return sp.csr_array(sp.vstack([rows, sp.csr_array((1, n + 1))]))


def repeat_by_step(matrix: sp.csr_array, live: npt.NDArray[np.bool_], horizon: int) -> sp.csr_array:
    """Rows of step t lead to the states of step t + 1: state t * n + s is `s` at step `t`, up to t = `horizon`."""
    kept = sp.csr_array(sp.diags_array(live.astype(np.float64)) @ matrix)
    steps = sp.csr_array((np.ones(horizon), (np.arange(horizon), np.arange(1, horizon + 1))), shape=(horizon + 1,) * 2)
    return sp.csr_array(sp.kron(steps, kept, format="csr"))


def extend_visits(visits: Mapping[str, Floats] | None, times: int, more: int) -> dict[str, Floats] | None:
    """Visits of every row `times` over, and 0 for `more` states after them."""
    if visits is None:
        return None
    return {name: np.concatenate([np.tile(array, times), np.zeros(more)]) for name, array in visits.items()}
