"""Robust plans: hard budgets against the worst model of an uncertainty set around every row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import log, prod
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from selfreg._core import chooser
from selfreg._util import validate
from selfreg.mdp import InterventionMDP
from selfreg.planning._robust_cycles import RowMoves, Sweep, solve_by_components
from selfreg.planning._structure import Components, Levels, Problem, budget_lattice, load_structure, row_of_entry
from selfreg.planning.hard import MAX_SWEEPS, solve
from selfreg.planning.solution import ConvergenceError, Solution, shift_by_cost

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int32]
ByRow: TypeAlias = float | Mapping[str, npt.ArrayLike]

# Sweeps are tried first where every row loses at least this mass, so that few steps lead to other states.
LEAK, FEW_SWEEPS, FEW_PRODUCTS = 1e-4, 500, 1e8


class RowSets(NamedTuple):
    """Intervals around every row in kernel form; one entry per action.

    The set of a row holds every distribution that gives successor `j` between `low_j` and `low_j + room_j`, and the
    remaining mass, at most 1 - sum(low) - `rest`, to states that are not successors of the row. These count as value 0.
    """

    low: list[Floats]
    room: list[Floats]
    rest: list[Floats]


@dataclass(frozen=True)
class L1:
    """Every distribution within an L1 distance of a row, including distributions over other states.

    Parameters
    ----------
    confidence : float, optional
        Confidence in (0, 1) with which the set of a row holds the true row. The radius is then that of Weissman et
        al. (2003), "Inequalities for the L1 deviation of the empirical distribution":
        P(distance >= r) <= (2^m - 2) exp(-n r^2 / 2) for n observations of m outcomes, so that
        r = sqrt(2 ln((2^m - 2) / (1 - confidence)) / n). n is `mdp.visits`; m counts the successors of the row, and
        one more for all other states together. Without observations r = 2, which is every distribution.
    radius : float, or mapping of action to float or (n,) array_like, optional
        The distance itself, in [0, 2], instead of a confidence.
    joint : bool
        Whether the confidence is for all rows jointly (Bonferroni): the value is then a lower bound of the true value
        at that confidence. By default it is for each row alone, which is less strict.

    Raises
    ------
    ValueError
        If not exactly one of confidence and radius is given, or a number is out of range.

    Examples
    --------
    >>> import numpy as np, selfreg
    >>> alone = np.array([[0, .5, .5], [0, 0, 0], [0, 0, 0]])
    >>> helped = np.array([[0, .9, .1], [0, 0, 0], [0, 0, 0]])
    >>> visits = {"nohelp": [200, 0, 0], "help": [3, 0, 0]}
    >>> mdp = selfreg.InterventionMDP(
    ...     {"nohelp": alone, "help": helped}, [np.nan, 1, 0], {"help": 1}, visits=visits
    ... )
    >>> selfreg.solve(mdp, 1).value[0].tolist()
    [0.5, 0.9]

    With three observations, help is not better than acting alone with 200 observations:

    >>> selfreg.solve(mdp, 1, robust=selfreg.L1(confidence=0.9)).value[0].round(3).tolist()
    [0.399, 0.399]
    """

    confidence: float | None = None
    radius: ByRow | None = None
    joint: bool = False

    def __post_init__(self) -> None:
        _check_numbers(self.confidence, "radius", self.radius, 2.0)

    def row_sets(self, mdp: InterventionMDP) -> RowSets:
        """The sets of every row of a model."""
        low, room, rest = [], [], []
        for name, radius in zip(mdp.actions, self._radii(mdp), strict=True):
            matrix = mdp.transitions[name]
            low.append(np.zeros(matrix.nnz))
            room.append(np.ascontiguousarray(matrix.data, dtype=np.float64))
            rest.append(1.0 - 0.5 * radius)
        return RowSets(low, room, rest)

    def row_moves(self, mdp: InterventionMDP) -> RowMoves:
        """The same sets as what can be moved, to the last digit."""
        data = [np.ascontiguousarray(matrix.data, dtype=np.float64) for matrix in mdp.transitions.values()]
        return RowMoves(data, [np.zeros(len(part)) for part in data], [0.5 * radius for radius in self._radii(mdp)])

    def _radii(self, mdp: InterventionMDP) -> list[Floats]:
        if self.confidence is None:
            return _spread_by_row("radius", self.radius, mdp)
        visits, error = _require_visits(mdp), _error(self.confidence, self.joint, mdp)
        return [_weissman(visits[name], _outcomes(mdp, name), error) for name in mdp.actions]


@dataclass(frozen=True)
class Intervals:
    """Every distribution whose probabilities lie in intervals around those of a row.

    Parameters
    ----------
    confidence : float, optional
        Confidence in (0, 1) with which the set of a row holds the true row: Clopper-Pearson intervals (1934) from
        `mdp.visits`, for the successors of the row and one more outcome for all other states together (Bonferroni).
    width : float, or mapping of action to float or (n,) array_like, optional
        Half the width of every interval of a row, in [0, 1], instead of a confidence.
    joint : bool
        As in `L1`.

    Raises
    ------
    ValueError
        If not exactly one of confidence and width is given, or a number is out of range.

    Examples
    --------
    >>> import numpy as np, selfreg
    >>> alone = np.array([[0, .5, .5], [0, 0, 0], [0, 0, 0]])
    >>> mdp = selfreg.InterventionMDP({"nohelp": alone}, [np.nan, 1, 0], {})
    >>> selfreg.solve(mdp, 0, robust=selfreg.Intervals(width=0.1)).value[0].round(3).tolist()
    [0.4]
    """

    confidence: float | None = None
    width: ByRow | None = None
    joint: bool = False

    def __post_init__(self) -> None:
        _check_numbers(self.confidence, "width", self.width, 1.0)

    def row_sets(self, mdp: InterventionMDP) -> RowSets:
        """The sets of every row of a model."""
        result = RowSets([], [], [])
        for name, down, up, unseen in zip(mdp.actions, *self.row_moves(mdp), strict=True):
            matrix = mdp.transitions[name]
            below = matrix.data - down
            sums = np.bincount(row_of_entry(matrix.indptr), below, mdp.n_states)
            result.low.append(below)
            result.room.append(down + up)
            result.rest.append(np.maximum(1.0 - sums - unseen, 0.0))
        return result

    def row_moves(self, mdp: InterventionMDP) -> RowMoves:
        """The same sets as what can be moved, to the last digit."""
        widths = None if self.confidence is not None else _spread_by_row("width", self.width, mdp)
        parts = []
        for a, name in enumerate(mdp.actions):
            probability, row = mdp.transitions[name].data, row_of_entry(mdp.transitions[name].indptr)
            if widths is None:
                parts.append(self._clopper_pearson(mdp, name, probability, row))
            else:
                by_entry = widths[a][row]
                parts.append((np.minimum(probability, by_entry), np.clip(1.0 - probability, 0.0, by_entry), widths[a]))
        return RowMoves(*(list(part) for part in zip(*parts, strict=True)))

    def _clopper_pearson(
        self, mdp: InterventionMDP, name: str, probability: Floats, row: Ints
    ) -> tuple[Floats, Floats, Floats]:
        from scipy.special import betaincinv

        assert self.confidence is not None
        visits, outcomes = _require_visits(mdp)[name], _outcomes(mdp, name)
        error = _error(self.confidence, self.joint, mdp) / outcomes
        n, tail = visits[row], 0.5 * error[row]
        k = probability * n
        seen, some = n > 0, (n > 0) & (k < n * (1 - 1e-12))
        below, above = np.zeros(len(k)), np.ones(len(k))
        below[seen] = betaincinv(k[seen], n[seen] - k[seen] + 1.0, tail[seen])
        above[some] = betaincinv(k[some] + 1.0, n[some] - k[some], 1.0 - tail[some])
        # Unseen successors have an upper end only.
        unseen = np.where(visits > 0, -np.expm1(np.log(error) / np.maximum(visits, 1e-300)), 1.0)
        return np.maximum(probability - below, 0.0), np.maximum(above - probability, 0.0), unseen


UncertaintySet: TypeAlias = L1 | Intervals


@dataclass(frozen=True, eq=False, repr=False)
class RobustSolution(Solution):
    """Result of `solve(..., robust=...)`: the best policy against the worst model of the sets.

    `value` is a lower bound of the success of `policy` in every model whose rows lie in the sets.

    Attributes
    ----------
    robust : L1 or Intervals
        The sets. All other attributes are those of `Solution`; `bound` is that of the robust value.
    """

    robust: UncertaintySet

    def q(self, action: str) -> Floats:
        """Worst value of taking `action` now and following the robust policy afterwards; NaN as in `Solution.q`."""
        a = self._index(action)
        matrix, sets = self.mdp.transitions[action], self.robust.row_sets(self.mdp)
        lattice = prod(self.value.shape[1:])
        value = np.ascontiguousarray(self.value.reshape(self.mdp.n_states, lattice), dtype=np.float64)
        out = np.empty_like(value)
        chooser.kernel("robust").expect_robust(
            matrix.indptr.astype(np.int64),
            matrix.indices.astype(np.int32),
            sets.low[a],
            sets.room[a],
            sets.rest[a],
            value,
            out,
        )
        return shift_by_cost(self.mdp, a, out.reshape(self.value.shape))

    def _entry(self, action: str, place: tuple[int, ...]) -> float:
        return float(self.q(action)[place])


def solve_robust(
    mdp: InterventionMDP, budget: tuple[int, ...], sets: UncertaintySet, tol: float, implementation: str | None
) -> RobustSolution:
    """Robust solution; `selfreg.solve` checks the arguments."""
    lattice = budget_lattice(mdp, budget, implementation)
    rows, structure, n_lattice = sets.row_sets(mdp), lattice.structure, prod(lattice.shape)
    value = np.zeros((mdp.n_states, n_lattice))
    value[mdp.terminal] = mdp.terminal_value[mdp.terminal, None]
    policy = np.zeros((mdp.n_states, n_lattice), np.int8)
    kernel, terminal = chooser.kernel("robust", implementation), mdp.terminal.view(np.uint8)

    def sweep(members: Ints, most: int, enough: float, values: Floats, choice: npt.NDArray[np.int8]) -> int:
        made: int = kernel.backup_robust(
            *lattice.arrays[:2], *rows, lattice.offset, lattice.runs, terminal, members, most, enough, values, choice
        )[0]
        return made

    if isinstance(structure, Levels):
        sweep(structure.members, 1, 0.0, value, policy)
        bound = 0.0
    elif not np.any((moves := sets.row_moves(mdp)).outside):  # rows without doubt
        plain = solve(mdp, budget, tol=tol, implementation=implementation)
        value, policy, bound = plain.value, plain.policy, plain.bound
    else:
        bound = _solve_components(sweep, mdp, lattice, moves, tol, value, policy, implementation)
    shape = (mdp.n_states, *lattice.shape)
    return RobustSolution(mdp, budget, value.reshape(shape), policy.reshape(shape), bound, sets)


def robust_memory(mdp: InterventionMDP, budget: tuple[int, ...], implementation: str | None) -> int:
    """Bytes of a robust solution beyond the model: values, policy, sets, and with cycles the upper bound."""
    _, structure = load_structure(mdp, implementation)
    entries, n = sum(matrix.nnz for matrix in mdp.transitions.values()), mdp.n_states
    values = 8 * n * prod(most + 1 for most in budget)
    return int(16 * entries + 8 * n * len(mdp.actions) + values * (1 if isinstance(structure, Levels) else 4) * 9 // 8)


def _solve_components(
    sweep: Sweep,
    mdp: InterventionMDP,
    lattice: Problem,
    moves: RowMoves,
    tol: float,
    value: Floats,
    policy: npt.NDArray[np.int8],
    implementation: str | None,
) -> float:
    """Fill `value` and `policy` of a model with cycles; the proven bound.

    Few sweeps are tried first, strategy iteration component by component then, and many sweeps for what is too large.
    """
    structure, indptr = lattice.structure, lattice.arrays.indptr
    assert isinstance(structure, Components)
    lost = [moves.lost_mass(a, pointer)[~mdp.terminal & (np.diff(pointer) > 0)] for a, pointer in enumerate(indptr)]
    leak = min(float(part.min(initial=1.0)) for part in lost)
    start = value.copy()

    def try_sweeps(most: int) -> float:
        """Sweeps from below; their bound, inf if they prove nothing."""
        if leak < LEAK:
            return np.inf
        value[...], policy[...] = start, 0
        rounding = _rounding(indptr)
        proven = _sweep_and_prove(sweep, structure, mdp.terminal, tol, most, rounding, value, policy)
        return proven + rounding / leak

    products = value.shape[1] * sum(len(columns) for columns in lattice.arrays.indices)
    if (bound := try_sweeps(int(np.clip(FEW_PRODUCTS / products, 20, FEW_SWEEPS)))) <= tol:
        return bound
    value[...], policy[...] = start, 0
    error = solve_by_components(sweep, lattice, moves, mdp.terminal, tol, value, policy, implementation)
    if 2.0 * error <= tol:
        return 2.0 * error
    if (bound := try_sweeps(MAX_SWEEPS)) <= tol:
        return bound
    bound = min(bound, 2.0 * error, 1.0)
    raise ConvergenceError(
        f"tol={tol:g} was not reached; the bound reached is {bound:g}. Under the worst model of the sets some states "
        "hardly ever leave, or a component is too large: wider sets let more mass leave",
        bound,
    )


def _sweep_and_prove(
    sweep: Sweep,
    components: Components,
    terminal: npt.NDArray[np.bool_],
    tol: float,
    most: int,
    rounding: float,
    value: Floats,
    policy: npt.NDArray[np.int8],
) -> float:
    """Value iteration from below, then a proven bound from above; inf if `most` sweeps of a component prove none.

    Let T be some number of sweeps over all states: a monotone map whose least fixed point is the value V. If T u <= u,
    then V <= T u (Park's induction). u = value + tol / 2 is tried with more and more sweeps: if every policy leaves,
    T u converges to V, which is below u (as in optimistic value iteration, Hartmanns and Kaminski 2020).
    """
    members, starts = components.members, components.starts
    no_policy = np.empty((0, value.shape[1]), np.int8)
    for share in (1e-2, 1e-4, 1e-6):
        for start, stop in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
            if sweep(members[start:stop], most, share * tol, value, policy) == most:
                return np.inf
        candidate = np.where(terminal[:, None], value, np.minimum(value + 0.5 * tol, 1.0))
        settled = terminal[:, None] | (candidate >= 1.0)  # no value exceeds 1
        upper, made, step = candidate.copy(), 0, 1
        while made < most // 10:
            made += sweep(members, step, 0.0, upper, no_policy)
            if np.all(settled | (upper + made * rounding <= candidate)):
                proven = np.where(settled, candidate, upper + made * rounding)
                return float(np.max(proven - value, initial=0.0))
            step = max(1, made)
    return np.inf


def _rounding(indptr: list[npt.NDArray[np.int64]]) -> float:
    """Rounding error of a backup: half a unit in the last place for each term and factor of the longest row."""
    longest = max((int(np.diff(pointer).max(initial=0)) for pointer in indptr), default=0)
    return (longest + 4) * float(np.finfo(np.float64).eps)


def _check_numbers(confidence: Any, name: str, other: Any, most: float) -> None:
    """Check what can be checked without a model: not names of actions and shapes."""
    if (confidence is None) == (other is None):
        raise ValueError(f"expected either a confidence or a {name}")
    if confidence is not None:
        validate.confidence("confidence", confidence)
    elif validate.is_mapping(other):
        for action, numbers in other.items():
            validate.nonneg_array(f'{name}["{action}"]', numbers, most)
    else:
        validate.nonneg_array(name, other, most)


def _require_visits(mdp: InterventionMDP) -> Mapping[str, Floats]:
    if mdp.visits is None:
        raise ValueError(
            "a confidence needs the visits of every row, and the model has none: pass InterventionMDP(visits=...), "
            "or a radius or width instead of the confidence"
        )
    return mdp.visits


def _error(confidence: float, joint: bool, mdp: InterventionMDP) -> float:
    rows = sum(int(mdp.available(name).sum()) for name in mdp.actions) if joint else 1
    return (1.0 - float(confidence)) / max(rows, 1)


def _outcomes(mdp: InterventionMDP, name: str) -> npt.NDArray[np.int64]:
    """Number of successors of every row, and one more for all other states together."""
    successors: npt.NDArray[np.int64] = np.diff(mdp.transitions[name].indptr).astype(np.int64)
    return successors + 1


def _weissman(visits: Floats, outcomes: npt.NDArray[np.int64], error: float) -> Floats:
    m = np.maximum(outcomes, 2)
    # ln(2^m - 2) without overflow
    logarithm = m * log(2.0) + np.log1p(-np.exp2(1.0 - m)) - log(error)
    squared = np.divide(2.0 * logarithm, visits, out=np.full(len(visits), 4.0), where=visits > 0)
    return np.asarray(np.minimum(np.sqrt(squared), 2.0))


def _spread_by_row(label: str, value: ByRow | None, mdp: InterventionMDP) -> list[Floats]:
    n, actions = mdp.n_states, list(mdp.actions)
    given: dict[str, Any] = dict(value) if validate.is_mapping(value) else dict.fromkeys(actions, value)
    spread = {name: np.full(n, entry) if np.ndim(entry) == 0 else entry for name, entry in given.items()}
    return list(validate.by_row(label, spread, actions, n).values())
