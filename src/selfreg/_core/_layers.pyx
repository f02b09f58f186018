"""Budget layers of a component with a cycle, one after the other, and the policy of its groups.

    x(g) = max( stop(g), max over free rows r of g of  constant(r) + sum_h R[r, h] x(h) )         see `_mixing`

Costly help has the values of lower layers, so that layers are solved upwards, each from values extrapolated from those
below. Where double precision does not prove the tolerance, the values of a layer are refined to twice the digits. One
layer alone is proven by bounds that are swept, which needs no number of steps.
"""

from libc.math cimport fabs
from libc.stdint cimport int32_t, int64_t
from libc.stdlib cimport free, malloc

from selfreg._core._budget cimport Model
from selfreg._core._groups cimport Local, Scratch, Task
from selfreg._core._mixing cimport iterate, proven_distance, row_rounding, sweep
from selfreg._core._pairs cimport Pair, add_gain, exact_sum


cdef extern from "<float.h>" nogil:
    const double DBL_EPSILON

cdef double PAIR_EPSILON = 2.0 ** -98     # relative rounding error of a gain, for each entry of its row
cdef double FIRST_SHARE = 1e-2            # of the tolerance: change of values before bounds are tried

cdef enum:
    REFINEMENTS = 5


cdef int solve_layers(const Model* m, const Task* task, const Scratch* scratch, const Local* local, Py_ssize_t c,
                      double steps, int64_t max_sweeps, bint refined) except -1 nogil:
    """Solve the layers of a component one after the other; 1 if all reached the tolerance.

    `refined`: the values of a layer are refined to twice the digits of a double.
    """
    cdef Py_ssize_t n = local.n_groups, g, i, b
    cdef double rounding = row_rounding(local), change, inherited
    cdef double target = max(task.tolerance / steps - rounding, rounding)
    # (lattice, groups) values, and scratch
    cdef double* x = <double*> malloc(n * (m.n_lattice + 3) * sizeof(double))
    cdef double* last = x + m.n_lattice * n
    cdef float* error = task.error + c * m.n_lattice if task.error != NULL else NULL
    cdef double* now
    try:
        if x == NULL:
            with gil:
                raise MemoryError(f"backward induction over a component of {n} groups")
        for b in range(m.n_lattice):
            now = x + b * n
            inherited = compute_layer_constants(m, task, local, c, b, x)
            if n == 1:
                now[0] = local.stop[0]
                sweep(local, now)
                if error != NULL:
                    error[b] = round_up(inherited)
            else:
                extrapolate_layer(task, local, b, x)
                change = iterate(local, now, last, target, max_sweeps)
                if refined:
                    change = refine(m, task, local, b, now, last, task.tolerance / (8.0 * steps), max_sweeps)
                    error[b] = round_up(inherited + steps * (change + local.longest * PAIR_EPSILON)
                                        + (0.5 * local.longest + min(local.divided, n) + 4) * DBL_EPSILON
                                        + local.missing)
                    if 2.0 * steps * change > task.tolerance:
                        return 0
                else:
                    error[b] = round_up(inherited + steps * (change + rounding) + 4 * DBL_EPSILON)
                    if change > target:
                        return 0
            for g in range(n):
                for i in range(local.bounds[g], local.bounds[g + 1]):
                    task.value[local.members[i] * m.n_lattice + b] = min(max(now[g], 0.0), 1.0)
                if refined:
                    choose_refined_row(m, task, scratch, local, g, b, now, last[n + g], change)
                else:
                    set_policy(m, task, scratch, local, g, b, best_row(local, g, now))
        return 1
    finally:
        free(x)


