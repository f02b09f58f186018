"""One budget layer of a component with a cycle: its fixed point, and the bound on steps that proves its error.

    x(g) = G(x)(g) = max( stop(g), max over free rows r of g of  constant(r) + sum_h R[r, h] x(h) )

Gauss-Seidel sweeps x <- G(x) are accelerated by Anderson mixing. Without end components every policy leaves, so that
there is w >= 1 + P_a w for all free a (the largest expected number of steps). If a sweep changes nothing by more than
delta, then x + delta w does not grow under G and x - delta w does not shrink: the solution lies within delta max(w).
`w` is computed once per component and checked, so that this is a proof; rounding is included.

Where there is one layer, bounds of the solution are found and checked without steps (optimistic value iteration,
Hartmanns and Kaminski, CAV 2020): G is monotone and has one fixed point, so that G(u) <= u gives u >= x. The same holds
for the backup of one policy: if it does not shrink l, then l is at most the value of that policy.
"""

from cpython.exc cimport PyErr_CheckSignals
from libc.math cimport fabs
from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc

from selfreg._core._groups cimport WINDOW, Local


cdef extern from "_rows.h" nogil:
    double selfreg_dot(const double* a, const double* b, int64_t n) noexcept

cdef extern from "<float.h>" nogil:
    const double DBL_EPSILON

cdef enum:
    RESET = 1000                          # times the smallest change so far: mixing diverges
    SIGNALS = 1 << 22                     # entries read between two checks for Ctrl-C
    BOUND_SWEEPS = 8                      # of bounds; where more are needed, values are not close enough


cdef double sweep(const Local* local, double* x) noexcept nogil:
    """One Gauss-Seidel sweep x <- G(x); `local.step` takes the changes, the largest is returned."""
    cdef Py_ssize_t g
    cdef int64_t r, e
    cdef double best, total
    cdef double largest = 0.0
    for g in range(local.n_groups):
        best = local.stop[g]
        for r in range(local.group_rows[g], local.group_rows[g + 1]):
            if local.row_offset[r]:
                continue
            total = local.constant[r]
            for e in range(local.inside[r], local.inside[r + 1]):
                total += local.inner_probability[e] * x[local.inner_group[e]]
            best = max(best, total)
        local.step[g] = best - x[g]
        largest = max(largest, fabs(local.step[g]))
        x[g] = best
    return largest


cdef double iterate(const Local* local, double* x, double* last_image, double target, int64_t max_sweeps,
                    ) except -1.0 nogil:
    """Sweep with Anderson mixing until nothing changes by more than `target`; the largest change of the last sweep.

    Mixing combines earlier changes so that they cancel the last one best. If a sweep changes much more than the best
    one so far, the history is dropped; plain sweeps always converge. `last_image` is scratch, (groups,).
    """
    cdef Py_ssize_t n = local.n_groups, i, k, stored = 0
    cdef int64_t count = 0, work = 0
    cdef double largest = 0.0, best = -1.0
    cdef double[WINDOW][WINDOW] gram
    cdef double[WINDOW] weight
    cdef double* changed                  # differences of f = G(x) - x
    cdef double* moved                    # differences of G(x)
    cdef double* last_step = local.history + 2 * WINDOW * n
    while count < max_sweeps:
        largest = sweep(local, x)
        count += 1
        if largest <= target:
            return largest
        if best >= 0.0 and largest > RESET * best:
            stored, best = 0, largest
        else:
            if best >= 0.0:
                k = stored % WINDOW
                changed, moved = local.history + 2 * k * n, local.history + (2 * k + 1) * n
                for i in range(n):
                    changed[i] = local.step[i] - last_step[i]
                    moved[i] = x[i] - last_image[i]
                stored += 1
                update_gram(local, gram, k, min(stored, WINDOW))
            best = largest if best < 0.0 else min(best, largest)
        for i in range(n):
            last_step[i], last_image[i] = local.step[i], x[i]
        # Where few sweeps are enough, mixing costs more than it saves.
        if stored >= WINDOW and mixing_weights(local, gram, weight):
            for k in range(WINDOW):
                moved = local.history + (2 * k + 1) * n
                for i in range(n):
                    x[i] -= weight[k] * moved[i]
        work += local.inside[local.n_rows]
        if work > SIGNALS:
            work = 0
            with gil:
                PyErr_CheckSignals()
    return largest


cdef void update_gram(const Local* local, double[WINDOW][WINDOW] gram, Py_ssize_t k, Py_ssize_t size) noexcept nogil:
    cdef Py_ssize_t n = local.n_groups, j
    for j in range(size):
        gram[k][j] = gram[j][k] = selfreg_dot(local.history + 2 * k * n, local.history + 2 * j * n, n)


