"""Hypothesis strategies, named by the shape of the model that they draw."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from hypothesis import strategies as st

import selfreg


@dataclass
class Counter:
    count: int = 0


EXAMPLES = Counter()


def _row(draw, targets: list[int], n: int) -> list[Fraction]:
    """A distribution over up to three targets, with small integer weights so that ties are common."""
    support = draw(st.lists(st.sampled_from(targets), min_size=1, max_size=3, unique=True))
    weights = [draw(st.integers(1, 2)) for _ in support]
    row = [Fraction(0)] * n
    for j, weight in zip(support, weights, strict=True):
        row[j] = Fraction(weight, sum(weights))
    return row


@st.composite
def raw_models(draw, *, cyclic: bool, max_live: int = 4, max_help: int = 2, zero_cost: bool = True, budgets: int = 0):
    """(matrices, terminal_value, costs, budget) before construction; dense float64 matrices."""
    EXAMPLES.count += 1
    n_live = draw(st.integers(0, max_live))
    values = [0.0, 1.0, *draw(st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), max_size=1))]
    if n_live == 0:
        values = values[: draw(st.integers(1, len(values)))]
    n = n_live + len(values)
    n_help = draw(st.integers(0, max_help))
    m = budgets or draw(st.integers(1, 2))
    names = ["nohelp", *(f"help{k}" for k in range(n_help))]
    matrices = {}
    for name in names:
        rows = [[Fraction(0)] * n for _ in range(n)]
        for s in range(n_live):
            if name == "nohelp" or draw(st.integers(0, 3)):
                first = 0 if cyclic else s + 1
                rows[s] = _row(draw, list(range(first, n)), n)
        matrices[name] = np.array(rows, dtype=np.float64)
    least = 0 if zero_cost else 1
    costs = {name: tuple(draw(st.integers(least, 2)) for _ in range(m)) for name in names[1:]}
    terminal_value = np.array([np.nan] * n_live + values)
    top = 3 if m == 1 else 2
    budget = tuple(draw(st.integers(0, top)) for _ in range(m))
    if draw(st.booleans()):  # relabel, so that nothing leans on the order of states
        order = np.array(draw(st.permutations(range(n))))
        matrices = {name: matrix[np.ix_(order, order)] for name, matrix in matrices.items()}
        terminal_value = terminal_value[order]
    return matrices, terminal_value, costs, budget


@st.composite
def models(draw, *, cyclic: bool | None = None, **shape):
    """(InterventionMDP, budget)."""
    kind = draw(st.booleans()) if cyclic is None else cyclic
    matrices, terminal_value, costs, budget = draw(raw_models(cyclic=kind, **shape))
    if not costs:
        budget = budget[:1]
    return selfreg.InterventionMDP(matrices, terminal_value, costs), budget
