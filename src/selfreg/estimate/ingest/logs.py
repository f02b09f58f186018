"""Logs to counts in bounded memory: pieces of files are counted in parallel, merged in order, and saved to resume."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple

from selfreg._util import validate
from selfreg._util.parallel import ProcessExecutor, RayExecutor, choose_executor
from selfreg._util.progress import progress
from selfreg.data.detection import AUTO, detect_format
from selfreg.data.faults import LogError
from selfreg.data.log_files import LogFile, identify
from selfreg.data.log_format import ReadOptions
from selfreg.data.read import choose_grouped, merge_options
from selfreg.estimate.abstraction import StateAbstraction
from selfreg.estimate.counts import Counts
from selfreg.estimate.ingest import pieces as _pieces
from selfreg.estimate.ingest.partial import CountMerger
from selfreg.estimate.ingest.pieces import CountSettings, Piece, locate_fault, locate_record, split_files
from selfreg.estimate.ingest.piecework import PieceCounts, count_on_ray, count_pieces
from selfreg.estimate.ingest.saved_pieces import SavedPieces
from selfreg.estimate.score_bins import from_description


class Ingested(NamedTuple):
    """What `count_logs` returns.

    Attributes
    ----------
    counts : Counts
    episodes, steps : int
    skipped : list of str
        Errors of the records that were left out.
    """

    counts: Counts
    episodes: int
    steps: int
    skipped: list[str]


def count_logs(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    abstraction: StateAbstraction,
    *,
    format: str = AUTO,
    roles: Mapping[str, str] | None = None,
    where: Mapping[str, Sequence[str]] | None = None,
    workers: int | None = None,
    executor: RayExecutor | Literal["ray"] | None = None,
    out: str | os.PathLike[str] | None = None,
    skip_bad: bool = False,
    options: ReadOptions | None = None,
) -> Ingested:
    """Count the transitions of log files that need not fit into memory.

    The result is that of `count` on all trajectories: it does not depend on the number of workers.

    Parameters
    ----------
    paths : path or iterable of paths
        As for `selfreg.data.read_trajectories`.
    abstraction : StateAbstraction
        Already fitted, with a `describe` that `from_description` can read.
    format, roles, where, options
        As for `selfreg.data.read_trajectories`.
    workers : int, optional
        Threads if records can be counted by column (canonical logs without a filter, `ExactKey` or `Features`), else
        processes; all cores by default. 1 counts in this process.
    executor : "ray" or RayExecutor, optional
        A Ray cluster instead of processes. JSONL is sent to it; other files must be there under the same paths.
    out : path, optional
        Folder for the counts of every piece. A second call counts only the pieces that are missing.
    skip_bad : bool
        Leave out records that cannot be read or counted, and list them; otherwise the first one raises.

    Returns
    -------
    Ingested

    Raises
    ------
    LogError
        File, line, field and what was expected; also for a duplicate episode id, and for an episode without outcome.
    ValueError
        For an unknown format or role, or a folder `out` with something else in it.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from selfreg.data import Step, Trajectory, write_trajectories
    >>> from selfreg.estimate import ExactKey, count_logs
    >>> log = pathlib.Path(tempfile.mkdtemp()) / "log.jsonl.zst"
    >>> write_trajectories(log, [Trajectory("t", str(i), 1.0, (Step("a"), Step("b"))) for i in range(100)])
    >>> found = count_logs(log, ExactKey(), workers=1)
    >>> found.episodes, found.steps, found.counts.visits["nohelp"].tolist()
    (100, 200, [100.0, 100.0, 0.0, 0.0])
    """
    n_workers = validate.threads(workers)
    chosen = choose_executor(executor, ProcessExecutor(n_workers))
    reading = merge_options(options, roles, where)
    logs = detect_format(paths, choose_grouped(format, reading), reading.roles)
    logs.format.check_options(reading)
    settings = CountSettings(logs.format.name, reading, abstraction, skip_bad, out is not None)
    saved = SavedPieces(Path(out), _describe_settings(settings, logs.files)) if out is not None else None
    total = _Total(skip_bad)
    done = 0
    with progress("count", None, "episodes") as advance:
        for part, details in saved.load() if saved else ():
            faults = [(0, text) for text in details["skipped"]]
            counted = PieceCounts(part, "saved", details["steps"], details["episodes"], [], faults)
            total.add(None, counted)
            done += 1
            advance(len(counted.episodes))
        todo = islice(enumerate(split_files(logs.files, logs.format)), done, None)
        found = (
            count_on_ray(todo, settings, chosen)
            if isinstance(chosen, RayExecutor)
            else count_pieces(todo, settings, n_workers)
        )
        for number, piece, counted in found:
            merged = total.add(piece, counted)
            if saved:
                saved.save(number, merged.counts, _describe_piece(merged))
            advance(len(counted.episodes))
    return Ingested(Counts(*total.merger.result()), len(total.seen), total.steps, total.skipped)


def _describe_settings(settings: CountSettings, files: Sequence[LogFile]) -> dict[str, Any]:
    """Settings that must be the same to resume, as JSON values."""
    described = settings.abstraction.describe()
    from_description(described)
    return {
        "logs": [identify(file) for file in files],
        "format": settings.format,
        **settings.options.describe(),
        "abstraction": described,
        "skip_bad": settings.skip_bad,
        "piece": [_pieces.PIECE_BYTES, _pieces.PIECE_ROWS],
    }


def _describe_piece(counted: PieceCounts) -> dict[str, Any]:
    """Details saved beside the counts of a piece."""
    skipped = [text for _, text in counted.faults]
    return {"steps": counted.steps, "episodes": counted.episodes, "skipped": skipped}


class _Total:
    """The sum of all pieces so far, in the order of the logs."""

    def __init__(self, skip_bad: bool) -> None:
        self.skip_bad = skip_bad
        self.merger = CountMerger()
        self.steps = 0
        # Hashes take a fifth of the memory of names: among a million names two share one once in 30 million logs.
        self.seen: set[int] = set()
        self.skipped: list[str] = []

    def add(self, piece: Piece | None, counted: PieceCounts) -> PieceCounts:
        """Add a piece, and return it in the numbers of the sum; None for counts of no piece in particular."""
        before = len(self.seen)
        self.seen.update(map(hash, counted.episodes))
        faults = counted.faults
        if piece is not None:
            if faults and not self.skip_bad:
                raise LogError(locate_fault(piece, *faults[0]))
            if len(self.seen) < before + len(counted.episodes):
                raise LogError(_describe_duplicate(piece, counted))
            faults = [(0, locate_fault(piece, *fault)) for fault in faults]
        self.skipped += [text for _, text in faults]
        self.steps += counted.steps
        return counted._replace(counts=self.merger.add(counted.counts, counted.source), faults=faults)


def _describe_duplicate(piece: Piece, counted: PieceCounts) -> str:
    """Message for a duplicate episode. It cannot be skipped: the counts hold both."""
    ids: set[str] = set()
    for number, name in zip(counted.numbers, counted.episodes, strict=True):
        if name in ids:
            return locate_fault(piece, number, f"duplicate episode id {name!r}")
        ids.add(name)
    first, last = (locate_record(piece, counted.numbers[i]) for i in (0, -1))
    return f"{first} to {last}: duplicate episode id, first in an earlier part of the logs"
