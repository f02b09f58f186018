"""Robust values of a component with a cycle, by strategy iteration: rows for the agent, distributions for nature.

Nature first moves mass to states that are not successors, which count as value 0, and takes it from the successors of
highest value. So a row whose set holds more than one distribution always loses mass, states can stay among themselves
for ever by the other rows alone, and those are merged as in plain models. For a fixed choice of nature the model is a
plain one, solved as in `_stopping.py`. Then nature takes a worse distribution in every row where that loses more than
rounding does, and so on until there is none.

The proof is that of `_stopping.py`, with w >= 1 + q w in all rows and for all distributions q of nature: from above for
the last choice of nature, from below for the rows of the agent under the worst distributions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from math import log2
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from selfreg._core._components_py import MOST_PRODUCTS, TooSlow
from selfreg._util.validate import EPSILON
from selfreg.planning._component_rows import Rows, component_rows
from selfreg.planning._stopping import MOST_STEPS, ROUNDS, STOP, Layer, Optimum, Stopping, policy_of_layer
from selfreg.planning._structure import Arrays, Components, Ints, Problem, analyse, row_of_entry

Floats = npt.NDArray[np.float64]
Choice = npt.NDArray[np.int64]
# (members, most sweeps, target change, values, policy) -> number of sweeps
Sweep: TypeAlias = Callable[[Ints, int, float, Floats, npt.NDArray[np.int8]], int]


class RowMoves(NamedTuple):
    """What nature can do with every row; one entry per action.

    Successor `j` can lose at most `down_j` and gain at most `up_j`; all other states together gain at most `outside`.
    Unlike the ends of intervals, small moves keep all their digits.
    """

    down: list[Floats]
    up: list[Floats]
    outside: list[Floats]

    def lost_mass(self, a: int, indptr: npt.NDArray[np.int64]) -> Floats:
        """Mass of every row that the worst distribution moves to other states."""
        movable = np.bincount(row_of_entry(indptr), self.down[a], len(self.outside[a]))
        return np.minimum(self.outside[a], movable)


class DoubtfulModel(NamedTuple):
    """A model whose actions are split in two: 2a has the rows that nature cannot change, 2a + 1 the others.

    Attributes
    ----------
    arrays, down, up
        Entries of the 2k actions: probabilities, and as in `RowMoves`.
    lost : list of float64 (n,)
        Of the k actions, as `RowMoves.lost_mass`.
    kept : int64 (2k,)
        0 for rows without doubt of free actions, which may stay in a group for ever.
    structure : Components
        Solving order, with the groups that rows without doubt keep together.
    """

    arrays: Arrays
    down: Arrays
    up: Arrays
    lost: list[Floats]
    kept: npt.NDArray[np.int64]
    structure: Components


def split_by_doubt(
    arrays: Arrays,
    moves: RowMoves,
    offset: npt.NDArray[np.int64],
    terminal: npt.NDArray[np.bool_],
    implementation: str | None,
) -> DoubtfulModel:
    """The rows of a model with cycles in two parts each, and its groups."""
    parts: tuple[Arrays, Arrays, Arrays] = (Arrays([], [], []), Arrays([], [], []), Arrays([], [], []))
    lost = [moves.lost_mass(a, pointer) for a, pointer in enumerate(arrays.indptr)]
    for a, pointer in enumerate(arrays.indptr):
        for mask in (lost[a] == 0.0, lost[a] > 0.0):
            length = np.diff(pointer)
            starts = np.concatenate([[0], np.cumsum(np.where(mask, length, 0))]).astype(np.int64)
            entries = np.repeat(mask, length)
            for part, data in zip(parts, (arrays.data[a], moves.down[a], moves.up[a]), strict=True):
                part.indptr.append(starts)
                part.indices.append(arrays.indices[a][entries])
                part.data.append(data[entries])
    kept = np.repeat(offset, 2)
    free = np.flatnonzero(kept == 0)[::2].tolist()
    kept[1::2] = 1
    structure = analyse(parts[0], terminal, free, implementation)
    assert isinstance(structure, Components)
    return DoubtfulModel(*parts, lost, kept, structure)


@dataclass(frozen=True, eq=False)
class DoubtfulRows:
    """Rows of one component and what nature can do with them; the last column stands for other states, of value 0.

    Attributes
    ----------
    rows : Rows
        As observed. `outer` is one shorter than the matrix says, which has the last column too.
    down, up : float64 (entries,)
    lost : float64 (rows,)
        Mass that always goes to the last column.
    """

    rows: Rows
    down: Floats
    up: Floats
    lost: Floats

    @cached_property
    def entry_row(self) -> Ints:
        return row_of_entry(self.rows.matrix.indptr)

    @cached_property
    def moved(self) -> Floats:
        """Mass (rows,) that nature takes from the successors of highest value."""
        return np.bincount(self.entry_row, self.up, len(self.lost)) + self.lost

    @cached_property
    def error(self) -> float:
        """Error of values from the rounding of nature's distributions.

        Relative errors of entries count twice a group (see `factorise`). What is moved is off by a part of itself, and
        a row is left after 1 / `lost` visits.
        """
        doubtful = self.lost > 0.0
        ratio = float((self.moved[doubtful] / self.lost[doubtful]).max(initial=0.0))
        sums = 2.0 * log2(4.0 + int(np.diff(self.rows.matrix.indptr).max(initial=0)))
        return EPSILON * (6.0 * (len(self.rows.first) - 1) + 2.0 * sums * ratio)

    def worst(self, high: Floats, low: Floats) -> Floats:
        """Entries of `rows.matrix` under the worst distributions for the values high + low (columns,)."""
        matrix, row = self.rows.matrix, self.entry_row
        last = matrix.indices == matrix.shape[1] - 1
        room = self.down + self.up
        order = np.lexsort((-low[matrix.indices], -high[matrix.indices], row))
        cut = np.empty(len(row))
        cut[order] = np.clip(self.moved[row] - _sums_before(room[order], matrix.indptr), 0.0, room[order])
        data = np.where(cut == room, matrix.data - self.down, matrix.data + (self.up - cut))
        return np.where(last, self.lost[row], np.maximum(data, 0.0))

    def with_entries(self, data: Floats) -> Rows:
        matrix = self.rows.matrix
        return self.rows._replace(matrix=sp.csr_array((data, matrix.indices, matrix.indptr), shape=matrix.shape))


def _sums_before(amounts: Floats, indptr: npt.NDArray[np.integer]) -> Floats:
    """Sum of the amounts (entries,) before each entry in its row, with small relative errors."""
    place = np.arange(len(amounts)) - np.repeat(indptr[:-1], np.diff(indptr))
    result = np.where(place > 0, np.roll(amounts, 1), 0.0)
    shift, longest = 1, int(np.diff(indptr).max(initial=0))
    while shift < longest:
        result[shift:] = result[shift:] + np.where(place[shift:] >= shift, result[:-shift], 0.0)
        shift *= 2
    return result


def doubtful_rows(model: DoubtfulModel, states: npt.NDArray[np.int64], offset: npt.NDArray[np.int64]) -> DoubtfulRows:
    """Rows of the component of `states`, over the k actions."""
    labels = model.structure.component, model.structure.group
    parts = [component_rows(part, model.kept, states, *labels) for part in (model.arrays, model.down, model.up)]
    rows, action = parts[0], parts[0].action // 2
    lost = np.zeros(len(action))
    for a in np.unique(action).tolist():
        here = action == a
        lost[here] = model.lost[a][rows.state[here]]
    column = sp.csr_array(np.maximum(lost, 1e-300)[:, None])  # an entry in every row
    matrix = sp.csr_array(sp.hstack([rows.matrix, column], format="csr"))
    down, up = (sp.csr_array(sp.hstack([part.matrix, 0 * column], format="csr")).data for part in parts[1:])
    last = matrix.indices == matrix.shape[1] - 1
    matrix.data[last] = lost
    return DoubtfulRows(rows._replace(matrix=matrix, action=action, offset=offset[action]), down, up, lost)


class RobustComponent:
    """One component of a model in which nature chooses the distributions of rows."""

    def __init__(self, doubt: DoubtfulRows, implementation: str | None) -> None:
        self.doubt, self.implementation = doubt, implementation
        self.observed = Stopping(doubt.rows, implementation)
        self.entries = doubt.worst(*np.zeros((2, doubt.rows.matrix.shape[1])))

    def stopping(self, data: Floats) -> Stopping:
        """The plain problem for a choice of nature; what does not depend on it is computed once."""
        result = Stopping(self.doubt.with_entries(data), self.implementation)
        for name in ("order", "first_choice"):
            vars(result)[name] = getattr(self.observed, name)
        return result

    @cached_property
    def steps(self) -> float:
        """Largest entry of some w >= 1 + q w in all free rows, for all choices of nature; inf if none was found."""
        if not len(self.observed.free):
            return 1.0
        choice, data = self.observed.first_choice, self.entries
        right, seen = (choice != STOP).astype(np.float64), set()
        for _ in range(ROUNDS):
            solver = self.stopping(data).solver(choice)
            if solver is None or (key := choice.tobytes() + data.tobytes()) in seen:
                return np.inf
            seen.add(key)
            w = solver(right)
            if not (np.isfinite(w).all() and w.min(initial=0.0) >= 0.0 and w.max(initial=0.0) <= MOST_STEPS):
                return np.inf
            high = np.concatenate([w, np.zeros(self.doubt.rows.matrix.shape[1] - len(w))])
            longest = self.doubt.worst(-high, 0 * high)
            short = 1.0 + self.stopping(longest).gains(high, 0 * high)
            if short.max(initial=0.0) <= 0.5:
                return 2.0 * max(1.0, float(w.max(initial=0.0)))
            best, row = self.observed.best_rows(short)
            choice = np.where(best > 0.25, row, choice)
            data = np.where(np.isin(self.doubt.entry_row, choice), longest, data)
        return np.inf

    @property
    def enough(self) -> float:
        """As `Stopping.enough`."""
        return 1e-3 * EPSILON / self.steps

    def solve_layers(
        self,
        layers: Callable[[int], Layer],
        count: int,
        tolerance: float,
        keep: Callable[[int, Layer, Optimum, float], None],
    ) -> float:
        """Solve `count` layers in turn and `keep` each; the sum of their errors, inf if one failed."""
        if not np.isfinite(self.steps):
            return np.inf
        choice, total = self.observed.first_choice, 0.0
        for b in range(count):
            layer = layers(b)
            optimum = self.solve(layer, choice, tolerance)
            if optimum is None:
                return np.inf
            keep(b, layer, optimum, self.enough)
            choice, total = optimum.choice, total + optimum.error + self.doubt.error
        return total

    def solve(self, layer: Layer, choice: Choice, tolerance: float) -> Optimum | None:
        """Strategy iteration from `choice` and the last choice of nature; None if the tolerance was not reached."""
        least = tolerance / (4.0 * self.steps)
        for _ in range(ROUNDS):
            stopping = self.stopping(self.entries)
            vars(stopping)["steps"] = self.steps
            optimum = stopping.solve(layer, choice, tolerance)
            if optimum is None:
                return None
            choice = optimum.choice
            high, low = np.concatenate([optimum.value, layer.outer]), np.concatenate([optimum.rest, 0 * layer.outer])
            worst = self.doubt.worst(high, low)
            gain = self.stopping(worst).gains(high, low)
            worse = gain < optimum.gain - least
            if not worse.any():
                taken = gain[choice[choice != STOP]]
                error = optimum.error + (max(0.0, -float(taken.min(initial=0.0))) + stopping.rounding) * self.steps
                return optimum._replace(gain=gain, error=error) if error <= tolerance else None
            self.entries = np.where(worse[self.doubt.entry_row], worst, self.entries)
        return None


def solve_component(
    model: DoubtfulModel,
    c: int,
    offset: npt.NDArray[np.int64],
    affordable: npt.NDArray[np.uint8],
    tolerance: float,
    value: Floats,
    policy: npt.NDArray[np.int8],
    implementation: str | None,
) -> float:
    """Solve component `c`; those before it are solved. The sum of its errors in all layers; inf if one failed."""
    members, starts = model.structure.members, model.structure.starts
    doubt = doubtful_rows(model, members[starts[c] : starts[c + 1]].astype(np.int64), offset)
    rows, parts = doubt.rows, model.arrays
    certain, free = Arrays(parts.indptr[::2], parts.indices[::2], parts.data[::2]), np.flatnonzero(offset == 0).tolist()
    if not len(rows.action):  # no row leaves
        return 0.0
    component = RobustComponent(doubt, implementation)

    def layers(b: int) -> Layer:
        return _layer(doubt, offset, affordable, b, value)

    def keep(b: int, layer: Layer, optimum: Optimum, enough: float) -> None:
        value[rows.members, b] = np.repeat(np.clip(optimum.value, 0.0, 1.0), np.diff(rows.first))
        policy_of_layer(certain, free, component.observed, layer, optimum, enough, model.structure.group, b, policy)

    count: int = value.shape[1]
    total: float = component.solve_layers(layers, count, tolerance, keep)
    if not np.isfinite(total) and component.observed.fewest_products <= MOST_PRODUCTS:
        total = _solve_in_decimals(doubt, layers, count, keep)
    longest = int(np.diff(rows.matrix.indptr).max(initial=0))
    return total + count * (longest + 4) * EPSILON


def _solve_in_decimals(
    doubt: DoubtfulRows, layers: Callable[[int], Layer], count: int, keep: Callable[[int, Layer, Optimum, float], None]
) -> float:
    # Rarely needed.
    from selfreg.planning._robust_decimals import DecimalComponent

    def keep_rounded(b: int, layer: Layer, optimum: Optimum) -> None:
        keep(b, layer, optimum, 2 * EPSILON)

    try:
        component = DecimalComponent(doubt.rows, doubt.down, doubt.up, doubt.lost)
        return component.solve(layers, count, keep_rounded)
    except TooSlow:
        return np.inf


def _layer(
    doubt: DoubtfulRows, offset: npt.NDArray[np.int64], affordable: npt.NDArray[np.uint8], b: int, value: Floats
) -> Layer:
    """Constants of layer `b`: costly help is worth its worst expectation."""
    rows = doubt.rows
    paid = np.full(len(rows.action), -np.inf)
    for a in np.unique(rows.action[rows.offset > 0]).tolist():
        if not affordable[a, b]:
            continue
        below, taken = b - int(offset[a]), np.flatnonzero(rows.action == a)
        high = np.concatenate([value[rows.members[rows.first[:-1]], below], value[rows.outer, below], [0.0]])
        worst = doubt.with_entries(doubt.worst(high, 0 * high)).matrix[taken]
        paid[taken] = worst @ high / np.asarray(worst.sum(axis=1))
    stop = np.zeros(len(rows.first) - 1)
    np.maximum.at(stop, rows.group, paid)
    return Layer(np.append(value[rows.outer, b], 0.0), paid, stop)


def solve_by_components(
    sweep: Sweep,
    problem: Problem,
    moves: RowMoves,
    terminal: npt.NDArray[np.bool_],
    tol: float,
    value: Floats,
    policy: npt.NDArray[np.int8],
    implementation: str | None,
) -> float:
    """Solve all components; the largest error of the values, inf where one could not be solved.

    States without a cycle need one sweep.
    """
    model = split_by_doubt(problem.arrays, moves, problem.offset, terminal, implementation)
    members, starts = model.structure.members, model.structure.starts
    loops = ~terminal & _self_loops(problem.arrays)
    cyclic = np.flatnonzero((np.diff(starts) > 1) | loops[members[starts[:-1]]]).tolist()
    tolerance, total, done = tol / (8.0 * max(len(cyclic), 1) * value.shape[1]), 0.0, 0
    for c in cyclic:
        sweep(members[starts[done] : starts[c]], 1, 0.0, value, policy)
        total += solve_component(model, c, problem.offset, problem.affordable, tolerance, value, policy, implementation)
        if total > tol:
            return np.inf
        done = c + 1
    sweep(members[starts[done] :], 1, 0.0, value, policy)
    return total


def _self_loops(arrays: Arrays) -> npt.NDArray[np.bool_]:
    """bool (n,): states with a row that leads back to them."""
    result = np.zeros(len(arrays.indptr[0]) - 1, np.bool_)
    for pointer, column in zip(arrays.indptr, arrays.indices, strict=True):
        result[column[column == row_of_entry(pointer)]] = True
    return result
