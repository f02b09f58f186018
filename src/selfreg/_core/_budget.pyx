# Backward induction over (state, remaining budget): the hard-budget recursion of `selfreg.solve`.
#
# Budgets form an integer lattice, flattened in C order; a help type moves every point by one constant offset, so that
# one axis serves any number of budgets. Components come in an order in which successors are solved first.
#
# Two paths:
# * a state on no cycle: one backup of the whole budget axis at once, contiguous (`backup_all_budgets`);
# * a component with a cycle: budget layer by budget layer, each an optimal stopping problem (`solve_layer`). "Free"
#   actions (nohelp, zero-cost help) stay in the layer; costly help stops it at values that are known already.
#   States of one end component (closed under some free actions) can reach each other for nothing and for ever: they
#   form a group with one value, the best way out of it. Rows that stay partly in their group are divided by the mass
#   that leaves (this also eliminates self-loops). What is left has no end component, so that iteration from below and
#   from above meet, and their distance is a proof. A component of one group needs no iteration at all.
#
# `lower` and `upper` are the same array where no component needs iteration.

from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t
from libc.stdlib cimport free, malloc


cdef struct Model:
    Py_ssize_t n_actions
    Py_ssize_t n_free                 # actions of offset 0, nohelp among them
    Py_ssize_t n_lattice
    Py_ssize_t last_axis              # points on the last axis of the lattice
    const int64_t** rows
    const int32_t** columns
    const double** values
    const int64_t* offset
    const uint8_t* affordable
    const int32_t* component
    const int32_t* group


cdef struct Stack:
    # One component at work: its members, where its groups begin, and scratch per group or state.
    const int32_t* members
    int64_t* bounds
    Py_ssize_t n_groups
    double* stop_lower
    double* stop_upper
    uint8_t* steered


def backward_induction(
    list indptr,                          # IN  per action: int64 (n + 1,)
    list indices,                         # IN  per action: int32 (nnz,)
    list data,                            # IN  per action: float64 (nnz,)
    const int64_t[::1] offset,            # IN  (actions,) how far an action moves down the flattened lattice
    const uint8_t[:, ::1] affordable,     # IN  (actions, lattice)
    const int64_t[:, ::1] runs,           # IN  (runs, 3) action, start, length: affordable stretches of costly actions
    Py_ssize_t last_axis,                 # IN  points on the last axis of the lattice
    const uint8_t[::1] terminal,          # IN  (n,)
    const int32_t[::1] members,           # IN  (n,) states by component, successors first; groups contiguous
    const int64_t[::1] starts,            # IN  (components + 1,) into `members`
    const int32_t[::1] component,         # IN  (n,)
    const int32_t[::1] group,             # IN  (n,)
    double tolerance,                     # IN  distance of the bounds that one layer may add
    int64_t max_sweeps,                   # IN  for one layer of one component
    double[:, ::1] lower,                 # OUT (n, lattice), terminal rows filled by the caller
    double[:, ::1] upper,                 # OUT (n, lattice), or `lower` itself
    int8_t[:, ::1] policy,                # OUT (n, lattice)
):
    """Number of (component, layer) pairs that used up `max_sweeps`; fills `lower`, `upper`, `policy`."""
    cdef Py_ssize_t n_actions = len(indptr), n = terminal.shape[0], n_lattice = lower.shape[1]
    cdef Py_ssize_t n_components = starts.shape[0] - 1, a, c, largest = 1
    cdef int64_t unfinished = 0
    cdef const int64_t[::1] pointer_view
    cdef const int32_t[::1] index_view
    cdef const double[::1] value_view
    cdef Model m
    cdef Stack stack
    cdef double* row = NULL
    if n == 0:
        return 0
    for c in range(n_components):
        largest = max(largest, starts[c + 1] - starts[c])
    m.n_actions, m.n_lattice, m.last_axis, m.n_free = n_actions, n_lattice, last_axis, 0
    m.offset, m.affordable = &offset[0], &affordable[0, 0]
    m.component, m.group = &component[0], &group[0]
    m.rows = <const int64_t**> malloc(n_actions * sizeof(int64_t*))
    m.columns = <const int32_t**> malloc(n_actions * sizeof(int32_t*))
    m.values = <const double**> malloc(n_actions * sizeof(double*))
    row = <double*> malloc(n_lattice * sizeof(double))
    stack.bounds = <int64_t*> malloc((largest + 1) * sizeof(int64_t))
    stack.stop_lower = <double*> malloc(largest * sizeof(double))
    stack.stop_upper = <double*> malloc(largest * sizeof(double))
    stack.steered = <uint8_t*> malloc(n * sizeof(uint8_t))
    try:
        if not (m.rows and m.columns and m.values and row and stack.bounds and stack.stop_lower
                and stack.stop_upper and stack.steered):
            raise MemoryError(f"backward induction over {n} states")
        for a in range(n_actions):
            pointer_view, index_view, value_view = indptr[a], indices[a], data[a]
            m.rows[a] = &pointer_view[0]
            m.columns[a] = &index_view[0] if index_view.shape[0] else NULL
            m.values[a] = &value_view[0] if value_view.shape[0] else NULL
            m.n_free += offset[a] == 0
        with nogil:
            for c in range(n_components):
                stack.members = &members[starts[c]]
                if starts[c + 1] - starts[c] == 1:
                    if terminal[stack.members[0]]:
                        continue
                    if not has_self_loop(&m, stack.members[0]):
                        backup_all_budgets(&m, runs, stack.members[0], &lower[0, 0], &policy[0, 0], row)
                        if &upper[0, 0] != &lower[0, 0]:
                            backup_all_budgets(&m, runs, stack.members[0], &upper[0, 0], NULL, row)
                        continue
                unfinished += solve_component(&m, &stack, starts[c + 1] - starts[c], tolerance, max_sweeps,
                                              &lower[0, 0], &upper[0, 0], &policy[0, 0])
        return unfinished
    finally:
        free(m.rows)
        free(m.columns)
        free(m.values)
        free(row)
        free(stack.bounds)
        free(stack.stop_lower)
        free(stack.stop_upper)
        free(stack.steered)


