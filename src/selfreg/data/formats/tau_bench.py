"""The trajectories that tau-bench publishes: one JSON list of episodes with OpenAI messages, or an episode a line."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from selfreg._util.extras import require_extra
from selfreg.data.documents import convert_value, each_record, read_values
from selfreg.data.faults import LogError
from selfreg.data.filters import matches_filter
from selfreg.data.log_format import LogFormat, ReadOptions, Record
from selfreg.data.samples import Sample, unwrap_records
from selfreg.data.trajectory import Trajectory
from selfreg.data.turns import Message, Turns, make_episode

with require_extra("logs", "selfreg.data"):
    import msgspec


class _Episode(msgspec.Struct):
    task_id: int | str
    reward: float
    traj: list[Message]
    trial: int | str = 0
    info: Any = None


def read_tau_bench(path: str, options: ReadOptions) -> Iterator[tuple[int, Record]]:
    """Episodes of a published tau-bench file, numbered from 1; `options.where` filters the records.

    A step is one message of the agent; its state is the text that came in since the message before it (from the user
    and tools). The system prompt, the same for all, is left out. Success is `abs(reward - 1) <= 1e-6`, as the benchmark
    counts it. A step that calls `transfer_to_human_agents` is a step of help by a person.
    """
    try:
        records = read_values(path)
        if len(records) == 1:  # an episode, or an object around the list
            records = unwrap_records(records[0])
        if not records:
            raise LogError("expected a JSON list of at least one episode")
    except LogError as error:
        yield 0, error
        return
    for number, record in each_record(_convert, records, options):
        raw = records[number - 1]
        try:
            if not options.where or not isinstance(raw, dict) or matches_filter(raw, options.where):
                yield number, record
        except LogError as error:
            yield number, error


def _convert(raw: Any, options: ReadOptions, number: int) -> Trajectory:
    record: _Episode = convert_value(raw, _Episode)
    outcome = float(abs(record.reward - 1) <= 1e-6)
    error = record.info.get("error") if isinstance(record.info, dict) else None
    if error and not record.traj:
        fault = LogError(f"the run failed before its first message: {str(error)[:200]}")
        fault.outcome = outcome
        raise fault
    turns = Turns()
    turns.add_messages(record.traj)
    fields = {name: value for name, value in raw.items() if name != "task_id"}
    name = f"{options.source}:{record.task_id}/{record.trial}"
    return make_episode(turns, str(record.task_id), name, outcome, fields, where="traj")


def _detect(sample: Sample) -> str | None:
    for record in sample.objects():
        if {"task_id", "traj", "reward"} <= record.keys():
            return "its episodes have task_id, reward and traj"
    return None


FORMAT = LogFormat(
    "tau_bench",
    "files as the benchmark publishes them; a transfer to a person is help",
    read_file=read_tau_bench,
    detect=_detect,
    filters_records=True,
)
