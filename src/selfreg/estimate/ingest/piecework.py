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
from selfreg.data.columns import Wanted, jsonl_columns, parquet_columns
from selfreg.data.decoded import lean_trajectories, read_lean_lines
from selfreg.data.formats.canonical import LogError
from selfreg.data.trajectory import Step, Trajectory
from selfreg.estimate.abstraction import ExactKey, Features
from selfreg.estimate.ingest.counter import Counter, success_of
from selfreg.estimate.ingest.partial import Partial
from selfreg.estimate.ingest.pieces import (
    EPISODES,
    Ask,
    Piece,
    Records,
    is_parquet,
    not_blank,
    read_blocks,
    read_lines,
    read_records,
    with_content,
)
from selfreg.estimate.ingest.states import wanted_text

_STEPS, _EPISODE = attrgetter("steps"), attrgetter("episode")


class Counted(NamedTuple):
    """Counts of one piece, its episodes and its faults; records have numbers from 1 in the piece."""

    counts: Partial
    source: int | str | None
    steps: int
    episodes: list[str]
    numbers: Sequence[int]
    faults: list[tuple[int, str]]
    by_column: bool = False


class _Ended(Exception):
    """A fault, and none is to be skipped."""


class _Tally:
    """What count_piece has counted so far."""

    def __init__(self, ask: Ask, counter: Counter) -> None:
        self.ask, self.counter = ask, counter
        self.steps = 0
        self.episodes: list[str] = []
        self.numbers: list[int] = []
        self.faults: list[tuple[int, str]] = []

    def add(self, numbers: Iterable[int], records: Sequence[Any]) -> None:
        """Count records that are right."""
        self.counter.add(records)
        self.steps += sum(map(len, map(_STEPS, records)))
        self.episodes.extend(map(_EPISODE, records))
        self.numbers.extend(numbers)

    def check(self, records: Records) -> bool:
        """Count those that are right; false where a fault ends it."""
        numbers, waiting = [], []
        for number, record in records:
            if not self.right(number, record):
                if not self.ask.skip_bad:
                    return False
                continue
            numbers.append(number)
            waiting.append(record)
            if len(waiting) == EPISODES:
                self.add(numbers, waiting)
                numbers, waiting = [], []
        self.add(numbers, waiting)
        return True

    def right(self, number: int, record: Any) -> bool:
        """Whether a record can be counted; its fault is noted where it cannot."""
        try:
            if isinstance(record, LogError):
                raise record
            if record.outcome is None:
                success_of(record)  # raises
            if isinstance(self.ask.abstraction, Features):
                self.ask.abstraction.fit([record])  # checks that the fields are there
        except ValueError as error:
            self.faults.append((number, str(error)))
            return False
        return True

    def mend(self, number: int, line: bytes) -> tuple[bytes, float] | None:
        """A line that is not plain, as `jsonl_columns` wants it: less what does not count."""
        for _, record in read_lean_lines([(number, line)], {}):
            if self.right(number, record):
                assert not isinstance(record, LogError)
                assert record.outcome is not None
                steps = tuple(Step(step.state, None, step.key, step.intervention) for step in record.steps)
                plain = Trajectory(record.task, record.episode, 0, steps, fields=record.fields)
                return msgspec.json.encode(plain), record.outcome
            if not self.ask.skip_bad:
                raise _Ended
        return None

    def result(self, source: int, by_column: bool) -> Counted:
        counts = self.counter.take(self.ask.apart)
        return Counted(counts, source, self.steps, self.episodes, self.numbers, self.faults, by_column)


def count_piece(piece: Piece, ask: Ask, counter: Counter, source: int) -> Counted:
    """Counts of one piece; stops at the first fault unless bad records are skipped."""
    canonical = ask.format == "selfreg" and not ask.where
    wanted = wanted_text(ask.abstraction) if canonical else None
    if wanted is not None and (counted := _count_columns(piece, _Tally(ask, counter), wanted, source)) is not None:
        return counted
    tally = _Tally(ask, counter)
    if canonical and type(ask.abstraction) is ExactKey and not is_parquet(piece.path):
        first = 1
        for some in read_lines(piece):
            if (records := lean_trajectories(some)) is not None:
                tally.add(range(first, first + len(some)), records)
            elif not tally.check(read_lean_lines(not_blank(enumerate(some, first)), {})):
                break
            first += len(some)
    else:
        tally.check(read_records(piece, ask))
    return tally.result(source, by_column=False)


