from libc.stdint cimport int32_t, int64_t

from selfreg._core._budget cimport Model
from selfreg._core._groups cimport Local, Task


# Values of all groups of a component at all points of the lattice.
cdef struct LatticeValues:
    int64_t stride                        # lanes, including padding of vectors
    double* values                        # (groups, stride)
    int32_t* best                         # (groups, stride) best row, -1 if all are worth 0
    double change                         # largest change of the last sweep, over all rows
    double* memory


cdef int sweep_lattice(const Model* m, const Task* task, int32_t* index, const Local* local, double target,
                       LatticeValues* out) except -1 nogil
cdef void lattice_values_free(LatticeValues* values) noexcept nogil
