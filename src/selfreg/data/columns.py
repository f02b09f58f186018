"""Canonical episodes as columns, straight from the file: no object a step, and no lock of the interpreter meanwhile.

Only what is plain is read here; the readers of trajectories judge everything else.
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
from selfreg.data.trajectory import Scalar

Ints: TypeAlias = npt.NDArray[np.int64]

SHORTEST_STEP = '{"state":""}'
SHORTEST = '{"task":"","episode":"","outcome":0,"steps":[]}' + SHORTEST_STEP
# Where more lines than this, and a larger share, are not plain, columns would be slower than trajectories.
MANY, SHARE = 64, 1 / 16


class Wanted(IntEnum):
    """Which text of a step is read."""

    NOTHING, KEY, STATE = 0, 1, 2  # KEY is the state where a step has no key


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
        Free fields that differ.
    fields_of : int64 (episodes,)
        Which of them are the episode's.
    text : Arrow array of strings (steps,)
        What is wanted of each step, one episode after another.
    intervention : Arrow array of strings (steps,)
        Null where the agent went on alone.
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


# Looks at a line that is not plain, with its number: the record as plain JSON and its outcome; None to leave it out.
Mend: TypeAlias = Callable[[int, bytes], tuple[bytes, float] | None]


def jsonl_columns(blocks: Iterable[bytes], size: int, wanted: Wanted, mend: Mend) -> Columns | None:
    """Columns of canonical JSONL, whole lines in blocks of `size` bytes in all; None where trajectories do better."""
    room, scan = _Room(size), kernel("scan").scan
    outcomes: dict[int, float] = {}
    unusual, left = 0, size
    for block in blocks:
        left -= len(block)
        if left < 0 or not _is_utf8(block):  # a file that was changed meanwhile would need more room
            return None
        begin = 0
        while (begin := scan(block, begin, wanted, *room.arrays)) < len(block):
            unusual += 1
            if unusual > max(MANY, SHARE * room.reached[0]):
                return None
            end = block.find(b"\n", begin) % (len(block) + 1)
            number = int(room.reached[0]) + 1
            if (found := mend(number, block[begin:end])) is not None:
                line, outcome = found
                if len(line) > end - begin or scan(line, 0, wanted, *room.arrays) < len(line):
                    return None
                outcomes[int(room.reached[1]) - 1] = outcome
                room.numbers[room.reached[1] - 1] = number
            room.reached[0] = number
            begin = end + 1
    return room.columns(outcomes)


def _is_utf8(block: bytes) -> bool:
    ends = pa.py_buffer(np.array([0, len(block)], np.int64))
    try:
        pa.Array.from_buffers(pa.large_binary(), 1, [None, ends, pa.py_buffer(block)]).cast(pa.large_string())
    except pa.ArrowInvalid:
        return False
    return True


class _Room:
    """Arrays that scans write into, large enough for any `size` bytes; what is not written costs no memory."""

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
        """What was written; `outcomes` of some episodes are known better."""
        _, n, steps = self.reached.tolist()
        task, episode, outcome, fields = (
            _strings(ends[: n + 1], texts) for ends, texts in zip(self.episode_ends, self.episode_texts, strict=True)
        )
        known, fields_of = _fields(fields)
        if known is None:
            return None
        rates = np.array(np.from_dlpack(outcome.cast(pa.float64())), np.float64)
        rates[list(outcomes)] = list(outcomes.values())
        text = _strings(self.step_ends[0, : steps + 1], self.step_texts[0])
        given = pa.py_buffer(np.packbits(self.helped[:steps], bitorder="little"))
        help = _strings(self.step_ends[1, : steps + 1], self.step_texts[1], given)
        return Columns(self.numbers[:n], task, episode, rates, self.lengths[:n], known, fields_of, text, help)


def _strings(ends: Ints, text: npt.NDArray[np.uint8], given: Any = None) -> Any:
    buffers = [given, pa.py_buffer(ends), pa.py_buffer(text[: ends[-1]])]
    return pa.Array.from_buffers(pa.large_string(), len(ends) - 1, buffers)


_DECODE_FIELDS = msgspec.json.Decoder(dict[str, Scalar]).decode


def _fields(texts: Any) -> tuple[list[dict[str, Scalar]] | None, Ints]:
    """Fields that differ and which are whose, of JSON objects (or nothing); None where one is no such object."""
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


def parquet_columns(path: str | os.PathLike[str], first: int, last: int, wanted: Wanted) -> Columns | None:
    """Columns of row groups first..last-1 of canonical Parquet; None where trajectories must tell what is wrong."""
    names = [name for name in SCHEMA.names if name != "steps"]
    with pq.ParquetFile(path) as file:
        found = file.schema_arrow
        if any(name not in found.names or found.field(name).type != SCHEMA.field(name).type for name in SCHEMA.names):
            return None
        table = file.read_row_groups(range(first, last), columns=_leaves(file, first, last, wanted), use_threads=False)
    episodes = {name: table[name].combine_chunks() for name in names}
    lists = table["steps"].combine_chunks()
    steps = lists.flatten()
    if not (_right_episodes(episodes, lists) and _right_steps(steps)):
        return None
    known, fields_of = _fields(episodes["fields"])
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
        pc.coalesce(key, state) if wanted == Wanted.KEY else state,
        help,
    )


def _leaves(file: Any, first: int, last: int, wanted: Wanted) -> list[str]:
    """Columns to read: no actions; no states, the bulk of most logs, where none is missing and keys are all there."""
    places = {file.schema.column(i).path: i for i in range(len(file.schema))}
    steps = {path.split(".")[-1]: path for path in places if path.startswith("steps.")}
    left_out = {steps["action"]}
    told = ["state"] if wanted is Wanted.NOTHING else ["state", "key"]
    if wanted is not Wanted.STATE and all(_no_nulls(file.metadata, first, last, places[steps[name]]) for name in told):
        left_out.add(steps["state"])
    return [path for path in places if path.split(".")[0] in SCHEMA.names and path not in left_out]


def _no_nulls(metadata: Any, first: int, last: int, place: int) -> bool:
    """Whether the file says that no value of a column is missing in row groups first..last-1."""
    found = [metadata.row_group(group).column(place).statistics for group in range(first, last)]
    return all(each is not None and each.has_null_count and each.null_count == 0 for each in found)


def _right_episodes(columns: dict[str, Any], steps: Any) -> bool:
    if any(columns[name].null_count for name in columns if name != "fields") or steps.null_count:
        return False
    return _in_range(columns["outcome"], 0, 1) and _in_range(pc.list_value_length(steps), 1, None)


def _right_steps(steps: Any) -> bool:
    if steps.null_count or ("state" in steps.type.names and steps.field("state").null_count):
        return False
    return _in_range(steps.field("cost"), 0, None) and _in_range(steps.field("label"), 0, 1)


def _in_range(values: Any, low: int, high: int | None) -> bool:
    """Whether all that are there are; NaN is not."""
    right = pc.greater_equal(values, low)
    if high is not None:
        right = pc.and_(right, pc.less_equal(values, high))
    return pc.all(right).as_py() is not False
