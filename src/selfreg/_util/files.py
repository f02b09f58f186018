"""Files and folders that are written atomically, and folders of work that can be resumed after a kill."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary neighbour of the file `path`, renamed to it when the block ends well and removed otherwise.

    The temporary name keeps the suffixes of `path`, so that a format told by name stays the same.
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
    """A temporary neighbour of the folder `path`, renamed to it when the block ends well and removed otherwise.

    Raises
    ------
    FileExistsError
        If `path` is there already and `overwrite` is false, or if it lacks `marker` (a file that shows that the folder
        is one of ours): a folder of somebody else is never replaced.
    """
    target = Path(path).absolute()
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        if not overwrite:
            raise FileExistsError(f"{path} exists; choose another folder or ask to overwrite it")
        if not (target / marker).is_file():
            raise FileExistsError(f"{path} exists and is not such a folder (no {marker} in it); it is left alone")
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
    """Make `folder` that of the work with these settings, noted in the file `name`, or find that it is.

    Raises
    ------
    ValueError
        For a folder of other work, naming the setting that differs, or of something else.
    """
    file = folder / name
    if not file.is_file():
        if folder.is_dir() and any(path for path in folder.iterdir() if not path.name.startswith(".")):
            raise ValueError(f"{folder} is not empty and holds no {what} (no {name}); choose another folder")
        with atomic_write(file) as temporary:
            temporary.write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
    before, now = json.loads(file.read_text(encoding="utf-8")), json.loads(json.dumps(settings))
    for key in [*now, *before]:
        if before.get(key) != now.get(key):
            raise ValueError(
                f"{folder} holds another {what}: its {key} is {before.get(key)!r}, now {now.get(key)!r}; "
                "choose another folder, or remove that one"
            )
    for leftover in folder.glob(".*.partial*"):
        leftover.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
