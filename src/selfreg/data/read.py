"""The one door for logs: formats by name, filters, and what to do with records that cannot be read."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from selfreg.data.formats.canonical import LogError, keeps_record, read_jsonl, read_parquet
from selfreg.data.formats.mapped import check_roles, read_mapped
from selfreg.data.formats.stepwise import read_stepwise
from selfreg.data.formats.tau_bench import read_tau_bench
from selfreg.data.trajectory import Trajectory

FORMATS = ("selfreg", "jsonl", "tau_bench", "stepwise")


def read_trajectories(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    format: str = "selfreg",
    *,
    roles: Mapping[str, str] | None = None,
    where: Mapping[str, Sequence[str]] | None = None,
    skipped: list[LogError] | None = None,
) -> Iterator[Trajectory]:
    """Trajectories of log files, in order, in a stream.

    Parameters
    ----------
    paths : path or iterable of paths
    format : {"selfreg", "jsonl", "tau_bench", "stepwise"}
        "selfreg" is the canonical format (JSONL, or Parquet by name); "jsonl" any JSONL, with `roles`; "stepwise"
        judged steps as `prompt`, `completions`, `labels`.
    roles : mapping of role to field, for "jsonl"
        See `selfreg.data.formats.mapped.read_mapped`.
    where : mapping of field to values
        Records kept: each field named has one of its values.
    skipped : list, optional
        Where given, records that cannot be read are put here and left out; otherwise the first one raises.

    Raises
    ------
    LogError
        File, line, field and what was expected; also for an episode name that occurs twice.
    ValueError
        For an unknown format or role.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from selfreg.data import read_trajectories
    >>> log = pathlib.Path(tempfile.mkdtemp()) / "log.jsonl"
    >>> _ = log.write_text('{"id": 7, "won": true, "turns": [{"seen": "2 + 2 = ?"}]}')
    >>> roles = {"task": "id", "outcome": "won", "steps": "turns", "observation": "seen"}
    >>> [episode.outcome for episode in read_trajectories(log, "jsonl", roles=roles)]
    [1.0]
    """
    check_format(format, roles or {})
    return _read(names_of(paths), format, roles or {}, where or {}, skipped)


def check_format(format: str, roles: Mapping[str, str]) -> None:
    """Raise ValueError for a format or role that is not known, and for roles where there are none to name."""
    if format not in FORMATS:
        raise ValueError(f"format {format!r} is not known; choose from {', '.join(FORMATS)}")
    if roles and format != "jsonl":
        raise ValueError(f"a mapping of roles is for format 'jsonl'; format {format!r} has its own fields")
    check_roles(roles)


def names_of(paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> list[str]:
    """One path or several as a list."""
    return [os.fspath(path) for path in ([paths] if isinstance(paths, (str, os.PathLike)) else paths)]


def _read(
    paths: Sequence[str],
    format: str,
    roles: Mapping[str, str],
    where: Mapping[str, Sequence[str]],
    skipped: list[LogError] | None,
) -> Iterator[Trajectory]:
    first_seen: dict[str, str] = {}
    for path in paths:
        for number, record in _records(path, format, roles, where):
            error = record if isinstance(record, LogError) else None
            if isinstance(record, Trajectory):
                before = first_seen.setdefault(record.episode, place := f"{path}:{number}")
                if before == place:
                    yield record
                    continue
                error = LogError(f"{place}: episode {record.episode!r} was there before, in {before}")
            if error is not None:
                if skipped is None:
                    raise error
                skipped.append(error)


def _records(
    path: str | os.PathLike[str], format: str, roles: Mapping[str, str], where: Mapping[str, Sequence[str]]
) -> Iterator[tuple[int, Trajectory | LogError]]:
    if not Path(path).is_file():
        raise LogError(f"{path}: no such file")
    if format == "jsonl":
        return read_mapped(path, roles, where)
    if format == "tau_bench":
        return read_tau_bench(path, where)
    if format == "stepwise":
        return _filtered(path, read_stepwise(path), where)
    reader = read_parquet if Path(path).suffix == ".parquet" else read_jsonl
    return _filtered(path, reader(path), where)


def _filtered(
    path: str | os.PathLike[str],
    records: Iterable[tuple[int, Trajectory | LogError]],
    where: Mapping[str, Sequence[str]],
) -> Iterator[tuple[int, Trajectory | LogError]]:
    """Canonical records that `where` keeps; it names free fields, `task` or `episode`."""
    for number, record in records:
        try:
            if isinstance(record, LogError) or keeps_record(record, where):
                yield number, record
        except LogError as error:
            yield number, LogError(f"{path}:{number}: {error}")
