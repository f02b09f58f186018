"""Logs to counts in bounded memory: pieces of the files, counted in processes, merged in order, kept for a restart."""

from __future__ import annotations

import gc
import io
import multiprocessing
import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from itertools import chain, islice
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal, NamedTuple

from selfreg import _validate
from selfreg._progress import progress
from selfreg.data.lean import lean_trajectories, read_lean_lines
from selfreg.data.mapped import check_roles, read_mapped_lines
from selfreg.data.read import FORMATS, read_trajectories
from selfreg.data.store import LogError, open_bytes, read_jsonl_lines, read_row_groups, row_groups
from selfreg.estimate.abstraction import ExactKey, Features, StateAbstraction
from selfreg.estimate.counts import Counter, Counts, Merger, Partial, success_of
from selfreg.estimate.kept import KeptPieces
from selfreg.estimate.score_bins import from_description
from selfreg.executors import RayExecutor, ray_executor

# Bytes of JSONL and rows of Parquet in a piece: some tenths of a second of work.
PIECE_BYTES, PIECE_ROWS = 1 << 25, 1 << 15
AHEAD = 2
# Episodes that are counted at a time.
EPISODES = 256

_STEPS, _EPISODE = attrgetter("steps"), attrgetter("episode")

Records = Iterable[tuple[int, Any]]  # trajectories, or what stands for them; or faults


class Piece(NamedTuple):
    """A part of a log file: bytes from `first` on, row groups, or all of it.

    Attributes
    ----------
    path : str
    first, last : int
        Bytes, of the unpacked content, or row groups; last is not included.
    content : bytes or None
        Where the file is packed: nobody can read from its middle.
    """

    path: str
    first: int
    last: int
    content: bytes | None = None


class Ask(NamedTuple):
    """What is asked of every piece."""

    format: str
    roles: Mapping[str, str]
    where: Mapping[str, Sequence[str]]
    abstraction: StateAbstraction
    skip_bad: bool


class Counted(NamedTuple):
    """Counts of one piece, its episodes and its faults; records have numbers from 1 in the piece."""

    counts: Partial
    source: int | str | None
    steps: int
    episodes: list[str]
    numbers: list[int]
    faults: list[tuple[int, str]]


class Ingested(NamedTuple):
    """What `count_logs` returns.

    Attributes
    ----------
    counts : Counts
    episodes, steps : int
    skipped : list of str
        What is wrong with each record that was left out.
    """

    counts: Counts
    episodes: int
    steps: int
    skipped: list[str]


def count_logs(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    abstraction: StateAbstraction,
    *,
    format: str = "selfreg",
    roles: Mapping[str, str] | None = None,
    where: Mapping[str, Sequence[str]] | None = None,
    workers: int | None = None,
    executor: RayExecutor | Literal["ray"] | None = None,
    out: str | os.PathLike[str] | None = None,
    skip_bad: bool = False,
) -> Ingested:
    """Count the transitions of log files that need not fit into memory.

    The result is that of `count` on all trajectories: it does not depend on the number of workers.

    Parameters
    ----------
    paths : path or iterable of paths
        JSONL (plain, .gz, .zst) or Parquet.
    abstraction : StateAbstraction
        Already fitted, with a `describe` that `from_description` knows.
    format, roles, where
        As for `selfreg.data.read_trajectories`.
    workers : int, optional
        Processes; all cores by default. 1 counts in this process.
    executor : "ray" or RayExecutor, optional
        A Ray cluster instead of processes. JSONL travels to it; Parquet files must be there under the same paths.
    out : path, optional
        Folder for the counts of every piece. Called again after a kill, only pieces that are missing are counted.
    skip_bad : bool
        Leave out records that cannot be read, and list them; otherwise the first one raises.

    Returns
    -------
    Ingested

    Raises
    ------
    LogError
        File, line, field and what was expected; also for an episode name that occurs twice.
    ValueError
        For an unknown format or role, or a folder `out` that belongs to something else.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from selfreg.data import Step, Trajectory, write_trajectories
    >>> from selfreg.estimate import ExactKey, count_logs
    >>> log = pathlib.Path(tempfile.mkdtemp()) / "log.jsonl.zst"
    >>> write_trajectories(log, [Trajectory("t", str(i), 1.0, (Step("a"), Step("b"))) for i in range(100)])
    >>> found = count_logs(log, ExactKey(), workers=1)
    >>> found.episodes, found.steps, found.counts.visits["nohelp"].tolist()
    (100, 200, [100.0, 100.0, 0.0, 0.0])
    """
    if format not in FORMATS:
        raise ValueError(f"format {format!r} is not known; choose from {', '.join(FORMATS)}")
    if roles and format != "jsonl":
        raise ValueError(f"a mapping of roles is for format 'jsonl'; format {format!r} has its own fields")
    check_roles(roles or {})
    processes, cluster = _validate.threads(workers), ray_executor(executor)
    names = [os.fspath(path) for path in ([paths] if isinstance(paths, (str, os.PathLike)) else paths)]
    for name in names:
        if not Path(name).is_file():
            raise LogError(f"{name}: no such file")
    ask = Ask(format, dict(roles or {}), dict(where or {}), abstraction, skip_bad)
    kept = KeptPieces(Path(out), _settings(ask, names)) if out is not None else None
    total = _Total(skip_bad)
    done = 0
    with progress("count", None, "episodes") as advance:
        for part, header in kept.parts() if kept else ():
            faults = [(0, text) for text in header["skipped"]]
            counted = Counted(part, "kept", header["steps"], header["episodes"], [], faults)
            total.add(None, counted)
            done += 1
            advance(len(counted.episodes))
        todo = islice(enumerate(_pieces(names, format)), done, None)
        for number, piece, counted in _on_ray(todo, ask, cluster) if cluster else _counted(todo, ask, processes):
            merged = total.add(piece, counted)
            if kept:
                kept.put(number, merged.counts, _told(merged))
            advance(len(counted.episodes))
    return Ingested(total.merger.counts(), len(total.seen), total.steps, total.skipped)


