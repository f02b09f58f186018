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
Mask = npt.NDArray[np.bool_]

# Components up to this size are eliminated in topological order; larger ones need an order that limits the fill.
SMALL_COMPONENT = 32
# States up to which a dense matrix is faster.
DENSE = 64
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
    if len(right) <= DENSE:
        result: Floats = np.linalg.solve(np.eye(len(right)) - matrix.toarray(), right)
        return result
    system, order = transient_system(matrix)
    result = np.empty_like(right)
    result[order] = system.solve(right[order])
    result[order] += system.solve((right + matrix @ result - result)[order])
    return result


def led_to(matrix: sp.csr_array, sources: Mask) -> Mask:
    """bool (n,): states that `sources` lead to by the entries of `matrix`, the sources included."""
    from scipy.sparse.csgraph import breadth_first_order

    n, entry = matrix.shape[0], matrix.tocoo()
    first = np.flatnonzero(sources)
    # From one more state that leads to all sources.
    tails, heads = np.concatenate([entry.row, np.full(len(first), n)]), np.concatenate([entry.col, first])
    graph = sp.csr_array((np.ones(len(tails)), (tails, heads)), shape=(n + 1, n + 1))
    result = np.zeros(n + 1, np.bool_)
    result[breadth_first_order(graph, n, return_predecessors=False)] = True
    return result[:n]


def leading_to(matrix: sp.csr_array, targets: Mask) -> Mask:
    """bool (n,): states that lead to `targets` by the entries of `matrix`, the targets included."""
    return led_to(sp.csr_array(matrix.T), targets)


def closed_classes(matrix: sp.csr_array, states: Mask) -> Mask:
    """bool (n,): those of `states`, a set that nothing leaves, that are in a class that is never left."""
    from scipy.sparse.csgraph import connected_components

    result, inside = np.zeros(len(states), np.bool_), np.flatnonzero(states)
    if not len(inside):
        return result
    entry = matrix[inside][:, inside].tocoo()
    count, label = connected_components(sp.csr_array(entry), connection="strong")
    left = np.zeros(count, np.bool_)
    left[label[entry.row[label[entry.row] != label[entry.col]]]] = True
    result[inside] = ~left[label]
    return result
