"""What is in logs, by a sample of them: format, episodes, outcomes, marks of help, and what is missing."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from selfreg._util.extras import require_extra
from selfreg.data.detection import AUTO, DetectedLogs, Paths, SeveralFormatsError, detect_files
from selfreg.data.faults import LogError, show_path
from selfreg.data.formats.table import find_columns
from selfreg.data.guesses import flatten_names
from selfreg.data.log_files import LogFile, LogFiles, is_compressed, list_log_files
from selfreg.data.log_format import LogFormat, ReadOptions, Record
from selfreg.data.markers import HelpMarks
from selfreg.data.next_command import MarkProposal, find_hints, make_command, propose_marks
from selfreg.data.outcomes import LoadedOutcomes, find_report
from selfreg.data.proposals import (
    Proposal,
    first_records,
    propose_models,
    propose_options,
    propose_outcome,
    propose_shift,
)
from selfreg.data.read import choose_grouped, describe_nothing, find_duplicate, merge_options
from selfreg.data.samples import describe_columns, take_sample
from selfreg.data.tally import Tally
from selfreg.data.trajectory import Trajectory
from selfreg.data.wide_tables import refuse_battles

with require_extra("logs", "selfreg.data"):
    import msgspec

# What is read at most: bytes, files, and parts of a large file of lines.
SAMPLE_BYTES, SAMPLE_FILES, NEIGHBOURS, PARTS = 12 << 20, 400, 8, 12
# Files of which the first that has fields with names of roles says how the others are read.
GUESSED_FILES = 10
# Fields that a message names.
SHOWN_FIELDS = 20


class Outcomes(msgspec.Struct):
    """Outcomes of the sampled episodes.

    Attributes
    ----------
    known, missing : int
        Episodes with and without an outcome.
    mean : float or None
    values : dict
        Episodes by outcome; by tenths if there are many values.
    """

    known: int
    missing: int
    mean: float | None
    values: dict[str, int]


class Overview(msgspec.Struct):
    """What `look_at_logs` returns; the numbers are of the sample.

    Attributes
    ----------
    format, reason : str
    files, size : int
        Files of that format, and their bytes on disk.
    left_out : list of str
    complete : bool
        Whether everything was read, and not a sample.
    episodes, tasks, steps : int
    outcomes : Outcomes
    help : dict
        Steps by help type, as the log names it.
    models, tools, roles : dict
        Steps by model, tool and role.
    fields : dict
        Number of distinct values of each free field (1000 at most).
    faults : list of str
        The first records that cannot be read.
    n_faults : int
    hints : list of str
        What could be a mark of help, and what is missing.
    command : str
        The command to run next.
    """

    format: str
    reason: str
    files: int
    size: int
    left_out: list[str]
    complete: bool
    episodes: int
    tasks: int
    steps: int
    outcomes: Outcomes
    help: dict[str, int]
    models: dict[str, int]
    tools: dict[str, int]
    roles: dict[str, int]
    fields: dict[str, int]
    faults: list[str]
    n_faults: int
    hints: list[str]
    command: str


def look_at_logs(
    paths: Paths,
    format: str = AUTO,
    roles: Mapping[str, str] | None = None,
    *,
    options: ReadOptions | None = None,
    words: Sequence[str] = (),
) -> Overview:
    """What is in log files, and the command that plans from them.

    Large logs are sampled: parts of files of lines, some of many files, and the beginnings of compressed ones.

    Parameters
    ----------
    paths : path or iterable of paths
        As for `read_trajectories`.
    format, roles
        As for `read_trajectories`; by default roles are proposed where no format is recognised.
    options : ReadOptions, optional
        How to read the logs, as for `read_trajectories`.
    words : sequence of str
        The same as words of a command line, for the command to run next.

    Returns
    -------
    Overview

    Raises
    ------
    LogError
        For a path without logs, and files that are no logs.
    ValueError
        For an unknown format, role or rule.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from selfreg.data import look_at_logs
    >>> log = pathlib.Path(tempfile.mkdtemp()) / "log.jsonl"
    >>> line = '{"ticket_id": %d, "won": %d, "turns": [{"saw": "hello", "did": "hi"}]}\\n'
    >>> _ = log.write_text("".join(line % (i, i % 2) for i in range(10)))
    >>> overview = look_at_logs(log)
    >>> overview.format, overview.episodes, overview.outcomes.mean
    ('jsonl', 10, 0.5)
    >>> overview.command.replace(str(log), "log.jsonl")
    'selfreg fit log.jsonl --format jsonl --map steps=turns --map task=ticket_id --map outcome=won \
--map observation=saw --map action=did --budget 1 --out runs/log'
    """
    names = [os.fspath(path) for path in ([paths] if isinstance(paths, (str, os.PathLike)) else paths)]
    listed = list_log_files(names)
    some = _spread(listed.files, SAMPLE_FILES)
    given = merge_options(options, roles, None)
    reading = _choose_reading(LogFiles(some, listed.left_out), choose_grouped(format, given), given)
    tally, complete = _read_sample(reading)
    if _lacks_outcomes(reading, tally) and (better := _with_outcomes(reading)) is not None:
        other, read_all = _read_sample(better)
        if other.outcome_counts.total() > tally.outcome_counts.total():
            reading, tally, complete = better, other, read_all
    if tally.choices and "outcome" not in reading.options.roles:
        reading = _with_choice(reading, tally)
        tally, complete = _read_sample(reading)
    if tally.episodes and not tally.outcome_counts and (report := find_report(listed.files)) is not None:
        path, outcomes = report
        hint = f"The outcomes are those of the report {path}."
        proposal = Proposal(reading.options._replace(outcomes=outcomes), (*reading.proposal.hints, hint))
        reading, words = reading._replace(proposal=proposal), [*words, "--outcomes", path]
        tally, complete = _read_sample(reading)
    whole = len(some) == len(listed.files)
    if complete and whole and not tally.episodes and not tally.n_faults:
        raise LogError(describe_nothing(names, given.where))
    size = sum(os.path.getsize(file.path) for file in listed.files)
    files = len(reading.found.files) if whole else len(listed.files)
    return _describe(reading, tally, _Extent(names, words, given, files, size, complete and whole))


class _Reading(NamedTuple):
    """How logs are read, and whether that is a guess."""

    found: DetectedLogs
    proposal: Proposal
    is_guess: bool = False

    @property
    def options(self) -> ReadOptions:
        return self.proposal.options


class _Extent(NamedTuple):
    """What was given, and how much of it was read."""

    names: Sequence[str]
    words: Sequence[str]
    given: ReadOptions
    files: int
    size: int
    complete: bool


def _choose_reading(listed: LogFiles, format: str, options: ReadOptions) -> _Reading:
    """The format, and options with proposals where the logs do not say enough."""
    try:
        found = detect_files(listed, format, {**options.values, **options.roles})
    except SeveralFormatsError:
        raise
    except LogError:
        if options.roles or format != AUTO:
            raise
        if (guess := _guess_reading(listed, options)) is not None:
            return guess
        _refuse_without_outcome(listed, options)
        raise
    found.format.check_options(options)
    if found.format.name == "rows" and not options.roles:
        proposal = propose_options(first_records(found.files[0]), options)
        return _Reading(found, proposal or Proposal(options))
    if format != AUTO or options.roles:
        return _Reading(found, Proposal(options))
    if found.format.name == "table":
        return _choose_table(found, listed, options)
    if found.format.name == "jsonl":
        return _Reading(found, propose_shift(first_records(found.files[0]), options))
    return _Reading(found, Proposal(options))


def _choose_table(found: DetectedLogs, listed: LogFiles, options: ReadOptions) -> _Reading:
    """A table whose columns have the usual names, or one for each model, or rows that are steps or have other names."""
    records = first_records(found.files[0])
    columns = list(records[0]) if records else []
    if (wide := propose_models(records, options)) is not None:
        return _Reading(found, wide)
    try:
        find_columns(columns, options)
        is_plain = bool(records)
    except LogError:
        is_plain = False
    guess = None if is_plain and {"step", "model"} & set(columns) else _guess_reading(listed, options)
    if guess is not None and (guess.options.group_by or not is_plain):
        return guess
    return _Reading(found, Proposal(options))


def _guess_reading(listed: LogFiles, options: ReadOptions) -> _Reading | None:
    """The reading that the first file suggests whose fields have names of roles."""
    for file in listed.files[:GUESSED_FILES]:
        records = first_records(file)
        is_table = take_sample(file.path).kind in ("table", "parquet")
        if is_table and (wide := propose_models(records, options)) is not None:
            return _Reading(detect_files(listed, "table", wide.options.roles), wide, True)
        proposal = propose_options(records, options)
        if proposal is not None and (proposal.options.roles.get("outcome") or options.outcomes is not None):
            is_json = take_sample(file.path).kind in ("lines", "document")
            name = "jsonl" if is_json and not proposal.options.group_by else "rows"
            return _Reading(detect_files(listed, name, proposal.options.roles), proposal, True)
    return None


def _refuse_without_outcome(listed: LogFiles, options: ReadOptions) -> None:
    """Raise LogError where only the outcome is missing: with the other roles, and the fields that there are."""
    for file in listed.files[:GUESSED_FILES]:
        records = first_records(file)
        try:
            refuse_battles(flatten_names(records))
        except LogError as error:
            raise error.at(file.path) from None
        if records and (what := describe_columns(records[0])):
            raise LogError(f"{file.path}: it is {what}")
        if (proposal := propose_options(records, options)) is not None:
            words = [f"--map {shlex.quote(f'{role}={name}')}" for role, name in proposal.options.roles.items() if name]
            words += map(shlex.quote, proposal.words(options))
            raise LogError(
                f"{file.path}: no field looks like an outcome; the fields are "
                f"{', '.join(flatten_names(records)[:SHOWN_FIELDS])}. Name it: {' '.join(words)} --map outcome=FIELD. "
                "If its values are words, add --value 'outcome=WORD=1,*=0' with the word for success. If another file "
                "has the outcomes: --outcomes FILE"
            )


def _lacks_outcomes(reading: _Reading, tally: Tally) -> bool:
    """Whether outcomes are missing, or values of a field that was not named cannot be read as such."""
    options = reading.options
    takes = reading.found.format.name in ("openai_messages", "message_rows", "table", "jsonl", "rows")
    named = options.outcomes is not None or "outcome" in options.values
    return takes and not named and bool(tally.n_faults or not tally.outcome_counts)


def _with_outcomes(reading: _Reading) -> _Reading | None:
    records = first_records(reading.found.files[0])
    found = propose_outcome(records, reading.options)
    if found is None or found.options == reading.options:
        return None
    return reading._replace(proposal=Proposal(found.options, (*reading.proposal.hints, *found.hints)))


def _with_choice(reading: _Reading, tally: Tally) -> _Reading:
    """The first of the outcomes that most of the records have, where they have several."""
    chosen = tally.choices.most_common(1)[0][0]
    names = ", ".join(tally.choices)
    hint = f"There are several outcomes ({names}); the command takes {chosen!r}: change it if that is not meant."
    options = reading.options._replace(roles={**reading.options.roles, "outcome": chosen})
    return reading._replace(proposal=Proposal(options, (*reading.proposal.hints, hint)))


def _describe(reading: _Reading, tally: Tally, extent: _Extent) -> Overview:
    found, options = reading.found, reading.options
    marks = propose_marks(tally) if options.marks in (None, HelpMarks()) else MarkProposal()
    words = [*extent.words, *reading.proposal.words(extent.given), *marks.words]
    misses = options.outcomes.describe_misses() if isinstance(options.outcomes, LoadedOutcomes) else ""
    return Overview(
        format=found.format.name,
        reason="of the names of its fields; correct --map if needed" if reading.is_guess else found.reason,
        files=extent.files,
        size=extent.size,
        left_out=found.left_out,
        complete=extent.complete,
        episodes=tally.episodes,
        tasks=len(tally.tasks),
        steps=tally.steps,
        outcomes=_summarise(tally),
        help=dict(tally.help.most_common()),
        models=dict(tally.models.most_common()),
        tools=dict(tally.tools.most_common()),
        roles=dict(tally.roles.most_common()),
        fields={name: len(values) for name, values in tally.fields.items()},
        faults=tally.faults,
        n_faults=tally.n_faults,
        hints=[
            *reading.proposal.hints,
            *find_hints(found.format.name, tally, marks, misses, is_sample=not extent.complete),
        ],
        command=make_command(extent.names, found.format.name, options.roles, tally, words),
    )


def _summarise(tally: Tally) -> Outcomes:
    known = tally.outcome_counts.total()
    return Outcomes(known, tally.episodes - known, tally.mean_outcome(), tally.outcome_values())


# ---- sampling -------------------------------------------------------------------------------------------------------


def _read_sample(reading: _Reading) -> tuple[Tally, bool]:
    """What is in some of the records, and whether they are all."""
    files, format = reading.found.files, reading.found.format
    options = reading.options._replace(marks=None)
    tally, first_places = Tally(reading.options.marks or HelpMarks()), dict[str, str]()
    left, complete = SAMPLE_BYTES, True
    for i, file in enumerate(files):
        share = left // (len(files) - i)
        size = os.path.getsize(file.path)
        tally.place = _name_place(file)
        try:
            done = _read_part(file, format, options._replace(source=file.label), max(share, 1), tally, first_places)
        except LogError as error:
            tally.add(error if str(error).startswith(show_path(file.path)) else LogError(f"{file.path}: {error}"))
            done = False
        complete = complete and done
        left = max(0, left - min(size, share))
    return tally, complete


def _name_place(file: LogFile) -> str:
    """The folder below the one that was given, or the file."""
    if not file.found:
        return os.path.basename(file.path)
    return os.path.relpath(file.path, file.origin).split(os.sep)[0]


def _read_part(
    file: LogFile, format: LogFormat, options: ReadOptions, most: int, tally: Tally, first_places: dict[str, str]
) -> bool:
    container = format.container(file.path)
    if container == "lines" and not is_compressed(file.path) and os.path.getsize(file.path) > most:
        for line, record in _read_lines_here_and_there(file, format, options, most):
            place = f"{file.path}: the line at byte {line}"
            tally.add(record.at(place) if isinstance(record, LogError) else _check(record, place, first_places))
        return False
    seen = 0
    for place, record in format.read(file.path, options, file.label):
        tally.add(record if isinstance(record, LogError) else _check(record, place, first_places))
        seen += 100 if isinstance(record, LogError) else _text_length(record)
        if seen > most:
            return False
    return True


def _check(record: Trajectory, place: str, first_places: dict[str, str]) -> Record:
    return find_duplicate(record, place, first_places) or record


def _text_length(record: Any) -> int:
    return sum(len(step.state) + len(step.action or "") + 50 for step in record.steps)


def _read_lines_here_and_there(
    file: LogFile, format: LogFormat, options: ReadOptions, most: int
) -> Iterator[tuple[int, Any]]:
    """Records of lines at some places of a large file, at equal distances."""
    size, part = os.path.getsize(file.path), most // PARTS

    def lines() -> Iterator[tuple[int, bytes]]:
        with open(file.path, "rb") as stream:
            for i in range(PARTS):
                stream.seek(i * (size - part) // (PARTS - 1))
                if i:
                    stream.readline()  # the rest of a line that began before
                end = stream.tell() + part
                while stream.tell() < end and (line := stream.readline()):
                    if line.strip():
                        yield stream.tell() - len(line), line

    yield from format.read_piece(file.path, "lines", options, lines(), (0, 0))


def _spread(items: Sequence[Any], most: int) -> list[Any]:
    """At most so many of the items: runs of neighbours, which may be of one task, at equal distances."""
    if len(items) <= most:
        return list(items)
    runs = most // NEIGHBOURS
    last = len(items) - NEIGHBOURS
    return [items[i * last // (runs - 1) + k] for i in range(runs) for k in range(NEIGHBOURS)]
