"""Linear systems of Markov chains that are left in the end."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

if TYPE_CHECKING:
    from scipy.sparse.linalg import SuperLU

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

# Components up to this size are eliminated in topological order; larger ones need an order that limits the fill.
SMALL_COMPONENT = 32
# Powers of a component's matrix to try before its factors; a chain whose mass leaves faster needs no more.
MAX_POWERS = 2_000


class Powers(NamedTuple):
    """Solves (I - matrix) x = right by x = sum of matrix^k right; after `terms` of them rounding is all that lacks."""

    matrix: sp.csr_array
    terms: int

    def solve(self, right: Floats, trans: str = "N") -> Floats:
        matrix = self.matrix if trans == "N" else self.matrix.T.tocsr()
        result = right
        for _ in range(self.terms):
            result = right + matrix @ result
        return result


def transient_system(matrix: sp.csr_array) -> tuple[SuperLU | Powers, Indices]:
    """Solver of (I - matrix) x = right for a transient `matrix`, its states taken in the order returned with it.

    Where cycles are short, elimination in topological order (components as labelled by scipy, successors first) fills
    nothing in. In large components, which often lose their mass fast and fill in badly, powers of the matrix are
    tried first. The factors of an M-matrix are stable without pivoting, and the order decides about cost only.
    """
    # Not needed by models without cycles, and slow to import.
    from scipy.sparse.csgraph import connected_components
    from scipy.sparse.linalg import splu

    _, label = connected_components(matrix, connection="strong")
    order = np.argsort(label, kind="stable")
    small = np.bincount(label).max() <= SMALL_COMPONENT
    matrix = matrix[order][:, order]
    if not small and (terms := _powers_needed(matrix)) is not None:
        return Powers(matrix, terms), order
    system = sp.csc_array(sp.eye_array(len(order)) - matrix)
    return splu(system, permc_spec="NATURAL" if small else "COLAMD", diag_pivot_thresh=0.0), order


def _powers_needed(matrix: sp.csr_array) -> int | None:
    """First k with all row sums of matrix^k below rounding; None where MAX_POWERS do not suffice."""
    left = np.ones(matrix.shape[0])
    for count in range(1, MAX_POWERS + 1):
        left = matrix @ left
        if left.max() < np.finfo(np.float64).eps / 8:
            return count
    return None


def solve_transient(matrix: sp.csr_array, right: Floats) -> Floats:
    """(I - matrix)^-1 right for a transient `matrix`, `right` of shape (n, k), refined once."""
    if not len(right):
        return right
    system, order = transient_system(matrix)
    result = np.empty_like(right)
    result[order] = system.solve(right[order])
    result[order] += system.solve((right + matrix @ result - result)[order])
    return result