cdef bint mixing_weights(const Local* local, double[WINDOW][WINDOW] gram, double[WINDOW] weight) noexcept nogil:
    """Least-squares combination of earlier changes that cancels `local.step`: normal equations by Cholesky.

    Changes are scaled to length 1: late, small ones contain the slow modes.
    """
    cdef Py_ssize_t n = local.n_groups, i, j, k
    cdef double[WINDOW][WINDOW] root
    cdef double[WINDOW] length
    cdef double total
    for k in range(WINDOW):
        if not gram[k][k] > 0.0:
            return False
        length[k] = gram[k][k] ** 0.5
        weight[k] = selfreg_dot(local.history + 2 * k * n, local.step, n) / length[k]
    for j in range(WINDOW):
        for k in range(j + 1):
            total = gram[j][k] / (length[j] * length[k])
            for i in range(k):
                total -= root[j][i] * root[k][i]
            if k < j:
                root[j][k] = total / root[k][k]
            else:
                total += 1e-14
                if not total > 0.0:
                    return False
                root[j][j] = total ** 0.5
    for j in range(WINDOW):
        for k in range(j):
            weight[j] -= root[j][k] * weight[k]
        weight[j] /= root[j][j]
    for j in range(WINDOW - 1, -1, -1):
        for k in range(j + 1, WINDOW):
            weight[j] -= root[k][j] * weight[k]
        weight[j] /= root[j][j]
    for k in range(WINDOW):
        weight[k] /= length[k]
    return True


cdef double row_rounding(const Local* local) noexcept nogil:
    """Largest error of a backup of values in [0, 1]: rounding, and rows whose sums miss 1 by rounding."""
    return (2 * local.longest + 3) * DBL_EPSILON + local.missing


cdef double uniform_steps(const Local* local, bint costly) noexcept nogil:
    """The constant w >= 1 + P_a w for all free rows a, or for all rows; -1 if that is a poor bound.

    It is 1 over the least mass that leaves the component, and at most 4 times the value that some row requires.
    """
    cdef int64_t r, e
    cdef double left, least = 1.0, most = 0.0
    for r in range(local.n_rows):
        if local.row_offset[r] and not costly:
            continue
        left = 1.0
        for e in range(local.inside[r], local.inside[r + 1]):
            left -= local.inner_probability[e]
        least, most = min(least, left), max(most, left)
    least -= row_rounding(local)
    return 1.0 / least if least > 0.25 * most else -1.0


cdef double expected_steps(const Local* local, int64_t max_sweeps) except -2.0 nogil:
    """Largest entry of a checked w >= 1 + P_a w for all free rows a; -1 if none was found."""
    cdef Py_ssize_t g
    cdef int64_t r, e
    cdef double total, short = 0.0, largest = 1.0
    cdef double* w = <double*> malloc(2 * local.n_groups * sizeof(double))
    try:
        if w == NULL:
            with gil:
                raise MemoryError(f"backward induction over a component of {local.n_groups} groups")
        for r in range(local.n_rows):
            local.constant[r] = 1.0
        for g in range(local.n_groups):
            local.stop[g] = w[g] = 1.0
        if iterate(local, w, w + local.n_groups, 1e-2, max_sweeps) > 1e-2:
            return -1.0
        for g in range(local.n_groups):
            for r in range(local.group_rows[g], local.group_rows[g + 1]):
                if local.row_offset[r]:
                    continue
                total = 1.0
                for e in range(local.inside[r], local.inside[r + 1]):
                    total += local.inner_probability[e] * w[local.inner_group[e]]
                short = max(short, total - w[g])
            if not 1.0 <= w[g] < 1e300:
                return -1.0
            largest = max(largest, w[g])
        short += largest * row_rounding(local)
        return largest / (1.0 - short) if short < 0.5 else -1.0
    finally:
        free(w)


cdef double proven_distance(const Local* local, const double* x, const int64_t* choice, double most, double* low,
                            double* high) noexcept nogil:
    """Largest distance of x from a lower and an upper bound of the solution; -1 if none were found.

    The lower one is a bound of the policy that takes row choice(g) in group g, or is worth 0 (-1). Both begin `most`
    away from x and are swept until a sweep moves neither away. Values are >= 0, so that rounding errors are relative,
    and each backup is rounded outwards. `low` and `high` are scratch, (groups,).
    """
    cdef Py_ssize_t n = local.n_groups, g, h
    cdef int64_t r, e, _k
    cdef double least, best, below, above, p, largest = 0.0, slack = 2.0 * row_rounding(local)
    cdef bint proven = False
    for g in range(n):
        low[g], high[g] = max(x[g] - most, 0.0), x[g] + most
    for _k in range(BOUND_SWEEPS):
        proven = True
        for g in range(n):
            least, best = 0.0, local.stop[g]
            for r in range(local.group_rows[g], local.group_rows[g + 1]):
                below = above = local.constant[r]
                if local.row_offset[r] == 0:
                    for e in range(local.inside[r], local.inside[r + 1]):
                        h, p = local.inner_group[e], local.inner_probability[e]
                        below += p * low[h]
                        above += p * high[h]
                best = max(best, above)
                if r == choice[g]:
                    least = below
            least, best = least * (1.0 - slack), best * (1.0 + slack)
            proven = proven and least >= low[g] and best <= high[g]
            low[g], high[g] = least, best
        if proven:
            break
    if not proven:
        return -1.0
    for g in range(n):
        largest = max(largest, max(high[g] - x[g], x[g] - low[g]))
    return largest
