"""Qualitative reachability: states of value 0 and of value 1, which follow from the graph alone.

    value 0: no state with a positive terminal value can be reached by any action
    value 1: some free actions reach states of value 1 with probability 1    greatest U of least reach sets within U

Components come with successors first, so that what a component leads to is settled. All of its states have value 0 or
none has. For value 1 (Prob1E, de Alfaro 1997), free rows that may lead to anything else outside are removed; then, in
turn, states from which the remaining rows do not lead outside, and rows that may lead to a removed state. Probabilities
do not matter, however small: these values are exact.
"""

from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t
from libc.stdlib cimport free, malloc

from selfreg._core._graph cimport bind_rows


cdef enum:
    ZERO = 0                              # values that a state is certain to have
    ONE = 1
    ROUNDS = 100                          # of removal in a component; its states stay uncertain if there are more

# What is known of a row, which is action * n + state.
cdef enum:
    REMAINS = 1
    LEAVES = 2                            # it may leave the component
    OFFERED = 4


cdef struct Graph:
    Py_ssize_t n
    Py_ssize_t n_actions
    const int64_t** rows
    const int32_t** columns
    const uint8_t* is_free                # (actions,)
    const uint8_t* terminal
    const int32_t* component
    uint8_t* certain                      # (n,) ZERO, ONE, or another number
    int8_t* action                        # (n,)


# Scratch of one component; all but `source` has room for all states.
cdef struct Scratch:
    uint8_t* row                          # (actions * n,)
    uint8_t* reached                      # (n,)
    int32_t* left                         # (n,) rows that remain
    int64_t* begin                        # (n,) where the rows that lead to a state begin in `source`
    int64_t* end                          # (n,)
    int64_t* source                       # (room,) rows
    int64_t room
    int32_t* waiting                      # (n,)
    int64_t* later                        # (actions * n,) next row of the same action
    int64_t* head                         # (actions,) first row that is offered, -1


def find_certain(
    list indptr,                          # IN  per action: int64 (n + 1,)
    list indices,                         # IN  per action: int32 (nnz,)
    const uint8_t[::1] is_free,           # IN  (actions,)
    const uint8_t[::1] terminal,          # IN  (n,)
    const int32_t[::1] members,           # IN  (n,) states by component, successors first
    const int64_t[::1] starts,            # IN  (components + 1,) into `members`
    const int32_t[::1] component,         # IN  (n,)
    uint8_t[::1] certain,                 # IN, OUT (n,) 0, 1: the value; 2: another one; filled for terminal states
    int8_t[::1] action,                   # OUT (n,) for value 1: an action of a policy that attains it
):
    """Number of states that are not terminal and certainly have the value 0 or 1; fills `certain` and `action`."""
    cdef Py_ssize_t n = terminal.shape[0], found = 0, c
    cdef const int32_t* states
    cdef Py_ssize_t size
    cdef int verdict
    cdef bint hopeful
    cdef Graph g
    cdef Scratch scratch
    if n == 0:
        return 0
    g.n, g.n_actions = n, len(indptr)
    g.rows = <const int64_t**> malloc((g.n_actions + 1) * sizeof(int64_t*))
    g.columns = <const int32_t**> malloc((g.n_actions + 1) * sizeof(int32_t*))
    scratch.row, scratch.reached, scratch.left, scratch.begin, scratch.end = NULL, NULL, NULL, NULL, NULL
    scratch.source, scratch.waiting, scratch.later, scratch.head, scratch.room = NULL, NULL, NULL, NULL, 0
    try:
        if not (g.rows and g.columns):
            raise MemoryError(f"qualitative reachability of {n} states")
        bind_rows(indptr, indices, g.rows, g.columns)
        g.is_free, g.component, g.certain, g.action = &is_free[0], &component[0], &certain[0], &action[0]
        g.terminal = &terminal[0]
        with nogil:
            hopeful = has_first_one(&g)
            for c in range(starts.shape[0] - 1):
                states, size = &members[starts[c]], starts[c + 1] - starts[c]
                if size == 1 and terminal[states[0]]:
                    continue
                verdict = look_outside(&g, states, size, c, hopeful)
                if verdict == ONE:
                    found += find_ones(&g, &scratch, states, size, c)
                elif verdict == ZERO:
                    found += size
        return found
    finally:
        free(g.rows)
        free(g.columns)
        free(scratch.row)
        free(scratch.reached)
        free(scratch.left)
        free(scratch.begin)
        free(scratch.end)
        free(scratch.source)
        free(scratch.waiting)
        free(scratch.later)
        free(scratch.head)


