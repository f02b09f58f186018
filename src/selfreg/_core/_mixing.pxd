# One layer of a component with a cycle: sweeps to its fixed point, and the bound on steps that proves its error.

from libc.stdint cimport int64_t

from selfreg._core._groups cimport Local


cdef double sweep(const Local* local, double* x) noexcept nogil
cdef double iterate(const Local* local, double* x, double* last_image, double target, int64_t max_sweeps,
                    ) except -1.0 nogil
cdef double row_rounding(const Local* local) noexcept nogil
cdef double uniform_steps(const Local* local, bint costly) noexcept nogil
cdef double expected_steps(const Local* local, int64_t max_sweeps) except -2.0 nogil
cdef double proven_distance(const Local* local, const double* x, const int64_t* choice, double most, double* low,
                            double* high) noexcept nogil
