"""LangChain: what is executed again finds its decision, and what is new decides anew."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from typing import Any

import pytest

pytest.importorskip("langchain", reason="langchain is missing (extra 'adapters')")

from conformance import Always, Models, make_recorder
from driver_langchain import Scripted, Streaming
from driver_langchain import _agent as scripted
from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware, HumanInTheLoopMiddleware, ModelRetryMiddleware
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, HumanMessage, RemoveMessage, ToolMessage, message_to_dict
from langchain_core.outputs import ChatGeneration, ChatResult
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command

from selfreg.data.message_layouts import read_messages
from selfreg.data.turns import Turns
from selfreg.decisions import Decision
from selfreg.integrations.langchain import SelfregMiddleware
from selfreg.runtime import Ledger, Recorder

THREAD = {"configurable": {"thread_id": "thread"}}


class Talker(BaseChatModel):
    """Says its script in turn, then its name; an exception is raised."""

    name: str
    script: Any = ()
    calls: Any = None

    @property
    def _llm_type(self) -> str:
        return "talker"

    def bind_tools(self, tools: Any, **options: Any) -> Talker:
        return self

    def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **options: Any) -> ChatResult:
        if self.calls is None:
            self.calls = list(self.script)
        said = self.calls.pop(0) if self.calls else AIMessage(self.name)
        if isinstance(said, Exception):
            raise said
        return ChatResult(generations=[ChatGeneration(message=said.model_copy(update={"id": None}))])


def call(*ids: str, text: str = "", name: str = "delete") -> AIMessage:
    return AIMessage(text, tool_calls=[{"name": name, "args": {"table": one}, "id": one} for one in ids])


done: list[str] = []


def delete(table: str) -> str:
    """Delete a table."""
    done.append(table)
    return f"{table} is gone"


def statuses(recorder: Recorder) -> list[str]:
    return [entry.status for entry in recorder.ledger.entries()]


def texts(result: Any) -> list[str]:
    return [one.text for one in result["messages"]]


def build(recorder: Recorder, *middleware: Any, weak: tuple[Any, ...] = (), strong: tuple[Any, ...] = (), **options):
    ours = SelfregMiddleware(recorder, strong=Talker(name="strong", script=strong))
    return create_agent(
        Talker(name="weak", script=weak), middleware=[*middleware, ours], **{"checkpointer": InMemorySaver(), **options}
    )


# ---- steps of the model


def test_a_retry_inside_of_the_node_is_paid_anew() -> None:
    """Its `node_attempt` stays 1, and its task is the same."""
    recorder = make_recorder(1)
    retry = ModelRetryMiddleware(max_retries=2, initial_delay=0.0)
    agent = build(recorder, retry, strong=(RuntimeError("overloaded"),))
    assert texts(agent.invoke({"messages": "a"}, THREAD))[-1] == "strong"
    assert statuses(recorder) == ["refunded", "charged"]


def test_a_replay_finds_its_decision_and_a_fork_decides_anew() -> None:
    recorder = make_recorder(2)
    agent = build(recorder)
    agent.invoke({"messages": "a"}, THREAD)
    before = next(one for one in agent.get_state_history(THREAD) if one.next == ("model",))
    assert texts(agent.invoke(None, before.config)) == ["a", "strong"]
    assert recorder.ledger.left == (1,)
    other = agent.update_state(before.config, {"messages": [HumanMessage("b")]})
    assert texts(agent.invoke(None, other)) == ["a", "b", "strong"]
    assert recorder.ledger.left == (0,)


def test_without_a_checkpointer_each_call_is_a_run() -> None:
    """Also where the same message object is sent twice."""
    recorder, message = make_recorder(2), HumanMessage("a", id="same")
    agent = build(recorder, checkpointer=None)
    answers = [texts(agent.invoke({"messages": [message]}))[-1] for _ in range(3)]
    assert answers == ["strong", "strong", "weak"]
    assert len({one.run_id for one in recorder.decisions()}) == 3


def test_a_thread_that_was_emptied_has_new_steps() -> None:
    recorder = make_recorder(1)
    agent = build(recorder)
    answers = []
    for _ in range(2):
        answers.append(texts(agent.invoke({"messages": "again"}, THREAD))[-1])
        messages = agent.get_state(THREAD).values["messages"]
        agent.update_state(THREAD, {"messages": [RemoveMessage(one.id) for one in messages]})
    assert answers == ["strong", "weak"]


def test_steps_that_show_the_same_messages_differ() -> None:
    """Another middleware shows the last message only."""

    class Short(AgentMiddleware):
        def wrap_model_call(self, request, handler):
            return handler(request.override(messages=request.messages[-1:]))

    recorder = make_recorder(1)
    agent = build(recorder, Short())
    answers = [texts(agent.invoke({"messages": "next"}, THREAD))[-1] for _ in range(2)]
    assert answers == ["strong", "weak"]


def test_the_state_is_that_of_the_reader_of_langsmith() -> None:
    recorder = make_recorder(9)
    agent = build(recorder, strong=(call("users"),), tools=[delete], system_prompt="Be careful.")
    messages = agent.invoke({"messages": "clean up"}, THREAD)["messages"]
    turns = Turns()
    turns.add_messages(read_messages([message_to_dict(one) for one in messages]))
    assert [one.state for one in recorder.decisions()] == [step.state for step in turns.steps]
    assert [one.state for one in recorder.decisions()] == ["clean up", "delete returned: users is gone"]


def test_a_model_for_each_help_type() -> None:
    class Types:
        def decide(self, steps, budget_left):
            return Decision(steps[-1].state)

    recorder = Recorder(Types(), Ledger(9), costs={"strong": 1, "stronger": 2, "person": 3})
    models = {"strong": Talker(name="strong"), "stronger": Talker(name="stronger")}
    agent = create_agent(Talker(name="weak"), middleware=[SelfregMiddleware(recorder, strong=models)])
    assert [texts(agent.invoke({"messages": one}))[-1] for one in models] == ["strong", "stronger"]
    with pytest.raises(ValueError, match=r"no model for help type 'person'; strong has strong, stronger"):
        agent.invoke({"messages": "person"})
    assert statuses(recorder) == ["charged", "charged", "refunded"]


def test_a_decision_is_a_run_in_the_traces() -> None:
    class Watch(BaseCallbackHandler):
        seen: list[Any] = []  # noqa: RUF012

        def on_chain_end(self, outputs: Any, **options: Any) -> None:
            if isinstance(outputs, dict) and "selfreg.action" in outputs:
                self.seen.append(outputs)

    watch = Watch()
    agent = build(make_recorder(1))
    for text in "ab":
        agent.invoke({"messages": text}, {**THREAD, "callbacks": [watch]})
    assert [one["selfreg.action"] for one in watch.seen] == ["strong", "nohelp"]
    assert watch.seen[0]["selfreg.run_id"] == "thread"


def test_keys_of_budgets_come_from_the_runtime() -> None:
    from selfreg.runtime import Budget

    recorder = Recorder(Always(), Ledger(Budget(1, scope="task")), costs={"strong": 1})
    ours = SelfregMiddleware(recorder, strong=Talker(name="strong"), keys=lambda runtime: {"task": runtime.context})
    agent = create_agent(Talker(name="weak"), middleware=[ours], context_schema=str)
    answers = [texts(agent.invoke({"messages": "a"}, context=task))[-1] for task in ("one", "one", "two")]
    assert answers == ["strong", "weak", "strong"]


# ---- questions to a person


class OnDelete:
    """A person must see calls that delete; the model answers alone."""

    def decide(self, steps, budget_left):
        return Decision("person" if "delete(" in steps[-1].state else "nohelp")


def supervised(recorder: Recorder, *script: AIMessage, mode: str = "batched"):
    ours = SelfregMiddleware(recorder, strong=Talker(name="strong"))
    allowed = {"allowed_decisions": ["approve", "reject", "respond"], "when": ours.when}
    people = HumanInTheLoopMiddleware({"delete": allowed}, interrupt_mode=mode)
    weak = Talker(name="weak", script=script)
    done.clear()
    return create_agent(weak, tools=[delete], middleware=[people, ours], checkpointer=InMemorySaver())


def answer_all(agent: Any, result: Any, mode: str, decision: dict[str, str]) -> Any:
    stops = result["__interrupt__"]
    if mode == "per_call":
        return agent.invoke(Command(resume={one.id: decision for one in stops}), THREAD)
    count = len(stops[0].value["action_requests"])
    return agent.invoke(Command(resume={"decisions": [decision] * count}), THREAD)


REJECT, APPROVE = {"type": "reject", "message": "no"}, {"type": "approve"}


@pytest.mark.parametrize("mode", ["batched", "per_call"])
def test_a_rejected_call_is_not_executed_after_the_budget_is_spent(mode) -> None:
    """The predicate runs again on resume; by what is left it would answer otherwise then."""
    recorder = Recorder(OnDelete(), Ledger(1), costs={"person": 1})
    agent = supervised(recorder, call("users"), mode=mode)
    result = agent.invoke({"messages": "clean up"}, THREAD)
    assert (statuses(recorder), recorder.ledger.left) == (["reserved"], (0,))
    result = answer_all(agent, result, mode, REJECT)
    assert "__interrupt__" not in result
    assert done == []
    assert texts(result)[-1] == "weak"
    assert statuses(recorder) == ["charged"]


@pytest.mark.parametrize("mode", ["batched", "per_call"])
def test_an_approved_call_is_executed_and_the_next_is_refused(mode) -> None:
    recorder = Recorder(OnDelete(), Ledger(1), costs={"person": 1})
    agent = supervised(recorder, call("users"), call("orders"), mode=mode)
    result = answer_all(agent, agent.invoke({"messages": "clean up"}, THREAD), mode, APPROVE)
    assert "__interrupt__" not in result  # the second call goes on alone
    assert done == ["users", "orders"]
    assert statuses(recorder) == ["charged"]


@pytest.mark.parametrize("mode", ["batched", "per_call"])
def test_calls_at_once_are_decided_one_by_one(mode) -> None:
    recorder = Recorder(OnDelete(), Ledger(2), costs={"person": 1})
    agent = supervised(recorder, call("a", "b", "c"), mode=mode)
    result = answer_all(agent, agent.invoke({"messages": "clean up"}, THREAD), mode, REJECT)
    assert len(done) == 1
    assert statuses(recorder) == ["charged", "charged"]
    assert texts(result)[-1] == "weak"


def test_calls_whose_ids_repeat_are_decided_apart() -> None:
    recorder = Recorder(OnDelete(), Ledger(1), costs={"person": 1})
    agent = supervised(recorder, call("call_0"), call("call_0"))
    result = answer_all(agent, agent.invoke({"messages": "clean up"}, THREAD), "batched", REJECT)
    assert "__interrupt__" not in result
    assert len([one for one in recorder.decisions() if "delete(" in one.state]) == 2


# ---- readers who leave


def test_a_piece_is_seen_before_its_reader_has_it() -> None:
    """All threads are busy, as under load: a reader who leaves after the first piece has got something all the same."""

    class Busy(Streaming):
        async def _astream(self, *arguments: Any, **options: Any) -> Any:
            threads.submit(busy.wait, 30)
            async for chunk in super()._astream(*arguments, **options):
                yield chunk

    threads, busy, recorder = ThreadPoolExecutor(1), threading.Event(), make_recorder(1)
    ours = SelfregMiddleware(recorder, strong=Busy(name="strong", models=Models()))
    agent = create_agent(Talker(name="weak"), middleware=[ours], checkpointer=InMemorySaver())

    async def leave() -> None:
        asyncio.get_running_loop().set_default_executor(threads)
        pieces = agent.astream({"messages": "a"}, THREAD, stream_mode="messages")
        async for _ in pieces:
            break
        await pieces.aclose()
        busy.set()

    asyncio.run(leave())
    assert statuses(recorder) == ["charged"]


def test_agents_that_see_the_same_messages_pay_each() -> None:
    """Two agents of one graph, at the same time; a step known by its messages alone was paid once and helped twice."""
    recorder, models = make_recorder(1), Models()

    def node(**options: Any) -> Any:
        ours = SelfregMiddleware(recorder, strong=Scripted(name="strong", models=models))
        return create_agent(Scripted(name="weak", models=models), middleware=[ours], **options)

    graph = StateGraph(MessagesState)
    for name in ("spanish", "french"):
        graph.add_node(name, node())
        graph.add_edge(START, name)
    both = graph.compile(checkpointer=InMemorySaver())
    config = {"configurable": {"thread_id": "t"}}
    both.invoke({"messages": [HumanMessage("hello", id="1")]}, config)
    assert sorted(models.calls) == ["strong", "weak"]
    prompts = [node(system_prompt=one, checkpointer=InMemorySaver()) for one in ("Spanish.", "French.")]
    for one in prompts:
        one.invoke({"messages": [HumanMessage("hello", id="2")]}, config)
    assert len({one.step_id for one in recorder.decisions()}) == 4


def test_a_thread_may_have_the_number_0() -> None:
    recorder = make_recorder(1)
    for _ in range(2):
        scripted(recorder, Models()).invoke({"messages": "question"}, {"configurable": {"thread_id": 0}})
    assert {one.run_id for one in recorder.decisions()} == {"0"}


def test_arguments_of_calls_may_be_anything() -> None:
    """A half of an emoji, as in an answer that was cut, and what is no JSON."""
    recorder = make_recorder(1)
    call = {"name": "say", "args": {"half": "\ud83d", "when": date(2026, 1, 1)}, "id": "1"}
    messages = [HumanMessage("q"), AIMessage("", tool_calls=[call]), ToolMessage("\ud83d", tool_call_id="1")]
    scripted(recorder, Models()).invoke({"messages": messages}, {"configurable": {"thread_id": "t"}})
    (decision,) = recorder.decisions()
    assert decision.state == "say returned: \ufffd"
