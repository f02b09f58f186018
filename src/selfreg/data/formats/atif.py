"""ATIF, the trajectories of Harbor: one JSON document an episode, versions 1.0 to 1.8.

Success is not in the file. It is read from `result.json` of the trial, where Harbor writes it: beside the trajectory or
in the folder above. Where the agent summarised its work and went on in files of their own (`NAME.cont-1.json`), all are
one episode. Trajectories of subagents, which may be in the file or beside it, are left out.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from selfreg._util.extras import require_extra
from selfreg.data.documents import convert_value, decode_json, each_file, read_values
from selfreg.data.faults import LogError, ask_choice
from selfreg.data.log_files import LogFile, plain_name
from selfreg.data.log_format import LogFormat, ReadOptions
from selfreg.data.samples import Sample
from selfreg.data.trajectory import Trajectory
from selfreg.data.turns import Content, Function, Turns, make_episode, read_content, read_success

with require_extra("logs", "selfreg.data"):
    import msgspec

# What follows the name of a trajectory in the names of files that go on with it, and of those of its summaries.
TRAJECTORY = "trajectory.json"  # name of the file in the folder of a trial
_CONTINUED = re.compile(r"(.+)\.cont-(\d+)\.json")
_SUMMARY = re.compile(r"(.+)\.summarization-\d+-.+\.json")


class _Call(msgspec.Struct):
    function_name: str
    arguments: dict[str, Any] | str | None = None


class _Result(msgspec.Struct):
    content: Content = None


class _Observation(msgspec.Struct):
    results: list[_Result] = []


class _Step(msgspec.Struct):
    source: str
    message: Content = None
    model_name: str | None = None
    tool_calls: list[_Call] | None = None
    observation: _Observation | None = None
    is_copied_context: bool | None = None


class _Agent(msgspec.Struct, frozen=True):
    name: str = ""
    version: str | None = None
    model_name: str | None = None


class _Document(msgspec.Struct):
    schema_version: str
    steps: list[_Step]
    agent: _Agent = _Agent()
    session_id: str | None = None
    trajectory_id: str | None = None


class _Verified(msgspec.Struct):
    rewards: dict[str, float] | None = None


class _Trial(msgspec.Struct):
    task_name: str | None = None
    trial_name: str | None = None
    verifier_result: _Verified | None = None


def _read(path: str, options: ReadOptions) -> Iterator[Trajectory]:
    documents = [convert_value(document, _Document) for document in read_values(path)]
    if len(documents) == 1:
        for name in _list_continued(path):
            for document in read_values(name):
                documents[0].steps += convert_value(document, _Document).steps
    for document in documents:
        yield _convert(document, _find_trial(path), options)


def _list_continued(path: str) -> list[str]:
    """Files that go on with a trajectory, in their order; they copy what they go on with, and mark it."""
    folder, start = os.path.dirname(path) or ".", os.path.basename(path).removesuffix(".json")
    found = [match for name in os.listdir(folder) if (match := _CONTINUED.fullmatch(name)) and match[1] == start]
    return [os.path.join(folder, match[0]) for match in sorted(found, key=lambda match: int(match[2]))]


def merge_continued(files: list[LogFile]) -> list[LogFile]:
    """One file for each trajectory, without those that go on with it and those of its summaries."""
    paths = {file.path for file in files}

    def is_part(path: str) -> bool:
        match = _CONTINUED.fullmatch(path) or _SUMMARY.fullmatch(path)
        return match is not None and f"{match[1]}.json" in paths

    whole = [file for file in files if not is_part(file.path)]
    continued = {file.path: _list_continued(file.path) for file in whole}
    return [file._replace(parts=(file.path, *continued[file.path])) if continued[file.path] else file for file in whole]


def _convert(document: _Document, trial: _Trial, options: ReadOptions) -> Trajectory:
    turns = Turns()
    for step in document.steps:
        if step.source == "agent" and not step.is_copied_context:
            calls = [Function(call.function_name, call.arguments) for call in step.tool_calls or ()]
            turns.act(read_content(step.message), calls, model=step.model_name or document.agent.model_name)
        elif step.source == "user":
            turns.see(read_content(step.message), by_user=True)
        for result in step.observation.results if step.observation else ():
            turns.see(read_content(result.content))
    agent = document.agent
    fields = {"agent": agent.name, "agent_version": agent.version, "model": agent.model_name}
    name = trial.trial_name or document.trajectory_id or document.session_id or plain_name(options.source)
    return make_episode(turns, trial.task_name, name, _read_reward(trial, options), fields, where="steps")


def _find_trial(path: str) -> _Trial:
    """The trial's result beside the trajectory or in the folder above; an empty one if there is none."""
    for folder in (Path(path).parent, Path(path).parent.parent):
        file = folder / "result.json"
        if file.is_file():
            try:
                trial: _Trial = decode_json(file.read_bytes(), _Trial)
            except LogError as error:
                raise error.at(f"{file.name} of the trial") from None
            return trial
    return _Trial()


def _read_reward(trial: _Trial, options: ReadOptions) -> float | None:
    rewards = (trial.verifier_result.rewards if trial.verifier_result else None) or {}
    wanted = options.roles.get("outcome")
    if wanted is not None and rewards and wanted not in rewards:
        raise LogError(
            f"result.json of the trial: reward {wanted!r} is missing (role 'outcome'); there are {', '.join(rewards)}"
        )
    if wanted is None and len(rewards) > 1 and "reward" not in rewards:
        raise ask_choice("result.json of the trial has several rewards and none named 'reward'", rewards)
    name = wanted or ("reward" if "reward" in rewards else next(iter(rewards), ""))
    return read_success(rewards.get(name), f"verifier_result.rewards.{name}", options)


def _detect(sample: Sample) -> str | None:
    for record in sample.objects()[:1]:
        version = record.get("schema_version")
        if isinstance(version, str) and version.startswith("ATIF"):
            return f"its schema_version is {version}"
    return None


def is_covered(file: LogFile) -> bool:
    """Whether a trajectory is in the folder of another file, or in one above that was looked into.

    Agents in trials of Harbor write the same runs in formats of their own.
    """
    if os.path.basename(file.path) == TRAJECTORY:
        return False
    folders = Path(file.path).parents[: file.label.count(os.sep) + 1]
    return any((folder / TRAJECTORY).is_file() for folder in folders)


FORMAT = LogFormat(
    "atif",
    "trajectories of Harbor (ATIF); success from result.json of the trial",
    read_file=each_file(_read),
    roles=("outcome",),
    detect=_detect,
    merge_files=merge_continued,
    covers=is_covered,
)
