# cython: language_level=3, boundscheck=False, wraparound=False
"""Plan for a new state of a model, by a call of selfreg's kernel from your own Cython code."""

import numpy as np

from libc.stdint cimport int8_t, int32_t, int64_t

from selfreg._core._budget cimport Model, backup, model_set_lattice


def plan(
    const double[:, ::1] values,
    const int32_t[::1] alone,
    const double[::1] p_alone,
    const int32_t[::1] helped,
    const double[::1] p_helped,
):
    """Value (float64) and policy (int8, 1 is help), both (budget + 1,), of a state whose successors are in `values`.

    `values` (n, budget + 1) holds the values of n states. The new state leads to the states `alone` with probabilities
    `p_alone`, or to `helped` with `p_helped` for one unit of the budget; neither is empty.
    """
    cdef int32_t n = values.shape[0]
    cdef Py_ssize_t width = values.shape[1]
    # The new state comes last; the rows of the others are empty.
    cdef int64_t[:, ::1] rows = np.zeros((2, n + 2), np.int64)
    rows[0, n + 1], rows[1, n + 1] = len(alone), len(helped)
    cdef double[:, ::1] value = np.concatenate([values, np.zeros((1, width))])
    cdef int8_t[::1] policy = np.zeros(width, np.int8)
    cdef const int64_t* row_parts[2]
    row_parts[:] = [&rows[0, 0], &rows[1, 0]]
    cdef const int32_t* column_parts[2]
    column_parts[:] = [&alone[0], &helped[0]]
    cdef const double* probability_parts[2]
    probability_parts[:] = [&p_alone[0], &p_helped[0]]
    cdef int64_t[2] offset = [0, 1]
    cdef int64_t[3] affordable = [1, 1, width - 1]  # help (action 1), from budget 1 on
    cdef Model model
    model.n_actions, model.slot = 2, NULL
    model.rows, model.columns, model.probabilities = row_parts, column_parts, probability_parts
    with nogil:
        model_set_lattice(&model, width, offset, affordable, 1)
        backup(&model, n, &value[0, 0], &policy[0])
    return np.asarray(value[n]), np.asarray(policy)
