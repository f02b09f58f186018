"""Archives, and streams that can be read once only: what is in them is copied to a temporary folder."""

from __future__ import annotations

import atexit
import bz2
import gzip
import io
import lzma
import os
import shutil
import struct
import sys
import tarfile
import tempfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple, cast

from selfreg._util.extras import require_extra
from selfreg.data.faults import COPIES, LogError

with require_extra("logs", "selfreg.data"):
    import pyarrow as pa

ZSTANDARD = 93  # the method of zip members that zipfile of Python 3.13 and before does not know
TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst")
_MAGIC = ((b"\x1f\x8b", ".gz"), (b"\x28\xb5\x2f\xfd", ".zst"), (b"BZh", ".bz2"), (b"\xfd7zXZ\x00", ".xz"),
          (b"PAR1", ".parquet"), (b"PK\x03\x04", ".zip"))  # fmt: skip
PACKED = (".gz", ".zst", ".bz2", ".xz")
# What reading of broken compressed data raises.
BROKEN = (EOFError, OSError, zlib.error, lzma.LZMAError)


def open_packed(path: str | os.PathLike[str]) -> IO[bytes]:
    """Open a file for reading; it is decompressed if its name says so."""
    suffix = Path(path).suffix.lower()
    if suffix in (".gz", ".tgz"):
        return cast(IO[bytes], gzip.open(path, "rb"))
    if suffix in (".bz2", ".tbz2"):
        return bz2.open(path, "rb")
    if suffix in (".xz", ".txz"):
        return lzma.open(path, "rb")
    if suffix == ".zst":
        packed = pa.CompressedInputStream(pa.OSFile(os.fsencode(path)), "zstd")
        return cast(IO[bytes], io.BufferedReader(packed, 1 << 20))
    return open(path, "rb")


# ---- temporary copies -----------------------------------------------------------------------------------------------


@cache
def _temporary_folder() -> str:
    folder = tempfile.mkdtemp(prefix=COPIES)
    owner = os.getpid()
    atexit.register(lambda: shutil.rmtree(folder, ignore_errors=True) if os.getpid() == owner else None)
    return folder


@cache
def copy_stream(path: str, identity: int) -> str:
    """Standard input or a pipe as a file, which can be read again; its suffix says what is in it."""
    target = os.path.join(_temporary_folder(), "stdin" if path == "-" else os.path.basename(path))
    with open(sys.stdin.fileno() if path == "-" else path, "rb", closefd=path != "-") as stream:
        head = stream.read(1 << 16)
        target += next((suffix for magic, suffix in _MAGIC if head.startswith(magic)), "")
        target += ".tar" if head[257:262] == b"ustar" else ""
        with open(target, "wb") as copy:
            copy.write(head)
            shutil.copyfileobj(stream, copy, 1 << 20)
    name = _name_inside(target)
    os.replace(target, name)
    return name


def _name_inside(path: str) -> str:
    """The name of a copy by what is in it: an archive of Inspect, or a compressed tar archive."""
    stem, suffix = os.path.splitext(path)
    if suffix == ".zip":
        names = {member.filename for member in list_members(path)}
        return f"{stem}.eval" if {"header.json", "_journal/start.json"} & names else path
    if suffix in PACKED:
        with suppress(*BROKEN), open_packed(path) as stream:
            return f"{stem}.tar{suffix}" if stream.read(262)[257:] == b"ustar" else path
    return path


def is_archive(path: str | os.PathLike[str]) -> bool:
    """Whether a file is an archive to look into; Inspect's logs are zip files that are read as they are."""
    return is_tar(path) or is_zip(path)


def is_tar(path: str | os.PathLike[str]) -> bool:
    return os.fspath(path).lower().endswith(TARS)


def is_zip(path: str | os.PathLike[str]) -> bool:
    with open(path, "rb") as stream:
        return Path(path).suffix.lower() != ".eval" and stream.read(4) == b"PK\x03\x04"


class _Member(NamedTuple):
    """A file in an archive."""

    name: str
    open: Callable[[], IO[bytes]]


@cache
def unpack(path: str, changed: int, is_log: Callable[[str], bool]) -> str:
    """Folder with the members of an archive that are logs by their names, and the names of the others."""
    folder = os.path.join(_temporary_folder(), str(len(os.listdir(_temporary_folder()))), os.path.basename(path))
    os.makedirs(folder, exist_ok=True)
    free = shutil.disk_usage(folder).free
    for member in _list_tar(path) if is_tar(path) else _list_zip(path):
        parts = [part for part in PurePosixPath(member.name).parts if part not in ("..", "/")]
        if not parts:
            continue
        target = os.path.join(folder, *parts)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(target, "wb") as copy:
            if is_log(member.name):  # else an empty file of its name, to be listed as left out
                free -= _copy_member(path, member, copy, free)
    return folder


def _copy_member(path: str, member: _Member, copy: IO[bytes], most: int) -> int:
    size = 0
    with member.open() as stream:
        while block := _read_member(path, member.name, stream, 1 << 20):
            size += copy.write(block)
            if size > most:
                raise LogError(f"{path}: member {member.name!r} does not fit on the disk when unpacked")
    return size


def _read_member(path: str, name: str, stream: IO[bytes], size: int) -> bytes:
    try:
        return stream.read(size)
    except (zipfile.BadZipFile, RuntimeError, tarfile.TarError, *BROKEN) as error:
        raise LogError(f"{path}: member {name!r} is broken: {error}") from None


# ---- tar ------------------------------------------------------------------------------------------------------------


def _list_tar(path: str) -> Iterator[_Member]:
    """The files of a tar archive; links and devices are passed over."""
    try:
        with open_packed(path) as stream, tarfile.open(fileobj=stream, mode="r|") as archive:
            for info in archive:
                if info.isfile():
                    yield _Member(info.name, lambda info=info: cast(IO[bytes], archive.extractfile(info)))  # type: ignore[misc]
    except (tarfile.TarError, *BROKEN) as error:
        raise LogError(f"{path}: broken tar archive: {error}") from None


# ---- zip ------------------------------------------------------------------------------------------------------------


def _list_zip(path: str) -> Iterator[_Member]:
    members = list_members(path)
    names = Counter(info.filename for info in members)
    for info in members:
        if names[info.filename] > 1:
            raise LogError(f"{path}: {names[info.filename]} members are named {info.filename!r}; give them other names")
        if not info.is_dir():
            yield _Member(info.filename, lambda info=info: open_member(path, info))  # type: ignore[misc]


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
        data = _read_member(path, info.filename, stream, most + 1)
    if len(data) > most:
        raise LogError(f"{path}: member {info.filename!r} has more than {most} bytes")
    return data
