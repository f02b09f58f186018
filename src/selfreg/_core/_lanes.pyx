"""A component with a cycle, all budget layers together: each sweep updates all points of the lattice, in vector lanes.

    x(g, b) <- max( 0, max over rows r of g with c_a <= b of  base(r) + sum_h R[r, h] x(h, b - c_a) )      a = action(r)

Computes the values of all groups at all points of the lattice, and their best rows. A sweep costs little more than
one of a single layer. Anderson mixing (as in `_mixing`) would need several copies of all values; instead the slowest
mode is removed. In a component that is left slowly and mixes fast, all values of a lane have about the same error.
That error solves a small triangular system with one unknown per lane: the residual of the last sweep against the mass
that leaves the lane (aggregation with one aggregate per lane). Chains and other slow graphs have more slow modes:
`sweep_lattice` detects slow convergence and stops.

The first point, where no costly help is affordable, depends on no other. It is solved first, and the others start from
its values. Then n - 1 of n points remain to fill vectors: budgets 0..16 or 0..64 fill them completely.

Costly rows that are clearly suboptimal at every point are pruned from later sweeps, and most sweeps reuse the masses
of an earlier one. The last sweep includes all rows, and the proof is based on it.
"""

from cpython.exc cimport PyErr_CheckSignals
from libc.math cimport INFINITY, log
from libc.stdint cimport int32_t, int64_t, uint8_t, uintptr_t
from libc.stdlib cimport free, malloc

from selfreg._core._budget cimport Model
from selfreg._core._groups cimport Local, Task


cdef extern from "_lanes.h" nogil:
    enum: SELFREG_WIDTH
    ctypedef struct selfreg_lattice_sweep:
        int64_t stride
        int64_t start "from"
        int64_t stop "to"
        const int64_t* group_rows
        const int64_t* entries
        const int32_t* column
        const double* probability
        const double* base
        const double* inner
        const int32_t* action
        const int64_t* shift
        const double* charge
        const double* later
        uint8_t* skip
        double* largest
        double* residual
        double* leaving
        double* below
        double* correction
    void selfreg_sweep_values(const selfreg_lattice_sweep* m, int64_t first, int64_t last, double* x) noexcept
    void selfreg_sweep_masses(const selfreg_lattice_sweep* m, int64_t first, int64_t last, double* x,
                              int32_t* best) noexcept
    void selfreg_sweep_pruning(const selfreg_lattice_sweep* m, int64_t first, int64_t last, double* x,
                               double margin) noexcept
    void selfreg_shift_lanes(const selfreg_lattice_sweep* m, double* x, int64_t n_groups) noexcept

cdef enum:
    SUMS = 5                              # arrays of `selfreg_lattice_sweep` from `largest` on
    MASS_SWEEPS = 3                       # first sweeps that compute masses; later only those that prune
    FIRST_PRUNING = 4                     # sweeps before suboptimal rows are pruned; again after 8, 16, ...
    SPEED_PERIOD = 8                      # sweeps between two checks of the speed
    MOST_SWEEPS = 100                     # more are not worth it: layer by layer takes 20 to 30 sweeps each
    MARGIN = 16                           # times the last change: a row that is worse by more is pruned
    LAST_FACTOR = 2                       # a sweep with all rows is tried if its change is likely below `target` / this
    SIGNALS = 1 << 24                     # entries times lanes between two checks for Ctrl-C


cdef struct Arrays:
    const int64_t* entries                # these three are those of `Local` if no row leads to a live state outside
    const int32_t* column
    const double* probability
    int64_t* own_entries
    int32_t* own_column
    double* own_probability
    double* base
    double* inner
    int64_t* shift
    double* charge
    double* later
    uint8_t* skip
    double* lanes                         # (SUMS, stride): largest, residual, leaving, below, correction


cdef struct FirstPoint:
    int64_t* integers                     # (actions,) shifts, and two of `selfreg_lattice_sweep`
    double* reals                         # sums and values, and four of `selfreg_lattice_sweep`
    int32_t* row                          # (rows,) of the component, and two of `selfreg_lattice_sweep`
    uint8_t* skip
    double* sums
    double* values
    int32_t* best


