"""Every check and conversion of user input to the solver; the parts of a model are in `validate_model.py`.

Messages name the culprit and the rule it broke.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

ROW_TOLERANCE = 1e-9
MAX_AMOUNT = 2**31 - 1

Floats = npt.NDArray[np.float64]


def nonneg_ints(label: str, value: Any) -> tuple[int, ...]:
    """A non-negative int, or a non-empty sequence of them, as a tuple."""
    if isinstance(value, (str, bytes)):
        raise TypeError(f"{label} is {value!r}; expected an int >= 0 or a tuple of them")
    if isinstance(value, (Sequence, np.ndarray)) and np.ndim(value):
        if not len(value):
            raise ValueError(f"{label} is empty; expected at least one int")
        return tuple(_nonneg_int(f"{label}[{i}]", item) for i, item in enumerate(value))
    return (_nonneg_int(label, value),)


def _nonneg_int(label: str, value: Any) -> int:
    if isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{label} is {value!r}; expected an int >= 0")
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{label} is {value!r}; expected an int >= 0") from None
    if number < 0:
        raise ValueError(f"{label} is {number}; expected an int >= 0")
    if number > MAX_AMOUNT:
        raise ValueError(f"{label} is {number}; expected at most {MAX_AMOUNT}")
    return number


def integer(label: str, value: Any, least: int, most: int = MAX_AMOUNT) -> int:
    """An int in least..most."""
    if isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{label} is {value!r}; expected an int")
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{label} is {value!r}; expected an int") from None
    if not least <= number <= most:
        raise ValueError(f"{label} is {number}; expected {least}..{most}")
    return number


def seed(label: str, value: Any) -> int:
    """An int that is no less than 0."""
    return integer(label, value, 0, 2**63 - 1)


def model(mdp: Any) -> None:
    """Raise TypeError where `mdp` is no InterventionMDP."""
    from selfreg.mdp import InterventionMDP

    if not isinstance(mdp, InterventionMDP):
        raise TypeError(f"mdp must be an InterventionMDP; got {type(mdp).__name__}")


def one_budget(mdp: Any) -> None:
    """Raise ValueError where usage is not one number."""
    if mdp.n_budgets != 1:
        raise ValueError(f"the model has {mdp.n_budgets} budgets, a frontier has one usage; see selfreg.constrained")


def solve_model(mdp: Any, budget: Any) -> tuple[int, ...]:
    """Largest budget of every kind, as a tuple, for a model."""
    model(mdp)
    result = nonneg_ints("budget", budget)
    budgets_fit(result, mdp.n_budgets)
    return result


def budget_within(mdp: Any, budget: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
    """A budget of the model that lies in a lattice of `shape`."""
    result = solve_model(mdp, budget)
    if any(amount >= size for amount, size in zip(result, shape, strict=True)):
        most = tuple(size - 1 for size in shape)
        raise ValueError(f"budget {budget!r} is beyond the lattice of the policy, which ends at {most}")
    return result


def budgets_fit(budget: tuple[int, ...], n_budgets: int) -> None:
    """A budget has one entry for each of the model's budgets."""
    if len(budget) != n_budgets:
        shown = budget[0] if len(budget) == 1 else budget
        raise ValueError(f"budget {shown} has {len(budget)} entries; the costs of this model have {n_budgets}")


def positive(label: str, value: Any) -> float:
    """A finite float > 0."""
    number = float(value)
    if not 0.0 < number < np.inf:
        raise ValueError(f"{label} is {value!r}; expected a finite number > 0")
    return number


def action_indices(rows: npt.NDArray[Any], terminal: npt.NDArray[np.bool_], actions: int) -> None:
    """Check a deterministic policy (stages, n): an action's index in every live state."""
    bad = np.argwhere(((rows < 0) | (rows >= actions)) & ~terminal)
    if len(bad):
        stage, state = bad[0].tolist()
        raise ValueError(f"policy of state {state} is {rows[stage, state]}; expected 0..{actions - 1}")


