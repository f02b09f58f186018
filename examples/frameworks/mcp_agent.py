"""An agent that asks for help by MCP, once: ``python examples/frameworks/mcp_agent.py FOLDER``.

The server is a process of its own, as with ``selfreg mcp RUN``. The person at the client is scripted: it is the strong
model of the other examples. The agent may be killed at any time; the next call goes on where it was.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

import mcp_types as types
from guess import QUESTION, TASKS, read_options, reply, report, submit
from mcp import Client, StdioServerParameters, stdio_client

from selfreg.integrations.mcp import make_server
from selfreg.runtime import Desk


async def ask_person(_: Any, request: Any) -> types.ElicitResult:
    """In the place of a form."""
    return types.ElicitResult(action="accept", content={"answer": str(reply("strong", request.message))})


async def work(client: Client, task: str) -> str:
    """Asks before each step; acts on the answer, or alone."""
    seen = QUESTION
    while True:
        words = {"situation": seen, "question": "Which number shall I submit?"}
        result = await client.call_tool("ask_for_help", words, meta={"selfreg/run": task})
        helped = result.structured_content["status"] == "answered"
        said = int(result.structured_content["answer"]) if helped else reply("weak", seen)
        if isinstance(said, str):
            return said
        seen = submit(said)


async def main() -> None:
    options = read_options()
    arguments = [__file__, *sys.argv[1:], "--serve"]
    server = StdioServerParameters(command=sys.executable, args=arguments, env={**os.environ})
    async with Client(stdio_client(server), elicitation_callback=ask_person) as client:
        answers = {task: await work(client, task) for task in TASKS}
    report(options.recorder, answers)


def serve() -> None:
    """The server; `selfreg mcp RUN` does the same with a trained helper."""
    recorder = read_options().recorder
    make_server(recorder, Desk(recorder.ledger)).run()


if __name__ == "__main__":
    if sys.argv[-1] == "--serve":
        sys.argv.pop()
        serve()
    else:
        asyncio.run(main())
