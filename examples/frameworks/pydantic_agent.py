"""An agent of pydantic-ai with help once: ``python examples/frameworks/pydantic_agent.py FOLDER``.

It may be killed at any time; the next call goes on with the messages that were stored.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from guess import QUESTION, TASKS, read_options, reply, report, submit
from pydantic_ai import Agent
from pydantic_ai.messages import (
    ModelMessagesTypeAdapter,
    ModelResponse,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
)
from pydantic_ai.models.function import FunctionModel

from selfreg.integrations.pydantic_ai import SelfregHelp


def scripted(name: str) -> FunctionModel:
    """In the place of a real model."""

    def answer(messages: Any, info: Any) -> ModelResponse:
        last = messages[-1].parts[-1]
        said = reply(name, str(last.content) if isinstance(last, ToolReturnPart) else QUESTION)
        part = TextPart(said) if isinstance(said, str) else ToolCallPart("submit", {"number": said})
        return ModelResponse(parts=[part])

    return FunctionModel(answer)


async def run(agent: Agent, task: str, path: Path) -> str:
    """Run a task, and store its messages after each step."""
    stored = ModelMessagesTypeAdapter.validate_json(path.read_bytes()) if path.exists() else []
    last = stored[-1].parts[-1] if stored else None
    if isinstance(last, TextPart):
        return last.content
    async with agent.iter(None if stored else QUESTION, message_history=stored, conversation_id=task) as steps:
        async for _ in steps:
            path.write_bytes(steps.all_messages_json())
    return steps.result.output


async def main() -> None:
    options = read_options()
    agent = Agent(
        scripted("weak"), tools=[submit], capabilities=[SelfregHelp(options.recorder, strong=scripted("strong"))]
    )
    answers = {task: await run(agent, task, options.folder / f"{task}.json") for task in TASKS}
    report(options.recorder, answers)


if __name__ == "__main__":
    asyncio.run(main())
