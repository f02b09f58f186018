"""The beginning of a log file, from which its format is told."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection
from typing import Any, Literal, NamedTuple, TypeAlias

from selfreg.data.archives import BROKEN, list_members, open_packed
from selfreg.data.csv_layout import find_csv_layout
from selfreg.data.faults import LogError
from selfreg.data.guesses import NAMES
from selfreg.data.log_files import describe_packing, is_parquet, open_arrow, plain_suffix

HEAD_BYTES = 1 << 20
MOST_SHOWN = 100  # levels of nesting
FIRST_LINES = 64

Kind: TypeAlias = Literal["lines", "document", "parquet", "table", "eval", "empty", "other"]


_OTHER_CODINGS = {
    b"\xff\xfe": "UTF-16 (convert it: iconv -f UTF-16 -t UTF-8)",
    b"\xfe\xff": "UTF-16 (convert it: iconv -f UTF-16 -t UTF-8)",
    b"PAR1": "Parquet (its name must end in .parquet)",
    b"BZh": "compressed by bzip2 (its name must end in .bz2)",
    b"\xfd7zXZ\x00": "compressed by xz (its name must end in .xz)",
    b"\x1f\x8b": "compressed by gzip (its name must end in .gz)",
    b"\x28\xb5\x2f\xfd": "compressed by zstd (its name must end in .zst)",
}


class Sample(NamedTuple):
    """The beginning of a file.

    Attributes
    ----------
    path : str
    kind : {"lines", "document", "parquet", "table", "eval", "empty", "other"}
        JSON values a line; one JSON document; a Parquet file; comma- or tab-separated values; a zip archive of Inspect;
        nothing; something else.
    values : list
        The first JSON values of lines; the document, perhaps without its end; else names of columns or members.
    """

    path: str
    kind: Kind
    values: list[Any]

    def records(self) -> list[Any]:
        """The values; those in a document that is a list, or that holds one list of records and no other."""
        if self.kind != "document":
            return self.values
        return unwrap_records(self.values[0])

    def objects(self) -> list[dict[str, Any]]:
        """The records that are objects."""
        return [value for value in self.records() if isinstance(value, dict)]


# Fields of a document that hold its records.
WRAPPERS = ("data", "records", "episodes", "conversations", "trajectories", "results", "runs", "items", "rows", "logs",
            "examples")  # fmt: skip


def unwrap_records(document: Any, own: Collection[str] = ()) -> list[Any]:
    """Records of a document: of a list, or of the list in an object that has no other list.

    An object with a task or an outcome is a record itself, unless those in its list have one; so is an object whose
    list is one of the fields `own` of a record.
    """
    if isinstance(document, list):
        return document
    lists = [name for name, value in document.items() if isinstance(value, list)] if isinstance(document, dict) else []
    lists = [name for name in lists if document[name]] or lists
    if len(lists) == 1 and lists[0] in WRAPPERS and all(isinstance(one, (dict, list)) for one in document[lists[0]]):
        first = next(iter(document[lists[0]]), None)
        are_messages = isinstance(first, dict) and bool({"role", "from"} & first.keys())
        if lists[0] not in own and not are_messages and not _is_record(document, first):
            return list(document[lists[0]])
    return [document]


def _is_record(document: dict[str, Any], first: Any) -> bool:
    """Whether an object is an episode with steps, by its fields and those of the first in its list."""
    inner = first.keys() if isinstance(first, dict) else set[str]()
    has_task, has_outcome = (any(name in inner for name in NAMES[role]) for role in ("task", "outcome"))
    names = document.keys() - {"id"}  # an export may have an id
    task, outcome = (any(name in names for name in NAMES[role]) for role in ("task", "outcome"))
    if has_task and has_outcome:
        return False
    return (task and outcome) or ((task or outcome) and not (has_task or has_outcome))


def describe_columns(document: Any) -> str:
    """What to do with a table that is written column by column, as pandas does; "" for another document."""
    is_split = isinstance(document, dict) and {"columns", "data"} <= document.keys()
    columns = list(document.values()) if isinstance(document, dict) else []
    numbered = bool(columns) and all(isinstance(one, dict) and "0" in one for one in columns)
    if not (is_split or numbered):
        return ""
    return (
        "a table column by column, as pandas writes it: write a row a line, to_json(FILE, orient='records', lines=True)"
    )


def take_sample(path: str | os.PathLike[str]) -> Sample:
    """The beginning of a file; broken parts are left out, for the readers to find."""
    name = os.fspath(path)
    if is_parquet(name):
        return Sample(name, "parquet", _parquet_columns(name))
    if plain_suffix(name) == ".eval":
        return Sample(name, "eval", [member.filename for member in list_members(name)])
    head, complete, fault = _read_head(name, HEAD_BYTES)
    if (coding := next((name for magic, name in _OTHER_CODINGS.items() if head.startswith(magic)), "")) and not fault:
        raise LogError(f"{name}: expected text in UTF-8; it is {coding}")
    text = head.decode("utf-8-sig", "replace")
    if text.lstrip()[:1] in ("{", "["):
        sample = _sample_json(name, text.lstrip(), complete)
        if fault and not any(sample.objects()):
            raise LogError(f"{name}: {fault}")
        return sample
    columns = find_csv_layout(text, tabs=plain_suffix(name) == ".tsv").columns
    if text.strip() and (plain_suffix(name) in (".csv", ".tsv") or len(columns) > 1):
        return Sample(name, "table", columns)
    return Sample(name, "other" if text.strip() else "empty", [])


def read_head_text(path: str | os.PathLike[str]) -> str:
    """The beginning of a file as text, without a byte order mark."""
    return _read_head(os.fspath(path), HEAD_BYTES)[0].decode("utf-8-sig", "replace")


def is_document(path: str | os.PathLike[str]) -> bool:
    """Whether a file is one JSON document; an object on one line, and values on several, are read as lines."""
    if take_sample(path).kind != "document":
        return False
    lines = [line for line in _read_head(os.fspath(path), HEAD_BYTES)[0].split(b"\n") if line.strip()]
    first = lines[0].decode("utf-8-sig", "replace")
    document = _parse(first)
    alone = len(lines) == 1 and (not first.lstrip().startswith("{") or unwrap_records(document) != [document])
    return alone or document is None


def _read_head(path: str, size: int) -> tuple[bytes, bool, str]:
    """The first bytes, whether they are all, and why no more could be read."""
    head, fault = b"", ""
    try:
        with open_packed(path) as stream:
            while len(head) <= size and (block := stream.read1(1 << 16)):  # type: ignore[attr-defined]
                head += block
    except BROKEN as error:
        fault = f"broken {describe_packing(path)}data: {error}"
        if not head:
            raise LogError(f"{path}: {fault}") from None
    return head[:size], len(head) <= size, fault


def _parquet_columns(path: str) -> list[str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with open_arrow(path) as file:
            return list(pq.read_schema(file).names)
    except (pa.ArrowInvalid, OSError) as error:
        raise LogError(f"{path}: not a Parquet file: {error}") from None


def _sample_json(path: str, text: str, complete: bool) -> Sample:
    document = _parse(text) if complete else None
    if document is not None:
        one_line = (
            isinstance(document, dict) and plain_suffix(path) in (".jsonl", ".ndjson") and "\n" not in text.strip()
        )
        return Sample(path, "lines" if one_line else "document", [document])
    if text.startswith("[") and isinstance(_parse(text.split("\n", 1)[0]), list):  # a list a line
        lines = [line for line in text.split("\n") if line.strip()][:FIRST_LINES]
        if len(lines) > 1:
            return Sample(path, "lines", [value for line in lines if isinstance(value := _parse(line), (dict, list))])
    if text.startswith("{"):
        lines = [line for line in text.split("\n") if line.strip()]
        several = len(lines) > 1 or (not complete and _has_second_object(path))
        flush = lines[:2] + [line for line in lines[2:FIRST_LINES] if line[0] == "{"]
        values = [value for line in flush if isinstance(value := _parse(line), dict)]
        if several and values and lines[0].strip() != "{":
            return Sample(path, "lines", values)
        if several and len(lines) == 1:
            return Sample(path, "lines", [parse_beginning(text)])
    document = parse_beginning(text)
    return Sample(path, "document", [{} if document is None else document])


def _has_second_object(path: str) -> bool:
    """Whether an object follows on the first line, which is longer than what was read of it."""
    with open_packed(path) as stream:
        try:
            while (block := stream.readline(HEAD_BYTES)) and not block.endswith(b"\n"):
                pass
            return stream.readline(HEAD_BYTES).lstrip().startswith(b"{")
        except (*BROKEN, ValueError):
            return False


def _parse(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=lambda _: None)
    except RecursionError:
        return parse_beginning(text)
    except ValueError:
        return None


_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*("?)|[{}\[\],]', re.DOTALL)


def parse_beginning(text: str, tries: int = 3) -> Any:
    """The JSON value that a text begins with: cut after its last complete part, and closed; None if there is none.

    What is nested very deeply is left out: the readers find it.
    """
    open_brackets: list[str] = []
    kept: list[str] = []
    start = cut = 0
    for token in _TOKEN.finditer(text):
        mark = token.group()
        if mark[0] == '"':
            if not token.group(1):
                break
            continue
        if mark in "{[":
            open_brackets.append("}" if mark == "{" else "]")
            if len(open_brackets) == MOST_SHOWN:
                kept.append(text[start : token.start()] + "null")
        elif mark in "}]":
            if not open_brackets or open_brackets[-1] != mark:
                break
            open_brackets.pop()
            if len(open_brackets) == MOST_SHOWN - 1:
                start = token.end()
        if len(open_brackets) < MOST_SHOWN:
            cut = token.start() if mark == "," else token.end()
            if not open_brackets:
                break
    last = text[start:cut] if len(open_brackets) < MOST_SHOWN else ""
    beginning = "".join([*kept, last, *reversed(open_brackets[: MOST_SHOWN - 1])])
    try:
        return json.loads(beginning, parse_constant=lambda _: None) if cut else None
    except json.JSONDecodeError as error:  # what stands before the fault
        return parse_beginning(text[: error.pos], tries - 1) if tries and not kept and error.pos < cut else None
    except ValueError:
        return None
