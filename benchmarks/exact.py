"""Exact answers for small models, in rational arithmetic, and random models on which double precision is hard.

The model is the one whose rows are divided by their exact sums. Nothing here shares code with the solver.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

import selfreg

Row = dict[int, Fraction]
Rows = list[list[Row]]  # by action, then state
Floats = npt.NDArray[np.float64]
ZERO, ONE = Fraction(0), Fraction(1)


def exact_rows(mdp: selfreg.InterventionMDP) -> Rows:
    """Successors of every state under every action, divided by their exact sum; empty where unavailable."""
    result = []
    for name in mdp.actions:
        matrix = mdp.transitions[name]
        rows: list[Row] = []
        for s in range(mdp.n_states):
            part = slice(matrix.indptr[s], matrix.indptr[s + 1])
            row = {int(j): Fraction(float(p)) for j, p in zip(matrix.indices[part], matrix.data[part], strict=True)}
            total = sum(row.values(), ZERO)
            rows.append({} if mdp.terminal[s] else {j: p / total for j, p in row.items()})
        result.append(rows)
    return result


def least_solution(rows: Mapping[int, Row], constants: Mapping[int, Fraction]) -> dict[int, Fraction]:
    """Least x >= 0 with x(s) = constants(s) + sum_j rows(s)(j) x(j): 0 where no constant can be reached."""
    reaching, grew = {s for s, constant in constants.items() if constant}, True
    while grew:
        more = {s for s, row in rows.items() if s not in reaching and any(j in reaching for j in row)}
        reaching, grew = reaching | more, bool(more)
    states = sorted(reaching)
    system = {s: {j: -p for j, p in rows[s].items() if j in reaching} for s in states}
    right = {s: constants[s] for s in states}
    for s in states:
        system[s][s] = system[s].get(s, ZERO) + 1
    for i, s in enumerate(states):
        for t in states[i + 1 :]:
            factor = system[t].pop(s, ZERO) / system[s][s]
            if factor:
                for j, p in system[s].items():
                    if j != s:
                        system[t][j] = system[t].get(j, ZERO) - factor * p
                right[t] -= factor * right[s]
    result = dict.fromkeys(rows, ZERO)
    for s in reversed(states):
        later = sum((p * result[j] for j, p in system[s].items() if j != s), ZERO)
        result[s] = (right[s] - later) / system[s][s]
    return result


class Lattice:
    """Points of the budget lattice in C order, and what each action of a model leaves of them."""

    def __init__(self, mdp: selfreg.InterventionMDP, budget: Sequence[int]) -> None:
        self.shape = tuple(b + 1 for b in budget)
        self.points = list(product(*(range(size) for size in self.shape)))
        self.costs = [tuple(int(c) for c in row) for row in mdp.cost_table]

    def below(self, point: tuple[int, ...], action: int) -> tuple[int, ...] | None:
        """The point after paying for `action`; None where it is not affordable."""
        left = tuple(b - c for b, c in zip(point, self.costs[action], strict=True))
        return None if min(left) < 0 else left


def exact_value(mdp: selfreg.InterventionMDP, budget: Sequence[int]) -> dict[tuple[int, ...], list[Fraction]]:
    """Best success of every state, by point of the budget lattice: policy iteration, one layer after the other."""
    rows, lattice = exact_rows(mdp), Lattice(mdp, budget)
    value: dict[tuple[int, ...], list[Fraction]] = {}
    for point in lattice.points:
        stop = [ZERO if np.isnan(g) else Fraction(float(g)) for g in mdp.terminal_value]
        free: list[list[Row]] = [[] for _ in stop]
        for a, by_state in enumerate(rows):
            below = lattice.below(point, a)
            for s, row in enumerate(by_state):
                if row and below == point:
                    free[s].append(row)
                elif row and below is not None:
                    stop[s] = max(stop[s], expectation(row, value[below]))
        value[point] = best_stopping(stop, free)
    return value


def expectation(row: Row, value: Sequence[Fraction]) -> Fraction:
    return sum((p * value[j] for j, p in row.items()), ZERO)


def best_stopping(stop: Sequence[Fraction], free: Sequence[Sequence[Row]]) -> list[Fraction]:
    """Best of stopping for `stop` or continuing with one of the `free` rows of a state; waiting for ever is worth 0.

    The first policy reaches a positive stop wherever one can be reached, and a switch must gain: no policy that is
    visited waits for ever where it could do better.
    """
    n = len(stop)
    taken: dict[int, Row | None] = {s: None for s in range(n) if stop[s]}
    grew = True
    while grew:
        grew = False
        for s in range(n):
            row = next((row for row in free[s] if any(j in taken for j in row)), None) if s not in taken else None
            if row is not None:
                taken[s], grew = row, True
    while True:
        chosen = {s: row for s, row in taken.items() if row is not None}
        rows = {s: chosen.get(s, {}) for s in range(n)}
        solved = least_solution(rows, {s: ZERO if s in chosen else stop[s] for s in range(n)})
        value = [solved[s] for s in range(n)]
        switched = False
        for s in taken:
            gains = [(stop[s], None), *((expectation(row, value), row) for row in free[s])]
            gain, row = max(gains, key=lambda pair: pair[0])
            if gain > value[s]:
                taken[s], switched = row, True
        if not switched:
            return value


class Doubt(NamedTuple):
    """Sets around the rows of a model: L1 balls, or intervals of a `width`, per action and state."""

    sizes: Mapping[str, Floats]
    intervals: bool

    def sets(self) -> selfreg.L1 | selfreg.Intervals:
        """The same as an argument of `solve`."""
        return selfreg.Intervals(width=self.sizes) if self.intervals else selfreg.L1(radius=self.sizes)

    def worst(self, name: str, s: int, row: Row, value: Sequence[Fraction]) -> Row:
        """The distribution of least expectation; what it lacks to 1 goes to states of value 0."""
        size = Fraction(float(self.sizes[name][s]))
        outside, ends = size / 2, {j: (ZERO, p) for j, p in row.items()}
        if self.intervals:
            outside, ends = size, {j: (max(p - size, ZERO), min(p + size, ONE)) for j, p in row.items()}
        least = sum((low for low, _ in ends.values()), ZERO)
        left, result = max(ONE - outside - least, ZERO), {}
        for j in sorted(row, key=lambda j: value[j]):
            more = min(ends[j][1] - ends[j][0], left)
            left -= more
            result[j] = ends[j][0] + more
        return {j: p for j, p in result.items() if p}


def exact_robust(
    mdp: selfreg.InterventionMDP, budget: Sequence[int], doubt: Doubt, policy: npt.NDArray[Any] | None = None
) -> dict[tuple[int, ...], list[Fraction]]:
    """Best success under the worst rows, or that of a hard-budget policy, by point of the budget lattice.

    For fixed rows the best policy is found, then the rows are made worse for its values, until none gets worse.
    """
    rows, lattice = exact_rows(mdp), Lattice(mdp, budget)
    value: dict[tuple[int, ...], list[Fraction]] = {}
    for point in lattice.points:
        stop = [ZERO if np.isnan(g) else Fraction(float(g)) for g in mdp.terminal_value]
        free: list[tuple[str, int, Row]] = []
        for a, (name, by_state) in enumerate(zip(mdp.actions, rows, strict=True)):
            below = lattice.below(point, a)
            for s, row in enumerate(by_state):
                if not row or below is None or (policy is not None and policy[(s, *point)] != a):
                    continue
                if below == point:
                    free.append((name, s, row))
                else:
                    stop[s] = max(stop[s], expectation(doubt.worst(name, s, row, value[below]), value[below]))
        value[point] = _worst_stopping(stop, free, doubt)
    return value


def _worst_stopping(stop: Sequence[Fraction], free: Sequence[tuple[str, int, Row]], doubt: Doubt) -> list[Fraction]:
    """As `best_stopping`, with the worst of the `free` rows (action, state, row)."""
    taken = [doubt.worst(*one, stop) for one in free]
    while True:
        by_state: list[list[Row]] = [[] for _ in stop]
        for (_, s, _), row in zip(free, taken, strict=True):
            by_state[s].append(row)
        value = best_stopping(stop, by_state)
        worst = [doubt.worst(*one, value) for one in free]
        worse = [expectation(new, value) < expectation(old, value) for new, old in zip(worst, taken, strict=True)]
        if not any(worse):
            return value
        taken = [new if better else old for new, old, better in zip(worst, taken, worse, strict=True)]


class ExactPolicy:
    """Success, usage and the distribution of usage under a hard-budget policy, by point of the budget lattice.

    Attributes
    ----------
    success : dict of point to list of Fraction (n,)
    spent : dict of point to dict of units to list of Fraction (n,)
        Probability of spending exactly so much; what never ends counts with what it has spent.
    """

    def __init__(self, mdp: selfreg.InterventionMDP, policy: npt.NDArray[Any]) -> None:
        self.n, self.policy, self.rows = mdp.n_states, policy, exact_rows(mdp)
        self.live = [bool(np.isnan(g)) for g in mdp.terminal_value]
        self.lattice = Lattice(mdp, tuple(size - 1 for size in policy.shape[1:]))
        self.end = [ZERO if np.isnan(g) else Fraction(float(g)) for g in mdp.terminal_value]
        self.success: dict[tuple[int, ...], list[Fraction]] = {}
        self.spent: dict[tuple[int, ...], dict[tuple[int, ...], list[Fraction]]] = {}
        for point in self.lattice.points:
            self._solve(point)

    def usage(self, point: tuple[int, ...], state: int, budget: int = 0) -> Fraction:
        """Expected units of one budget."""
        return sum((units[budget] * p[state] for units, p in self.spent[point].items()), ZERO)

    def _solve(self, point: tuple[int, ...]) -> None:
        rows: dict[int, Row] = {s: {} for s in range(self.n)}
        end = dict(enumerate(self.end))
        spent = {units: dict.fromkeys(range(self.n), ZERO) for units in self.lattice.points}
        for s in range(self.n):
            if not self.live[s]:
                continue
            action = int(self.policy[(s, *point)])
            below, row = self.lattice.below(point, action), self.rows[action][s]
            assert below is not None, f"action {action} in state {s} at {point} is not affordable"
            assert row, f"action {action} in state {s} at {point} is unavailable"
            if below == point:
                rows[s] = row
                continue
            end[s] = expectation(row, self.success[below])
            for units, p in self.spent[below].items():
                total = tuple(u + c for u, c in zip(units, self.lattice.costs[action], strict=True))
                if total in spent:
                    spent[total][s] += expectation(row, p)
        self.success[point] = list(least_solution(rows, end).values())
        solved = {units: list(least_solution(rows, constant).values()) for units, constant in spent.items()}
        nothing = self.lattice.points[0]
        solved[nothing] = [ONE - sum((p[s] for u, p in solved.items() if u != nothing), ZERO) for s in range(self.n)]
        self.spent[point] = solved


# ---- random models -----------------------------------------------------------------------------------------------


def nasty_model(random: np.random.Generator) -> tuple[selfreg.InterventionMDP, tuple[int, ...]]:
    """A model of 2 to 6 live states on which double precision is hard, and a budget of 0 to 2.

    Exits of 1e-1 to 1e-30, pairs that are nearly closed, end components, rows whose sums miss 1 by some units in the
    last place, help that loops back, free help.
    """
    live = int(random.integers(2, 7))
    names = ["nohelp", "help", "other"][: int(random.integers(1, 4))]
    matrices = {}
    for name in names:
        matrix = np.zeros((live + 3, live + 3))
        for s in range(live):
            if name == "nohelp" or random.random() < 0.7:
                matrix[s] = _nasty_row(random, s, live)
        matrices[name] = matrix
    costs = {name: int(random.choice([0, 1, 1, 1, 2])) for name in names[1:]}
    value = [np.nan] * live + [1.0, 0.0, float(random.choice([0.0, 1.0, random.random()]))]
    return selfreg.InterventionMDP(matrices, value, costs), (int(random.integers(0, 3)),)


def nasty_doubt(random: np.random.Generator, mdp: selfreg.InterventionMDP) -> Doubt:
    """Sets of sizes from 1 to 1e-20 around some rows, none around others."""
    sizes = {}
    for name in mdp.actions:
        doubtful = random.random(mdp.n_states) < random.choice([0.2, 0.5, 1.0])
        sizes[name] = np.where(doubtful, 10.0 ** -random.uniform(0, random.choice([4, 20]), mdp.n_states), 0.0)
    return Doubt(sizes, bool(random.random() < 0.5))


def _nasty_row(random: np.random.Generator, s: int, live: int) -> Floats:
    row, kind = np.zeros(live + 3), random.integers(0, 6)
    tiny = 10.0 ** -random.uniform(1, 30)
    partner = s ^ 1 if s ^ 1 < live else int(random.integers(0, live))
    if kind == 0:  # a nearly closed pair
        row[partner] = 1.0 - tiny
        row[live + random.integers(0, 3)] += tiny
    elif kind == 1:  # stays with most of its mass
        row[s] = random.random()
        row[partner] += 1.0 - row[s]
        row[int(random.integers(0, live + 3))] += tiny
    elif kind == 2:  # to any states, with weights of all sizes
        targets = random.choice(live + 3, int(random.integers(1, 4)), replace=False)
        row[targets] = 10.0 ** -random.uniform(0, 12, len(targets))
    elif kind == 3:  # closed
        row[[s, partner]] += random.dirichlet(np.ones(2))
    elif kind == 4:  # everywhere
        row[:live] = random.dirichlet(np.ones(live))
        row[live + random.integers(0, 3, 2)] += tiny * random.random(2)
    else:  # small integers, for ties
        row[random.choice(live + 3, 2, replace=False)] = random.integers(1, 3, 2)
    row /= row.sum()
    return row * (1.0 + random.integers(-3, 4) * 2.0**-53 if random.random() < 0.5 else 1.0)
