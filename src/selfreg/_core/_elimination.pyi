import numpy as np
import numpy.typing as npt

def eliminate(
    indptr: npt.NDArray[np.int64],
    indices: npt.NDArray[np.int32],
    data: npt.NDArray[np.float64],
    exits: npt.NDArray[np.float64],
    lower_starts: npt.NDArray[np.int64],
    lower_index: npt.NDArray[np.int32],
    lower: npt.NDArray[np.float64],
    upper_starts: npt.NDArray[np.int64],
    upper_index: npt.NDArray[np.int32],
    upper: npt.NDArray[np.float64],
    pivot: npt.NDArray[np.float64],
) -> int:
    """Eliminate all states in order: 0 if done, 1 if there is no room for the factors, 2 if a state never leaves."""

def substitute(
    lower_starts: npt.NDArray[np.int64],
    lower_index: npt.NDArray[np.int32],
    lower: npt.NDArray[np.float64],
    upper_starts: npt.NDArray[np.int64],
    upper_index: npt.NDArray[np.int32],
    upper: npt.NDArray[np.float64],
    pivot: npt.NDArray[np.float64],
    x: npt.NDArray[np.float64],
) -> None:
    """Replace right sides x (n, k) by the solutions of (D - A) y = x."""

def substitute_transposed(
    lower_starts: npt.NDArray[np.int64],
    lower_index: npt.NDArray[np.int32],
    lower: npt.NDArray[np.float64],
    upper_starts: npt.NDArray[np.int64],
    upper_index: npt.NDArray[np.int32],
    upper: npt.NDArray[np.float64],
    pivot: npt.NDArray[np.float64],
    x: npt.NDArray[np.float64],
) -> None:
    """Replace right sides x (n, k) by the solutions of (D - A)^T y = x."""

def row_gains(
    indptr: npt.NDArray[np.int64],
    indices: npt.NDArray[np.int32],
    data: npt.NDArray[np.float64],
    own: npt.NDArray[np.int32],
    high: npt.NDArray[np.float64],
    low: npt.NDArray[np.float64],
    gain: npt.NDArray[np.float64],
) -> None:
    """gain[r] = sum_j data[r, j] (x[j] - x[own[r]]) with x = high + low, to twice the digits of a float, rounded."""