cdef bint has_first_one(const Graph* g) noexcept nogil:
    """Whether some free row leads to terminal states of value 1 alone where it leaves: else no other state has 1."""
    cdef Py_ssize_t a
    cdef int64_t e
    cdef int32_t s
    for a in range(g.n_actions):
        s = 0
        for e in range(g.rows[a][g.n] if g.is_free[a] else 0):
            if g.certain[g.columns[a][e]] != ONE:
                continue
            while g.rows[a][s + 1] <= e:
                s += 1
            if not g.terminal[s] and classify(g, a, s, g.component[s]):
                return True
    return False


cdef int look_outside(const Graph* g, const int32_t* states, Py_ssize_t size, Py_ssize_t c, bint hopeful,
                      ) noexcept nogil:
    """ZERO if all states have value 0; ONE if some free row leads to value 1 alone where it leaves; else 2.

    Fills `certain` with 0, or with 2. Without `hopeful` value 1 is not looked for.
    """
    cdef Py_ssize_t i, a
    cdef int64_t e
    cdef int32_t j
    cdef bint positive = False, found = False
    for i in range(size):
        if found or (positive and not hopeful):
            break
        for a in range(g.n_actions):
            for e in range(g.rows[a][states[i]], 0 if positive else g.rows[a][states[i] + 1]):
                j = g.columns[a][e]
                positive = positive or (g.component[j] != c and g.certain[j] != ZERO)
            if hopeful and g.is_free[a] and not found:
                found = classify(g, a, states[i], c) & LEAVES
    for i in range(size):
        g.certain[states[i]] = 2 if positive else ZERO
        g.action[states[i]] = 0
    return ONE if found else 2 if positive else ZERO


cdef Py_ssize_t find_ones(const Graph* g, Scratch* scratch, const int32_t* states, Py_ssize_t size, Py_ssize_t c,
                          ) except -1 nogil:
    """Mark the states of value 1 of a component, and a policy that attains it; how many."""
    cdef Py_ssize_t i, rest = size, removed, _round
    prepare(g, scratch, states, size, c)
    for _round in range(ROUNDS):
        find_reached(g, scratch, states, size)
        removed = remove_unreached(g, scratch, states, size)
        rest -= removed
        if removed == 0 or rest == 0:
            break
    else:
        return 0
    if rest == 0:
        return 0
    choose_actions(g, scratch, states, size)
    for i in range(size):
        if scratch.left[states[i]] >= 0:
            g.certain[states[i]] = ONE
    return rest


cdef int prepare(const Graph* g, Scratch* scratch, const int32_t* states, Py_ssize_t size, Py_ssize_t c,
                 ) except -1 nogil:
    """Free rows that lead to value 1 alone where they leave the component, and the rows that lead to each state."""
    cdef Py_ssize_t i, a
    cdef int64_t e, row, total = 0
    cdef int32_t s, j
    if scratch.row == NULL:
        allocate(g, scratch)
    for i in range(size):
        scratch.left[states[i]] = 0
        scratch.end[states[i]] = 0
    for i in range(size):
        s = states[i]
        for a in range(g.n_actions):
            row = a * g.n + s
            scratch.row[row] = classify(g, a, s, c) if g.is_free[a] else 0
            if scratch.row[row]:
                scratch.left[s] += 1
                for e in range(g.rows[a][s], g.rows[a][s + 1]):
                    scratch.end[g.columns[a][e]] += g.component[g.columns[a][e]] == c
    for i in range(size):
        s = states[i]
        scratch.begin[s] = total
        total += scratch.end[s]
        scratch.end[s] = scratch.begin[s]
    if total > scratch.room:
        free(scratch.source)
        scratch.room = max(total, 2 * scratch.room)
        scratch.source = <int64_t*> malloc(scratch.room * sizeof(int64_t))
        if scratch.source == NULL:
            scratch.room = 0
            with gil:
                raise MemoryError(f"qualitative reachability of {g.n} states")
    for i in range(size):
        s = states[i]
        for a in range(g.n_actions):
            row = a * g.n + s
            if scratch.row[row]:
                for e in range(g.rows[a][s], g.rows[a][s + 1]):
                    j = g.columns[a][e]
                    if g.component[j] == c:
                        scratch.source[scratch.end[j]] = row
                        scratch.end[j] += 1
    return 0


cdef int allocate(const Graph* g, Scratch* scratch) except -1 nogil:
    scratch.row = <uint8_t*> malloc(g.n_actions * g.n * sizeof(uint8_t))
    scratch.reached = <uint8_t*> malloc(g.n * sizeof(uint8_t))
    scratch.left = <int32_t*> malloc(g.n * sizeof(int32_t))
    scratch.begin = <int64_t*> malloc(g.n * sizeof(int64_t))
    scratch.end = <int64_t*> malloc(g.n * sizeof(int64_t))
    scratch.waiting = <int32_t*> malloc(g.n * sizeof(int32_t))
    scratch.later = <int64_t*> malloc(g.n_actions * g.n * sizeof(int64_t))
    scratch.head = <int64_t*> malloc(g.n_actions * sizeof(int64_t))
    if not (scratch.row and scratch.reached and scratch.left and scratch.begin and scratch.end and scratch.waiting
            and scratch.later and scratch.head):
        with gil:
            raise MemoryError(f"qualitative reachability of {g.n} states")
    return 0