# ---- states on no cycle -------------------------------------------------------------------------------------------

cdef inline bint has_self_loop(const Model* m, int32_t s) noexcept nogil:
    cdef Py_ssize_t a
    cdef int64_t e
    for a in range(m.n_actions):
        for e in range(m.rows[a][s], m.rows[a][s + 1]):
            if m.columns[a][e] == s:
                return True
    return False


cdef inline void expect(const Model* m, Py_ssize_t a, int32_t s, const double* value, Py_ssize_t length,
                        double* out) noexcept nogil:
    """out[b] = sum_j P_a[s, j] value[j, b] for b < length."""
    cdef Py_ssize_t b
    cdef int64_t e
    cdef double p
    cdef const double* successor
    for b in range(length):
        out[b] = 0.0
    for e in range(m.rows[a][s], m.rows[a][s + 1]):
        p = m.values[a][e]
        successor = value + m.columns[a][e] * m.n_lattice
        for b in range(length):
            out[b] += p * successor[b]


cdef void backup_all_budgets(const Model* m, const int64_t[:, ::1] runs, int32_t s, double* value, int8_t* policy,
                             double* row) noexcept nogil:
    """Exact backup of state `s` at every budget; `policy` may be NULL."""
    cdef Py_ssize_t a, r, b, start, stop
    cdef double* out = value + s * m.n_lattice
    cdef const double* moved
    cdef int8_t* choice = NULL
    expect(m, 0, s, value, m.n_lattice, out)
    if policy != NULL:
        choice = policy + s * m.n_lattice
        for b in range(m.n_lattice):
            choice[b] = 0
    for a in range(1, m.n_actions):
        if m.rows[a][s] == m.rows[a][s + 1] or m.offset[a] >= m.n_lattice:
            continue
        expect(m, a, s, value, m.n_lattice - m.offset[a], row)
        for r in range(runs.shape[0]):
            if runs[r, 0] != a:
                continue
            start, stop = runs[r, 1], runs[r, 1] + runs[r, 2]
            moved = row - m.offset[a]
            if choice != NULL:
                for b in range(start, stop):
                    choice[b] = <int8_t> a if moved[b] > out[b] else choice[b]
            for b in range(start, stop):
                out[b] = moved[b] if moved[b] > out[b] else out[b]


# ---- components with a cycle --------------------------------------------------------------------------------------

cdef inline double stop_value(const Model* m, Py_ssize_t a, int32_t s, const double* value, Py_ssize_t b,
                              ) noexcept nogil:
    """Value of costly help `a` in `s`, or -1 where it is unavailable or too dear."""
    cdef int64_t e
    cdef double total = 0.0
    if m.rows[a][s] == m.rows[a][s + 1] or not m.affordable[a * m.n_lattice + b]:
        return -1.0
    for e in range(m.rows[a][s], m.rows[a][s + 1]):
        total += m.values[a][e] * value[m.columns[a][e] * m.n_lattice + b - m.offset[a]]
    return total


