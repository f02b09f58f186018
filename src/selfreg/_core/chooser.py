"""The one place that decides which implementation of a kernel runs."""

from __future__ import annotations

import os
from importlib import import_module
from types import ModuleType

IMPLEMENTATIONS = ("cython", "python")


def kernel(stem: str, implementation: str | None = None) -> ModuleType:
    """Module that implements kernel family `stem` ("graph", "budget").

    `implementation` is "cython" or "python"; None reads the environment variable SELFREG_IMPLEMENTATION and falls
    back to "cython". An implementation asked for by name that is not there raises; it is never replaced.
    """
    chosen = implementation or os.environ.get("SELFREG_IMPLEMENTATION") or "cython"
    if chosen not in IMPLEMENTATIONS:
        raise ValueError(f"implementation {chosen!r} is not known; choose from {', '.join(IMPLEMENTATIONS)}")
    suffix = "" if chosen == "cython" else "_py"
    try:
        return import_module(f"selfreg._core._{stem}{suffix}")
    except ImportError as error:
        raise ImportError(
            f"the {chosen} implementation of kernel {stem!r} is not there ({error}); "
            "build it (pip install .) or set SELFREG_IMPLEMENTATION=python"
        ) from error
