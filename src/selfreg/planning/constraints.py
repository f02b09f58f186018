"""Several budgets, each limited in expectation: the best mixture of policies, with a proven gap.

Column generation (Dantzig and Wolfe, "Decomposition principle for linear programs", Operations Research 8, 1960): a
master program mixes the policies found so far under the limits; its duals are penalties, and the policies that are best
under penalties come in as columns. Queries between the duals and the best penalties so far keep the duals from jumping
about (Ben-Ameur and Neto, "Acceleration of cutting-plane and column generation algorithms", Networks 49, 2007).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from selfreg._util import validate
from selfreg.mdp import InterventionMDP
from selfreg.planning.penalized import penalized_points, solve_penalized
from selfreg.planning.solution import ConvergenceError

Floats = npt.NDArray[np.float64]

# No help is worth more than 1, the whole success: at a penalty of 2 it is never asked for, ties or not.
NEVER = 2.0
# Penalties of the first pass, the same for every budget; later ones lie between the best so far (0) and the master's
# duals (1). With 1 among them the method is finite; more of them save passes, fewer save penalties.
FIRST = np.array([0.0, 0.03, 0.2, NEVER])
STEPS = np.array([1.0, 0.6, 0.3, 0.1])
MAX_PASSES = 300
# HiGHS takes no smaller tolerances.
HIGHS = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}


@dataclass(frozen=True, eq=False)
class ConstrainedMixture:
    """The best mixture of policies whose expected usage keeps to several budgets.

    Attributes
    ----------
    policies : int8 (m, n)
        Stationary policies, index into `mdp.actions`; at most one more than there are budgets. One is drawn when an
        episode begins, and kept.
    weights : float64 (m,)
        Probability of each, > 0.
    success : float
    usage : float64 (budgets,)
        Expected help spent, of each budget; within `budgets` up to rounding.
    penalty : float64 (budgets,)
        What a little more of each budget would add to the success, per unit (the duals). All `policies` are optimal
        where help has that price. 0 for a budget that is not used up; 2, more than any help is worth, for one of 0.
    bound : float
        No policy that keeps to the budgets, stationary or not, has a success above `success + bound`: that is the best
        value under `penalty` plus the price of the budgets. Proven up to rounding.
    """

    policies: npt.NDArray[np.int8]
    weights: Floats
    success: float
    usage: Floats
    penalty: Floats
    bound: float


class _Columns(NamedTuple):
    """What the best policies under some penalties attain from the start; one row a policy."""

    penalty: Floats  # (columns, budgets)
    success: Floats  # (columns,)
    usage: Floats  # (columns, budgets)
    error: Floats  # (columns,) proven distance of success - penalty . usage from the best there is


class _Mixed(NamedTuple):
    """Solution of the master program."""

    weights: Floats  # (columns,)
    success: float
    penalty: Floats  # (limited budgets,)


class _Proof(NamedTuple):
    """No mixture has a success above `upper`, by the best policy under `penalty`."""

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
    """Best success from `start` where each budget limits the expected usage: sum over k of c_k, one limit a budget.

    Parameters
    ----------
    mdp : InterventionMDP
    start : int or (n,) array_like
        A state, or probabilities of states.
    budgets : float, or array_like (budgets,)
        Largest expected usage of every budget, >= 0; `inf` leaves a budget without limit.
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
        If an argument is not of the form above, or a budget is negative: no policy spends less than 0.
    ConvergenceError
        If `tol` could not be reached; it carries the bound that was.

    Notes
    -----
    With S and U_k success and usage of a policy and C_k the budgets, for every lam >= 0

        max over mixtures with U <= C of S  <=  max over policies of (S - sum_k lam_k U_k)  +  sum_k lam_k C_k

    and the best lam makes both sides equal (strong duality of linear programs). The left side is approached from below
    by mixing the policies found so far, the right side is solved for many lam a pass. The equations are ours.

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
    validate.model(mdp)
    weight = validate.start(start, mdp.n_states)
    limits = validate.limits("budgets", budgets, mdp.n_budgets)
    tol = validate.positive("tol", tol)
    threads = validate.threads(n_threads)

    def best_under(penalty: Floats) -> _Columns:
        points = penalized_points(mdp, weight, penalty, n_threads=threads, tol=tol / 4, implementation=implementation)
        return _Columns(penalty, points.success, points.usage, np.full(len(penalty), points.bound))

    columns, mixed, proof = _generate(best_under, limits, tol)
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


def _generate(best_under: Callable[[Floats], _Columns], limits: Floats, tol: float) -> tuple[_Columns, _Mixed, _Proof]:
    """Columns, and the best mixture of them with the proof that no other is better by more than `tol`."""
    open_ended, closed = np.isinf(limits), limits <= tol / (8 * len(limits))  # no unit is worth more than 1
    limited = np.flatnonzero(~open_ended & ~closed)
    limit, price = limits[limited], np.where(open_ended, 0.0, limits)
    proof = _Proof(np.inf, np.where(closed, NEVER, 0.0))
    queries = np.tile(proof.penalty, (len(FIRST) if len(limited) else 1, 1))
    queries[:, limited] = FIRST[: len(queries), None]
    found: list[_Columns] = []
    gap = np.inf
    for _ in range(MAX_PASSES):
        new = best_under(queries)
        found.append(new)
        bounds = new.success - np.einsum("ij,ij->i", queries, new.usage) + new.error + queries @ price
        if bounds.min() < proof.upper:
            proof = _Proof(float(bounds.min()), queries[np.argmin(bounds)])
        columns = _Columns(*map(np.concatenate, zip(*found, strict=True)))
        mixed = _master(columns, limited, limit)
        gap = proof.upper - mixed.success
        if gap <= tol:
            return columns, mixed, proof
        outer = proof.penalty.copy()
        outer[limited] = np.minimum(mixed.penalty, NEVER)
        queries = proof.penalty + STEPS[:, None] * (outer - proof.penalty)
    raise ConvergenceError(f"tol={tol:g} was not reached in {MAX_PASSES} passes; the gap reached is {gap:g}", gap)


def _master(columns: _Columns, limited: npt.NDArray[np.intp], limit: Floats) -> _Mixed:
    """Most success by a mixture of columns that keeps to the limits (all > 0)."""
    if not len(limited):
        weights = np.zeros(len(columns.success))
        weights[np.argmax(columns.success)] = 1.0
        return _Mixed(weights, float(columns.success.max()), np.empty(0))
    from scipy.optimize import linprog

    answer = linprog(
        -columns.success,
        A_ub=(columns.usage[:, limited] / limit).T,  # in units of the limits: tolerances are relative to them
        b_ub=np.ones(len(limit)),
        A_eq=np.ones((1, len(columns.success))),
        b_eq=[1.0],
        method="highs-ds",  # a basic solution: at most one column more than there are limits
        options=HIGHS,
    )
    if answer.status != 0:
        raise RuntimeError(f"HiGHS did not solve the master program: {answer.message}")
    weights = np.maximum(answer.x, 0.0)
    weights /= weights.sum()
    return _Mixed(weights, float(weights @ columns.success), np.maximum(-answer.ineqlin.marginals, 0.0) / limit)
