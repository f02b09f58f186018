"""Backward induction with a price on help, for models without cycles: one pass, many penalties at once.

    V_lam(s) = max over available a of  sum_j P_a[s, j] V_lam(j) - sum_d lam_d c_{a,d}    (terminal states: their value)
    S(s) = sum_j P_pi[s, j] S(j)        U_d(s) = c_{pi,d} + sum_j P_pi[s, j] U_d(j)          pi: the maximising action

Computes success S, usages U and the policy pi for every state and lane; a lane is a vector of penalties, one entry
per kind of usage. The penalty axis takes the place of the budget axis of `_budget`; order, slots, levels and threads
are as there. Rows store S, then each U_d, over all lanes. V_lam = S - sum_d lam_d U_d is not stored, so that S and U
stay exact however large the penalty. If penalized values differ by rounding only, the action with less total usage
wins, then the first.
"""

from cpython.exc cimport PyErr_CheckSignals
from cython.parallel cimport prange
from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t
from libc.stdlib cimport free, malloc

from selfreg._core._budget cimport Model, model_bind, model_free


cdef extern from "_penalty.h" nogil:
    struct Penalized "selfreg_penalized":
        int64_t actions
        int64_t dims
        int64_t lanes
        const int64_t** rows
        const int32_t** columns
        const double** probabilities
        const double* cost
        const double* penalty
        double tie
        double tie_usage
        const int32_t* slot
        const uint8_t* terminal
        const double* terminal_value
        int8_t* policy

    void selfreg_penalized_states(const Penalized* m, const int32_t* members, int64_t count, double* rows,
                                  double* scratch) noexcept

# As in `_budget`: least work for several threads, and work between two checks for Ctrl-C; states times lanes.
cdef enum:
    WORTH_THREADS = 1 << 16
    PIECE = 1 << 19


def penalized_levels(
    list indptr,                          # IN  per action: int64 (n + 1,)
    list indices,                         # IN  per action: int32 (nnz,)
    list data,                            # IN  per action: float64 (nnz,)
    const double[:, ::1] cost,            # IN  (actions, dims) units that an action adds to each kind of usage
    const double[:, ::1] penalty,         # IN  (dims, lanes) finite
    double tie,                           # IN  penalized values this close are equal
    double tie_usage,                     # IN  total usages this close are equal
    const double[::1] terminal_value,     # IN  (n,)
    const uint8_t[::1] terminal,          # IN  (n,)
    const int32_t[::1] members,           # IN  (n,) states by level
    const int64_t[::1] starts,            # IN  (levels + 1,) into `members`
    const int32_t[::1] slot,              # IN  (n,) row of a state in `rows`, or empty: its own index
    const double[::1] weight,             # IN  (n,) start distribution, or empty
    double[:, ::1] expected,              # OUT (1 + dims, lanes) success and usages from the start, added to
    double[:, ::1] rows,                  # OUT (n or slots, (1 + dims) * lanes)
    int8_t[:, ::1] policy,                # OUT (n, lanes), or (0, lanes): none
    int n_threads,
):
    """Fill `rows` and `policy`, or `expected`; stops with KeyboardInterrupt at Ctrl-C."""
    cdef Py_ssize_t n_levels = starts.shape[0] - 1, k
    cdef int64_t start, stop, piece, work = 0
    cdef Model model
    cdef Penalized m
    cdef double* scratch = NULL
    if terminal.shape[0] == 0 or penalty.shape[1] == 0:
        return
    m.dims, m.lanes = penalty.shape[0], penalty.shape[1]
    m.cost, m.penalty, m.tie, m.tie_usage = &cost[0, 0], &penalty[0, 0], tie, tie_usage
    m.slot = &slot[0] if slot.shape[0] else NULL
    m.terminal, m.terminal_value = &terminal[0], &terminal_value[0]
    m.policy = &policy[0, 0] if policy.shape[0] else NULL
    try:
        model_bind(&model, indptr, indices, data)
        m.actions, m.rows, m.columns, m.probabilities = model.n_actions, model.rows, model.columns, model.probabilities
        scratch = <double*> malloc(n_threads * (m.dims + 5) * m.lanes * sizeof(double))
        if scratch == NULL:
            raise MemoryError(f"backward induction over {terminal.shape[0]} states")
        piece = max(1, PIECE // m.lanes)
        with nogil:
            for k in range(n_levels):
                start = starts[k]
                while start < starts[k + 1]:
                    stop = min(start + piece, starts[k + 1])
                    solve_piece(&m, &members[start], stop - start, &rows[0, 0], scratch, n_threads)
                    if weight.shape[0]:
                        add_weighted(&m, &members[start], stop - start, &weight[0], &rows[0, 0], &expected[0, 0])
                    work += stop - start
                    if work >= piece:
                        work = 0
                        with gil:
                            PyErr_CheckSignals()
                    start = stop
    finally:
        model_free(&model)
        free(scratch)


cdef void solve_piece(const Penalized* m, const int32_t* members, int64_t count, double* rows, double* scratch,
                      int n_threads) noexcept nogil:
    """Solve `members`, all of one level, one share per thread."""
    cdef int64_t share
    cdef int64_t each = (count + n_threads - 1) // n_threads
    if n_threads == 1 or count * m.lanes < WORTH_THREADS:
        selfreg_penalized_states(m, members, count, rows, scratch)
    else:
        for share in prange(n_threads, schedule="static", num_threads=n_threads):
            if share * each < count:
                selfreg_penalized_states(m, members + share * each, min(each, count - share * each), rows,
                                         scratch + share * (m.dims + 5) * m.lanes)


cdef void add_weighted(const Penalized* m, const int32_t* members, int64_t count, const double* weight,
                       const double* rows, double* expected) noexcept nogil:
    """Add weight[s] rows[s] in the order of `members`, so that the sum does not depend on the number of threads."""
    cdef int64_t i, k, width = (1 + m.dims) * m.lanes
    cdef int32_t s
    for i in range(count):
        s = members[i]
        if weight[s] != 0.0:
            for k in range(width):
                expected[k] += weight[s] * rows[(m.slot[s] if m.slot != NULL else s) * width + k]
