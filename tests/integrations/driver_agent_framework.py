"""Microsoft Agent Framework as a driver: a session is a run, and a step is its messages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from agent_framework import (
    Agent,
    AgentSession,
    BaseChatClient,
    ChatMiddlewareLayer,
    ChatResponse,
    ChatResponseUpdate,
    Content,
    FunctionInvocationLayer,
    Message,
)
from conformance import Driver, Models

from selfreg.integrations.agent_framework import SelfregMiddleware
from selfreg.runtime import Recorder


class Scripted(FunctionInvocationLayer, ChatMiddlewareLayer, BaseChatClient):
    """A client whose models answer by the script of `Models`: text, or a content."""

    def __init__(self, models: Models) -> None:
        super().__init__()
        self.models = models

    def _inner_get_response(
        self, *, messages: Sequence[Message], stream: bool, options: Mapping[str, Any], **rest: Any
    ) -> Any:
        model = options.get("model") or "weak"
        return self._build_response_stream(self._pieces(model)) if stream else self._answer(model)

    async def _answer(self, model: str) -> ChatResponse:
        said = await self.models.answer_async(model)
        return ChatResponse(
            messages=[Message("assistant", [Content.from_text(said) if isinstance(said, str) else said])]
        )

    async def _pieces(self, model: str) -> AsyncIterator[ChatResponseUpdate]:
        async for piece in self.models.pieces_async(model):
            yield ChatResponseUpdate(role="assistant", contents=[Content.from_text(piece)])


def make_agent(recorder: Recorder, models: Models, **options: Any) -> Agent:
    middleware = options.pop("middleware", [SelfregMiddleware(recorder, strong="strong")])
    return Agent(Scripted(models), middleware=middleware, **options)


async def call_async(recorder: Recorder, run: str, text: str, models: Models) -> str:
    return (await make_agent(recorder, models).run(text, session=AgentSession(session_id=run))).text


def call(*arguments: Any) -> str:
    return asyncio.run(call_async(*arguments))


async def stream_async(recorder: Recorder, run: str, text: str, models: Models) -> AsyncIterator[str]:
    agent = make_agent(recorder, models)
    async for update in agent.run(text, session=AgentSession(session_id=run), stream=True):
        if update.text:
            yield update.text


DRIVER = Driver(call, call_async, None, stream_async)
