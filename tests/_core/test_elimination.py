"""Elimination without subtraction: kernel and twin against exact solutions, to small relative errors."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import scipy.sparse as sp

from benchmarks.exact import least_solution
from selfreg._core import chooser
from selfreg.planning._elimination import elimination_order, factorise


def slow_chain(n: int, leak: float) -> tuple[sp.csr_array, np.ndarray]:
    """Mass between states and mass that leaves, the latter tiny and from few states."""
    random = np.random.default_rng(n)
    matrix = sp.csr_array(
        sp.random_array((n, n), density=0.4, rng=random) + sp.eye_array(n, k=1) + sp.eye_array(n, k=-1)
    )
    exits = np.zeros(n)
    exits[::3] = leak * random.random(len(exits[::3]))
    return matrix, exits


def exact_steps(matrix: sp.csr_array, exits: np.ndarray, right: np.ndarray) -> np.ndarray:
    rows, constants = {}, {}
    for i in range(len(exits)):
        part = slice(matrix.indptr[i], matrix.indptr[i + 1])
        mass = {
            int(j): Fraction(float(p)) for j, p in zip(matrix.indices[part], matrix.data[part], strict=True) if j != i
        }
        total = sum(mass.values(), Fraction(float(exits[i])))
        rows[i] = {j: p / total for j, p in mass.items()}
        constants[i] = Fraction(float(right[i])) / total
    return np.array([float(x) for x in least_solution(rows, constants).values()])


def test_solutions_have_small_relative_errors(implementation) -> None:
    for n, leak in ((2, 1e-3), (7, 1e-20), (12, 1e-30)):
        matrix, exits = slow_chain(n, leak)
        factors = factorise(matrix, exits, elimination_order(matrix), implementation)
        right = np.random.default_rng(0).random(n)
        exact = exact_steps(matrix, exits, right)
        np.testing.assert_allclose(factors.solve(right[:, None])[:, 0], exact, rtol=factors.error + 1e-13)
        visits = factors.solve(exits[:, None], transposed=True)[:, 0]
        assert abs(visits @ right - exact @ exits) <= 1e-12 * (exact @ exits)


def test_a_chain_that_never_leaves_has_no_factors(implementation) -> None:
    closed = sp.csr_array(np.array([[0.0, 1.0], [1.0, 0.0]]))
    assert factorise(closed, np.zeros(2), np.arange(2), implementation) is None


def test_gains_have_twice_the_digits(implementation) -> None:
    high, low = np.array([0.5, 0.5, 1.0]), np.array([0.0, 1e-25, 0.0])
    gain = np.empty(2)
    rows = sp.csr_array(np.array([[0.0, 1.0, 0.0], [0.75, 0.0, 1e-30]]))
    chooser.kernel("elimination", implementation).row_gains(
        rows.indptr.astype(np.int64),
        rows.indices.astype(np.int32),
        rows.data,
        np.array([0, 1], np.int32),
        high,
        low,
        gain,
    )
    np.testing.assert_allclose(gain, [1e-25, -0.75e-25 + 0.5e-30], rtol=1e-12)
