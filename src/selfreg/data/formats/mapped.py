"""Any JSONL: roles of the canonical trajectory are mapped to fields of the record."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from selfreg.data.filters import matches_filter
from selfreg.data.json_text import decode_value
from selfreg.data.log_files import LogError
from selfreg.data.log_format import LogFormat, ReadOptions
from selfreg.data.roles import ROLES, convert_record, describe_kind
from selfreg.data.samples import Sample
from selfreg.data.trajectory import Trajectory


def read_mapped_lines(
    numbered: Iterable[tuple[int, bytes]], options: ReadOptions
) -> Iterator[tuple[int, Trajectory | LogError]]:
    """Trajectories of numbered lines, or their faults without a place; `options.where` filters the records."""
    for number, line in numbered:
        try:
            record = decode_value(line)
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
    "any JSONL, with roles mapped to its fields",
    read_lines=read_mapped_lines,
    roles=ROLES,
    detect=_detect,
    filters_records=True,
)
