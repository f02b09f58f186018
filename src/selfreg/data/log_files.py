"""Log files as they lie on disk: folders, archives, standard input, compressed lines and Parquet row groups."""

from __future__ import annotations

import atexit
import glob
import gzip
import io
import os
import re
import shutil
import struct
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import accumulate
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple, cast

from selfreg._util.extras import require_extra

with require_extra("logs", "selfreg.data"):
    import pyarrow as pa
    import pyarrow.parquet as pq

# Most bytes of a line or a document that are read at once.
MOST_BYTES = 1 << 28

# What is taken from a folder or an archive; .gz and .zst may follow. Files that are named are always read.
SUFFIXES = (".json", ".jsonl", ".ndjson", ".parquet", ".csv", ".tsv", ".traj", ".eval")
COMPRESSED = (".gz", ".zst")
ZSTANDARD = 93  # the method of zip members that zipfile of Python 3.13 and before does not know
_MAGIC = ((b"\x1f\x8b", ".gz"), (b"\x28\xb5\x2f\xfd", ".zst"), (b"PAR1", ".parquet"), (b"PK\x03\x04", ".zip"))


COPIES = "selfreg-logs-"
_COPY = re.compile(rf"[^\s'\"]*{COPIES}[a-z0-9_]+[/\\](?:\d+[/\\])?")


def show_path(text: str) -> str:
    """A text without the folder of temporary copies: what remains is archive and member, or `stdin`."""
    return _COPY.sub("", text) if COPIES in text else text


class LogError(ValueError):
    """A record that cannot be read. The message names the file, the line or row, the field and what was expected.

    Attributes
    ----------
    outcome : float or None
        The outcome of the record where it could be read, so that whoever leaves records out can say which.
    """

    outcome: float | None = None

    def __str__(self) -> str:
        """The message; members of archives are named by their archive, not by the copy that is read."""
        return show_path(super().__str__())

    def at(self, place: str) -> LogError:
        """The same fault with its place."""
        located = LogError(f"{place}: {self}")
        located.outcome = self.outcome
        return located


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
    """Files to read, and names of files in the folders and archives that are no logs by their names."""

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
                kinds = ", ".join(SUFFIXES)
                raise LogError(f"{name}: no logs in it; expected files that end in {kinds} (or with .gz, .zst)")
    return LogFiles(_unique_labels(files), left_out)


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
        path = _copy_stream(path, 0 if path == "-" else os.stat(path).st_ino)
    if is_zip(path):
        return _files_in_folder(_unpack(os.path.abspath(path), os.stat(path).st_mtime_ns), origin)
    return LogFiles([LogFile(path, os.path.basename(path), origin)], [])


def _files_in_folder(folder: str, origin: str) -> LogFiles:
    found, left_out = [], []
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__")))
        for name in sorted(names):
            path = os.path.join(parent, name)
            if name.startswith("."):
                continue
            if plain_suffix(name) in SUFFIXES:
                found.append(LogFile(path, os.path.relpath(path, folder), origin, True))
            else:
                left_out.append(path)
    return LogFiles(found, left_out)


def _unique_labels(files: list[LogFile]) -> list[LogFile]:
    """Files with labels that differ: those of the same name are told by their paths."""
    counts: dict[str, int] = {}
    for file in files:
        counts[file.label] = counts.get(file.label, 0) + 1
    return [file if counts[file.label] == 1 else file._replace(label=file.path) for file in files]


def plain_suffix(path: str | os.PathLike[str]) -> str:
    """Suffix of a name without .gz and .zst, in lower case."""
    stem, suffix = os.path.splitext(os.fspath(path).lower())
    return os.path.splitext(stem)[1] if suffix in COMPRESSED else suffix


def plain_name(label: str) -> str:
    """A label without the suffixes of logs."""
    while os.path.splitext(label)[1].lower() in (*SUFFIXES, *COMPRESSED):
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


# ---- temporary copies -----------------------------------------------------------------------------------------------


@cache
def _temporary_folder() -> str:
    folder = tempfile.mkdtemp(prefix=COPIES)
    owner = os.getpid()
    atexit.register(lambda: shutil.rmtree(folder, ignore_errors=True) if os.getpid() == owner else None)
    return folder


@cache
def _copy_stream(path: str, identity: int) -> str:
    """Standard input or a pipe as a file, which can be read again; its suffix says what is in it."""
    target = os.path.join(_temporary_folder(), "stdin" if path == "-" else os.path.basename(path))
    with open(sys.stdin.fileno() if path == "-" else path, "rb", closefd=path != "-") as stream:
        head = stream.read(1 << 16)
        target += next((suffix for magic, suffix in _MAGIC if head.startswith(magic)), "")
        with open(target, "wb") as copy:
            copy.write(head)
            shutil.copyfileobj(stream, copy, 1 << 20)
    return target


def is_zip(path: str | os.PathLike[str]) -> bool:
    """Whether a file is an archive to look into; Inspect's logs are zip files that are read as they are."""
    return Path(path).suffix.lower() != ".eval" and _head(path, 4) == b"PK\x03\x04"


