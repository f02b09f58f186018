"""Checks and conversions of single arguments. Messages name the culprit and the rule that it broke.

The parts of a model are checked in `validate_model.py`, arguments that depend on a model in `planning/_arguments.py`.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

import numpy as np
import numpy.typing as npt

from selfreg._util.showing import describe

ROW_TOLERANCE = 1e-9
MAX_AMOUNT = 2**31 - 1
EPSILON = float(np.finfo(np.float64).eps)
NO_STATES = "the model has no states"
NO_NUMBERS = bool, np.bool_, np.ma.MaskedArray  # though Python makes integers of them
FLOAT_DTYPES = np.dtype(np.float64), np.dtype(np.float32)

Floats = npt.NDArray[np.float64]


def nonneg_ints(label: str, value: Any) -> tuple[int, ...]:
    """A non-negative int, or a non-empty sequence of them, as a tuple."""
    if isinstance(value, (str, bytes)):
        raise TypeError(f"{label} is {value!r}; expected an int >= 0 or a tuple of them")
    if not isinstance(value, int) and isinstance(value, (Sequence, np.ndarray)) and np.ndim(value):
        if not len(value):
            raise ValueError(f"{label} is empty; expected at least one int")
        return tuple(_nonneg_int(f"{label}[{i}]", item) for i, item in enumerate(value))
    return (_nonneg_int(label, value),)


def _nonneg_int(label: str, value: Any) -> int:
    if isinstance(value, NO_NUMBERS):
        check_unmasked(label, value)
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
    if isinstance(value, NO_NUMBERS):
        check_unmasked(label, value)
        raise TypeError(f"{label} is {value!r}; expected an int")
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{label} is {value!r}; expected an int") from None
    if not least <= number <= most:
        raise ValueError(f"{label} is {number}; expected {least}..{most}")
    return number


def seed(label: str, value: Any) -> int:
    """An int >= 0."""
    return integer(label, value, 0, 2**63 - 1)


def shown(number: float) -> str:
    """A number in few digits, or in all of them where few would show another number."""
    short = f"{number:g}"
    return short if float(short) == number else repr(float(number))


def is_mapping(value: Any) -> TypeGuard[Mapping[Any, Any]]:
    """Whether `value` is a mapping and not a sparse matrix, which scipy makes a dict in the format dok."""
    return isinstance(value, Mapping) and not hasattr(value, "shape")


def items(label: str, value: Any, kind: str) -> list[Any]:
    """The items of a sequence."""
    try:
        if not isinstance(value, (str, bytes)):
            return list(value)
    except TypeError:
        pass
    raise TypeError(f"{label} is {describe(value)}; expected a sequence of {kind}")


def unmasked_array(label: str, value: Any) -> npt.NDArray[Any]:
    """`value` as an array."""
    check_unmasked(label, value)
    try:
        return np.asarray(value)
    except ValueError:
        raise ValueError(f"{label} has rows of different lengths; expected an array") from None


def check_unmasked(label: str, value: Any) -> None:
    """Raise TypeError for a masked array or a list of them: masked entries have no value."""
    of_list = isinstance(value, (list, tuple)) and any(isinstance(row, np.ma.MaskedArray) for row in value)
    if of_list or isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{label} is a masked array; expected an array without a mask, as from value.filled(...)")


def positive(label: str, value: Any) -> float:
    """A finite float > 0."""
    number = _number(label, value)
    if not 0.0 < number < np.inf:
        raise ValueError(f"{label} is {value!r}; expected a finite number > 0")
    return number


def nonneg_float(label: str, value: Any) -> float:
    """A number >= 0, possibly infinite."""
    number = _number(label, value)
    if not number >= 0.0:
        raise ValueError(f"{label} is {shown(number)}; expected a number >= 0")
    return number


def probability(label: str, value: Any) -> float:
    """A number in [0, 1]."""
    number = _number(label, value)
    if not 0.0 <= number <= 1.0:
        raise ValueError(f"{label} is {shown(number)}; expected a probability in [0, 1]")
    return number


def _number(label: str, value: Any) -> float:
    try:
        if not isinstance(value, str):
            return float(value)
    except OverflowError:
        raise ValueError(f"{label} is too large for a float; expected a number") from None
    except (TypeError, ValueError):
        pass
    raise TypeError(f"{label} is {value!r}; expected a number")


def threads(value: Any) -> int:
    """A number of threads >= 1; None stands for all cores that this process may use."""
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
    if dtype not in FLOAT_DTYPES:
        raise ValueError(f"dtype is {dtype}; expected float64 or float32")
    return dtype


def start(value: Any, n: int) -> Floats:
    """A state or a distribution over states, as probabilities float64 (n,)."""
    check_unmasked("start", value)
    try:
        scalar = np.ndim(value) == 0
        weight = np.zeros(n) if scalar else np.ascontiguousarray(value, dtype=np.float64)
    except OverflowError:
        raise ValueError("start holds a number that is too large for a float; expected probabilities") from None
    except (TypeError, ValueError):
        raise TypeError(f"start is {describe(value)}; expected a state, or one probability per state") from None
    if scalar:
        state = _nonneg_int("start", value)
        if state >= n:
            raise ValueError(f"start is {state}; {f'expected a state 0..{n - 1}' if n else NO_STATES}")
        weight[state] = 1.0
        return weight
    if weight.shape != (n,):
        raise ValueError(f"start has shape {weight.shape}; expected ({n},), one probability per state")
    bad = np.flatnonzero(~((weight >= 0.0) & (weight < np.inf)))
    if len(bad):
        raise ValueError(f"start[{bad[0]}] is {shown(weight[bad[0]])}; expected a probability >= 0")
    if abs(weight.sum() - 1.0) > ROW_TOLERANCE:
        raise ValueError(f"start sums to {weight.sum():.12g}; expected 1 within {ROW_TOLERANCE:g}")
    return weight


def nonneg_array(label: str, value: Any, most: float = np.inf) -> Floats:
    """Finite numbers in 0..most, float64 of any shape."""
    array = unmasked_array(label, value)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{label} has dtype {array.dtype}; expected numbers >= 0")
    array = array.astype(np.float64)
    bad = np.argwhere(~((array >= 0.0) & (array < np.inf) & (array <= most)))
    if len(bad):
        place = str(bad[0].tolist()) if array.ndim else ""
        rule = "a finite number >= 0" if most == np.inf else f"a number in [0, {most:g}]"
        raise ValueError(f"{label}{place} is {shown(array[tuple(bad[0])])}; expected {rule}")
    return array


def by_row(label: str, value: Any, actions: Sequence[str], n: int) -> dict[str, Floats]:
    """Finite numbers >= 0 for every action and state, float64 (n,) an action."""
    if not is_mapping(value):
        raise TypeError(f"{label} must be a mapping of action name to (n,) numbers; got {type(value).__name__}")
    if set(value) != set(actions):
        raise ValueError(f"{label} names {list(value)!r}; expected each of {list(actions)!r}")
    result = {}
    for name in actions:
        array = nonneg_array(f'{label}["{name}"]', value[name])
        if array.shape != (n,):
            raise ValueError(f'{label}["{name}"] has shape {array.shape}; expected ({n},), one number a state')
        array.flags.writeable = False
        result[name] = array
    return result


def confidence(label: str, value: Any) -> float:
    """A number strictly between 0 and 1."""
    number = _number(label, value)
    if not 0.0 < number < 1.0:
        raise ValueError(f"{label} is {shown(number)}; expected a number between 0 and 1, both excluded")
    return number
