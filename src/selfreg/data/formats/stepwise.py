"""Judged steps in the layout that trainers of process reward models exchange: `prompt`, `completions`, `labels`.

TRL calls it stepwise supervision, and PRM800K and Math-Shepherd are published in it: one record a trace, a list of
steps and a boolean for each.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Any

from selfreg._util.extras import require_extra
from selfreg._util.files import atomic_write
from selfreg.data.faults import LogError
from selfreg.data.json_text import decode_value
from selfreg.data.log_files import is_parquet, open_arrow
from selfreg.data.log_format import LogFormat, ReadOptions
from selfreg.data.rows import read_parquet_rows
from selfreg.data.samples import Sample
from selfreg.data.trajectory import Step, Trajectory

with require_extra("logs", "selfreg.data"):
    import msgspec
    import pyarrow as pa
    import pyarrow.parquet as pq

SCHEMA = pa.schema([("prompt", pa.string()), ("completions", pa.list_(pa.string())), ("labels", pa.list_(pa.bool_()))])


class _Record(msgspec.Struct):
    prompt: str
    completions: list[str]
    labels: list[bool]

    def __post_init__(self) -> None:
        if len(self.labels) != len(self.completions) or not self.completions:
            raise ValueError(
                f"there are {len(self.completions)} completions and {len(self.labels)} labels; "
                "expected one label each, and at least one"
            )


def write_stepwise(path: str | os.PathLike[str], trajectories: Iterable[Trajectory], labels: str = "steps") -> int:
    """Write judged steps as JSONL, or as Parquet if the name ends in .parquet. The file is written atomically.

    The prompt is the first state; a completion is an action and the observation after it, if that differs.

    Parameters
    ----------
    path : path
    trajectories : iterable of Trajectory
    labels : {"steps", "outcome"}
        "steps": whether a step's own label is at least 1/2; episodes with an unlabelled step are left out. "outcome":
        whether the episode's outcome is at least 1/2, for each of its steps; episodes with help or without an outcome
        are left out.

    Returns
    -------
    int
        Records written.

    Raises
    ------
    ValueError
        For unknown `labels`, or if no episode is left.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from selfreg.data import Step, Trajectory, write_stepwise
    >>> trace = Trajectory("t", "e", 1.0, (Step("2 + 3 = ?", action="5", label=1.0),))
    >>> log = pathlib.Path(tempfile.mkdtemp()) / "log.jsonl"
    >>> write_stepwise(log, [trace])
    1
    >>> log.read_text().strip()
    '{"prompt":"2 + 3 = ?","completions":["5"],"labels":[true]}'
    """
    if labels not in ("steps", "outcome"):
        raise ValueError(f"labels is {labels!r}; expected 'steps' or 'outcome'")
    records = [record for t in trajectories if (record := _make_record(t, labels)) is not None]
    if not records:
        raise ValueError(
            "no episode has a label for each of its steps" if labels == "steps" else "no episode has an outcome"
        )
    with atomic_write(path) as temporary:
        if is_parquet(path):
            rows = [msgspec.structs.asdict(record) for record in records]
            with open_arrow(temporary, "wb") as file:
                pq.write_table(pa.Table.from_pylist(rows, SCHEMA), file, compression="zstd")
        else:
            encode = msgspec.json.Encoder().encode
            temporary.write_bytes(b"".join(encode(record) + b"\n" for record in records))
    return len(records)


def read_stepwise_lines(
    numbered: Iterable[tuple[int, bytes]], options: ReadOptions
) -> Iterator[tuple[int, Trajectory | LogError]]:
    """Trajectories of numbered lines, or their faults without a place."""
    for number, line in numbered:
        try:
            yield number, _convert_record(decode_value(line), number, options)
        except msgspec.ValidationError as error:
            yield number, LogError(str(error))
        except LogError as error:
            yield number, error


def read_stepwise_row_groups(
    path: str, first: int, last: int, options: ReadOptions
) -> Iterator[tuple[int, Trajectory | LogError]]:
    """Trajectories of row groups first..last-1 of a Parquet file, or their faults without a place."""
    for number, row in enumerate(read_parquet_rows(path, range(first, last)), 1):
        try:
            yield number, _convert_record(row, number, options)
        except msgspec.ValidationError as error:
            yield number, LogError(str(error))


def _detect(sample: Sample) -> str | None:
    columns = sample.values if sample.kind == "parquet" else next(iter(sample.objects()), {})
    return "it has prompt, completions and labels" if set(SCHEMA.names) <= set(columns) else None


FORMAT = LogFormat(
    "stepwise",
    "judged steps as prompt, completions, labels; no outcomes in them",
    read_lines=read_stepwise_lines,
    read_row_groups=read_stepwise_row_groups,
    detect=_detect,
)


def _convert_record(raw: Any, number: int, options: ReadOptions) -> Trajectory:
    """A trajectory that ends before its outcome. The state after a step is its text: a history shows the trace."""
    record = msgspec.convert(raw, _Record)
    states = [record.prompt, *record.completions[:-1]]
    steps = tuple(
        Step(state=state, action=completion, label=float(label))
        for state, completion, label in zip(states, record.completions, record.labels, strict=True)
    )
    return Trajectory(record.prompt, f"{options.source}:{number}", None, steps, truncated=True)


def _make_record(trajectory: Trajectory, labels: str) -> _Record | None:
    steps = trajectory.steps
    if labels == "outcome":
        if trajectory.outcome is None or trajectory.helped:
            return None
        good = [trajectory.outcome >= 0.5] * len(steps)
    else:
        given = [step.label for step in steps if step.label is not None]
        if len(given) < len(steps):
            return None
        good = [label >= 0.5 for label in given]
    texts = []
    for step, following in zip(steps, [*steps[1:], Step(state="")], strict=True):
        parts = [step.action or "", "" if following.state == step.action else following.state]
        texts.append("\n".join(part for part in parts if part))
    return _Record(steps[0].state, texts, good)
