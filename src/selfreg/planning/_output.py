"""Arrays that a solution is written into: new ones, or those of an earlier solution."""

from __future__ import annotations

from math import prod
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from selfreg._util import validate
from selfreg.planning.solution import Solution

Out: TypeAlias = Solution | tuple[npt.NDArray[Any], npt.NDArray[np.int8]]


class Output(NamedTuple):
    """Values and decisions of all states, the budget lattice flattened.

    Attributes
    ----------
    value : float64 or float32 (n, lattice)
    policy : int8 (n, lattice)
    """

    value: npt.NDArray[Any]
    policy: npt.NDArray[np.int8]

    def keep(self, value: npt.NDArray[Any], policy: npt.NDArray[np.int8]) -> None:
        """Copy values and decisions that were computed elsewhere; those computed here are left as they are."""
        if value is not self.value:
            self.value[...] = value.reshape(self.value.shape)
        if policy is not self.policy:
            self.policy[...] = policy.reshape(self.policy.shape)


def output_arrays(out: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Output | None:
    """The arrays of `out`, checked for values and decisions of `shape` (n, budgets + 1, ...); None without `out`."""
    if out is None:
        return None
    if isinstance(out, Solution):
        value, policy = out.value, out.policy
    elif isinstance(out, tuple) and len(out) == 2:
        value, policy = out
    else:
        raise TypeError(f"out must be a Solution or a pair of arrays (value, policy); got {type(out).__name__}")
    for name, array, kind in (("value", value, dtype), ("policy", policy, np.dtype(np.int8))):
        _check_array(name, array, shape, kind)
    if np.may_share_memory(value, policy):
        raise ValueError("out: value and policy share memory")
    flat = shape[0], prod(shape[1:])
    return Output(value.reshape(flat), policy.reshape(flat))


def _check_array(name: str, array: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    if not isinstance(array, np.ndarray):
        raise TypeError(f"out: {name} must be an array; got {type(array).__name__}")
    validate.check_unmasked(f"out: {name}", array)
    if array.shape != shape or array.dtype != dtype:
        raise ValueError(f"out: {name} is {array.dtype} {array.shape}; this model and budget need {dtype} {shape}")
    if not (array.flags.c_contiguous and array.flags.writeable):
        raise ValueError(f"out: {name} must be C-contiguous and writable")
