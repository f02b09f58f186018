"""Fixed points over groups of states of a model with cycles, many lanes (penalties) at once.

    x(g) = max over rows r of g of  reward(action(r)) + sum_h R[r, h] x(h)      (at least 0 if g can be stayed in)

or the same with one given row per group and lane. Computes x for all groups and lanes; see `planning/_quotient.py`
for groups and rows. Components come in an order in which successors are solved first. A component with a cycle is
swept (Gauss-Seidel) until no lane changes by more than `target`; each lane is accelerated by Anderson mixing as in
`_mixing`. Nothing is proven here: the caller checks the change of a backup.
"""

from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport int32_t, int64_t, uint8_t
from libc.stdlib cimport free, malloc


cdef extern from "_sweeps.h" nogil:
    struct GroupSweep "selfreg_group_sweep":
        int64_t width
        int64_t choices
        const int64_t* starts
        const int64_t* indptr
        const int32_t* indices
        const double* data
        const int64_t* action
        const double* reward
        const uint8_t* waits
        const int64_t* choice

    void selfreg_sweep(const GroupSweep* m, int64_t first, int64_t last, double* x, double* step, double* largest,
                       double* scratch) noexcept
    void selfreg_lane_dot(const double* a, const double* b, int64_t groups, int64_t width, double* sum) noexcept
    void selfreg_lane_subtract(double* x, const double* moved, const double* weight, int64_t groups,
                               int64_t width) noexcept
    void selfreg_lane_update_history(const double* step, const double* x, double* last_step, double* last_image,
                                     double* changed, double* moved, int64_t size) noexcept

cdef enum:
    WINDOW = 3                            # earlier sweeps that Anderson mixing combines
    PERIOD = 5                            # sweeps between two mixings; plain sweeps remove fast modes at less cost
    RESET = 1000                          # times the smallest change so far: mixing diverges
    SIGNALS = 1 << 22                     # entries times lanes between two checks for Ctrl-C


cdef struct Scratch:
    double* step                          # (groups of the largest component, width), as the next two
    double* last_step
    double* last_image
    double* history                       # (2 * WINDOW, groups of the largest component, width)
    double* row                           # (2, width)
    double* largest                       # (width,)
    double* gram                          # (WINDOW, WINDOW, width)
    double* weight                        # (WINDOW, width)


def sweep_components(
    const int64_t[::1] components,        # IN  (components + 1,) into groups, successors first
    const int64_t[::1] starts,            # IN  (groups + 1,) into rows
    const int64_t[::1] indptr,            # IN  (rows + 1,) into entries
    const int32_t[::1] indices,           # IN  (entries,) groups
    const double[::1] data,               # IN  (entries,)
    const int64_t[::1] action,            # IN  (rows,)
    const double[:, ::1] reward,          # IN  (actions, width)
    const uint8_t[::1] waits,             # IN  (groups,)
    const int64_t[:, ::1] choice,         # IN  (groups, choices) row of each lane, -1 for none; (0, 0): the best row
    double target,                        # IN  a component is done if no change is larger
    int64_t max_sweeps,                   # IN  of a component
    double[:, ::1] x,                     # INOUT (groups, width) initial values; those of terminal groups stay
):
    """Solve all components; whether every one converged within `max_sweeps`."""
    cdef Py_ssize_t n_components = components.shape[0] - 1, c
    cdef int64_t largest = 0, size
    cdef int done = 1
    cdef GroupSweep m
    cdef Scratch scratch
    if x.shape[0] == 0 or x.shape[1] == 0:
        return True
    m.width, m.choices = x.shape[1], choice.shape[1]
    m.starts, m.indptr, m.action = &starts[0], &indptr[0], &action[0] if action.shape[0] else NULL
    m.indices = &indices[0] if indices.shape[0] else NULL
    m.data = &data[0] if data.shape[0] else NULL
    m.reward, m.waits, m.choice = &reward[0, 0], &waits[0], &choice[0, 0] if choice.shape[0] else NULL
    for c in range(n_components):
        largest = max(largest, components[c + 1] - components[c])
    size = largest * m.width
    cdef double* block = <double*> malloc(((3 + 2 * WINDOW) * size + (3 + WINDOW * WINDOW + WINDOW) * m.width)
                                          * sizeof(double))
    if block == NULL:
        raise MemoryError(f"sweeps over a component of {largest} groups")
    scratch.step, scratch.last_step, scratch.last_image = block, block + size, block + 2 * size
    scratch.history = block + 3 * size
    scratch.row = scratch.history + 2 * WINDOW * size
    scratch.largest = scratch.row + 2 * m.width
    scratch.gram = scratch.largest + m.width
    scratch.weight = scratch.gram + WINDOW * WINDOW * m.width
    try:
        with nogil:
            for c in range(n_components):
                if not solve_component(&m, &scratch, components[c], components[c + 1], target, max_sweeps, &x[0, 0]):
                    done = 0
                    break
        return bool(done)
    finally:
        free(block)


