"""Linear systems of absorbing chains by elimination without subtraction (Grassmann, Taksar, Heyman 1985).

    (D - A) x = b,    A >= 0 the entries between states,  D_i = sum_j A_ij + exits_i

State k is removed by sending what leads to it on to where it leads: A_ij += A_ik A_kj / D_k, likewise exits and b. D_k
is the sum of what is left of its row, never 1 less the rest. All numbers are sums, products and ratios of positive
ones: entries that are off by a relative error change a solution for b >= 0 by a small relative error, however slowly
the chain leaves (O'Cinneide 1993). The self-loops of A play no part.

Factors: row i of `lower` has the shares A_ik / D_k by which row i took over row k < i, row k of `upper` what was left
of row k when it was eliminated.
"""

from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport int32_t, int64_t, uint8_t
from libc.stdlib cimport free, malloc

from selfreg._core._pairs cimport Pair, add_gain

cdef enum:
    SIGNALS = 1 << 24                     # products between two checks for Ctrl-C


cdef struct Row:
    double* value                         # (n,) entries of the row that is being made
    uint8_t* filled                       # (n,)
    int32_t* later                        # (n,) columns filled so far that are eliminated later
    int64_t n_later
    int32_t* heap                         # (n,) columns filled so far that are eliminated earlier, the first one on top
    int64_t n_heap


def eliminate(
    const int64_t[::1] indptr,            # IN  (n + 1,) A, in the order of elimination
    const int32_t[::1] indices,           # IN  (nnz,)
    const double[::1] data,               # IN  (nnz,) >= 0
    double[::1] exits,                    # INOUT (n,) mass that leaves; at the end that of the eliminated rows
    int64_t[::1] lower_starts,            # OUT (n + 1,)
    int32_t[::1] lower_index,             # OUT (room,)
    double[::1] lower,                    # OUT (room,)
    int64_t[::1] upper_starts,            # OUT (n + 1,)
    int32_t[::1] upper_index,             # OUT (room,)
    double[::1] upper,                    # OUT (room,)
    double[::1] pivot,                    # OUT (n,) D when the state was eliminated
):
    """Eliminate all states in order: 0 if done, 1 if there is no room for the factors, 2 if a state never leaves."""
    cdef Py_ssize_t n = exits.shape[0], i
    cdef int64_t e, below, above, work = 0
    cdef int32_t j, k
    cdef double share
    cdef int failed = 0
    cdef Row row
    if n == 0:
        lower_starts[0] = upper_starts[0] = 0
        return 0
    row.value = <double*> malloc(n * sizeof(double))
    row.filled = <uint8_t*> malloc(n * sizeof(uint8_t))
    row.later = <int32_t*> malloc(n * sizeof(int32_t))
    row.heap = <int32_t*> malloc(n * sizeof(int32_t))
    try:
        if not (row.value and row.filled and row.later and row.heap):
            raise MemoryError(f"elimination of {n} states")
        with nogil:
            for i in range(n):
                row.filled[i] = 0
            below = above = lower_starts[0] = upper_starts[0] = 0
            for i in range(n):
                row.n_later = row.n_heap = 0
                for e in range(indptr[i], indptr[i + 1]):
                    if indices[e] != i:
                        add(&row, i, indices[e], data[e])
                while row.n_heap:
                    k = pop(&row)
                    if below == lower.shape[0]:
                        failed = 1
                        break
                    share = row.value[k] / pivot[k]
                    row.filled[k] = 0
                    lower_index[below], lower[below] = k, share
                    below += 1
                    exits[i] += share * exits[k]
                    for e in range(upper_starts[k], upper_starts[k + 1]):
                        if upper_index[e] != i:
                            add(&row, i, upper_index[e], share * upper[e])
                    work += upper_starts[k + 1] - upper_starts[k] + 8
                if failed or above + row.n_later > upper.shape[0]:
                    failed = 1
                    break
                pivot[i] = total(&row, exits[i])
                if not pivot[i] > 0.0:
                    failed = 2
                    break
                for e in range(row.n_later):
                    j = row.later[e]
                    upper_index[above], upper[above], row.filled[j] = j, row.value[j], 0
                    above += 1
                lower_starts[i + 1], upper_starts[i + 1] = below, above
                check_signals(&work, 0)
        return failed
    finally:
        free(row.value)
        free(row.filled)
        free(row.later)
        free(row.heap)


cdef inline void add(Row* row, int32_t i, int32_t j, double p) noexcept nogil:
    """Add `p` to column `j` of row `i`."""
    if row.filled[j]:
        row.value[j] += p
        return
    row.value[j], row.filled[j] = p, 1
    if j > i:
        row.later[row.n_later] = j
        row.n_later += 1
    else:
        push(row, j)


cdef inline void push(Row* row, int32_t j) noexcept nogil:
    cdef int64_t at = row.n_heap, parent
    row.n_heap += 1
    while at > 0:
        parent = (at - 1) >> 1
        if row.heap[parent] <= j:
            break
        row.heap[at] = row.heap[parent]
        at = parent
    row.heap[at] = j


