"""Checks and conversions of the parts of a model: transitions, terminal values, costs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from selfreg._util.validate import ROW_TOLERANCE, check_unmasked, is_mapping, nonneg_ints, shown, unmasked_array

# float32 cannot hold a row sum to 1e-9; such rows are accepted within 1e-6 and rescaled in float64.
ROW_TOLERANCE_SINGLE = 1e-6
MAX_ACTIONS = 127
NOHELP = "nohelp"

Floats = npt.NDArray[np.float64]


def transitions(value: Any) -> dict[str, sp.csr_array]:
    """Canonical CSR (float64, sorted, no duplicates, no zeros, rows that sum to 1 or are empty) per action."""
    if not is_mapping(value):
        raise TypeError(f"transitions must be a mapping of action name to matrix; got {type(value).__name__}")
    names = list(value)
    if not all(isinstance(name, str) for name in names):
        raise TypeError(f"transitions must have action names (str) as keys; got {names!r}")
    if not names or names[0] != NOHELP:
        raise ValueError(f'transitions must list "{NOHELP}" first; got {names!r}')
    if len(names) > MAX_ACTIONS:
        raise ValueError(f"transitions has {len(names)} actions; at most {MAX_ACTIONS} fit")
    matrices = {name: _matrix(name, matrix) for name, matrix in value.items()}
    shape = matrices[NOHELP].shape
    for name, matrix in matrices.items():
        if matrix.shape != shape:
            raise ValueError(f'transitions["{name}"] has shape {matrix.shape}; "{NOHELP}" has {shape}')
    return matrices


def _matrix(name: str, value: Any) -> sp.csr_array:
    label = f'transitions["{name}"]'
    if isinstance(value, (list, tuple)):
        value = unmasked_array(label, value)
    if not (sp.issparse(value) or isinstance(value, np.ndarray)):
        raise TypeError(
            f"{label} must be a scipy sparse matrix, a numpy array or a list of rows; got {type(value).__name__}"
        )
    check_unmasked(label, value)
    if value.ndim != 2 or value.shape[0] != value.shape[1]:
        raise ValueError(f"{label} has shape {value.shape}; expected (n, n)")
    if value.dtype.kind not in "fiub":
        raise TypeError(f"{label} has dtype {value.dtype}; expected real numbers")
    single = value.dtype.kind == "f" and value.dtype.itemsize < 8
    if value.dtype.kind in "f" and (value.dtype.itemsize not in (4, 8) or not value.dtype.isnative):
        value = value.astype(np.float64)  # of these scipy has no sparse arrays
    elif not value.dtype.isnative:
        value = value.astype(value.dtype.newbyteorder("="))
    source = value if sp.issparse(value) and value.format == "csr" else sp.csr_array(value)
    _check_indices(label, source)
    data = np.ascontiguousarray(source.data, dtype=np.float64)
    _check_entries(label, source.indptr, data)
    # A fresh wrapper: flags cached on the caller's matrix are neither trusted nor changed.
    matrix = sp.csr_array((data, source.indices, source.indptr), shape=source.shape, copy=False)
    if not matrix.has_canonical_format:
        matrix = matrix.copy()
        matrix.sum_duplicates()
    matrix = _normalised(label, matrix, ROW_TOLERANCE_SINGLE if single else ROW_TOLERANCE)
    if matrix.nnz and not matrix.data.all():
        matrix = matrix.copy()
        matrix.eliminate_zeros()
    return matrix


def _check_indices(label: str, matrix: Any) -> None:
    n = matrix.shape[0]
    indptr, indices = matrix.indptr, matrix.indices
    if len(indptr) != n + 1 or indptr[0] != 0 or np.any(np.diff(indptr) < 0) or indptr[-1] > len(indices):
        raise ValueError(f"{label} has a broken indptr; expected {n + 1} non-decreasing offsets from 0 to nnz")
    if indptr[-1] != len(indices) or len(indices) != len(matrix.data):
        raise ValueError(f"{label} has {len(indices)} indices and {len(matrix.data)} entries; expected {indptr[-1]}")
    if len(indices) and (indices.min() < 0 or indices.max() >= n):
        entry = int(np.flatnonzero((indices < 0) | (indices >= n))[0])
        row = int(np.searchsorted(indptr, entry, side="right")) - 1
        raise ValueError(f"{label} row {row} leads to state {indices[entry]}; expected 0..{n - 1}")


def _check_entries(label: str, indptr: npt.NDArray[Any], data: Floats) -> None:
    if len(data) == 0 or (data.min() >= 0.0 and data.max() < np.inf):  # NaN fails both
        return
    entry = int(np.flatnonzero(~((data >= 0.0) & (data < np.inf)))[0])
    row = int(np.searchsorted(indptr, entry, side="right")) - 1
    raise ValueError(f"{label} row {row} holds {data[entry]}; expected finite probabilities >= 0")


def _normalised(label: str, matrix: sp.csr_array, tolerance: float) -> sp.csr_array:
    """Rows within `tolerance` of 1 scaled to 1 up to rounding, rows within it of 0 emptied; a copy only if needed."""
    sums = np.asarray(matrix @ np.ones(matrix.shape[1]))
    to_one, to_zero = np.abs(sums - 1.0), np.abs(sums)
    bad = np.flatnonzero((to_one > tolerance) & (to_zero > tolerance))
    if len(bad):
        row = int(bad[0])
        raise ValueError(
            f"{label} row {row} sums to {sums[row]:.12g}; "
            f"expected 1 (available) or 0 (unavailable) within {tolerance:g}"
        )
    length = np.diff(matrix.indptr)
    rounding = 4 * np.finfo(np.float64).eps * np.maximum(length, 2)
    wrong = np.where(sums > 0.5, to_one > rounding, sums > 0.0)
    if not wrong.any():
        return matrix
    scale = np.where(sums > 0.5, 1.0 / np.where(wrong & (sums > 0.5), sums, 1.0), 0.0)
    return sp.csr_array((matrix.data * np.repeat(scale, length), matrix.indices, matrix.indptr), shape=matrix.shape)


def terminal_value(value: Any, n: int) -> Floats:
    """float64 (n,); NaN marks a non-terminal state, everything else lies in [0, 1]."""
    array = unmasked_array("terminal_value", value)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"terminal_value has dtype {array.dtype}; expected real numbers, NaN for non-terminal states")
    array = np.ascontiguousarray(array, dtype=np.float64)
    if array.shape != (n,):
        raise ValueError(f"terminal_value has shape {array.shape}; expected ({n},), one entry per state")
    bad = np.flatnonzero(~np.isnan(array) & ~((array >= 0.0) & (array <= 1.0)))
    if len(bad):
        raise ValueError(
            f"terminal_value[{bad[0]}] is {shown(array[bad[0]])}; "
            "expected a value in [0, 1], or NaN for a non-terminal state"
        )
    return array


def nohelp_everywhere(matrix: sp.csr_array, terminal: npt.NDArray[np.bool_]) -> None:
    """`nohelp` must be available in every non-terminal state."""
    bad = np.flatnonzero((np.diff(matrix.indptr) == 0) & ~terminal)
    if len(bad):
        raise ValueError(
            f'transitions["{NOHELP}"] row {bad[0]} sums to 0; "{NOHELP}" must be available in every non-terminal state'
        )


def costs(value: Any, help_types: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Cost of every help type as a tuple with one entry per budget."""
    if not is_mapping(value):
        raise TypeError(f"costs must be a mapping of help type to int or tuple of ints; got {type(value).__name__}")
    for name in value:
        if name not in help_types:
            raise ValueError(f"costs names {name!r}, an unknown help type; expected {list(help_types)!r}")
    missing = [name for name in help_types if name not in value]
    if missing:
        raise ValueError(f"costs lacks {missing[0]!r}; every help type needs a cost")
    result = {name: nonneg_ints(f'costs["{name}"]', value[name]) for name in help_types}
    lengths = {name: len(cost) for name, cost in result.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"costs must have one entry per budget, the same number for every help type; got {lengths}")
    return result
