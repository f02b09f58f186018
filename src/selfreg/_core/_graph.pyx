"""Graph of a model: components, levels, memory slots, rows of end components, and the order of sweeps.

    level(s) = 0 without successors, else 1 + max of level(j) over successors j of s by any action

Components are those of the union graph of all actions, by Tarjan's algorithm without recursion. The graph is given as
one CSR pattern per action and never merged: the edges of a state are visited action by action. Tarjan emits a
component only after every component that it can reach, which is the order in which backward induction solves them.
Rows of terminal states are ignored.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t
from libc.stdlib cimport calloc, free, malloc, qsort


cdef int bind_rows(list indptr, list indices, const int64_t** rows, const int32_t** columns) except -1:
    """Pointers to the arrays of each action, which the lists keep alive."""
    cdef Py_ssize_t a
    cdef const int64_t[::1] pointers
    cdef const int32_t[::1] heads
    for a in range(len(indptr)):
        pointers, heads = indptr[a], indices[a]
        rows[a] = &pointers[0]
        columns[a] = &heads[0] if heads.shape[0] else NULL
    return 0


def strongly_connected(
    list indptr,                          # IN  per action: int64 (n + 1,)
    list indices,                         # IN  per action: int32 (nnz,)
    const uint8_t[::1] terminal,          # IN  (n,)
    int32_t[::1] members,                 # OUT (n,) states, component by component, successors' components first
    int32_t[::1] component,               # OUT (n,) component of every state
):
    """Number of components; fills `members` and `component`."""
    cdef Py_ssize_t n = terminal.shape[0], n_actions = len(indptr), n_components
    cdef const int64_t** rows = <const int64_t**> malloc((n_actions + 1) * sizeof(int64_t*))
    cdef const int32_t** columns = <const int32_t**> malloc((n_actions + 1) * sizeof(int32_t*))
    # Per state: visit number (0: not visited), lowest reachable number, next edge; two stacks.
    cdef int32_t* number = <int32_t*> malloc((n + 1) * sizeof(int32_t))
    cdef int32_t* low = <int32_t*> malloc((n + 1) * sizeof(int32_t))
    cdef int32_t* path = <int32_t*> malloc((n + 1) * sizeof(int32_t))
    cdef int32_t* waiting = <int32_t*> malloc((n + 1) * sizeof(int32_t))
    cdef int64_t* edge = <int64_t*> malloc((n + 1) * sizeof(int64_t))
    cdef uint8_t* action = <uint8_t*> malloc((n + 1) * sizeof(uint8_t))
    try:
        if not (rows and columns and number and low and path and waiting and edge and action):
            raise MemoryError(f"strongly connected components of {n} states")
        bind_rows(indptr, indices, rows, columns)
        if n == 0:
            return 0
        with nogil:
            n_components = tarjan(n, n_actions, rows, columns, &terminal[0], number, low, path, waiting, edge, action,
                                  &members[0], &component[0])
        return n_components
    finally:
        free(rows)
        free(columns)
        free(number)
        free(low)
        free(path)
        free(waiting)
        free(edge)
        free(action)


cdef Py_ssize_t tarjan(
    Py_ssize_t n, Py_ssize_t n_actions, const int64_t** rows, const int32_t** columns, const uint8_t* terminal,
    int32_t* number, int32_t* low, int32_t* path, int32_t* waiting, int64_t* edge, uint8_t* action,
    int32_t* members, int32_t* component,
) noexcept nogil:
    cdef Py_ssize_t n_components = 0, n_path = 0, n_waiting = 0, n_members = 0, root
    cdef int32_t counter = 0, s, j
    for root in range(n):
        number[root] = 0
        component[root] = -1
    for root in range(n):
        if number[root]:
            continue
        s = j = <int32_t> root
        while True:
            if j < 0:  # all edges of s are visited
                n_path -= 1
                if n_path and low[s] < low[path[n_path - 1]]:
                    low[path[n_path - 1]] = low[s]
                if low[s] == number[s]:
                    while True:
                        n_waiting -= 1
                        j = waiting[n_waiting]
                        component[j] = <int32_t> n_components
                        members[n_members] = j
                        n_members += 1
                        if j == s:
                            break
                    n_components += 1
                if n_path == 0:
                    break
            elif number[j] == 0:
                counter += 1
                number[j] = low[j] = counter
                path[n_path] = waiting[n_waiting] = j
                n_path += 1
                n_waiting += 1
                action[j] = 0
                edge[j] = rows[0][j]
            elif component[j] < 0 and number[j] < low[s]:
                low[s] = number[j]
            s = path[n_path - 1]
            j = next_successor(s, n_actions, rows, columns, terminal, edge, action)
    return n_components


cdef inline int32_t next_successor(
    int32_t s, Py_ssize_t n_actions, const int64_t** rows, const int32_t** columns, const uint8_t* terminal,
    int64_t* edge, uint8_t* action,
) noexcept nogil:
    """Head of the next edge of `s`, or -1; moves the state's cursor (edge within action, then action)."""
    if terminal[s]:
        return -1
    while True:
        if edge[s] < rows[action[s]][s + 1]:
            edge[s] += 1
            return columns[action[s]][edge[s] - 1]
        if action[s] + 1 >= n_actions:
            return -1
        action[s] += 1
        edge[s] = rows[action[s]][s]


