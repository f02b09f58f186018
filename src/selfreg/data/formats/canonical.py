"""The canonical format: JSONL (one episode a line; .gz and .zst are compressed) and Parquet."""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from itertools import accumulate, chain, islice
from pathlib import Path
from typing import IO, Any, cast

from selfreg._util.extras import require_extra
from selfreg._util.files import atomic_write
from selfreg.data.faults import LogError
from selfreg.data.json_text import decode_value
from selfreg.data.log_files import is_parquet, open_arrow
from selfreg.data.log_format import LogFormat, ReadOptions
from selfreg.data.samples import Sample
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


class _Outcome(msgspec.Struct):
    outcome: float | None = None


def read_jsonl_lines(
    numbered: Iterable[tuple[int, bytes]], options: ReadOptions
) -> Iterator[tuple[int, Trajectory | LogError]]:
    """Trajectories of numbered lines, or their faults without a place."""
    decoder = msgspec.json.Decoder(Trajectory)
    for number, line in numbered:
        try:
            yield number, decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            yield number, _decode_repaired(line)


def _decode_repaired(line: bytes) -> Trajectory | LogError:
    try:
        return decode_value(line, Trajectory)
    except LogError as error:
        error.outcome = _find_outcome(line)
        return error


def _find_outcome(line: bytes) -> float | None:
    """The outcome of a record that cannot be read, where it says so much."""
    try:
        return decode_value(line, _Outcome).outcome
    except LogError:
        return None


def write_jsonl(path: str | os.PathLike[str], trajectories: Iterable[Trajectory]) -> None:
    """Write canonical JSONL; it is compressed if the name ends in .gz or .zst."""
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


def read_row_groups(
    path: str | os.PathLike[str], first: int, last: int, options: ReadOptions
) -> Iterator[tuple[int, Trajectory | LogError]]:
    """Trajectories of row groups first..last-1 of a Parquet file, or their faults without a place."""
    try:
        with open_arrow(path) as stream, pq.ParquetFile(stream) as file:
            _check_schema(path, file.schema_arrow)
            batches = file.iter_batches(BATCH, row_groups=range(first, last), columns=SCHEMA.names)
            yield from enumerate(chain.from_iterable(map(_convert_batch, batches)), 1)
    except (pa.ArrowException, OSError) as error:
        raise LogError(f"{path}: broken Parquet data: {error}") from None


def _check_schema(path: str | os.PathLike[str], schema: pa.Schema) -> None:
    """Raise LogError for a column that is missing or of another type; the rows are checked one by one."""
    missing = [name for name in SCHEMA.names if name not in schema.names]
    if missing:
        raise LogError(f"{path}: column {missing[0]!r} is missing; expected {SCHEMA.names}")
    steps, fields = schema.field("steps").type, schema.field("fields").type
    is_list = pa.types.is_list(steps) or pa.types.is_large_list(steps)
    if not is_list or not pa.types.is_struct(steps.value_type) or steps.value_type.get_field_index("state") < 0:
        raise LogError(f"{path}: column 'steps': expected a list of steps with a field 'state'; got {steps}")
    if not (pa.types.is_string(fields) or pa.types.is_large_string(fields) or pa.types.is_null(fields)):
        raise LogError(f"{path}: column 'fields': expected the text of a JSON object; got {fields}")


def _convert_batch(batch: pa.RecordBatch) -> Iterator[Trajectory | LogError]:
    """Trajectories or faults, column by column: much faster than rows of nested Python dicts."""
    steps = batch.column("steps")
    # Null lists have no steps; the offsets of a slice do not begin at 0.
    ends = [0, *accumulate(length or 0 for length in pc.list_value_length(steps).to_pylist())]
    flat = steps.flatten()
    names = [field.name for field in flat.type if field.name in Step.__struct_fields__]  # old files have no labels
    parts = [flat.field(name).to_pylist() for name in names]
    rows = list(zip(*parts, strict=True))
    columns = [batch.column(name).to_pylist() for name in SCHEMA.names if name != "steps"]
    for i, (task, episode, outcome, truncated, fields) in enumerate(zip(*columns, strict=True)):
        row = {"task": task, "episode": episode, "outcome": outcome, "truncated": truncated}
        try:
            row["fields"] = msgspec.json.decode(fields or "{}")
            row["steps"] = [dict(zip(names, step, strict=True)) for step in rows[ends[i] : ends[i + 1]]]
            yield msgspec.convert(row, Trajectory)
        except msgspec.DecodeError as error:
            yield LogError(str(error))


def write_parquet(path: str | os.PathLike[str], trajectories: Iterable[Trajectory]) -> None:
    """Write canonical Parquet."""
    stream = iter(trajectories)
    with (
        atomic_write(path) as temporary,
        open_arrow(temporary, "wb") as file,
        pq.ParquetWriter(file, SCHEMA, compression="zstd") as writer,
    ):
        while rows := [_row(trajectory) for trajectory in islice(stream, BATCH)]:
            writer.write_batch(pa.RecordBatch.from_pylist(rows, SCHEMA))


def _row(trajectory: Trajectory) -> dict[str, Any]:
    row = msgspec.structs.asdict(trajectory)
    row["fields"] = msgspec.json.encode(trajectory.fields).decode()
    row["steps"] = [msgspec.structs.asdict(step) for step in trajectory.steps]
    return row


def write_trajectories(path: str | os.PathLike[str], trajectories: Iterable[Trajectory]) -> None:
    """Write canonical trajectories: Parquet if the name ends in .parquet, else JSONL (compressed for .gz and .zst).

    The file is written atomically.

    Parameters
    ----------
    path : path
    trajectories : iterable of Trajectory

    Raises
    ------
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from selfreg.data import Step, Trajectory, read_trajectories, write_trajectories
    >>> log = pathlib.Path(tempfile.mkdtemp()) / "log.parquet"
    >>> write_trajectories(log, [Trajectory("task", "episode 1", 1.0, (Step("start"),))])
    >>> len(read_trajectories(log))
    1
    """
    (write_parquet if is_parquet(path) else write_jsonl)(path, trajectories)


def _are_own(steps: Sequence[Any]) -> bool:
    """Whether one of some steps has a state, or none has a field of another format."""
    found = [step.keys() for step in steps if isinstance(step, dict)]
    return any("state" in names for names in found) or all(names <= set(Step.__struct_fields__) for names in found)


def _detect(sample: Sample) -> str | None:
    if sample.kind == "parquet":
        is_ours = {"task", "episode", "steps"} <= set(sample.values)
        return "its columns are those that selfreg writes" if is_ours else None
    known = set(Trajectory.__struct_fields__)
    records = sample.objects() if sample.kind in ("lines", "document") else []
    found = any({"task", "steps"} <= record.keys() <= known for record in records)
    lists = [steps for record in records if isinstance(steps := record.get("steps"), list)]
    if found and _are_own([*chain.from_iterable(lists)]):
        return "its fields are those that selfreg writes"
    return None


FORMAT = LogFormat(
    "selfreg",
    "what selfreg writes, as JSONL or Parquet",
    read_lines=read_jsonl_lines,
    read_row_groups=read_row_groups,
    detect=_detect,
)
