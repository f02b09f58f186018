"""Pure-Python twin of `_graph.pyx`: same names, same arguments, same order of the result."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def strongly_connected(
    indptr: list[npt.NDArray[np.int64]],
    indices: list[npt.NDArray[np.int32]],
    terminal: npt.NDArray[np.uint8],
    members: npt.NDArray[np.int32],
    component: npt.NDArray[np.int32],
) -> int:
    """Number of components; fills `members` and `component`."""
    n = len(terminal)
    successors = [
        [] if terminal[s] else [int(j) for p, i in zip(indptr, indices, strict=True) for j in i[p[s] : p[s + 1]]]
        for s in range(n)
    ]
    number, low, cursor = [0] * n, [0] * n, [0] * n
    waiting: list[int] = []
    counter = n_components = n_members = 0
    component[:] = -1
    for root in range(n):
        if number[root]:
            continue
        path: list[int] = []
        s = j = root
        while True:
            if j < 0:  # all edges of s are walked
                path.pop()
                if path:
                    low[path[-1]] = min(low[path[-1]], low[s])
                if low[s] == number[s]:
                    first = waiting.index(s)
                    found = waiting[first:][::-1]
                    del waiting[first:]
                    component[found] = n_components
                    members[n_members : n_members + len(found)] = found
                    n_members += len(found)
                    n_components += 1
                if not path:
                    break
            elif not number[j]:
                counter += 1
                number[j] = low[j] = counter
                path.append(j)
                waiting.append(j)
            elif component[j] < 0:
                low[s] = min(low[s], number[j])
            s = path[-1]
            j = successors[s][cursor[s]] if cursor[s] < len(successors[s]) else -1
            cursor[s] += 1
    return n_components
