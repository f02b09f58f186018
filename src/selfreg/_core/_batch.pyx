"""Many small models without cycles in one call: hard-budget values and expected usage of each, without the GIL.

    V(s, b) = max over a with c_a <= b of  sum_j P_a[s, j] V(j, b - c_a)
    U(s, b) = c_pi + sum_j P_pi[s, j] U(j, b - c_pi)                                         pi = the maximising action

A model of 200 states takes some microseconds, less than the Python overhead of one `solve`. Here the arrays of a
model are located once, and everything else (order of states, values, policy, usage) happens in scratch memory that
all models of the call share. Models with cycles are left to the caller.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset

from selfreg._core._budget cimport Model, backup, model_set_lattice
from selfreg._core._graph cimport longest_paths, tarjan


cdef extern from "_rows.h" nogil:
    void selfreg_expect_double(double* out, const double* value, const int32_t* column, const double* probability,
                               int64_t entries, int64_t stride, int64_t width, const int32_t* slot) noexcept


# Arrays of one model, not copied; indices are int32 or int64.
cdef struct Source:
    Py_ssize_t n
    const double* terminal_value
    const double* weight                  # (n,) start distribution, or NULL: one state
    int64_t start
    double* values                        # OUT (n, lattice), or NULL: none
    int8_t* policies                      # OUT (n, lattice), or NULL: none


cdef struct Part:
    const void* indptr
    const void* indices
    const double* data
    Py_ssize_t indptr_size
    Py_ssize_t index_size
    Py_ssize_t nnz


cdef struct Scratch:
    double* value                         # (n, lattice)
    int8_t* policy                        # (n, lattice)
    double* usage                         # (n, budgets, lattice)
    int64_t* rows                         # (actions, n + 1)
    int32_t* columns                      # (actions, most_entries)
    Py_ssize_t most_entries
    uint8_t* terminal
    int32_t* ints                         # six times (n + 1)
    int64_t* edge
    uint8_t* action


def solve_models(
    list models,                          # IN  per model a tuple: terminal values, then indptr, indices, data of every
                                          #     action, C-contiguous
    dict weights,                         # IN  model: float64 (n,) start distribution
    const int64_t[::1] start,             # IN  (models,) start state of models without a weight
    const int64_t[::1] offset,            # IN  (actions,) distance that an action moves down the flattened lattice
    const int64_t[:, ::1] runs,           # IN  (runs, 3) action, start, length: affordable runs of points of help types
    const int64_t[:, ::1] costs,          # IN  (actions, budgets)
    double[:, ::1] value,                 # OUT (models, lattice) from the start
    double[:, :, ::1] usage,              # OUT (models, budgets, lattice) from the start, or empty: none
    list values,                          # OUT per model float64 (n, lattice), or empty: none
    list policies,                        # OUT per model int8 (n, lattice), or empty: none
    uint8_t[::1] solved,                  # OUT (models,) 0 if the model has a cycle; its results are not filled
):
    """Solve every model of the batch; all have the same actions, costs and lattice."""
    cdef Py_ssize_t n_models = start.shape[0], n_actions = offset.shape[0], n_lattice = value.shape[1], i, a
    cdef Py_ssize_t most_states = 0, most_entries = 0, n_budgets = costs.shape[1]
    cdef bint with_usage = usage.shape[0] > 0
    cdef Source* sources = <Source*> malloc((n_models + 1) * sizeof(Source))
    cdef Part* parts = <Part*> malloc((n_models * n_actions + 1) * sizeof(Part))
    cdef Scratch scratch
    cdef Model m
    memset(&scratch, 0, sizeof(scratch))
    m.n_actions, m.slot = n_actions, NULL
    model_set_lattice(&m, n_lattice, &offset[0], &runs[0, 0] if runs.shape[0] else NULL, runs.shape[0])
    m.rows = <const int64_t**> malloc(n_actions * sizeof(int64_t*))
    m.columns = <const int32_t**> malloc(n_actions * sizeof(int32_t*))
    m.probabilities = <const double**> malloc(n_actions * sizeof(double*))
    try:
        if not (sources and parts and m.rows and m.columns and m.probabilities):
            raise MemoryError(f"a batch of {n_models} models")
        bind_arrays(models, n_actions, sources, parts)
        for i in range(n_models):
            sources[i].weight = NULL
            sources[i].start = start[i]
            sources[i].values = <double*> buffer_address(values[i], PyBUF_WRITABLE, NULL, NULL) if values else NULL
            sources[i].policies = NULL
            if policies:
                sources[i].policies = <int8_t*> buffer_address(policies[i], PyBUF_WRITABLE, NULL, NULL)
            most_states = max(most_states, sources[i].n)
            for a in range(n_actions):
                most_entries = max(most_entries, parts[i * n_actions + a].nnz)
        for i, weight in weights.items():
            sources[i].weight = <const double*> buffer_address(weight, PyBUF_SIMPLE, NULL, NULL)
        if not allocate(&scratch, most_states, most_entries, n_actions, n_lattice, n_budgets * with_usage):
            raise MemoryError(f"models of up to {most_states} states and {n_lattice} budgets")
        with nogil:
            for i in range(n_models):
                if not bind_and_order(&m, &sources[i], &parts[i * n_actions], &scratch):
                    solved[i] = 0
                    continue
                solved[i] = 1
                solve_model(&m, &sources[i], &scratch, &value[i, 0])
                if with_usage:
                    add_usage(&m, &sources[i], &costs[0, 0], n_budgets, &scratch, &usage[i, 0, 0])
    finally:
        release(&scratch)
        free(sources)
        free(parts)
        free(m.rows)
        free(m.columns)
        free(m.probabilities)


# ---- arrays ---------------------------------------------------------------------------------------------------------

cdef void* buffer_address(object array, int flags, Py_ssize_t* length, Py_ssize_t* size) except? NULL:
    """Address of an array, its bytes and the size of its items; valid as long as the list that holds the array."""
    cdef Py_buffer view
    PyObject_GetBuffer(array, &view, flags)
    cdef void* found = view.buf
    if length != NULL:
        length[0] = view.len
    if size != NULL:
        size[0] = view.itemsize
    PyBuffer_Release(&view)
    return found


cdef int bind_arrays(list models, Py_ssize_t n_actions, Source* sources, Part* parts) except -1:
    cdef Py_ssize_t i, a, length = 0
    cdef tuple model
    cdef Part* part
    for i in range(len(models)):
        model = models[i]
        sources[i].terminal_value = <const double*> buffer_address(model[0], PyBUF_SIMPLE, &length, NULL)
        sources[i].n = length // <Py_ssize_t> sizeof(double)
        for a in range(n_actions):
            part = &parts[i * n_actions + a]
            part.indptr = buffer_address(model[1 + 3 * a], PyBUF_SIMPLE, NULL, &part.indptr_size)
            part.indices = buffer_address(model[2 + 3 * a], PyBUF_SIMPLE, NULL, &part.index_size)
            part.data = <const double*> buffer_address(model[3 + 3 * a], PyBUF_SIMPLE, &length, NULL)
            part.nnz = length // <Py_ssize_t> sizeof(double)
    return 0


cdef bint allocate(Scratch* s, Py_ssize_t n, Py_ssize_t nnz, Py_ssize_t n_actions, Py_ssize_t n_lattice,
                   Py_ssize_t n_budgets) noexcept:
    s.most_entries = nnz
    s.value = <double*> malloc((n * n_lattice + 1) * sizeof(double))
    s.policy = <int8_t*> malloc(n * n_lattice + 1)
    s.usage = <double*> malloc((n * n_lattice * n_budgets + 1) * sizeof(double))
    s.rows = <int64_t*> malloc(n_actions * (n + 1) * sizeof(int64_t))
    s.columns = <int32_t*> malloc((n_actions * nnz + 1) * sizeof(int32_t))
    s.terminal = <uint8_t*> malloc(n + 1)
    s.ints = <int32_t*> malloc(6 * (n + 1) * sizeof(int32_t))
    s.edge = <int64_t*> malloc((n + 1) * sizeof(int64_t))
    s.action = <uint8_t*> malloc(n + 1)
    return (s.value != NULL and s.policy != NULL and s.usage != NULL and s.rows != NULL and s.columns != NULL
            and s.terminal != NULL and s.ints != NULL and s.edge != NULL and s.action != NULL)


cdef void release(Scratch* s) noexcept:
    free(s.value)
    free(s.policy)
    free(s.usage)
    free(s.rows)
    free(s.columns)
    free(s.terminal)
    free(s.ints)
    free(s.edge)
    free(s.action)


# ---- one model ------------------------------------------------------------------------------------------------------

cdef bint bind_and_order(Model* m, const Source* source, const Part* parts, Scratch* s) noexcept nogil:
    """Point `m` to the model's rows and put states with successors first into s.ints; false if there is a cycle."""
    cdef Py_ssize_t n = source.n, a, i
    cdef int64_t* rows
    cdef int32_t* columns
    cdef bint in_order = True
    for i in range(n):
        s.terminal[i] = source.terminal_value[i] == source.terminal_value[i]
    for a in range(m.n_actions):
        m.probabilities[a] = parts[a].data
        m.rows[a] = <const int64_t*> parts[a].indptr
        if parts[a].indptr_size == sizeof(int32_t):
            rows = s.rows + a * (n + 1)
            for i in range(n + 1):
                rows[i] = (<const int32_t*> parts[a].indptr)[i]
            m.rows[a] = rows
        m.columns[a] = <const int32_t*> parts[a].indices
        if parts[a].index_size != sizeof(int32_t):
            columns = s.columns + a * s.most_entries
            for i in range(parts[a].nnz):
                columns[i] = <int32_t> (<const int64_t*> parts[a].indices)[i]
            m.columns[a] = columns
        for i in range(n):
            # Columns are sorted: it is enough to check the first one.
            if not s.terminal[i] and m.rows[a][i] != m.rows[a][i + 1] and m.columns[a][m.rows[a][i]] <= i:
                in_order = False
    if in_order:
        for i in range(n):
            s.ints[i] = <int32_t> (n - 1 - i)
        return True
    # Of the six arrays the first takes the order, the second components (then levels); the others are for Tarjan.
    if tarjan(n, m.n_actions, m.rows, m.columns, s.terminal, s.ints + 2 * (n + 1), s.ints + 3 * (n + 1),
              s.ints + 4 * (n + 1), s.ints + 5 * (n + 1), s.edge, s.action, s.ints, s.ints + n + 1) < n:
        return False
    return longest_paths(n, m.n_actions, m.rows, m.columns, s.terminal, s.ints, s.ints + n + 1) >= 0


