"""Hard-budget backward induction for models with cycles, one strongly connected component after the other.

    V(s, b) = max over a with c_a <= b of  sum_j P_a[s, j] V(j, b - c_a)                    least solution, V >= 0

Computes V, the maximising action, and per component and budget a proven error of V. Components come in an order in
which successors are solved first. A state on no cycle takes the backup of `_budget`. In a component with a cycle each
budget layer is an optimal stopping problem: free actions (nohelp, help of cost 0) stay in the layer, costly help
stops with a value of a lower layer. States that free actions can keep among themselves for ever form a group with one
value (`_groups`). A component of one group needs no iteration. Others are swept: all layers together (`_lanes`) if
that is fast, else layer by layer (`_mixing`), refined to twice the digits of a double where that is needed to prove the
tolerance. The caller solves components on which sweeps are slow or a state takes more than MOST_STEPS steps.

Errors of the values that a component depends on are added to its own.
"""

from libc.math cimport fabs
from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t
from libc.stdlib cimport free, malloc

from selfreg._core._budget cimport Model, backup, model_set_lattice, model_bind, model_free
from selfreg._core._groups cimport Local, Scratch, Task, local_build, local_free
from selfreg._core._lanes cimport LatticeValues, lattice_values_free, sweep_lattice
from selfreg._core._mixing cimport (
    expected_steps, iterate, proven_distance, row_rounding, sweep, uniform_steps,
)
from selfreg._core._pairs cimport Pair, add_gain, exact_sum


cdef extern from "<float.h>" nogil:
    const double DBL_EPSILON

cdef double PAIR_EPSILON = 2.0 ** -98     # relative rounding error of a gain, for each entry of its row
cdef double MOST_STEPS = 1e12             # of chains for which twice the digits of a double are enough
cdef double FIRST_SHARE = 1e-2            # of the tolerance: change of values before bounds are tried

cdef enum:
    SMALL = 1500                          # up to this number of groups a direct solution is better than many sweeps
    SMALL_SWEEPS = 2000
    REFINEMENTS = 5

cdef enum:
    UNPROVEN = 0                          # outcomes for a component with one layer
    SOLVED = 1
    SLOW = 2


def solve_components(
    list indptr,                          # IN  per action: int64 (n + 1,)
    list indices,                         # IN  per action: int32 (nnz,)
    list data,                            # IN  per action: float64 (nnz,)
    const int64_t[::1] offset,            # IN  (actions,) distance that an action moves down the flattened lattice
    const int64_t[:, ::1] runs,           # IN  (runs, 3) action, start, length: affordable runs of points of help types
    const uint8_t[:, ::1] affordable,     # IN  (actions, lattice)
    Py_ssize_t last_axis,                 # IN  points on the last axis of the lattice
    const uint8_t[::1] terminal,          # IN  (n,)
    const int32_t[::1] members,           # IN  (n,) states by component, successors first; groups contiguous
    const int64_t[::1] starts,            # IN  (components + 1,) into `members`
    const int32_t[::1] component,         # IN  (n,)
    const int32_t[::1] group,             # IN  (n,)
    Py_ssize_t first,                     # IN  component to begin with
    double tolerance,                     # IN  error that one layer may add
    int64_t max_sweeps,                   # IN  for one layer of one component
    float[:, ::1] error,                  # OUT (components, lattice), or (0, lattice): all components are exact
    double[:, ::1] value,                 # OUT (n, lattice), terminal rows filled by the caller
    int8_t[:, ::1] policy,                # OUT (n, lattice)
):
    """Solve components `first`, ...; the first one that did not reach `tolerance`, or their number if all did."""
    cdef Py_ssize_t n = terminal.shape[0], n_components = starts.shape[0] - 1, c = n_components, a
    cdef Model m
    cdef Task task
    cdef Scratch scratch
    if n == 0:
        return 0
    m.slot = NULL
    model_set_lattice(&m, value.shape[1], &offset[0], &runs[0, 0] if runs.shape[0] else NULL, runs.shape[0])
    scratch.local = <int32_t*> malloc(n * sizeof(int32_t))
    scratch.directed = <uint8_t*> malloc(n * sizeof(uint8_t))
    try:
        model_bind(&m, indptr, indices, data)
        if not (scratch.local and scratch.directed):
            raise MemoryError(f"backward induction over {n} states")
        task.n_free = 0
        for a in range(m.n_actions):
            task.n_free += offset[a] == 0
        task.affordable, task.last_axis = &affordable[0, 0], last_axis
        task.component, task.group, task.terminal = &component[0], &group[0], &terminal[0]
        task.tolerance, task.max_sweeps = tolerance, max_sweeps
        task.error = &error[0, 0] if error.shape[0] else NULL
        task.value, task.policy = &value[0, 0], &policy[0, 0]
        with nogil:
            for c in range(first, n_components):
                if starts[c + 1] - starts[c] == 1 and terminal[members[starts[c]]]:
                    continue
                if starts[c + 1] - starts[c] == 1 and not has_self_loop(&m, members[starts[c]]):
                    backup(&m, members[starts[c]], task.value, task.policy + members[starts[c]] * m.n_lattice)
                    if task.error != NULL:
                        inherit_error(&m, &task, members[starts[c]], c)
                elif not solve_component(&m, &task, &scratch, &members[starts[c]], starts[c + 1] - starts[c], c):
                    break
            else:
                c = n_components
        return c
    finally:
        model_free(&m)
        free(scratch.local)
        free(scratch.directed)