cdef int solve_component(const GroupSweep* m, const Scratch* scratch, int64_t first, int64_t last, double target,
                         int64_t max_sweeps, double* x) except -1 nogil:
    """Sweep groups [first, last) until no lane changes by more than `target`; whether that was reached."""
    cdef int64_t count = 0, work = 0, size = (last - first) * m.width, lane
    cdef int stored = 0
    cdef double change, best = -1.0
    if last - first == 1 and not depends_on_itself(m, first):
        selfreg_sweep(m, first, last, x, scratch.step, scratch.largest, scratch.row)
        return 1
    while count < max_sweeps:
        selfreg_sweep(m, first, last, x, scratch.step, scratch.largest, scratch.row)
        count += 1
        change = 0.0
        for lane in range(m.width):
            change = max(change, scratch.largest[lane])
        if change <= target:
            return 1
        work += (m.indptr[m.starts[last]] - m.indptr[m.starts[first]]) * m.width + size
        if work > SIGNALS:
            work = 0
            with gil:
                PyErr_CheckSignals()
        if count % PERIOD:
            continue
        if best >= 0.0 and change > RESET * best:
            stored, best = 0, change
        else:
            stored = update_history(m, scratch, x + first * m.width, last - first, stored, best >= 0.0)
            best = change if best < 0.0 else min(best, change)
        if stored:
            mix(m, scratch, x + first * m.width, last - first, min(stored, WINDOW))
    return 0


cdef bint depends_on_itself(const GroupSweep* m, int64_t g) noexcept nogil:
    cdef int64_t e
    for e in range(m.indptr[m.starts[g]], m.indptr[m.starts[g + 1]]):
        if m.indices[e] == g:
            return True
    return False


cdef int update_history(const GroupSweep* m, const Scratch* scratch, const double* x, int64_t groups, int stored,
                        bint again) noexcept nogil:
    """Add the last sweep to the history; the number of differences that were added so far."""
    cdef int64_t size = groups * m.width, lane
    cdef int k = stored % WINDOW, j
    cdef double* changed = scratch.history + 2 * k * size
    selfreg_lane_update_history(scratch.step, x, scratch.last_step, scratch.last_image, changed, changed + size, size)
    if not again:
        return 0
    for j in range(min(stored + 1, WINDOW)):
        selfreg_lane_dot(changed, scratch.history + 2 * j * size, groups, m.width,
                         scratch.gram + (k * WINDOW + j) * m.width)
        for lane in range(m.width):
            scratch.gram[(j * WINDOW + k) * m.width + lane] = scratch.gram[(k * WINDOW + j) * m.width + lane]
    return stored + 1


cdef void mix(const GroupSweep* m, const Scratch* scratch, double* x, int64_t groups, int size) noexcept nogil:
    """Combine earlier changes of every lane so that they cancel the last one best."""
    cdef int64_t lane
    cdef int k
    for k in range(size):
        selfreg_lane_dot(scratch.history + 2 * k * groups * m.width, scratch.step, groups, m.width,
                         scratch.weight + k * m.width)
    for lane in range(m.width):
        mixing_weights(m.width, scratch, lane, size)
    for k in range(size):
        selfreg_lane_subtract(x, scratch.history + (2 * k + 1) * groups * m.width, scratch.weight + k * m.width,
                              groups, m.width)


cdef void mixing_weights(int64_t width, const Scratch* scratch, int64_t lane, int size) noexcept nogil:
    """Normal equations of one lane by Cholesky, changes scaled to length 1; weights 0 if they cannot be solved."""
    cdef double[WINDOW][WINDOW] root
    cdef double[WINDOW] length
    cdef double[WINDOW] weight
    cdef double total
    cdef int i, j, k
    for k in range(size):
        total = scratch.gram[(k * WINDOW + k) * width + lane]
        if not total > 0.0:
            break
        length[k] = total ** 0.5
        weight[k] = scratch.weight[k * width + lane] / length[k]
        for j in range(k + 1):
            total = scratch.gram[(k * WINDOW + j) * width + lane] / (length[k] * length[j])
            for i in range(j):
                total -= root[k][i] * root[j][i]
            if j < k:
                root[k][j] = total / root[j][j]
            else:
                root[k][k] = max(total + 1e-14, 1e-300) ** 0.5
        for j in range(k):
            weight[k] -= root[k][j] * weight[j]
        weight[k] /= root[k][k]
    else:
        for k in range(size - 1, -1, -1):
            for j in range(k + 1, size):
                weight[k] -= root[j][k] * weight[j]
            weight[k] /= root[k][k]
        for k in range(size):
            scratch.weight[k * width + lane] = weight[k] / length[k]
        return
    for k in range(size):
        scratch.weight[k * width + lane] = 0.0
