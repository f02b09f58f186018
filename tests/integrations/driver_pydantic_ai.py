"""pydantic-ai as a driver: a conversation is a run, and a step is its prompt."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from conformance import Driver, Models
from pydantic_ai import Agent
from pydantic_ai.messages import ModelResponse, TextPart
from pydantic_ai.models.function import FunctionModel

from selfreg.integrations.pydantic_ai import SelfregHelp
from selfreg.runtime import Recorder


def scripted(name: str, models: Models) -> FunctionModel:
    """A model that answers by the script of `Models`: text, or a part."""

    async def answer(messages: Any, info: Any) -> ModelResponse:
        said = await models.answer_async(name)
        return ModelResponse(parts=[TextPart(said) if isinstance(said, str) else said])

    async def pieces(messages: Any, info: Any) -> AsyncIterator[str]:
        async for piece in models.pieces_async(name):
            yield piece

    return FunctionModel(answer, stream_function=pieces)


def agent(recorder: Recorder, models: Models) -> Agent:
    help_once = SelfregHelp(recorder, strong=scripted("strong", models))
    return Agent(scripted("weak", models), capabilities=[help_once])


async def call_async(recorder: Recorder, run: str, text: str, models: Models) -> str:
    return (await agent(recorder, models).run(text, conversation_id=run)).output


def call(*arguments: Any) -> str:
    return asyncio.run(call_async(*arguments))


async def stream_async(recorder: Recorder, run: str, text: str, models: Models) -> AsyncIterator[str]:
    async with agent(recorder, models).run_stream(text, conversation_id=run) as result:
        async for piece in result.stream_text(delta=True, debounce_by=None):
            yield piece


DRIVER = Driver(call, call_async, None, stream_async)
