"""Numbers for things in the order of their first appearance, and sums by number: whole columns at a time."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]

# Rows that wait before they are summed up.
ROWS_HELD = 1 << 17
# A transition is one int64: state, action, next state plus 2.
_STATE_BITS, _STATE_SHIFT = 28, 35
LARGEST_ACTION = 127


class Numbers(dict[Any, int]):
    """Numbers of action names, given out when first asked for."""

    def __init__(self, names: Iterable[Any]) -> None:
        super().__init__((name, i) for i, name in enumerate(names))

    def __missing__(self, name: Any) -> int:
        if len(self) > LARGEST_ACTION:
            raise ValueError(f"there are more than {LARGEST_ACTION} help types; {name!r} is one too many")
        number = self[name] = len(self)
        return number


class TextNumbers(dict[str, int]):
    """Numbers of texts."""

    def of(self, texts: list[str]) -> Codes:
        """Numbers of many texts, int64 (texts,)."""
        try:
            encoded = pa.array(texts, pa.large_string()).dictionary_encode()
        except (pa.ArrowException, TypeError, UnicodeError):  # no text, or not for UTF-8: keys that a program made
            return np.fromiter((self.setdefault(text, len(self)) for text in texts), np.int64, len(texts))
        named = [self.setdefault(text, len(self)) for text in encoded.dictionary.to_pylist()]
        return np.asarray(np.array(named, np.int64)[encoded.indices.to_numpy()])


class PairNumbers:
    """Numbers of pairs of numbers from 0 to 2^31 - 1.

    Attributes
    ----------
    pairs : int64 (pairs,)
        First times 2^31 plus second, by number.
    """

    def __init__(self) -> None:
        self._pairs = pa.array([], pa.int64())

    @property
    def pairs(self) -> Codes:
        return np.asarray(self._pairs.to_numpy())

    def of(self, first: Codes, second: Codes) -> Codes:
        """Numbers of many pairs, int64 (pairs,)."""
        encoded = pa.array((first << 31) | second).dictionary_encode()
        here = encoded.dictionary
        known = pc.index_in(here, value_set=self._pairs)
        named = known.fill_null(-1).to_numpy().astype(np.int64)
        new = named < 0
        named[new] = len(self._pairs) + np.arange(np.count_nonzero(new))
        self._pairs = pa.concat_arrays([self._pairs, here.filter(pa.array(new))])
        return np.asarray(named[encoded.indices.to_numpy()])


class Sums:
    """Weights by (state, action, next state); what repeats is added up whenever as much again has come."""

    def __init__(self) -> None:
        self._code, self._weight = np.empty(0, np.int64), np.empty(0)
        self._codes: list[Codes] = []
        self._weights: list[Floats] = []
        self._waiting = 0

    def add(self, state: Codes, action: Codes, after: Codes, weight: Floats | None = None) -> None:
        """Add transitions, each of weight 1 by default; -2 is success and -1 failure."""
        code = (state << _STATE_SHIFT) | (action << _STATE_BITS) | (after + 2)
        self._codes.append(code)
        self._weights.append(np.ones(len(code)) if weight is None else weight)
        self._waiting += len(code)
        if self._waiting > max(ROWS_HELD, len(self._code)):
            self._add_up()

    def _add_up(self) -> None:
        code, weight = np.concatenate([self._code, *self._codes]), np.concatenate([self._weight, *self._weights])
        # On one thread: sums in the order of their rows.
        groups = pa.table({"code": code, "weight": weight}).group_by("code", use_threads=False)
        summed = groups.aggregate([("weight", "sum")])
        self._code, self._weight = summed["code"].to_numpy(), summed["weight_sum"].to_numpy()
        self._codes, self._weights, self._waiting = [], [], 0

    def result(self) -> tuple[npt.NDArray[np.int64], Floats]:
        """Places int64 (entries, 3), sorted, and their weights."""
        self._add_up()
        order = np.argsort(self._code)
        code, weight = self._code[order], self._weight[order]
        mask = (1 << _STATE_BITS) - 1
        action = (code >> _STATE_BITS) & LARGEST_ACTION
        return np.stack([code >> _STATE_SHIFT, action, (code & mask) - 2], axis=1), weight
