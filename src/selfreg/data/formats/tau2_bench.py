"""Results of tau2-bench: one JSON document with all simulations of a run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from selfreg._util.extras import require_extra
from selfreg.data.documents import convert_value, each_record, read_values
from selfreg.data.faults import LogError
from selfreg.data.log_format import LogFormat, ReadOptions, Record
from selfreg.data.samples import Sample
from selfreg.data.trajectory import Trajectory
from selfreg.data.turns import Message, Turns, make_episode

with require_extra("logs", "selfreg.data"):
    import msgspec

INFRASTRUCTURE = "infrastructure_error"  # the run failed, and not the agent


class _Reward(msgspec.Struct):
    reward: float | None = None


class _Turn(Message):
    tool_messages: list[Message] | None = None


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
    simulations: list[Any]
    info: _Info = _Info()


def _read(path: str, options: ReadOptions) -> Iterator[tuple[int, Record]]:
    try:
        values = read_values(path)
        are_alone = bool(values) and all(isinstance(one, dict) and "task_id" in one for one in values)
        run: _Run = _Run(values) if are_alone else convert_value(values[0] if len(values) == 1 else values, _Run)
        if not run.simulations:
            raise LogError("field 'simulations': expected at least one simulation; got an empty list")
    except LogError as error:
        yield 0, error
        return

    def convert(raw: Any, options: ReadOptions, number: int) -> Trajectory:
        return _convert(convert_value(raw, _Simulation), run.info, options)

    yield from each_record(convert, run.simulations, options)


def _convert(simulation: _Simulation, info: _Info, options: ReadOptions) -> Trajectory:
    turns = Turns()
    turns.add_messages([message for turn in simulation.messages for message in _agent_side(turn)])
    reason = simulation.termination_reason
    reward = simulation.reward_info.reward if simulation.reward_info else None
    # As the benchmark counts successes.
    outcome = None if reward is None or reason == INFRASTRUCTURE else float(abs(reward - 1) <= 1e-6)
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
    if turn.tool_messages is not None:
        return [message for message in turn.tool_messages if message.requestor != "user"]
    return [] if turn.role == "tool" and turn.requestor == "user" else [turn]


def _detect(sample: Sample) -> str | None:
    for record in sample.objects()[:1]:
        if (sample.kind == "document" and "simulations" in record) or {"info", "tasks"} <= record.keys():
            return "it has simulations with tasks and info"
        if {"task_id", "messages", "reward_info", "termination_reason"} <= record.keys():
            return "its records are simulations with reward_info and termination_reason"
    return None


FORMAT = LogFormat(
    "tau2_bench", "results of tau2-bench; a transfer to a person is help", read_file=_read, detect=_detect
)
