"""Pure-Python twin of `_batch.pyx`: same names, same arguments, same results up to rounding."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from selfreg._core import _budget_py, _graph_py

EMPTY = np.empty(0, np.int32)


def solve_models(
    models: list[tuple[Any, ...]],
    weights: dict[int, npt.NDArray[np.float64]],
    start: npt.NDArray[np.int64],
    offset: npt.NDArray[np.int64],
    runs: npt.NDArray[np.int64],
    costs: npt.NDArray[np.int64],
    value: npt.NDArray[np.float64],
    usage: npt.NDArray[np.float64],
    values: list[npt.NDArray[np.float64]],
    policies: list[npt.NDArray[np.int8]],
    solved: npt.NDArray[np.uint8],
) -> None:
    """Solve every model of the batch; all have the same actions, costs and lattice."""
    for i, (terminal_value, *parts) in enumerate(models):
        weight = weights.get(i)
        indptr, indices, data = parts[0::3], parts[1::3], parts[2::3]
        terminal = (~np.isnan(terminal_value)).view(np.uint8)
        order = _order(indptr, indices, terminal)
        solved[i] = order is not None
        if order is None:
            continue
        n, n_lattice = len(terminal_value), value.shape[1]
        whole = values[i] if values else np.empty((n, n_lattice))
        policy = policies[i] if policies else np.empty((n, n_lattice), np.int8)
        nothing = np.empty(0)
        _budget_py.backup_levels(
            indptr, indices, data, offset, runs, terminal_value, terminal, order, np.array([0, n]), EMPTY, nothing,
            nothing, whole, policy, 1,
        )  # fmt: skip
        value[i] = whole[start[i]] if weight is None else weight @ whole
        if len(usage):
            spent = _usage(indptr, indices, data, offset, costs, terminal, order, policy)
            usage[i] = spent[start[i]] if weight is None else np.tensordot(weight, spent, axes=1)


def _order(indptr: list[Any], indices: list[Any], terminal: npt.NDArray[np.uint8]) -> npt.NDArray[np.int32] | None:
    """States, successors first; None where there is a cycle."""
    n = len(terminal)
    members, component, level = (np.empty(n, np.int32) for _ in range(3))
    if _graph_py.strongly_connected(indptr, indices, terminal, members, component) < n:
        return None
    return members if _graph_py.levels(indptr, indices, terminal, members, level) >= 0 else None


def _usage(
    indptr: list[Any],
    indices: list[Any],
    data: list[Any],
    offset: npt.NDArray[np.int64],
    costs: npt.NDArray[np.int64],
    terminal: npt.NDArray[np.uint8],
    order: npt.NDArray[np.int32],
    policy: npt.NDArray[np.int8],
) -> npt.NDArray[np.float64]:
    """Expected usage, float64 (n, budgets, lattice)."""
    n, n_lattice = policy.shape
    result = np.zeros((n, costs.shape[1], n_lattice))
    for s in order.tolist():
        for b in range(0 if terminal[s] else n_lattice):
            a = int(policy[s, b])
            row = slice(int(indptr[a][s]), int(indptr[a][s + 1]))
            result[s, :, b] = costs[a] + data[a][row] @ result[indices[a][row], :, b - offset[a]]
    return result