cdef inline int32_t pop(Row* row) noexcept nogil:
    """Remove the first column from the heap."""
    cdef int32_t first = row.heap[0], last = row.heap[row.n_heap - 1]
    cdef int64_t at = 0, child
    row.n_heap -= 1
    while True:
        child = 2 * at + 1
        if child >= row.n_heap:
            break
        if child + 1 < row.n_heap and row.heap[child + 1] < row.heap[child]:
            child += 1
        if row.heap[child] >= last:
            break
        row.heap[at] = row.heap[child]
        at = child
    row.heap[at] = last
    return first


cdef inline double total(const Row* row, double exit) noexcept nogil:
    """Sum of the row, with the rounding error of every addition added at the end."""
    cdef double result = exit, rest = 0.0, p, after
    cdef int64_t e
    for e in range(row.n_later):
        p = row.value[row.later[e]]
        after = result + p
        rest += (result - after) + p if result >= p else (p - after) + result
        result = after
    return result + rest


cdef inline int check_signals(int64_t* work, int64_t more) except -1 nogil:
    """Stop at Ctrl-C, looked for once in a while."""
    work[0] += more
    if work[0] > SIGNALS:
        work[0] = 0
        with gil:
            PyErr_CheckSignals()
    return 0


def substitute(
    const int64_t[::1] lower_starts,      # IN  factors, as of `eliminate`
    const int32_t[::1] lower_index,       # IN
    const double[::1] lower,              # IN
    const int64_t[::1] upper_starts,      # IN
    const int32_t[::1] upper_index,       # IN
    const double[::1] upper,              # IN
    const double[::1] pivot,              # IN
    double[:, ::1] x,                     # INOUT (n, k) right sides, then solutions
):
    """Replace right sides x (n, k) by the solutions of (D - A) y = x."""
    cdef Py_ssize_t n = pivot.shape[0], width = x.shape[1], i, k
    cdef int64_t e, work = 0
    with nogil:
        for i in range(n):
            check_signals(&work, (lower_starts[i + 1] - lower_starts[i] + 1) * width)
            for e in range(lower_starts[i], lower_starts[i + 1]):
                for k in range(width):
                    x[i, k] += lower[e] * x[lower_index[e], k]
        for i in range(n - 1, -1, -1):
            check_signals(&work, (upper_starts[i + 1] - upper_starts[i] + 1) * width)
            for e in range(upper_starts[i], upper_starts[i + 1]):
                for k in range(width):
                    x[i, k] += upper[e] * x[upper_index[e], k]
            for k in range(width):
                x[i, k] /= pivot[i]


def substitute_transposed(
    const int64_t[::1] lower_starts,      # IN  factors, as of `eliminate`
    const int32_t[::1] lower_index,       # IN
    const double[::1] lower,              # IN
    const int64_t[::1] upper_starts,      # IN
    const int32_t[::1] upper_index,       # IN
    const double[::1] upper,              # IN
    const double[::1] pivot,              # IN
    double[:, ::1] x,                     # INOUT (n, k) right sides, then solutions
):
    """Replace right sides x (n, k) by the solutions of (D - A)^T y = x."""
    cdef Py_ssize_t n = pivot.shape[0], width = x.shape[1], i, k
    cdef int64_t e, work = 0
    with nogil:
        for i in range(n):
            check_signals(&work, (upper_starts[i + 1] - upper_starts[i] + 1) * width)
            for k in range(width):
                x[i, k] /= pivot[i]
            for e in range(upper_starts[i], upper_starts[i + 1]):
                for k in range(width):
                    x[upper_index[e], k] += upper[e] * x[i, k]
        for i in range(n - 1, -1, -1):
            check_signals(&work, (lower_starts[i + 1] - lower_starts[i] + 1) * width)
            for e in range(lower_starts[i], lower_starts[i + 1]):
                for k in range(width):
                    x[lower_index[e], k] += lower[e] * x[i, k]


# ---- values with twice the digits ----------------------------------------------------------------------------------

def row_gains(
    const int64_t[::1] indptr,            # IN  (rows + 1,)
    const int32_t[::1] indices,           # IN  (nnz,) states
    const double[::1] data,               # IN  (nnz,)
    const int32_t[::1] own,               # IN  (rows,) state of each row
    const double[::1] high,               # IN  (states,) x = high + low
    const double[::1] low,                # IN  (states,)
    double[::1] gain,                     # OUT (rows,)
):
    """gain[r] = sum_j data[r, j] (x[j] - x[own[r]]) with x = high + low, to twice the digits of a float, rounded."""
    cdef Py_ssize_t r
    cdef int64_t e
    cdef int32_t j
    cdef Pair sum
    with nogil:
        for r in range(own.shape[0]):
            sum.high = sum.low = 0.0
            for e in range(indptr[r], indptr[r + 1]):
                j = indices[e]
                sum = add_gain(sum, data[e], high[j], low[j], high[own[r]], low[own[r]])
            gain[r] = sum.high + sum.low
