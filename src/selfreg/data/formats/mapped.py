"""Any JSONL, JSON or Parquet: roles of the canonical trajectory are mapped to fields of the record."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from selfreg.data.documents import read_document
from selfreg.data.faults import LogError
from selfreg.data.filters import matches_filter
from selfreg.data.json_text import decode_value
from selfreg.data.log_files import describe_kind
from selfreg.data.log_format import LogFormat, ReadOptions
from selfreg.data.roles import ROLES, convert_record
from selfreg.data.rows import read_parquet_rows
from selfreg.data.samples import Sample, unwrap_records
from selfreg.data.trajectory import Trajectory


def read_mapped_lines(
    numbered: Iterable[tuple[int, bytes]], options: ReadOptions
) -> Iterator[tuple[int, Trajectory | LogError]]:
    """Trajectories of numbered lines, or their faults without a place; `options.where` filters the records."""
    for number, line in numbered:
        try:
            record = decode_value(line)
        except LogError as error:
            yield number, error
            continue
        yield from _read_record(record, options, number)


def read_mapped_document(path: str, options: ReadOptions) -> Iterator[tuple[int, Trajectory | LogError]]:
    """The same for a file with one JSON document: an episode, or a list of some."""
    steps = options.roles.get("steps") or "steps"
    records = unwrap_records(read_document(path), own=[re.split(r"[.\[]", steps)[0]])
    if not records:
        raise LogError("expected at least one episode; got an empty list")
    for number, record in enumerate(records, 1):
        yield from _read_record(record, options, number)


def read_mapped_row_groups(
    path: str, first: int, last: int, options: ReadOptions
) -> Iterator[tuple[int, Trajectory | LogError]]:
    """The same for row groups first..last-1 of a Parquet file, whose rows are records."""
    for number, row in enumerate(read_parquet_rows(path, range(first, last)), 1):
        yield from _read_record(row, options, number)


def _read_record(record: Any, options: ReadOptions, number: int) -> Iterator[tuple[int, Trajectory | LogError]]:
    try:
        if not isinstance(record, dict):
            raise LogError(f"expected a JSON object; got {describe_kind(record)}")
        if matches_filter(record, options.where):
            yield number, convert_record(record, options, f"{options.source}:{number}")
    except LogError as error:
        yield number, error


def _detect(sample: Sample) -> str | None:
    for record in sample.objects() if sample.kind in ("lines", "document") else []:
        if {"task", "outcome", "steps"} <= record.keys():
            return "its fields have the names of the roles"
    return None


FORMAT = LogFormat(
    "jsonl",
    "any JSONL, JSON or Parquet, with roles mapped to its fields",
    read_lines=read_mapped_lines,
    read_row_groups=read_mapped_row_groups,
    read_file=read_mapped_document,
    roles=ROLES,
    translates=ROLES,
    detect=_detect,
    filters_records=True,
)
