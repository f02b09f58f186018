"""Choice of the implementation of each kernel family."""

from __future__ import annotations

import os
from importlib import import_module
from types import ModuleType

SUFFIX = {"cython": "", "numba": "_nb", "python": "_py"}
# Each family is compiled in one way, and has a twin in Python.
COMPILED = {
    **dict.fromkeys(
        (
            "graph",
            "qualitative",
            "budget",
            "batch",
            "components",
            "elimination",
            "penalty",
            "robust",
            "scan",
            "sweeps",
        ),
        "cython",
    ),
    "simulate": "numba",
}
# Imported to the end; sys.modules also has those that another thread is importing.
_loaded: dict[str, ModuleType] = {}


def kernel(stem: str, implementation: str | None = None) -> ModuleType:
    """Module that implements kernel family `stem`, a key of `COMPILED`.

    `implementation` is "cython" ("numba" for "simulate") or "python"; None reads the environment variable
    SELFREG_IMPLEMENTATION, where "cython" stands for all compiled kernels, and defaults to that. A named
    implementation that is missing raises; it is never replaced.
    """
    wanted = os.environ.get("SELFREG_IMPLEMENTATION") or "cython"
    chosen = implementation or (COMPILED[stem] if wanted == "cython" else wanted)
    if chosen not in (COMPILED[stem], "python"):
        raise ValueError(f"unknown implementation {chosen!r}; choose from {COMPILED[stem]}, python")
    name = f"selfreg._core._{stem}{SUFFIX[chosen]}"
    try:
        return _loaded.get(name) or _loaded.setdefault(name, import_module(name))
    except ImportError as error:
        raise ImportError(
            f"the {chosen} implementation of kernel {stem!r} is missing ({error}); "
            "build it (pip install .) or set SELFREG_IMPLEMENTATION=python"
        ) from error
