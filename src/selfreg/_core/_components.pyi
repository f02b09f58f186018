import numpy as np
import numpy.typing as npt

def solve_components(
    indptr: list[npt.NDArray[np.int64]],
    indices: list[npt.NDArray[np.int32]],
    data: list[npt.NDArray[np.float64]],
    offset: npt.NDArray[np.int64],
    runs: npt.NDArray[np.int64],
    affordable: npt.NDArray[np.uint8],
    last_axis: int,
    terminal: npt.NDArray[np.uint8],
    members: npt.NDArray[np.int32],
    starts: npt.NDArray[np.int64],
    component: npt.NDArray[np.int32],
    group: npt.NDArray[np.int32],
    first: int,
    tolerance: float,
    max_sweeps: int,
    error: npt.NDArray[np.float32],
    value: npt.NDArray[np.float64],
    policy: npt.NDArray[np.int8],
) -> int:
    """Solve components `first`, ...; the first one that did not reach `tolerance`, or their number if all did."""
