"""Threads of the libraries that training calls: the one place that sets them."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

from selfreg._util.extras import require_extra


@contextlib.contextmanager
def single_thread() -> Iterator[None]:
    """One thread for BLAS, OpenMP and PyTorch in the block, so that their number does not change a result.

    Sums over threads differ in the last digits, which training amplifies. The models of this library are small: threads
    would mostly wait for each other. PyTorch counts where it is imported already.

    Raises
    ------
    ImportError
        The extra `ml` is missing.
    """
    with require_extra("ml", "training"):
        import scipy.linalg  # noqa: F401  (brings a BLAS of its own, which can be limited only once it is loaded)
        from threadpoolctl import threadpool_limits
    library = sys.modules.get("torch")
    threads = library.get_num_threads() if library is not None else 0
    with threadpool_limits(1):
        if library is not None:
            library.set_num_threads(1)
        try:
            yield
        finally:
            if library is not None:
                library.set_num_threads(threads)
