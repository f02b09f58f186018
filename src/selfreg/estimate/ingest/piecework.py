"""Counting pieces of logs: in this process, in threads, in several processes, or on Ray."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from itertools import chain
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa

from selfreg._util.parallel import Executor, LocalExecutor, ProcessExecutor, RayExecutor, run_tasks
from selfreg.data.columns import StepText, jsonl_columns, parquet_columns
from selfreg.data.decoded import decode_lines, read_decoded_lines
from selfreg.data.faults import LogError
from selfreg.data.trajectory import Step, Trajectory
from selfreg.estimate.abstraction import ExactKey, Features
from selfreg.estimate.ingest.counter import Counter, episode_success
from selfreg.estimate.ingest.partial import PartialCounts
from selfreg.estimate.ingest.pieces import (
    EPISODES,
    CountableRecords,
    CountSettings,
    Piece,
    drop_blank_lines,
    load_content,
    read_blocks,
    read_lines,
    read_records,
)
from selfreg.estimate.ingest.states import select_text

_STEPS, _EPISODE = attrgetter("steps"), attrgetter("episode")


class PieceCounts(NamedTuple):
    """Counts of one piece, its episodes and its faults; records are numbered from 1 in the piece."""

    counts: PartialCounts
    source: int | str | None
    steps: int
    episodes: list[str]
    numbers: Sequence[int]
    faults: list[tuple[int, str]]
    by_column: bool = False


class _Stopped(Exception):
    """A fault, and bad records are not skipped."""


class _PieceCounter:
    """Counts the records of one piece with a counter that other pieces may have used before."""

    def __init__(self, settings: CountSettings, counter: Counter) -> None:
        self.settings, self.counter = settings, counter
        self.steps = 0
        self.episodes: list[str] = []
        self.numbers: list[int] = []
        self.faults: list[tuple[int, str]] = []

    def add(self, numbers: Iterable[int], records: Sequence[Any]) -> None:
        """Count valid records."""
        self.counter.add(records)
        self.steps += sum(map(len, map(_STEPS, records)))
        self.episodes.extend(map(_EPISODE, records))
        self.numbers.extend(numbers)

    def add_valid(self, records: CountableRecords) -> bool:
        """Count the valid ones of some records; False if a fault stops the counting."""
        numbers, waiting = [], []
        for number, record in records:
            if not self.check(number, record):
                if not self.settings.skip_bad:
                    return False
                continue
            numbers.append(number)
            waiting.append(record)
            if len(waiting) == EPISODES:
                self.add(numbers, waiting)
                numbers, waiting = [], []
        self.add(numbers, waiting)
        return True

    def check(self, number: int, record: Any) -> bool:
        """Whether a record can be counted; its fault is noted if not."""
        try:
            if isinstance(record, LogError):
                raise record
            if record.outcome is None:
                episode_success(record)  # raises
            if isinstance(self.settings.abstraction, Features):
                self.settings.abstraction.fit([record])  # checks that the fields are there
        except ValueError as error:
            self.faults.append((number, str(error)))
            return False
        return True

    def regularise_line(self, number: int, line: bytes) -> tuple[bytes, float] | None:
        """An irregular line without what does not count, as `jsonl_columns` needs it."""
        for _, record in read_decoded_lines([(number, line)], {}):
            if self.check(number, record):
                assert not isinstance(record, LogError)
                assert record.outcome is not None
                steps = tuple(Step(step.state, None, step.key, step.intervention) for step in record.steps)
                regular = Trajectory(record.task, record.episode, 0, steps, fields=record.fields)
                return msgspec.json.encode(regular), record.outcome
            if not self.settings.skip_bad:
                raise _Stopped
        return None

    def result(self, source: int, by_column: bool) -> PieceCounts:
        counts = self.counter.take_counts(self.settings.counts_per_piece)
        return PieceCounts(counts, source, self.steps, self.episodes, self.numbers, self.faults, by_column)


def count_piece(piece: Piece, settings: CountSettings, counter: Counter, source: int) -> PieceCounts:
    """Counts of one piece; stops at the first fault unless bad records are skipped."""
    plain = settings.is_canonical and not settings.options.where
    text = select_text(settings.abstraction) if plain else None
    if text is not None:
        counted = _count_columns(piece, _PieceCounter(settings, counter), text, source)
        if counted is not None:
            return counted
    counting = _PieceCounter(settings, counter)
    if plain and type(settings.abstraction) is ExactKey and piece.container == "lines":
        first = 1
        for some in read_lines(piece):
            if (records := decode_lines(some)) is not None:
                counting.add(range(first, first + len(some)), records)
            elif not counting.add_valid(read_decoded_lines(drop_blank_lines(enumerate(some, first)), {})):
                break
            first += len(some)
    else:
        counting.add_valid(read_records(piece, settings))
    return counting.result(source, by_column=False)


def _count_columns(piece: Piece, counting: _PieceCounter, text: StepText, source: int) -> PieceCounts | None:
    """The same by column; None, and nothing counted, if the records have to be read as trajectories."""
    try:
        if piece.container == "row groups":
            columns = parquet_columns(piece.path, piece.first, piece.last, text)
        else:
            columns = jsonl_columns(read_blocks(piece), piece.last - piece.first, text, counting.regularise_line)
    except _Stopped:
        return counting.result(source, by_column=True)
    except pa.ArrowException:
        return None
    if columns is None or not counting.counter.add_columns(columns):
        return None
    counting.steps = int(columns.length.sum())
    counting.episodes, counting.numbers = columns.episode.to_pylist(), columns.numbers.tolist()
    return counting.result(source, by_column=True)


class _Process:
    """The counter of a process: states that it has named need not be named again."""

    counter: Counter | None = None

    @classmethod
    def count(cls, settings: CountSettings, piece: Piece) -> PieceCounts:
        if cls.counter is None:
            gc.disable()  # records have no cycles, and looking for some would take a third of the time
            cls.counter = Counter(settings.abstraction)
        return count_piece(piece, settings, cls.counter, os.getpid())


class _Threads(threading.local):
    """A counter for each thread."""

    def __init__(self, counters: Sequence[Counter], free: list[int]) -> None:
        self._counters, self._free = counters, free
        self._mine: int | None = None

    def count(self, settings: CountSettings, piece: Piece) -> PieceCounts:
        if self._mine is None:
            self._mine = self._free.pop()
        return count_piece(piece, settings, self._counters[self._mine], self._mine)


def count_pieces(
    numbered: Iterator[tuple[int, Piece]], settings: CountSettings, workers: int
) -> Iterator[tuple[int, Piece | None, PieceCounts]]:
    """Pieces in order, with their counts; where `settings` lets these stay behind, they come in the end, of no piece.

    The first one shows who counts the others: threads where it went by column, else processes, which take a second to
    start. Each takes pieces in order, so that states that it knows were in earlier pieces: `CountMerger` needs that.
    """
    counters, by_column = [Counter(settings.abstraction) for _ in range(workers)], True
    for number, piece in numbered:
        counted = count_piece(piece, settings, counters[0], 0)
        yield number, piece, counted
        by_column = counted.by_column
        if workers > 1:
            break
    if by_column and workers > 1:
        count = _Threads(counters, [*range(workers)]).count
        yield from _in_order(LocalExecutor(workers), count, settings, numbered)
    elif (following := next(numbered, None)) is not None:
        rest, apart = chain([following], numbered), settings._replace(counts_per_piece=True)
        yield from _in_order(ProcessExecutor(workers), _Process.count, apart, rest)
    if not settings.counts_per_piece:
        for source, counter in enumerate(counters):
            yield -1, None, PieceCounts(counter.take_counts(), source, 0, [], [], [])


def count_on_ray(
    numbered: Iterator[tuple[int, Piece]], settings: CountSettings, cluster: RayExecutor
) -> Iterator[tuple[int, Piece, PieceCounts]]:
    """The same on a cluster, where tasks know nothing of each other: each piece names all of its states."""
    filled = ((number, load_content(piece)) for number, piece in numbered)
    for number, piece, counted in _in_order(cluster, _count_alone, settings._replace(counts_per_piece=True), filled):
        yield number, piece, counted._replace(source=None)


def _in_order(
    executor: Executor,
    count: Callable[[CountSettings, Piece], PieceCounts],
    settings: CountSettings,
    numbered: Iterator[tuple[int, Piece]],
) -> Iterator[tuple[int, Piece, PieceCounts]]:
    tasks = (((number, piece._replace(content=None)), piece) for number, piece in numbered)
    with closing(run_tasks(executor, count, settings, tasks)) as results:
        for (number, piece), counted in results:
            yield number, piece, counted


def _count_alone(settings: CountSettings, piece: Piece) -> PieceCounts:
    return count_piece(piece, settings, Counter(settings.abstraction), 0)
