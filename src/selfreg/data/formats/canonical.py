"""Canonical trajectories on disk: JSONL (one episode a line, packed by name) and Parquet, both in streams."""

from __future__ import annotations

import gzip
import io
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import accumulate, islice
from pathlib import Path
from typing import IO, Any, cast

from selfreg._util.extras import require_extra
from selfreg._util.files import atomic_write
from selfreg.data.trajectory import Step, Trajectory

with require_extra("logs", "selfreg.data"):
    import msgspec
    import pyarrow as pa
    import pyarrow.compute as pc
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
    """File for reading, unpacked where the name ends in .gz or .zst."""
    if Path(path).suffix == ".gz":
        return cast(IO[bytes], gzip.open(path, "rb"))
    if Path(path).suffix == ".zst":
        return cast(IO[bytes], io.BufferedReader(pa.input_stream(os.fspath(path), compression="zstd"), 1 << 20))
    return open(path, "rb")


def keeps_record(record: Any, where: Mapping[str, Sequence[str]]) -> bool:
    """Whether each field of `where` (a free field, `task` or `episode`) has one of its values."""
    from selfreg.data.formats.mapped import keeps

    return keeps({**record.fields, "task": record.task, "episode": record.episode}, where)


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
        except OSError as error:
            raise LogError(f"{path}: broken data after line {number}: {error}") from None


def read_jsonl(path: str | os.PathLike[str]) -> Iterator[tuple[int, Trajectory | LogError]]:
    """Canonical JSONL: line numbers with trajectories, or with what is wrong with them."""
    for number, record in read_jsonl_lines(lines(path), {}):
        yield number, LogError(f"{path}:{number}: {record}") if isinstance(record, LogError) else record


def read_jsonl_lines(
    numbered: Iterable[tuple[int, bytes]], where: Mapping[str, Sequence[str]]
) -> Iterator[tuple[int, Trajectory | LogError]]:
    """The same for lines; faults without their place. Records that `where` leaves out are not yielded."""
    decoder = msgspec.json.Decoder(Trajectory)
    for number, line in numbered:
        try:
            record = decoder.decode(line)
            if not where or keeps_record(record, where):
                yield number, record
        except LogError as error:
            yield number, error
        except msgspec.DecodeError as error:
            yield number, LogError(str(error))
        except UnicodeDecodeError as error:
            yield number, LogError(f"not UTF-8: {error}")


def write_jsonl(path: str | os.PathLike[str], trajectories: Iterable[Trajectory]) -> None:
    """Write canonical JSONL, packed where the name ends in .gz or .zst."""
    encoder = msgspec.json.Encoder()
    with atomic_write(path) as temporary, open(temporary, "wb") as plain, ExitStack() as stack:
        stream: IO[bytes] = plain
        if Path(path).suffix == ".zst":
            stream = stack.enter_context(pa.output_stream(plain, compression="zstd"))
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
            for record in _of_batch(batch):
                number += 1
                yield number, LogError(f"{path}: row {number}: {record}") if isinstance(record, LogError) else record


def row_groups(path: str | os.PathLike[str]) -> list[int]:
    """Row (from 0) at which each row group of a Parquet file begins, and the number of rows."""
    try:
        metadata = pq.read_metadata(path)
    except pa.ArrowInvalid as error:
        raise LogError(f"{path}: not a Parquet file: {error}") from None
    return list(accumulate((metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)), initial=0))


def read_row_groups(
    path: str | os.PathLike[str], first: int, last: int, where: Mapping[str, Sequence[str]]
) -> Iterator[tuple[int, Trajectory | LogError]]:
    """Canonical Parquet, row groups first..last-1: rows numbered from 1 there, faults without their place."""
    with pq.ParquetFile(path) as file:
        missing = [name for name in SCHEMA.names if name not in file.schema_arrow.names]
        if missing:
            raise LogError(f"{path}: column {missing[0]!r} is missing; expected {SCHEMA.names}")
        number = 0
        for batch in file.iter_batches(BATCH, row_groups=range(first, last), columns=SCHEMA.names):
            for record in _of_batch(batch):
                number += 1
                try:
                    if isinstance(record, LogError) or not where or keeps_record(record, where):
                        yield number, record
                except LogError as error:
                    yield number, error


def _of_batch(batch: pa.RecordBatch) -> Iterator[Trajectory | LogError]:
    """Trajectories, or what is wrong with them, column by column: much faster than rows of nested Python dicts."""
    steps = batch.column("steps")
    # Null lists have no steps; the offsets of a slice do not begin at 0.
    ends = [0, *accumulate(length or 0 for length in pc.list_value_length(steps).to_pylist())]
    flat = steps.flatten()
    names = [field.name for field in flat.type if field.name in Step.__struct_fields__]  # old files have no labels
    parts = [flat.field(name).to_pylist() for name in names]
    made = list(zip(*parts, strict=True))
    columns = [batch.column(name).to_pylist() for name in SCHEMA.names if name != "steps"]
    for i, (task, episode, outcome, truncated, fields) in enumerate(zip(*columns, strict=True)):
        row = {"task": task, "episode": episode, "outcome": outcome, "truncated": truncated}
        try:
            row["fields"] = msgspec.json.decode(fields or "{}")
            row["steps"] = [dict(zip(names, step, strict=True)) for step in made[ends[i] : ends[i + 1]]]
            yield msgspec.convert(row, Trajectory)
        except msgspec.DecodeError as error:
            yield LogError(str(error))


def write_parquet(path: str | os.PathLike[str], trajectories: Iterable[Trajectory]) -> None:
    """Write canonical Parquet."""
    stream = iter(trajectories)
    with atomic_write(path) as temporary, pq.ParquetWriter(temporary, SCHEMA, compression="zstd") as writer:
        while rows := [_row(trajectory) for trajectory in islice(stream, BATCH)]:
            writer.write_batch(pa.RecordBatch.from_pylist(rows, SCHEMA))


def _row(trajectory: Trajectory) -> dict[str, Any]:
    row = msgspec.structs.asdict(trajectory)
    row["fields"] = msgspec.json.encode(trajectory.fields).decode()
    row["steps"] = [msgspec.structs.asdict(step) for step in trajectory.steps]
    return row


def write_trajectories(path: str | os.PathLike[str], trajectories: Iterable[Trajectory]) -> None:
    """Write canonical trajectories: Parquet where the name ends in .parquet, else JSONL (.gz and .zst pack it).

    The file is written under a temporary name and renamed: it is there whole or not at all.
    """
    (write_parquet if Path(path).suffix == ".parquet" else write_jsonl)(path, trajectories)