cdef int sweep_lattice(const Model* m, const Task* task, int32_t* index, const Local* local, double target,
                       LatticeValues* out) except -1 nogil:
    """Sweep until a sweep over all rows changes nothing by more than `target`; whether that was reached.

    `index` (n,) is scratch for states outside of the component. Call `lattice_values_free` on `out` in any case.
    """
    cdef Arrays arrays
    cdef selfreg_lattice_sweep lanes
    cdef Py_ssize_t n_outer
    try:
        allocate(m, local, out, &arrays)
        fill_rows(m, task, local, &arrays)
        n_outer = append_outer_states(task, index, local, &arrays)
        fill_actions(m, task, out.stride, &arrays)
        fill_values(m, task, index, local, n_outer, out)
        lanes.group_rows, lanes.entries, lanes.column = local.group_rows, arrays.entries, arrays.column
        lanes.probability, lanes.base, lanes.inner = arrays.probability, arrays.base, arrays.inner
        lanes.action, lanes.later, lanes.skip = local.row_action, arrays.later, arrays.skip
        if not solve_first_point(lanes, m, local, n_outer, target, out):
            return 0
        if m.n_lattice == 1:
            return 1
        lanes.stride, lanes.start, lanes.stop = out.stride, 1, 1 + out.stride - SELFREG_WIDTH
        lanes.shift, lanes.charge = arrays.shift, arrays.charge + SELFREG_WIDTH - 1
        bind_sums(&lanes, arrays.lanes + SELFREG_WIDTH - 1)
        return iterate_lanes(&lanes, local.n_groups, correction_distance(m), target, out.values, out.best, &out.change)
    finally:
        free_arrays(&arrays)


cdef int solve_first_point(selfreg_lattice_sweep lanes, const Model* m, const Local* local, Py_ssize_t n_outer,
                           double target, LatticeValues* out) except -1 nogil:
    """Solve the first point of the lattice in arrays of its own, and start all points from its values."""
    cdef Py_ssize_t g, b
    cdef int64_t n = local.n_groups
    cdef FirstPoint own
    try:
        copy_free_rows(&lanes, m, local, n_outer, &own)
        bind_sums(&lanes, own.sums)
        for g in range(n + n_outer):
            own.values[g] = out.values[g * out.stride]
        if not iterate_lanes(&lanes, n, 1, target, own.values, own.best, &out.change):
            return 0
        for g in range(n):
            out.best[g * out.stride] = own.row[own.best[g]] if own.best[g] >= 0 else -1
            for b in range(out.stride - SELFREG_WIDTH + 1):
                out.values[g * out.stride + b] = own.values[g]
        return 1
    finally:
        free(own.integers)
        free(own.reals)
        free(own.row)
        free(own.skip)


