"""A price on help instead of a budget: best penalized success, its policy, and success and usage of that policy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from selfreg._core import chooser
from selfreg._util import validate
from selfreg._util.cores import free_threads
from selfreg._util.parallel import LocalExecutor, run_tasks
from selfreg._util.showing import ShortRepr
from selfreg.mdp import InterventionMDP
from selfreg.planning import _arguments
from selfreg.planning._penalized_cycles import TIE, TIE_USAGE, Lanes, PenalizedGroups
from selfreg.planning._structure import EMPTY, Arrays, Levels, allocate_slots, load_structure
from selfreg.planning.solution import ConvergenceError

Floats = npt.NDArray[np.float64]

# Stands for an infinite penalty: times any usage above 0 it outweighs every success, times any cost it is finite.
HUGE = 1e280
# Penalties per pass; the kernel is fastest for these numbers of lanes.
LANES = (4, 8, 16)
# Lanes times states above which several threads pay off (about a millisecond of work).
WORTH_THREADS = 1 << 20


@dataclass(frozen=True, eq=False, repr=False)
class PenalizedSolution(ShortRepr):
    """Optimal values, policies and usages for many penalties.

    Attributes
    ----------
    mdp : InterventionMDP
    penalties : float64 (L, budgets), or (L, help types) if given by help type
    value : float64 (n, L)
        Best success less penalties paid, within `bound` of the optimum: `success` less the price of `usage`.
    policy : int8 (n, L)
        Index into `mdp.actions`. Ties go to less total usage, then to the first action.
    success : float64 (n, L)
        Probability of success under `policy`.
    usage : float64 (n, L, budgets)
        Expected units taken from each budget under `policy`.
    bound : float
        Largest difference between the proven upper bound of the value and the value of `policy`; 0.0 if the solution
        is exact up to rounding, as in `Solution`.
    """

    mdp: InterventionMDP
    penalties: Floats
    value: Floats
    policy: npt.NDArray[np.int8]
    success: Floats
    usage: Floats
    bound: float


class StartPoints(NamedTuple):
    """Success and usage of the optimal policies for some penalties from a start distribution.

    Attributes
    ----------
    success : float64 (L,)
    usage : float64 (L, budgets)
    bound : float
        No policy has a penalized success that is higher by more than this; 0.0 if the solution is exact.
    """

    success: Floats
    usage: Floats
    bound: float


def solve_penalized(
    mdp: InterventionMDP,
    penalties: npt.ArrayLike | Mapping[str, npt.ArrayLike],
    *,
    n_threads: int | None = None,
    tol: float = 1e-9,
    implementation: str | None = None,
) -> PenalizedSolution:
    """Solve the model in which help has a price instead of a limit, for many prices per pass.

    For every state and penalty lam (this is the reward regime of arXiv 2502.04576; the equations are ours):

        V_lam(s) = max over available a of  sum_j P_a[s,j] V_lam(j) - lam c_a
        U(s)     = c_pi(s) + sum_j P_pi(s)[s,j] U(j)           the usage of its policy pi

    with V_lam(s) = terminal_value[s] and U(s) = 0 in terminal states; an episode that never ends is worth 0. The
    success of the policy is V_lam + lam U.

    Parameters
    ----------
    mdp : InterventionMDP
    penalties : array_like of float (L,) or (L, budgets), or mapping of str to float or (L,)
        Price of a unit of the budget, or of each budget; with a mapping, price of one request of each help type. 0
        makes help free, infinity excludes it.
    n_threads : int, optional
        Threads for models without cycles; all cores by default. The result has the same bits for any number.
    tol : float
        Largest proven error allowed where the model has cycles.
    implementation : {"cython", "python"}, optional
        Which kernel; the default is the environment variable SELFREG_IMPLEMENTATION, else "cython".

    Returns
    -------
    PenalizedSolution

    Raises
    ------
    ValueError, TypeError
        If an argument is not of the form above.
    ConvergenceError
        If `tol` could not be reached; `bound` has the bound that was.

    Examples
    --------
    Help succeeds nine times in ten, the agent alone one time in two: it is worth up to 0.4.

    >>> import numpy as np, selfreg
    >>> alone = np.array([[0, .5, .5], [0, 0, 0], [0, 0, 0]])
    >>> helped = np.array([[0, .9, .1], [0, 0, 0], [0, 0, 0]])
    >>> mdp = selfreg.InterventionMDP({"nohelp": alone, "help": helped}, [np.nan, 1, 0], {"help": 1})
    >>> solution = selfreg.solve_penalized(mdp, [0, .25, .5])
    >>> solution.value[0].tolist(), solution.policy[0].tolist(), solution.usage[0, :, 0].tolist()
    ([0.9, 0.65, 0.5], [1, 1, 0], [1.0, 1.0, 0.0])
    """
    _arguments.check_model(mdp)
    prices, by_type = _arguments.penalty_array(penalties, mdp)
    pricing = Pricing(mdp, by_type, validate.threads(n_threads), validate.positive("tol", tol), implementation)
    n, count, dims = mdp.n_states, len(prices), pricing.cost.shape[1]
    success, usage = np.empty((n, count)), np.empty((n, count, dims))
    policy, bound = np.empty((n, count), np.int8), 0.0
    for lanes in _split_passes(count):
        rows, chosen, error = pricing.solve_all_states(prices[lanes])
        success[:, lanes] = rows[:, 0]
        usage[:, lanes] = rows[:, 1:].transpose(0, 2, 1)
        policy[:, lanes] = chosen
        bound = max(bound, error)
    value = success - np.einsum("sld,ld->sl", usage, np.minimum(prices, HUGE))
    if by_type:
        usage = usage @ mdp.cost_table[1:]
    return PenalizedSolution(mdp, prices, value, policy, success, usage, bound)


def solve_penalized_start(
    mdp: InterventionMDP,
    weight: Floats,
    prices: Floats,
    *,
    n_threads: int = 1,
    tol: float = 1e-9,
    implementation: str | None = None,
) -> StartPoints:
    """Success and usage from a start distribution (n,) for penalties (L, budgets); the caller checks both.

    A model without cycles needs memory for the levels in use, not for all states.
    """
    return Pricing(mdp, False, n_threads, tol, implementation).solve_start(weight, prices)


class Pricing:
    """Solver of a model for many penalties (lanes); each of `dims` kinds of usage has a penalty per lane.

    It aims at an error of `tol` in models with cycles, and raises ConvergenceError where that exceeds `accepted`, which
    is `tol` unless it is larger.
    """

    def __init__(
        self,
        mdp: InterventionMDP,
        by_type: bool,
        n_threads: int,
        tol: float,
        implementation: str | None,
        accepted: float = 0.0,
    ) -> None:
        self.mdp, self.by_type, self.n_threads = mdp, by_type, n_threads
        self.tol, self.implementation, self.accepted = tol, implementation, max(tol, accepted)
        self.cost = np.eye(len(mdp.actions))[:, 1:].copy() if by_type else mdp.cost_table.astype(np.float64)
        self.groups: PenalizedGroups | None = None
        self.arrays: Arrays
        self.arrays, self.structure = load_structure(mdp, implementation)

    def __reduce__(self) -> tuple[Any, ...]:
        """For pickle and copy: the arguments; solving orders and warm starts are computed again."""
        return type(self), (self.mdp, self.by_type, self.n_threads, self.tol, self.implementation, self.accepted)

    def solve_start(self, weight: Floats, prices: Floats) -> StartPoints:
        """Success and usage of the optimal policies for `prices` (L, dims) from `weight`."""
        if not len(prices):
            return StartPoints(np.empty(0), np.empty((0, self.cost.shape[1])), 0.0)
        # One pass per thread, without synchronisation: threads that share a pass wait for each other at every level,
        # which is many times slower when other programs use the cores.
        parallel = isinstance(self.structure, Levels) and len(prices) * self.mdp.n_states >= WORTH_THREADS
        threads = self.n_threads if parallel else 1
        size = next((size for size in LANES if size * threads >= len(prices)), LANES[-1])
        passes = [prices[first : first + size] for first in range(0, len(prices), size)]
        if threads == 1:  # the queue would cost 5% of a small frontier
            parts = [self._solve_pass(weight, part) for part in passes]
        else:
            executor = LocalExecutor(min(threads, len(passes)))
            parts = [part for _, part in run_tasks(executor, self._solve_pass, weight, enumerate(passes))]
        expected = np.concatenate([part for part, _ in parts], axis=1)
        return StartPoints(expected[0], expected[1:].T, max(error for _, error in parts))

    def solve_all_states(self, prices: Floats) -> tuple[Floats, npt.NDArray[np.int8], float]:
        """Success and usages (n, 1 + dims, L), policy (n, L) and bound for one pass of penalties."""
        n, (count, dims) = self.mdp.n_states, prices.shape
        if not isinstance(self.structure, Levels):
            groups, lanes = self._solve_groups(prices)
            rows = np.concatenate([lanes.success[:, None], lanes.usage], axis=1)
            return rows[groups.rows.group], groups.policies(lanes.choice), float(lanes.errors.max(initial=0.0))
        padded = self._pad(prices)
        lanes = padded.shape[1]
        rows, policy = np.empty((n, (1 + dims) * lanes)), np.empty((n, lanes), np.int8)
        self._back_up_levels(padded, EMPTY, np.empty(0), np.empty((1 + dims, lanes)), rows, policy, self.n_threads)
        return rows.reshape(n, 1 + dims, lanes)[:, :, :count], policy[:, :count], 0.0

    def solve_policies(self, prices: Floats) -> npt.NDArray[np.int8]:
        """int8 (L, n): the optimal policies for `prices` (L, dims)."""
        parts = []
        for lanes in _split_passes(len(prices)):
            parts.append(self._solve_policies(prices[lanes]))
        return np.concatenate(parts)

    def _solve_policies(self, prices: Floats) -> npt.NDArray[np.int8]:
        if not isinstance(self.structure, Levels):
            groups, solved = self._solve_groups(prices)
            return np.ascontiguousarray(groups.policies(solved.choice).T)
        padded = self._pad(prices)
        policy = np.empty((self.mdp.n_states, padded.shape[1]), np.int8)
        slot, n_slots = allocate_slots(self.mdp, self.structure, self.implementation)
        expected = np.empty((1 + padded.shape[0], padded.shape[1]))
        self._back_up_levels(
            padded, slot, np.empty(0), expected, np.empty((n_slots, expected.size)), policy, self.n_threads
        )
        return np.ascontiguousarray(policy[:, : len(prices)].T)

    def _solve_pass(self, weight: Floats, prices: Floats) -> tuple[Floats, float]:
        if not isinstance(self.structure, Levels):
            groups, solved = self._solve_groups(prices)
            mass = np.bincount(groups.rows.group, weight, len(solved.success))
            expected = np.concatenate([(mass @ solved.success)[None], np.tensordot(mass, solved.usage, axes=1)])
            return expected, float(solved.errors.max(initial=0.0))
        padded = self._pad(prices)
        slot, n_slots = allocate_slots(self.mdp, self.structure, self.implementation)
        expected = np.zeros((1 + padded.shape[0], padded.shape[1]))
        rows, no_policy = np.empty((n_slots, expected.size)), np.empty((0, 0), np.int8)
        self._back_up_levels(padded, slot, weight, expected, rows, no_policy, 1)
        return expected[:, : len(prices)], 0.0

    def _solve_groups(self, prices: Floats) -> tuple[PenalizedGroups, Lanes]:
        """One pass over a model with cycles."""
        if self.groups is None:
            self.groups = PenalizedGroups(self.mdp, self.cost, self.tol, self.implementation)
        groups = self.groups
        lanes = groups.solve(np.minimum(prices, HUGE))
        error = float(lanes.errors.max(initial=0.0))
        if error > self.accepted:
            raise ConvergenceError(f"tol={self.accepted:g} was not reached; the bound reached is {error:g}", error)
        return groups, lanes

    def _pad(self, prices: Floats) -> Floats:
        """Penalties (dims, lanes) for the kernel, padded to a number of lanes that it is fast for."""
        lanes = next(size for size in LANES if size >= len(prices)) if prices.shape[1] == 1 else len(prices)
        return np.ascontiguousarray(np.minimum(prices, HUGE)[np.minimum(np.arange(lanes), len(prices) - 1)].T)

    def _back_up_levels(
        self,
        penalty: Floats,
        slot: npt.NDArray[np.int32],
        weight: Floats,
        expected: Floats,
        rows: Floats,
        policy: npt.NDArray[np.int8],
        n_threads: int,
    ) -> None:
        """One pass over a model without cycles."""
        levels = self.structure
        assert isinstance(levels, Levels)
        if n_threads > 1 and self.mdp.n_states * penalty.shape[1] >= WORTH_THREADS:
            n_threads = free_threads(n_threads)  # threads meet at every level, and would wait for one that does not run
        chooser.kernel("penalty", self.implementation).penalized_levels(
            *self.arrays,
            self.cost,
            penalty,
            TIE,
            TIE_USAGE,
            self.mdp.terminal_value,
            self.mdp.terminal.view(np.uint8),
            levels.members,
            levels.starts,
            slot,
            weight,
            expected,
            rows,
            policy,
            n_threads,
        )


def _split_passes(count: int) -> Iterator[slice]:
    """Slices of lanes, one per pass."""
    for first in range(0, count, LANES[-1]):
        yield slice(first, min(first + LANES[-1], count))
