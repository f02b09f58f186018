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

def prune_rows(
    indptr: list[npt.NDArray[np.int64]],
    indices: list[npt.NDArray[np.int32]],
    label: npt.NDArray[np.int32],
    remaining: npt.NDArray[np.uint8],
) -> int:
    """Remove rows that may leave the label of their state, then those that may lead to a state without rows."""

def longest_chain(
    indptr: list[npt.NDArray[np.int64]],
    indices: list[npt.NDArray[np.int32]],
    terminal: npt.NDArray[np.uint8],
    members: npt.NDArray[np.int32],
    component: npt.NDArray[np.int32],
    counted: npt.NDArray[np.uint8],
) -> int:
    """Most counted components on a path."""

def order_sweeps(
    indptr: list[npt.NDArray[np.int64]],
    indices: list[npt.NDArray[np.int32]],
    data: list[npt.NDArray[np.float64]],
    component: npt.NDArray[np.int32],
    starts: npt.NDArray[np.int64],
    members: npt.NDArray[np.int32],
) -> None:
    """Order every component so that states come after their most likely successors by free actions."""