cdef void solve_model(const Model* m, const Source* source, Scratch* s, double* expected) noexcept nogil:
    """Values and policy of every state into `s` (or into the outputs of the model), and the value from the start."""
    cdef Py_ssize_t i, b, n_lattice = m.n_lattice
    cdef int32_t state
    cdef double* value = source.values if source.values != NULL else s.value
    cdef int8_t* policy = source.policies if source.policies != NULL else s.policy
    for i in range(source.n):
        state = s.ints[i]
        if s.terminal[state]:
            for b in range(n_lattice):
                value[state * n_lattice + b] = source.terminal_value[state]
                policy[state * n_lattice + b] = 0
        else:
            backup(m, state, value, policy + state * n_lattice)
    from_start(source, value, n_lattice, n_lattice, expected)


cdef void add_usage(const Model* m, const Source* source, const int64_t* costs, Py_ssize_t n_budgets, Scratch* s,
                    double* expected) noexcept nogil:
    """U(s, b) = c_a + sum_j P_a[s, j] U(j, b - c_a) with a = policy(s, b), and its value from the start."""
    cdef Py_ssize_t i, d, b, stop, n_lattice = m.n_lattice, stride = n_budgets * m.n_lattice
    cdef int64_t first
    cdef int32_t state
    cdef int8_t a
    cdef const int8_t* choice
    cdef double* out
    for i in range(source.n):
        state = s.ints[i]
        out = s.usage + state * stride
        if s.terminal[state]:
            memset(out, 0, stride * sizeof(double))
            continue
        choice = (source.policies if source.policies != NULL else s.policy) + state * n_lattice
        b = 0
        while b < n_lattice:  # run by run of one action
            a = choice[b]
            stop = b + 1
            while stop < n_lattice and choice[stop] == a:
                stop += 1
            first = m.rows[a][state]
            for d in range(n_budgets):
                expect_and_add(m, a, first, m.rows[a][state + 1] - first, s.usage + d * n_lattice + b - m.offset[a],
                               stride, stop - b, <double> costs[a * n_budgets + d], out + d * n_lattice + b)
            b = stop
    from_start(source, s.usage, stride, stride, expected)


cdef inline void expect_and_add(const Model* m, int8_t a, int64_t first, int64_t entries, const double* usage,
                                Py_ssize_t stride, Py_ssize_t width, double cost, double* out) noexcept nogil:
    cdef Py_ssize_t b
    selfreg_expect_double(out, usage, m.columns[a] + first, m.probabilities[a] + first, entries, stride, width, NULL)
    if cost != 0.0:
        for b in range(width):
            out[b] += cost


cdef void from_start(const Source* source, const double* all_states, Py_ssize_t stride, Py_ssize_t width,
                     double* expected) noexcept nogil:
    cdef Py_ssize_t i, b
    if source.weight == NULL:
        for b in range(width):
            expected[b] = all_states[source.start * stride + b]
        return
    memset(expected, 0, width * sizeof(double))
    for i in range(source.n):
        if source.weight[i] != 0.0:
            for b in range(width):
                expected[b] += source.weight[i] * all_states[i * stride + b]
