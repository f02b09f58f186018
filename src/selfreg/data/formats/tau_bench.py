"""The trajectories that tau-bench publishes: one JSON list of episodes with OpenAI messages."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from typing import Any

from selfreg._util.extras import require_extra
from selfreg.data.filters import matches_filter
from selfreg.data.log_files import LogError, describe_kind, is_parquet, open_bytes
from selfreg.data.log_format import LogFormat, ReadOptions
from selfreg.data.messages import convert_messages
from selfreg.data.trajectory import Scalar, Trajectory

with require_extra("logs", "selfreg.data"):
    import msgspec


def read_tau_bench(path: str, options: ReadOptions) -> Iterator[tuple[int, Trajectory | LogError]]:
    """Episodes of a published tau-bench file, numbered from 1; `options.where` filters the records.

    A step is one message of the agent; its state is the text that came in since the message before it (from the user
    and tools). The system prompt, the same for all, is left out. Success is `abs(reward - 1) <= 1e-6`, as the benchmark
    counts it. These logs have no help.
    """
    if is_parquet(path):
        raise LogError(f"{path}: format 'tau_bench' does not read Parquet files")
    with open_bytes(path) as stream:
        try:
            records = msgspec.json.decode(stream.read())
        except (msgspec.DecodeError, UnicodeDecodeError, OSError, EOFError, zlib.error) as error:
            raise LogError(f"{path}: not JSON: {error}") from None
    if not isinstance(records, list):
        raise LogError(f"{path}: expected a JSON list of episodes; got {describe_kind(records)}")
    for number, record in enumerate(records, 1):
        try:
            if not isinstance(record, dict):
                raise LogError(f"expected a JSON object; got {describe_kind(record)}")
            if matches_filter(record, options.where):
                yield number, _convert_episode(record)
        except LogError as error:
            yield number, error


FORMAT = LogFormat(
    "tau_bench",
    "files as the benchmark publishes them; no help in them",
    read_file=read_tau_bench,
    filters_records=True,
)


def _convert_episode(record: Mapping[str, Any]) -> Trajectory:
    for field, types, expected in (
        ("task_id", (int, str), "an integer or a string"),
        ("reward", (int, float), "a number"),
        ("traj", (list,), "a list of messages"),
    ):
        if not isinstance(record.get(field), types) or isinstance(record.get(field), bool):
            raise LogError(f"field {field!r}: expected {expected}; got {describe_kind(record.get(field))}")
    steps, _ = convert_messages(record["traj"], "traj")
    if not steps:
        raise LogError("field 'traj': expected at least one message of the assistant")
    fields: dict[str, Scalar] = {k: v for k, v in record.items() if not isinstance(v, (dict, list)) and k != "task_id"}
    return Trajectory(
        task=str(record["task_id"]),
        episode=f"{record['task_id']}/{record.get('trial', 0)}",
        outcome=float(abs(record["reward"] - 1) <= 1e-6),
        steps=tuple(steps),
        fields=fields,
    )
