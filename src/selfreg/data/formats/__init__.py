"""The registry of log formats: those that come with selfreg, and those of other packages.

To add one here: a file with a `FORMAT` in this folder, its line in `BUILT_IN`, and a test. A package of your own needs
an entry point of the group `selfreg.formats` only.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points

from selfreg.data.formats import (
    atif,
    canonical,
    claude_code,
    codex,
    grouped,
    inspect_logs,
    langsmith,
    mapped,
    message_rows,
    mini_swe_agent,
    openai_messages,
    openhands,
    openhands_v0,
    spans,
    stepwise,
    swe_agent,
    table,
    tau2_bench,
    tau_bench,
)
from selfreg.data.log_format import LogFormat

GROUP = "selfreg.formats"
_MODULES = [canonical, mapped, tau_bench, stepwise, tau2_bench, atif, inspect_logs, claude_code, codex, openhands]
_MODULES += [openhands_v0, mini_swe_agent, swe_agent, langsmith, spans, openai_messages, message_rows, table, grouped]
# In the order in which they are tried on a file of an unknown format.
BUILT_IN: dict[str, LogFormat] = {one.FORMAT.name: one.FORMAT for one in _MODULES}


@cache
def find_format(name: str) -> LogFormat:
    """The format of that name; those of selfreg come first.

    Raises
    ------
    ValueError
        For an unknown format, one that two packages have, and one that cannot be loaded.
    """
    if name in BUILT_IN:
        return BUILT_IN[name]
    entries = tuple(entry_points(group=GROUP, name=name))
    if not entries:
        raise ValueError(f"unknown format {name!r}; choose from {', '.join(format_names())}")
    packages = sorted({_package(entry) for entry in entries})
    if len(packages) > 1:
        raise ValueError(f"format {name!r} is in several packages: {', '.join(packages)}")
    try:
        loaded = entries[0].load()
    except (ImportError, AttributeError) as error:
        raise ValueError(f"format {name!r} of {packages[0]} cannot be loaded: {error}") from error
    if not isinstance(loaded, LogFormat) or loaded.name != name:
        raise ValueError(f"format {name!r} of {packages[0]} is {loaded!r}; expected a LogFormat of that name")
    return loaded


def format_names() -> list[str]:
    """Names of all formats; those of other packages are not loaded."""
    return [*BUILT_IN, *installed_formats()]


@cache
def installed_formats() -> tuple[str, ...]:
    """Names of the formats of other packages."""
    return tuple(sorted(set(entry_points(group=GROUP).names) - BUILT_IN.keys()))


def _package(entry: EntryPoint) -> str:
    return entry.value if entry.dist is None else entry.dist.name
