"""Files and folders that are written atomically, and folders of work that can be resumed after a kill."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary file beside `path`; rename it to `path` if the block succeeds, else remove it.

    The temporary name has the suffixes of `path`, because writers choose a format by them.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=".", suffix=f".partial{''.join(target.suffixes)}")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: str | os.PathLike[str], marker: str, overwrite: bool = False) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; rename it to `path` if the block succeeds, else remove it.

    Raises
    ------
    FileExistsError
        If `path` exists and is not empty, unless `overwrite` is true and the folder has the file `marker`, which shows
        that this package wrote it.
    """
    target = Path(path).absolute()
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        if not overwrite:
            raise FileExistsError(f"{path} exists; choose another folder, or overwrite it")
        if not (target / marker).is_file():
            raise FileExistsError(f"{path} exists and cannot be overwritten (missing {marker})")
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.partial-"))
    try:
        yield temporary
        os.chmod(temporary, 0o777 & ~_umask())
        if target.exists():
            old = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.old-"))
            os.replace(target, old / "old")
            os.replace(temporary, target)
            shutil.rmtree(old)
        else:
            os.replace(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def open_resumable(folder: Path, name: str, settings: Mapping[str, Any], what: str) -> None:
    """Begin work with these settings in `folder`, or check that the work in it has the same.

    Leftovers of files that were being written when a process was killed are removed.

    Parameters
    ----------
    folder : Path
    name : str
        File of the settings.
    settings : mapping
        JSON values that identify the work.
    what : str
        Name of the work in messages.

    Raises
    ------
    ValueError
        If the folder holds other work (names the setting that differs) or other files.
    """
    file = folder / name
    if not file.is_file():
        if folder.is_dir() and any(path for path in folder.iterdir() if not path.name.startswith(".")):
            raise ValueError(f"{folder} is not empty and not a {what} (missing {name}); choose another folder")
        write_settings(file, settings)
    check_settings(file, settings, what)
    for leftover in folder.glob(".*.partial*"):
        leftover.unlink(missing_ok=True)


def write_settings(file: Path, settings: Mapping[str, Any]) -> None:
    """Write settings as JSON, atomically."""
    with atomic_write(file) as temporary:
        temporary.write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")


def check_settings(file: Path, settings: Mapping[str, Any], what: str, optional: Collection[str] = ()) -> None:
    """Compare settings with those in a file; `optional` ones only if both have them.

    Raises
    ------
    ValueError
        Naming the first one that differs.
    """
    before, now = json.loads(file.read_text(encoding="utf-8")), json.loads(json.dumps(settings))
    for key in [*now, *before]:
        if key in optional and not (key in before and key in now):
            continue
        if before.get(key) != now.get(key):
            raise ValueError(
                f"{file.parent} has another {what}: its {key} is {_short(before.get(key))}, now {_short(now.get(key))};"
                " choose another folder, or remove that one"
            )


def escape_surrogates(value: Any) -> Any:
    """Texts in a JSON-like value with lone surrogates escaped, which UTF-8 cannot encode.

    Python puts them in file names for bytes that the locale cannot decode.

    >>> escape_surrogates({"logs": ["a\\udcff.jsonl"]})
    {'logs': ['a\\\\udcff.jsonl']}
    """
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, Mapping):
        return {escape_surrogates(key): escape_surrogates(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [escape_surrogates(item) for item in value]
    return value


def require_utf8_path(path: str | os.PathLike[str]) -> None:
    """Check that Arrow can write Parquet files below `path`.

    Raises
    ------
    ValueError
        If the name has bytes that are not UTF-8 text.
    """
    try:
        os.fspath(path).encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError(f"{os.fspath(path)!a} is not valid UTF-8, which Parquet files need; rename it") from None


def _short(value: Any, most: int = 120) -> str:
    text = repr(value)
    return text if len(text) <= most else f"{text[:most]}..."


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
