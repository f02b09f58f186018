"""The OpenAI Agents SDK as a driver: a run has a name, and a step is its input."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from agents import Agent, ModelResponse, RunConfig, Runner, Usage
from agents.models.interface import Model
from conformance import Driver, Models
from openai.types.responses import (
    Response,
    ResponseCompletedEvent,
    ResponseFunctionToolCall,
    ResponseOutputMessage,
    ResponseOutputText,
    ResponseTextDeltaEvent,
)

from selfreg.integrations.openai_agents import HelpModel
from selfreg.runtime import Recorder

QUIET = RunConfig(tracing_disabled=True)


def message(text: str) -> ResponseOutputMessage:
    content = ResponseOutputText(text=text, type="output_text", annotations=[])
    return ResponseOutputMessage(id="m", content=[content], role="assistant", status="completed", type="message")


def tool_call(name: str, arguments: str, call_id: str) -> ResponseFunctionToolCall:
    return ResponseFunctionToolCall(name=name, arguments=arguments, call_id=call_id, type="function_call")


class Scripted(Model):
    """A model that answers by the script of `Models`: text, or an item."""

    def __init__(self, name: str, models: Models) -> None:
        self.name, self.models = name, models

    async def get_response(self, *arguments: Any, **options: Any) -> ModelResponse:
        said = await self.models.answer_async(self.name)
        return ModelResponse(output=[message(said) if isinstance(said, str) else said], usage=Usage(), response_id=None)

    async def stream_response(self, *arguments: Any, **options: Any) -> AsyncIterator[Any]:
        text = ""
        async for piece in self.models.pieces_async(self.name):
            text += piece
            yield ResponseTextDeltaEvent(
                content_index=0, delta=piece, item_id="m", logprobs=[], output_index=0, sequence_number=0,
                type="response.output_text.delta",
            )  # fmt: skip
        if self.name == "cut":
            return
        response = Response(
            id="r", created_at=0, model=self.name, object="response", output=[message(text)],
            parallel_tool_calls=False, tool_choice="auto", tools=[],
        )  # fmt: skip
        yield ResponseCompletedEvent(response=response, sequence_number=1, type="response.completed")


def agent(recorder: Recorder, run: str, models: Models) -> Agent:
    return Agent("a", model=HelpModel(Scripted("weak", models), Scripted("strong", models), recorder, run=run))


async def call_async(recorder: Recorder, run: str, text: str, models: Models) -> str:
    return (await Runner.run(agent(recorder, run, models), text, run_config=QUIET)).final_output


def call(*arguments: Any) -> str:
    return asyncio.run(call_async(*arguments))


async def stream_async(recorder: Recorder, run: str, text: str, models: Models) -> AsyncIterator[str]:
    model = agent(recorder, run, models).model
    events = model.stream_response(
        None, text, None, [], None, [], None, previous_response_id=None, conversation_id=None, prompt=None
    )
    try:
        async for event in events:
            if event.type == "response.output_text.delta":
                yield event.delta
    finally:
        await events.aclose()


DRIVER = Driver(call, call_async, None, stream_async)
