"""Outcomes that another file or folder holds, joined to episodes."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from selfreg._util.extras import require_extra
from selfreg.data.faults import LogError
from selfreg.data.filters import MISSING, lookup_field
from selfreg.data.log_files import LogFile, list_log_files, plain_name
from selfreg.data.orders import EPISODES
from selfreg.data.rows import read_rows
from selfreg.data.samples import take_sample
from selfreg.data.trajectory import Trajectory
from selfreg.data.translation import Rule, parse_number

with require_extra("logs", "selfreg.data"):
    import msgspec

# Where the field is not given, the first of these that a record has.
KEYS = ("episode", "episode_id", "instance_id", "trial_name", *EPISODES, "task_id", "task_name", "task", "id")
VALUES = ("outcome", "success", "resolved", "solved", "correct", "passed", "reward", "score")
# Lists of ids in reports of SWE-bench, by newest version first; those of the others are attempts that did not succeed.
RESOLVED = ("resolved_ids", "resolved")
ATTEMPTED = ("submitted_ids", "completed_ids", "unresolved_ids", "unresolved", "generated", "with_logs", "applied")
FAILED = ("error_ids", "empty_patch_ids", "no_generation", "no_logs", "no_apply", "install_fail", "reset_failed",
          "test_errored", "test_timeout")  # fmt: skip
# Names of files that may be a report, and how many of them are looked into.
REPORT, MOST_REPORTS = re.compile(r"(report|result|eval|resolved|summary).*\.json", re.IGNORECASE), 20
# Fields that a record of a folder has besides its own: the name of its file and of the folder of that.
FILE, FOLDER = "file", "folder"
# Marks the ids of a report that has no others.
ALONE = "resolved alone"


class LoadedOutcomes(dict[str, float | None]):
    """Outcomes of a file by the names in it, and which of these belong to episodes that were read.

    Attributes
    ----------
    path : str
    joined : set of str
        Names that belong to an episode.
    missed : str
        The first episode that has no name in it; "" without one.
    others : float or None
        The outcome of episodes that have no name in it: 0 where a report has the ids of successes alone.
    """

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path, self.joined, self.missed = path, set[str](), ""
        self.others: float | None = None

    def note(self, trajectory: Trajectory, found: str | None) -> None:
        """That an episode has this name, or none."""
        if found is not None:
            self.joined.add(found)
        elif not self.missed:
            self.missed = f"episode {trajectory.episode!r} of task {trajectory.task!r}"

    def describe_misses(self) -> str:
        """How many names belong to episodes, with one example of each side; "" where every episode has one."""
        if not self.missed:
            return ""
        if self.others is not None:
            return (
                f"{self.path} names what was resolved alone ({len(self.joined)} of {len(self)} names belong to "
                "episodes): all other episodes are taken as failures"
            )
        unused = next((f"the file has {name!r}, " for name in self if name not in self.joined), "")
        return (
            f"{len(self.joined)} of {len(self)} names in {self.path} belong to episodes: {unused}the logs have "
            f"{self.missed} (--outcomes-key names another field of the file)"
        )


def join_outcome(trajectory: Trajectory, outcomes: Mapping[str, float | None], file: str = "") -> Trajectory:
    """The trajectory with its outcome; as it is where there is none.

    It is looked up by its episode, its task, the ids of an episode in its fields, and the file that has it alone.
    """
    ids = (trajectory.fields.get(name) for name in ("id", *EPISODES))
    names = (trajectory.episode, trajectory.task, *(str(one) for one in ids if one is not None), file)
    found = next((name for name in names if name in outcomes), None)
    outcome = None if found is None else outcomes[found]
    if isinstance(outcomes, LoadedOutcomes):
        outcomes.note(trajectory, found)
        outcome = outcomes.others if found is None else outcome
    if outcome is None:
        return trajectory
    return msgspec.structs.replace(trajectory, outcome=outcome, truncated=False)


def find_report(files: Iterable[LogFile]) -> tuple[str, LoadedOutcomes] | None:
    """The one report of SWE-bench among the files of a folder, and its outcomes; None without one, or with several."""
    named = [file.path for file in files if REPORT.search(os.path.basename(file.path)) and _lies_below(file)]
    found = [path for path in named[:MOST_REPORTS] if _is_report(path)]
    if len(found) != 1:
        return None
    try:
        return found[0], load_outcomes(found[0])
    except LogError:
        return None


def _lies_below(file: LogFile) -> bool:
    """Whether a file lies in the folder that was given, and not in an archive."""
    return file.found and os.path.isdir(file.origin)


def _is_report(path: str) -> bool:
    try:
        return any(_find_resolved(one) for one in take_sample(path).objects()[:1])
    except LogError:
        return False


def load_outcomes(
    path: str | os.PathLike[str], key: str | None = None, value: str | None = None, rule: Rule | None = None
) -> LoadedOutcomes:
    """Outcomes by episode, from a file or a folder.

    Parameters
    ----------
    path : path
        Records in JSONL, a JSON list, CSV, Parquet or SQLite; one JSON object of episode to outcome (or to a record
        with it); a report of SWE-bench (`resolved_ids`, in older ones `resolved`); or a folder of such files, whose
        records also have the fields `file` (its name without suffixes) and `folder`.
    key, value : str, optional
        Fields, or paths, of the episode (or task) and of its outcome. By default the first of the usual names.
    rule : Rule, optional
        How outcomes are translated.

    Returns
    -------
    LoadedOutcomes
        A dict; None for an episode without an outcome.

    Raises
    ------
    LogError
        For a file that cannot be read, a record without the fields, an outcome outside of [0, 1], and an episode with
        two outcomes.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from selfreg.data.outcomes import load_outcomes
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "results.csv"
    >>> _ = file.write_text("instance_id,resolved\\na,true\\nb,false\\n")
    >>> load_outcomes(file)
    {'a': 1.0, 'b': 0.0}
    """
    found = LoadedOutcomes(os.fspath(path))
    for place, record in _read_records(os.fspath(path), key):
        try:
            episode = _read_key(record, key)
            outcome = _read_outcome(record, value, rule)
        except LogError as error:
            where = f". A glob names some files of a folder: --outcomes '{os.fspath(path)}/**/NAME.json'"
            raise LogError(f"{error.at(place)}{where if os.path.isdir(path) else ''}") from None
        if record.get(ALONE):
            found.others = 0.0
        if found.get(episode, outcome) != outcome:
            raise LogError(f"{place}: episode {episode!r} has two outcomes, {found[episode]} and {outcome}")
        found[episode] = outcome
    if not found:
        raise LogError(f"{os.fspath(path)}: no outcomes in it")
    return found


def _read_records(path: str, key: str | None) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Records with their places."""
    for file in list_log_files(path).files:
        name = Path(plain_name(file.path))
        more = {FILE: name.name, FOLDER: name.parent.name} if file.found else {}
        for number, row in _read_rows(file.path):
            place = f"{file.path}: record {number}"
            try:
                expanded = _expand(row, key, number)
            except LogError as error:
                raise error.at(place) from None
            for record in expanded:
                yield place, {**more, **record}


