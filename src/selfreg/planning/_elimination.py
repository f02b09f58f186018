"""Absorbing chains by elimination without subtraction: an order with little fill-in, factors, and their error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from selfreg._core import chooser
from selfreg._util.validate import EPSILON

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.integer[Any]]

# Most entries of each factor: about as many as a dense component of 1,400 states has, a second or two of work.
ROOM = 1_000_000
# Up to this size an order is computed even if a band matrix would not fit.
ORDERED = 2000
# Smaller pivots are too close to the smallest float for products to be accurate.
LEAST_PIVOT = 1e-250


def elimination_order(pattern: sp.csr_array) -> npt.NDArray[np.int64] | None:
    """An order of the states that causes little fill-in, for any chain on this graph; None if there is none."""
    n = pattern.shape[0]
    if n < 3:
        return np.arange(n)
    from scipy.sparse.csgraph import reverse_cuthill_mckee
    from scipy.sparse.linalg import spilu

    entry = pattern.tocoo()
    both = (np.concatenate([entry.row, entry.col]), np.concatenate([entry.col, entry.row]))
    ones = sp.csr_array((np.ones(2 * len(entry.row)), both), shape=(n, n))
    band = np.empty(n, np.int64)
    band[reverse_cuthill_mckee(ones, symmetric_mode=True)] = np.arange(n)
    first = np.arange(n)
    np.minimum.at(first, band[both[0]], band[both[1]])
    if n > ORDERED and int((np.arange(n) - first).sum()) > ROOM:
        return None
    # Minimum degree. The factors themselves are dropped at once.
    weak = sp.csc_array(sp.eye_array(n) + ones * 1e-9)
    factors = spilu(weak, drop_tol=0.5, fill_factor=1, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0)
    return np.argsort(factors.perm_c)


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