cdef int solve_only_layer(const Model* m, const Task* task, const Scratch* scratch, const Local* local, Py_ssize_t c,
                          int64_t max_sweeps) except -1 nogil:
    """Solve a component where there is one layer: SOLVED, SLOW if the sweeps do not converge, or UNPROVEN.

    Bounds of values that are close enough need few sweeps, where the most steps of all policies are often those of a
    policy that waits.
    """
    cdef Py_ssize_t n = local.n_groups, g, i
    cdef double least = row_rounding(local), target = max(FIRST_SHARE * task.tolerance, least), inherited, found
    cdef bint first = True
    # (groups,) values, and scratch; best rows
    cdef double* x = <double*> malloc(3 * n * sizeof(double))
    cdef int64_t* choice = <int64_t*> malloc(n * sizeof(int64_t))
    try:
        if not (x and choice):
            with gil:
                raise MemoryError(f"backward induction over a component of {n} groups")
        inherited = compute_layer_constants(m, task, local, c, 0, x)
        for g in range(n):
            x[g] = local.stop[g]
        while True:
            if iterate(local, x, x + n, target, max_sweeps) > target:
                return SLOW if first else UNPROVEN
            first = False
            for g in range(n):
                choice[g] = best_row(local, g, x)
            found = proven_distance(local, x, choice, task.tolerance, x + n, x + 2 * n)
            if found >= 0.0:
                break
            if target <= least:
                return UNPROVEN
            target = max(FIRST_SHARE * target, least)
        task.error[c] = round_up(inherited + found + 4 * DBL_EPSILON)
        for g in range(n):
            for i in range(local.bounds[g], local.bounds[g + 1]):
                task.value[local.members[i]] = min(max(x[g], 0.0), 1.0)
            set_policy(m, task, scratch, local, g, 0, choice[g])
        return SOLVED
    finally:
        free(x)
        free(choice)


cdef double compute_layer_constants(const Model* m, const Task* task, const Local* local, Py_ssize_t c, Py_ssize_t b,
                                    const double* x) noexcept nogil:
    """Fill `local.constant` and `local.stop` for layer `b`; the largest error of the values that they depend on."""
    cdef Py_ssize_t g
    cdef int64_t r, e
    cdef double total
    cdef double error = 0.0
    cdef const double* below
    for g in range(local.n_groups):
        local.stop[g] = 0.0
        for r in range(local.group_rows[g], local.group_rows[g + 1]):
            if not task.affordable[local.row_action[r] * m.n_lattice + b]:
                local.constant[r] = -1.0
                continue
            total = 0.0
            for e in range(local.outside[r], local.outside[r + 1]):
                total += (local.outer_probability[e]
                          * task.value[local.outer_state[e] * m.n_lattice + b - local.row_offset[r]])
                if task.error != NULL:
                    error = max(error, task.error[task.component[local.outer_state[e]] * m.n_lattice
                                                  + b - local.row_offset[r]])
            if local.row_offset[r]:
                below = x + (b - local.row_offset[r]) * local.n_groups
                for e in range(local.inside[r], local.inside[r + 1]):
                    total += local.inner_probability[e] * below[local.inner_group[e]]
                if task.error != NULL and local.inside[r] < local.inside[r + 1]:
                    error = max(error, task.error[c * m.n_lattice + b - local.row_offset[r]])
                local.stop[g] = max(local.stop[g], total)
            local.constant[r] = total
    return error


cdef void extrapolate_layer(const Task* task, const Local* local, Py_ssize_t b, double* x) noexcept nogil:
    """First values of layer `b`: extrapolated linearly from the two layers below on the last axis, if they exist."""
    cdef Py_ssize_t n = local.n_groups, g
    cdef double* now = x + b * n
    cdef Py_ssize_t below = b % task.last_axis
    for g in range(n):
        if below == 0:
            now[g] = local.stop[g]
        elif below == 1:
            now[g] = now[g - n]
        else:
            now[g] = 2 * now[g - n] - now[g - 2 * n]


cdef int64_t best_row(const Local* local, Py_ssize_t g, const double* x) noexcept nogil:
    """Best row of group `g` for values `x`, the first one where several are; -1 if the value is 0."""
    cdef int64_t r, e, found = -1
    cdef double best = 0.0, total
    for r in range(local.group_rows[g], local.group_rows[g + 1]):
        total = local.constant[r]
        if local.row_offset[r] == 0:
            for e in range(local.inside[r], local.inside[r + 1]):
                total += local.inner_probability[e] * x[local.inner_group[e]]
        if total > best:
            best, found = total, r
    return found