def _count_columns(piece: Piece, tally: _Tally, wanted: Wanted, source: int) -> Counted | None:
    """The same by column; None, and nothing counted, where trajectories have to tell what is wrong."""
    try:
        if is_parquet(piece.path):
            columns = parquet_columns(piece.path, piece.first, piece.last, wanted)
        else:
            columns = jsonl_columns(read_blocks(piece), piece.last - piece.first, wanted, tally.mend)
    except _Ended:
        return tally.result(source, by_column=True)
    except pa.ArrowException:
        return None
    if columns is None or not tally.counter.add_columns(columns):
        return None
    tally.steps = int(columns.length.sum())
    tally.episodes, tally.numbers = columns.episode.to_pylist(), columns.numbers.tolist()
    return tally.result(source, by_column=True)


class _Process:
    """The counter of a process: states that it has named need not be named again."""

    counter: Counter | None = None

    @classmethod
    def count(cls, ask: Ask, piece: Piece) -> Counted:
        if cls.counter is None:
            gc.disable()  # records have no cycles, and looking for some would take a third of the time
            cls.counter = Counter(ask.abstraction)
        return count_piece(piece, ask, cls.counter, os.getpid())


class _Threads(threading.local):
    """A counter for each thread."""

    def __init__(self, counters: Sequence[Counter], free: list[int]) -> None:
        self._counters, self._free = counters, free
        self._mine: int | None = None

    def count(self, ask: Ask, piece: Piece) -> Counted:
        if self._mine is None:
            self._mine = self._free.pop()
        return count_piece(piece, ask, self._counters[self._mine], self._mine)


def count_pieces(
    numbered: Iterator[tuple[int, Piece]], ask: Ask, workers: int
) -> Iterator[tuple[int, Piece | None, Counted]]:
    """Pieces in order, with their counts; where `ask` lets these stay behind, they come in the end, of no piece.

    The first one shows who counts the others: threads where it went by column, else processes, which take a second to
    start. Each takes pieces in order, so that states that it knows were in earlier pieces; `Merger` depends on that.
    """
    counters, by_column = [Counter(ask.abstraction) for _ in range(workers)], True
    for number, piece in numbered:
        counted = count_piece(piece, ask, counters[0], 0)
        yield number, piece, counted
        by_column = counted.by_column
        if workers > 1:
            break
    if by_column and workers > 1:
        count = _Threads(counters, [*range(workers)]).count
        yield from _in_order(LocalExecutor(workers), count, ask, numbered)
    elif (following := next(numbered, None)) is not None:
        rest, apart = chain([following], numbered), ask._replace(apart=True)
        yield from _in_order(ProcessExecutor(workers), _Process.count, apart, rest)
    if not ask.apart:
        for source, counter in enumerate(counters):
            yield -1, None, Counted(counter.take(), source, 0, [], [], [])


def count_on_ray(
    numbered: Iterator[tuple[int, Piece]], ask: Ask, cluster: RayExecutor
) -> Iterator[tuple[int, Piece, Counted]]:
    """The same on a cluster, where tasks know nothing of each other: each piece names all of its states."""
    filled = ((number, with_content(piece, ask)) for number, piece in numbered)
    for number, piece, counted in _in_order(cluster, _count_alone, ask._replace(apart=True), filled):
        yield number, piece, counted._replace(source=None)


def _in_order(
    executor: Executor, count: Callable[[Ask, Piece], Counted], ask: Ask, numbered: Iterator[tuple[int, Piece]]
) -> Iterator[tuple[int, Piece, Counted]]:
    tasks = (((number, piece._replace(content=None)), piece) for number, piece in numbered)
    with closing(run_tasks(executor, count, ask, tasks)) as results:
        for (number, piece), counted in results:
            yield number, piece, counted


def _count_alone(ask: Ask, piece: Piece) -> Counted:
    return count_piece(piece, ask, Counter(ask.abstraction), 0)
