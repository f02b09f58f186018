"""Hard-budget backward induction for models with cycles, one strongly connected component after the other.

    V(s, b) = max over a with c_a <= b of  sum_j P_a[s, j] V(j, b - c_a)                    least solution, V >= 0

Computes V, the maximising action, and per component and budget a proven error of V. Components come in an order in
which successors are solved first. A state on no cycle takes the backup of `_budget`. In a component with a cycle each
budget layer is an optimal stopping problem: free actions (nohelp, help of cost 0) stay in the layer, costly help
stops with a value of a lower layer. States that free actions can keep among themselves for ever form a group with one
value (`_groups`). A component of one group needs no iteration. Others are swept: all layers together (`_lanes`) if
that is fast, else layer by layer (`_layers`). The caller solves components on which sweeps are slow or a state takes
more than MOST_STEPS steps.

Errors of the values that a component depends on are added to its own.
"""

from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t
from libc.stdlib cimport free, malloc

from selfreg._core._budget cimport Model, backup, model_set_lattice, model_bind, model_free
from selfreg._core._groups cimport Local, Scratch, Task, local_build, local_free
from selfreg._core._lanes cimport LatticeValues, lattice_values_free, sweep_lattice
from selfreg._core._layers cimport SOLVED, UNPROVEN, round_up, set_policy, solve_layers, solve_only_layer
from selfreg._core._mixing cimport expected_steps, row_rounding, uniform_steps


cdef extern from "<float.h>" nogil:
    const double DBL_EPSILON

cdef double MOST_STEPS = 1e12             # of chains for which twice the digits of a double are enough

cdef enum:
    SMALL = 1500                          # up to this number of groups a direct solution is better than many sweeps
    SMALL_SWEEPS = 2000


def solve_components(
    list indptr,                          # IN  per action: int64 (n + 1,)
    list indices,                         # IN  per action: int32 (nnz,)
    list data,                            # IN  per action: float64 (nnz,)
    const int64_t[::1] offset,            # IN  (actions,) distance that an action moves down the flattened lattice
    const int64_t[:, ::1] runs,           # IN  (runs, 3) action, start, length: affordable runs of points of help types
    const uint8_t[:, ::1] affordable,     # IN  (actions, lattice)
    Py_ssize_t last_axis,                 # IN  points on the last axis of the lattice
    const uint8_t[::1] terminal,          # IN  (n,)
    const int32_t[::1] members,           # IN  (n,) states by component, successors first; groups contiguous
    const int64_t[::1] starts,            # IN  (components + 1,) into `members`
    const int32_t[::1] component,         # IN  (n,)
    const int32_t[::1] group,             # IN  (n,)
    Py_ssize_t first,                     # IN  component to begin with
    double tolerance,                     # IN  error that one layer may add
    int64_t max_sweeps,                   # IN  for one layer of one component
    float[:, ::1] error,                  # OUT (components, lattice), or (0, lattice): all components are exact
    double[:, ::1] value,                 # OUT (n, lattice), terminal rows filled by the caller
    int8_t[:, ::1] policy,                # OUT (n, lattice)
):
    """Solve components `first`, ...; the first one that did not reach `tolerance`, or their number if all did."""
    cdef Py_ssize_t n = terminal.shape[0], n_components = starts.shape[0] - 1, c = n_components, a
    cdef Model m
    cdef Task task
    cdef Scratch scratch
    if n == 0:
        return 0
    m.slot = NULL
    model_set_lattice(&m, value.shape[1], &offset[0], &runs[0, 0] if runs.shape[0] else NULL, runs.shape[0])
    scratch.local = <int32_t*> malloc(n * sizeof(int32_t))
    scratch.directed = <uint8_t*> malloc(n * sizeof(uint8_t))
    try:
        model_bind(&m, indptr, indices, data)
        if not (scratch.local and scratch.directed):
            raise MemoryError(f"backward induction over {n} states")
        task.n_free = 0
        for a in range(m.n_actions):
            task.n_free += offset[a] == 0
        task.affordable, task.last_axis = &affordable[0, 0], last_axis
        task.component, task.group, task.terminal = &component[0], &group[0], &terminal[0]
        task.tolerance, task.max_sweeps = tolerance, max_sweeps
        task.error = &error[0, 0] if error.shape[0] else NULL
        task.value, task.policy = &value[0, 0], &policy[0, 0]
        with nogil:
            for c in range(first, n_components):
                if starts[c + 1] - starts[c] == 1 and terminal[members[starts[c]]]:
                    continue
                if starts[c + 1] - starts[c] == 1 and not has_self_loop(&m, members[starts[c]]):
                    backup(&m, members[starts[c]], task.value, task.policy + members[starts[c]] * m.n_lattice)
                    if task.error != NULL:
                        inherit_error(&m, &task, members[starts[c]], c)
                elif not solve_component(&m, &task, &scratch, &members[starts[c]], starts[c + 1] - starts[c], c):
                    break
            else:
                c = n_components
        return c
    finally:
        model_free(&m)
        free(scratch.local)
        free(scratch.directed)


cdef inline bint has_self_loop(const Model* m, int32_t s) noexcept nogil:
    cdef Py_ssize_t a
    cdef int64_t e
    for a in range(m.n_actions):
        for e in range(m.rows[a][s], m.rows[a][s + 1]):
            if m.columns[a][e] == s:
                return True
    return False