def action_probabilities(rows: npt.NDArray[Any], terminal: npt.NDArray[np.bool_], actions: int) -> None:
    """Check a randomised policy (stages, n, actions): a distribution over actions in every live state."""
    bad = np.argwhere(~((rows >= 0.0) & (rows < np.inf)) & ~terminal[:, None])
    if len(bad):
        stage, state, action = bad[0].tolist()
        raise ValueError(f"policy of state {state} holds {rows[stage, state, action]:g}; expected probabilities >= 0")
    sums = rows.sum(axis=2)
    bad = np.argwhere((np.abs(sums - 1.0) > ROW_TOLERANCE) & ~terminal)
    if len(bad):
        stage, state = bad[0].tolist()
        raise ValueError(
            f"policy of state {state} sums to {sums[stage, state]:.12g}; expected 1 within {ROW_TOLERANCE:g}"
        )


def nonneg_float(label: str, value: Any) -> float:
    """A number >= 0, infinity among them."""
    number = _number(label, value)
    if not number >= 0.0:
        raise ValueError(f"{label} is {number:g}; expected a number >= 0")
    return number


def probability(label: str, value: Any) -> float:
    """A number in [0, 1]."""
    number = _number(label, value)
    if not 0.0 <= number <= 1.0:
        raise ValueError(f"{label} is {number:g}; expected a probability in [0, 1]")
    return number


def _number(label: str, value: Any) -> float:
    try:
        if not isinstance(value, str):
            return float(value)
    except (TypeError, ValueError):
        pass
    raise TypeError(f"{label} is {value!r}; expected a number")


def penalties(value: Any, mdp: Any) -> tuple[Floats, bool]:
    """Penalties float64 (L, budgets); or (L, help types) and True where they come by help type."""
    if isinstance(value, Mapping):
        return _penalties_by_type(value, list(mdp.costs)), True
    array = _prices("penalties", value)
    if array.ndim == 1 and mdp.n_budgets == 1:
        array = array[:, None]
    if array.ndim != 2 or array.shape[1] != mdp.n_budgets:
        form = "(L,) or (L, 1)" if mdp.n_budgets == 1 else f"(L, {mdp.n_budgets}), one column per budget"
        raise ValueError(f"penalties has shape {array.shape}; expected {form}")
    return array, False


def price_table(value: Any) -> Floats:
    """Penalties float64 (L, budgets), one at least, for models not yet seen."""
    array = _prices("penalties", value)
    if array.ndim not in (1, 2) or not array.size:
        raise ValueError(f"penalties has shape {array.shape}; expected (L,) or (L, budgets), with one penalty at least")
    return array.reshape(len(array), -1)


def _penalties_by_type(value: Mapping[Any, Any], help_types: Sequence[str]) -> Floats:
    if not help_types or set(value) != set(help_types):
        raise ValueError(f"penalties names {list(value)!r}; expected a price for each of {list(help_types)!r}")
    columns = [_prices(f"penalties[{name!r}]", value[name]) for name in help_types]
    try:
        return np.stack(np.broadcast_arrays(*columns, np.empty(1)), axis=1)[:, : len(columns)].copy()
    except ValueError:
        shapes = {name: column.shape for name, column in zip(help_types, columns, strict=True)}
        raise ValueError(f"penalties have shapes {shapes}; expected one number each, or as many for each") from None


