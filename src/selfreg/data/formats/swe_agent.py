"""Trajectories of SWE-agent (.traj): one JSON document an episode. They have no outcome: "submitted" is no success.

The observation of a record is what followed its action, so the state of a step is the observation of the record before
it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from selfreg._util.extras import require_extra
from selfreg.data.documents import each_file, read_document
from selfreg.data.faults import LogError
from selfreg.data.log_files import plain_name
from selfreg.data.log_format import LogFormat, ReadOptions
from selfreg.data.samples import Sample
from selfreg.data.trajectory import Trajectory
from selfreg.data.turns import Content, Turns, make_episode, read_content

with require_extra("logs", "selfreg.data"):
    import msgspec


class _Message(msgspec.Struct):
    role: str
    content: Content = None
    is_demo: bool | None = None


class _Record(msgspec.Struct):
    action: str
    observation: Content
    thought: str | None = None
    query: list[_Message] | None = None
    messages: list[_Message] | None = None  # the same in version 1.0

    @property
    def conversation(self) -> list[_Message]:
        return self.query or self.messages or []


class _Stats(msgspec.Struct, frozen=True):
    instance_cost: float | None = None
    api_calls: int | None = None


class _Info(msgspec.Struct, frozen=True):
    exit_status: str | None = None
    model_stats: _Stats = _Stats()


class _Document(msgspec.Struct):
    trajectory: list[_Record]
    history: list[_Message] = []
    info: _Info = _Info()
    environment: str | None = None
    replay_config: Any = None


def _read(path: str, options: ReadOptions) -> Iterator[Trajectory]:
    document: _Document = read_document(path, _Document)
    turns = Turns()
    # Newer versions may keep the conversation with each record only.
    for message in document.history or (document.trajectory[0].conversation if document.trajectory else ()):
        if message.role == "assistant" and not message.is_demo:
            break
        if message.role != "system" and not message.is_demo:
            turns.see(read_content(message.content), by_user=True)
    for record in document.trajectory:
        thought = (record.thought or "").strip()
        turns.act("\n".join(part for part in (thought, record.action.strip()) if part), model=_model(document))
        turns.see(read_content(record.observation))
    if not turns.steps:
        raise LogError("field 'trajectory': expected at least one record")
    stats = document.info.model_stats
    fields = {"exit_status": document.info.exit_status, "instance_cost": stats.instance_cost, "model": _model(document)}
    # The name of the file is the id of the instance, in all versions.
    name = plain_name(options.source)
    yield make_episode(turns, os.path.basename(name), name, None, fields, where="trajectory")


def _model(document: _Document) -> str | None:
    config: Any = document.replay_config
    for part in ("agent", "model", "name"):
        config = config.get(part) if isinstance(config, dict) else None
    return config if isinstance(config, str) else None


def _detect(sample: Sample) -> str | None:
    for record in sample.objects()[:1]:
        steps = record.get("trajectory")
        recorded = isinstance(steps, list) and (not steps or (isinstance(steps[0], dict) and "observation" in steps[0]))
        if recorded and ("history" in record or "info" in record or sample.path.endswith(".traj")):
            return "it has a trajectory of actions and observations with a history"
    return None


FORMAT = LogFormat(
    "swe_agent", "trajectories of SWE-agent; no outcomes in them", read_file=each_file(_read), detect=_detect
)
