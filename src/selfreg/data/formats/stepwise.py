"""Judged steps in the layout that trainers of process reward models exchange: `prompt`, `completions`, `labels`.

TRL calls it stepwise supervision, and PRM800K and Math-Shepherd are published in it: one record a trace, a list of
steps and a boolean for each.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from selfreg._util.extras import require_extra
from selfreg._util.files import atomic_write
from selfreg.data.formats.canonical import LogError, lines
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
    """Write JSONL, or Parquet where the name ends in .parquet, whole or not at all.

    The prompt is the first state; a completion is an action with the observation that followed it, if that says more.

    Parameters
    ----------
    path : path
    trajectories : iterable of Trajectory
    labels : {"steps", "outcome"}
        "steps": whether a step's own label is at least 1/2; episodes with a step that has none are left out. "outcome":
        whether the episode's outcome is, for each of its steps; episodes that were helped, or whose outcome is not
        known, are left out.

    Returns
    -------
    int
        Records written.

    Raises
    ------
    ValueError
        `labels` is not known, or no episode is left.
    """
    if labels not in ("steps", "outcome"):
        raise ValueError(f"labels is {labels!r}; expected 'steps' or 'outcome'")
    records = [record for t in trajectories if (record := _record(t, labels)) is not None]
    if not records:
        raise ValueError("no episode has a label for each of its steps" if labels == "steps" else "no outcome is known")
    with atomic_write(path) as temporary:
        if Path(path).suffix == ".parquet":
            rows = [msgspec.structs.asdict(record) for record in records]
            pq.write_table(pa.Table.from_pylist(rows, SCHEMA), temporary, compression="zstd")
        else:
            encode = msgspec.json.Encoder().encode
            temporary.write_bytes(b"".join(encode(record) + b"\n" for record in records))
    return len(records)


def read_stepwise(path: str | os.PathLike[str]) -> Iterator[tuple[int, Trajectory | LogError]]:
    """Records as trajectories that were cut off before their outcome: numbers from 1, with what is wrong with them.

    The task is the prompt. The state after a step is its text, so that a history of all steps shows the trace.
    """
    for number, raw in _raw(path):
        try:
            record = msgspec.convert(raw, _Record)
        except msgspec.ValidationError as error:
            yield number, LogError(f"{path}:{number}: {error}")
            continue
        states = [record.prompt, *record.completions[:-1]]
        steps = tuple(
            Step(state=state, action=completion, label=float(label))
            for state, completion, label in zip(states, record.completions, record.labels, strict=True)
        )
        yield number, Trajectory(record.prompt, f"{os.path.basename(path)}:{number}", None, steps, truncated=True)


def _raw(path: str | os.PathLike[str]) -> Iterator[tuple[int, Any]]:
    if Path(path).suffix == ".parquet":
        try:
            table = pq.read_table(path)
        except pa.ArrowInvalid as error:
            raise LogError(f"{path}: not a Parquet file: {error}") from None
        yield from enumerate(table.to_pylist(), 1)
        return
    for number, line in lines(path):
        try:
            yield number, msgspec.json.decode(line)
        except msgspec.DecodeError as error:
            raise LogError(f"{path}:{number}: not JSON: {error}") from None


def _record(trajectory: Trajectory, labels: str) -> _Record | None:
    steps = trajectory.steps
    if labels == "outcome":
        if trajectory.outcome is None or trajectory.helped:
            return None
        good = [trajectory.outcome >= 0.5] * len(steps)
    else:
        known = [step.label for step in steps if step.label is not None]
        if len(known) < len(steps):
            return None
        good = [label >= 0.5 for label in known]
    texts = []
    for step, following in zip(steps, [*steps[1:], Step(state="")], strict=True):
        parts = [step.action or "", "" if following.state == step.action else following.state]
        texts.append("\n".join(part for part in parts if part))
    return _Record(steps[0].state, texts, good)
