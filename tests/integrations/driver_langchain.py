"""LangChain's agents as a driver: a thread is a run, and a step executed again is a replay of its checkpoint."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

from conformance import Driver, Models
from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langgraph.checkpoint.memory import InMemorySaver

from selfreg.integrations.langchain import SelfregMiddleware
from selfreg.runtime import Recorder


class Scripted(BaseChatModel):
    """A chat model that answers by the script of `Models`."""

    name: str
    models: Any

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Any, **options: Any) -> Scripted:
        return self

    def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **options: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=AIMessage(self.models.answer(self.name)))])

    async def _agenerate(self, messages: Any, stop: Any = None, run_manager: Any = None, **options: Any) -> ChatResult:
        answer = await self.models.answer_async(self.name)
        return ChatResult(generations=[ChatGeneration(message=AIMessage(answer))])


class Streaming(Scripted):
    """The same, in pieces."""

    def _stream(self, messages: Any, stop: Any = None, run_manager: Any = None, **options: Any) -> Iterator[Any]:
        for piece in self.models.pieces(self.name):
            chunk = ChatGenerationChunk(message=AIMessageChunk(piece))
            if run_manager:
                run_manager.on_llm_new_token(piece, chunk=chunk)
            yield chunk

    async def _astream(self, messages: Any, stop: Any = None, run_manager: Any = None, **options: Any) -> Any:
        async for piece in self.models.pieces_async(self.name):
            chunk = ChatGenerationChunk(message=AIMessageChunk(piece))
            if run_manager:
                await run_manager.on_llm_new_token(piece, chunk=chunk)
            yield chunk


def _agent(recorder: Recorder, models: Models, kind: type[Scripted] = Scripted) -> Any:
    middleware = SelfregMiddleware(recorder, strong=kind(name="strong", models=models))
    return create_agent(kind(name="weak", models=models), middleware=[middleware], checkpointer=InMemorySaver())


def _input(run: str, text: str) -> tuple[dict[str, Any], dict[str, Any]]:
    # A checkpoint stores the id of a message: here it is that of its text.
    return {"messages": [HumanMessage(text, id=text)]}, {"configurable": {"thread_id": run}}


def call(recorder: Recorder, run: str, text: str, models: Models) -> str:
    return _agent(recorder, models).invoke(*_input(run, text))["messages"][-1].content


async def call_async(recorder: Recorder, run: str, text: str, models: Models) -> str:
    return (await _agent(recorder, models).ainvoke(*_input(run, text)))["messages"][-1].content


def stream(recorder: Recorder, run: str, text: str, models: Models) -> Iterator[str]:
    for chunk, _ in _agent(recorder, models, Streaming).stream(*_input(run, text), stream_mode="messages"):
        if chunk.content:
            yield chunk.content


async def stream_async(recorder: Recorder, run: str, text: str, models: Models) -> AsyncIterator[str]:
    pieces = _agent(recorder, models, Streaming).astream(*_input(run, text), stream_mode="messages")
    async for chunk, _ in pieces:
        if chunk.content:
            yield chunk.content


DRIVER = Driver(call, call_async, stream, stream_async)
