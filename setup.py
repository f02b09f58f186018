"""Build of the compiled kernels; all other project data is in pyproject.toml.

Switches, read from the environment:

SELFREG_DEBUG=1      bounds checks, little optimisation         (`make test-debug`)
SELFREG_SANITIZE=1   address and undefined-behaviour sanitizers (`make test-sanitize`)
SELFREG_OPTIMIZE=0   no optimisation, a build in half the time  (tests/test_packaging.py)
"""

import os
import sys
from glob import glob

from Cython.Build import cythonize
from setuptools import Extension, setup

KERNELS = (
    "_batch",
    "_budget",
    "_components",
    "_elimination",
    "_graph",
    "_groups",
    "_lanes",
    "_layers",
    "_mixing",
    "_penalty",
    "_qualitative",
    "_robust",
    "_scan",
    "_sweeps",
)
MODULES = [f"selfreg._core.{name}" for name in KERNELS]

DEBUG = os.environ.get("SELFREG_DEBUG") == "1"
SANITIZE = os.environ.get("SELFREG_SANITIZE") == "1"
OPTIMIZE = os.environ.get("SELFREG_OPTIMIZE") != "0"

# What Cython adds to every module that has memoryviews, compiled once: half the time of a build.
SHARED = "selfreg._core._cyutility"

DIRECTIVES = {
    "language_level": 3,
    "boundscheck": DEBUG,
    "wraparound": False,
    "initializedcheck": DEBUG,
    "cdivision": True,
    "embedsignature": False,
    "show_performance_hints": not DEBUG,
}

# No -ffast-math, no fused products, no -march=native: results are the same on every machine.
if sys.platform == "win32":
    COMPILE_FLAGS, LINK_FLAGS = ["/Od" if DEBUG else "/O2", "/openmp"], []
else:
    LEVEL = ["-O1", "-g", "-UNDEBUG"] if DEBUG or SANITIZE else ["-O3" if OPTIMIZE else "-O0", "-g0"]
    COMPILE_FLAGS = [*LEVEL, "-ffp-contract=off", "-Wno-psabi"]
    LINK_FLAGS = []
    if sys.platform != "darwin":  # Apple's clang has no OpenMP; kernels then run on one thread
        COMPILE_FLAGS, LINK_FLAGS = [*COMPILE_FLAGS, "-fopenmp"], ["-fopenmp"]
    if SANITIZE:
        SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-fno-omit-frame-pointer"]
        # Python's own flags may define signed overflow (-fwrapv); here it is an error.
        COMPILE_FLAGS, LINK_FLAGS = [*COMPILE_FLAGS, *SANITIZERS, "-fno-wrapv"], [*LINK_FLAGS, *SANITIZERS]

extensions = [
    Extension(
        name,
        [source],
        depends=glob("src/selfreg/_core/*.h"),
        extra_compile_args=COMPILE_FLAGS,
        extra_link_args=LINK_FLAGS,
    )
    for name, source in [
        *((name, f"src/{name.replace('.', '/')}.pyx") for name in MODULES),
        (SHARED, f"src/{SHARED.replace('.', '/')}.c"),
    ]
]

setup(
    ext_modules=cythonize(
        extensions,
        compiler_directives=DIRECTIVES,
        force=DEBUG or SANITIZE,
        shared_utility_qualified_name=SHARED,
    ),
    options={"build_ext": {"parallel": os.cpu_count()}},
)
