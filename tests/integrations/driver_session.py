"""The shared base itself as a driver, without any framework."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

from conformance import Driver, Models

from selfreg.integrations._session import HelpStep, Session, history_of, name_step
from selfreg.runtime import Recorder


def _decide(recorder: Recorder, run: str, text: str) -> HelpStep:
    steps = history_of(text)
    return Session(recorder).decide(run, name_step(steps), steps)


def _name(step: HelpStep) -> str:
    return "strong" if step.helped else "weak"


def call(recorder: Recorder, run: str, text: str, models: Models) -> str:
    with _decide(recorder, run, text) as step:
        return models.answer(_name(step))


async def call_async(recorder: Recorder, run: str, text: str, models: Models) -> str:
    steps = history_of(text)
    async with await Session(recorder).decide_async(run, name_step(steps), steps) as step:
        return await models.answer_async(_name(step))


def stream(recorder: Recorder, run: str, text: str, models: Models) -> Iterator[str]:
    step = _decide(recorder, run, text)
    return step.stream(models.pieces(_name(step)))


def stream_async(recorder: Recorder, run: str, text: str, models: Models) -> AsyncIterator[str]:
    step = _decide(recorder, run, text)
    return step.stream_async(models.pieces_async(_name(step)))


DRIVER = Driver(call, call_async, stream, stream_async)
