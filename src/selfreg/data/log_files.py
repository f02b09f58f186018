"""Log files as they lie on disk: folders, archives, standard input, compressed lines and Parquet row groups."""

from __future__ import annotations

import glob
import gzip
import lzma
import os
import zlib
from collections.abc import Iterable, Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

from selfreg._util.extras import require_extra
from selfreg.data.archives import BROKEN, PACKED, copy_stream, is_archive, open_packed, unpack
from selfreg.data.faults import LogError

with require_extra("logs", "selfreg.data"):
    import pyarrow as pa
    import pyarrow.parquet as pq

# Most bytes of a line or a document that are read at once.
MOST_BYTES = 1 << 28

# What is taken from a folder or an archive; .gz, .zst, .bz2 and .xz may follow. Files that are named are always read.
SUFFIXES = (".json", ".jsonl", ".ndjson", ".parquet", ".csv", ".tsv", ".traj", ".eval")
# What other files are, and what to do with them.
OTHERS = {
    ".xlsx": "an Excel file: save its sheet as CSV",
    ".xls": "an Excel file: save its sheet as CSV",
    ".yaml": "YAML: convert it to JSON, for example by yq -o=json",
    ".yml": "YAML: convert it to JSON, for example by yq -o=json",
    ".pkl": "a pickle, which may run code when it is opened: write it by pandas' to_parquet",
    ".pickle": "a pickle, which may run code when it is opened: write it by pandas' to_parquet",
    ".arrow": "an Arrow file: write it as Parquet",
    ".feather": "an Arrow file: write it as Parquet",
    ".7z": "an archive of an unknown kind: unpack it, or use zip or tar",
    ".rar": "an archive of an unknown kind: unpack it, or use zip or tar",
}


class LogFile(NamedTuple):
    """A file to read.

    Attributes
    ----------
    path : str
        On disk; members of a zip archive and standard input are copied to a temporary folder.
    label : str
        Name in the ids of episodes that have none, different for each file.
    origin : str
        The path that the user gave: of the file, its folder or its archive.
    found : bool
        Whether it was found in a folder or an archive, and not named itself.
    parts : tuple of str
        Paths of the files that are read with it, and itself, where several are one log.
    """

    path: str
    label: str
    origin: str
    found: bool = False
    parts: tuple[str, ...] = ()


class LogFiles(NamedTuple):
    """Files to read, and those in the folders and archives that are no logs by their names, or no files to read."""

    files: list[LogFile]
    left_out: list[str]


