"""Reading logs of any format: filters, duplicate episodes, and records that cannot be read."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial

from selfreg.data.detection import AUTO, DetectedLogs, detect_format
from selfreg.data.faults import LogError
from selfreg.data.log_files import row_group_starts
from selfreg.data.log_format import ReadOptions
from selfreg.data.stream import TrajectoryStream
from selfreg.data.trajectory import Trajectory
from selfreg.data.translation import parse_rule


def read_trajectories(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    format: str = AUTO,
    *,
    roles: Mapping[str, str] | None = None,
    where: Mapping[str, Sequence[str]] | None = None,
    skipped: list[LogError] | None = None,
    options: ReadOptions | None = None,
) -> TrajectoryStream:
    """Trajectories of log files, in order.

    Only the beginnings of files are read before the iteration, and one trajectory at a time then. Each iteration reads
    the files again.

    Parameters
    ----------
    paths : path or iterable of paths
        Files, folders, globs, zip archives; "-" is standard input.
    format : str
        By default what `detect_format` finds. "selfreg" is the canonical format (JSONL, or Parquet by name); "jsonl"
        any JSONL, with `roles`. The others: docs/formats.md. Formats of other packages: see `LogFormat`.
    roles : mapping of role to field
        Fields may be paths (`info.task`, `turns[0].text`, `parts[].text`), and several that are joined to one text
        (`thought+result`). The roles of a step (observation, action, intervention, cost, key, label, model, tools,
        role, decision) are looked up in the step first, then in the episode, where they hold for each of its steps. A
        role that is not mapped is looked up under its own name, a step's only in the step; `label` only if it is
        mapped. A role that is mapped to "" is not read. A record without steps is one step itself.
    where : mapping of field to values
        Records to keep: each field has one of its values.
    skipped : list, optional
        If given, records that cannot be read are left out and their errors appended here, each once however often the
        files are read; otherwise the first one raises.

    Returns
    -------
    TrajectoryStream
        An iterable; its `len` is known for Parquet files without `where` and `skipped`.

    Raises
    ------
    LogError
        While reading: file, line, field and what was expected; also for a duplicate episode id.
    ValueError
        For an unknown format, role or rule.

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
    options = merge_options(options, roles, where)
    logs = detect_format(paths, choose_grouped(format, options), {**options.values, **options.roles})
    logs.format.check_options(options)
    faults = _Faults(skipped)
    exact = not options.where and skipped is None
    return TrajectoryStream(partial(_read, logs, options, faults), partial(_count, logs, exact))


def merge_options(
    options: ReadOptions | None,
    roles: Mapping[str, str] | None = None,
    where: Mapping[str, Sequence[str]] | None = None,
) -> ReadOptions:
    """Options with more roles and filters; ValueError for a rule of a value that is none."""
    base = ReadOptions() if options is None else options
    for text in base.values.values():
        parse_rule(text)
    return base._replace(roles={**base.roles, **(roles or {})}, where={**base.where, **(where or {})})


def choose_grouped(format: str, options: ReadOptions) -> str:
    """The format; that of grouped rows where rows are grouped."""
    if options.order_by and not options.group_by:
        raise ValueError(f"order_by is {options.order_by!r} without group_by; expected the field of the episode too")
    return "rows" if options.group_by and format in (AUTO, "jsonl", "table") else format


class _Faults:
    """Raises faults, or appends them to a list: each once, however often the files are read."""

    def __init__(self, skipped: list[LogError] | None) -> None:
        self.skipped = skipped
        self.messages: set[str] = set()

    def add(self, error: LogError) -> None:
        if self.skipped is None:
            raise error
        if str(error) not in self.messages:
            self.messages.add(str(error))
            self.skipped.append(error)


def _read(logs: DetectedLogs, options: ReadOptions, faults: _Faults) -> Iterator[Trajectory]:
    first_places: dict[str, str] = {}
    for file in logs.files:
        for place, record in logs.format.read(file.path, options, file.label):
            if isinstance(record, LogError):
                faults.add(record)
                continue
            if (duplicate := find_duplicate(record, place, first_places)) is None:
                yield record
            else:
                faults.add(duplicate)


def find_duplicate(record: Trajectory, place: str, first_places: dict[str, str]) -> LogError | None:
    """The fault of an episode whose id another place has; `first_places` gets the place of a new one."""
    first = first_places.setdefault(record.episode, place)
    if first is place:
        return None
    duplicate = LogError(f"duplicate episode id {record.episode!r}, first in {first}")
    duplicate.outcome = record.outcome
    return duplicate.at(place)


def describe_nothing(paths: Iterable[str], where: Mapping[str, Sequence[str]]) -> str:
    """That logs have no episodes, or none that a filter keeps."""
    return f"{', '.join(paths)}: no episodes{f' with {dict(where)}' if where else ''}"


def _count(logs: DetectedLogs, exact: bool) -> int:
    """Rows of Parquet files, if each of them is a trajectory or an error."""
    for file in logs.files:
        if not exact or logs.format.container(file.path) != "row groups":
            raise TypeError(f"the number of trajectories in {file.path} is not known before all are read")
    return sum(row_group_starts(file.path)[-1] for file in logs.files)
