# Layers of a component one after the other, and the policy of its groups: `_components` calls these.

from libc.stdint cimport int8_t, int32_t, int64_t

from selfreg._core._budget cimport Model
from selfreg._core._groups cimport Local, Scratch, Task


cdef enum:
    UNPROVEN = 0                          # outcomes of `solve_only_layer`
    SOLVED = 1
    SLOW = 2


cdef int solve_layers(const Model* m, const Task* task, const Scratch* scratch, const Local* local, Py_ssize_t c,
                      double steps, int64_t max_sweeps, bint refined) except -1 nogil
cdef int solve_only_layer(const Model* m, const Task* task, const Scratch* scratch, const Local* local, Py_ssize_t c,
                          int64_t max_sweeps) except -1 nogil
cdef void direct_to_exit(const Model* m, const Task* task, const Scratch* scratch, const Local* local, Py_ssize_t g,
                         int32_t target, Py_ssize_t b) noexcept nogil


cdef inline float round_up(double x) noexcept nogil:
    """The error as a float, rounded up."""
    return <float> (x * (1.0 + 1e-6))


cdef inline void set_policy(const Model* m, const Task* task, const Scratch* scratch, const Local* local, Py_ssize_t g,
                            Py_ssize_t b, int64_t row) noexcept nogil:
    """Policy of a group: `row` in its state, actions towards that state elsewhere; nohelp if all values are 0 (-1)."""
    cdef Py_ssize_t i
    for i in range(local.bounds[g], local.bounds[g + 1]):
        task.policy[local.members[i] * m.n_lattice + b] = 0
    if row < 0:
        return
    task.policy[local.row_state[row] * m.n_lattice + b] = <int8_t> local.row_action[row]
    # nohelp alone connects a group, unless help of cost 0 is part of its end component.
    if task.n_free > 1 and local.bounds[g + 1] - local.bounds[g] > 1:
        direct_to_exit(m, task, scratch, local, g, local.row_state[row], b)
