"""An agent of Microsoft Agent Framework with help once: ``python examples/frameworks/microsoft_agent.py FOLDER``.

It may be killed at any time; the next call starts the agent again, and finds the decisions that were made.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from agent_framework import (
    Agent,
    AgentSession,
    BaseChatClient,
    ChatMiddlewareLayer,
    ChatResponse,
    Content,
    FunctionInvocationLayer,
    Message,
    tool,
)
from guess import QUESTION, TASKS, read_options, reply, report, submit

from selfreg.integrations.agent_framework import SelfregMiddleware


class Scripted(FunctionInvocationLayer, ChatMiddlewareLayer, BaseChatClient):
    """In the place of a real client."""

    async def _inner_get_response(
        self, *, messages: Sequence[Message], stream: bool, options: Mapping[str, Any], **rest: Any
    ) -> ChatResponse:
        last = messages[-1].contents[-1]
        seen = str(last.result) if last.type == "function_result" else str(last.text)
        said = reply(options.get("model", "weak"), seen)
        if isinstance(said, str):
            return ChatResponse(messages=[Message("assistant", [said])])
        call = Content.from_function_call(f"call {len(messages)}", "submit", arguments={"number": said})
        return ChatResponse(messages=[Message("assistant", [call])])


async def main() -> None:
    options = read_options()
    agent = Agent(
        Scripted(),
        tools=[tool(submit, approval_mode="never_require")],
        middleware=[SelfregMiddleware(options.recorder, strong="strong")],
    )
    answers = {}
    for task in TASKS:
        answer = await agent.run(QUESTION, session=AgentSession(session_id=task))
        answers[task] = answer.text
    report(options.recorder, answers)


if __name__ == "__main__":
    asyncio.run(main())
