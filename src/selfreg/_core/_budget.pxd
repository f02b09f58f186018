# For other Cython code: one exact backup of a state at every budget, without the GIL.
#
#     from selfreg._core._budget cimport Model, backup, model_set_lattice
#
# compiles against an installed selfreg; the kernels themselves stay in selfreg's extension module.

from libc.stdint cimport int8_t, int32_t, int64_t

ctypedef fused value_t:
    double
    float


cdef struct Model:
    Py_ssize_t n_actions
    Py_ssize_t n_lattice
    Py_ssize_t n_runs
    const int64_t** rows                  # per action: (n + 1,)
    const int32_t** columns               # per action: (nnz,)
    const double** probabilities          # per action: (nnz,)
    const int64_t* offset                 # (actions,) distance that an action moves down the flattened lattice
    const int64_t* runs                   # (runs, 3) action, start, length: affordable runs of points of help types
    const int32_t* slot                   # (n,) row of a state's values, or NULL: its own index
    int64_t head                          # first point at which all help is affordable; -1 if that is too far up
    bint alone                            # no help is affordable below `head`


# Sets the lattice: n_lattice, offset, runs, n_runs, head, alone.
cdef void model_set_lattice(Model* m, Py_ssize_t n_lattice, const int64_t* offset, const int64_t* runs,
                            Py_ssize_t n_runs) noexcept nogil


cdef void backup(const Model* m, int32_t s, value_t* value, int8_t* choice) noexcept nogil
cdef int model_bind(Model* m, list indptr, list indices, list data) except -1
cdef void model_free(Model* m) noexcept nogil
