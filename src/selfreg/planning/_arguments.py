"""Checks and conversions of arguments that depend on a model: budgets, penalties, policies.

Messages name the culprit and the rule that it broke.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from selfreg._util import validate
from selfreg._util.showing import describe
from selfreg._util.validate import ROW_TOLERANCE
from selfreg.mdp import InterventionMDP

Floats = npt.NDArray[np.float64]


def check_model(mdp: Any) -> None:
    """Raise TypeError if `mdp` is not an InterventionMDP."""
    if not isinstance(mdp, InterventionMDP):
        raise TypeError(f"mdp must be an InterventionMDP; got {type(mdp).__name__}")


def check_single_budget(mdp: Any) -> None:
    """Raise ValueError if the model has several budgets."""
    if mdp.n_budgets != 1:
        raise ValueError(
            f"the model has {mdp.n_budgets} budgets, a frontier is for one budget; see selfreg.constrained"
        )


def budget_tuple(mdp: Any, budget: Any) -> tuple[int, ...]:
    """The largest value of each of the model's budgets."""
    check_model(mdp)
    result = validate.nonneg_ints("budget", budget)
    check_budget_count(result, mdp.n_budgets)
    return result


def budget_in_lattice(mdp: Any, budget: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
    """A point of the model's budget lattice, which has `shape`."""
    result = budget_tuple(mdp, budget)
    if any(amount >= size for amount, size in zip(result, shape, strict=True)):
        most = tuple(size - 1 for size in shape)
        raise ValueError(f"budget {budget!r} is beyond the lattice of the policy, which ends at {most}")
    return result


def check_budget_count(budget: tuple[int, ...], n_budgets: int) -> None:
    """Raise ValueError unless `budget` has one entry for each budget of the model."""
    if len(budget) != n_budgets:
        shown = budget[0] if len(budget) == 1 else budget
        raise ValueError(f"budget {shown} has {len(budget)} entries; the costs of this model have {n_budgets}")


def check_action_indices(rows: npt.NDArray[Any], terminal: npt.NDArray[np.bool_], actions: int) -> None:
    """Check a deterministic policy (stages, n): an action's index in every live state."""
    bad = np.argwhere(((rows < 0) | (rows >= actions)) & ~terminal)
    if len(bad):
        stage, state = bad[0].tolist()
        raise ValueError(f"policy of state {state} is {rows[stage, state]}; expected 0..{actions - 1}")


def check_action_probabilities(rows: npt.NDArray[Any], terminal: npt.NDArray[np.bool_], actions: int) -> None:
    """Check a randomised policy (stages, n, actions): a distribution over actions in every live state."""
    bad = np.argwhere(~((rows >= 0.0) & (rows < np.inf)) & ~terminal[:, None])
    if len(bad):
        stage, state, action = bad[0].tolist()
        raise ValueError(
            f"policy of state {state} holds {validate.shown(rows[stage, state, action])}; expected probabilities >= 0"
        )
    sums = rows.sum(axis=2)
    bad = np.argwhere((np.abs(sums - 1.0) > ROW_TOLERANCE) & ~terminal)
    if len(bad):
        stage, state = bad[0].tolist()
        raise ValueError(
            f"policy of state {state} sums to {sums[stage, state]:.12g}; expected 1 within {ROW_TOLERANCE:g}"
        )


def penalty_array(value: Any, mdp: Any) -> tuple[Floats, bool]:
    """Penalties float64 (L, budgets) and False; or (L, help types) and True if they are given by help type."""
    if validate.is_mapping(value):
        return _penalties_by_type(value, list(mdp.costs)), True
    array = _prices("penalties", value)
    if array.ndim == 0 and mdp.n_budgets == 1:
        array = array.reshape(1)
    if array.ndim == 1 and mdp.n_budgets == 1:
        array = array[:, None]
    if array.ndim != 2 or array.shape[1] != mdp.n_budgets:
        form = "(L,) or (L, 1)" if mdp.n_budgets == 1 else f"(L, {mdp.n_budgets}), one column per budget"
        raise ValueError(f"penalties has shape {array.shape}; expected {form}")
    return array, False


def penalty_table(value: Any) -> Floats:
    """Penalties float64 (L, budgets), at least one, before the models are available."""
    array = _prices("penalties", value)
    if array.ndim not in (1, 2) or not array.size:
        raise ValueError(f"penalties has shape {array.shape}; expected (L,) or (L, budgets), with at least one penalty")
    return array.reshape(len(array), -1)


def _penalties_by_type(value: Mapping[Any, Any], help_types: Sequence[str]) -> Floats:
    if not help_types:
        raise ValueError("penalties is a mapping of help types to prices; the model has no help types")
    if set(value) != set(help_types):
        raise ValueError(f"penalties names {list(value)!r}; expected a price for each of {list(help_types)!r}")
    columns = [_prices(f"penalties[{name!r}]", value[name]) for name in help_types]
    try:
        return np.stack(np.broadcast_arrays(*columns, np.empty(1)), axis=1)[:, : len(columns)].copy()
    except ValueError:
        shapes = {name: column.shape for name, column in zip(help_types, columns, strict=True)}
        raise ValueError(
            f"penalties have shapes {shapes}; expected one number each, or the same number for each"
        ) from None


def _prices(label: str, value: Any) -> Floats:
    validate.check_unmasked(label, value)
    try:
        given = np.asarray(value)
        if given.dtype.kind in "USc" or (given.dtype == object and None in given.ravel().tolist()):
            raise TypeError  # NumPy makes numbers of texts, and NaN of None
        array = np.array(given, dtype=np.float64)
    except OverflowError:
        raise ValueError(f"{label} holds a number that is too large for a float; expected numbers >= 0") from None
    except (TypeError, ValueError):
        raise TypeError(f"{label} is {describe(value)}; expected numbers >= 0") from None
    bad = np.flatnonzero(~(array >= 0.0))  # NaN fails too
    if len(bad):
        raise ValueError(
            f"{label} holds {validate.shown(array.ravel()[bad[0]])}; expected numbers >= 0, possibly infinite"
        )
    return array


def start_to_keep(keep: Any, value: Any, mdp: InterventionMDP) -> Floats | None:
    """Start distribution for keep="start"; None for keep="all"."""
    if keep not in ("all", "start"):
        raise ValueError(f'keep is {keep!r}; expected "all" or "start"')
    if (keep == "start") != (value is not None):
        raise ValueError('start= needs keep="start", and keep="start" needs start=')
    return None if value is None else mdp.start_distribution(value)


def check_memory(needed: int, limit: Any) -> None:
    """Raise MemoryError if `needed` bytes exceed `limit`."""
    if needed > validate.positive("max_memory", limit):
        raise MemoryError(f"solving needs {needed:,} bytes beyond the model; max_memory is {limit:,}")


def usage_limits(label: str, value: Any, n_budgets: int) -> Floats:
    """One limit >= 0 for every budget of a model, float64 (budgets,); inf stands for no limit."""
    array = np.atleast_1d(validate.unmasked_array(label, value))
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{label} is {value!r}; expected {n_budgets} numbers, one a budget")
    if array.shape != (n_budgets,):
        raise ValueError(f"{label} has shape {array.shape}; the costs of this model have {n_budgets} budgets")
    array = array.astype(np.float64)
    bad = np.flatnonzero(~(array >= 0.0))
    if len(bad):
        raise ValueError(
            f"{label}[{bad[0]}] is {validate.shown(array[bad[0]])}; "
            "expected a number >= 0, since no policy spends less than 0"
        )
    return array


def budget_policy(mdp: Any, value: Any) -> npt.NDArray[np.int64]:
    """Actions by state and remaining budget, each available and affordable, int64 (n, B1 + 1, ...)."""
    array = validate.unmasked_array("policy", value)
    if array.dtype.kind not in "iu":
        raise TypeError(f"policy has dtype {array.dtype}; without start= expected int, indices into {mdp.actions!r}")
    if array.ndim != 1 + mdp.n_budgets or array.shape[0] != mdp.n_states:
        form = ", ".join(["n", *(f"B{k + 1} + 1" for k in range(mdp.n_budgets))])
        raise ValueError(f"policy has shape {array.shape}; without start= expected ({form}) with n={mdp.n_states}")
    live = ~mdp.terminal
    left = np.moveaxis(np.indices(array.shape[1:]), 0, -1)
    allowed = np.zeros(array.shape, np.bool_)
    for a, name in enumerate(mdp.actions):
        payable = np.all(left >= mdp.cost_table[a], axis=-1)
        allowed |= (array == a) & payable & mdp.available(name).reshape(-1, *[1] * mdp.n_budgets)
    bad = np.argwhere(~allowed & live.reshape(-1, *[1] * mdp.n_budgets))
    if len(bad):
        state, *budget = bad[0].tolist()
        action = array[tuple(bad[0])]
        raise ValueError(
            f"policy takes action {action} in state {state} with {budget} left; it is not available or not affordable"
        )
    return array.astype(np.int64)
