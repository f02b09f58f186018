"""Hard-budget backups against the worst distribution of an uncertainty set around every row.

    value[s, b] = max over a with c_a <= b of  min over q in S_a(s) of  sum_j q_j value[j, b - c_a]

(Iyengar 2005; Nilim and El Ghaoui 2005: the sets of rows are independent.) A set is given by intervals: successor j
has a mass of at least low_j and at most low_j + room_j; `rest` is the mass that can be distributed over the rooms,
and what remains goes to a state of value 0. The worst distribution fills the successors in ascending order of value.
An L1 ball of radius r is the case low = 0, room = p, rest = 1 - r / 2.

The order of successors changes little between neighbouring budgets, so that the previous order is updated.
"""

from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t
from libc.stdlib cimport free, malloc

# Work (successors times lattice points) between two checks for Ctrl-C.
cdef enum:
    PIECE = 1 << 22


cdef struct Rows:
    const int64_t* start                  # (n + 1,)
    const int32_t* column                 # (nnz,)
    const double* low                     # (nnz,)
    const double* room                    # (nnz,)
    const double* rest                    # (n,)


cdef struct Scratch:
    int32_t* order                        # (longest row,) successors of the current row, ascending by value
    double* worst                         # (lattice,)
    double* best                          # (lattice,)
    int8_t* choice                        # (lattice,)


def backup_robust(
    list indptr,                          # IN  per action: int64 (n + 1,)
    list indices,                         # IN  per action: int32 (nnz,)
    list low,                             # IN  per action: float64 (nnz,)
    list room,                            # IN  per action: float64 (nnz,)
    list rest,                            # IN  per action: float64 (n,)
    const int64_t[::1] offset,            # IN  (actions,) distance that an action moves down the flattened lattice
    const int64_t[:, ::1] runs,           # IN  (runs, 3) action, start, length: affordable runs of points of help types
    const uint8_t[::1] terminal,          # IN  (n,)
    const int32_t[::1] members,           # IN  states to back up, in this order; terminal ones are skipped
    Py_ssize_t sweeps,                    # IN  largest number of sweeps over `members`
    double target,                        # IN  a sweep with no larger change is the last
    double[:, ::1] value,                 # IN, OUT (n, lattice)
    int8_t[:, ::1] policy,                # OUT (n, lattice), or (0, lattice): none; updated where the value grows
):
    """Sweep over `members` in place; the number of sweeps made and the largest change in the last one."""
    cdef Py_ssize_t n_lattice = value.shape[1], sweep, i, n_actions = len(indptr)
    cdef Py_ssize_t longest = 1
    cdef int64_t work = 0
    cdef double change = 0.0, moved
    cdef Rows* rows = NULL
    cdef Scratch scratch
    if members.shape[0] == 0:
        return 0, 0.0
    for i in range(n_actions):
        longest = max(longest, row_length(indptr[i]))
    scratch.order = <int32_t*> malloc(longest * sizeof(int32_t))
    scratch.worst = <double*> malloc(n_lattice * sizeof(double))
    scratch.best = <double*> malloc(n_lattice * sizeof(double))
    scratch.choice = <int8_t*> malloc(n_lattice)
    rows = <Rows*> malloc(n_actions * sizeof(Rows))
    try:
        if not (scratch.order and scratch.worst and scratch.best and scratch.choice and rows):
            raise MemoryError("scratch of a robust backup")
        for i in range(n_actions):
            bind_rows(&rows[i], indptr[i], indices[i], low[i], room[i], rest[i])
        for sweep in range(sweeps):
            change = 0.0
            for i in range(members.shape[0]):
                if terminal[members[i]]:
                    continue
                with nogil:
                    moved = backup(rows, offset, runs, members[i], value, policy, &scratch)
                change = max(change, moved)
                work += n_lattice * (rows[0].start[members[i] + 1] - rows[0].start[members[i]] + 1)
                if work >= PIECE:
                    work = 0
                    PyErr_CheckSignals()
            if change <= target:
                return sweep + 1, change
        return sweeps, change
    finally:
        free(scratch.order)
        free(scratch.worst)
        free(scratch.best)
        free(scratch.choice)
        free(rows)


