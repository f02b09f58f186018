"""Pieces of log files: where they begin and end, what is in them, and where their records are."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from typing import IO, Any, NamedTuple

from selfreg.data.archives import BROKEN, open_packed
from selfreg.data.decoded import read_decoded_lines
from selfreg.data.faults import LogError
from selfreg.data.formats import canonical, find_format
from selfreg.data.log_files import MOST_BYTES, LogFile, is_compressed, row_group_starts
from selfreg.data.log_format import Container, LogFormat, ReadOptions, format_place
from selfreg.estimate.abstraction import ExactKey, StateAbstraction

# Bytes of JSONL and rows of Parquet in a piece: some tenths of a second of work.
PIECE_BYTES, PIECE_ROWS = 1 << 25, 1 << 15
# Episodes, and bytes of lines, that are read at a time.
EPISODES, BLOCK_BYTES = 256, 1 << 20

CountableRecords = Iterable[tuple[int, Any]]  # trajectories, decoded ones among them, or faults


class Piece(NamedTuple):
    """A part of a log file.

    Attributes
    ----------
    path : str
    container : {"lines", "row groups", "file"}
    first, last : int
        Bytes of the decompressed lines, or row groups; last is not included. All bytes of a file that is not cut.
    content : bytes or None
        Lines of a compressed file, which cannot be read from the middle.
    label : str
        Name of the file in ids of episodes.
    """

    path: str
    container: Container
    first: int
    last: int
    content: bytes | None = None
    label: str = ""


class CountSettings(NamedTuple):
    """What to count in every piece.

    With `counts_per_piece` each piece returns its counts; otherwise they stay in the counters until the end.
    """

    format: str
    options: ReadOptions
    abstraction: StateAbstraction
    skip_bad: bool
    counts_per_piece: bool = True

    @property
    def is_canonical(self) -> bool:
        """Whether records are canonical, and their outcomes their own."""
        return self.format == canonical.FORMAT.name and self.options.outcomes is None


def split_files(files: Sequence[LogFile], format: LogFormat) -> Iterator[Piece]:
    for file in files:
        path, container = file.path, format.container(file.path)
        if container == "row groups":
            pieces = _split_row_groups(path)
        elif container == "lines":
            pieces = _split_lines(path, is_compressed(path))
        else:
            pieces = iter([Piece(path, container, 0, os.path.getsize(path))])
        yield from (piece._replace(label=file.label) for piece in pieces)


def _split_row_groups(path: str) -> Iterator[Piece]:
    starts, first = row_group_starts(path), 0
    if len(starts) == 1:
        yield Piece(path, "row groups", 0, 0)  # to have its columns checked
    for group in range(1, len(starts)):
        if starts[group] - starts[first] >= PIECE_ROWS or group == len(starts) - 1:
            yield Piece(path, "row groups", first, group)
            first = group


def _split_lines(path: str, compressed: bool) -> Iterator[Piece]:
    """Pieces of complete lines; an uncompressed file is read only near their ends."""
    with open_packed(path) as stream:
        first = 0
        try:
            while True:
                if compressed:
                    content = stream.read(PIECE_BYTES) + _read_line(stream, path)
                    last = first + len(content)
                else:
                    content = None
                    stream.seek(first + PIECE_BYTES)
                    _read_line(stream, path)
                    last = min(stream.tell(), os.path.getsize(path))
                if last == first:
                    return
                yield Piece(path, "lines", first, last, content)
                first = last
        except BROKEN as error:
            raise LogError(f"{path}: broken data after byte {first} of its content: {error}") from None


def _read_line(stream: IO[bytes], path: str) -> bytes:
    """The rest of a line; LogError if it is longer than is read at once."""
    line = stream.readline(MOST_BYTES + 1)
    if len(line) > MOST_BYTES:
        raise LogError(f"{path}: a line has more than {MOST_BYTES >> 20} MB, the limit; the rest was not read")
    return line


def read_records(piece: Piece, settings: CountSettings) -> CountableRecords:
    lines = drop_blank_lines(enumerate(chain.from_iterable(read_lines(piece)), 1)) if piece.container == "lines" else ()
    if settings.is_canonical and piece.container == "lines" and type(settings.abstraction) is ExactKey:
        return read_decoded_lines(lines, settings.options.where)
    # Records are numbered from 1 in each piece: its first byte or row group makes the ids of unnamed episodes unique.
    source = piece.label if piece.container == "file" else f"{piece.label}@{piece.first}"
    options = settings.options._replace(source=source)
    return find_format(settings.format).read_piece(
        piece.path, piece.container, options, lines, (piece.first, piece.last)
    )


def read_lines(piece: Piece) -> Iterator[list[bytes]]:
    """Some lines at a time: fresh memory for all of a piece would cost as much as reading them."""
    with _open_piece(piece) as stream:
        left = piece.last - piece.first
        while left > 0 and (some := list(islice(stream, EPISODES))):
            left -= sum(map(len, some))
            while left < 0:  # lines of the piece that follows
                left += len(some.pop())
            yield some


def read_blocks(piece: Piece) -> Iterator[bytes]:
    """Complete lines, about as much at a time as a cache holds."""
    with _open_piece(piece) as stream:
        left = piece.last - piece.first
        while left > 0 and (block := stream.read(min(left, BLOCK_BYTES))):
            if len(block) < left:
                block += stream.readline()
            left -= len(block)
            yield block


@contextmanager
def _open_piece(piece: Piece) -> Iterator[IO[bytes]]:
    """A stream at the beginning of the piece."""
    if piece.content is not None:
        yield io.BytesIO(piece.content)
        return
    with open(piece.path, "rb") as stream:
        stream.seek(piece.first)
        yield stream


def drop_blank_lines(numbered: Iterable[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
    return ((number, line) for number, line in numbered if line.strip())


def load_content(piece: Piece) -> Piece:
    """The piece with its lines in it, to be sent to another machine."""
    if piece.content is not None or piece.container != "lines":
        return piece
    return piece._replace(content=b"".join(chain.from_iterable(read_lines(piece))))


def locate_fault(piece: Piece, number: int, fault: str) -> str:
    """A fault with its place."""
    return f"{locate_record(piece, number)}: {fault}"


def locate_record(piece: Piece, number: int) -> str:
    """File and line, row or episode of a record; lines before the piece are counted only now."""
    before = 0
    if piece.container == "row groups":
        before = row_group_starts(piece.path)[piece.first]
    elif piece.container == "lines":
        with open_packed(piece.path) as stream:
            left = piece.first
            while left and (block := stream.read(min(left, PIECE_BYTES))):
                before += block.count(b"\n")
                left -= len(block)
    return format_place(piece.path, piece.container, before + number)
