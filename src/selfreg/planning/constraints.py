"""Several budgets, each limited in expectation: the best mixture of policies, with a proven gap.

Column generation (Dantzig and Wolfe, "Decomposition principle for linear programs", Operations Research 8, 1960): a
master program mixes the policies of the columns so far under the limits; its duals are penalties, and the optimal
policies for penalties become new columns. Penalties between the duals and the best penalties so far stabilise the duals
(Ben-Ameur and Neto, "Acceleration of cutting-plane and column generation algorithms", Networks 49, 2007).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from selfreg._util import validate
from selfreg._util.showing import ShortRepr
from selfreg.mdp import InterventionMDP
from selfreg.planning import _arguments
from selfreg.planning.penalized import solve_penalized, solve_penalized_start
from selfreg.planning.solution import ConvergenceError

Floats = npt.NDArray[np.float64]

# No help is worth more than 1, a certain success: at a penalty of 2 it is never requested, even in ties.
PROHIBITIVE = 2.0
# Penalties of the first pass, the same for every budget. Later ones lie between the best so far (0) and the duals of
# the master program (1). Including 1 makes the method finite; more steps save passes, fewer steps save penalties.
FIRST = np.array([0.0, 0.03, 0.2, PROHIBITIVE])
STEPS = np.array([1.0, 0.6, 0.3, 0.1])
MAX_PASSES = 300
# The smallest tolerances that HiGHS accepts.
HIGHS = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}


@dataclass(frozen=True, eq=False, repr=False)
class ConstrainedMixture(ShortRepr):
    """The best mixture of policies whose expected usage is within several budgets.

    Attributes
    ----------
    policies : int8 (m, n)
        Stationary policies, index into `mdp.actions`; at most one more than there are budgets. One is drawn at the
        start of an episode and followed to its end.
    weights : float64 (m,)
        Probability of each, > 0.
    success : float
    usage : float64 (budgets,)
        Expected help spent, of each budget; within `budgets` up to rounding.
    penalty : float64 (budgets,)
        Marginal success per unit of each budget (the duals). All `policies` are optimal for these prices of help. 0 for
        a budget that is not used up; 2, more than any help is worth, for a budget of 0.
    bound : float
        No policy within the budgets, stationary or not, has a success above `success + bound`, which is the best value
        under `penalty` plus the price of the budgets. Proven up to rounding.
    """

    policies: npt.NDArray[np.int8]
    weights: Floats
    success: float
    usage: Floats
    penalty: Floats
    bound: float


class _Columns(NamedTuple):
    """Success and usage of the optimal policies for some penalties from the start; one row per policy."""

    penalty: Floats  # (columns, budgets)
    success: Floats  # (columns,)
    usage: Floats  # (columns, budgets)
    error: Floats  # (columns,) proven distance of success - penalty . usage from the optimum


class _Master(NamedTuple):
    """Solution of the master program."""

    weights: Floats  # (columns,)
    success: float
    penalty: Floats  # (limited budgets,)


class _Proof(NamedTuple):
    """No mixture has a success above `upper`, as the best policy under `penalty` shows."""

    upper: float
    penalty: Floats  # (budgets,)


def constrained(
    mdp: InterventionMDP,
    start: int | npt.ArrayLike,
    budgets: float | npt.ArrayLike,
    *,
    tol: float = 1e-9,
    n_threads: int | None = None,
    implementation: str | None = None,
) -> ConstrainedMixture:
    """Best success from `start` if each budget limits the expected usage of its units.

    Parameters
    ----------
    mdp : InterventionMDP
    start : int or (n,) array_like
        A state, or probabilities of states.
    budgets : float, or array_like (budgets,)
        Largest expected usage of every budget, >= 0; `inf` stands for no limit.
    tol : float
        Largest proven distance from the optimum, > 0.
    n_threads : int, optional
        Threads for models without cycles; all cores by default.
    implementation : {"cython", "python"}, optional
        Which kernel; as in `solve`.

    Returns
    -------
    ConstrainedMixture

    Raises
    ------
    ValueError, TypeError
        If an argument is not of the form above, or a budget is negative.
    ConvergenceError
        If `tol` could not be reached; `bound` has the bound that was.

    Notes
    -----
    With S and U_k success and usage of a policy and C_k the budgets, for every lam >= 0

        max over mixtures with U <= C of S  <=  max over policies of (S - sum_k lam_k U_k)  +  sum_k lam_k C_k

    and the best lam makes both sides equal (strong duality of linear programs). The left side is approached from below
    by mixing the policies so far, the right side is solved for many lam per pass. The equations are ours.

    Examples
    --------
    A person (first budget) always succeeds, a stronger model (second budget) eight times in ten; alone the agent
    succeeds half the time.

    >>> import numpy as np, selfreg
    >>> ends = [[0, 0, 0], [0, 0, 0]]
    >>> mdp = selfreg.InterventionMDP(
    ...     transitions={
    ...         "nohelp": np.array([[0, .5, .5], *ends]),
    ...         "person": np.array([[0, 1., 0], *ends]),
    ...         "model": np.array([[0, .8, .2], *ends]),
    ...     },
    ...     terminal_value=[np.nan, 1, 0],
    ...     costs={"person": (1, 0), "model": (0, 1)},
    ... )
    >>> best = selfreg.constrained(mdp, start=0, budgets=(.25, .5))
    >>> round(best.success, 9), best.usage.round(9).tolist(), best.penalty.round(9).tolist()
    (0.775, [0.25, 0.5], [0.5, 0.3])
    """
    _arguments.check_model(mdp)
    weight = mdp.start_distribution(start)
    limits = _arguments.usage_limits("budgets", budgets, mdp.n_budgets)
    tol = validate.positive("tol", tol)
    threads = validate.threads(n_threads)

    def solve_prices(penalty: Floats) -> _Columns:
        points = solve_penalized_start(
            mdp, weight, penalty, n_threads=threads, tol=tol / 4, implementation=implementation
        )
        return _Columns(penalty, points.success, points.usage, np.full(len(penalty), points.bound))

    columns, mixed, proof = _generate_columns(solve_prices, limits, tol)
    chosen = np.flatnonzero(mixed.weights)
    weights, penalties = mixed.weights[chosen], columns.penalty[chosen]
    parts = solve_penalized(mdp, penalties, n_threads=threads, tol=tol / 4, implementation=implementation)
    policies = np.ascontiguousarray(parts.policy.T)
    return ConstrainedMixture(
        policies,
        weights,
        mixed.success,
        weights @ columns.usage[chosen],
        proof.penalty,
        max(0.0, proof.upper - mixed.success),
    )


def _generate_columns(
    solve_prices: Callable[[Floats], _Columns], limits: Floats, tol: float
) -> tuple[_Columns, _Master, _Proof]:
    """Columns, their best mixture, and the proof that no other mixture is better by more than `tol`."""
    unlimited, closed = np.isinf(limits), limits <= tol / (8 * len(limits))  # a unit is worth at most 1
    limited = np.flatnonzero(~unlimited & ~closed)
    limit, price = limits[limited], np.where(unlimited, 0.0, limits)
    proof = _Proof(np.inf, np.where(closed, PROHIBITIVE, 0.0))
    queries = np.tile(proof.penalty, (len(FIRST) if len(limited) else 1, 1))
    queries[:, limited] = FIRST[: len(queries), None]
    passes: list[_Columns] = []
    gap = np.inf
    for _ in range(MAX_PASSES):
        new = solve_prices(queries)
        passes.append(new)
        bounds = new.success - np.einsum("ij,ij->i", queries, new.usage) + new.error + queries @ price
        if bounds.min() < proof.upper:
            proof = _Proof(float(bounds.min()), queries[np.argmin(bounds)])
        columns = _Columns(*map(np.concatenate, zip(*passes, strict=True)))
        mixed = _solve_master(columns, limited, limit)
        gap = proof.upper - mixed.success
        if gap <= tol:
            return columns, mixed, proof
        outer = proof.penalty.copy()
        outer[limited] = np.minimum(mixed.penalty, PROHIBITIVE)
        queries = proof.penalty + STEPS[:, None] * (outer - proof.penalty)
    raise ConvergenceError(f"tol={tol:g} was not reached in {MAX_PASSES} passes; the gap reached is {gap:g}", gap)


def _solve_master(columns: _Columns, limited: npt.NDArray[np.intp], limit: Floats) -> _Master:
    """The mixture of columns with most success within the limits (all > 0)."""
    if not len(limited):
        weights = np.zeros(len(columns.success))
        weights[np.argmax(columns.success)] = 1.0
        return _Master(weights, float(columns.success.max()), np.empty(0))
    from scipy.optimize import linprog

    answer = linprog(
        -columns.success,
        A_ub=(columns.usage[:, limited] / limit).T,  # in units of the limits: tolerances are relative to them
        b_ub=np.ones(len(limit)),
        A_eq=np.ones((1, len(columns.success))),
        b_eq=[1.0],
        method="highs-ds",  # a basic solution: at most one more column than there are limits
        options=HIGHS,
    )
    if answer.status != 0:
        raise RuntimeError(f"HiGHS did not solve the master program: {answer.message}")
    weights = np.maximum(answer.x, 0.0)
    weights /= weights.sum()
    return _Master(weights, float(weights @ columns.success), np.maximum(-answer.ineqlin.marginals, 0.0) / limit)
