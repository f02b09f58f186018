"""Numbers of texts and pairs in the order of their first appearance, and sums by number, a column at a time."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from selfreg.data.trajectory import is_no_help

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]

# Rows that are collected before they are summed up.
ROWS_HELD = 1 << 22
# Most pairs that a table of numbers is made for, four bytes each.
LARGEST_TABLE = 1 << 22
# A transition is one int64: state, action, next state plus 2.
_STATE_BITS, _STATE_SHIFT = 28, 35
LARGEST_ACTION = 127


class ActionNumbers(dict[Any, int]):
    """Numbers of action names, in the order in which they are first looked up; names of no help have number 0."""

    def __init__(self, names: Iterable[Any]) -> None:
        super().__init__((name, i) for i, name in enumerate(names))

    def __missing__(self, name: Any) -> int:
        if name is not None and is_no_help(name):
            return 0
        if len(self) > LARGEST_ACTION:
            raise ValueError(f"help type {name!r}: there are more than {LARGEST_ACTION} help types")
        number = self[name] = len(self)
        return number


class TextNumbers(dict[str, int]):
    """Numbers of texts."""

    def number_all(self, texts: Any) -> Codes:
        """Numbers of many texts, a list or an Arrow array, int64 (texts,)."""
        try:
            column = pa.array(texts, pa.large_string()) if isinstance(texts, list) else texts
            encoded = column.dictionary_encode()
        except (pa.ArrowException, TypeError, UnicodeError):  # keys that are not strings, or not UTF-8
            return np.fromiter((self.setdefault(text, len(self)) for text in texts), np.int64, len(texts))
        named = [self.setdefault(text, len(self)) for text in encoded.dictionary.to_pylist()]
        return np.asarray(np.array(named, np.int64)[np.from_dlpack(encoded.indices)])


def encode_distinct(codes: Codes) -> tuple[Codes, Codes]:
    """Distinct codes by first appearance, and the index of each code in them: int64 (distinct,), int64 (codes,)."""
    found = _arrow(codes).dictionary_encode()
    return np.asarray(np.from_dlpack(found.dictionary), np.int64), np.from_dlpack(found.indices).astype(np.int64)


def _arrow(codes: Codes) -> Any:
    """Without pa.array (and, back, without to_numpy): their first call imports pandas, a quarter of a second."""
    return pa.Array.from_buffers(pa.int64(), len(codes), [None, pa.py_buffer(codes)])


class PairNumbers:
    """Numbers of pairs of numbers from 0 to 2^31 - 1.

    Attributes
    ----------
    pairs : int64 (pairs,)
        First times 2^31 plus second, by number.
    """

    def __init__(self) -> None:
        self.pairs = np.empty(0, np.int64)
        # Number of every possible pair, -1 if not seen; None if there are too many.
        self._table: npt.NDArray[np.int32] | None = np.empty((1, 1), np.int32)
        self._table[:] = -1

    def number_all(self, first: Codes, second: Codes) -> Codes:
        """Numbers of many pairs, int64 (pairs,)."""
        table = self._grow_table(first.max(initial=0) + 1, second.max(initial=0) + 1)
        if table is None:
            return self._number_by_hash((first << 31) | second)
        at = first * table.shape[1] + second
        numbers = table.ravel()[at]
        if len(unseen := at[numbers < 0]):
            new, _ = encode_distinct(unseen)
            row, column = np.divmod(new, table.shape[1])
            table[row, column] = len(self.pairs) + np.arange(len(new))
            self.pairs = np.concatenate([self.pairs, (row << 31) | column])
            numbers = table.ravel()[at]
        return np.asarray(numbers, np.int64)

    def _grow_table(self, rows: int, columns: int) -> npt.NDArray[np.int32] | None:
        """The table, made larger if needed."""
        table = self._table
        if table is not None and (rows > table.shape[0] or columns > table.shape[1]):
            shape = [1 << (int(n) - 1).bit_length() for n in np.maximum((rows, columns), table.shape)]
            self._table = table = None if shape[0] * shape[1] > LARGEST_TABLE else np.full(shape, -1, np.int32)
            if table is not None:
                table[self.pairs >> 31, self.pairs & ((1 << 31) - 1)] = np.arange(len(self.pairs))
        return table

    def _number_by_hash(self, codes: Codes) -> Codes:
        here, of = encode_distinct(codes)
        known = pc.index_in(_arrow(here), value_set=_arrow(self.pairs))
        named = np.from_dlpack(known.fill_null(-1)).astype(np.int64)
        new = named < 0
        named[new] = len(self.pairs) + np.arange(np.count_nonzero(new))
        self.pairs = np.concatenate([self.pairs, here[new]])
        return np.asarray(named[of])


class TransitionSums:
    """Weights by (state, action, next state); repeated transitions are added up whenever the rows have doubled."""

    def __init__(self) -> None:
        self._code, self._weight = np.empty(0, np.int64), np.empty(0)
        self._ones: list[Codes] = []
        self._codes: list[Codes] = []
        self._weights: list[Floats] = []
        self._waiting = 0

    def add(self, state: Codes, action: Codes, after: Codes, weight: Floats | None = None) -> None:
        """Add transitions, each of weight 1 by default; -2 is success and -1 failure."""
        code = (state << _STATE_SHIFT) | (action << _STATE_BITS) | (after + 2)
        if weight is None:
            self._ones.append(code)
        elif len(code):
            self._codes.append(code)
            self._weights.append(weight)
        self._waiting += len(code)
        if self._waiting > max(ROWS_HELD, len(self._code)):
            self._add_up()

    def _add_up(self) -> None:
        code, times = _count_distinct(np.concatenate([*self._ones, self._code[:0]]))
        code, weight = np.concatenate([self._code, code, *self._codes]), [self._weight, times, *self._weights]
        self._code, self._weight = code, np.concatenate(weight)
        if self._codes or len(weight[0]):
            self._code, of = encode_distinct(code)
            self._weight = np.bincount(of, self._weight, len(self._code)).astype(np.float64, copy=False)
        self._ones, self._codes, self._weights, self._waiting = [], [], [], 0

    def result(self) -> tuple[npt.NDArray[np.int64], Floats]:
        """Places int64 (entries, 3), sorted, and their weights."""
        self._add_up()
        order = np.argsort(self._code)
        code, weight = self._code[order], self._weight[order]
        mask = (1 << _STATE_BITS) - 1
        action = (code >> _STATE_BITS) & LARGEST_ACTION
        return np.stack([code >> _STATE_SHIFT, action, (code & mask) - 2], axis=1), weight


def _count_distinct(codes: Codes) -> tuple[Codes, Floats]:
    """Distinct codes, sorted, and their numbers of occurrences: sorting is several times as fast as hashing."""
    codes.sort()
    begins = np.flatnonzero(np.diff(codes, prepend=-1))
    return codes[begins], np.diff(begins, append=len(codes)).astype(np.float64)