cdef inline uint8_t classify(const Graph* g, Py_ssize_t a, int32_t s, Py_ssize_t c) noexcept nogil:
    """REMAINS, with LEAVES, or 0 for a row that is not there or may leave to a state that is not certain to have 1."""
    cdef int64_t e
    cdef int32_t j
    cdef uint8_t result = REMAINS if g.rows[a][s] < g.rows[a][s + 1] else 0
    for e in range(g.rows[a][s], g.rows[a][s + 1]):
        j = g.columns[a][e]
        if g.component[j] != c:
            if g.certain[j] != ONE:
                return 0
            result = REMAINS | LEAVES
    return result


cdef void find_reached(const Graph* g, Scratch* scratch, const int32_t* states, Py_ssize_t size) noexcept nogil:
    """States from which the remaining rows may leave the component."""
    cdef Py_ssize_t i, a, n_waiting = 0
    cdef int64_t e
    cdef int32_t s
    for i in range(size):
        s = states[i]
        scratch.reached[s] = False
        for a in range(g.n_actions):
            if scratch.row[a * g.n + s] & LEAVES:
                scratch.reached[s] = True
        if scratch.reached[s]:
            scratch.waiting[n_waiting] = s
            n_waiting += 1
    while n_waiting:
        n_waiting -= 1
        s = scratch.waiting[n_waiting]
        for e in range(scratch.begin[s], scratch.end[s]):
            i = scratch.source[e] % g.n
            if scratch.row[scratch.source[e]] and not scratch.reached[i]:
                scratch.reached[i] = True
                scratch.waiting[n_waiting] = <int32_t> i
                n_waiting += 1


cdef Py_ssize_t remove_unreached(const Graph* g, Scratch* scratch, const int32_t* states, Py_ssize_t size,
                                 ) noexcept nogil:
    """Remove states that are not reached, rows that may lead to removed states, and states without rows; how many.

    `left` of a removed state is -1.
    """
    cdef Py_ssize_t i, a, n_waiting = 0, removed = 0
    cdef int64_t e, row
    cdef int32_t s
    for i in range(size):
        s = states[i]
        if not scratch.reached[s] and scratch.left[s] >= 0:
            scratch.left[s] = -1
            scratch.waiting[n_waiting] = s
            n_waiting += 1
    while n_waiting:
        n_waiting -= 1
        removed += 1
        s = scratch.waiting[n_waiting]
        for a in range(g.n_actions):
            scratch.row[a * g.n + s] = 0
        for e in range(scratch.begin[s], scratch.end[s]):
            row, i = scratch.source[e], scratch.source[e] % g.n
            if scratch.row[row] == 0:
                continue
            scratch.row[row] = 0
            scratch.left[i] -= 1
            if scratch.left[i] == 0:
                scratch.left[i] = -1
                scratch.waiting[n_waiting] = <int32_t> i
                n_waiting += 1
    return removed


cdef void choose_actions(const Graph* g, Scratch* scratch, const int32_t* states, Py_ssize_t size) noexcept nogil:
    """A row towards the outside in every state that is left: nohelp where it leads on, then the lowest action."""
    cdef Py_ssize_t i, a
    cdef int64_t e, row
    cdef int32_t s
    for a in range(g.n_actions):
        scratch.head[a] = -1
    for i in range(size):
        s = states[i]
        scratch.reached[s] = False
        for a in range(g.n_actions):
            if scratch.row[a * g.n + s] & LEAVES:
                offer(g, scratch, a * g.n + s)
    a = 0
    while a < g.n_actions:
        row = scratch.head[a]
        if row < 0:
            a += 1
            continue
        scratch.head[a] = scratch.later[row]
        s = <int32_t> (row % g.n)
        if scratch.reached[s]:
            continue
        scratch.reached[s] = True
        g.action[s] = <int8_t> a
        for e in range(scratch.begin[s], scratch.end[s]):
            if scratch.row[scratch.source[e]]:
                offer(g, scratch, scratch.source[e])
        a = 0


cdef inline void offer(const Graph* g, Scratch* scratch, int64_t row) noexcept nogil:
    """Add a row to those of its action that lead on, unless it was or its state has its action."""
    cdef Py_ssize_t a = row // g.n
    if scratch.row[row] & OFFERED or scratch.reached[row % g.n]:
        return
    scratch.row[row] |= OFFERED
    scratch.later[row] = scratch.head[a]
    scratch.head[a] = row