def _read_rows(path: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    number = 0
    try:
        for number, row in read_rows(path):
            if isinstance(row, LogError):
                raise row
            yield number, row
    except LogError as error:
        place = f"{path}: record {number}" if number else path
        raise error.at(place) from None


def _expand(row: Mapping[str, Any], key: str | None, number: int) -> Iterable[Mapping[str, Any]]:
    """A record as it is; those of a report, or of an object of episode to outcome, one by one."""
    if (name := _find_resolved(row)) is not None:
        resolved = set(_read_ids(row, name))
        attempted = {one for name in (*ATTEMPTED, *FAILED) for one in _read_ids(row, name)}
        alone = row.keys().isdisjoint(ATTEMPTED)
        return [{KEYS[0]: one, VALUES[0]: one in resolved, ALONE: alone} for one in sorted(resolved | attempted)]
    has_key = lookup_field(row, key) is not MISSING if key else any(name in row for name in KEYS)
    if number == 1 and row and not has_key and key not in (FILE, FOLDER):
        if all(isinstance(one, dict) for one in row.values()):
            return [{KEYS[0] if key is None else key: name, **one} for name, one in row.items()]
        if all(one is None or isinstance(one, (bool, int, float, str)) for one in row.values()):
            return [{KEYS[0] if key is None else key: name, VALUES[0]: one} for name, one in row.items()]
    return [row]


def _find_resolved(row: Mapping[str, Any]) -> str | None:
    """The list of resolved ids in a report of SWE-bench."""
    return next((name for name in RESOLVED if isinstance(row.get(name), list)), None)


def _read_ids(row: Mapping[str, Any], name: str) -> list[str]:
    ids = row.get(name) or []
    if not isinstance(ids, list) or not all(isinstance(one, str) for one in ids):
        raise LogError(f"field {name!r}: expected a list of ids")
    return ids


def _read_key(record: Mapping[str, Any], key: str | None) -> str:
    name = key or next((one for one in (*KEYS, FILE) if record.get(one) is not None), KEYS[0])
    value = lookup_field(record, name)
    if value is MISSING:
        raise LogError(
            f"field {name!r} of the episode is missing; the record has {', '.join(map(str, record))}: "
            "--outcomes-key FIELD"
        )
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise LogError(f"field {name!r}: expected a string or an integer")
    return str(value)


def _read_outcome(record: Mapping[str, Any], field: str | None, rule: Rule | None) -> float | None:
    name = field or next((one for one in VALUES if one in record), VALUES[0])
    value = lookup_field(record, name)
    if value is MISSING and _is_below_null(record, name):  # as of a trial of Harbor that was not verified
        return None
    if value is MISSING:
        raise LogError(
            f"field {name!r} of the outcome is missing; the record has {', '.join(map(str, record))}: "
            "--outcomes-value FIELD"
        )
    try:
        value = _read_number(value) if rule is None else rule.translate(value)
    except LogError as error:
        raise error.at(f"field {name!r}") from None
    if value is None or value != value:  # NaN, as tables have it for nothing
        return None
    if not isinstance(value, (bool, int, float)) or not 0 <= value <= 1:
        how = "'outcome=WORD=1,*=0'" if isinstance(value, str) else "outcome=LOW..HIGH"
        raise LogError(f"field {name!r}: expected a number in [0, 1] or a boolean; got {value!r} (--value {how})")
    return float(value)


def _is_below_null(record: Mapping[str, Any], path: str) -> bool:
    """Whether a field on the way to a path is null."""
    parts = path.split(".")
    return any(lookup_field(record, ".".join(parts[:i])) is None for i in range(1, len(parts)))


def _read_number(value: Any) -> Any:
    """A value of a cell that is text as the number or boolean that it stands for."""
    words = {"true": True, "false": False, "": None, "null": None, "none": None, "nan": None}
    if not isinstance(value, str):
        return value
    if value.strip().lower() in words:
        return words[value.strip().lower()]
    try:
        return parse_number(value)
    except ValueError:
        return value
