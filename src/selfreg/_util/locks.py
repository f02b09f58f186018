"""Locks on files and folders, which end with the process that holds them, however it ends."""

from __future__ import annotations

import os
import sys
from enum import Enum

if sys.platform != "win32":
    import fcntl


class Lock(Enum):
    """What came of an attempt to lock."""

    HELD = "held"
    REFUSED = "another process holds it"
    UNKNOWN = "the file system has no locks"


def try_lock(descriptor: int) -> Lock:
    """Lock an open file or folder for this descriptor alone, without waiting."""
    if sys.platform == "win32":
        return Lock.UNKNOWN
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return Lock.REFUSED
    except OSError:
        return Lock.UNKNOWN
    return Lock.HELD


def lock_folder(path: str | os.PathLike[str]) -> tuple[int | None, Lock]:
    """Descriptor of a folder, and whether it could be locked; close it to unlock.

    Raises
    ------
    FileNotFoundError
        If the folder is gone, or became another one meanwhile.
    """
    if sys.platform == "win32":  # folders cannot be opened there
        return None, Lock.UNKNOWN
    descriptor = os.open(path, os.O_RDONLY)
    try:
        found = try_lock(descriptor)
        if not os.path.samestat(os.fstat(descriptor), os.stat(path)):
            raise FileNotFoundError(path)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor, found
