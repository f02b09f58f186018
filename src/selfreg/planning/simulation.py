"""Simulated episodes of a policy."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from selfreg._core import chooser
from selfreg._util import validate
from selfreg._util.parallel import LocalExecutor, run_tasks
from selfreg._util.showing import counted, data_frame, html_table
from selfreg.mdp import InterventionMDP
from selfreg.planning import _arguments
from selfreg.planning._policies import policy_array
from selfreg.planning._structure import strides

if TYPE_CHECKING:
    import pandas as pd

Floats = npt.NDArray[np.float64]

# Episodes per task of a thread; Ctrl-C waits for the end of a task.
CHUNK = 256
MAX_STEPS = 100_000


class MeanError(NamedTuple):
    """A mean and its standard error (NaN for fewer than two episodes)."""

    mean: float
    error: float

    def __str__(self) -> str:
        return f"{self.mean:.4g} +- {self.error:.2g}"


class SimulationSummary(NamedTuple):
    """Means over episodes, with standard errors.

    Attributes
    ----------
    episodes : int
    success, steps : MeanError
    usage : tuple of MeanError
        One for each budget.
    cut_off : int
        Episodes that had not ended after `max_steps`; they count as failed.
    """

    episodes: int
    success: MeanError
    usage: tuple[MeanError, ...]
    steps: MeanError
    cut_off: int

    def __str__(self) -> str:
        used = ", ".join(map(str, self.usage))
        cut = f", {self.cut_off} cut off" if self.cut_off else ""
        return f"{counted(self.episodes, 'episode')}: success {self.success}, help used {used}, steps {self.steps}{cut}"


@dataclass(frozen=True, eq=False, repr=False)
class Simulation:
    """Outcomes of simulated episodes.

    Attributes
    ----------
    success : float64 (episodes,)
        Terminal value of the episode; 0 if it was cut off after `max_steps`.
    usage : int64 (episodes, budgets)
        Units taken from each budget.
    steps : int64 (episodes,)
    ended : bool (episodes,)
        Whether the episode reached a terminal state.
    seed : int
        With which the same episodes can be run again.
    """

    success: Floats
    usage: npt.NDArray[np.int64]
    steps: npt.NDArray[np.int64]
    ended: npt.NDArray[np.bool_]
    seed: int = 0

    def summary(self) -> SimulationSummary:
        """Means and standard errors of success, usage and steps."""
        return SimulationSummary(
            len(self.success),
            _mean_error(self.success),
            tuple(_mean_error(column) for column in self.usage.T),
            _mean_error(self.steps),
            int(np.count_nonzero(~self.ended)),
        )

    def to_pandas(self) -> pd.DataFrame:
        """One row an episode: success, usage (or usage_1, ...), steps, ended.

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        names = ["usage"] if self.usage.shape[1] == 1 else [f"usage_{k + 1}" for k in range(self.usage.shape[1])]
        usage = dict(zip(names, self.usage.T, strict=True))
        columns = {"success": self.success, **usage, "steps": self.steps, "ended": self.ended}
        return data_frame(columns, "Simulation.to_pandas")

    def __repr__(self) -> str:
        return f"Simulation({self.summary()})"

    def _repr_html_(self) -> str:
        summary = self.summary()
        used = [(f"help used, budget {k + 1}", one) for k, one in enumerate(summary.usage)]
        parts = [("success", summary.success), *used, ("steps", summary.steps)]
        rows = [[name, f"{one.mean:.4g}", f"{one.error:.2g}"] for name, one in parts]
        return html_table(repr(self), ["", "mean", "standard error"], rows)


def _mean_error(values: npt.NDArray[Any]) -> MeanError:
    n = len(values)
    mean = float(values.mean()) if n else np.nan
    return MeanError(mean, float(values.std(ddof=1) / np.sqrt(n)) if n > 1 else np.nan)