def levels(
    list indptr,                          # IN  per action: int64 (n + 1,)
    list indices,                         # IN  per action: int32 (nnz,)
    const uint8_t[::1] terminal,          # IN  (n,)
    const int32_t[::1] order,             # IN  (n,) successors first; empty for n - 1, n - 2, ..., 0
    int32_t[::1] level,                   # OUT (n,) longest path to a state without successors
):
    """Number of levels, or -1 if a state leads to itself or to one that comes later in `order`."""
    cdef Py_ssize_t n = terminal.shape[0], n_actions = len(indptr)
    cdef const int64_t** rows = <const int64_t**> malloc((n_actions + 1) * sizeof(int64_t*))
    cdef const int32_t** columns = <const int32_t**> malloc((n_actions + 1) * sizeof(int32_t*))
    cdef int32_t n_levels
    if n == 0:
        return 0
    try:
        if not (rows and columns):
            raise MemoryError(f"levels of {n} states")
        bind_rows(indptr, indices, rows, columns)
        with nogil:
            n_levels = longest_paths(n, n_actions, rows, columns, &terminal[0],
                                     &order[0] if order.shape[0] else NULL, &level[0])
        return n_levels
    finally:
        free(rows)
        free(columns)


cdef int32_t longest_paths(
    Py_ssize_t n, Py_ssize_t n_actions, const int64_t** rows, const int32_t** columns, const uint8_t* terminal,
    const int32_t* order, int32_t* level,
) noexcept nogil:
    cdef Py_ssize_t i, a
    cdef int64_t e
    cdef int32_t s, highest, n_levels = 0
    for i in range(n):
        level[i] = -1
    for i in range(n):
        s = order[i] if order != NULL else <int32_t> (n - 1 - i)
        highest = -1
        if not terminal[s]:
            for a in range(n_actions):
                for e in range(rows[a][s], rows[a][s + 1]):
                    if level[columns[a][e]] < 0:
                        return -1
                    highest = max(highest, level[columns[a][e]])
        level[s] = highest + 1
        n_levels = max(n_levels, level[s] + 1)
    return n_levels


def bucket(
    const int32_t[::1] label,             # IN  (n,) 0..buckets-1
    int64_t[::1] starts,                  # OUT (buckets + 1,)
    int32_t[::1] members,                 # OUT (n,) by label, then by index
):
    """Counting sort: states by label."""
    cdef Py_ssize_t n = label.shape[0], n_buckets = starts.shape[0] - 1, i
    with nogil:
        for i in range(n_buckets + 1):
            starts[i] = 0
        for i in range(n):
            starts[label[i] + 1] += 1
        for i in range(n_buckets):
            starts[i + 1] += starts[i]
        for i in range(n):
            members[starts[label[i]]] = <int32_t> i
            starts[label[i]] += 1
        for i in range(n_buckets, 0, -1):
            starts[i] = starts[i - 1]
        starts[0] = 0


