"""Trajectories of SWE-agent (.traj): one JSON document an episode. They have no outcome: "submitted" is no success.

The observation of a record is what followed its action, so the state of a step is the observation of the record before
it. Of an agent that tried several times, the attempt that was chosen is the episode; before one is chosen, each is.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any

from selfreg._util.extras import require_extra
from selfreg.data.documents import convert_value, decode_json, each_file, read_document
from selfreg.data.faults import LogError
from selfreg.data.log_files import LogFile, plain_name
from selfreg.data.log_format import LogFormat, ReadOptions
from selfreg.data.samples import Sample
from selfreg.data.trajectory import Trajectory
from selfreg.data.turns import Content, Turns, make_episode, read_content

with require_extra("logs", "selfreg.data"):
    import msgspec

_ATTEMPT = re.compile(r"attempt_\d+")  # a folder, of one attempt of several


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
    best_attempt_idx: int | None = None


class _Document(msgspec.Struct):
    trajectory: list[_Record]
    history: list[_Message] = []
    info: _Info = _Info()
    environment: str | None = None
    replay_config: Any = None
    attempts: list[Any] | None = None


class _Attempts(msgspec.Struct):
    """What is written before an attempt is chosen."""

    attempts: list[_Document]


def _read(path: str, options: ReadOptions) -> Iterator[Trajectory]:
    raw: Any = read_document(path)
    name = plain_name(options.source)
    if isinstance(raw, dict) and "trajectory" not in raw and "attempts" in raw:
        unfinished: _Attempts = convert_value(raw, _Attempts)
        for number, attempt in enumerate(unfinished.attempts):
            yield _convert(attempt, name, f"{name}/attempt_{number}")
        return
    yield _convert(convert_value(raw, _Document), name, name)


def _convert(document: _Document, name: str, episode: str) -> Trajectory:
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
    fields: dict[str, Any] = {
        "exit_status": document.info.exit_status,
        "instance_cost": stats.instance_cost,
        "model": _model(document),
    }
    if document.attempts:
        fields |= {"attempts": len(document.attempts), "best_attempt": document.info.best_attempt_idx}
    # The name of the file is the id of the instance, in all versions.
    return make_episode(turns, os.path.basename(name), episode, None, fields, where="trajectory")


def _model(document: _Document) -> str | None:
    config: Any = document.replay_config
    if isinstance(config, str):  # version 1.0 writes it as the text of its JSON
        try:
            config = decode_json(config.encode("utf-8", "surrogatepass"))
        except LogError:
            return None
    agent = config.get("agent") if isinstance(config, dict) else None
    several = agent.get("agent_configs") if isinstance(agent, dict) else None
    for one in several if isinstance(several, list) else [agent]:
        model = one.get("model") if isinstance(one, dict) else None
        name = model.get("name") if isinstance(model, dict) else None
        if isinstance(name, str):
            return name
    return None


def merge_attempts(files: list[LogFile]) -> list[LogFile]:
    """Files without those of single attempts, where the file of all is there too."""
    paths = {file.path for file in files}

    def is_part(path: str) -> bool:
        folder, name = os.path.split(path)
        return (
            bool(_ATTEMPT.fullmatch(os.path.basename(folder))) and os.path.join(os.path.dirname(folder), name) in paths
        )

    return [file for file in files if not is_part(file.path)]


def _detect(sample: Sample) -> str | None:
    for record in sample.objects()[:1]:
        attempts = record.get("attempts")
        if "trajectory" not in record and isinstance(attempts, list) and attempts and isinstance(attempts[0], dict):
            record = attempts[0]
        steps = record.get("trajectory")
        recorded = isinstance(steps, list) and (not steps or (isinstance(steps[0], dict) and "observation" in steps[0]))
        if recorded and ("history" in record or "info" in record or sample.path.endswith(".traj")):
            return "it has a trajectory of actions and observations with a history"
    return None


FORMAT = LogFormat(
    "swe_agent",
    "trajectories of SWE-agent; no outcomes in them",
    read_file=each_file(_read),
    detect=_detect,
    merge_files=merge_attempts,
)
