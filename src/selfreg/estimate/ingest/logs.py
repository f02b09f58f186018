"""Logs to counts in bounded memory: pieces of the files, counted side by side, merged in order, kept for a restart."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple

from selfreg._util import validate
from selfreg._util.parallel import ProcessExecutor, RayExecutor, choose_executor
from selfreg._util.progress import progress
from selfreg.data.formats.canonical import LogError
from selfreg.data.read import check_format, names_of
from selfreg.estimate.abstraction import StateAbstraction
from selfreg.estimate.counts import Counts
from selfreg.estimate.ingest import pieces as _pieces
from selfreg.estimate.ingest.partial import Merger
from selfreg.estimate.ingest.pieces import Ask, Piece, located, pieces, place
from selfreg.estimate.ingest.piecework import Counted, count_on_ray, count_pieces
from selfreg.estimate.ingest.saved_pieces import KeptPieces
from selfreg.estimate.score_bins import from_description


class Ingested(NamedTuple):
    """What `count_logs` returns.

    Attributes
    ----------
    counts : Counts
    episodes, steps : int
    skipped : list of str
        What is wrong with each record that was left out.
    """

    counts: Counts
    episodes: int
    steps: int
    skipped: list[str]


def count_logs(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    abstraction: StateAbstraction,
    *,
    format: str = "selfreg",
    roles: Mapping[str, str] | None = None,
    where: Mapping[str, Sequence[str]] | None = None,
    workers: int | None = None,
    executor: RayExecutor | Literal["ray"] | None = None,
    out: str | os.PathLike[str] | None = None,
    skip_bad: bool = False,
) -> Ingested:
    """Count the transitions of log files that need not fit into memory.

    The result is that of `count` on all trajectories: it does not depend on the number of workers.

    Parameters
    ----------
    paths : path or iterable of paths
        JSONL (plain, .gz, .zst) or Parquet.
    abstraction : StateAbstraction
        Already fitted, with a `describe` that `from_description` knows.
    format, roles, where
        As for `selfreg.data.read_trajectories`.
    workers : int, optional
        Threads where records can be counted by column (canonical logs without a filter, `ExactKey` or `Features`), else
        processes; all cores by default. 1 counts in this process.
    executor : "ray" or RayExecutor, optional
        A Ray cluster instead of processes. JSONL travels to it; Parquet files must be there under the same paths.
    out : path, optional
        Folder for the counts of every piece. Called again after a kill, only pieces that are missing are counted.
    skip_bad : bool
        Leave out records that cannot be read, and list them; otherwise the first one raises.

    Returns
    -------
    Ingested

    Raises
    ------
    LogError
        File, line, field and what was expected; also for an episode name that occurs twice.
    ValueError
        For an unknown format or role, or a folder `out` that belongs to something else.

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
    check_format(format, roles or {})
    n_workers = validate.threads(workers)
    chosen = choose_executor(executor, ProcessExecutor(n_workers))
    names = names_of(paths)
    for name in names:
        if not Path(name).is_file():
            raise LogError(f"{name}: no such file")
    ask = Ask(format, dict(roles or {}), dict(where or {}), abstraction, skip_bad, out is not None)
    kept = KeptPieces(Path(out), _settings(ask, names)) if out is not None else None
    total = _Total(skip_bad)
    done = 0
    with progress("count", None, "episodes") as advance:
        for part, header in kept.parts() if kept else ():
            faults = [(0, text) for text in header["skipped"]]
            counted = Counted(part, "kept", header["steps"], header["episodes"], [], faults)
            total.add(None, counted)
            done += 1
            advance(len(counted.episodes))
        todo = islice(enumerate(pieces(names, format)), done, None)
        found = (
            count_on_ray(todo, ask, chosen) if isinstance(chosen, RayExecutor) else count_pieces(todo, ask, n_workers)
        )
        for number, piece, counted in found:
            merged = total.add(piece, counted)
            if kept:
                kept.put(number, merged.counts, _told(merged))
            advance(len(counted.episodes))
    return Ingested(Counts(*total.merger.result()), len(total.seen), total.steps, total.skipped)


def _settings(ask: Ask, names: Sequence[str]) -> dict[str, Any]:
    """What makes two countings the same, as JSON values."""
    described = ask.abstraction.describe()
    from_description(described)
    return {
        "logs": [[os.path.abspath(name), os.path.getsize(name), os.stat(name).st_mtime_ns] for name in names],
        "format": ask.format,
        "roles": ask.roles,
        "where": {field: list(values) for field, values in ask.where.items()},
        "abstraction": described,
        "skip_bad": ask.skip_bad,
        "piece": [_pieces.PIECE_BYTES, _pieces.PIECE_ROWS],
    }


def _told(counted: Counted) -> dict[str, Any]:
    """What is kept beside the counts of a piece."""
    skipped = [text for _, text in counted.faults]
    return {"steps": counted.steps, "episodes": counted.episodes, "skipped": skipped}


class _Total:
    """Everything counted so far, in the order of the logs."""

    def __init__(self, skip_bad: bool) -> None:
        self.skip_bad = skip_bad
        self.merger = Merger()
        self.steps = 0
        # Hashes, for a fifth of the memory of names: among a million names two share one once in 30 million logs.
        self.seen: set[int] = set()
        self.skipped: list[str] = []

    def add(self, piece: Piece | None, counted: Counted) -> Counted:
        """Add a piece, and give it back in the numbers of the sum; None for sums of no piece in particular."""
        before = len(self.seen)
        self.seen.update(map(hash, counted.episodes))
        faults = counted.faults
        if piece is not None:
            if faults and not self.skip_bad:
                raise LogError(located(piece, *faults[0]))
            if len(self.seen) < before + len(counted.episodes):
                raise LogError(_twice(piece, counted))
            faults = [(0, located(piece, *fault)) for fault in faults]
        self.skipped += [text for _, text in faults]
        self.steps += counted.steps
        return counted._replace(counts=self.merger.add(counted.counts, counted.source), faults=faults)


def _twice(piece: Piece, counted: Counted) -> str:
    """Rare, and the counts hold both: no way to take one out. Skipped with the others it would be wrong, too."""
    here: set[str] = set()
    for number, name in zip(counted.numbers, counted.episodes, strict=True):
        if name in here:
            return located(piece, number, f"episode {name!r} was there before")
        here.add(name)
    first, last = (place(piece, counted.numbers[i]) for i in (0, -1))
    return f"{first} to {last}: an episode was there before, in an earlier part of the logs"