cdef int copy_free_rows(selfreg_lattice_sweep* lanes, const Model* m, const Local* local, Py_ssize_t n_outer,
                        FirstPoint* own) except -1 nogil:
    """Copy the free rows of `lanes` side by side: a sweep over them alone reads half as much memory."""
    cdef Py_ssize_t n = local.n_groups, g, k = 0
    cdef int64_t r, e, i = 0
    cdef int64_t n_entries = lanes.entries[local.n_rows]
    cdef int64_t* group_rows
    cdef int64_t* entries
    cdef double* probability
    cdef double* base
    cdef double* inner
    cdef int32_t* action
    cdef int32_t* column
    own.integers = <int64_t*> malloc((n + 1 + local.n_rows + 1 + m.n_actions) * sizeof(int64_t))
    own.reals = <double*> malloc((SUMS + m.n_actions + n + n_outer + 2 * local.n_rows + n_entries) * sizeof(double))
    own.row = <int32_t*> malloc((2 * local.n_rows + n_entries + n) * sizeof(int32_t))
    own.skip = <uint8_t*> malloc(local.n_rows * sizeof(uint8_t))
    if not (own.integers and own.reals and own.row and own.skip):
        raise_memory_error(local)
    group_rows, entries = own.integers + m.n_actions, own.integers + m.n_actions + n + 1
    own.sums, own.values = own.reals, own.reals + SUMS + m.n_actions
    base = own.values + n + n_outer
    inner, probability = base + local.n_rows, base + 2 * local.n_rows
    action, column = own.row + local.n_rows, own.row + 2 * local.n_rows
    own.best = column + n_entries
    for g in range(m.n_actions):
        own.integers[g], own.sums[SUMS + g] = 0, 0.0
    for g in range(n):
        group_rows[g] = k
        for r in range(local.group_rows[g], local.group_rows[g + 1]):
            if local.row_offset[r]:
                continue
            entries[k], own.row[k], own.skip[k] = i, <int32_t> r, 0
            base[k], inner[k], action[k] = lanes.base[r], lanes.inner[r], lanes.action[r]
            k += 1
            for e in range(lanes.entries[r], lanes.entries[r + 1]):
                column[i], probability[i] = lanes.column[e], lanes.probability[e]
                i += 1
    group_rows[n], entries[k] = k, i
    lanes.stride, lanes.start, lanes.stop = 1, 0, 1
    lanes.shift, lanes.charge, lanes.skip = own.integers, own.sums + SUMS, own.skip
    lanes.group_rows, lanes.entries, lanes.column, lanes.probability = group_rows, entries, column, probability
    lanes.base, lanes.inner, lanes.action = base, inner, action
    return 0


cdef inline void bind_sums(selfreg_lattice_sweep* lanes, double* sums) noexcept nogil:
    lanes.largest, lanes.residual = sums, sums + lanes.stride
    lanes.leaving, lanes.below, lanes.correction = (sums + 2 * lanes.stride, sums + 3 * lanes.stride,
                                                    sums + 4 * lanes.stride)


cdef void lattice_values_free(LatticeValues* values) noexcept nogil:
    free(values.memory)
    free(values.best)


cdef int allocate(const Model* m, const Local* local, LatticeValues* out, Arrays* arrays) except -1 nogil:
    """Allocate all arrays that `fill_*` write.

    In arrays with lanes the second point begins on a cache line, with the first one before it. One row before all
    values takes reads whose result a charge of -inf discards.
    """
    out.stride = SELFREG_WIDTH + (m.n_lattice + SELFREG_WIDTH - 2) // SELFREG_WIDTH * SELFREG_WIDTH
    arrays.entries, arrays.column, arrays.probability = local.inside, local.inner_group, local.inner_probability
    arrays.own_entries, arrays.own_column, arrays.own_probability = NULL, NULL, NULL
    arrays.base = <double*> malloc(local.n_rows * sizeof(double))
    arrays.inner = <double*> malloc(local.n_rows * sizeof(double))
    arrays.shift = <int64_t*> malloc(m.n_actions * sizeof(int64_t))
    arrays.charge = <double*> malloc((m.n_actions + 1) * out.stride * sizeof(double))
    arrays.later = <double*> malloc(local.n_groups * sizeof(double))
    arrays.skip = <uint8_t*> malloc(local.n_rows * sizeof(uint8_t))
    arrays.lanes = <double*> malloc((SUMS + 1) * out.stride * sizeof(double))
    # At most one state outside per entry.
    out.memory = <double*> malloc((local.n_groups + 3 + local.outside[local.n_rows]) * out.stride * sizeof(double))
    out.best = <int32_t*> malloc(local.n_groups * out.stride * sizeof(int32_t))
    if not (arrays.base and arrays.inner and arrays.shift and arrays.charge and arrays.later and arrays.skip
            and arrays.lanes and out.memory and out.best):
        raise_memory_error(local)
    out.values = <double*> ((<uintptr_t> (out.memory + out.stride) + 63) & ~(<uintptr_t> 63)) + SELFREG_WIDTH - 1
    return 0


