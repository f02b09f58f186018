"""Log files as they lie on disk: compressed lines and Parquet row groups."""

from __future__ import annotations

import gzip
import io
import os
import zlib
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import IO, Any, cast

from selfreg._util.extras import require_extra

with require_extra("logs", "selfreg.data"):
    import pyarrow as pa
    import pyarrow.parquet as pq


class LogError(ValueError):
    """A record that cannot be read. The message names the file, the line or row, the field and what was expected."""


def describe_kind(value: Any) -> str:
    """Kind of a JSON value, for messages."""
    names = {dict: "an object", list: "an empty list" if value == [] else "a list", str: "a string", bool: "a boolean"}
    return "null" if value is None else names.get(type(value), "a number")


def is_parquet(path: str | os.PathLike[str]) -> bool:
    return Path(path).suffix == ".parquet"


def open_bytes(path: str | os.PathLike[str]) -> IO[bytes]:
    """Open a file for reading; it is decompressed if its name ends in .gz or .zst."""
    if Path(path).suffix == ".gz":
        return cast(IO[bytes], gzip.open(path, "rb"))
    if Path(path).suffix == ".zst":
        return cast(IO[bytes], io.BufferedReader(pa.input_stream(os.fspath(path), compression="zstd"), 1 << 20))
    return open(path, "rb")


def number_lines(path: str | os.PathLike[str]) -> Iterator[tuple[int, bytes]]:
    """Lines of a file that are not blank, with their numbers from 1."""
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


def row_group_starts(path: str | os.PathLike[str]) -> list[int]:
    """First row (from 0) of each row group of a Parquet file, then the number of rows."""
    try:
        metadata = pq.read_metadata(path)
    except pa.ArrowInvalid as error:
        raise LogError(f"{path}: not a Parquet file: {error}") from None
    return list(accumulate((metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)), initial=0))
