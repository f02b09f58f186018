"""Build of the compiled kernels; all other project data is in pyproject.toml.

Switches, read from the environment:

SELFREG_DEBUG=1      bounds checks, no optimisation
SELFREG_SANITIZE=1   address and undefined-behaviour sanitizers (run with LD_PRELOAD=libasan)
"""

import os
import sys

from Cython.Build import cythonize
from setuptools import Extension, setup

MODULES = ["selfreg._core._graph", "selfreg._core._budget"]

DEBUG = os.environ.get("SELFREG_DEBUG") == "1"
SANITIZE = os.environ.get("SELFREG_SANITIZE") == "1"

DIRECTIVES = {
    "language_level": 3,
    "boundscheck": DEBUG,
    "wraparound": False,
    "initializedcheck": DEBUG,
    "cdivision": True,
    "embedsignature": False,
}

if sys.platform == "win32":
    COMPILE_FLAGS, LINK_FLAGS = ["/O2"], []
else:
    # No -ffast-math and no -march=native: results are the same on every machine.
    COMPILE_FLAGS, LINK_FLAGS = ["-O1", "-g"] if DEBUG else ["-O3", "-ffp-contract=off"], []
    if SANITIZE:
        SANITIZERS = ["-fsanitize=address,undefined", "-fno-omit-frame-pointer"]
        COMPILE_FLAGS, LINK_FLAGS = [*COMPILE_FLAGS, *SANITIZERS], SANITIZERS

extensions = [
    Extension(
        name,
        [f"src/{name.replace('.', '/')}.pyx"],
        extra_compile_args=COMPILE_FLAGS,
        extra_link_args=LINK_FLAGS,
    )
    for name in MODULES
]

setup(ext_modules=cythonize(extensions, compiler_directives=DIRECTIVES, force=DEBUG or SANITIZE))
