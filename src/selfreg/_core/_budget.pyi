import numpy as np
import numpy.typing as npt

def backward_induction(
    indptr: list[npt.NDArray[np.int64]],
    indices: list[npt.NDArray[np.int32]],
    data: list[npt.NDArray[np.float64]],
    offset: npt.NDArray[np.int64],
    affordable: npt.NDArray[np.uint8],
    runs: npt.NDArray[np.int64],
    last_axis: int,
    terminal: npt.NDArray[np.uint8],
    members: npt.NDArray[np.int32],
    starts: npt.NDArray[np.int64],
    component: npt.NDArray[np.int32],
    group: npt.NDArray[np.int32],
    tolerance: float,
    max_sweeps: int,
    lower: npt.NDArray[np.float64],
    upper: npt.NDArray[np.float64],
    policy: npt.NDArray[np.int8],
) -> int:
    """Number of (component, layer) pairs that used up `max_sweeps`; fills `lower`, `upper`, `policy`."""
