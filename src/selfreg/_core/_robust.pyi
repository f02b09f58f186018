import numpy as np
import numpy.typing as npt

def backup_robust(
    indptr: list[npt.NDArray[np.int64]],
    indices: list[npt.NDArray[np.int32]],
    low: list[npt.NDArray[np.float64]],
    room: list[npt.NDArray[np.float64]],
    rest: list[npt.NDArray[np.float64]],
    offset: npt.NDArray[np.int64],
    runs: npt.NDArray[np.int64],
    terminal: npt.NDArray[np.uint8],
    members: npt.NDArray[np.int32],
    sweeps: int,
    target: float,
    value: npt.NDArray[np.float64],
    policy: npt.NDArray[np.int8],
) -> tuple[int, float]:
    """Sweep over `members` in place; the number of sweeps made and the largest change in the last one."""

def expect_robust(
    indptr: npt.NDArray[np.int64],
    indices: npt.NDArray[np.int32],
    low: npt.NDArray[np.float64],
    room: npt.NDArray[np.float64],
    rest: npt.NDArray[np.float64],
    value: npt.NDArray[np.float64],
    out: npt.NDArray[np.float64],
) -> None:
    """Worst expectation of `value` for every row of one action; 0 for empty rows."""
