from typing import Any

import numpy as np
import numpy.typing as npt

def solve_models(
    models: list[tuple[Any, ...]],
    weights: dict[int, npt.NDArray[np.float64]],
    start: npt.NDArray[np.int64],
    offset: npt.NDArray[np.int64],
    runs: npt.NDArray[np.int64],
    costs: npt.NDArray[np.int64],
    value: npt.NDArray[np.float64],
    usage: npt.NDArray[np.float64],
    values: list[npt.NDArray[np.float64]],
    policies: list[npt.NDArray[np.int8]],
    solved: npt.NDArray[np.uint8],
) -> None:
    """Solve every model of the batch; all have the same actions, costs and lattice."""
