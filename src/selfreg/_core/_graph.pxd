# For other kernels: components and levels of a graph given as raw arrays, without the GIL.

from libc.stdint cimport int32_t, int64_t, uint8_t


cdef int bind_rows(list indptr, list indices, const int64_t** rows, const int32_t** columns) except -1


cdef Py_ssize_t tarjan(
    Py_ssize_t n, Py_ssize_t n_actions, const int64_t** rows, const int32_t** columns, const uint8_t* terminal,
    int32_t* number, int32_t* low, int32_t* path, int32_t* waiting, int64_t* edge, uint8_t* action,
    int32_t* members, int32_t* component,
) noexcept nogil


cdef int32_t longest_paths(
    Py_ssize_t n, Py_ssize_t n_actions, const int64_t** rows, const int32_t** columns, const uint8_t* terminal,
    const int32_t* order, int32_t* level,
) noexcept nogil
