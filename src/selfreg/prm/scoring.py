"""Scores of all states of logs: every distinct text once, on processes or a cluster; resumable."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Literal, NamedTuple

from selfreg._util import validate
from selfreg._util.extras import require_extra
from selfreg._util.files import atomic_write, open_resumable, require_utf8_path, work_alone
from selfreg._util.parallel import ProcessExecutor, RayExecutor, choose_executor, run_tasks
from selfreg._util.progress import progress
from selfreg.data import LogError, Trajectory, read_trajectories
from selfreg.data.detection import AUTO, DetectedLogs, detect_format
from selfreg.data.log_files import identify

with require_extra("logs", "score_logs"):
    import pyarrow as pa
    import pyarrow.dataset as ds
    import pyarrow.parquet as pq

SETTINGS, CACHE, SCHEMA = "scores.json", "cache.sqlite", "selfreg.scores/1"
# Steps in a piece: with the smallest models about a second of work, with large ones minutes.
PIECE_STEPS = 1 << 14
DIGEST_BYTES = 16
COLUMNS = pa.schema(
    [
        ("task", pa.string()),
        ("episode", pa.string()),
        ("step", pa.int32()),
        ("text", pa.binary(DIGEST_BYTES)),
        ("score", pa.float64()),
    ]
)


class Scored(NamedTuple):
    """What `score_logs` returns.

    Attributes
    ----------
    episodes, steps : int
        Total, including earlier calls.
    texts : int
        Texts scored in this call: not in earlier calls, not in the cache.
    skipped : list of str
        Error of each skipped record.
    """

    episodes: int
    steps: int
    texts: int
    skipped: list[str]


class ModelFiles(NamedTuple):
    """A PRM for workers: its folder, or the contents of its files."""

    digest: str
    device: str
    path: str
    files: dict[str, bytes] | None = None


class Piece(NamedTuple):
    """Steps of some consecutive episodes, without their texts; `new` ones are scored for the first time."""

    part: Path
    tasks: list[str]
    episodes: list[str]
    steps: list[int]
    texts: list[bytes]
    new: list[bytes]


def score_logs(
    prm: str | os.PathLike[str],
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    format: str = AUTO,
    roles: Mapping[str, str] | None = None,
    where: Mapping[str, Sequence[str]] | None = None,
    workers: int | None = None,
    executor: RayExecutor | Literal["ray"] | None = None,
    cache: str | os.PathLike[str] | None = None,
    device: str = "auto",
    skip_bad: bool = False,
) -> Scored:
    """Score every state of log files that need not fit into memory.

    Parameters
    ----------
    prm : path
        Folder of a PRM (`PRM.save`; `prm/` of a run).
    paths : path or iterable of paths
    out : path
        Folder of the results, a Parquet data set in parts: `read_scores`. A later call scores only
        what is missing.
    format, roles, where
        As for `selfreg.data.read_trajectories`.
    workers : int, optional
        Processes, each with the model in memory and one thread; all cores by default. 1 scores in this process.
    executor : "ray" or RayExecutor, optional
        A Ray cluster instead of processes; texts and the PRM's files travel to it.
    cache : path, optional
        SQLite file with the scores by hash of the text (BLAKE2b, 128 bits), by default in `out`. One given by name
        serves several logs.
    device : str
        As for `PRM.load`.
    skip_bad : bool
        Leave out records that cannot be read, and list them; otherwise the first one raises.

    Returns
    -------
    Scored

    Raises
    ------
    LogError
        File, line, field and what was expected.
    ValueError
        `prm` is not a saved PRM, or `out` or `cache` is of another PRM or other logs.
    ConnectionError
        The Ray cluster is lost; finished parts are kept.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from selfreg.data import Step, Trajectory, write_trajectories
    >>> from selfreg.prm import PRMConfig, read_scores, score_logs, train_prm
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> logs = [Trajectory(f"t{i}", f"e{i}", float(i % 2), (Step(["bad", "good"][i % 2]),)) for i in range(20)]
    >>> train_prm(logs, PRMConfig(kind="tfidf")).save(folder / "prm")
    >>> write_trajectories(folder / "log.jsonl", logs)
    >>> score_logs(folder / "prm", folder / "log.jsonl", folder / "scores", workers=1)
    Scored(episodes=20, steps=20, texts=2, skipped=[])
    >>> read_scores(folder / "scores").column_names
    ['task', 'episode', 'step', 'text', 'score']
    """
    chosen = choose_executor(executor, ProcessExecutor(validate.threads(workers)))
    logs = detect_format(paths, format, roles)
    faults: list[LogError] | None = [] if skip_bad else None
    episodes = read_trajectories(paths, format, roles=roles, where=where, skipped=faults)
    model = _model_files(Path(prm), device, isinstance(chosen, RayExecutor))
    require_utf8_path(out)
    folder = Path(out)
    open_resumable(folder, SETTINGS, _settings(model, logs, roles, where, skip_bad), "set of scores")
    with (
        work_alone(folder, "set of scores"),
        closing(_Cache(Path(cache) if cache is not None else folder / CACHE, model.digest)) as known,
    ):
        work = _Work(folder, iter(episodes), _text_of(Path(prm)), known)
        scored = run_tasks(chosen, _score, model, ((None, texts) for texts in work.tasks()))
        with progress("score", None, "steps") as advance, closing(scored):
            for _, scores in scored:
                advance(work.finish(scores))
    return Scored(work.episodes, work.steps, work.scored, [str(fault) for fault in faults or ()])


def read_scores(out: str | os.PathLike[str]) -> pa.Table:
    """Scores written so far, in the order of the logs.

    Columns: task, episode (string), step (int32), text (16 bytes: hash of the PRM's input), score (float64).

    Raises
    ------
    ValueError
        If the folder is not of scores.
    """
    if not (Path(out) / SETTINGS).is_file():
        raise ValueError(f"{out} is not a set of scores (missing {SETTINGS})")
    return ds.dataset([str(path) for path in sorted(Path(out).glob("part-*.parquet"))], COLUMNS).to_table()


def text_digest(text: str) -> bytes:
    """Hash of a text for the cache, 16 bytes."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=DIGEST_BYTES).digest()


# ---- the work, piece by piece ---------------------------------------------------------------------------------------


class _Work:
    """Pieces in the order of the logs: texts on their way to workers, scores on their way to parts."""

    def __init__(self, folder: Path, episodes: Iterator[Trajectory], text_of: Any, cache: _Cache) -> None:
        self.folder, self.cache = folder, cache
        self._stream, self._text_of = episodes, text_of
        self.episodes = self.steps = self.scored = 0
        self._waiting: deque[Piece] = deque()
        self._under_way: set[bytes] = set()

    def tasks(self) -> Iterator[list[str]]:
        """Texts to score, piece by piece: what no earlier piece had, so that a second call cuts and scores alike."""
        for number, some in enumerate(self._pieces()):
            part = self.folder / f"part-{number:07d}.parquet"
            if not part.is_file():
                piece, texts = self._piece(part, some)
                self._waiting.append(piece)
                yield texts

    def finish(self, scores: Sequence[float]) -> int:
        """Write the scores of the next piece; return its number of steps."""
        piece = self._waiting.popleft()
        found = dict(zip(piece.new, scores, strict=True))
        self.cache.put(sorted(found.items()))  # neighbours in the tree one after another
        self._under_way.difference_update(piece.new)
        self.scored += len(piece.new)
        found |= self.cache.get(text for text in piece.texts if text not in found)
        columns = [piece.tasks, piece.episodes, piece.steps, piece.texts, [found[text] for text in piece.texts]]
        with atomic_write(piece.part) as temporary:
            pq.write_table(pa.table(columns, schema=COLUMNS), temporary, compression="zstd")
        return len(piece.steps)

    def _pieces(self) -> Iterator[list[Trajectory]]:
        some: list[Trajectory] = []
        steps = 0
        for trajectory in self._stream:
            some.append(trajectory)
            steps += len(trajectory.steps)
            self.episodes, self.steps = self.episodes + 1, self.steps + len(trajectory.steps)
            if steps >= PIECE_STEPS:
                yield some
                some, steps = [], 0
        if some:
            yield some

    def _piece(self, part: Path, some: list[Trajectory]) -> tuple[Piece, list[str]]:
        texts = [self._text_of(t.steps[: i + 1]) for t in some for i in range(len(t.steps))]
        digests = [text_digest(text) for text in texts]
        first = dict(zip(reversed(digests), reversed(texts), strict=True))
        known = self.cache.get(first)
        # In the order of the texts: the same batches in every call.
        new = [digest for digest in dict.fromkeys(digests) if digest not in known and digest not in self._under_way]
        self._under_way.update(new)
        tasks = [t.task for t in some for _ in t.steps]
        episodes = [t.episode for t in some for _ in t.steps]
        steps = [i for t in some for i in range(len(t.steps))]
        return Piece(part, tasks, episodes, steps, digests, new), [first[digest] for digest in new]


class _Cache:
    """Scores by digest in an SQLite file, of one PRM; each call of `put` is written atomically."""

    def __init__(self, path: Path, model: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = sqlite3.connect(path, isolation_level=None)
        try:
            self._file.execute("PRAGMA journal_mode = WAL")
            self._file.execute("CREATE TABLE IF NOT EXISTS model (digest TEXT PRIMARY KEY)")
            self._file.execute("CREATE TABLE IF NOT EXISTS scores (text BLOB PRIMARY KEY, score REAL) WITHOUT ROWID")
            self._file.execute("INSERT INTO model SELECT ? WHERE NOT EXISTS (SELECT * FROM model)", (model,))
            ((found,),) = self._file.execute("SELECT digest FROM model")
        except sqlite3.DatabaseError as error:
            self._file.close()
            raise ValueError(f"{path} is not a cache of scores: {error}") from None
        if found != model:
            self._file.close()
            raise ValueError(f"{path} has scores of another PRM; choose another cache")

    def get(self, digests: Iterable[bytes]) -> dict[bytes, float]:
        wanted = list(dict.fromkeys(digests))
        found: dict[bytes, float] = {}
        for i in range(0, len(wanted), 500):
            some = wanted[i : i + 500]
            marks = ",".join("?" * len(some))
            found |= dict(self._file.execute(f"SELECT text, score FROM scores WHERE text IN ({marks})", some))
        return found

    def put(self, scores: Iterable[tuple[bytes, float]]) -> None:
        try:
            self._file.execute("BEGIN IMMEDIATE")
            self._file.executemany("INSERT OR REPLACE INTO scores VALUES (?, ?)", scores)
            self._file.execute("COMMIT")
        except sqlite3.OperationalError as error:  # a full disk, a lock
            raise OSError(f"the cache of scores: {error}") from None

    def close(self) -> None:
        self._file.close()


# ---- the model ------------------------------------------------------------------------------------------------------

_LOADED: dict[str, Any] = {}


def _score(model: ModelFiles, texts: list[str]) -> list[float]:
    """Scores of texts; the PRM is loaded once in a process."""
    if not texts:
        return []
    if model.digest not in _LOADED:
        _LOADED.clear()
        _LOADED[model.digest] = _load_model(model)
    found: list[float] = _LOADED[model.digest].score(texts).tolist()
    return found


def _load_model(model: ModelFiles) -> Any:
    from selfreg.prm.prm import PRM

    if model.files is None:
        return PRM.load(model.path, model.device)
    with tempfile.TemporaryDirectory() as folder:
        for name, content in model.files.items():
            (Path(folder) / name).parent.mkdir(parents=True, exist_ok=True)
            (Path(folder) / name).write_bytes(content)
        return PRM.load(folder, model.device)


def _model_files(prm: Path, device: str, with_files: bool) -> ModelFiles:
    paths = sorted(path for path in prm.rglob("*") if path.is_file())
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
    files = {}
    for path in paths:
        name, content = path.relative_to(prm).as_posix(), path.read_bytes()
        digest.update(f"{name} {len(content)}\n".encode())
        digest.update(content)
        if with_files:
            files[name] = content
    return ModelFiles(digest.hexdigest(), device, os.fspath(prm.absolute()), files if with_files else None)


def _text_of(prm: Path) -> Any:
    """The PRM's input for an episode so far; reads no weights."""
    from functools import partial

    from selfreg.prm.prm import SCHEMA as PRM_SCHEMA
    from selfreg.prm.prm import read_state
    from selfreg.prm.transformer import read_record

    record = read_record(prm, PRM_SCHEMA)
    return partial(read_state, kind=record["kind"], history=record["history"], show_step=record["show_step"])


def _settings(model: ModelFiles, logs: DetectedLogs, roles: Any, where: Any, skip_bad: bool) -> dict[str, Any]:
    """JSON values that identify a scoring."""
    return {
        "schema": SCHEMA,
        "prm": model.digest,
        "logs": [identify(file) for file in logs.files],
        "format": logs.format.name,
        "roles": dict(roles or {}),
        "where": {field: list(values) for field, values in (where or {}).items()},
        "skip_bad": skip_bad,
        "piece": PIECE_STEPS,
    }
