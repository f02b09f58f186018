"""Canonical trajectories on disk: JSONL (one episode a line, gzip by name) and Parquet, both in streams."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import IO, Any, cast

from selfreg._extras import needs
from selfreg._files import written_whole
from selfreg.data.trajectory import Trajectory

with needs("logs", "selfreg.data"):
    import msgspec
    import pyarrow as pa
    import pyarrow.parquet as pq

BATCH = 1024

SCHEMA = pa.schema(
    [
        ("task", pa.string()),
        ("episode", pa.string()),
        ("outcome", pa.float64()),
        ("truncated", pa.bool_()),
        ("fields", pa.string()),  # a JSON object: free fields have no fixed columns
        (
            "steps",
            pa.list_(
                pa.struct(
                    [
                        ("state", pa.string()),
                        ("action", pa.string()),
                        ("key", pa.string()),
                        ("intervention", pa.string()),
                        ("cost", pa.int64()),
                        ("label", pa.float64()),
                    ]
                )
            ),
        ),
    ]
)


class LogError(ValueError):
    """A record that cannot be read: which file, which line, which field, and what was expected."""


def open_bytes(path: str | os.PathLike[str]) -> IO[bytes]:
    """File for reading, unpacked where the name ends in .gz."""
    return cast(IO[bytes], gzip.open(path, "rb")) if Path(path).suffix == ".gz" else open(path, "rb")


def lines(path: str | os.PathLike[str]) -> Iterator[tuple[int, bytes]]:
    """Numbers (from 1) and contents of the lines of a file that are not blank."""
    number = 0
    with open_bytes(path) as stream:
        try:
            for number, line in enumerate(stream, 1):
                if line.strip():
                    yield number, line
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise LogError(f"{path}: broken gzip data after line {number}: {error}") from None


def read_jsonl(path: str | os.PathLike[str]) -> Iterator[tuple[int, Trajectory | LogError]]:
    """Canonical JSONL: line numbers with trajectories, or with what is wrong with them."""
    decoder = msgspec.json.Decoder(Trajectory)
    for number, line in lines(path):
        try:
            yield number, decoder.decode(line)
        except msgspec.DecodeError as error:
            yield number, LogError(f"{path}:{number}: {error}")


def write_jsonl(path: str | os.PathLike[str], trajectories: Iterable[Trajectory]) -> None:
    """Write canonical JSONL, packed where the name ends in .gz."""
    encoder = msgspec.json.Encoder()
    with written_whole(path) as temporary, open(temporary, "wb") as plain, ExitStack() as stack:
        stream: IO[bytes] = plain
        if Path(path).suffix == ".gz":
            # No time stamp and no name: the same trajectories give the same bytes.
            stream = cast(IO[bytes], stack.enter_context(gzip.GzipFile("", "wb", fileobj=plain, mtime=0)))
        for trajectory in trajectories:
            stream.write(encoder.encode(trajectory) + b"\n")


def read_parquet(path: str | os.PathLike[str]) -> Iterator[tuple[int, Trajectory | LogError]]:
    """Canonical Parquet: row numbers (from 1) with trajectories, or with what is wrong with them."""
    try:
        file = pq.ParquetFile(path)
    except pa.ArrowInvalid as error:
        raise LogError(f"{path}: not a Parquet file: {error}") from None
    missing = [name for name in SCHEMA.names if name not in file.schema_arrow.names]
    if missing:
        raise LogError(f"{path}: column {missing[0]!r} is missing; expected {SCHEMA.names}")
    number = 0
    with file:
        for batch in file.iter_batches(BATCH, columns=SCHEMA.names):
            for row in batch.to_pylist():
                number += 1
                try:
                    row["fields"] = msgspec.json.decode(row["fields"] or "{}")
                    yield number, msgspec.convert(row, Trajectory)
                except msgspec.DecodeError as error:
                    yield number, LogError(f"{path}: row {number}: {error}")


def write_parquet(path: str | os.PathLike[str], trajectories: Iterable[Trajectory]) -> None:
    """Write canonical Parquet."""
    stream = iter(trajectories)
    with written_whole(path) as temporary, pq.ParquetWriter(temporary, SCHEMA, compression="zstd") as writer:
        while rows := [_row(trajectory) for trajectory in islice(stream, BATCH)]:
            writer.write_batch(pa.RecordBatch.from_pylist(rows, SCHEMA))


def _row(trajectory: Trajectory) -> dict[str, Any]:
    row = msgspec.structs.asdict(trajectory)
    row["fields"] = msgspec.json.encode(trajectory.fields).decode()
    row["steps"] = [msgspec.structs.asdict(step) for step in trajectory.steps]
    return row


def write_trajectories(path: str | os.PathLike[str], trajectories: Iterable[Trajectory]) -> None:
    """Write canonical trajectories: Parquet where the name ends in .parquet, else JSONL (.gz packs it).

    The file is written under a temporary name and renamed: it is there whole or not at all.
    """
    (write_parquet if Path(path).suffix == ".parquet" else write_jsonl)(path, trajectories)
