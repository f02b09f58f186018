"""Pure-Python twin of `_budget.pyx`: same names, same arguments, same results up to rounding."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def backup_levels(
    indptr: list[npt.NDArray[np.int64]],
    indices: list[npt.NDArray[np.int32]],
    data: list[npt.NDArray[np.float64]],
    offset: npt.NDArray[np.int64],
    runs: npt.NDArray[np.int64],
    terminal_value: npt.NDArray[np.float64],
    terminal: npt.NDArray[np.uint8],
    members: npt.NDArray[np.int32],
    starts: npt.NDArray[np.int64],
    slot: npt.NDArray[np.int32],
    weight: npt.NDArray[np.float64],
    expected: npt.NDArray[np.float64],
    value: npt.NDArray[Any],
    policy: npt.NDArray[np.int8],
    n_threads: int,
) -> None:
    """Fill `value` and `policy`, or `expected`; stops with KeyboardInterrupt at Ctrl-C."""
    places = slot.tolist() if len(slot) else range(len(terminal))
    n_lattice = value.shape[1]
    for s in members.tolist():
        out, choice = [float(terminal_value[s])] * n_lattice, [0] * n_lattice
        if not terminal[s]:
            rows = [
                [(places[j], float(q)) for j, q in zip(i[p[s] : p[s + 1]].tolist(), d[p[s] : p[s + 1]], strict=True)]
                for p, i, d in zip(indptr, indices, data, strict=True)
            ]
            out = [sum(q * float(value[j, b]) for j, q in rows[0]) for b in range(n_lattice)]
            for a, start, length in runs.tolist():
                for b in range(start, start + length) if rows[a] else ():
                    new = sum(q * float(value[j, b - offset[a]]) for j, q in rows[a])
                    if new > out[b]:
                        out[b], choice[b] = new, a
        value[places[s]] = out
        if len(policy):
            policy[s] = choice
        if len(weight) and weight[s]:
            expected += weight[s] * np.asarray(out)
