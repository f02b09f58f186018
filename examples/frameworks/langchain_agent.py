"""An agent of LangChain with help once: ``python examples/frameworks/langchain_agent.py FOLDER``.

It may be killed at any time; the next call goes on where it was.
"""

from __future__ import annotations

import uuid
from typing import Any

from guess import QUESTION, TASKS, read_options, reply, report, submit
from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langgraph.checkpoint.sqlite import SqliteSaver

from selfreg.integrations.langchain import SelfregMiddleware


class Scripted(BaseChatModel):
    """In the place of a real chat model."""

    name: str

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Any, **options: Any) -> Scripted:
        return self

    def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **options: Any) -> ChatResult:
        said = reply(self.name, messages[-1].text)
        call = {"name": "submit", "args": {"number": said}, "id": uuid.uuid4().hex}
        message = AIMessage(said) if isinstance(said, str) else AIMessage("", tool_calls=[call])
        return ChatResult(generations=[ChatGeneration(message=message)])


def main() -> None:
    options = read_options()
    help_once = SelfregMiddleware(options.recorder, strong=Scripted(name="strong"))
    answers = {}
    with SqliteSaver.from_conn_string(str(options.folder / "agent.sqlite")) as saver:
        agent = create_agent(Scripted(name="weak"), tools=[submit], middleware=[help_once], checkpointer=saver)
        for task in TASKS:
            thread = {"configurable": {"thread_id": task}}
            started = agent.get_state(thread).values
            result = agent.invoke(None if started else {"messages": QUESTION}, thread)
            answers[task] = result["messages"][-1].text
    report(options.recorder, answers)


if __name__ == "__main__":
    main()