def _prices(label: str, value: Any) -> Floats:
    try:
        array = np.array(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise TypeError(f"{label} is {value!r}; expected numbers >= 0") from None
    bad = np.flatnonzero(~(array >= 0.0))  # NaN is no price either
    if len(bad):
        raise ValueError(f"{label} holds {array.ravel()[bad[0]]:g}; expected numbers >= 0, infinity among them")
    return array


def threads(value: Any) -> int:
    """A number of threads >= 1; None is all cores that this process may use."""
    if value is None:
        affinity = getattr(os, "sched_getaffinity", None)
        return len(affinity(0)) if affinity else os.cpu_count() or 1
    number = _nonneg_int("n_threads", value)
    if number < 1:
        raise ValueError(f"n_threads is {number}; expected at least 1")
    return number


def float_dtype(value: Any) -> np.dtype[Any]:
    """float64 or float32."""
    try:
        dtype: np.dtype[Any] = np.dtype(value)
    except TypeError:
        raise TypeError(f"dtype is {value!r}; expected float64 or float32") from None
    if dtype not in (np.dtype(np.float64), np.dtype(np.float32)):
        raise ValueError(f"dtype is {dtype}; expected float64 or float32")
    return dtype


def start(value: Any, n: int) -> Floats:
    """A state or a distribution over states, as probabilities float64 (n,)."""
    if np.ndim(value) == 0:
        state = _nonneg_int("start", value)
        if state >= n:
            raise ValueError(f"start is {state}; expected a state 0..{n - 1}")
        weight = np.zeros(n)
        weight[state] = 1.0
        return weight
    weight = np.ascontiguousarray(value, dtype=np.float64)
    if weight.shape != (n,):
        raise ValueError(f"start has shape {weight.shape}; expected ({n},), one probability per state")
    bad = np.flatnonzero(~((weight >= 0.0) & (weight < np.inf)))
    if len(bad):
        raise ValueError(f"start[{bad[0]}] is {weight[bad[0]]:g}; expected a probability >= 0")
    if abs(weight.sum() - 1.0) > ROW_TOLERANCE:
        raise ValueError(f"start sums to {weight.sum():.12g}; expected 1 within {ROW_TOLERANCE:g}")
    return weight


def kept(keep: Any, value: Any, n: int) -> Floats | None:
    """Start distribution for keep="start"; None for keep="all"."""
    if keep not in ("all", "start"):
        raise ValueError(f'keep is {keep!r}; expected "all" or "start"')
    if (keep == "start") != (value is not None):
        raise ValueError('start= goes with keep="start", and keep="start" needs it')
    return None if value is None else start(value, n)


def memory(needed: int, limit: Any) -> None:
    """Raise MemoryError where `needed` bytes are over `limit`."""
    if needed > positive("max_memory", limit):
        raise MemoryError(f"solving takes {needed:,} bytes beyond the model; max_memory is {limit:,}")


def limits(label: str, value: Any, n_budgets: int) -> Floats:
    """One limit >= 0 for every budget of a model, float64 (budgets,); inf is none."""
    try:
        array = np.atleast_1d(np.asarray(value))
    except ValueError:
        raise ValueError(f"{label} is {value!r}; expected {n_budgets} numbers, one a budget") from None
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{label} is {value!r}; expected {n_budgets} numbers, one a budget")
    if array.shape != (n_budgets,):
        raise ValueError(f"{label} has shape {array.shape}; the costs of this model have {n_budgets} budgets")
    array = array.astype(np.float64)
    bad = np.flatnonzero(~(array >= 0.0))
    if len(bad):
        raise ValueError(
            f"{label}[{bad[0]}] is {array[bad[0]]:g}; no policy spends less than 0: expected a number >= 0"
        )
    return array


def by_row(label: str, value: Any, actions: Sequence[str], n: int) -> dict[str, Floats]:
    """Finite numbers >= 0 for every action and state, float64 (n,) an action."""
    if not isinstance(value, Mapping):
        raise TypeError(f"{label} must be a mapping of action name to (n,) numbers; got {type(value).__name__}")
    if set(value) != set(actions):
        raise ValueError(f"{label} names {list(value)!r}; expected each of {list(actions)!r}")
    result = {}
    for name in actions:
        array = np.asarray(value[name])
        if array.dtype.kind not in "fiu":
            raise TypeError(f'{label}["{name}"] has dtype {array.dtype}; expected numbers >= 0')
        if array.shape != (n,):
            raise ValueError(f'{label}["{name}"] has shape {array.shape}; expected ({n},), one number a state')
        array = array.astype(np.float64)
        bad = np.flatnonzero(~((array >= 0.0) & (array < np.inf)))
        if len(bad):
            raise ValueError(f'{label}["{name}"][{bad[0]}] is {array[bad[0]]:g}; expected a finite number >= 0')
        array.flags.writeable = False
        result[name] = array
    return result


def confidence(label: str, value: Any) -> float:
    """A number strictly between 0 and 1."""
    number = _number(label, value)
    if not 0.0 < number < 1.0:
        raise ValueError(f"{label} is {number:g}; expected a number between 0 and 1, without the ends")
    return number


def policy(mdp: Any, value: Any) -> npt.NDArray[np.int64]:
    """Actions by state and lattice point, each available and affordable, int64 (n, B1 + 1, ...)."""
    model(mdp)
    array = np.asarray(value)
    if array.dtype.kind not in "iu":
        raise TypeError(f"policy has dtype {array.dtype}; expected integers, indices into {mdp.actions!r}")
    if array.ndim != 1 + mdp.n_budgets or array.shape[0] != mdp.n_states:
        raise ValueError(f"policy has shape {array.shape}; expected ({mdp.n_states}, ...) with {mdp.n_budgets} budgets")
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