def allocate_slots(
    list indptr,                          # IN  per action: int64 (n + 1,)
    list indices,                         # IN  per action: int32 (nnz,)
    const uint8_t[::1] terminal,          # IN  (n,)
    const int32_t[::1] level,             # IN  (n,)
    const int64_t[::1] starts,            # IN  (levels + 1,)
    const int32_t[::1] members,           # IN  (n,) by level
    int32_t[::1] slot,                    # OUT (n,) slot of a state's values while they are needed
):
    """Number of memory slots if the values of a state are dropped after the last level that reads them."""
    cdef Py_ssize_t n = terminal.shape[0], n_levels = starts.shape[0] - 1, i, k, n_free = 0, n_slots = 0
    cdef int64_t e
    cdef int32_t s
    cdef int32_t[::1] last_use = level.copy()
    cdef int64_t[::1] drop_starts = starts.copy()
    cdef int32_t[::1] dropped = members.copy(), spare = members.copy()
    cdef const int64_t[::1] pointer_view
    cdef const int32_t[::1] index_view
    for a in range(len(indptr)):
        pointer_view, index_view = indptr[a], indices[a]
        with nogil:
            for i in range(n):
                if not terminal[i]:
                    for e in range(pointer_view[i], pointer_view[i + 1]):
                        last_use[index_view[e]] = max(last_use[index_view[e]], level[i])
    bucket(last_use, drop_starts, dropped)
    with nogil:
        for k in range(n_levels):
            for i in range(starts[k], starts[k + 1]):
                s = members[i]
                if n_free:
                    n_free -= 1
                    slot[s] = spare[n_free]
                else:
                    slot[s] = <int32_t> n_slots
                    n_slots += 1
            for i in range(drop_starts[k], drop_starts[k + 1]):
                spare[n_free] = slot[dropped[i]]
                n_free += 1
    return n_slots


def prune_rows(
    list indptr,                          # IN  per action: int64 (n + 1,)
    list indices,                         # IN  per action: int32 (nnz,)
    const int32_t[::1] label,             # IN  (n,)
    uint8_t[:, ::1] remaining,            # IN, OUT (actions, n) rows that are left
):
    """Remove rows that may leave the label of their state, then those that may lead to a state without rows.

    Returns how many are left. What is left is closed: an end component of each label, or none, lies within it.
    """
    cdef Py_ssize_t n = label.shape[0], n_actions = len(indptr), rest
    cdef const int64_t** rows = <const int64_t**> malloc((n_actions + 1) * sizeof(int64_t*))
    cdef const int32_t** columns = <const int32_t**> malloc((n_actions + 1) * sizeof(int32_t*))
    # Per state: its rows that are left, states without rows; where its sources begin.
    cdef int32_t* left = <int32_t*> calloc(n + 1, sizeof(int32_t))
    cdef int32_t* waiting = <int32_t*> malloc((n + 1) * sizeof(int32_t))
    cdef int64_t* start = <int64_t*> calloc(n + 2, sizeof(int64_t))
    cdef int64_t* source = NULL
    try:
        if not (rows and columns and left and waiting and start):
            raise MemoryError(f"end components of {n} states")
        if n == 0 or n_actions == 0:
            return 0
        bind_rows(indptr, indices, rows, columns)
        with nogil:
            rest = remove_leaving(n, n_actions, rows, columns, &label[0], &remaining[0, 0], left, start)
        if rest == 0:
            return 0
        source = <int64_t*> malloc((start[n + 1] + 1) * sizeof(int64_t))
        if source == NULL:
            raise MemoryError(f"end components of {n} states")
        with nogil:
            rest -= remove_stranded(n, n_actions, rows, columns, &remaining[0, 0], left, waiting, start, source)
        return rest
    finally:
        free(rows)
        free(columns)
        free(left)
        free(waiting)
        free(start)
        free(source)


cdef Py_ssize_t remove_leaving(
    Py_ssize_t n, Py_ssize_t n_actions, const int64_t** rows, const int32_t** columns, const int32_t* label,
    uint8_t* remaining, int32_t* left, int64_t* start,
) noexcept nogil:
    """Remove rows that may leave their label; how many are left, in all and in `left` of each state.

    `start` (n + 2,) gets where the entries that lead to a state begin, one place later than their final one.
    """
    cdef Py_ssize_t rest = 0, a, s
    cdef int64_t e
    cdef bint leaves
    for a in range(n_actions):
        for s in range(n):
            if not remaining[a * n + s]:
                continue
            leaves = False
            for e in range(rows[a][s], rows[a][s + 1]):
                leaves = leaves or label[columns[a][e]] != label[s]
            if leaves:
                remaining[a * n + s] = 0
                continue
            rest += 1
            left[s] += 1
            for e in range(rows[a][s], rows[a][s + 1]):
                start[columns[a][e] + 2] += 1
    for s in range(2, n + 2):
        start[s] += start[s - 1]
    return rest


