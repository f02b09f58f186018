"""Which format log files are of, and why."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import NamedTuple, TypeAlias

from selfreg.data.faults import LogError, show_path
from selfreg.data.formats import BUILT_IN, find_format, format_names, installed_formats
from selfreg.data.formats.table import PLAIN
from selfreg.data.log_files import LogFile, LogFiles, list_log_files, plain_suffix
from selfreg.data.log_format import LogFormat, ReadOptions
from selfreg.data.rows import describe_sqlite, is_sqlite
from selfreg.data.samples import Sample, take_sample

AUTO = "auto"
MOST_NAMES = 5

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
    left_out = [f"{show_path(path)} (not a log by its name)" for path in listed.left_out]
    files: list[LogFile] = []
    tables: list[LogFile] = []  # beside other logs, tables that no name of a column makes one are none
    reason, first = "it was named", ""
    for file in listed.files:
        if chosen is not None and format != AUTO and not (file.found and chosen.detect):
            files.append(file)
            continue
        found = _recognise(file, chosen, roles or {})
        if found is None:
            left_out.append(f"{show_path(file.path)} (of no known format)")
            continue
        one, why = found
        if file.found and why == PLAIN and format == AUTO:
            tables.append(file)
            continue
        if chosen is None:
            chosen, reason, first = one, why, file.path
        elif one.name != chosen.name:
            if format == AUTO:
                raise SeveralFormatsError(
                    f"{file.path} is of format {one.name!r} ({why}), and {first} of format {chosen.name!r} "
                    f"({reason}): choose one with --format; other files of a folder are then left out. A file "
                    "with the outcomes of episodes belongs to --outcomes"
                )
            left_out.append(f"{show_path(file.path)} (of format {one.name!r})")
            continue
        files.append(file)
    if chosen is None and tables:
        chosen, reason, files = BUILT_IN["table"], PLAIN, tables
    elif tables:
        left_out += [f"{show_path(file.path)} (a table whose columns have other names)" for file in tables]
    if chosen is None or not files:
        raise LogError(f"no file of {'a known format' if chosen is None else repr(chosen.name)}: {shorten(left_out)}")
    return DetectedLogs(chosen, reason, chosen.merge_files(files) if chosen.merge_files else files, left_out)


def _recognise(file: LogFile, likely: LogFormat | None, roles: Mapping[str, str]) -> tuple[LogFormat, str] | None:
    """Format of a file and the reason; None if it is of none, and was not named itself."""
    try:
        sample = take_sample(file.path)
        found = recognise_sample(sample, likely, roles)
    except LogError:
        if file.found and likely is None:
            return None
        raise
    if found is None and not file.found:
        if sample.kind == "empty" and plain_suffix(file.path) in ("", ".jsonl", ".ndjson"):
            return BUILT_IN["selfreg"], "it is empty"
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
    objects = sample.objects()
    fields = ", ".join(map(repr, objects[0])) if objects else ""
    there = f"its first record has {fields or 'no fields'}" if objects else "it has no object"
    if sample.kind == "document" and sample.values == [{}]:
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
