# One layer of a component with a cycle: sweeps to its fixed point, and the bound on steps that proves its error.

cimport cython
from libc.stdint cimport int64_t

from selfreg._core._groups cimport Local


ctypedef fused real_t:
    double
    cython.longdouble


cdef double sweep(const Local* local, real_t* x) noexcept nogil
cdef double iterate(const Local* local, real_t* x, real_t* last_image, double target, int64_t max_sweeps,
                    ) except -1.0 nogil
cdef double uniform_steps(const Local* local, bint costly) noexcept nogil
cdef double expected_steps(const Local* local, int64_t max_sweeps) except -2.0 nogil