@cache
def _unpack(path: str, changed: int) -> str:
    """Folder with the members of an archive that are logs by their names, and the names of the others."""
    folder = os.path.join(_temporary_folder(), str(len(os.listdir(_temporary_folder()))), os.path.basename(path))
    free = shutil.disk_usage(_temporary_folder()).free
    for info in list_members(path):
        parts = [part for part in PurePosixPath(info.filename).parts if part not in ("..", "/")]
        target = os.path.join(folder, *parts)
        if info.is_dir() or not parts:
            continue
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(target, "wb") as copy:
            if plain_suffix(info.filename) not in SUFFIXES:
                continue  # an empty file of its name, to be listed as left out
            free -= _copy_member(path, info, copy, free)
    os.makedirs(folder, exist_ok=True)
    return folder


def _copy_member(path: str, info: zipfile.ZipInfo, copy: IO[bytes], most: int) -> int:
    size = 0
    with open_member(path, info) as stream:
        while block := _read_member(path, info, stream, 1 << 20):
            size += copy.write(block)
            if size > most:
                raise LogError(f"{path}: member {info.filename!r} does not fit on the disk when unpacked")
    return size


def list_members(path: str) -> list[zipfile.ZipInfo]:
    """Members of a zip file, as they are listed in it; LogError for a broken one."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError, EOFError, struct.error) as error:
        raise LogError(f"{path}: broken zip file: {error}") from None


def open_member(path: str, info: zipfile.ZipInfo) -> IO[bytes]:
    """A member of a zip file; also one that is compressed by zstd."""
    try:
        if info.compress_type == ZSTANDARD:
            return _open_zstd_member(path, info)
        with zipfile.ZipFile(path) as archive:
            return archive.open(info)
    except (zipfile.BadZipFile, OSError, RuntimeError, NotImplementedError, struct.error) as error:
        raise LogError(f"{path}: member {info.filename!r} cannot be read: {error}") from None


def _open_zstd_member(path: str, info: zipfile.ZipInfo) -> IO[bytes]:
    with open(path, "rb") as stream:
        stream.seek(info.header_offset)
        name, extra = struct.unpack("<HH", stream.read(30)[26:30])
        stream.seek(name + extra, os.SEEK_CUR)
        packed = stream.read(info.compress_size)
    return cast(IO[bytes], io.BufferedReader(pa.input_stream(pa.py_buffer(packed), compression="zstd"), 1 << 20))


def read_member(path: str, info: zipfile.ZipInfo, most: int) -> bytes:
    """All bytes of a member, at most `most`."""
    with open_member(path, info) as stream:
        data = _read_member(path, info, stream, most + 1)
    if len(data) > most:
        raise LogError(f"{path}: member {info.filename!r} has more than {most} bytes")
    return data


def _read_member(path: str, info: zipfile.ZipInfo, stream: IO[bytes], size: int) -> bytes:
    try:
        return stream.read(size)
    except (zipfile.BadZipFile, OSError, EOFError, zlib.error, RuntimeError) as error:
        raise LogError(f"{path}: member {info.filename!r} is broken: {error}") from None


# ---- contents -------------------------------------------------------------------------------------------------------


def describe_kind(value: Any) -> str:
    """Kind of a JSON value, for messages."""
    names = {dict: "an object", list: "an empty list" if value == [] else "a list", str: "a string", bool: "a boolean"}
    return "null" if value is None else names.get(type(value), "a number")


def is_parquet(path: str | os.PathLike[str]) -> bool:
    return Path(path).suffix == ".parquet"


def open_arrow(path: str | os.PathLike[str], mode: str = "rb") -> pa.NativeFile:
    """Open a file for Arrow, which takes names as UTF-8 text only; file names need not be."""
    return pa.OSFile(os.fsencode(path), mode)


def _head(path: str | os.PathLike[str], size: int) -> bytes:
    with open(path, "rb") as stream:
        return stream.read(size)


def is_compressed(path: str | os.PathLike[str]) -> bool:
    """Whether `open_bytes` decompresses the file."""
    return Path(path).suffix in COMPRESSED


def open_bytes(path: str | os.PathLike[str]) -> IO[bytes]:
    """Open a file for reading; it is decompressed if its name ends in .gz or .zst."""
    if Path(path).suffix == ".gz":
        return cast(IO[bytes], gzip.open(path, "rb"))
    if Path(path).suffix == ".zst":
        return cast(IO[bytes], io.BufferedReader(pa.CompressedInputStream(open_arrow(path), "zstd"), 1 << 20))
    return open(path, "rb")


def read_bytes(path: str | os.PathLike[str], most: int) -> bytes:
    """The content of a file, decompressed; LogError if it is broken or has more than `most` bytes."""
    try:
        with open_bytes(path) as stream:
            data = stream.read(most + 1)
    except (EOFError, OSError, zlib.error) as error:
        raise LogError(f"{os.fspath(path)}: broken data: {error}") from None
    if len(data) > most:
        raise LogError(f"{os.fspath(path)}: the document has more than {most} bytes, the most that is read at once")
    return data


def number_lines(path: str | os.PathLike[str]) -> Iterator[tuple[int, bytes]]:
    """Lines of a file that are not blank, with their numbers from 1."""
    number = 0
    with open_bytes(path) as stream:
        try:
            while line := stream.readline(MOST_BYTES + 1):
                number += 1
                if len(line) > MOST_BYTES:
                    fault = f"line {number} has more than {MOST_BYTES >> 20} MB, the limit; the rest was not read"
                    raise LogError(f"{path}: {fault}")
                if line.strip():
                    yield number, line
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            fault = f"broken gzip data after line {number}: {error}; the rest was not read"
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