def _settings(ask: Ask, names: Sequence[str]) -> dict[str, Any]:
    """What makes two countings the same, as JSON values."""
    described = ask.abstraction.describe()
    from_description(described)
    return {
        "logs": [[os.path.abspath(name), os.path.getsize(name), os.stat(name).st_mtime_ns] for name in names],
        "format": ask.format,
        "roles": ask.roles,
        "where": {field: list(values) for field, values in ask.where.items()},
        "abstraction": described,
        "skip_bad": ask.skip_bad,
        "piece": [PIECE_BYTES, PIECE_ROWS],
    }


def _told(counted: Counted) -> dict[str, Any]:
    """What is kept beside the counts of a piece."""
    skipped = [text for _, text in counted.faults]
    return {"steps": counted.steps, "episodes": counted.episodes, "skipped": skipped}


class _Total:
    """Everything counted so far, in the order of the logs."""

    def __init__(self, skip_bad: bool) -> None:
        self.skip_bad = skip_bad
        self.merger = Merger()
        self.steps = 0
        # Hashes, for a fifth of the memory of names: among a million names two share one once in 30 million logs.
        self.seen: set[int] = set()
        self.skipped: list[str] = []

    def add(self, piece: Piece | None, counted: Counted) -> Counted:
        """Add a piece, and give it back in the numbers of the sum; None for one that was merged before."""
        before = len(self.seen)
        self.seen.update(map(hash, counted.episodes))
        faults = counted.faults
        if piece is not None:
            if faults and not self.skip_bad:
                raise LogError(located(piece, *faults[0]))
            if len(self.seen) < before + len(counted.episodes):
                raise LogError(_twice(piece, counted))
            faults = [(0, located(piece, *fault)) for fault in faults]
        self.skipped += [text for _, text in faults]
        self.steps += counted.steps
        return counted._replace(counts=self.merger.add(counted.counts, counted.source), faults=faults)


def _twice(piece: Piece, counted: Counted) -> str:
    """Rare, and the counts hold both: no way to take one out. Skipped with the others it would be wrong, too."""
    here: set[str] = set()
    for number, name in zip(counted.numbers, counted.episodes, strict=True):
        if name in here:
            return located(piece, number, f"episode {name!r} was there before")
        here.add(name)
    first, last = (_place(piece, counted.numbers[i]) for i in (0, -1))
    return f"{first} to {last}: an episode was there before, in an earlier part of the logs"


def located(piece: Piece, number: int, fault: str) -> str:
    """A fault with its place; without a number it says itself where it is."""
    return f"{_place(piece, number)}: {fault}" if number else fault


def _place(piece: Piece, number: int) -> str:
    """File and line or row of a record; lines before the piece are counted only now."""
    if is_parquet(piece.path):
        return f"{piece.path}: row {number + row_groups(piece.path)[piece.first]}"
    with open_bytes(piece.path) as stream:
        left, lines = piece.first, 0
        while left and (block := stream.read(min(left, PIECE_BYTES))):
            lines += block.count(b"\n")
            left -= len(block)
    return f"{piece.path}:{lines + number}"


# ---- pieces ---------------------------------------------------------------------------------------------------------


def is_parquet(path: str) -> bool:
    return Path(path).suffix == ".parquet"