cdef double refine(const Model* m, const Task* task, const Local* local, Py_ssize_t b, double* now, double* scratch,
                   double target, int64_t max_sweeps) except -1.0 nogil:
    """Refine the values of layer `b` until no gain is above `target`; the largest gain left.

    The gain of a row, sum_j P[j] (x(j) - x(g)), is computed in twice the digits, and does not depend on the sum of the
    row. The remaining change of all values solves the same problem with gains as constants. At the end `constant` has
    the gains of free rows, `stop` those of stopping, and `scratch` (3, groups) in its second row the second part of x.
    """
    cdef Py_ssize_t n = local.n_groups, g, k
    cdef double* low = scratch + n
    cdef double* change = scratch + 2 * n
    cdef double largest = 0.0
    cdef Pair sum
    for g in range(n):
        low[g] = 0.0
    for k in range(REFINEMENTS):
        largest = compute_gains(m, task, local, b, now, low)
        if largest <= target or k == REFINEMENTS - 1:
            return largest
        for g in range(n):
            change[g] = 0.0
        iterate(local, change, scratch, 0.25 * target, max_sweeps)
        for g in range(n):
            sum = exact_sum(now[g], change[g])
            sum = exact_sum(sum.high, sum.low + low[g])
            now[g], low[g] = sum.high, sum.low
    return largest


cdef double compute_gains(const Model* m, const Task* task, const Local* local, Py_ssize_t b, const double* now,
                          const double* low) noexcept nogil:
    """Gains of all free rows, and of stopping; the largest change that the best of a group makes."""
    cdef Py_ssize_t g
    cdef int64_t r, e
    cdef int32_t i
    cdef double largest = 0.0, best
    cdef Pair sum
    for g in range(local.n_groups):
        best = 0.0
        for r in range(local.group_rows[g], local.group_rows[g + 1]):
            if local.row_offset[r]:
                best = max(best, local.constant[r])
        local.stop[g] = best = (best - now[g]) - low[g]
        for r in range(local.group_rows[g], local.group_rows[g + 1]):
            if local.row_offset[r]:
                continue
            sum.high = sum.low = 0.0
            for e in range(local.inside[r], local.inside[r + 1]):
                i = local.inner_group[e]
                sum = add_gain(sum, local.inner_probability[e], now[i], low[i], now[g], low[g])
            for e in range(local.outside[r], local.outside[r + 1]):
                sum = add_gain(sum, local.outer_probability[e], task.value[local.outer_state[e] * m.n_lattice + b], 0.0,
                               now[g], low[g])
            local.constant[r] = sum.high + sum.low
            best = max(best, local.constant[r])
        largest = max(largest, fabs(best))
    return largest


cdef void choose_refined_row(const Model* m, const Task* task, const Scratch* scratch, const Local* local, Py_ssize_t g,
                             Py_ssize_t b, const double* x, double low, double least) noexcept nogil:
    """Set the policy of group `g` by its first row that loses at most `least`; gains as `refine` leaves them."""
    cdef int64_t r, best_row = -1
    cdef double gain
    if x[g] > 0.0:
        for r in range(local.group_rows[g], local.group_rows[g + 1]):
            gain = (local.constant[r] - x[g]) - low if local.row_offset[r] else local.constant[r]
            if gain >= -least and not (local.row_offset[r] and local.constant[r] < 0.0):
                best_row = r
                break
    set_policy(m, task, scratch, local, g, b, best_row)


cdef void direct_to_exit(const Model* m, const Task* task, const Scratch* scratch, const Local* local, Py_ssize_t g,
                         int32_t target, Py_ssize_t b) noexcept nogil:
    """In every other state of the group take a free action that stays in it and approaches `target`; nohelp first."""
    cdef Py_ssize_t i, a
    cdef bint moved = True
    for i in range(local.bounds[g], local.bounds[g + 1]):
        scratch.directed[local.members[i]] = local.members[i] == target
    while moved:
        moved = False
        for a in range(m.n_actions):
            if m.offset[a]:
                continue
            for i in range(local.bounds[g], local.bounds[g + 1]):
                if not scratch.directed[local.members[i]] and reaches_directed(m, task, scratch, a, local.members[i]):
                    task.policy[local.members[i] * m.n_lattice + b] = <int8_t> a
                    scratch.directed[local.members[i]] = moved = True
            if moved:
                break


cdef inline bint reaches_directed(const Model* m, const Task* task, const Scratch* scratch, Py_ssize_t a, int32_t s,
                                  ) noexcept nogil:
    """Whether `a` stays in the group of `s` and can lead to a directed state."""
    cdef int64_t e
    cdef int32_t j
    cdef bint reached = False
    for e in range(m.rows[a][s], m.rows[a][s + 1]):
        j = m.columns[a][e]
        if task.group[j] != task.group[s]:
            return False
        reached = reached or scratch.directed[j]
    return reached
