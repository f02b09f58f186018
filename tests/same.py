"""Whether two results are the same, field by field: for round trips through files, pickle and copies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from inspect import ismethod
from typing import Any

import numpy as np
import scipy.sparse as sp


def assert_same(one: Any, other: Any, where: str = "it") -> None:
    """Same types, and same content down to the bits of arrays; `where` names the part in a failure."""
    assert type(one) is type(other), f"{where}: {type(one)} and {type(other)}"
    if isinstance(one, np.ndarray):
        assert one.dtype == other.dtype, where
        np.testing.assert_array_equal(one, other, err_msg=where)
    elif sp.issparse(one):
        for part in ("indptr", "indices", "data"):
            assert_same(getattr(one, part), getattr(other, part), f"{where}.{part}")
    elif is_dataclass(one) and not isinstance(one, type):
        for field in fields(one):
            assert_same(getattr(one, field.name), getattr(other, field.name), f"{where}.{field.name}")
    elif isinstance(one, Mapping):
        assert list(one) == list(other), where
        for key in one:
            assert_same(one[key], other[key], f"{where}[{key!r}]")
    elif isinstance(one, Sequence) and not isinstance(one, str | bytes):
        assert len(one) == len(other), where
        for i, (here, there) in enumerate(zip(one, other, strict=True)):
            assert_same(here, there, f"{where}[{i}]")
    elif isinstance(one, float):
        assert one == other or (one != one and other != other), where
    elif ismethod(one):
        assert one.__func__ is other.__func__, where
    elif type(one).__reduce__ is not object.__reduce__ and not isinstance(one, type):
        # Caches do not travel: compare what does.
        assert_same(one.__reduce__()[1], other.__reduce__()[1], where)
    elif type(one).__eq__ is object.__eq__ and hasattr(one, "__dict__") and not callable(one):
        assert_same(vars(one), vars(other), where)
    elif type(one).__eq__ is not object.__eq__ or one is None:
        assert one == other, where
