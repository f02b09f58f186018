"""Linear systems of absorbing Markov chains, and reachability in their graphs."""

from __future__ import annotations

from collections.abc import Callable
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

# Components up to this size are eliminated in topological order; larger ones need an order that limits fill-in.
SMALL_COMPONENT = 32
# Up to this number of states a dense matrix is faster.
DENSE = 64
# Powers of a matrix to try first: enough for chains that are left fast.
MAX_POWERS = 100
# Chains that take more steps than this are eliminated, if that is possible: iteration loses digits.
FAST_STEPS = 1e3
# GMRES: steps between restarts, restarts, and iterations of refinement.
RESTART, RESTARTS, REFINEMENTS = 40, 5, 8


class Powers(NamedTuple):
    """Solves (I - matrix) x = right by the series sum_k matrix^k right; the error after `terms` terms is rounding."""

    matrix: sp.csr_array
    terms: int

    def solve(self, right: Floats, trans: str = "N") -> Floats:
        matrix = self.matrix if trans == "N" else self.matrix.T.tocsr()
        result = right
        for _ in range(self.terms):
            result = right + matrix @ result
        return result


class Krylov:
    """Solves (I - matrix) x = right by GMRES, refined down to rounding; by LU factors if GMRES fails."""

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

    def converges(self, most_steps: float = np.inf) -> bool:
        """Whether GMRES solves for the expected number of steps, and finds at most `most_steps`."""
        steps = self._column(self.system, np.ones(self.system.shape[0]))
        return steps is not None and float(steps.max(initial=0.0)) <= most_steps

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
    """Solver of (I - matrix) x = right for a transient `matrix`, and the order of states that it expects.

    With small components, elimination in topological order (components as labelled by scipy, successors first) causes
    no fill-in. Large components often mix fast and cause much fill-in: powers of the matrix, then GMRES, are tried
    first. LU factors of an M-matrix are stable without pivoting, so that the order only affects the cost.
    """
    # Models without cycles do not need it, and it is slow to import.
    from scipy.sparse.csgraph import connected_components

    _, label = connected_components(matrix, connection="strong")
    order = np.argsort(label, kind="stable")
    small = np.bincount(label).max() <= SMALL_COMPONENT
    matrix = matrix[order][:, order]
    if not small:
        if (terms := _powers_needed(matrix)) is not None:
            return Powers(matrix, terms), order
        if (krylov := Krylov(matrix)).converges():
            return krylov, order
    return _factors(sp.eye_array(len(order)) - matrix, "NATURAL" if small else "COLAMD"), order


def fast_system(matrix: sp.csr_array, worth_krylov: Callable[[], bool]) -> Powers | Krylov | None:
    """Solver of (I - matrix) x = right by iteration, if the chain leaves so fast that little accuracy is lost.

    GMRES is tried only where `worth_krylov` says so.
    """
    if (terms := _powers_needed(matrix)) is not None:
        return Powers(matrix, terms)
    if not worth_krylov():
        return None
    return krylov if (krylov := Krylov(matrix)).converges(FAST_STEPS) else None


def _factors(system: sp.csr_array, permutation: str) -> SuperLU:
    from scipy.sparse.linalg import splu

    return splu(sp.csc_array(system), permc_spec=permutation, diag_pivot_thresh=0.0)


def _powers_needed(matrix: sp.csr_array) -> int | None:
    """First k for which all row sums of matrix^k are below rounding; None if that is more than MAX_POWERS."""
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


def reachable_from(matrix: sp.csr_array, sources: Mask) -> Mask:
    """bool (n,): `sources`, and states that they can reach by the entries of `matrix`."""
    entry = matrix.tocoo()
    return reachable_by_edges(entry.row, entry.col, np.flatnonzero(sources), matrix.shape[0])


def reachable_by_edges(tails: npt.ArrayLike, heads: npt.ArrayLike, first: Indices, n: int) -> Mask:
    """bool (n,): the states `first`, and states that they can reach by edges from `tails` to `heads`."""
    from scipy.sparse.csgraph import breadth_first_order

    # Search from an additional state with edges to all of `first`.
    tails, heads = np.append(tails, np.full(len(first), n)), np.append(heads, first)
    graph = sp.csr_array((np.ones(len(tails)), (tails, heads)), shape=(n + 1, n + 1))
    result = np.zeros(n + 1, np.bool_)
    result[breadth_first_order(graph, n, return_predecessors=False)] = True
    return result[:n]


def can_reach(matrix: sp.csr_array, targets: Mask) -> Mask:
    """bool (n,): `targets`, and states that can reach them by the entries of `matrix`."""
    return reachable_from(sp.csr_array(matrix.T), targets)


def closed_classes(matrix: sp.csr_array, states: Mask) -> Mask:
    """bool (n,): members of `states`, a closed set, that belong to a closed communicating class."""
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
