"""Hard budgets: the best probability of success with at most b help, for every state and every b."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
import numpy.typing as npt

from selfreg._core import chooser
from selfreg._util import validate
from selfreg._util.cores import free_threads
from selfreg.mdp import InterventionMDP
from selfreg.planning import _arguments
from selfreg.planning._output import Out, Output, output_arrays
from selfreg.planning._structure import (
    EMPTY,
    Components,
    Levels,
    Problem,
    allocate_slots,
    budget_lattice,
    load_structure,
)
from selfreg.planning.solution import ConvergenceError, Solution, StartSolution

if TYPE_CHECKING:
    from selfreg.planning.robust import RobustSolution, UncertaintySet

__all__ = ["ConvergenceError", "Solution", "StartSolution", "solve", "solve_memory"]

# Sweeps over one budget layer of one component, before and after other methods; a sweep costs as much as one backup of
# the component.
FEW_SWEEPS, MAX_SWEEPS = 500, 100_000
# Products of decimal numbers for one policy: about a second.
MOST_PRODUCTS = 1_000_000
# States times budgets from which a query for free cores, and care for new memory, cost little: a millisecond of work.
WORTH_QUERY = 1 << 19
NO_WEIGHT = np.empty(0)
HUGE_PAGE = 1 << 21  # bytes


@overload
def solve(
    mdp: InterventionMDP,
    budget: int | tuple[int, ...],
    *,
    n_threads: int | None = ...,
    tol: float = ...,
    dtype: npt.DTypeLike = ...,
    keep: Literal["all"] = ...,
    start: None = ...,
    max_memory: int | None = ...,
    robust: None = ...,
    out: Out | None = ...,
    implementation: str | None = ...,
) -> Solution: ...
@overload
def solve(
    mdp: InterventionMDP,
    budget: int | tuple[int, ...],
    *,
    n_threads: int | None = ...,
    tol: float = ...,
    dtype: npt.DTypeLike = ...,
    keep: Literal["all"] = ...,
    start: None = ...,
    max_memory: int | None = ...,
    robust: UncertaintySet,
    out: Out | None = ...,
    implementation: str | None = ...,
) -> RobustSolution: ...
@overload
def solve(
    mdp: InterventionMDP,
    budget: int | tuple[int, ...],
    *,
    n_threads: int | None = ...,
    tol: float = ...,
    dtype: npt.DTypeLike = ...,
    keep: Literal["start"],
    start: npt.ArrayLike,
    max_memory: int | None = ...,
    robust: UncertaintySet | None = ...,
    out: None = ...,
    implementation: str | None = ...,
) -> StartSolution: ...
def solve(
    mdp: InterventionMDP,
    budget: int | tuple[int, ...],
    *,
    n_threads: int | None = None,
    tol: float = 1e-9,
    dtype: npt.DTypeLike = np.float64,
    keep: Literal["all", "start"] = "all",
    start: npt.ArrayLike | None = None,
    max_memory: int | None = None,
    robust: UncertaintySet | None = None,
    out: Out | None = None,
    implementation: str | None = None,
) -> Solution | StartSolution:
    """Solve the hard-budget problem: at most `budget` help, for every state and every smaller budget.

    For every state `s` and remaining budget `b`, the least solution of (`docs/model.md`; the equations are ours, the
    method is that of arXiv 2502.04576)

        V(s, b) = max( sum_j P_0[s,j] V(j, b),  max over available k with c_k <= b of sum_j P_k[s,j] V(j, b - c_k) )

    with V(s, b) = terminal_value[s] in terminal states; an episode that never ends is worth 0.

    Parameters
    ----------
    mdp : InterventionMDP
    budget : int or tuple of int
        Largest budget, or one for each of several budgets, >= 0.
    n_threads : int, optional
        Most threads for models without cycles; all cores by default. Fewer are used where other programs run on the
        cores. The result has the same bits for any number.
    tol : float
        Largest allowed (proven) error of models with cycles that need iteration.
    dtype : float64 or float32
        Dtype of the values; float32 halves the memory, with an error of about 1e-7.
    keep : {"all", "start"}
        "start" computes the value from `start` only: a model without cycles then needs memory for the levels in use,
        not for all states.
    start : int or (n,) array_like, for keep="start"
        A state, or probabilities of states.
    max_memory : int, optional
        Bytes. If `solve_memory` says that more is needed, MemoryError is raised before anything is allocated.
    robust : L1 or Intervals, optional
        Plan against the worst model whose rows lie in these sets around the rows of `mdp`: the value is then a lower
        bound for each such model. `selfreg.L1(confidence=0.9)` derives the sets from `mdp.visits`. Runs on one thread.
    out : Solution, or pair of arrays (value, policy), optional
        Where to write `value` and `policy`: an earlier solution of the same shape and dtype, whose arrays are then
        overwritten, or arrays. New memory takes up to a third of the time of a large model without cycles. After an
        error their contents are undefined. Not with keep="start".
    implementation : {"cython", "python"}, optional
        Which kernel; the default is the environment variable SELFREG_IMPLEMENTATION, else "cython".

    Returns
    -------
    Solution, or StartSolution with keep="start"; RobustSolution with `robust`

    Raises
    ------
    ValueError, TypeError
        If an argument is not of the form above.
    MemoryError
        If more than `max_memory` is needed.
    ConvergenceError
        If `tol` could not be reached; `bound` has the bound that was.

    Examples
    --------
    >>> import numpy as np, selfreg
    >>> alone = np.array([[0, .5, .5], [0, 0, 0], [0, 0, 0]])
    >>> helped = np.array([[0, .9, .1], [0, 0, 0], [0, 0, 0]])
    >>> mdp = selfreg.InterventionMDP({"nohelp": alone, "help": helped}, [np.nan, 1, 0], {"help": 1})
    >>> selfreg.solve(mdp, budget=2).value[0].tolist()
    [0.5, 0.9, 0.9]
    >>> selfreg.solve(mdp, budget=2, keep="start", start=0).value.tolist()
    [0.5, 0.9, 0.9]
    """
    budgets = _arguments.budget_tuple(mdp, budget)
    tol = validate.positive("tol", tol)
    kind = validate.float_dtype(dtype)
    weight = _arguments.start_to_keep(keep, start, mdp)
    if out is not None and weight is not None:
        raise ValueError('out is for keep="all": with keep="start" there are no values of all states')
    shape = (mdp.n_states, *(most + 1 for most in budgets))
    into, threads = output_arrays(out, shape, kind), validate.threads(n_threads)
    if robust is not None:
        return _solve_robust(mdp, budgets, robust, tol, kind, weight, max_memory, into, implementation)
    if max_memory is not None:
        _arguments.check_memory(_memory(mdp, budgets, kind, weight is not None, implementation), max_memory)
    problem = budget_lattice(mdp, budgets, implementation, certain=True)
    if isinstance(problem.structure, Levels):
        value, policy = _solve_levels(mdp, problem, problem.structure, kind, weight, threads, into, implementation)
        bound = 0.0
    else:
        value, policy, bound = _solve_components(mdp, problem, problem.structure, tol, into, implementation)
        value = value.astype(kind, copy=False) if weight is None else np.tensordot(weight, value, axes=1)
    if weight is not None:
        return StartSolution(mdp, budgets, value.reshape(problem.shape), bound)
    if into is not None:
        into.keep(value, policy)
        value, policy = into
    return Solution(mdp, budgets, value.reshape(shape), policy.reshape(shape), bound)


def _solve_robust(
    mdp: InterventionMDP,
    budgets: tuple[int, ...],
    robust: UncertaintySet,
    tol: float,
    dtype: np.dtype[Any],
    weight: npt.NDArray[np.float64] | None,
    max_memory: int | None,
    into: Output | None,
    implementation: str | None,
) -> Solution | StartSolution:
    from selfreg.planning.robust import L1, Intervals, robust_memory, solve_robust

    if not isinstance(robust, L1 | Intervals):
        raise TypeError(f"robust must be a selfreg.L1 or a selfreg.Intervals; got {type(robust).__name__}")
    if max_memory is not None:
        _arguments.check_memory(robust_memory(mdp, budgets, implementation), max_memory)
    solution = solve_robust(mdp, budgets, robust, tol, implementation)
    if weight is not None:
        return StartSolution(mdp, budgets, np.tensordot(weight, solution.value, axes=1), solution.bound)
    if into is None:
        return replace(solution, value=solution.value.astype(dtype, copy=False))
    into.keep(solution.value, solution.policy)
    shape = solution.value.shape
    return replace(solution, value=into.value.reshape(shape), policy=into.policy.reshape(shape))


def solve_memory(
    mdp: InterventionMDP,
    budget: int | tuple[int, ...],
    *,
    dtype: npt.DTypeLike = np.float64,
    keep: Literal["all", "start"] = "all",
    implementation: str | None = None,
) -> int:
    """Bytes that `solve` needs beyond the model: outputs, solving order, scratch. Arguments as of `solve`.

    Examples
    --------
    >>> import numpy as np, selfreg
    >>> mdp = selfreg.InterventionMDP({"nohelp": np.zeros((2, 2))}, [1, 0], {})
    >>> selfreg.solve_memory(mdp, 9) > 2 * 10 * 9
    True
    """
    budgets = _arguments.budget_tuple(mdp, budget)
    return _memory(mdp, budgets, validate.float_dtype(dtype), keep == "start", implementation)


def _solve_levels(
    mdp: InterventionMDP,
    problem: Problem,
    levels: Levels,
    dtype: npt.DTypeLike,
    weight: npt.NDArray[np.float64] | None,
    n_threads: int,
    into: Output | None,
    implementation: str | None,
) -> tuple[npt.NDArray[Any], npt.NDArray[np.int8]]:
    """One pass over a model without cycles."""
    n_lattice = prod(problem.shape)
    slot, n_slots = EMPTY, mdp.n_states
    if weight is not None:
        slot, n_slots = allocate_slots(mdp, levels, implementation)
    # Threads meet at every level, and would wait for one that does not run.
    large = mdp.n_states * n_lattice >= WORTH_QUERY
    n_threads = free_threads(n_threads) if large else n_threads
    if into is None:
        value = np.empty((n_slots, n_lattice), dtype)
        policy = np.empty((mdp.n_states if weight is None else 0, n_lattice), np.int8)
        if large and n_threads > 1:
            # Where several threads touch new memory first, each of them waits for the system to clear the same pages.
            for array in (value, policy):
                array.reshape(-1).view(np.uint8)[::HUGE_PAGE] = 0
    else:
        value, policy = into
    expected = np.zeros(n_lattice)
    chooser.kernel("budget", implementation).backup_levels(
        *problem.arrays,
        problem.offset,
        problem.runs,
        mdp.terminal_value,
        mdp.terminal.view(np.uint8),
        levels.members,
        levels.starts,
        slot,
        NO_WEIGHT if weight is None else weight,
        expected,
        value,
        policy,
        n_threads,
    )
    return (value if weight is None else expected), policy


def _solve_components(
    mdp: InterventionMDP,
    problem: Problem,
    components: Components,
    tol: float,
    into: Output | None,
    implementation: str | None,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int8], float]:
    """One component after the other of a model with cycles; the bound is proven."""
    n_lattice = prod(problem.shape)
    if into is None or into.value.dtype != np.float64:
        value, policy = np.zeros((mdp.n_states, n_lattice)), np.zeros((mdp.n_states, n_lattice), np.int8)
    else:
        value, policy = into
        value[...], policy[...] = 0.0, 0
    value[mdp.terminal] = mdp.terminal_value[mdp.terminal, None]
    closed = mdp.terminal
    if len(components.certain):
        ones = ~mdp.terminal & (components.certain == 1)
        value[ones], policy[ones] = 1.0, components.action[ones, None]
        closed = closed | (components.certain < 2)
    n_components = len(components.starts) - 1
    error = np.zeros((0 if components.exact else n_components, n_lattice), np.float32)
    kernel = chooser.kernel("components", implementation)
    bound = np.inf
    # Errors add up along layers and components that depend on each other: a path goes down the layers and along the
    # chain. Tighten the tolerance until the sum is proven. The bound is twice the error of the values.
    longest = n_lattice + max(components.chain, 1) - 1
    for share in (0.45, 4.5e-3, 4.5e-5):
        tolerance = share / longest * tol

        def sweep(first: int, max_sweeps: int, tolerance: float = tolerance) -> int:
            stopped: int = kernel.solve_components(
                *problem.arrays,
                problem.offset,
                problem.runs,
                problem.affordable,
                problem.shape[-1],
                closed.view(np.uint8),
                *components[:4],
                first,
                tolerance,
                max_sweeps,
                error,
                value,
                policy,
            )
            return stopped

        done = 0
        while (done := sweep(done, FEW_SWEEPS)) < n_components:
            if not _solve_component(problem, components, done, tolerance, error, value, policy, implementation):
                stopped = sweep(done, MAX_SWEEPS)
                if stopped == done:
                    size = int(np.diff(components.starts)[done])
                    raise ConvergenceError(f"a component of {size} states could not be solved; no value is proven", 1.0)
                done = stopped - 1
            done += 1
        bound = 2.0 * float(error.max(initial=0.0))
        if bound <= tol:
            return value, policy, bound
    raise ConvergenceError(f"tol={tol:g} was not reached; the bound reached is {bound:g}", bound)


def _solve_component(
    problem: Problem,
    components: Components,
    c: int,
    tolerance: float,
    error: npt.NDArray[np.float32],
    value: npt.NDArray[np.float64],
    policy: npt.NDArray[np.int8],
    implementation: str | None,
) -> bool:
    """Policy iteration for a component on which sweeps failed; whether that solved it."""
    # Rarely needed, and slow to import.
    from selfreg._core._components_py import TooSlow, solve_directly
    from selfreg.planning._component_rows import component_rows
    from selfreg.planning._stopping import Stopping, solve_component

    states = components.members[components.starts[c] : components.starts[c + 1]]
    labels = components.component, components.group
    rows = component_rows(problem.arrays, problem.offset, states.astype(np.int64), *labels)
    stopping = Stopping(rows, implementation)
    if solve_component(problem, stopping, *labels, c, tolerance, error, value, policy):
        return True
    if stopping.fewest_products <= MOST_PRODUCTS:
        try:
            arrays, moves = problem.arrays, (problem.offset, problem.affordable)
            solve_directly(*arrays, *moves, states, *labels, c, error, value, policy, MOST_PRODUCTS)
            return True
        except TooSlow:
            pass
    if stopping.leaves_too_slowly:
        raise ConvergenceError(
            f"a component of {len(states)} states takes more than 1e12 steps and is too dense for decimal numbers; no "
            "value is proven",
            1.0,
        )
    return False


def _memory(
    mdp: InterventionMDP, budgets: tuple[int, ...], dtype: np.dtype[Any], start: bool, implementation: str | None
) -> int:
    n, n_lattice = mdp.n_states, prod(most + 1 for most in budgets)
    arrays, structure = load_structure(mdp, implementation, certain=True)
    order = sum(part.nbytes for part in structure if isinstance(part, np.ndarray))
    matrices = mdp.transitions.values()
    order += sum(8 * (n + 1) for matrix in matrices if matrix.indptr.dtype != np.int64)  # copied once, to int64
    if isinstance(structure, Components):
        # Values, policy, errors, and for the largest component its rows and its values in long double.
        largest = int(np.diff(structure.starts).max(initial=0))
        entries = sum(len(indices) for indices in arrays.indices) * largest // max(n, 1)
        return (
            order + n * n_lattice * (8 + 1 + 4 + dtype.itemsize % 8) + largest * (16 * n_lattice + 240) + 24 * entries
        )
    if not start:
        return order + n * n_lattice * (dtype.itemsize + 1)
    slot, n_slots = allocate_slots(mdp, structure, implementation)
    return order + slot.nbytes + max(n_slots * n_lattice * dtype.itemsize, 12 * n)  # 12 n while slots are allocated
