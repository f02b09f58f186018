import numpy as np
import numpy.typing as npt

def find_certain(
    indptr: list[npt.NDArray[np.int64]],
    indices: list[npt.NDArray[np.int32]],
    is_free: npt.NDArray[np.uint8],
    terminal: npt.NDArray[np.uint8],
    members: npt.NDArray[np.int32],
    starts: npt.NDArray[np.int64],
    component: npt.NDArray[np.int32],
    certain: npt.NDArray[np.uint8],
    action: npt.NDArray[np.int8],
) -> int:
    """Number of states that are not terminal and certainly have the value 0 or 1; fills `certain` and `action`."""
