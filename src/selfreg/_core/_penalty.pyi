import numpy as np
import numpy.typing as npt

def penalized_levels(
    indptr: list[npt.NDArray[np.int64]],
    indices: list[npt.NDArray[np.int32]],
    data: list[npt.NDArray[np.float64]],
    cost: npt.NDArray[np.float64],
    penalty: npt.NDArray[np.float64],
    tie: float,
    tie_usage: float,
    terminal_value: npt.NDArray[np.float64],
    terminal: npt.NDArray[np.uint8],
    members: npt.NDArray[np.int32],
    starts: npt.NDArray[np.int64],
    slot: npt.NDArray[np.int32],
    weight: npt.NDArray[np.float64],
    expected: npt.NDArray[np.float64],
    rows: npt.NDArray[np.float64],
    policy: npt.NDArray[np.int8],
    n_threads: int,
) -> None:
    """Fill `rows` and `policy`, or `expected`; stops with KeyboardInterrupt at Ctrl-C."""