def list_log_files(paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> LogFiles:
    """The files of paths: files, folders (with all below), globs, zip archives, and "-" for standard input.

    Raises
    ------
    LogError
        For a path that is not there, and a folder or archive without logs.
    """
    given = [os.fspath(path) for path in ([paths] if isinstance(paths, (str, os.PathLike)) else paths)]
    files: list[LogFile] = []
    left_out: list[str] = []
    for name in given:
        for path in _expand(name):
            added = _files_at(path)
            files += added.files
            left_out += added.left_out
            if not added.files:
                kinds = f"{', '.join(SUFFIXES)} (or with {', '.join(PACKED)})"
                raise LogError(f"{name}: no logs in it; expected files that end in {kinds}")
    return LogFiles(_unique_labels(_drop_repeated(files)), left_out)


def _expand(name: str) -> list[str]:
    if name == "-" or os.path.exists(name):
        return [name]
    matched = sorted(glob.glob(name, recursive=True)) if glob.has_magic(name) else []
    if not matched:
        raise LogError(f"{name}: no such file")
    return matched


def _files_at(path: str) -> LogFiles:
    if os.path.isdir(path):
        return _files_in_folder(path, path)
    origin = path
    if path == "-" or not os.path.isfile(path):
        path = copy_stream(path, 0 if path == "-" else os.stat(path).st_ino)
    if (kind := OTHERS.get(plain_suffix(path))) is not None:
        raise LogError(f"{origin}: it is {kind}")
    if is_archive(path):
        return _files_in_folder(unpack(os.path.abspath(path), os.stat(path).st_mtime_ns, is_log_name), origin)
    return LogFiles([LogFile(path, os.path.basename(path), origin)], [])


def _files_in_folder(folder: str, origin: str) -> LogFiles:
    found, left_out = [], []
    above = {folder: frozenset((os.path.realpath(folder),))}
    for parent, folders, names in os.walk(folder, followlinks=True):
        targets = {name: os.path.realpath(os.path.join(parent, name)) for name in folders}
        # A link to a folder that it is in would have no end.
        folders[:] = sorted(
            name for name, target in targets.items() if not name.startswith((".", "__")) and target not in above[parent]
        )
        above.update({os.path.join(parent, name): above[parent] | {targets[name]} for name in folders})
        for name in sorted(names):
            path = os.path.join(parent, name)
            if name.startswith("."):
                continue
            if is_log_name(name) and os.path.isfile(path):
                found.append(LogFile(path, os.path.relpath(path, folder), origin, True))
            else:
                left_out.append(path)
    return LogFiles(found, left_out)


def _drop_repeated(files: list[LogFile]) -> list[LogFile]:
    """Files of each folder, each once: a link in it may lead to another file of it."""
    once: set[tuple[str, str]] = set()
    kept = []
    for file in files:
        name = (file.origin, os.path.realpath(file.path))
        if not file.found or name not in once:
            kept.append(file)
        once.add(name)
    return kept


def _unique_labels(files: list[LogFile]) -> list[LogFile]:
    """Files with labels that differ: those of the same name are told by their paths.

    A file that two paths name has one label, so that its episodes are found to be there twice.
    """
    counts: dict[str, int] = {}
    for file in files:
        counts[file.label] = counts.get(file.label, 0) + 1
    labels: dict[str, str] = {}
    for file in files:
        labels.setdefault(os.path.realpath(file.path), file.label if counts[file.label] == 1 else file.path)
    return [file._replace(label=labels[os.path.realpath(file.path)]) for file in files]


def is_log_name(name: str) -> bool:
    """Whether the name of a file says that it is a log."""
    return plain_suffix(name) in SUFFIXES


def plain_suffix(path: str | os.PathLike[str]) -> str:
    """Suffix of a name without that of its compression, in lower case."""
    stem, suffix = os.path.splitext(os.fspath(path).lower())
    return os.path.splitext(stem)[1] if suffix in PACKED else suffix


def plain_name(label: str) -> str:
    """A label without the suffixes of logs."""
    while os.path.splitext(label)[1].lower() in (*SUFFIXES, *PACKED):
        label = os.path.splitext(label)[0]
    return label


def identify(file: LogFile) -> list[str | int]:
    """JSON values that change where the file does: path (in its archive), size and time of the change."""
    copied = (os.path.isfile(file.origin) and file.path != file.origin) or file.origin == "-"
    name = f"{os.path.abspath(file.origin)}!{file.label}" if copied else os.path.abspath(file.path)
    changed = 0 if file.origin == "-" else os.stat(file.origin if copied else file.path).st_mtime_ns
    parts = [value for part in file.parts for value in (os.path.basename(part), *_state(part))]
    return [name, os.path.getsize(file.path), changed, *parts]


def _state(path: str) -> tuple[int, int]:
    """Size and time of the change of a file."""
    found = os.stat(path)
    return found.st_size, found.st_mtime_ns


# ---- contents -------------------------------------------------------------------------------------------------------


def describe_kind(value: Any) -> str:
    """Kind of a JSON value, for messages."""
    names = {dict: "an object", list: "an empty list" if value == [] else "a list", str: "a string", bool: "a boolean"}
    return "null" if value is None else names.get(type(value), "a number")


def is_parquet(path: str | os.PathLike[str]) -> bool:
    return Path(path).suffix.lower() == ".parquet"


def open_arrow(path: str | os.PathLike[str], mode: str = "rb") -> pa.NativeFile:
    """Open a file for Arrow, which takes names as UTF-8 text only; file names need not be."""
    return pa.OSFile(os.fsencode(path), mode)


def describe_packing(path: str | os.PathLike[str]) -> str:
    """How a file is compressed, for messages."""
    return {".gz": "gzip ", ".zst": "zstd ", ".bz2": "bzip2 ", ".xz": "xz "}.get(Path(path).suffix.lower(), "")


def is_compressed(path: str | os.PathLike[str]) -> bool:
    """Whether `open_packed` decompresses the file."""
    return Path(path).suffix in PACKED


def read_bytes(path: str | os.PathLike[str], most: int) -> bytes:
    """The content of a file, decompressed; LogError if it is broken or has more than `most` bytes."""
    try:
        with open_packed(path) as stream:
            data = stream.read(most + 1)
    except BROKEN as error:
        raise LogError(f"{os.fspath(path)}: broken data: {error}") from None
    if len(data) > most:
        raise LogError(f"{os.fspath(path)}: the document has more than {most} bytes, the most that is read at once")
    return data


def number_lines(path: str | os.PathLike[str]) -> Iterator[tuple[int, bytes]]:
    """Lines of a file that are not blank, with their numbers from 1."""
    number = 0
    with open_packed(path) as stream:
        try:
            while line := stream.readline(MOST_BYTES + 1):
                number += 1
                if len(line) > MOST_BYTES:
                    fault = f"line {number} has more than {MOST_BYTES >> 20} MB, the limit; the rest was not read"
                    raise LogError(f"{path}: {fault}")
                if line.strip():
                    yield number, line
        except (EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError) as error:
            fault = f"broken {describe_packing(path)}data after line {number}: {error}; the rest was not read"
            raise LogError(f"{path}: {fault}") from None
        except OSError as error:
            raise LogError(f"{path}: broken data after line {number}: {error}") from None


def row_group_starts(path: str | os.PathLike[str]) -> list[int]:
    """First row (from 0) of each row group of a Parquet file, then the number of rows."""
    try:
        with open_arrow(path) as file:
            metadata = pq.read_metadata(file)
    except pa.ArrowInvalid as error:
        raise LogError(f"{path}: not a Parquet file: {error}") from None
    return list(accumulate((metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)), initial=0))
