import numpy as np
import numpy.typing as npt

def sweep_components(
    components: npt.NDArray[np.int64],
    starts: npt.NDArray[np.int64],
    indptr: npt.NDArray[np.int64],
    indices: npt.NDArray[np.int32],
    data: npt.NDArray[np.float64],
    action: npt.NDArray[np.int64],
    reward: npt.NDArray[np.float64],
    waits: npt.NDArray[np.uint8],
    choice: npt.NDArray[np.int64],
    target: float,
    max_sweeps: int,
    x: npt.NDArray[np.float64],
) -> bool:
    """Solve all components; whether every one converged within `max_sweeps`."""
