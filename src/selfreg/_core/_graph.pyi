import numpy as np
import numpy.typing as npt

def strongly_connected(
    indptr: list[npt.NDArray[np.int64]],
    indices: list[npt.NDArray[np.int32]],
    terminal: npt.NDArray[np.uint8],
    members: npt.NDArray[np.int32],
    component: npt.NDArray[np.int32],
) -> int:
    """Number of components; fills `members` and `component`."""
