"""Rows of tables as records."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from selfreg._util.extras import require_extra
from selfreg.data.log_files import LogError

with require_extra("logs", "selfreg.data"):
    import pyarrow as pa
    import pyarrow.parquet as pq

BATCH = 1024


def read_parquet_rows(path: str, groups: Iterable[int] | None = None) -> Iterator[dict[str, Any]]:
    """Rows of a Parquet file, or of some of its row groups; LogError says after which row it is broken."""
    number = 0
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(BATCH, row_groups=None if groups is None else list(groups)):
                for row in batch.to_pylist():
                    number += 1
                    yield row
    except (pa.ArrowException, OSError) as error:
        raise LogError(f"broken data after row {number}: {error}") from None