cdef Py_ssize_t remove_stranded(
    Py_ssize_t n, Py_ssize_t n_actions, const int64_t** rows, const int32_t** columns, uint8_t* remaining,
    int32_t* left, int32_t* waiting, int64_t* start, int64_t* source,
) noexcept nogil:
    """Remove rows that may lead to a state without rows, until there are none; how many. `source` is scratch."""
    cdef Py_ssize_t removed = 0, n_waiting = 0, a, s
    cdef int64_t e, i, row
    for a in range(n_actions):
        for s in range(n):
            if remaining[a * n + s]:
                for e in range(rows[a][s], rows[a][s + 1]):
                    source[start[columns[a][e] + 1]] = a * n + s
                    start[columns[a][e] + 1] += 1
    for s in range(n):
        if left[s] == 0:
            waiting[n_waiting] = <int32_t> s
            n_waiting += 1
    while n_waiting:
        n_waiting -= 1
        s = waiting[n_waiting]
        for i in range(start[s], start[s + 1]):
            row = source[i]
            if not remaining[row]:
                continue
            remaining[row] = 0
            removed += 1
            left[row % n] -= 1
            if left[row % n] == 0:
                waiting[n_waiting] = <int32_t> (row % n)
                n_waiting += 1
    return removed


def longest_chain(
    list indptr,                          # IN  per action: int64 (n + 1,)
    list indices,                         # IN  per action: int32 (nnz,)
    const uint8_t[::1] terminal,          # IN  (n,)
    const int32_t[::1] members,           # IN  (n,) states by component, successors first
    const int32_t[::1] component,         # IN  (n,)
    const uint8_t[::1] counted,           # IN  (components,)
):
    """Most counted components on a path."""
    cdef Py_ssize_t n = members.shape[0], n_actions = len(indptr), a, i
    cdef int64_t e
    cdef int32_t c, later, most = 0
    cdef const int64_t** rows = <const int64_t**> malloc((n_actions + 1) * sizeof(int64_t*))
    cdef const int32_t** columns = <const int32_t**> malloc((n_actions + 1) * sizeof(int32_t*))
    # Of each component: counted ones on paths from it, without its own.
    cdef int32_t* below = <int32_t*> calloc(counted.shape[0] + 1, sizeof(int32_t))
    try:
        if not (rows and columns and below):
            raise MemoryError(f"components of {n} states")
        bind_rows(indptr, indices, rows, columns)
        with nogil:
            for i in range(n):
                c = component[members[i]]
                for a in range(0 if terminal[members[i]] else n_actions):
                    for e in range(rows[a][members[i]], rows[a][members[i] + 1]):
                        later = component[columns[a][e]]
                        if later != c:
                            below[c] = max(below[c], below[later] + counted[later])
                most = max(most, below[c] + counted[c])
        return most
    finally:
        free(rows)
        free(columns)
        free(below)


# ---- order of sweeps ------------------------------------------------------------------------------------------------

cdef enum:
    LEAST_ORDERED = 3                     # states of a component whose order matters
    FEW = 16                              # edges that are sorted by insertion


cdef struct Edge:
    double mass
    int32_t state


# The model, and a depth-first search without recursion: the edges of the states on the path that are not followed yet
# form one stack.
cdef struct Search:
    Py_ssize_t n_actions
    const int64_t** rows
    const int32_t** columns
    const double** masses
    const int32_t* component
    uint8_t* visited                      # (n,)
    int32_t* path                         # (n,)
    int64_t* first                        # (n,) of every state on the path: where its edges begin
    Edge* edges                           # (edges,) of each state by mass, the largest last


