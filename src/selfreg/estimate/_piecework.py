"""Counting pieces of logs: in this process, in several, or on Ray."""

from __future__ import annotations

import gc
import multiprocessing
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from operator import attrgetter
from typing import Any, NamedTuple

from selfreg.data.lean import lean_trajectories, read_lean_lines
from selfreg.data.store import LogError
from selfreg.estimate._counter import Counter, success_of
from selfreg.estimate._parts import Partial
from selfreg.estimate._pieces import (
    EPISODES,
    Ask,
    Piece,
    Records,
    is_parquet,
    not_blank,
    read_lines,
    read_records,
    with_content,
)
from selfreg.estimate.abstraction import ExactKey, Features
from selfreg.executors import RayExecutor

AHEAD = 2

_STEPS, _EPISODE = attrgetter("steps"), attrgetter("episode")


class Counted(NamedTuple):
    """Counts of one piece, its episodes and its faults; records have numbers from 1 in the piece."""

    counts: Partial
    source: int | str | None
    steps: int
    episodes: list[str]
    numbers: list[int]
    faults: list[tuple[int, str]]


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
        fitted = isinstance(self.ask.abstraction, Features)
        numbers, waiting = [], []
        for number, record in records:
            try:
                if isinstance(record, LogError):
                    raise record
                if record.outcome is None:
                    success_of(record)  # raises
                if fitted:
                    self.ask.abstraction.fit([record])  # checks that the fields are there
            except ValueError as error:
                self.faults.append((number, str(error)))
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


def count_piece(piece: Piece, ask: Ask, counter: Counter, source: int) -> Counted:
    """Counts of one piece; stops at the first fault unless bad records are skipped."""
    tally = _Tally(ask, counter)
    lean = type(ask.abstraction) is ExactKey and ask.format == "selfreg" and not ask.where
    if lean and not is_parquet(piece.path):
        first = 1
        for some in read_lines(piece):
            if (records := lean_trajectories(some)) is not None:
                tally.add(range(first, first + len(some)), records)
            elif not tally.check(read_lean_lines(not_blank(enumerate(some, first)), {})):
                break
            first += len(some)
    else:
        tally.check(read_records(piece, ask))
    return Counted(counter.take(), source, tally.steps, tally.episodes, tally.numbers, tally.faults)


class _Worker:
    """What a process keeps from piece to piece: states that it named before need not be named again."""

    counter: Counter | None = None

    @classmethod
    def count(cls, piece: Piece, ask: Ask) -> Counted:
        if cls.counter is None:
            cls.counter = Counter(ask.abstraction)
        return count_piece(piece, ask, cls.counter, os.getpid())


def count_pieces(
    numbered: Iterator[tuple[int, Piece]], ask: Ask, processes: int
) -> Iterator[tuple[int, Piece, Counted]]:
    """Pieces in order, with their counts.

    Each process takes pieces in order too: what it knows was in pieces before, which `Merger` rests on.
    """
    if processes == 1:
        counter = Counter(ask.abstraction)
        for number, piece in numbered:
            yield number, piece, count_piece(piece, ask, counter, 0)
        return
    waiting: deque[tuple[int, Piece, Future[Counted]]] = deque()
    # Records have no cycles: looking for some again and again would take a third of the time.
    pool = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), initializer=gc.disable)
    try:
        for number, piece in numbered:
            waiting.append((number, piece._replace(content=None), pool.submit(_Worker.count, piece, ask)))
            if len(waiting) >= AHEAD * processes:
                number, piece, future = waiting.popleft()
                yield number, piece, future.result()
        while waiting:
            number, piece, future = waiting.popleft()
            yield number, piece, future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def count_on_ray(
    numbered: Iterator[tuple[int, Piece]], ask: Ask, cluster: RayExecutor
) -> Iterator[tuple[int, Piece, Counted]]:
    """The same on a cluster, where tasks know nothing of each other: each piece names all of its states."""
    with_content = ((number, with_content(piece, ask)) for number, piece in numbered)
    for (number, piece), counted in cluster.in_order(_count_alone, ask, with_content):
        yield number, piece._replace(content=None), counted._replace(source=None)


def _count_alone(ask: Ask, numbered: tuple[int, Piece]) -> Counted:
    return count_piece(numbered[1], ask, Counter(ask.abstraction), 0)