cdef inline double exit_value(const Model* m, Py_ssize_t a, int32_t s, const double* value, Py_ssize_t b,
                              ) noexcept nogil:
    """Value of free action `a` in `s` given that it leaves the group, or -1 where it never does."""
    cdef int64_t e
    cdef int32_t j
    cdef double total = 0.0, outside = 0.0
    cdef bint inside = False
    for e in range(m.rows[a][s], m.rows[a][s + 1]):
        j = m.columns[a][e]
        if m.group[j] == m.group[s]:
            inside = True
        else:
            outside += m.values[a][e]
            total += m.values[a][e] * value[j * m.n_lattice + b]
    if outside == 0.0:
        return -1.0
    return total / outside if inside else total


cdef inline double best_exit(const Model* m, const Stack* stack, Py_ssize_t g, const double* value, Py_ssize_t b,
                             double best) noexcept nogil:
    """Best of `best` (the group's stop value) and the ways out of group `g` by free actions."""
    cdef Py_ssize_t i, a
    for i in range(stack.bounds[g], stack.bounds[g + 1]):
        for a in range(m.n_actions):
            if m.offset[a] == 0:
                best = max(best, exit_value(m, a, stack.members[i], value, b))
    return best


cdef inline double best_stop(const Model* m, const Stack* stack, Py_ssize_t g, const double* value, Py_ssize_t b,
                             ) noexcept nogil:
    """Best costly help in group `g`; 0 where there is none: waiting for ever is worth 0."""
    cdef Py_ssize_t i, a
    cdef double best = 0.0
    for i in range(stack.bounds[g], stack.bounds[g + 1]):
        for a in range(1, m.n_actions):
            if m.offset[a]:
                best = max(best, stop_value(m, a, stack.members[i], value, b))
    return best


cdef inline void assign(const Model* m, const Stack* stack, Py_ssize_t g, double* value, Py_ssize_t b, double new,
                        ) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(stack.bounds[g], stack.bounds[g + 1]):
        value[stack.members[i] * m.n_lattice + b] = new


cdef int64_t solve_component(const Model* m, Stack* stack, Py_ssize_t size, double tolerance, int64_t max_sweeps,
                             double* lower, double* upper, int8_t* policy) except -1 nogil:
    """Solve all layers of one component; the number of layers that used up `max_sweeps`."""
    cdef Py_ssize_t i, g, b
    cdef int64_t unfinished = 0
    stack.n_groups = 0
    for i in range(size):
        if i == 0 or m.group[stack.members[i]] != m.group[stack.members[i - 1]]:
            stack.bounds[stack.n_groups] = i
            stack.n_groups += 1
    stack.bounds[stack.n_groups] = size
    for b in range(m.n_lattice):
        unfinished += solve_layer(m, stack, b, tolerance, max_sweeps, lower, upper)
        for g in range(stack.n_groups):
            choose(m, stack, g, lower, b, policy)
    return unfinished


cdef double start_layer(const Model* m, const Stack* stack, Py_ssize_t b, double* lower, double* upper,
                        ) noexcept nogil:
    """Stop values and first bounds of a layer; the distance of the bounds in all that the layer rests on."""
    cdef Py_ssize_t g, i, a
    cdef int64_t e
    cdef int32_t s, j
    cdef double gap = 0.0, top = 0.0, low
    for g in range(stack.n_groups):
        stack.stop_lower[g] = best_stop(m, stack, g, lower, b)
        stack.stop_upper[g] = best_stop(m, stack, g, upper, b)
        gap = max(gap, stack.stop_upper[g] - stack.stop_lower[g])
        top = max(top, stack.stop_upper[g])
        for i in range(stack.bounds[g], stack.bounds[g + 1]):
            s = stack.members[i]
            for a in range(m.n_actions):
                if m.offset[a]:
                    continue
                for e in range(m.rows[a][s], m.rows[a][s + 1]):
                    j = m.columns[a][e]
                    if m.component[j] != m.component[s]:
                        gap = max(gap, upper[j * m.n_lattice + b] - lower[j * m.n_lattice + b])
                        top = max(top, upper[j * m.n_lattice + b])
    for g in range(stack.n_groups):
        low = stack.stop_lower[g]
        if b % m.last_axis:
            # The value one unit below is a lower bound, and one that its own backup does not decrease.
            low = max(low, lower[stack.members[stack.bounds[g]] * m.n_lattice + b - 1])
        assign(m, stack, g, upper, b, top)
        assign(m, stack, g, lower, b, low)
    return gap


