"""Which format log files are of, and why."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import NamedTuple, TypeAlias

from selfreg.data.faults import LogError, show_path
from selfreg.data.formats import BUILT_IN, find_format, format_names, installed_formats
from selfreg.data.formats.table import PLAIN
from selfreg.data.json_text import ENDS_EARLY, decode_value
from selfreg.data.log_files import MOST_BYTES, LogFile, LogFiles, list_log_files, plain_suffix, read_bytes
from selfreg.data.log_format import LogFormat, ReadOptions
from selfreg.data.rows import describe_sqlite, is_sqlite
from selfreg.data.samples import Sample, describe_columns, read_head_text, take_sample

AUTO = "auto"
# Why a file without anything in it is of the canonical format.
EMPTY = "it is empty"
MOST_NAMES = 5
# Most bytes of a file of no known format that is read to see whether it is whole.
MOST_CUT = 1 << 16

Paths: TypeAlias = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]


class SeveralFormatsError(LogError):
    """Files of several formats, of which none was named."""


class DetectedLogs(NamedTuple):
    """What `detect_format` returns.

    Attributes
    ----------
    format : LogFormat
    reason : str
        Why the files are of that format.
    files : list of LogFile
        The files to read.
    left_out : list of str
        Files in folders and archives that are not read, each with the reason.
    """

    format: LogFormat
    reason: str
    files: list[LogFile]
    left_out: list[str]


def detect_format(paths: Paths, format: str = AUTO, roles: Mapping[str, str] | None = None) -> DetectedLogs:
    """The files of paths and their format.

    Parameters
    ----------
    paths : path or iterable of paths
        Files, folders, globs, zip archives; "-" is standard input.
    format : str
        "auto", or the name of a format: then files in folders that are of another are left out.
    roles : mapping of role to field, optional
        With roles, JSON that no format knows is read as "jsonl".

    Returns
    -------
    DetectedLogs

    Raises
    ------
    LogError
        For a path without logs, a file of no known format, and files of several formats.
    ValueError
        For an unknown format, or roles that it does not take.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from selfreg.data import detect_format
    >>> log = pathlib.Path(tempfile.mkdtemp()) / "log.jsonl"
    >>> _ = log.write_text('{"messages": [{"role": "user", "content": "2 + 2 = ?"}], "reward": 1}')
    >>> found = detect_format(log)
    >>> print(found.format.name, "because", found.reason)
    openai_messages because its field 'messages' is a list of messages with roles
    """
    if format != AUTO:
        find_format(format).check_options(ReadOptions(roles or {}))
    return detect_files(list_log_files(paths), format, roles)


def detect_files(listed: LogFiles, format: str = AUTO, roles: Mapping[str, str] | None = None) -> DetectedLogs:
    """As `detect_format`, of files that are listed."""
    chosen = None if format == AUTO else find_format(format)
    left_out = [f"{show_path(path)} ({_describe_other(path)})" for path in listed.left_out]
    files: list[LogFile] = []
    # Beside other logs these are none: tables that no name of a column makes one, and empty files.
    tables, empty, unknown = list[LogFile](), list[LogFile](), list[LogFile]()
    likely, found = chosen, list[_Recognised]()
    broken: list[tuple[LogFile, LogError]] = []  # their faults are those of the reader, which can leave them out
    for file in listed.files:
        if chosen is not None and not (file.found and chosen.detect):
            files.append(file)
            continue
        try:
            recognised = _recognise(file, likely, roles or {})
        except LogError as error:
            if not file.found:
                raise
            broken.append((file, error))
            continue
        if recognised is None:
            left_out.append(f"{show_path(file.path)} ({EMPTY if _is_empty(file) else 'of no known format'})")
            unknown += [] if _is_empty(file) else [file]
        elif recognised[1] == EMPTY:
            empty.append(file)
        elif chosen is not None:
            if recognised[0].name == chosen.name:
                files.append(file)
            else:
                left_out.append(f"{show_path(file.path)} (of format {recognised[0].name!r})")
        elif file.found and recognised[1] == PLAIN:
            tables.append(file)
        else:
            likely = likely or recognised[0]
            found.append(_Recognised(file, *recognised))
    reason = "it was named"
    if chosen is None and found:
        found, covered = _leave_out_covered(found)
        left_out += [f"{show_path(one.file.path)} (of format {one.format.name!r})" for one in covered]
        _refuse_several(found)
        _, chosen, reason = found[0]
        files = [one.file for one in found]
    elif chosen is None and tables:
        chosen, reason, files, tables = BUILT_IN["table"], PLAIN, tables, []
    elif chosen is None and empty:
        chosen, reason, files, empty = BUILT_IN["selfreg"], EMPTY, empty, []
    left_out += [f"{show_path(file.path)} (a table whose columns have other names)" for file in tables]
    left_out += [f"{show_path(file.path)} (it is empty)" for file in empty]
    if broken and (chosen is None or not files):
        raise broken[0][1]
    files += [file for file, _ in broken if chosen is None or not chosen.covers_file(file)]
    if chosen is None or not files:
        fault = f"no file of {'a known format' if chosen is None else repr(chosen.name)}: {shorten(left_out)}"
        raise LogError(f"{fault}. {describe_unknown(take_sample(unknown[0].path))}" if unknown else fault)
    return DetectedLogs(chosen, reason, chosen.merge_files(files) if chosen.merge_files else files, left_out)


class _Recognised(NamedTuple):
    """A file, its format and why."""

    file: LogFile
    format: LogFormat
    why: str


def _leave_out_covered(found: list[_Recognised]) -> tuple[list[_Recognised], list[_Recognised]]:
    """The files but for those of a folder whose runs are in files of another format too, and these."""
    formats = {one.format.name: one.format for one in found}.values()
    covered = [one for one in found if any(format.covers_file(one.file) for format in formats if format != one.format)]
    return [one for one in found if one not in covered], covered


def _refuse_several(found: list[_Recognised]) -> None:
    """Raise SeveralFormatsError for files of several formats."""
    first = found[0]
    other = next((one for one in found if one.format.name != first.format.name), None)
    if other is not None:
        raise SeveralFormatsError(
            f"{other.file.path} is of format {other.format.name!r} ({other.why}), and {first.file.path} of format "
            f"{first.format.name!r} ({first.why}): choose one with --format; other files of a folder are then left "
            "out. A file with the outcomes of episodes belongs to --outcomes"
        )


def _describe_other(path: str) -> str:
    """Why a file of a folder is not among those to read."""
    if not os.path.exists(path):
        return "a link to no file"
    return "not a log by its name" if os.path.isfile(path) else "not a regular file"


def _is_empty(file: LogFile) -> bool:
    return os.path.getsize(file.path) == 0


def _refuse_broken(path: str, any: bool) -> None:
    """Raise LogError for JSON that ends before something says of what format it is, or has any fault of a document."""
    if os.path.getsize(path) <= MOST_CUT:
        data = read_bytes(path, MOST_BYTES)
        try:
            decode_value(data)
        except LogError as error:
            if any or ENDS_EARLY in str(error):
                raise error.at(path) from None


def _recognise(file: LogFile, likely: LogFormat | None, roles: Mapping[str, str]) -> tuple[LogFormat, str] | None:
    """Format of a file and the reason; None if it is of none, and was not named itself."""
    sample = take_sample(file.path)
    found = recognise_sample(sample, likely, roles)
    if found is None and sample.kind in ("lines", "document"):
        _refuse_broken(file.path, any=sample.kind == "document" and not file.found)
    if found is None and not file.found:
        if sample.kind == "empty" and plain_suffix(file.path) in ("", ".jsonl", ".ndjson"):
            return BUILT_IN["selfreg"], EMPTY
        raise LogError(describe_unknown(sample))
    return found


def recognise_sample(
    sample: Sample, likely: LogFormat | None = None, roles: Mapping[str, str] | None = None
) -> tuple[LogFormat, str] | None:
    """Format of a sample and the reason; `likely` is tried first."""
    for one in _candidates(likely):
        reason = one.detect(sample) if one.detect else None
        if reason and (not roles or set(roles) <= set(one.roles)):
            return one, reason
    if roles and sample.kind in ("lines", "document"):
        return BUILT_IN["jsonl"], "it is JSON, and roles are mapped"
    if roles and sample.kind in ("parquet", "table"):
        name = "jsonl" if sample.kind == "parquet" and "steps" in roles else "table"
        return BUILT_IN[name], "it is a table, and roles are mapped"
    return None


def _candidates(likely: LogFormat | None) -> Iterator[LogFormat]:
    """All formats, one after another: those of other packages are looked for only if no other fits."""
    if likely is not None:
        yield likely
    yield from BUILT_IN.values()
    for name in installed_formats():
        with suppress(ValueError):  # a broken one is an error if it is named
            yield find_format(name)


def describe_unknown(sample: Sample) -> str:
    """Message for a file of no known format."""
    if sample.kind == "other" and is_sqlite(sample.path):
        return f"{sample.path}: {describe_sqlite(sample.path)}"
    if sample.kind in ("empty", "other"):
        what = "empty" if sample.kind == "empty" else "no JSON, CSV or Parquet"
        return f"{sample.path}: of no known format: it is {what}"
    if sample.kind == "document" and (what := describe_columns(sample.values[0])):
        return f"{sample.path}: of no known format: it is {what}"
    objects = sample.objects()
    fields = ", ".join(map(repr, objects[0])) if objects else ""
    there = f"its first record has {fields or 'no fields'}" if objects else "it has no object"
    if sample.kind == "document" and sample.values == [{}] and read_head_text(sample.path).strip() != "{}":
        there = "its first record is not complete. Several indented documents: write one a line (jq -c . FILE)"
    if sample.kind in ("parquet", "table", "eval"):
        there = f"it has {', '.join(map(str, sample.values))}"
    return (
        f"{sample.path}: of no known format; {there}. Map its fields to roles (--map task=FIELD ...), or name its "
        f"format (--format {'|'.join(format_names())})"
    )


def shorten(names: list[str]) -> str:
    """The first names, and how many more there are."""
    rest = len(names) - MOST_NAMES
    return "; ".join(names[:MOST_NAMES]) + (f"; and {rest} more" if rest > 0 else "")