cdef void inherit_error(const Model* m, const Task* task, int32_t s, Py_ssize_t c) noexcept nogil:
    """The error of a backup is at most that of the values that it depends on."""
    cdef Py_ssize_t a, b
    cdef int64_t e
    cdef float* out = task.error + c * m.n_lattice
    cdef const float* below
    for b in range(m.n_lattice):
        out[b] = 0.0
    for a in range(m.n_actions):
        for e in range(m.rows[a][s], m.rows[a][s + 1]):
            below = task.error + task.component[m.columns[a][e]] * m.n_lattice
            for b in range(m.offset[a], m.n_lattice):
                out[b] = max(out[b], below[b - m.offset[a]])


# ---- one component with a cycle -----------------------------------------------------------------------------------

cdef int solve_component(const Model* m, const Task* task, const Scratch* scratch, const int32_t* members,
                         Py_ssize_t size, Py_ssize_t c) except -1 nogil:
    """Solve all layers of component `c`; whether the tolerance was reached."""
    cdef Local local
    cdef double steps_all_rows = -1.0, steps = 1.0
    cdef int outcome
    cdef int64_t max_sweeps
    try:
        local_build(m, task, scratch, members, size, c, &local)
        max_sweeps = min(task.max_sweeps, SMALL_SWEEPS) if local.n_groups <= SMALL else task.max_sweeps
        if local.n_groups > 1:
            steps_all_rows = steps = uniform_steps(&local, True)
            if steps < 0.0:
                steps = uniform_steps(&local, False)
            if steps < 0.0 and m.n_lattice == 1:
                outcome = solve_only_layer(m, task, scratch, &local, c, max_sweeps)
                if outcome != UNPROVEN:
                    return outcome == SOLVED
            if steps < 0.0:
                steps = expected_steps(&local, max_sweeps)
            if steps < 0.0:
                return 0
        if local.n_groups > 1 and 4.0 * steps * row_rounding(&local) > task.tolerance:
            # Rounding in double precision, times the steps, is more than the tolerance.
            if steps > MOST_STEPS:
                return 0
            return solve_layers(m, task, scratch, &local, c, steps, max_sweeps, True)
        if local.n_groups > 1 and m.n_lattice > 1 and solve_lattice(m, task, scratch, &local, c, steps, steps_all_rows):
            return 1
        return solve_layers(m, task, scratch, &local, c, steps, max_sweeps, False)
    finally:
        local_free(&local)


# ---- all layers together ------------------------------------------------------------------------------------------

cdef int solve_lattice(const Model* m, const Task* task, const Scratch* scratch, const Local* local, Py_ssize_t c,
                       double steps, double steps_all_rows) except -1 nogil:
    """Solve a component by sweeps over all layers; 0 if it must be solved layer by layer.

    `steps_all_rows` bounds the steps as `steps` does, costly rows included, or is -1: with it errors of layers do not
    add up.
    """
    cdef Py_ssize_t g, i, b
    cdef double rounding = row_rounding(local), target, found
    cdef LatticeValues values
    values.memory, values.best, values.change = NULL, NULL, 0.0
    target = max(task.tolerance * (m.n_lattice if steps_all_rows > 0.0 else 1) / steps - rounding, rounding)
    try:
        if not sweep_lattice(m, task, scratch.local, local, target, &values):
            return 0
        add_errors(m, task, local, c, steps * (values.change + rounding) + 4 * DBL_EPSILON, steps_all_rows < 0.0)
        for g in range(local.n_groups):
            for b in range(m.n_lattice):
                found = min(max(values.values[g * values.stride + b], 0.0), 1.0)
                for i in range(local.bounds[g], local.bounds[g + 1]):
                    task.value[local.members[i] * m.n_lattice + b] = found
                set_policy(m, task, scratch, local, g, b, values.best[g * values.stride + b])
        return 1
    finally:
        lattice_values_free(&values)


cdef void add_errors(const Model* m, const Task* task, const Local* local, Py_ssize_t c, double own, bint by_layer,
                     ) noexcept nogil:
    """Errors of component `c`: those of values outside that its rows depend on, and its own, once or per layer."""
    cdef Py_ssize_t a, b
    cdef int64_t r, e
    cdef float* out = task.error + c * m.n_lattice
    cdef float below = 0.0
    cdef const float* outer
    for b in range(m.n_lattice):
        out[b] = 0.0
    for r in range(local.n_rows):
        for e in range(local.outside[r], local.outside[r + 1]):
            if not task.terminal[local.outer_state[e]]:
                outer = task.error + task.component[local.outer_state[e]] * m.n_lattice
                for b in range(local.row_offset[r], m.n_lattice):
                    out[b] = max(out[b], outer[b - local.row_offset[r]])
    for b in range(m.n_lattice):
        below = max(below, out[b])
        if by_layer:
            for a in range(m.n_actions):
                if 0 < m.offset[a] <= b and task.affordable[a * m.n_lattice + b]:
                    out[b] = max(out[b], out[b - m.offset[a]])
            out[b] = round_up(out[b] + own)
        else:
            out[b] = round_up(below + own)
