"""What a log format is: how its records are read, and where its files can be cut."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

from selfreg.data.faults import LogError
from selfreg.data.filters import trajectory_matches
from selfreg.data.log_files import LogFile, is_parquet, number_lines, plain_name, plain_suffix, row_group_starts
from selfreg.data.markers import HelpMarks
from selfreg.data.outcomes import join_outcome
from selfreg.data.samples import Sample, is_document
from selfreg.data.trajectory import Trajectory

Record: TypeAlias = Trajectory | LogError
# Records with their numbers (from 1); faults do not say where they are.
Records: TypeAlias = Iterable[tuple[int, Record]]
# How a file can be cut into pieces that are read on their own.
Container: TypeAlias = Literal["lines", "row groups", "file"]


class ReadOptions(NamedTuple):
    """Options of the readers of a format.

    Attributes
    ----------
    roles : mapping of role to field
        For formats that take roles.
    where : mapping of field to values
        Records to keep: each field has one of its values.
    source : str
        Name of the file in the ids of episodes that have none: ``{source}:{number}``.
    values : mapping of role to rule
        How values of roles are translated; see `selfreg.data.translation.parse_rule`.
    shift_observation : bool
        Whether the observation in a record of a step is what followed its action, for formats that take roles.
    group_by, order_by : str
        For rows of tables and JSONL: the field whose value the rows of an episode share, and the one that orders them.
    outcomes : mapping of episode to outcome, or None
        Outcomes from elsewhere: they replace those in the log.
    marks : HelpMarks or None
        What counts as help; None keeps the facts of each step (`LoggedStep`) and marks nothing. Readers need not
        apply it.
    """

    roles: Mapping[str, str] = {}
    where: Mapping[str, Sequence[str]] = {}
    source: str = ""
    values: Mapping[str, str] = {}
    shift_observation: bool = False
    group_by: str = ""
    order_by: str = ""
    outcomes: Mapping[str, float | None] | None = None
    marks: HelpMarks | None = HelpMarks()

    def describe(self) -> dict[str, Any]:
        """What says how logs were read, as JSON values; outcomes from elsewhere by a hash."""
        outcomes = None if self.outcomes is None else sorted(self.outcomes.items())
        return {
            "roles": dict(self.roles),
            "where": {field: list(values) for field, values in self.where.items()},
            "values": dict(self.values),
            "shift_observation": self.shift_observation,
            "group_by": self.group_by,
            "order_by": self.order_by,
            "outcomes": None if outcomes is None else hashlib.sha256(repr(outcomes).encode()).hexdigest(),
            "marks": None if self.marks is None else {name: dict(m) for name, m in self.marks._asdict().items() if m},
        }


@dataclass(frozen=True)
class LogFormat:
    """A format of logs: a name and one reader or more.

    A reader yields records with their numbers from 1: a `Trajectory`, or a `LogError` for a record that cannot be read.
    Parquet files go to `read_row_groups`, all others to `read_lines`; `read_file` reads what these do not, and files
    with one JSON document. A record with the number 0 is a fault of the whole file.

    A format of your own is an entry point of the group ``selfreg.formats`` that names a `LogFormat`; the entry point
    and the format have the same name.

    Attributes
    ----------
    name : str
        For `read_trajectories`, `count_logs` and ``--format``.
    description : str
        One line.
    read_lines : callable (numbered lines, options) -> records, optional
        Reads text lines as bytes; .gz and .zst files are decompressed. Large files are read in pieces.
    read_row_groups : callable (path, first, last, options) -> records, optional
        Reads row groups first..last-1 of a Parquet file. Large files are read in pieces.
    read_file : callable (path, options) -> records, optional
        Reads a whole file.
    roles : tuple of str
        Roles that the user may map to fields; none by default.
    translates : tuple of str
        Roles among these whose values the readers translate by `options.values`.
    detect : callable (sample) -> str or None, optional
        Says why a file is of this format, from its beginning (see `selfreg.data.Sample`); None if it is not. Without
        it the format is never chosen by itself.
    merge_files : callable (list of LogFile) -> list of LogFile, optional
        Leaves one of the files that are an episode together, for `read_file`.
    covers : callable (LogFile) -> bool, optional
        Whether the runs of a file of another format are in a file of this one too, beside it.
    filters_records : bool
        Whether the readers apply `options.where` themselves. By default it is applied to the trajectories: their free
        fields, `task` and `episode`.

    Raises
    ------
    ValueError
        For a format without a reader.

    Examples
    --------
    A format with a question and an answer on each line.

    >>> import pathlib, tempfile
    >>> from selfreg.data import LogFormat, ReadOptions, Step, Trajectory
    >>> def read_lines(numbered, options):
    ...     for number, line in numbered:
    ...         question, answer = line.decode().strip().split("|")
    ...         step = Step(question, action=answer)
    ...         yield number, Trajectory(question, f"{options.source}:{number}", float(answer == "4"), (step,))
    >>> pipes = LogFormat("pipes", "question|answer", read_lines=read_lines)
    >>> log = pathlib.Path(tempfile.mkdtemp()) / "log.txt"
    >>> _ = log.write_text("2 + 2|4")
    >>> [(record.episode, record.outcome) for _, record in pipes.read(log, ReadOptions())]
    [('log.txt:1', 1.0)]
    """

    name: str
    description: str
    read_lines: Callable[[Iterable[tuple[int, bytes]], ReadOptions], Records] | None = None
    read_row_groups: Callable[[str, int, int, ReadOptions], Records] | None = None
    read_file: Callable[[str, ReadOptions], Records] | None = None
    roles: tuple[str, ...] = ()
    translates: tuple[str, ...] = ("outcome",)
    detect: Callable[[Sample], str | None] | None = None
    merge_files: Callable[[list[LogFile]], list[LogFile]] | None = None
    covers: Callable[[LogFile], bool] | None = None
    filters_records: bool = False

    def __post_init__(self) -> None:
        if self.read_lines is None and self.read_row_groups is None and self.read_file is None:
            raise ValueError(f"format {self.name!r} has no reader; expected read_lines, read_row_groups or read_file")

    def covers_file(self, file: LogFile) -> bool:
        """Whether a file of a folder can be left out because files of this format tell of its runs."""
        return file.found and self.covers is not None and self.covers(file)

    def check_roles(self, roles: Iterable[str]) -> None:
        """Raise ValueError for a role that the format does not take."""
        for role in roles:
            if not self.roles:
                raise ValueError(f"format {self.name!r} takes no roles; it has its own fields")
            if role not in self.roles:
                raise ValueError(f"unknown role {role!r}; choose from {', '.join(self.roles)}")

    def check_options(self, options: ReadOptions) -> None:
        """Raise ValueError for options that the format does not take."""
        self.check_roles([*options.roles, *options.values])
        for role in options.values:
            if role not in self.translates:
                names = ", ".join(self.translates)
                got = f"{role!r}: --format rows translates it too" if self.name == "table" else repr(role)
                raise ValueError(f"format {self.name!r} translates values of {names} only; got a rule for {got}")
        if options.shift_observation and "observation" not in self.roles:
            raise ValueError(f"format {self.name!r} takes no role 'observation' that could be shifted")
        if options.group_by and self.name != "rows":
            raise ValueError(f"format {self.name!r} has no rows that could be grouped by {options.group_by!r}")

    def container(self, path: str | os.PathLike[str]) -> Container:
        """How a file can be cut; LogError for a file that the format does not read."""
        if is_parquet(path) and self.read_row_groups is not None:
            return "row groups"
        if not is_parquet(path) and self.read_lines is not None:
            try:
                whole = plain_suffix(path) in (".csv", ".tsv") or is_document(path)
            except LogError:  # which the reader meets again
                whole = True
            return "file" if self.read_file is not None and whole else "lines"
        if self.read_file is not None:
            return "file"
        kind = "Parquet files" if is_parquet(path) else "files other than Parquet"
        raise LogError(f"{path}: format {self.name!r} does not read {kind}")

    def read(
        self, path: str | os.PathLike[str], options: ReadOptions, label: str | None = None
    ) -> Iterator[tuple[str, Record]]:
        """Records of a file with their places (file and line, row or episode); faults say where they are."""
        name = os.fspath(path)
        container = self.container(name)
        options = options._replace(source=os.path.basename(name) if label is None else label)
        lines = number_lines(name) if container == "lines" else ()
        try:
            groups = (0, len(row_group_starts(name)) - 1) if container == "row groups" else (0, 0)
        except LogError as error:
            yield name, error
            return
        for number, record in self.read_piece(name, container, options, lines, groups):
            place = format_place(name, container, number)
            yield place, record.at(place) if isinstance(record, LogError) else record

    def read_piece(
        self,
        path: str,
        container: Container,
        options: ReadOptions,
        lines: Iterable[tuple[int, bytes]],
        groups: tuple[int, int],
    ) -> Iterator[tuple[int, Record]]:
        """Records of some lines, or of row groups groups[0]..groups[1]-1; of all of a file that cannot be cut."""
        records: Records
        if container == "row groups":
            assert self.read_row_groups is not None
            records = self.read_row_groups(path, *groups, options)
        elif container == "lines":
            assert self.read_lines is not None
            records = self.read_lines(lines, options)
        else:
            assert self.read_file is not None
            records = self.read_file(path, options)
        if options.where and not self.filters_records:
            records = _apply_filter(records, options.where)
        try:
            for number, record in _apply_options(records, options, path):
                yield number, record.without(path) if isinstance(record, LogError) else record
        except LogError as error:  # of the whole file, such as broken compression
            yield 0, error.without(path)


def format_place(path: str, container: Container, number: int) -> str:
    """File and number of a record, as messages show it; 0 is the whole file."""
    if not number:
        return path
    return f"{path}:{number}" if container == "lines" else f"{path}: {_RECORD[container]} {number}"


_RECORD = {"row groups": "row", "file": "episode"}


def _apply_filter(records: Records, where: Mapping[str, Sequence[str]]) -> Iterator[tuple[int, Record]]:
    for number, record in records:
        try:
            if isinstance(record, LogError) or trajectory_matches(record, where):
                yield number, record
        except LogError as error:
            yield number, error


def _apply_options(records: Records, options: ReadOptions, path: str) -> Iterator[tuple[int, Record]]:
    """Records with their outcomes from elsewhere and their marks of help."""
    if options.outcomes is not None:
        records = _join_outcomes(records, options.outcomes, os.path.basename(plain_name(path)))
    for number, record in records:
        if isinstance(record, Trajectory) and options.marks is not None:
            record = options.marks.mark_trajectory(record)
        yield number, record


def _join_outcomes(records: Records, outcomes: Mapping[str, float | None], file: str) -> Iterator[tuple[int, Record]]:
    """Records with outcomes. The name of the file is one of an episode that is alone in it: so it reads one ahead."""
    several, held = False, list[tuple[int, Record]]()

    def join(name: str = "") -> Iterator[tuple[int, Record]]:
        for number, record in held:
            yield number, join_outcome(record, outcomes, name) if isinstance(record, Trajectory) else record

    try:
        for one in records:
            several = bool(held)
            yield from join()
            held = [one]
    except LogError:
        yield from join()
        raise
    yield from join("" if several else file)