def order_sweeps(
    list indptr,                          # IN  per free action: int64 (n + 1,)
    list indices,                         # IN  per free action: int32 (nnz,)
    list data,                            # IN  per free action: float64 (nnz,)
    const int32_t[::1] component,         # IN  (n,)
    const int64_t[::1] starts,            # IN  (components + 1,) into `members`
    int32_t[::1] members,                 # IN, OUT (n,) states by component, reordered within each
):
    """Order every component so that states come after their most likely successors by free actions.

    Gauss-Seidel sweeps carry a value along all edges to earlier states at once, and along one edge to a later state.
    In the order in which a depth-first search leaves its states, only edges back to a state on the path lead to a later
    one. The search begins at the last member and follows the edge with the largest mass first, then the lowest index.
    """
    cdef Py_ssize_t n = members.shape[0], n_actions = len(indptr), a, c, i
    cdef int64_t end
    cdef const double[::1] masses
    cdef int32_t* given = <int32_t*> malloc((n + 1) * sizeof(int32_t))
    cdef Search search
    search.n_actions, search.component = n_actions, &component[0] if n else NULL
    search.rows = <const int64_t**> malloc((n_actions + 1) * sizeof(int64_t*))
    search.columns = <const int32_t**> malloc((n_actions + 1) * sizeof(int32_t*))
    search.masses = <const double**> malloc((n_actions + 1) * sizeof(double*))
    search.visited = <uint8_t*> calloc(n + 1, sizeof(uint8_t))
    search.path = <int32_t*> malloc((n + 1) * sizeof(int32_t))
    search.first = <int64_t*> malloc((n + 1) * sizeof(int64_t))
    search.edges = <Edge*> malloc((sum(map(len, indices)) + 1) * sizeof(Edge))
    try:
        if not (given and search.rows and search.columns and search.masses and search.visited and search.path
                and search.first and search.edges):
            raise MemoryError(f"order of {n} states")
        bind_rows(indptr, indices, search.rows, search.columns)
        for a in range(n_actions):
            masses = data[a]
            search.masses[a] = &masses[0] if masses.shape[0] else NULL
        with nogil:
            for i in range(n):
                given[i] = members[i]
            for c in range(starts.shape[0] - 1):
                if starts[c + 1] - starts[c] < LEAST_ORDERED:
                    continue
                end = starts[c]
                for i in range(starts[c + 1] - 1, starts[c] - 1, -1):
                    if not search.visited[given[i]]:
                        end = visit(&search, given[i], &members[0], end)
    finally:
        free(given)
        free(search.rows)
        free(search.columns)
        free(search.masses)
        free(search.visited)
        free(search.path)
        free(search.first)
        free(search.edges)


cdef int64_t visit(Search* search, int32_t root, int32_t* members, int64_t end) noexcept nogil:
    """Append the states that `root` leads to in the order they are left to `members`, which ends at `end`; its new end.

    Only states of its component that were not visited.
    """
    cdef Py_ssize_t depth = 0
    cdef int64_t top = 0
    cdef int32_t s = root
    while True:
        if not search.visited[s]:
            search.visited[s] = True
            search.path[depth], search.first[depth] = s, top
            depth += 1
            top = push_edges(search, s, top)
        while top == search.first[depth - 1]:
            depth -= 1
            members[end] = search.path[depth]
            end += 1
            if depth == 0:
                return end
        top -= 1
        s = search.edges[top].state


cdef int64_t push_edges(const Search* search, int32_t s, int64_t top) noexcept nogil:
    """Add the edges of `s` to states that may be visited at `top`, the first to follow last; where they end."""
    cdef Py_ssize_t a
    cdef int64_t e, i, end = top
    cdef int32_t j
    cdef Edge edge
    for a in range(search.n_actions):
        for e in range(search.rows[a][s], search.rows[a][s + 1]):
            j = search.columns[a][e]
            if not search.visited[j] and search.component[j] == search.component[s]:
                search.edges[end].mass, search.edges[end].state = search.masses[a][e], j
                end += 1
    if end - top > FEW:
        qsort(search.edges + top, end - top, sizeof(Edge), compare_edges)
        return end
    for e in range(top + 1, end):
        edge, i = search.edges[e], e
        while i > top and compare_edges(&search.edges[i - 1], &edge) > 0:
            search.edges[i] = search.edges[i - 1]
            i -= 1
        search.edges[i] = edge
    return end


cdef int compare_edges(const void* one, const void* other) noexcept nogil:
    """By mass, then by state, the lowest last."""
    cdef const Edge* a = <const Edge*> one
    cdef const Edge* b = <const Edge*> other
    if a.mass != b.mass:
        return 1 if a.mass > b.mass else -1
    return (b.state > a.state) - (b.state < a.state)
