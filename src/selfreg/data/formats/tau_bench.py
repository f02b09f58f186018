"""Reader for the trajectories that tau-bench publishes: one JSON list of episodes with OpenAI messages."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from selfreg._util.extras import require_extra
from selfreg.data.formats.canonical import LogError, open_bytes
from selfreg.data.formats.mapped import keeps, kind
from selfreg.data.trajectory import Scalar, Step, Trajectory

with require_extra("logs", "selfreg.data"):
    import msgspec


def read_tau_bench(
    path: str | os.PathLike[str], where: Mapping[str, Sequence[str]]
) -> Iterator[tuple[int, Trajectory | LogError]]:
    """Episodes of a published tau-bench file, numbered from 1.

    A step is one message of the agent; its state is what came in since the message before it (user and tools). The
    system prompt, the same for all, is left out. Success is `abs(reward - 1) <= 1e-6`, as the benchmark counts it.
    These logs hold no help.
    """
    with open_bytes(path) as stream:
        try:
            records = msgspec.json.decode(stream.read())
        except (msgspec.DecodeError, OSError, EOFError) as error:
            raise LogError(f"{path}: not JSON: {error}") from None
    if not isinstance(records, list):
        raise LogError(f"{path}: expected a JSON list of episodes; got {kind(records)}")
    for number, record in enumerate(records, 1):
        try:
            if not isinstance(record, dict):
                raise LogError(f"an episode must be a JSON object; got {kind(record)}")
            if keeps(record, where):
                yield number, _trajectory(record)
        except LogError as error:
            yield number, LogError(f"{path}: episode {number}: {error}")


def _trajectory(record: Mapping[str, Any]) -> Trajectory:
    for field, types, expected in (
        ("task_id", (int, str), "an integer or a string"),
        ("reward", (int, float), "a number"),
        ("traj", (list,), "a list of messages"),
    ):
        if not isinstance(record.get(field), types) or isinstance(record.get(field), bool):
            raise LogError(f"field {field!r}: expected {expected}; got {kind(record.get(field))}")
    steps = _steps(record["traj"])
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


def _steps(messages: Sequence[Any]) -> list[Step]:
    steps: list[Step] = []
    seen: list[str] = []
    for index, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise LogError(f"field 'traj[{index}].role': expected a string")
        content = message.get("content") or ""
        if not isinstance(content, str):
            raise LogError(f"field 'traj[{index}].content': expected a string or null; got {kind(content)}")
        if message["role"] == "assistant":
            steps.append(Step(state="\n".join(seen), action=content + _calls(message, index)))
            seen = []
        elif message["role"] == "tool":
            seen.append(f"{message.get('name', 'tool')} returned: {content}")
        elif message["role"] != "system":
            seen.append(content)
    return steps


def _calls(message: Mapping[str, Any], index: int) -> str:
    try:
        calls = [call["function"] for call in message.get("tool_calls") or []]
        return " ".join(f"{call['name']}({call['arguments']})" for call in calls)
    except (TypeError, KeyError) as error:
        raise LogError(f"field 'traj[{index}].tool_calls': expected OpenAI tool calls ({error!r})") from None
