"""Hard budgets: the best chance of success under at most b help, for every state and every b."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np
import numpy.typing as npt

from selfreg import _validate
from selfreg._core import chooser
from selfreg._core.structure import analyse, kernel_arrays
from selfreg.mdp import InterventionMDP

# Sweeps over one budget layer of one component; a sweep costs as much as a backup of the component.
MAX_SWEEPS = 10_000_000


class ConvergenceError(RuntimeError):
    """The bounds could not be brought within the tolerance asked for; `bound` is what was reached."""

    def __init__(self, message: str, bound: float) -> None:
        super().__init__(message)
        self.bound = bound


@dataclass(frozen=True, eq=False)
class Solution:
    """Optimal values and decisions for every state and every remaining budget.

    Attributes
    ----------
    mdp : InterventionMDP
    budget : tuple of int
        Largest budget of every kind.
    value : float64 (n, B1 + 1, B2 + 1, ...)
        Probability of success under at most that much help. A lower bound that `policy` attains, at most `bound`
        below the optimum.
    policy : int8, same shape
        Index into `mdp.actions`. Ties go to `nohelp`, then to the lowest index; where all is worth 0, `nohelp`.
    bound : float
        Largest distance of the proven upper bound from `value`; 0.0 where the pass is exact (up to rounding).
    """

    mdp: InterventionMDP
    budget: tuple[int, ...]
    value: npt.NDArray[np.float64]
    policy: npt.NDArray[np.int8]
    bound: float

    def q(self, action: str) -> npt.NDArray[np.float64]:
        """Value of taking `action` now and acting optimally afterwards.

        Returns
        -------
        float64, shape of `value`
            NaN where the action is unavailable, not affordable, or the state is terminal.

        Raises
        ------
        ValueError
            If the model has no such action.
        """
        if action not in self.mdp.actions:
            raise ValueError(f"action {action!r} is not in the model; choose from {self.mdp.actions!r}")
        n, index, shape = self.mdp.n_states, self.mdp.actions.index(action), self.value.shape[1:]
        expected = (self.mdp.transitions[action] @ self.value.reshape(n, prod(shape))).reshape(n, *shape)
        result = np.full(self.value.shape, np.nan)
        cost = self.mdp.cost_table[index]
        moves = [min(size, int(c)) for size, c in zip(shape, cost, strict=True)]
        paid = (slice(None), *(slice(move, None) for move in moves))
        left = (slice(None), *(slice(0, size - move) for size, move in zip(shape, moves, strict=True)))
        result[paid] = expected[left]
        result[~self.mdp.available(action)] = np.nan
        return result


def solve(
    mdp: InterventionMDP, budget: int | tuple[int, ...], *, tol: float = 1e-9, implementation: str | None = None
) -> Solution:
    """Solve the hard-budget problem: at most `budget` help, for every state and every smaller budget.

    For every state `s` and remaining budget `b`, the least solution of (`design.md`, section 2; the equations are
    ours, the method is that of arXiv 2502.04576)

        V(s, b) = max( sum_j P_0[s,j] V(j, b),  max over available k with c_k <= b of sum_j P_k[s,j] V(j, b - c_k) )

    with V(s, b) = terminal_value[s] in terminal states; waiting for ever is worth 0.

    Parameters
    ----------
    mdp : InterventionMDP
    budget : int or tuple of int
        Largest budget, or one per kind of budget, >= 0.
    tol : float
        Largest proven error allowed where the model has cycles that need iteration.
    implementation : {"cython", "python"}, optional
        Which kernel; the default is the environment variable SELFREG_IMPLEMENTATION, else "cython".

    Returns
    -------
    Solution

    Raises
    ------
    ValueError, TypeError
        If an argument is not of the form above.
    ConvergenceError
        If `tol` could not be reached; it carries the bound that was.

    Examples
    --------
    >>> import numpy as np, selfreg
    >>> alone = np.array([[0, .5, .5], [0, 0, 0], [0, 0, 0]])
    >>> helped = np.array([[0, .9, .1], [0, 0, 0], [0, 0, 0]])
    >>> mdp = selfreg.InterventionMDP({"nohelp": alone, "help": helped}, [np.nan, 1, 0], {"help": 1})
    >>> selfreg.solve(mdp, budget=2).value[0].tolist()
    [0.5, 0.9, 0.9]
    """
    if not isinstance(mdp, InterventionMDP):
        raise TypeError(f"mdp must be an InterventionMDP; got {type(mdp).__name__}")
    budgets = _validate.budget(budget, mdp.n_budgets)
    tol = _validate.positive("tol", tol)
    shape = tuple(b + 1 for b in budgets)
    offset, affordable, runs = _lattice(mdp.cost_table, shape)
    arrays = kernel_arrays([mdp.transitions[name] for name in mdp.actions])
    free = np.flatnonzero(offset == 0).tolist()
    structure = analyse(arrays, mdp.terminal, free, implementation)
    lower = np.zeros((mdp.n_states, prod(shape)))
    lower[mdp.terminal] = mdp.terminal_value[mdp.terminal, None]
    upper = lower if structure.exact else lower.copy()
    policy = np.zeros(lower.shape, np.int8)
    backward_induction = chooser.kernel("budget", implementation).backward_induction
    # A chain of components may add up what each leaves open: ask for less of each until the sum is proven.
    for share in (1.0, 1e-2, 1e-4):
        unfinished = backward_induction(
            *arrays,
            offset,
            affordable,
            runs,
            shape[-1],
            mdp.terminal.view(np.uint8),
            *structure[:4],
            share * tol,
            MAX_SWEEPS,
            lower,
            upper,
            policy,
        )
        bound = 0.0 if structure.exact else max(float(np.max(upper - lower)), 0.0)
        if bound <= tol:
            return Solution(mdp, budgets, lower.reshape(-1, *shape), policy.reshape(-1, *shape), bound)
        if unfinished:
            break
    raise ConvergenceError(f"tol={tol:g} was not reached in {MAX_SWEEPS} sweeps; the bound reached is {bound:g}", bound)


def _lattice(
    costs: npt.NDArray[np.int64], shape: tuple[int, ...]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """The budget lattice, flattened in C order.

    Returns
    -------
    offset : int64 (actions,)
        How far each action moves a point down.
    affordable : uint8 (actions, lattice)
        Whether the action can be paid for at a point.
    runs : int64 (runs, 3)
        Action (help types only), start and length of every affordable stretch.
    """
    strides = np.array([prod(shape[i + 1 :]) for i in range(len(shape))], dtype=np.int64)
    points = np.indices(shape).reshape(len(shape), -1)
    affordable = np.all(points[None] >= costs[:, :, None], axis=1).astype(np.uint8)
    runs: list[tuple[int, int, int]] = []
    for a in range(1, len(costs)):
        edges = np.flatnonzero(np.diff(np.concatenate([[0], affordable[a], [0]]).astype(np.int8)))
        runs += [(a, int(start), int(stop - start)) for start, stop in zip(edges[::2], edges[1::2], strict=True)]
    return costs @ strides, affordable, np.array(runs, dtype=np.int64).reshape(-1, 3)
