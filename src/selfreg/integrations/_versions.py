"""Versions of other people's packages that an adapter was tried with."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, version

from selfreg._util.extras import require_extra


def check_version(package: str, least: str, below: str, extra: str) -> None:
    """Raise ImportError where `package` is missing, older than `least`, or `below` and newer.

    Parameters
    ----------
    package : str
        Name of the distribution.
    least, below : str
        Numbers with points; `least` is supported and `below` is not.
    extra : str
        Extra that installs a supported version.
    """
    with require_extra(extra, f"selfreg.integrations ({package})"):
        try:
            found = version(package)
        except PackageNotFoundError as error:
            raise ImportError(f"no package {package}") from error
        if not _numbers(least) <= _numbers(found) < _numbers(below):
            raise ImportError(f"{package} is {found}; supported are versions from {least} to below {below}")


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", text.split("+")[0])[:3]))