cdef void free_arrays(Arrays* arrays) noexcept nogil:
    free(arrays.own_entries)
    free(arrays.own_column)
    free(arrays.own_probability)
    free(arrays.base)
    free(arrays.inner)
    free(arrays.shift)
    free(arrays.charge)
    free(arrays.later)
    free(arrays.skip)
    free(arrays.lanes)


cdef int raise_memory_error(const Local* local) except -1 nogil:
    with gil:
        raise MemoryError(f"backward induction over a component of {local.n_groups} groups")


cdef void fill_rows(const Model* m, const Task* task, const Local* local, Arrays* out) noexcept nogil:
    """Contribution of terminal states to every row (`base`), and masses."""
    cdef Py_ssize_t g
    cdef int64_t r, e
    cdef double inner
    for g in range(local.n_groups):
        out.later[g] = 0.0
    for g in range(local.n_groups):
        for r in range(local.group_rows[g], local.group_rows[g + 1]):
            out.base[r], out.skip[r], inner = 0.0, 0, 0.0
            for e in range(local.inside[r], local.inside[r + 1]):
                inner += local.inner_probability[e]
                if local.inner_group[e] > g and r == local.group_rows[g]:
                    out.later[local.inner_group[e]] += local.inner_probability[e]
            out.inner[r] = inner
            for e in range(local.outside[r], local.outside[r + 1]):
                if task.terminal[local.outer_state[e]]:
                    out.base[r] += local.outer_probability[e] * task.value[local.outer_state[e] * m.n_lattice]


cdef Py_ssize_t append_outer_states(const Task* task, int32_t* index, const Local* local, Arrays* out) except -1 nogil:
    """Append entries of live states outside: these states follow the groups as rows of the values; their number."""
    cdef Py_ssize_t n_outer = 0
    cdef int64_t r, e, k = 0
    cdef int32_t j
    for e in range(local.outside[local.n_rows]):
        index[local.outer_state[e]] = -1
    for e in range(local.outside[local.n_rows]):
        j = local.outer_state[e]
        if not task.terminal[j] and index[j] < 0:
            index[j] = <int32_t> (local.n_groups + n_outer)
            n_outer += 1
    if n_outer == 0:
        return 0
    k = local.inside[local.n_rows] + local.outside[local.n_rows]
    out.entries = out.own_entries = <int64_t*> malloc((local.n_rows + 1) * sizeof(int64_t))
    out.column = out.own_column = <int32_t*> malloc(k * sizeof(int32_t))
    out.probability = out.own_probability = <double*> malloc(k * sizeof(double))
    if not (out.own_entries and out.own_column and out.own_probability):
        raise_memory_error(local)
    k = 0
    for r in range(local.n_rows):
        out.own_entries[r] = k
        for e in range(local.inside[r], local.inside[r + 1]):
            out.own_column[k], out.own_probability[k] = local.inner_group[e], local.inner_probability[e]
            k += 1
        for e in range(local.outside[r], local.outside[r + 1]):
            if index[local.outer_state[e]] >= 0:
                out.own_column[k], out.own_probability[k] = index[local.outer_state[e]], local.outer_probability[e]
                k += 1
    out.own_entries[local.n_rows] = k
    return n_outer


cdef void fill_actions(const Model* m, const Task* task, int64_t stride, Arrays* out) noexcept nogil:
    cdef Py_ssize_t a, b
    cdef double* charge
    for a in range(m.n_actions):
        out.shift[a] = m.offset[a] if m.offset[a] < m.n_lattice else 0  # never affordable, see `charge`
        charge = out.charge + SELFREG_WIDTH - 1 + a * stride
        for b in range(stride):
            charge[b] = 0.0 if b < m.n_lattice and task.affordable[a * m.n_lattice + b] else -INFINITY