def expect_robust(
    const int64_t[::1] indptr,            # IN  (n + 1,)
    const int32_t[::1] indices,           # IN  (nnz,)
    const double[::1] low,                # IN  (nnz,)
    const double[::1] room,               # IN  (nnz,)
    const double[::1] rest,               # IN  (n,)
    const double[:, ::1] value,           # IN  (n, lattice)
    double[:, ::1] out,                   # OUT (n, lattice)
):
    """Worst expectation of `value` for every row of one action; 0 for empty rows."""
    cdef Py_ssize_t s, n_lattice = value.shape[1]
    cdef Rows rows
    cdef int32_t* order
    if rest.shape[0] == 0:
        return
    order = <int32_t*> malloc(max(1, row_length(indptr)) * sizeof(int32_t))
    if not order:
        raise MemoryError("scratch of a robust expectation")
    bind_rows(&rows, indptr, indices, low, room, rest)
    with nogil:
        for s in range(rest.shape[0]):
            worst_expectation(&rows, s, &value[0, 0], n_lattice, n_lattice, order, &out[s, 0])
    free(order)


cdef Py_ssize_t row_length(const int64_t[::1] indptr):
    """Length of the longest row."""
    cdef Py_ssize_t s, longest = 0
    for s in range(indptr.shape[0] - 1):
        longest = max(longest, indptr[s + 1] - indptr[s])
    return longest


cdef int bind_rows(Rows* rows, const int64_t[::1] start, const int32_t[::1] column, const double[::1] low,
                   const double[::1] room, const double[::1] rest) except -1:
    rows.start = &start[0]
    rows.column = &column[0] if column.shape[0] else NULL
    rows.low = &low[0] if low.shape[0] else NULL
    rows.room = &room[0] if room.shape[0] else NULL
    rows.rest = &rest[0]
    return 0


cdef double backup(const Rows* rows, const int64_t[::1] offset, const int64_t[:, ::1] runs, int32_t s,
                   double[:, ::1] value, int8_t[:, ::1] policy, Scratch* scratch) noexcept nogil:
    """value[s, b] = max over affordable a of the worst expectation of value[., b - c_a]; returns the largest change."""
    cdef Py_ssize_t b, r, a, start, length, n_lattice = value.shape[1]
    cdef double change = 0.0
    worst_expectation(&rows[0], s, &value[0, 0], n_lattice, n_lattice, scratch.order, scratch.best)
    for b in range(n_lattice):
        scratch.choice[b] = 0
    for r in range(runs.shape[0]):
        a, start, length = runs[r, 0], runs[r, 1], runs[r, 2]
        if rows[a].start[s] == rows[a].start[s + 1]:
            continue
        worst_expectation(&rows[a], s, &value[0, 0] + start - offset[a], n_lattice, length, scratch.order,
                          scratch.worst)
        for b in range(length):
            if scratch.worst[b] > scratch.best[start + b]:
                scratch.best[start + b] = scratch.worst[b]
                scratch.choice[start + b] = <int8_t> a
    for b in range(n_lattice):
        if scratch.best[b] > value[s, b] and policy.shape[0]:
            policy[s, b] = scratch.choice[b]
        change = max(change, abs(scratch.best[b] - value[s, b]))
        value[s, b] = scratch.best[b]
    return change


cdef void worst_expectation(const Rows* rows, Py_ssize_t s, const double* value, Py_ssize_t stride, Py_ssize_t length,
                            int32_t* order, double* out) noexcept nogil:
    """out[b] = min of sum_j q_j value[j, b] over the set of row `s`."""
    cdef int64_t first = rows.start[s]
    cdef Py_ssize_t b, i, entries = rows.start[s + 1] - first
    cdef const int32_t* column = rows.column + first
    cdef const double* room = rows.room + first
    cdef double total, left, part
    for i in range(entries):
        order[i] = <int32_t> i
    for b in range(length):
        sort_by_value(order, entries, column, value + b, stride)
        total, left = 0.0, rows.rest[s]
        for i in range(entries):
            part = min(room[order[i]], left)
            left -= part
            total += (rows.low[first + order[i]] + part) * value[column[order[i]] * stride + b]
        out[b] = total


cdef void sort_by_value(int32_t* order, Py_ssize_t entries, const int32_t* column, const double* value,
                        Py_ssize_t stride) noexcept nogil:
    """Shellsort: a pass over nearly sorted entries costs one comparison per entry."""
    cdef Py_ssize_t gap = 1, i, k
    cdef int32_t state
    cdef double key
    while gap < entries // 3:
        gap = 3 * gap + 1
    while gap > 0:
        for i in range(gap, entries):
            state, k = order[i], i
            key = value[column[state] * stride]
            while k >= gap and value[column[order[k - gap]] * stride] > key:
                order[k] = order[k - gap]
                k -= gap
            order[k] = state
        gap //= 3