def simulate(
    mdp: InterventionMDP,
    policy: Any,
    start: Any,
    episodes: int,
    *,
    budget: int | tuple[int, ...] | None = None,
    max_steps: int = MAX_STEPS,
    seed: int | np.random.Generator | None = 0,
    n_threads: int | None = None,
    implementation: str | None = None,
) -> Simulation:
    """Run episodes of a policy on a model.

    Every episode has its own random stream, which depends on the seed and its number only: results are the same for
    any number of threads, and the first episodes do not depend on how many follow.

    Parameters
    ----------
    mdp : InterventionMDP
    policy : Solution, function, mapping, str or array_like
        A solution; one action by name, which is taken in every state where it is available (and payable), with
        `nohelp` elsewhere; a function of the state, or of the state and the budget left where there is a budget, that
        returns an action; a mapping of every live state to an action; or actions (n,), or (n, B1 + 1, B2 + 1, ...) by
        remaining budget. Actions are names or indices into `mdp.actions`. States are names where the model has them.
    start : int, str, tuple, mapping or array_like of float (n,)
        State, or probabilities.
    episodes : int
    budget : int or tuple of int, optional
        Budget at the start of an episode; only for a policy by remaining budget, which needs it. The default for a
        solution is its largest budget.
    max_steps : int
        An episode that has not ended by then is cut off and counts as failed.
    seed : int, Generator or None
        0 <= seed < 2**64, a numpy Generator that one is drawn from, or None for a random one. `Simulation.seed` has it.
    n_threads : int, optional
        All cores by default.
    implementation : {"numba", "python"}, optional
        Which kernel, with the same results; the default is "numba", unless the environment variable
        SELFREG_IMPLEMENTATION says "python".

    Returns
    -------
    Simulation

    Raises
    ------
    ValueError, TypeError
        If an argument is not of the form above, or the policy takes an unavailable or unaffordable action in a state
        that an episode reaches.

    Examples
    --------
    >>> import numpy as np, selfreg
    >>> alone = np.array([[0, .5, .5], [0, 0, 0], [0, 0, 0]])
    >>> helped = np.array([[0, 1., 0], [0, 0, 0], [0, 0, 0]])
    >>> mdp = selfreg.InterventionMDP({"nohelp": alone, "help": helped}, [np.nan, 1, 0], {"help": 1})
    >>> selfreg.simulate(mdp, selfreg.solve(mdp, budget=1), start=0, episodes=100, n_threads=1)
    Simulation(100 episodes: success 1 +- 0, help used 1 +- 0, steps 1 +- 0)
    >>> outcome = selfreg.simulate(mdp, lambda state: "nohelp", start=0, episodes=10_000, n_threads=1)
    >>> print(outcome.summary().success)
    0.4963 +- 0.005
    """
    _arguments.check_model(mdp)
    array, budget = policy_array(mdp, policy, budget, use_own_budget=True)
    flat, offset, limit, top = _flat_policy(mdp, array, budget)
    probability = mdp.start_distribution(start)
    start_states = np.flatnonzero(probability).astype(np.int64)
    start_cumulative = np.cumsum(probability[start_states])
    n = validate.integer("episodes", episodes, 0)
    most = validate.integer("max_steps", max_steps, 0)
    number = _seed_number(seed)
    seed64 = np.uint64(number)
    threads = validate.threads(n_threads)
    kernel = chooser.kernel("simulate", implementation)
    indptr, indices, data = _flat_model(mdp)
    cumulative = np.empty_like(data)
    kernel.accumulate_rows(indptr, data, cumulative)
    usage = np.zeros((n, mdp.n_budgets), np.int64)
    result = Simulation(np.zeros(n), usage, np.zeros(n, np.int64), np.zeros(n, bool), number)

    def run(_: None, first: int) -> int:
        part = slice(first, first + CHUNK)
        fault: int = kernel.run_episodes(
            indptr, indices, cumulative, mdp.terminal_value, flat, offset, mdp.cost_table, limit, top,
            start_states, start_cumulative, seed64, first, most,
            result.success[part], result.usage[part], result.steps[part], result.ended[part],
        )  # fmt: skip
        return fault

    chunks = range(0, n, CHUNK)
    executor = LocalExecutor(max(1, min(threads, len(chunks))))
    with closing(run_tasks(executor, run, None, ((None, first) for first in chunks))) as results:
        for _, fault in results:
            if fault >= 0:
                raise ValueError(_explain_fault(mdp, flat, fault))
    return result


def _seed_number(seed: Any) -> int:
    if seed is None:
        seed = np.random.default_rng()
    if isinstance(seed, np.random.Generator):
        return int(seed.integers(0, 2**64, dtype=np.uint64))
    return validate.integer("seed", seed, 0, 2**64 - 1)


def _flat_policy(
    mdp: InterventionMDP, policy: npt.NDArray[np.integer[Any]], budget: int | tuple[int, ...] | None
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.int64], npt.NDArray[np.int64], int]:
    """Policy as int8 (n, lattice); offset of every action; largest usage of every budget; first lattice point."""
    array, n = validate.unmasked_array("policy", policy), mdp.n_states
    if array.dtype.kind not in "iu":
        raise TypeError(f"policy has dtype {array.dtype}; expected int, an index into mdp.actions")
    dimensions, form = (1, "(n,)") if budget is None else (1 + mdp.n_budgets, "(n, budget + 1, ...)")
    if array.ndim != dimensions or array.shape[0] != n or 0 in array.shape[1:]:
        with_or_without = "without" if budget is None else f"with {mdp.n_budgets}"
        raise ValueError(f"policy has shape {array.shape}; expected {form} with n={n} {with_or_without} budget")
    bad = np.argwhere(((array < 0) | (array >= len(mdp.actions))) & ~mdp.terminal.reshape(-1, *[1] * (array.ndim - 1)))
    if len(bad):
        where = tuple(bad[0].tolist())
        raise ValueError(f"policy[{where}] is {array[where]}; expected 0..{len(mdp.actions) - 1}")
    flat = np.ascontiguousarray(array.reshape(n, prod(array.shape[1:])), dtype=np.int8)
    if budget is None:
        return flat, np.zeros(len(mdp.actions), np.int64), np.full(mdp.n_budgets, np.iinfo(np.int64).max), 0
    limit = _arguments.budget_in_lattice(mdp, budget, array.shape[1:])
    top = int(np.ravel_multi_index(limit, array.shape[1:]))
    return flat, mdp.cost_table @ strides(array.shape[1:]), np.array(limit, np.int64), top


def _flat_model(mdp: InterventionMDP) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32], Floats]:
    """Rows of all actions in one CSR: int64 (actions, n + 1) pointers into int32 indices and float64 data."""
    matrices = [mdp.transitions[name] for name in mdp.actions]
    begin = np.cumsum([0, *(matrix.nnz for matrix in matrices[:-1])], dtype=np.int64)
    indptr = np.stack([matrix.indptr for matrix in matrices]).astype(np.int64) + begin[:, None]
    indices = np.concatenate([matrix.indices for matrix in matrices]).astype(np.int32, copy=False)
    return indptr, indices, np.concatenate([matrix.data for matrix in matrices])


def _explain_fault(mdp: InterventionMDP, policy: npt.NDArray[np.int8], fault: int) -> str:
    state, point = divmod(fault, policy.shape[1])
    action = mdp.actions[policy[state, point]]
    where = f"policy takes {action!r} in state {state}"
    if not mdp.available(action)[state]:
        return f"{where}, where it is unavailable"
    return f"{where} with too little budget left: it costs {mdp.costs[action]}"
