from libc.stdint cimport int32_t, int64_t

from selfreg._core._budget cimport Model
from selfreg._core._groups cimport Local, Task


# Values of all groups of a component at all points of the lattice.
cdef struct Together:
    int64_t stride                        # lanes, with those that only fill up a vector
    double* values                        # (groups, stride)
    int32_t* best                         # (groups, stride) best row, -1 where all are worth 0
    double change                         # largest change of the last sweep, which had all rows
    double* memory


cdef int sweep_together(const Model* m, const Task* task, int32_t* place, const Local* local, double target,
                        Together* out) except -1 nogil
cdef void forget(Together* together) noexcept nogil
