"""Rows of tables and of JSON as records: CSV, Parquet, SQLite, JSONL and JSON lists."""

from __future__ import annotations

import csv
import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from datetime import date, time, timedelta
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

from selfreg._util.extras import require_extra
from selfreg.data.archives import BROKEN, open_packed
from selfreg.data.csv_layout import find_csv_layout
from selfreg.data.faults import LogError
from selfreg.data.json_text import ONLY_CR, decode_value
from selfreg.data.log_files import (
    MOST_BYTES,
    is_parquet,
    number_lines,
    open_arrow,
    plain_suffix,
    read_bytes,
)
from selfreg.data.samples import is_document, read_head_text, take_sample, unwrap_records

with require_extra("logs", "selfreg.data"):
    import pyarrow as pa
    import pyarrow.parquet as pq

BATCH = 1024
JSON = (".json", ".jsonl", ".ndjson")
SQLITE = b"SQLite format 3\x00"
Row: TypeAlias = dict[str, Any]
# Rows with their numbers (from 1), or their faults.
Numbered: TypeAlias = Iterator[tuple[int, Row | LogError]]


def read_rows(path: str) -> Numbered:
    """Rows of a file of any of the kinds."""
    if is_parquet(path):
        yield from enumerate(read_parquet_rows(path), 1)
    elif is_sqlite(path):
        yield from enumerate(read_sqlite_rows(path), 1)
    elif plain_suffix(path) in JSON or (kind := take_sample(path).kind) in ("lines", "document"):
        yield from _read_json_rows(path)
    elif kind == "table":
        yield from _read_csv_rows(path)
    else:
        raise LogError("no rows in it; expected CSV, Parquet, SQLite, JSONL or a JSON list")


def read_table_rows(path: str) -> Numbered:
    """Rows of CSV or Parquet."""
    return enumerate(read_parquet_rows(path), 1) if is_parquet(path) else _read_csv_rows(path)


# ---- JSON -----------------------------------------------------------------------------------------------------------


def _read_json_rows(path: str) -> Numbered:
    if is_document(path):
        document = decode_value(read_bytes(path, MOST_BYTES))
        for number, value in enumerate(unwrap_records(document), 1):
            yield number, _as_row(value)
        return
    for number, line in number_lines(path):
        try:
            yield number, _as_row(decode_value(line))
        except LogError as error:
            yield number, error


def _as_row(value: Any) -> Row | LogError:
    return value if isinstance(value, dict) else LogError("expected an object")


# ---- CSV ------------------------------------------------------------------------------------------------------------


def read_csv_lines(path: str) -> Iterator[tuple[int, list[str]]]:
    """Rows of a file and the lines that they end on; the first has the names of the columns."""
    layout = find_csv_layout(read_head_text(path), tabs=plain_suffix(path) == ".tsv")
    with open_packed(path) as stream:
        lines = islice(_decode_lines(stream), layout.skipped, None)
        reader = csv.reader(lines, delimiter=layout.delimiter, strict=True)
        while True:
            try:
                row = next(reader)
            except StopIteration:
                return
            except (csv.Error, *BROKEN) as error:
                fault = ONLY_CR if "new-line character" in str(error) else error
                raise LogError(f"line {layout.skipped + reader.line_num}: {fault}") from None
            if row:
                yield layout.skipped + reader.line_num, row


def _decode_lines(stream: Iterable[bytes]) -> Iterator[str]:
    for number, line in enumerate(stream, 1):
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise LogError(
                f"line {number}: not UTF-8 (byte 0x{error.object[error.start]:02x}); convert the file first, for "
                "example by iconv -f LATIN1 -t UTF-8"
            ) from None


def _read_csv_rows(path: str) -> Numbered:
    rows = read_csv_lines(path)
    _, names = next(rows, (0, []))
    for number, (line, row) in enumerate(rows, 1):
        if len(row) != len(names):
            yield number, LogError(f"line {line}: expected {len(names)} values; got {len(row)}")
        else:
            yield number, {name: text or None for name, text in zip(names, row, strict=True)}


# ---- Parquet and SQLite ---------------------------------------------------------------------------------------------


def read_parquet_rows(path: str, groups: Iterable[int] | None = None) -> Iterator[Row]:
    """Rows of a Parquet file, or of some of its row groups; LogError says after which row it is broken."""
    number = 0
    try:
        with open_arrow(path) as stream, pq.ParquetFile(stream) as file:
            for batch in file.iter_batches(BATCH, row_groups=None if groups is None else list(groups)):
                for row in _cut_nanoseconds(batch).to_pylist():
                    number += 1
                    yield {name: _as_json(value) for name, value in row.items()}
    except (pa.ArrowException, OSError) as error:
        raise LogError(f"broken data after row {number}: {error}") from None


def _cut_nanoseconds(batch: pa.RecordBatch) -> pa.RecordBatch:
    """A batch whose times are in microseconds, the finest that Python has."""
    for i, (name, column) in enumerate(zip(batch.schema.names, batch.columns, strict=True)):
        if pa.types.is_timestamp(column.type) and column.type.unit == "ns":
            batch = batch.set_column(i, name, column.cast(pa.timestamp("us", column.type.tz), safe=False))
    return batch


def _as_json(value: Any) -> Any:
    """A value of a cell as JSON has it: decimals are numbers, times are texts."""
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, timedelta):
        return value.total_seconds()
    return value.isoformat() if isinstance(value, (date, time)) else _as_text(value)


def is_sqlite(path: str | os.PathLike[str]) -> bool:
    with open(path, "rb") as stream:
        return stream.read(len(SQLITE)) == SQLITE


def read_sqlite_rows(path: str) -> Iterator[Row]:
    """Rows of the one table of a SQLite file."""
    try:
        with closing(sqlite3.connect(f"{Path(path).absolute().as_uri()}?mode=ro", uri=True)) as connection:
            names = [
                name
                for (name,) in connection.execute(
                    "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name"
                )
            ]
            if len(names) != 1:
                raise LogError(
                    f"expected a SQLite file with one table; got {', '.join(names) or 'none'}. Write what you need to "
                    "a table of its own: sqlite3 -header -csv FILE 'SELECT ...' > rows.csv"
                )
            quoted = names[0].replace('"', '""')
            connection.row_factory = sqlite3.Row
            for row in connection.execute(f'SELECT * FROM "{quoted}"'):
                yield {key: _as_text(row[key]) for key in row.keys()}  # noqa: SIM118
    except sqlite3.Error as error:
        raise LogError(f"SQLite: {error}") from None


def describe_sqlite(path: str) -> str:
    """What to do with a SQLite file whose columns have no usual names, or which cannot be read."""
    try:
        row = next(read_sqlite_rows(path), None)
    except LogError as error:
        return str(error)
    there = "no rows" if row is None else f"the columns {', '.join(row)}"
    return (
        f"it is a SQLite file with {there}. Say which rows are an episode (--group-by COLUMN --order-by COLUMN) and "
        "what its columns are (--map outcome=COLUMN --map observation=COLUMN --map action=COLUMN)"
    )


def _as_text(value: Any) -> Any:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
