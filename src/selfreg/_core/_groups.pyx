"""Rows of a component with a cycle over its groups of states.

    R[h] = sum over j in h of P_a[s, j]  /  (1 - sum over j in the group of s of P_a[s, j])    row of a in state s

A group is an end component: a set of states that free actions can keep among themselves for ever, so that each state
can reach every other one at no cost. It has one value, that of its best exit. A free row that partly stays in its
group is divided by the mass that leaves, which also eliminates self-loops; a row that does not leave is dropped.
"""

from libc.math cimport fabs
from libc.stdint cimport int32_t, int64_t
from libc.stdlib cimport free, malloc

from selfreg._core._budget cimport Model


cdef int local_build(const Model* m, const Task* task, const Scratch* scratch, const int32_t* members, Py_ssize_t size,
                     Py_ssize_t c, Local* out) except -1 nogil:
    """Rows of the component over its groups, with entries that lead outside of it stored separately."""
    cdef Py_ssize_t i, a, g, n_entries = 0, n_rows = 0
    out.members, out.n_groups, out.n_rows, out.longest, out.missing = members, 0, 0, 0, 0.0
    out.divided = 0
    for i in range(size):
        if i == 0 or task.group[members[i]] != task.group[members[i - 1]]:
            out.n_groups += 1
        scratch.local[members[i]] = <int32_t> (out.n_groups - 1)
        for a in range(m.n_actions):
            n_entries += m.rows[a][members[i] + 1] - m.rows[a][members[i]]
            n_rows += 1
    out.bounds = <int64_t*> malloc((out.n_groups + 1) * sizeof(int64_t))
    out.group_rows = <int64_t*> malloc((out.n_groups + 1) * sizeof(int64_t))
    out.row_action = <int32_t*> malloc(n_rows * sizeof(int32_t))
    out.row_state = <int32_t*> malloc(n_rows * sizeof(int32_t))
    out.row_offset = <int64_t*> malloc(n_rows * sizeof(int64_t))
    out.inside = <int64_t*> malloc((n_rows + 1) * sizeof(int64_t))
    out.outside = <int64_t*> malloc((n_rows + 1) * sizeof(int64_t))
    out.inner_group = <int32_t*> malloc((n_entries + 1) * sizeof(int32_t))
    out.inner_probability = <double*> malloc((n_entries + 1) * sizeof(double))
    out.outer_state = <int32_t*> malloc((n_entries + 1) * sizeof(int32_t))
    out.outer_probability = <double*> malloc((n_entries + 1) * sizeof(double))
    out.constant = <double*> malloc((n_rows + 1) * sizeof(double))
    out.stop = <double*> malloc(out.n_groups * sizeof(double))
    out.history = <double*> malloc((2 * WINDOW + 1) * out.n_groups * sizeof(double))
    out.step = <double*> malloc(out.n_groups * sizeof(double))
    if not (out.bounds and out.group_rows and out.row_action and out.row_state and out.row_offset and out.inside
            and out.outside and out.inner_group and out.inner_probability and out.outer_state and out.outer_probability
            and out.constant and out.stop and out.history and out.step):
        with gil:
            raise MemoryError(f"backward induction over a component of {size} states")
    g = -1
    for i in range(size):
        if i == 0 or scratch.local[members[i]] != g:
            g += 1
            out.bounds[g] = i
    out.bounds[out.n_groups] = size
    out.inside[0] = out.outside[0] = 0
    for g in range(out.n_groups):
        out.group_rows[g] = out.n_rows
        for a in range(m.n_actions):
            for i in range(out.bounds[g], out.bounds[g + 1]):
                if m.rows[a][members[i]] < m.rows[a][members[i] + 1]:
                    add_row(m, task, scratch, a, members[i], c, out)
    out.group_rows[out.n_groups] = out.n_rows
    return 0


cdef void add_row(const Model* m, const Task* task, const Scratch* scratch, Py_ssize_t a, int32_t s, Py_ssize_t c,
                  Local* out) noexcept nogil:
    cdef int64_t e, inner = out.inside[out.n_rows], outer = out.outside[out.n_rows]
    cdef int32_t j
    cdef double leaving = 0.0
    cdef bint stays = False
    for e in range(m.rows[a][s], m.rows[a][s + 1]):
        j = m.columns[a][e]
        if m.offset[a] == 0 and task.group[j] == task.group[s]:
            stays = True
            continue
        leaving += m.probabilities[a][e]
        if task.component[j] == c:
            out.inner_group[inner] = scratch.local[j]
            out.inner_probability[inner] = m.probabilities[a][e]
            inner += 1
        else:
            out.outer_state[outer] = j
            out.outer_probability[outer] = m.probabilities[a][e]
            outer += 1
    if leaving == 0.0:
        return
    if stays:
        out.divided += 1
        for e in range(out.inside[out.n_rows], inner):
            out.inner_probability[e] /= leaving
        for e in range(out.outside[out.n_rows], outer):
            out.outer_probability[e] /= leaving
    else:
        out.missing = max(out.missing, fabs(leaving - 1.0))
    out.longest = max(out.longest, m.rows[a][s + 1] - m.rows[a][s])
    out.row_action[out.n_rows], out.row_state[out.n_rows], out.row_offset[out.n_rows] = <int32_t> a, s, m.offset[a]
    out.n_rows += 1
    out.inside[out.n_rows], out.outside[out.n_rows] = inner, outer


cdef void local_free(Local* local) noexcept nogil:
    free(local.bounds)
    free(local.group_rows)
    free(local.row_action)
    free(local.row_state)
    free(local.row_offset)
    free(local.inside)
    free(local.outside)
    free(local.inner_group)
    free(local.inner_probability)
    free(local.outer_state)
    free(local.outer_probability)
    free(local.constant)
    free(local.stop)
    free(local.history)
    free(local.step)
