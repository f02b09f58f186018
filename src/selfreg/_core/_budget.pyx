"""Hard-budget backward induction for models without cycles, all budgets in one pass.

    V(s, b) = terminal_value[s]                                                            if s is terminal
    V(s, b) = max over a with c_a <= b of  sum_j P_a[s, j] V(j, b - c_a)                   else; first action wins ties

Computes V and the maximising action for every state and every remaining budget b. States come by level (longest path
to a state without successors). States of a level depend on lower levels only, so that any number of threads gives the
same bits. The lattice of budgets is flattened in C order and contiguous; action a moves every point down by
offset[a], so that one axis serves any number of budgets. `slot` is the row in which the values of a state are stored:
with it, only levels that are still needed take memory.
"""

from cpython.exc cimport PyErr_CheckSignals
from cython.parallel cimport prange
from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t
from libc.stdlib cimport free, malloc


cdef extern from "_rows.h" nogil:
    void selfreg_expect_double(double* out, const double* value, const int32_t* column, const double* probability,
                               int64_t entries, int64_t stride, int64_t width, const int32_t* slot) noexcept
    void selfreg_expect_float(float* out, const float* value, const int32_t* column, const double* probability,
                              int64_t entries, int64_t stride, int64_t width, const int32_t* slot) noexcept
    void selfreg_improve_double(double* out, int8_t* choice, int8_t action, const double* value, const int32_t* column,
                                const double* probability, int64_t entries, int64_t stride, int64_t width,
                                const int32_t* slot) noexcept
    void selfreg_improve_float(float* out, int8_t* choice, int8_t action, const float* value, const int32_t* column,
                               const double* probability, int64_t entries, int64_t stride, int64_t width,
                               const int32_t* slot) noexcept

cdef extern from "_backup.h" nogil:
    void selfreg_backup_double(double* out, int8_t* choice, const double* values, int64_t s, const int64_t** rows,
                               const int32_t** columns, const double** probabilities, const int64_t* offset,
                               const int64_t* runs, int64_t n_runs, int64_t head, int alone, int64_t stride,
                               const int32_t* slot) noexcept
    void selfreg_backup_float(float* out, int8_t* choice, const float* values, int64_t s, const int64_t** rows,
                              const int32_t** columns, const double** probabilities, const int64_t* offset,
                              const int64_t* runs, int64_t n_runs, int64_t head, int alone, int64_t stride,
                              const int32_t* slot) noexcept

cdef extern from "<time.h>" nogil:
    struct timespec:
        int64_t tv_sec
        long tv_nsec
    int timespec_get(timespec* now, int base)
    const int TIME_UTC

# States times lattice points: a level below the first (about 0.1 ms) runs on one thread; after the second (some
# milliseconds of work) the kernel checks for Ctrl-C.
cdef enum:
    WORTH_THREADS = 1 << 16
    PIECE = 1 << 19
    HEAD = 4                              # most points below `head` that are computed one by one
    PAUSE = 8                             # levels on one thread after several threads were slower for the second time


