"""Decoding JSON of other programs into typed records, with faults that name the field."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from selfreg._util.extras import require_extra
from selfreg.data.faults import LogError
from selfreg.data.json_text import decode_value
from selfreg.data.log_files import MOST_BYTES, is_parquet, number_lines, read_bytes
from selfreg.data.log_format import ReadOptions, Record, Records
from selfreg.data.samples import take_sample
from selfreg.data.trajectory import Trajectory

with require_extra("logs", "selfreg.data"):
    import msgspec

T = TypeVar("T")

_EXPECTED = re.compile(r"Expected `(?P<expected>[^`]+)`, got `(?P<got>[^`]+)`(?: - at `(?P<path>[^`]+)`)?")
_MISSING = re.compile(r"Object missing required field `(?P<name>[^`]+)`(?: - at `(?P<path>[^`]+)`)?")
_OTHER = re.compile(r"(?P<fault>.+) - at `(?P<path>[^`]+)`", re.DOTALL)


def decode_json(data: bytes, type: Any = Any) -> Any:
    """A value of the type, repaired where its meaning is clear.

    Raises
    ------
    LogError
        Without a place, but with the field.
    """
    try:
        return decode_value(data, type)
    except LogError as error:
        raise LogError(describe_fault(str(error))) from None


def convert_value(value: Any, type: Any) -> Any:
    """A decoded value as the type."""
    try:
        return msgspec.convert(value, type)
    except msgspec.ValidationError as error:
        raise LogError(describe_fault(str(error))) from None


def describe_fault(message: str) -> str:
    """A message of msgspec with the field first, as all messages have it."""
    if found := _EXPECTED.search(message):
        place = _name_field(found["path"])
        return f"{place}expected {_name_kinds(found['expected'])}; got {_name_kinds(found['got'])}"
    if found := _MISSING.search(message):
        path = (found["path"] or "$") + "." + found["name"]
        return f"field {path.removeprefix('$').removeprefix('.')!r} is missing"
    if found := _OTHER.fullmatch(message):
        return f"{_name_field(found['path'])}{found['fault']}"
    return message


def _name_field(path: str | None) -> str:
    name = (path or "").removeprefix("$").removeprefix(".")
    return f"field {name!r}: " if name else ""


_KINDS = {"str": "a string", "int": "an integer", "float": "a number", "bool": "a boolean", "array": "a list",
          "object": "an object", "null": "null"}  # fmt: skip


def _name_kinds(kinds: str) -> str:
    return " or ".join(_KINDS.get(kind.strip(), kind.strip()) for kind in kinds.split("|"))


# ---- files ----------------------------------------------------------------------------------------------------------


def read_document(path: str, type: Any = Any) -> Any:
    """The one JSON value of a file."""
    _refuse_parquet(path)
    return decode_json(read_bytes(path, MOST_BYTES), type)


def read_placed_values(path: str) -> Iterator[tuple[str, Any]]:
    """Values of a file that is read at once, and where each is: of its lines, or of a document that is a list."""
    if take_sample(path).kind != "document":
        yield from _read_lines(path)
        return
    document = read_document(path)
    values = document if isinstance(document, list) else None
    yield from [("line 1", document)] if values is None else ((f"[{i}]", value) for i, value in enumerate(values))


def _read_lines(path: str, type: Any = Any) -> Iterator[tuple[str, Any]]:
    _refuse_parquet(path)
    left = MOST_BYTES
    for number, line in number_lines(path):
        left -= len(line)
        if left < 0:
            raise LogError(f"line {number}: the file has more than {MOST_BYTES >> 20} MB, the limit; split it")
        try:
            yield f"line {number}", decode_json(line, type)
        except LogError as error:
            raise error.at(f"line {number}") from None


def read_values(path: str, type: Any = Any) -> list[Any]:
    """Values of the lines of a file, or the elements of its one document (itself, if it is no list)."""
    if take_sample(path).kind == "lines":
        return [value for _, value in _read_lines(path, type)]
    document: Any = read_document(path)
    values = document if isinstance(document, list) else [document]
    return [convert_at(i, value, type) for i, value in enumerate(values)]


def drop_repeated(placed: Iterable[tuple[T, Any]], *ids: str) -> Iterator[tuple[T, Any]]:
    """Records without those that are there again as they are: a log may have been written, or sent, twice.

    Records without any of the fields `ids` may be alike, and stay.
    """
    seen = set[bytes]()
    for place, record in placed:
        if isinstance(record, dict) and any(record.get(name) for name in ids):
            digest = hashlib.blake2b(msgspec.json.encode(record, enc_hook=str), digest_size=16).digest()
            if digest in seen:
                continue
            seen.add(digest)
        yield place, record


def _refuse_parquet(path: str) -> None:
    if is_parquet(path):
        raise LogError("this format does not read Parquet files")


def convert_at(index: int, value: Any, type: Any) -> Any:
    try:
        return convert_value(value, type)
    except LogError as error:
        raise error.at(f"[{index}]") from None


def each_file(read: Callable[[str, ReadOptions], Iterable[Trajectory]]) -> Callable[[str, ReadOptions], Records]:
    """A reader of whole files, from one whose first fault ends the file."""

    def read_file(path: str, options: ReadOptions) -> Iterator[tuple[int, Record]]:
        number = 0
        try:
            for number, trajectory in enumerate(read(path, options), 1):
                yield number, trajectory
            if not number:
                raise LogError("there is no episode in it")
        except LogError as error:
            yield number + 1 if number else 0, error

    return read_file


def each_record(
    convert: Callable[[Any, ReadOptions, int], Trajectory], records: Iterable[Any], options: ReadOptions
) -> Iterator[tuple[int, Record]]:
    """Records as trajectories, or their faults, numbered from 1."""
    for number, record in enumerate(records, 1):
        try:
            yield number, convert(record, options, number)
        except LogError as error:
            yield number, error
