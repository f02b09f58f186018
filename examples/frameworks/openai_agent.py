"""An agent of the OpenAI Agents SDK with help once: ``python examples/frameworks/openai_agent.py FOLDER``.

It may be killed at any time; the next call goes on with the items that the session holds.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Any

from agents import Agent, ModelResponse, RunConfig, Runner, SQLiteSession, Usage, function_tool
from agents.models.interface import Model
from guess import QUESTION, TASKS, read_options, reply, report, submit
from openai.types.responses import ResponseFunctionToolCall, ResponseOutputMessage, ResponseOutputText

from selfreg.integrations.openai_agents import HelpModel


class Scripted(Model):
    """In the place of a real model."""

    def __init__(self, name: str) -> None:
        self.name = name

    async def get_response(self, system_instructions: Any, input: Any, *rest: Any, **options: Any) -> ModelResponse:
        items = [{"content": input}] if isinstance(input, str) else input
        said = reply(self.name, str(items[-1].get("output") or items[-1].get("content")))
        if isinstance(said, int):
            call = {"name": "submit", "arguments": f'{{"number": {said}}}', "call_id": uuid.uuid4().hex}
            return ModelResponse([ResponseFunctionToolCall(type="function_call", **call)], Usage(), None)
        text = ResponseOutputText(text=said, type="output_text", annotations=[])
        message = ResponseOutputMessage(id="m", content=[text], role="assistant", status="completed", type="message")
        return ModelResponse([message], Usage(), None)

    def stream_response(self, *arguments: Any, **options: Any) -> AsyncIterator[Any]:
        raise NotImplementedError("this example does not stream")


async def main() -> None:
    options = read_options()
    answers = {}
    for task in TASKS:
        model = HelpModel(Scripted("weak"), Scripted("strong"), options.recorder, run=task)
        agent = Agent("guesser", model=model, tools=[function_tool(submit)])
        session = SQLiteSession(task, options.folder / "sessions.sqlite")
        stored = await session.get_items()
        if not stored or stored[-1].get("role") != "assistant":
            items: Any = [] if stored else QUESTION
            result = await Runner.run(agent, items, session=session, run_config=RunConfig(tracing_disabled=True))
            answers[task] = result.final_output
        else:
            answers[task] = stored[-1]["content"][0]["text"]
    report(options.recorder, answers)


if __name__ == "__main__":
    asyncio.run(main())
