"""Pieces of log files: where they begin and end, what is in them, and how a record of theirs is named."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any, NamedTuple

from selfreg.data.decoded import read_lean_lines
from selfreg.data.formats.canonical import LogError, open_bytes, read_jsonl_lines, read_row_groups, row_groups
from selfreg.data.formats.mapped import read_mapped_lines
from selfreg.data.read import read_trajectories
from selfreg.estimate.abstraction import ExactKey, StateAbstraction

# Bytes of JSONL and rows of Parquet in a piece: some tenths of a second of work.
PIECE_BYTES, PIECE_ROWS = 1 << 25, 1 << 15
# Episodes, and bytes of lines, that are looked at a time.
EPISODES, BLOCK_BYTES = 256, 1 << 20

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
    """What is asked of every piece; with `apart`, that its counts come with it, and not at the end."""

    format: str
    roles: Mapping[str, str]
    where: Mapping[str, Sequence[str]]
    abstraction: StateAbstraction
    skip_bad: bool
    apart: bool = True


def is_parquet(path: str) -> bool:
    return Path(path).suffix == ".parquet"


def pieces(paths: Sequence[str], format: str) -> Iterator[Piece]:
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


def read_records(piece: Piece, ask: Ask) -> Records:
    if ask.format == "tau_bench":
        faults: list[LogError] = []
        yield from enumerate(read_trajectories(piece.path, "tau_bench", where=ask.where, skipped=faults), 1)
        yield from ((0, fault) for fault in faults)
        return
    if is_parquet(piece.path) and ask.format == "selfreg":
        yield from read_row_groups(piece.path, piece.first, piece.last, ask.where)
        return
    lines = not_blank(enumerate(chain.from_iterable(read_lines(piece)), 1))
    if ask.format == "jsonl":
        # Lines have numbers in the piece only: where episodes have no names, its first byte makes them unique.
        yield from read_mapped_lines(lines, f"{os.path.basename(piece.path)}@{piece.first}", ask.roles, ask.where)
    elif type(ask.abstraction) is ExactKey:
        yield from read_lean_lines(lines, ask.where)
    else:
        yield from read_jsonl_lines(lines, ask.where)


def read_lines(piece: Piece) -> Iterator[list[bytes]]:
    """Some lines at a time: fresh memory for all of a piece would cost as much as reading them."""
    with _opened(piece) as stream:
        left = piece.last - piece.first
        while left > 0 and (some := list(islice(stream, EPISODES))):
            left -= sum(map(len, some))
            while left < 0:  # lines of the piece that follows
                left += len(some.pop())
            yield some


def read_blocks(piece: Piece) -> Iterator[bytes]:
    """Whole lines, about as much at a time as a cache holds."""
    with _opened(piece) as stream:
        left = piece.last - piece.first
        while left > 0 and (block := stream.read(min(left, BLOCK_BYTES))):
            if len(block) < left:
                block += stream.readline()
            left -= len(block)
            yield block


@contextmanager
def _opened(piece: Piece) -> Iterator[IO[bytes]]:
    """A stream that stands where the piece begins."""
    if piece.content is not None:
        yield io.BytesIO(piece.content)
        return
    with open(piece.path, "rb") as stream:
        stream.seek(piece.first)
        yield stream


def not_blank(lines: Iterable[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
    return ((number, line) for number, line in lines if line.strip())


def with_content(piece: Piece, ask: Ask) -> Piece:
    if piece.content is not None or ask.format == "tau_bench" or is_parquet(piece.path):
        return piece
    return piece._replace(content=b"".join(chain.from_iterable(read_lines(piece))))


def located(piece: Piece, number: int, fault: str) -> str:
    """A fault with its place; without a number it says itself where it is."""
    return f"{place(piece, number)}: {fault}" if number else fault


def place(piece: Piece, number: int) -> str:
    """File and line or row of a record; lines before the piece are counted only now."""
    if is_parquet(piece.path):
        return f"{piece.path}: row {number + row_groups(piece.path)[piece.first]}"
    with open_bytes(piece.path) as stream:
        left, lines = piece.first, 0
        while left and (block := stream.read(min(left, PIECE_BYTES))):
            lines += block.count(b"\n")
            left -= len(block)
    return f"{piece.path}:{lines + number}"
