"""Linear systems of Markov chains that are left in the end."""

from __future__ import annotations

from functools import cached_property
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
# Powers of a component's matrix to try first; a chain whose mass leaves faster needs no more.
MAX_POWERS = 100
# GMRES: steps between restarts, restarts, and how often what is left is solved for again.
RESTART, RESTARTS, REFINEMENTS = 40, 5, 8


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


class Krylov:
    """Solves (I - matrix) x = right by GMRES, refined until rounding is all that lacks; by factors where that fails."""

    def __init__(self, matrix: sp.csr_array) -> None:
        self.system = sp.csr_array(sp.eye_array(matrix.shape[0]) - matrix)

    def solve(self, right: Floats, trans: str = "N") -> Floats:
        system = self.system if trans == "N" else sp.csr_array(self.system.T)
        columns = []
        for one in right.reshape(len(right), -1).T:
            column = self._column(system, one)
            if column is None:
                return np.asarray(self.factors.solve(np.ascontiguousarray(right), trans))
            columns.append(column)
        return np.stack(columns, axis=1).reshape(right.shape)

    @cached_property
    def factors(self) -> SuperLU:
        return _factors(self.system, "COLAMD")

    def suits(self) -> bool:
        """Whether it solves for the expected number of steps."""
        return self._column(self.system, np.ones(self.system.shape[0])) is not None

    def _column(self, system: sp.csr_array, right: Floats) -> Floats | None:
        from scipy.sparse.linalg import gmres

        result: Floats
        result, left = np.zeros_like(right), right
        for _ in range(REFINEMENTS):
            step, failed = gmres(system, left, rtol=1e-8, restart=RESTART, maxiter=RESTARTS)
            if failed:
                return None
            result = result + step
            left = right - system @ result
            if np.abs(left).max() <= 4 * np.finfo(np.float64).eps * max(np.abs(result).max(), np.abs(right).max()):
                return result
        return None


def transient_system(matrix: sp.csr_array) -> tuple[SuperLU | Powers | Krylov, Indices]:
    """Solver of (I - matrix) x = right for a transient `matrix`, its states taken in the order returned with it.

    Where cycles are short, elimination in topological order (components as labelled by scipy, successors first) fills
    nothing in. Large components often mix fast and fill in badly: powers of the matrix, then GMRES, are tried first.
    The factors of an M-matrix are stable without pivoting, and the order decides about cost only.
    """
    # Not needed by models without cycles, and slow to import.
    from scipy.sparse.csgraph import connected_components

    _, label = connected_components(matrix, connection="strong")
    order = np.argsort(label, kind="stable")
    small = np.bincount(label).max() <= SMALL_COMPONENT
    matrix = matrix[order][:, order]
    if not small:
        if (terms := _powers_needed(matrix)) is not None:
            return Powers(matrix, terms), order
        if (krylov := Krylov(matrix)).suits():
            return krylov, order
    return _factors(sp.eye_array(len(order)) - matrix, "NATURAL" if small else "COLAMD"), order


def _factors(system: sp.csr_array, permutation: str) -> SuperLU:
    from scipy.sparse.linalg import splu

    return splu(sp.csc_array(system), permc_spec=permutation, diag_pivot_thresh=0.0)


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
    entry = matrix.tocoo()
    return reached(entry.row, entry.col, np.flatnonzero(sources), matrix.shape[0])


def reached(tails: npt.ArrayLike, heads: npt.ArrayLike, first: Indices, n: int) -> Mask:
    """bool (n,): states that those in `first` lead to by edges from `tails` to `heads`, `first` included."""
    from scipy.sparse.csgraph import breadth_first_order

    # From one more state that leads to all of `first`.
    tails, heads = np.append(tails, np.full(len(first), n)), np.append(heads, first)
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
