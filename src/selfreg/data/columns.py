"""Canonical episodes as columns, read without an object for each step and without holding the interpreter lock.

Only regular lines and columns are read here; everything else goes to the readers of trajectories.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from enum import IntEnum
from typing import Any, NamedTuple, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from selfreg._core.chooser import kernel
from selfreg.data.formats.canonical import SCHEMA
from selfreg.data.log_files import open_arrow
from selfreg.data.trajectory import Scalar

Ints: TypeAlias = npt.NDArray[np.int64]

SHORTEST_STEP = '{"state":""}'
SHORTEST = '{"task":"","episode":"","outcome":0,"steps":[]}' + SHORTEST_STEP
# Above this number and share of irregular lines, columns would be slower than trajectories.
MOST_IRREGULAR, SHARE = 64, 1 / 16


class StepText(IntEnum):
    """Which text of a step to read."""

    NOTHING, KEY, STATE = 0, 1, 2  # KEY: the state if the step has no key


class Columns(NamedTuple):
    """Some episodes.

    Attributes
    ----------
    numbers : int64 (episodes,)
        Lines, or rows, from 1.
    task, episode : Arrow array of strings (episodes,)
    outcome : float64 (episodes,)
    length : int64 (episodes,)
        Steps, at least one.
    fields : list of dict
        Distinct free fields.
    fields_of : int64 (episodes,)
        Index of each episode's free fields.
    text : Arrow array of strings (steps,)
        The text of each step that was selected, one episode after another.
    intervention : Arrow array of strings (steps,)
        Null for a step without help.
    """

    numbers: Ints
    task: Any
    episode: Any
    outcome: npt.NDArray[np.float64]
    length: Ints
    fields: list[dict[str, Scalar]]
    fields_of: Ints
    text: Any
    intervention: Any


# Gets the number and content of an irregular line; returns the record as regular JSON and its outcome, None to skip it.
OnIrregularLine: TypeAlias = Callable[[int, bytes], tuple[bytes, float] | None]


def jsonl_columns(
    blocks: Iterable[bytes], size: int, text: StepText, on_irregular_line: OnIrregularLine
) -> Columns | None:
    """Columns of canonical JSONL: whole lines, `size` bytes in all; None if they are better read as trajectories."""
    output, scan = _ScanArrays(size), kernel("scan").scan
    outcomes: dict[int, float] = {}
    unusual, left = 0, size
    for block in blocks:
        left -= len(block)
        if left < 0 or not _is_utf8(block):  # the file was changed meanwhile, and would need larger arrays
            return None
        begin = 0
        while (begin := scan(block, begin, text, *output.arrays)) < len(block):
            unusual += 1
            if unusual > max(MOST_IRREGULAR, SHARE * output.reached[0]):
                return None
            end = block.find(b"\n", begin) % (len(block) + 1)
            number = int(output.reached[0]) + 1
            if (regular := on_irregular_line(number, block[begin:end])) is not None:
                line, outcome = regular
                if len(line) > end - begin or scan(line, 0, text, *output.arrays) < len(line):
                    return None
                outcomes[int(output.reached[1]) - 1] = outcome
                output.numbers[output.reached[1] - 1] = number
            output.reached[0] = number
            begin = end + 1
    return output.columns(outcomes)


def _is_utf8(block: bytes) -> bool:
    ends = pa.py_buffer(np.array([0, len(block)], np.int64))
    try:
        pa.Array.from_buffers(pa.large_binary(), 1, [None, ends, pa.py_buffer(block)]).cast(pa.large_string())
    except pa.ArrowInvalid:
        return False
    return True


class _ScanArrays:
    """Output arrays of the scan, large enough for any `size` bytes; untouched pages cost no memory."""

    def __init__(self, size: int) -> None:
        episodes, steps = size // len(SHORTEST) + 1, size // len(SHORTEST_STEP) + 1
        self.reached = np.zeros(3, np.int64)
        self.numbers, self.lengths = np.empty(episodes, np.int64), np.empty(episodes, np.int64)
        self.episode_ends, self.step_ends = np.empty((4, episodes + 1), np.int64), np.empty((2, steps + 1), np.int64)
        self.episode_ends[:, 0] = self.step_ends[:, 0] = 0
        self.episode_texts = np.empty((4, size), np.uint8)
        self.step_texts = np.empty((2, size), np.uint8)
        self.helped = np.empty(steps, np.uint8)

    @property
    def arrays(self) -> tuple[npt.NDArray[Any], ...]:
        texts = (self.episode_ends, self.episode_texts, self.step_ends, self.step_texts)
        return self.reached, self.numbers, self.lengths, *texts, self.helped

    def columns(self, outcomes: dict[int, float]) -> Columns | None:
        """The columns that were scanned; `outcomes` replaces those of some episodes."""
        _, n, steps = self.reached.tolist()
        task, episode, outcome, fields = (
            _make_strings(ends[: n + 1], texts)
            for ends, texts in zip(self.episode_ends, self.episode_texts, strict=True)
        )
        known, fields_of = _decode_fields(fields)
        if known is None:
            return None
        rates = np.array(np.from_dlpack(outcome.cast(pa.float64())), np.float64)
        rates[list(outcomes)] = list(outcomes.values())
        text = _make_strings(self.step_ends[0, : steps + 1], self.step_texts[0])
        validity = pa.py_buffer(np.packbits(self.helped[:steps], bitorder="little"))
        help = _make_strings(self.step_ends[1, : steps + 1], self.step_texts[1], validity)
        return Columns(self.numbers[:n], task, episode, rates, self.lengths[:n], known, fields_of, text, help)


def _make_strings(ends: Ints, text: npt.NDArray[np.uint8], validity: Any = None) -> Any:
    buffers = [validity, pa.py_buffer(ends), pa.py_buffer(text[: ends[-1]])]
    return pa.Array.from_buffers(pa.large_string(), len(ends) - 1, buffers)


_DECODE_FIELDS = msgspec.json.Decoder(dict[str, Scalar]).decode


def _decode_fields(texts: Any) -> tuple[list[dict[str, Scalar]] | None, Ints]:
    """Distinct fields and the index of each episode's, from JSON objects; None if one is not an object of scalars."""
    encoded = texts.dictionary_encode()
    try:
        known = [_DECODE_FIELDS(text) if text else {} for text in encoded.dictionary.to_pylist()]
    except (msgspec.DecodeError, UnicodeError):
        return None, np.empty(0, np.int64)
    of = encoded.indices
    if of.null_count:
        known, of = [*known, {}], of.fill_null(len(known))
    return known, np.from_dlpack(of).astype(np.int64)


