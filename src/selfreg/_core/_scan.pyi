import numpy as np
import numpy.typing as npt

def scan(
    block: bytes,
    begin: int,
    wanted: int,
    reached: npt.NDArray[np.int64],
    numbers: npt.NDArray[np.int64],
    lengths: npt.NDArray[np.int64],
    episode_ends: npt.NDArray[np.int64],
    episode_texts: npt.NDArray[np.uint8],
    step_ends: npt.NDArray[np.int64],
    step_texts: npt.NDArray[np.uint8],
    helped: npt.NDArray[np.uint8],
) -> int:
    """Begin of the first line that is not plain; the length of the block if all are plain."""