cdef void fill_values(const Model* m, const Task* task, const int32_t* index, const Local* local, Py_ssize_t n_outer,
                      LatticeValues* out) noexcept nogil:
    """Groups start at 0, which those that never succeed keep; states outside have their final values."""
    cdef Py_ssize_t b, i
    cdef int64_t e
    cdef double* x = out.values
    for i in range(-out.stride, local.n_groups * out.stride):
        x[i] = 0.0
    for e in range(local.outside[local.n_rows]):
        i = index[local.outer_state[e]]
        if i >= 0:
            for b in range(out.stride):
                x[i * out.stride + b] = (task.value[local.outer_state[e] * m.n_lattice + b] if b < m.n_lattice else 0.0)


cdef int64_t correction_distance(const Model* m) noexcept nogil:
    """Distance to the lower lane that the correction uses: that of the cheapest help."""
    cdef int64_t least = m.n_lattice
    cdef Py_ssize_t a
    for a in range(m.n_actions):
        if 0 < m.offset[a] < least:
            least = m.offset[a]
    return least


cdef int iterate_lanes(selfreg_lattice_sweep* lanes, Py_ssize_t n_groups, int64_t distance, double target, double* x,
                       int32_t* best, double* largest) except -1 nogil:
    """Sweep and correct until a sweep with all rows changes nothing by more than `target`; whether that was reached.

    `best` takes the best rows of that sweep, and `largest` its largest change if that is larger.
    """
    cdef Py_ssize_t count = 0, r, b
    cdef double change = 1.0, before = 1.0, mark = INFINITY
    cdef bint prune, last
    for b in range(lanes.stride):
        lanes.correction[b] = 0.0
    while True:
        prune = count >= FIRST_PRUNING and count & (count - 1) == 0
        last = change * change <= target / LAST_FACTOR * before if count > 1 else False
        if last:
            for r in range(lanes.group_rows[n_groups]):
                lanes.skip[r] = 0
        before = change
        change = sweep(lanes, n_groups, x, count < MASS_SWEEPS or prune or last, prune and not last, MARGIN * change,
                       best if last else NULL)
        count += 1
        if last and change <= target:
            largest[0] = max(largest[0], change)
            return 1
        if count % SPEED_PERIOD == 0:
            # At the speed since the last check.
            if not change < 0.9 * mark:
                return 0
            if count + SPEED_PERIOD * log(change / target) / log(mark / change) > MOST_SWEEPS:
                return 0
            mark = change
        for b in range(lanes.start, lanes.stop):
            lanes.correction[b] = lanes.residual[b] + (
                lanes.below[b] * lanes.correction[b - distance] if b >= distance else 0.0)
            lanes.correction[b] = lanes.correction[b] / lanes.leaving[b] if lanes.leaving[b] > 1e-12 else 0.0
        selfreg_shift_lanes(lanes, x, n_groups)


cdef double sweep(const selfreg_lattice_sweep* lanes, Py_ssize_t n_groups, double* x, bint masses, bint prune,
                  double margin, int32_t* best) except -1.0 nogil:
    """One sweep, with checks for Ctrl-C; the largest change."""
    cdef Py_ssize_t b, g = 0, last
    cdef Py_ssize_t work = (lanes.entries[lanes.group_rows[n_groups]] + 1) * (lanes.stop - lanes.start)
    cdef Py_ssize_t piece = max(1, SIGNALS * n_groups // work)
    cdef double largest = 0.0
    for b in range(lanes.start, lanes.stop):
        lanes.largest[b] = lanes.residual[b] = 0.0
        if masses:
            lanes.leaving[b] = lanes.below[b] = 0.0
    while g < n_groups:
        last = min(g + piece, n_groups)
        if prune:
            selfreg_sweep_pruning(lanes, g, last, x, margin)
        elif masses:
            selfreg_sweep_masses(lanes, g, last, x, best)
        else:
            selfreg_sweep_values(lanes, g, last, x)
        g = last
        if g < n_groups:
            with gil:
                PyErr_CheckSignals()
    for b in range(lanes.start, lanes.stop):
        largest = max(largest, lanes.largest[b])
    return largest