# ---- Parquet --------------------------------------------------------------------------------------------------------


def parquet_columns(path: str | os.PathLike[str], first: int, last: int, text: StepText) -> Columns | None:
    """Columns of row groups first..last-1 of canonical Parquet; None if they have to be read as trajectories."""
    names = [name for name in SCHEMA.names if name != "steps"]
    with open_arrow(path) as stream, pq.ParquetFile(stream) as file:
        found = file.schema_arrow
        if any(name not in found.names or found.field(name).type != SCHEMA.field(name).type for name in SCHEMA.names):
            return None
        table = file.read_row_groups(
            range(first, last), columns=_select_leaves(file, first, last, text), use_threads=False
        )
    episodes = {name: table[name].combine_chunks() for name in names}
    lists = table["steps"].combine_chunks()
    steps = lists.flatten()
    if not (_episodes_are_valid(episodes, lists) and _steps_are_valid(steps)):
        return None
    known, fields_of = _decode_fields(episodes["fields"])
    if known is None:
        return None
    key, help = steps.field("key"), steps.field("intervention")
    state = steps.field("state") if "state" in steps.type.names else key  # not read where keys stand for it
    length = np.from_dlpack(pc.list_value_length(lists)).astype(np.int64)
    outcome = np.asarray(np.from_dlpack(episodes["outcome"]), np.float64)
    return Columns(
        np.arange(1, len(lists) + 1),
        episodes["task"],
        episodes["episode"],
        outcome,
        length,
        known,
        fields_of,
        pc.coalesce(key, state) if text == StepText.KEY else state,
        help,
    )


def _select_leaves(file: Any, first: int, last: int, text: StepText) -> list[str]:
    """Columns to read: no actions, and no states (the bulk of most logs) if they are not needed and none is null."""
    places = {file.schema.column(i).path: i for i in range(len(file.schema))}
    steps = {path.split(".")[-1]: path for path in places if path.startswith("steps.")}
    left_out = {steps["action"]}
    needed = ["state"] if text is StepText.NOTHING else ["state", "key"]
    if text is not StepText.STATE and all(
        _no_nulls(file.metadata, first, last, places[steps[name]]) for name in needed
    ):
        left_out.add(steps["state"])
    return [path for path in places if path.split(".")[0] in SCHEMA.names and path not in left_out]


def _no_nulls(metadata: Any, first: int, last: int, place: int) -> bool:
    """Whether the statistics say that a column has no nulls in row groups first..last-1."""
    found = [metadata.row_group(group).column(place).statistics for group in range(first, last)]
    return all(each is not None and each.has_null_count and each.null_count == 0 for each in found)


def _episodes_are_valid(columns: dict[str, Any], steps: Any) -> bool:
    if any(columns[name].null_count for name in columns if name != "fields") or steps.null_count:
        return False
    return _in_range(columns["outcome"], 0, 1) and _in_range(pc.list_value_length(steps), 1, None)


def _steps_are_valid(steps: Any) -> bool:
    if steps.null_count or ("state" in steps.type.names and steps.field("state").null_count):
        return False
    return _in_range(steps.field("cost"), 0, None) and _in_range(steps.field("label"), 0, 1)


def _in_range(values: Any, low: int, high: int | None) -> bool:
    """Whether all values that are not null are in the range; NaN is not."""
    right = pc.greater_equal(values, low)
    if high is not None:
        right = pc.and_(right, pc.less_equal(values, high))
    return pc.all(right).as_py() is not False