cdef inline bint has_self_loop(const Model* m, int32_t s) noexcept nogil:
    cdef Py_ssize_t a
    cdef int64_t e
    for a in range(m.n_actions):
        for e in range(m.rows[a][s], m.rows[a][s + 1]):
            if m.columns[a][e] == s:
                return True
    return False


cdef inline float round_up(double x) noexcept nogil:
    """The error as a float, rounded up."""
    return <float> (x * (1.0 + 1e-6))


cdef void inherit_error(const Model* m, const Task* task, int32_t s, Py_ssize_t c) noexcept nogil:
    """The error of a backup is at most that of the values that it depends on."""
    cdef Py_ssize_t a, b
    cdef int64_t e
    cdef float* out = task.error + c * m.n_lattice
    cdef const float* below
    for b in range(m.n_lattice):
        out[b] = 0.0
    for a in range(m.n_actions):
        for e in range(m.rows[a][s], m.rows[a][s + 1]):
            below = task.error + task.component[m.columns[a][e]] * m.n_lattice
            for b in range(m.offset[a], m.n_lattice):
                out[b] = max(out[b], below[b - m.offset[a]])


# ---- one component with a cycle -----------------------------------------------------------------------------------

cdef int solve_component(const Model* m, const Task* task, const Scratch* scratch, const int32_t* members,
                         Py_ssize_t size, Py_ssize_t c) except -1 nogil:
    """Solve all layers of component `c`; whether the tolerance was reached."""
    cdef Local local
    cdef double steps_all_rows = -1.0, steps = 1.0
    cdef int outcome
    cdef int64_t max_sweeps
    try:
        local_build(m, task, scratch, members, size, c, &local)
        max_sweeps = min(task.max_sweeps, SMALL_SWEEPS) if local.n_groups <= SMALL else task.max_sweeps
        if local.n_groups > 1:
            steps_all_rows = steps = uniform_steps(&local, True)
            if steps < 0.0:
                steps = uniform_steps(&local, False)
            if steps < 0.0 and m.n_lattice == 1:
                outcome = solve_only_layer(m, task, scratch, &local, c, max_sweeps)
                if outcome != UNPROVEN:
                    return outcome == SOLVED
            if steps < 0.0:
                steps = expected_steps(&local, max_sweeps)
            if steps < 0.0:
                return 0
        if local.n_groups > 1 and 4.0 * steps * row_rounding(&local) > task.tolerance:
            # Rounding in double precision, times the steps, is more than the tolerance.
            if steps > MOST_STEPS:
                return 0
            return solve_layers(m, task, scratch, &local, c, steps, max_sweeps, True)
        if local.n_groups > 1 and m.n_lattice > 1 and solve_lattice(m, task, scratch, &local, c, steps, steps_all_rows):
            return 1
        return solve_layers(m, task, scratch, &local, c, steps, max_sweeps, False)
    finally:
        local_free(&local)


