"""Absorbing chains by elimination without subtraction: an order with little fill-in, factors, and their error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from selfreg._core import chooser
from selfreg._util.validate import EPSILON
from selfreg.planning._chains import DENSE, SMALL_COMPONENT, fast_system, transient_system

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.integer[Any]]

# Most entries of each factor: about as many as a dense component of 1,400 states has, a second or two of work.
ROOM = 1_000_000
# Up to this size an order is computed even if a band matrix would not fit.
ORDERED = 2000
# Elimination of a chain whose band matrix takes fewer products than this, for each entry and twenty for each state, is
# faster than GMRES, which may fail after all.
CHEAP = 500
# Smaller pivots are too close to the smallest float for products to be accurate.
LEAST_PIVOT = 1e-250


def elimination_order(pattern: sp.csr_array) -> npt.NDArray[np.int64] | None:
    """An order of the states that causes little fill-in, for any chain on this graph; None if there is none."""
    n = pattern.shape[0]
    if n < 3:
        return np.arange(n)
    from scipy.sparse.linalg import spilu

    ones, width = _bandwidths(pattern)
    if n > ORDERED and int(width.sum()) > ROOM:
        return None
    # Minimum degree. The factors themselves are dropped at once.
    weak = sp.csc_array(sp.eye_array(n) + ones * 1e-9)
    factors = spilu(weak, drop_tol=0.5, fill_factor=1, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0)
    return np.argsort(factors.perm_c)


def _bandwidths(pattern: sp.csr_array) -> tuple[sp.csr_array, npt.NDArray[np.int64]]:
    """The graph in both directions, and the width (n,) of the rows of its band matrix, which bounds fill-in."""
    from scipy.sparse.csgraph import reverse_cuthill_mckee

    n, entry = pattern.shape[0], pattern.tocoo()
    both = (np.concatenate([entry.row, entry.col]), np.concatenate([entry.col, entry.row]))
    ones = sp.csr_array((np.ones(2 * len(entry.row)), both), shape=(n, n))
    band = np.empty(n, np.int64)
    band[reverse_cuthill_mckee(ones, symmetric_mode=True)] = np.arange(n)
    first = np.arange(n)
    np.minimum.at(first, band[both[0]], band[both[1]])
    return ones, np.arange(n) - first


def _is_cheap(pattern: sp.csr_array) -> bool:
    """Whether elimination is certainly little work."""
    width = _bandwidths(pattern)[1].astype(np.float64)
    return bool(width @ width <= CHEAP * (pattern.nnz + 20.0 * len(width)) and width.sum() <= ROOM)


@dataclass(frozen=True, eq=False)
class Factors:
    """Solves (D - A) x = b with D_i = sum_j A_ij + exits_i, or its transpose, for many b.

    Attributes
    ----------
    order : int64 (n,)
        States in the order of elimination.
    parts : tuple of arrays
        What `eliminate` wrote.
    error : float
        Relative error of every entry of a solution for b >= 0, on top of that of the entries of A, exits and b.
    """

    order: npt.NDArray[np.int64]
    parts: tuple[npt.NDArray[Any], ...]
    error: float
    implementation: str | None

    def solve(self, right: Floats, transposed: bool = False) -> Floats:
        """Solution (n, k) for `right` (n, k) >= 0."""
        kernel = chooser.kernel("elimination", self.implementation)
        x = np.ascontiguousarray(right[self.order])
        (kernel.substitute_transposed if transposed else kernel.substitute)(*self.parts, x)
        result = np.empty_like(x)
        result[self.order] = x
        return result

    def solve_signed(self, right: Floats) -> Floats:
        """Solution (n,) for a right side (n,) of any sign: an approximation without a stated error."""
        both = self.solve(np.stack([np.maximum(right, 0.0), np.maximum(-right, 0.0)], axis=1))
        result: Floats = both[:, 0] - both[:, 1]
        return result


def factorise(
    matrix: sp.csr_array, exits: Floats, order: npt.NDArray[np.int64], implementation: str | None = None
) -> Factors | None:
    """Factors of the chain; None if they need too much memory, or the chain (nearly) never leaves.

    Every entry below is off by at most 5 EPSILON / 2 for each share taken over, and enters each solution once in the
    numerator and once in the denominator (a ratio of sums over spanning forests, in which each state has one edge).
    """
    n, permuted = len(order), sp.csr_array(matrix[order][:, order])
    indptr, indices = permuted.indptr.astype(np.int64), permuted.indices.astype(np.int32)
    kernel, room = chooser.kernel("elimination", implementation), 4 * (permuted.nnz + n)
    while True:
        lower = np.empty(n + 1, np.int64), np.empty(room, np.int32), np.empty(room)
        upper, pivot = (np.empty(n + 1, np.int64), np.empty(room, np.int32), np.empty(room)), np.empty(n)
        left = np.ascontiguousarray(exits[order])
        failed = kernel.eliminate(indptr, indices, permuted.data, left, *lower, *upper, pivot)
        if failed == 1 and room < ROOM:
            room = min(4 * room, ROOM)
            continue
        if failed or pivot.min(initial=1.0) < LEAST_PIVOT:
            return None
        error = EPSILON * (5.0 * int(lower[0][-1]) + int(upper[0][-1]) + 4.0 * n + 4.0)
        return Factors(order, (*lower, *upper, pivot), error, implementation)


class AbsorbingChain:
    """Solves (I - P) x = right, or its transpose, for the chain P = matrix / scale that leaves from every state.

    Parameters
    ----------
    matrix : csr_array (n, n)
        Mass that moves between states, at least 0.
    exits : float64 (n,)
        Mass that leaves, as a sum of what leaves; `scale` is the sum of both.

    Attributes
    ----------
    error : float or None
        Relative error of every entry of a solution for a right side >= 0; None where the chain is not eliminated but
        iterated, since it leaves fast or elimination would cause too much fill-in.

    Raises
    ------
    numpy.linalg.LinAlgError
        If some state never leaves.
    """

    def __init__(self, matrix: sp.csr_array, exits: Floats) -> None:
        self.scale = np.asarray(matrix.sum(axis=1)) + exits
        if len(exits) and not self.scale.min() > 0.0:
            raise np.linalg.LinAlgError("a state has no successor")
        self.factors, self.iterated = _eliminate_or_iterate(matrix, exits, self.scale)
        longest = int(np.diff(matrix.indptr).max(initial=0))
        data = 2.0 * len(exits) * (longest + 4) * EPSILON
        self.error = None if self.factors is None else self.factors.error + data

    def solve(self, right: Floats, transposed: bool = False) -> Floats:
        """Solution for `right` (n,) or (n, k); the parts above and below 0 are solved on their own."""
        if self.factors is None:
            assert self.iterated is not None
            system, order = self.iterated
            result = np.empty_like(right, dtype=np.float64)
            result[order] = system.solve(np.ascontiguousarray(right[order]), trans="T" if transposed else "N")
            return result
        columns = right if right.ndim == 2 else right[:, None]
        weight = self.scale[:, None]
        positive = self._solve_positive(np.maximum(columns, 0.0), weight, transposed)
        if columns.min(initial=0.0) < 0.0:
            positive -= self._solve_positive(np.maximum(-columns, 0.0), weight, transposed)
        return positive.reshape(right.shape)

    def _solve_positive(self, right: Floats, weight: Floats, transposed: bool) -> Floats:
        assert self.factors is not None
        if transposed:
            return self.factors.solve(right, transposed=True) * weight
        return self.factors.solve(right * weight)


def _eliminate_or_iterate(
    matrix: sp.csr_array, exits: Floats, scale: Floats
) -> tuple[Factors | None, tuple[Any, Indices] | None]:
    n = len(exits)
    large = None
    if n <= DENSE:
        order: npt.NDArray[np.int64] | None = np.arange(n)
    else:
        # Models without cycles do not need it, and it is slow to import.
        from scipy.sparse.csgraph import connected_components

        _, label = connected_components(matrix, connection="strong")
        order = np.argsort(label, kind="stable")
        if np.bincount(label).max() > SMALL_COMPONENT:
            large = fast_system(divide_rows(matrix, scale), lambda: not _is_cheap(matrix))
            if large is not None:
                return None, (large, np.arange(n))
            order = _order_by_component(matrix, label, order)
    factors = None if order is None else factorise(matrix, exits, order)
    if factors is not None:
        return factors, None
    if n <= DENSE:
        raise np.linalg.LinAlgError("a state never leaves")
    return None, transient_system(divide_rows(matrix, scale))


def divide_rows(matrix: sp.csr_array, scale: Floats) -> sp.csr_array:
    """`matrix` with its rows divided by `scale`."""
    data = matrix.data / np.repeat(scale, np.diff(matrix.indptr))
    return sp.csr_array((data, matrix.indices, matrix.indptr), shape=matrix.shape)


def _order_by_component(matrix: sp.csr_array, label: Indices, order: Indices) -> npt.NDArray[np.int64] | None:
    """`order`, which is by `label`, with an order that causes little fill-in within large components."""
    sizes = np.bincount(label)
    starts = np.concatenate([[0], np.cumsum(sizes)])
    result = order.astype(np.int64)
    for c in np.flatnonzero(sizes > SMALL_COMPONENT).tolist():
        members = result[starts[c] : starts[c + 1]]
        own = elimination_order(sp.csr_array(matrix[members][:, members]))
        if own is None:
            return None
        result[starts[c] : starts[c + 1]] = members[own]
    return result
