"""Missing optional dependencies, named by the extra that brings them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def require_extra(extra: str, who: str) -> Iterator[None]:
    """Imports in the block belong to `extra`; a missing one says which extra `who` needs."""
    try:
        yield
    except ImportError as error:
        raise ImportError(f"{who} needs the extra '{extra}': pip install 'selfreg[{extra}]' ({error})") from error