# ---- all layers together ------------------------------------------------------------------------------------------

cdef int solve_lattice(const Model* m, const Task* task, const Scratch* scratch, const Local* local, Py_ssize_t c,
                       double steps, double steps_all_rows) except -1 nogil:
    """Solve a component by sweeps over all layers; 0 if it must be solved layer by layer.

    `steps_all_rows` bounds the steps as `steps` does, costly rows included, or is -1: with it errors of layers do not
    add up.
    """
    cdef Py_ssize_t g, i, b
    cdef double rounding = row_rounding(local), target, found
    cdef LatticeValues values
    values.memory, values.best, values.change = NULL, NULL, 0.0
    target = max(task.tolerance * (m.n_lattice if steps_all_rows > 0.0 else 1) / steps - rounding, rounding)
    try:
        if not sweep_lattice(m, task, scratch.local, local, target, &values):
            return 0
        add_errors(m, task, local, c, steps * (values.change + rounding) + 4 * DBL_EPSILON, steps_all_rows < 0.0)
        for g in range(local.n_groups):
            for b in range(m.n_lattice):
                found = min(max(values.values[g * values.stride + b], 0.0), 1.0)
                for i in range(local.bounds[g], local.bounds[g + 1]):
                    task.value[local.members[i] * m.n_lattice + b] = found
                set_policy(m, task, scratch, local, g, b, values.best[g * values.stride + b])
        return 1
    finally:
        lattice_values_free(&values)


cdef void add_errors(const Model* m, const Task* task, const Local* local, Py_ssize_t c, double own, bint by_layer,
                     ) noexcept nogil:
    """Errors of component `c`: those of values outside that its rows depend on, and its own, once or per layer."""
    cdef Py_ssize_t a, b
    cdef int64_t r, e
    cdef float* out = task.error + c * m.n_lattice
    cdef float below = 0.0
    cdef const float* outer
    for b in range(m.n_lattice):
        out[b] = 0.0
    for r in range(local.n_rows):
        for e in range(local.outside[r], local.outside[r + 1]):
            if not task.terminal[local.outer_state[e]]:
                outer = task.error + task.component[local.outer_state[e]] * m.n_lattice
                for b in range(local.row_offset[r], m.n_lattice):
                    out[b] = max(out[b], outer[b - local.row_offset[r]])
    for b in range(m.n_lattice):
        below = max(below, out[b])
        if by_layer:
            for a in range(m.n_actions):
                if 0 < m.offset[a] <= b and task.affordable[a * m.n_lattice + b]:
                    out[b] = max(out[b], out[b - m.offset[a]])
            out[b] = round_up(out[b] + own)
        else:
            out[b] = round_up(below + own)


# ---- layer by layer -------------------------------------------------------------------------------------------------

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


cdef inline void set_policy(const Model* m, const Task* task, const Scratch* scratch, const Local* local, Py_ssize_t g,
                            Py_ssize_t b, int64_t row) noexcept nogil:
    """Policy of a group: `row` in its state, actions towards that state elsewhere; nohelp if all values are 0 (-1)."""
    cdef Py_ssize_t i
    for i in range(local.bounds[g], local.bounds[g + 1]):
        task.policy[local.members[i] * m.n_lattice + b] = 0
    if row < 0:
        return
    task.policy[local.row_state[row] * m.n_lattice + b] = <int8_t> local.row_action[row]
    # nohelp alone connects a group, unless help of cost 0 is part of its end component.
    if task.n_free > 1 and local.bounds[g + 1] - local.bounds[g] > 1:
        direct_to_exit(m, task, scratch, local, g, local.row_state[row], b)


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