def backup_levels(
    list indptr,                          # IN  per action: int64 (n + 1,)
    list indices,                         # IN  per action: int32 (nnz,)
    list data,                            # IN  per action: float64 (nnz,)
    const int64_t[::1] offset,            # IN  (actions,) distance that an action moves down the flattened lattice
    const int64_t[:, ::1] runs,           # IN  (runs, 3) action, start, length: affordable runs of points of help types
    const double[::1] terminal_value,     # IN  (n,)
    const uint8_t[::1] terminal,          # IN  (n,)
    const int32_t[::1] members,           # IN  (n,) states by level
    const int64_t[::1] starts,            # IN  (levels + 1,) into `members`
    const int32_t[::1] slot,              # IN  (n,) row of a state's values in `value`, or empty: its own index
    const double[::1] weight,             # IN  (n,) start distribution, or empty
    double[::1] expected,                 # OUT (lattice,) sum of weight[s] * V(s, .), added to; if there is a weight
    value_t[:, ::1] value,                # OUT (n or slots, lattice)
    int8_t[:, ::1] policy,                # OUT (n, lattice), or (0, lattice): none
    int n_threads,
):
    """Fill `value` and `policy`, or `expected`; stops with KeyboardInterrupt at Ctrl-C."""
    cdef Py_ssize_t n_levels = starts.shape[0] - 1, k
    cdef int64_t start, stop, piece, work = 0
    cdef Model m
    cdef Job job
    if terminal.shape[0] == 0:
        return
    model_set_lattice(&m, value.shape[1], &offset[0], &runs[0, 0] if runs.shape[0] else NULL, runs.shape[0])
    m.slot = &slot[0] if slot.shape[0] else NULL
    job.members, job.terminal, job.terminal_value = &members[0], &terminal[0], &terminal_value[0]
    job.policy = &policy[0, 0] if policy.shape[0] else NULL
    job.n_threads, job.alone, job.pause, job.next_pause = n_threads, 0.0, 0, 1
    try:
        model_bind(&m, indptr, indices, data)
        piece = max(1, PIECE // m.n_lattice)
        with nogil:
            for k in range(n_levels):
                start = starts[k]
                while start < starts[k + 1]:
                    stop = min(start + piece, starts[k + 1])
                    backup_piece(&m, &job, start, stop, &value[0, 0])
                    if weight.shape[0]:
                        add_weighted(&m, &job, start, stop, &weight[0], &value[0, 0], &expected[0])
                    work += stop - start
                    if work >= piece:
                        work = 0
                        with gil:
                            PyErr_CheckSignals()
                    start = stop
    finally:
        model_free(&m)


cdef int model_bind(Model* m, list indptr, list indices, list data) except -1:
    """Point `m` to the rows of all actions; call `model_free` whether or not this raises."""
    cdef Py_ssize_t a
    cdef const int64_t[::1] pointer_view
    cdef const int32_t[::1] index_view
    cdef const double[::1] value_view
    m.n_actions = len(indptr)
    m.rows = <const int64_t**> malloc(m.n_actions * sizeof(int64_t*))
    m.columns = <const int32_t**> malloc(m.n_actions * sizeof(int32_t*))
    m.probabilities = <const double**> malloc(m.n_actions * sizeof(double*))
    if not (m.rows and m.columns and m.probabilities):
        raise MemoryError(f"pointers to the rows of {m.n_actions} actions")
    for a in range(m.n_actions):
        pointer_view, index_view, value_view = indptr[a], indices[a], data[a]
        m.rows[a] = &pointer_view[0]
        m.columns[a] = &index_view[0] if index_view.shape[0] else NULL
        m.probabilities[a] = &value_view[0] if value_view.shape[0] else NULL
    return 0


cdef void model_set_lattice(Model* m, Py_ssize_t n_lattice, const int64_t* offset, const int64_t* runs,
                            Py_ssize_t n_runs) noexcept nogil:
    """Set the budget lattice of `m`; see `Model`."""
    cdef Py_ssize_t r
    m.n_lattice, m.offset, m.runs, m.n_runs = n_lattice, offset, runs, n_runs
    m.head, m.alone = 0, True
    for r in range(n_runs):
        m.head = max(m.head, runs[3 * r + 1])
    for r in range(n_runs):
        m.alone = m.alone and runs[3 * r + 1] == m.head
        if m.head > HEAD or runs[3 * r + 1] + runs[3 * r + 2] != n_lattice:  # several runs of one action
            m.head = -1
            return


cdef void model_free(Model* m) noexcept nogil:
    free(m.rows)
    free(m.columns)
    free(m.probabilities)


cdef struct Job:
    const int32_t* members
    const uint8_t* terminal
    const double* terminal_value
    int8_t* policy
    int n_threads
    double alone                          # seconds per state of the last level on one thread, 0 at first
    int pause                             # next levels that run on one thread
    int next_pause


cdef void backup_piece(const Model* m, Job* job, int64_t start, int64_t stop, value_t* value) noexcept nogil:
    """Solve members[start:stop], all of one level.

    Threads wait for each other at the end of a level. If other programs use the cores, waiting takes many times as long
    as the work; then one thread continues alone for some levels. The first time this is one level only, since the level
    that was timed on one thread may have had fewer successors per state.
    """
    cdef double begin
    if job.n_threads == 1 or (stop - start) * m.n_lattice < WORTH_THREADS:
        solve_states(m, job, start, stop, value, 1)
    elif job.alone == 0.0 or job.pause:
        job.pause = max(0, job.pause - 1)
        begin = seconds()
        solve_states(m, job, start, stop, value, 1)
        job.alone = (seconds() - begin) / (stop - start)
    else:
        begin = seconds()
        solve_states(m, job, start, stop, value, job.n_threads)
        if seconds() - begin > 1.5 * job.alone * (stop - start):
            job.pause, job.next_pause = job.next_pause, max(PAUSE, 2 * job.next_pause)


cdef inline double seconds() noexcept nogil:
    cdef timespec now
    timespec_get(&now, TIME_UTC)
    return now.tv_sec + 1e-9 * now.tv_nsec


cdef void solve_states(const Model* m, const Job* job, int64_t start, int64_t stop, value_t* value, int n_threads,
                       ) noexcept nogil:
    cdef int64_t i
    if n_threads == 1:
        for i in range(start, stop):
            solve_state(m, job, job.members[i], value)
    else:
        for i in prange(start, stop, schedule="static", num_threads=n_threads):
            solve_state(m, job, job.members[i], value)


cdef inline void solve_state(const Model* m, const Job* job, int32_t s, value_t* value) noexcept nogil:
    cdef Py_ssize_t b
    cdef value_t* out
    if job.terminal[s]:
        out = value + slot_of(m, s) * m.n_lattice
        for b in range(m.n_lattice):
            out[b] = <value_t> job.terminal_value[s]
        if job.policy != NULL:
            for b in range(m.n_lattice):
                job.policy[s * m.n_lattice + b] = 0
    else:
        backup(m, s, value, job.policy + s * m.n_lattice if job.policy != NULL else NULL)


cdef void backup(const Model* m, int32_t s, value_t* value, int8_t* choice) noexcept nogil:
    """Exact backup of a live state `s` that is on no cycle, at every budget; `choice` (lattice,) may be NULL.

    V(s, b) = max over affordable a of sum_j P_a[s, j] V(j, b - c_a); the first action wins ties.
    """
    cdef Py_ssize_t a, r, b
    cdef value_t* out = value + slot_of(m, s) * m.n_lattice
    if m.head >= 0:
        if value_t is double:
            selfreg_backup_double(out, choice, value, s, m.rows, m.columns, m.probabilities, m.offset, m.runs, m.n_runs,
                                  m.head, m.alone, m.n_lattice, m.slot)
        else:
            selfreg_backup_float(out, choice, value, s, m.rows, m.columns, m.probabilities, m.offset, m.runs, m.n_runs,
                                 m.head, m.alone, m.n_lattice, m.slot)
        return
    expect(m, s, value, out)
    if choice != NULL:
        for b in range(m.n_lattice):
            choice[b] = 0
    for r in range(m.n_runs):
        a = m.runs[3 * r]
        if m.rows[a][s] != m.rows[a][s + 1]:
            improve(m, a, s, value, m.runs[3 * r + 1], m.runs[3 * r + 2], out, choice)


cdef inline int64_t slot_of(const Model* m, int32_t s) noexcept nogil:
    return m.slot[s] if m.slot != NULL else s


cdef inline void expect(const Model* m, int32_t s, const value_t* value, value_t* out) noexcept nogil:
    """out[b] = sum_j P_0[s, j] value[j, b]."""
    cdef int64_t first = m.rows[0][s]
    if value_t is double:
        selfreg_expect_double(out, value, m.columns[0] + first, m.probabilities[0] + first,
                              m.rows[0][s + 1] - first, m.n_lattice, m.n_lattice, m.slot)
    else:
        selfreg_expect_float(out, value, m.columns[0] + first, m.probabilities[0] + first,
                             m.rows[0][s + 1] - first, m.n_lattice, m.n_lattice, m.slot)


cdef inline void improve(const Model* m, Py_ssize_t a, int32_t s, const value_t* value, int64_t start, int64_t length,
                         value_t* out, int8_t* choice) noexcept nogil:
    """Maximise with action `a` at points start..start + length - 1, where it is affordable."""
    cdef int64_t first = m.rows[a][s]
    cdef int8_t* chosen = choice + start if choice != NULL else NULL
    if value_t is double:
        selfreg_improve_double(out + start, chosen, <int8_t> a, value + start - m.offset[a], m.columns[a] + first,
                               m.probabilities[a] + first, m.rows[a][s + 1] - first, m.n_lattice, length, m.slot)
    else:
        selfreg_improve_float(out + start, chosen, <int8_t> a, value + start - m.offset[a], m.columns[a] + first,
                              m.probabilities[a] + first, m.rows[a][s + 1] - first, m.n_lattice, length, m.slot)


cdef void add_weighted(const Model* m, const Job* job, int64_t start, int64_t stop, const double* weight,
                       const value_t* value, double* expected) noexcept nogil:
    """Add weight[s] V(s, .) in the order of `members`, so that the sum does not depend on the number of threads."""
    cdef int64_t i
    cdef Py_ssize_t b
    cdef int32_t s
    for i in range(start, stop):
        s = job.members[i]
        if weight[s] != 0.0:
            for b in range(m.n_lattice):
                expected[b] += weight[s] * value[slot_of(m, s) * m.n_lattice + b]