cdef int solve_layer(const Model* m, const Stack* stack, Py_ssize_t b, double tolerance, int64_t max_sweeps,
                     double* lower, double* upper) except -1 nogil:
    """Bring the bounds of layer `b` together; 1 where `max_sweeps` did not suffice, else 0."""
    cdef Py_ssize_t g, position, k
    cdef int64_t sweep
    cdef double allowed = start_layer(m, stack, b, lower, upper) + tolerance
    cdef double gap, low, high
    if stack.n_groups == 1:
        high = best_exit(m, stack, 0, upper, b, stack.stop_upper[0])
        low = best_exit(m, stack, 0, lower, b, stack.stop_lower[0])
        assign(m, stack, 0, upper, b, high)
        assign(m, stack, 0, lower, b, low)
        return 0
    for sweep in range(max_sweeps):
        gap = 0.0
        for k in range(stack.n_groups):
            g = k if sweep % 2 else stack.n_groups - 1 - k
            position = stack.members[stack.bounds[g]] * m.n_lattice + b
            low = max(lower[position], best_exit(m, stack, g, lower, b, stack.stop_lower[g]))
            high = min(upper[position], best_exit(m, stack, g, upper, b, stack.stop_upper[g]))
            assign(m, stack, g, lower, b, low)
            assign(m, stack, g, upper, b, high)
            gap = max(gap, high - low)
        if gap <= allowed:
            return 0
        if sweep % 256 == 255:
            with gil:
                PyErr_CheckSignals()
    return 1


cdef void choose(const Model* m, const Stack* stack, Py_ssize_t g, const double* lower, Py_ssize_t b, int8_t* policy,
                 ) noexcept nogil:
    """Policy of group `g`: its best way out where that is, and elsewhere the way there; nohelp where all is worth 0."""
    cdef Py_ssize_t i, a, best_action = 0
    cdef int32_t s, best_state = stack.members[stack.bounds[g]]
    cdef double best = 0.0, value
    for i in range(stack.bounds[g], stack.bounds[g + 1]):
        policy[stack.members[i] * m.n_lattice + b] = 0
    for a in range(m.n_actions):
        for i in range(stack.bounds[g], stack.bounds[g + 1]):
            s = stack.members[i]
            value = stop_value(m, a, s, lower, b) if m.offset[a] else exit_value(m, a, s, lower, b)
            if value > best:
                best, best_action, best_state = value, a, s
    policy[best_state * m.n_lattice + b] = <int8_t> best_action
    # nohelp alone leads everywhere in a group unless zero-cost help was needed to close it.
    if best > 0.0 and m.n_free > 1 and stack.bounds[g + 1] - stack.bounds[g] > 1:
        steer(m, stack, g, best_state, b, policy)


cdef void steer(const Model* m, const Stack* stack, Py_ssize_t g, int32_t target, Py_ssize_t b, int8_t* policy,
                ) noexcept nogil:
    """In every other state of the group an action that stays in it and leads to `target`; nohelp where it does."""
    cdef Py_ssize_t i, a
    cdef bint moved = True
    for i in range(stack.bounds[g], stack.bounds[g + 1]):
        stack.steered[stack.members[i]] = stack.members[i] == target
    while moved:
        moved = False
        for a in range(m.n_actions):
            if m.offset[a]:
                continue
            for i in range(stack.bounds[g], stack.bounds[g + 1]):
                if not stack.steered[stack.members[i]] and leads(m, stack, a, stack.members[i]):
                    policy[stack.members[i] * m.n_lattice + b] = <int8_t> a
                    stack.steered[stack.members[i]] = moved = True
            if moved:
                break


cdef inline bint leads(const Model* m, const Stack* stack, Py_ssize_t a, int32_t s) noexcept nogil:
    """Whether `a` stays in the group of `s` and reaches a steered state."""
    cdef int64_t e
    cdef int32_t j
    cdef bint reached = False
    for e in range(m.rows[a][s], m.rows[a][s + 1]):
        j = m.columns[a][e]
        if m.group[j] != m.group[s]:
            return False
        reached = reached or stack.steered[j]
    return reached
