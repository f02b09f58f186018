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

def levels(
    indptr: list[npt.NDArray[np.int64]],
    indices: list[npt.NDArray[np.int32]],
    terminal: npt.NDArray[np.uint8],
    order: npt.NDArray[np.int32],
    level: npt.NDArray[np.int32],
) -> int:
    """Number of levels, or -1 if a state leads to itself or to one that comes later in `order`."""

def bucket(
    label: npt.NDArray[np.int32],
    starts: npt.NDArray[np.int64],
    members: npt.NDArray[np.int32],
) -> None:
    """Counting sort: states by label."""

def allocate_slots(
    indptr: list[npt.NDArray[np.int64]],
    indices: list[npt.NDArray[np.int32]],
    terminal: npt.NDArray[np.uint8],
    level: npt.NDArray[np.int32],
    starts: npt.NDArray[np.int64],
    members: npt.NDArray[np.int32],
    slot: npt.NDArray[np.int32],
) -> int:
    """Number of memory slots if the values of a state are dropped after the last level that reads them."""

def order_sweeps(
    indptr: npt.NDArray[np.int64],
    indices: npt.NDArray[np.int32],
    data: npt.NDArray[np.float64],
    component: npt.NDArray[np.int32],
    starts: npt.NDArray[np.int64],
    members: npt.NDArray[np.int32],
) -> None:
    """Order every component so that little mass leads to states that come later."""