def _pieces(paths: Sequence[str], format: str) -> Iterator[Piece]:
    for path in paths:
        if format == "tau_bench":
            yield Piece(path, 0, os.path.getsize(path))
        elif is_parquet(path):
            yield from _row_pieces(path)
        else:
            yield from _byte_pieces(path, Path(path).suffix in (".gz", ".zst"))


def _row_pieces(path: str) -> Iterator[Piece]:
    starts, first = row_groups(path), 0
    for group in range(1, len(starts)):
        if starts[group] - starts[first] >= PIECE_ROWS or group == len(starts) - 1:
            yield Piece(path, first, group)
            first = group


def _byte_pieces(path: str, packed: bool) -> Iterator[Piece]:
    """Whole lines; a plain file is only looked at where pieces end."""
    with open_bytes(path) as stream:
        first = 0
        try:
            while True:
                if packed:
                    content = stream.read(PIECE_BYTES) + stream.readline()
                    last = first + len(content)
                else:
                    content = None
                    stream.seek(first + PIECE_BYTES)
                    stream.readline()
                    last = min(stream.tell(), os.path.getsize(path))
                if last == first:
                    return
                yield Piece(path, first, last, content)
                first = last
        except (EOFError, OSError) as error:
            raise LogError(f"{path}: broken data after byte {first} of its content: {error}") from None


def _records(piece: Piece, ask: Ask) -> Records:
    if ask.format == "tau_bench":
        faults: list[LogError] = []
        yield from enumerate(read_trajectories(piece.path, "tau_bench", where=ask.where, skipped=faults), 1)
        yield from ((0, fault) for fault in faults)
        return
    if is_parquet(piece.path) and ask.format == "selfreg":
        yield from read_row_groups(piece.path, piece.first, piece.last, ask.where)
        return
    lines = _not_blank(enumerate(chain.from_iterable(_lines(piece)), 1))
    if ask.format == "jsonl":
        # Lines have numbers in the piece only: where episodes have no names, its first byte makes them unique.
        yield from read_mapped_lines(lines, f"{os.path.basename(piece.path)}@{piece.first}", ask.roles, ask.where)
    elif type(ask.abstraction) is ExactKey:
        yield from read_lean_lines(lines, ask.where)
    else:
        yield from read_jsonl_lines(lines, ask.where)


def _lines(piece: Piece) -> Iterator[list[bytes]]:
    """Some lines at a time: fresh memory for all of a piece would cost as much as reading them."""
    with open(piece.path, "rb") if piece.content is None else io.BytesIO(piece.content) as stream:
        if piece.content is None:
            stream.seek(piece.first)
        left = piece.last - piece.first
        while left > 0 and (some := list(islice(stream, EPISODES))):
            left -= sum(map(len, some))
            while left < 0:  # lines of the piece that follows
                left += len(some.pop())
            yield some


# ---- counting -------------------------------------------------------------------------------------------------------


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
        for some in _lines(piece):
            if (records := lean_trajectories(some)) is not None:
                tally.add(range(first, first + len(some)), records)
            elif not tally.check(read_lean_lines(_not_blank(enumerate(some, first)), {})):
                break
            first += len(some)
    else:
        tally.check(_records(piece, ask))
    return Counted(counter.take(), source, tally.steps, tally.episodes, tally.numbers, tally.faults)


def _not_blank(lines: Iterable[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
    return ((number, line) for number, line in lines if line.strip())


class _Worker:
    """What a process keeps from piece to piece: states that it named before need not be named again."""

    counter: Counter | None = None

    @classmethod
    def count(cls, piece: Piece, ask: Ask) -> Counted:
        if cls.counter is None:
            cls.counter = Counter(ask.abstraction)
        return count_piece(piece, ask, cls.counter, os.getpid())


def _counted(numbered: Iterator[tuple[int, Piece]], ask: Ask, processes: int) -> Iterator[tuple[int, Piece, Counted]]:
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


def _on_ray(
    numbered: Iterator[tuple[int, Piece]], ask: Ask, cluster: RayExecutor
) -> Iterator[tuple[int, Piece, Counted]]:
    """The same on a cluster, where tasks know nothing of each other: each piece names all of its states."""
    with_content = ((number, _with_content(piece, ask)) for number, piece in numbered)
    for (number, piece), counted in cluster.in_order(_count_alone, ask, with_content):
        yield number, piece._replace(content=None), counted._replace(source=None)


def _with_content(piece: Piece, ask: Ask) -> Piece:
    if piece.content is not None or ask.format == "tau_bench" or is_parquet(piece.path):
        return piece
    return piece._replace(content=b"".join(chain.from_iterable(_lines(piece))))


def _count_alone(ask: Ask, numbered: tuple[int, Piece]) -> Counted:
    return count_piece(numbered[1], ask, Counter(ask.abstraction), 0)
