"""Files and folders that are written atomically, and folders of work that can be resumed after a kill."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from selfreg._util.ending import ENDING
from selfreg._util.locks import Lock, lock_folder

# What is being written, and how it is removed where a process has to end at once.
_UNFINISHED: dict[Path, Callable[[Path], None]] = {}
ATTEMPTS = 100


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary file beside `path`; rename it to `path` if the block succeeds, else remove it.

    The temporary name has the suffixes of `path`, because writers choose a format by them. Raises KeyboardInterrupt
    where the command was interrupted, and the block went on all the same (`ENDING`).
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=".", suffix=f".partial{''.join(target.suffixes)}")
    temporary = Path(name)
    _UNFINISHED[temporary] = _remove_file
    try:
        os.close(handle)
        yield temporary
        if ENDING.is_set():
            raise KeyboardInterrupt
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, target)
    finally:
        _remove_file(temporary)
        _UNFINISHED.pop(temporary, None)


@contextmanager
def atomic_folder(path: str | os.PathLike[str], marker: str, overwrite: bool = False) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; rename it to `path` if the block succeeds, else remove it.

    The temporary folder is locked while the block runs, where the file system has locks. One that nobody holds is left
    from a process that was killed, and is replaced.

    Raises
    ------
    FileExistsError
        If another process is writing to `path`; or if `path` exists and is not empty, unless `overwrite` is true and
        the folder has the file `marker`, which shows that this package wrote it.
    KeyboardInterrupt
        The command was interrupted, and the block went on all the same (`ENDING`).
    """
    target = Path(path).absolute()
    made = _make_folders(target.parent)
    temporary, lock = _reserve(path, target)
    try:
        _put_back(target)
        _require_replaceable(path, target, marker, overwrite)
        yield temporary
        _require_replaceable(path, target, marker, overwrite)
        if ENDING.is_set():
            raise KeyboardInterrupt
        os.chmod(temporary, 0o777 & ~_umask())
        _move_over(temporary, target)
    finally:
        _remove_folder(temporary)
        for folder in made:
            _remove_if_empty(folder)
        for one in (temporary, *made):
            _UNFINISHED.pop(one, None)
        if lock is not None:
            os.close(lock)


def remove_unfinished() -> None:
    """Remove what is being written, before the process ends at once."""
    for path, remove in sorted(_UNFINISHED.items(), key=lambda item: -len(item[0].parts)):
        remove(path)


def _require_replaceable(path: str | os.PathLike[str], target: Path, marker: str, overwrite: bool) -> None:
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        if not overwrite:
            raise FileExistsError(f"{path} exists; choose another folder, or replace it (--overwrite, overwrite=True)")
        if not (target / marker).is_file():
            raise FileExistsError(f"{path} exists and cannot be overwritten (missing {marker})")


def _reserve(path: str | os.PathLike[str], target: Path) -> tuple[Path, int | None]:
    """A new temporary folder beside `target`, and its lock; one name for all processes, so that one of them gets it."""
    temporary = target.with_name(f".{target.name}.partial-run")
    for _ in range(ATTEMPTS):
        with suppress(FileExistsError):
            temporary.mkdir(mode=0o700)
        try:
            descriptor, lock = lock_folder(temporary)
        except FileNotFoundError:  # another process took it for a leftover
            continue
        if descriptor is None or lock is Lock.UNKNOWN:
            if descriptor is not None:
                os.close(descriptor)
            break
        if lock is Lock.REFUSED:
            os.close(descriptor)
            raise FileExistsError(f"another process is writing to {path}; choose another folder, or wait for its end")
        _UNFINISHED[temporary] = _remove_folder
        _remove_contents(temporary)
        return temporary, descriptor
    _remove_if_empty(temporary)
    found = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.partial-"))
    _UNFINISHED[found] = _remove_folder
    return found, None


def _move_over(temporary: Path, target: Path) -> None:
    """Rename, and remove the earlier folder."""
    if not target.exists():
        os.replace(temporary, target)
        return
    old = _old(target)
    _remove_folder(old)
    os.replace(target, old)
    os.replace(temporary, target)
    _remove_folder(old)


def _put_back(target: Path) -> None:
    """Where a process was killed between the two renames of `_move_over`, the earlier folder is put back."""
    if not target.exists() and _old(target).is_dir():
        os.replace(_old(target), target)


def _old(target: Path) -> Path:
    return target.with_name(f".{target.name}.old-run")


def _make_folders(folder: Path) -> list[Path]:
    """Make a folder and its parents; those that were missing, the innermost first."""
    missing = []
    for one in (folder, *folder.parents):
        if one.exists():
            break
        missing.append(one)
    _UNFINISHED.update(dict.fromkeys(missing, _remove_if_empty))
    folder.mkdir(parents=True, exist_ok=True)
    return missing


def _remove_file(path: Path) -> None:
    path.unlink(missing_ok=True)


def _remove_contents(folder: Path) -> None:
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()


def _remove_folder(folder: Path) -> None:
    """Remove a folder, though another thread may still write to it."""
    for _ in range(5):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return


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
        If the folder holds other work (names the setting that differs) or other files, or another process is in it.
    """
    file = folder / name
    if not file.is_file():
        if folder.is_dir() and any(path for path in folder.iterdir() if not path.name.startswith(".")):
            raise ValueError(f"{folder} is not empty and not a {what} (missing {name}); choose another folder")
        write_settings(file, settings)
    check_settings(file, settings, what)
    with work_alone(folder, what):
        for leftover in folder.glob(".*.partial*"):
            leftover.unlink(missing_ok=True)


@contextmanager
def work_alone(folder: Path, what: str) -> Iterator[None]:
    """Keep other processes out of a folder of work while the block runs, where the file system has locks.

    Raises
    ------
    ValueError
        If another process is in it.
    """
    descriptor, lock = lock_folder(folder)
    try:
        if lock is Lock.REFUSED:
            raise ValueError(f"another process works on the {what} in {folder}; expected one at a time")
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


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
