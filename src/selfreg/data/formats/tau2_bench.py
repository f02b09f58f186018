"""Results of tau2-bench: one JSON document with all simulations of a run, or with a file each in a folder beside it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from selfreg._util.extras import require_extra
from selfreg.data.documents import convert_value, each_record, read_values
from selfreg.data.faults import LogError
from selfreg.data.log_files import LogFile
from selfreg.data.log_format import LogFormat, ReadOptions, Record
from selfreg.data.samples import Sample
from selfreg.data.trajectory import Trajectory
from selfreg.data.turns import Message, Turns, make_episode

with require_extra("logs", "selfreg.data"):
    import msgspec

# Reasons for the end of runs that the benchmark does not count: the run failed, and not the agent.
NOT_COUNTED = ("infrastructure_error", "context_window_exceeded")
FOLDER = "simulations"  # beside the file of the run, where it holds none itself


class _Reward(msgspec.Struct):
    reward: float | None = None


class _Result(Message):
    id: str | int | None = None  # of the call that it answers


class _Turn(_Result):
    tool_messages: list[_Result] | None = None


class _Simulation(msgspec.Struct):
    task_id: int | str
    messages: list[_Turn]
    id: str | None = None
    trial: int | None = None
    reward_info: _Reward | None = None
    termination_reason: str | None = None
    agent_cost: float | None = None
    user_cost: float | None = None
    duration: float | None = None


class _Named(msgspec.Struct, frozen=True):
    llm: str | None = None
    implementation: str | None = None
    domain_name: str | None = None


class _Info(msgspec.Struct, frozen=True):
    agent_info: _Named = _Named()
    environment_info: _Named = _Named()


class _Run(msgspec.Struct):
    simulations: list[Any] = []
    simulation_index: list[Any] | None = None
    info: _Info = _Info()


def _read(path: str, options: ReadOptions) -> Iterator[tuple[int, Record]]:
    try:
        values = read_values(path)
        are_alone = bool(values) and all(isinstance(one, dict) and "task_id" in one for one in values)
        run: _Run = _Run(values) if are_alone else convert_value(values[0] if len(values) == 1 else values, _Run)
        if run.simulation_index is not None and not run.simulations:
            run.simulations = _read_folder(path, len(run.simulation_index))
        if not run.simulations:
            raise LogError("field 'simulations': expected at least one simulation; it is missing, or an empty list")
    except LogError as error:
        yield 0, error
        return

    def convert(raw: Any, options: ReadOptions, number: int) -> Trajectory:
        return _convert(convert_value(raw, _Simulation), run.info, options)

    yield from each_record(convert, run.simulations, options)


def _read_folder(path: str, count: int) -> list[Any]:
    names = _list_folder(path)
    if len(names) != count:
        raise LogError(f"field 'simulation_index' has {count} simulations; there are {len(names)} files in {FOLDER!r}")
    return [value for name in names for value in read_values(name)]


def _list_folder(path: str) -> list[str]:
    """Files with a simulation each, beside the file of their run."""
    folder = os.path.join(os.path.dirname(path), FOLDER)
    names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    return [os.path.join(folder, name) for name in names if name.endswith(".json")]


def merge_simulations(files: list[LogFile]) -> list[LogFile]:
    """One file for each run whose simulations are in a folder beside it."""
    runs = {file.path: names for file in files if (names := _list_folder(file.path))}
    taken = {name for names in runs.values() for name in names}
    return [
        file._replace(parts=(file.path, *runs[file.path])) if file.path in runs else file
        for file in files
        if file.path not in taken
    ]


def _convert(simulation: _Simulation, info: _Info, options: ReadOptions) -> Trajectory:
    if not simulation.messages and simulation.termination_reason in NOT_COUNTED:
        raise LogError(f"the simulation failed before its first message: {simulation.termination_reason}")
    turns = Turns()
    turns.add_messages([message for turn in simulation.messages for message in _agent_side(turn)])
    reason = simulation.termination_reason
    reward = simulation.reward_info.reward if simulation.reward_info else None
    # As the benchmark counts successes.
    outcome = None if reward is None or reason in NOT_COUNTED else float(abs(reward - 1) <= 1e-6)
    fields = {
        "model": info.agent_info.llm,
        "domain": info.environment_info.domain_name,
        "trial": simulation.trial,
        "reward": reward,
        "termination_reason": reason,
        "agent_cost": simulation.agent_cost,
    }
    name = f"{options.source}:{simulation.task_id}/{simulation.trial or 0}"
    domain = info.environment_info.domain_name
    task = f"{domain}/{simulation.task_id}" if domain else str(simulation.task_id)
    return make_episode(turns, task, name, outcome, fields)


def _agent_side(turn: _Turn) -> list[Message]:
    """What the agent sees of a message: results of the user's own tools go to the user."""
    some: list[_Result] = [turn] if turn.tool_messages is None else [*turn.tool_messages]
    seen = [one for one in some if one.requestor != "user" or one.role != "tool"]
    return [msgspec.structs.replace(one, tool_call_id=one.tool_call_id or one.id) for one in seen]


def _detect(sample: Sample) -> str | None:
    for record in sample.objects()[:1]:
        if (sample.kind == "document" and "simulations" in record) or {"info", "tasks"} <= record.keys():
            return "it has simulations with tasks and info"
        if {"task_id", "messages", "reward_info", "termination_reason"} <= record.keys():
            return "its records are simulations with reward_info and termination_reason"
    return None


FORMAT = LogFormat(
    "tau2_bench",
    "results of tau2-bench; a transfer to a person is help",
    read_file=_read,
    detect=_detect,
    merge_files=merge_simulations,
)
