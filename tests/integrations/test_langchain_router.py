"""LangChain's own router with a recorded decision: one model a run, paid once, also in a replay."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

pytest.importorskip("langchain", reason="langchain is missing (extra 'adapters')")

from conformance import make_recorder
from langchain.agents import create_agent
from langchain.agents.middleware import ModelChoice, ModelRouterMiddleware
from langchain_core.decisions import Choice, Noul
from langchain_core.language_models.fake_chat_models import FakeListChatModel
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.memory import InMemorySaver

from selfreg.integrations.langchain_router import SelfregRouter

pytestmark = pytest.mark.filterwarnings("ignore:.*ModelRouterMiddleware. is in beta")
LABELS = {"nohelp": "fast", "strong": "powerful"}
QUESTION = Choice(instructions="Which model?", criteria={"fast": "easy", "powerful": "hard"})


def build(recorder: Any, **options: Any) -> Any:
    models = {name: FakeListChatModel(responses=[name]) for name in LABELS.values()}
    router = ModelRouterMiddleware(
        choices={name: ModelChoice(model=model, criteria=name) for name, model in models.items()},
        instructions="Choose.",
        classifier=SelfregRouter(recorder=recorder, labels=LABELS),
    )
    return create_agent(models["fast"], middleware=[router], **options)


def thread(name: str) -> dict[str, Any]:
    return {"configurable": {"thread_id": name}}


def test_a_run_is_routed_once_and_the_next_is_refused() -> None:
    recorder = make_recorder(1)
    agent = build(recorder, checkpointer=InMemorySaver())
    answers = [agent.invoke({"messages": "a"}, thread(name))["messages"][-1].text for name in ("one", "two")]
    assert answers == ["powerful", "fast"]
    assert [(one.run_id, one.status) for one in recorder.ledger.entries()] == [("one", "charged")]


@pytest.mark.parametrize("budget", [1, 0])
def test_a_replay_finds_the_decision(budget) -> None:
    recorder = make_recorder(budget)
    agent = build(recorder, checkpointer=InMemorySaver())
    said = agent.invoke({"messages": "a"}, thread("one"))["messages"][-1].text
    recorder.ledger.raise_limit(5, reason="more help")
    start = list(agent.get_state_history(thread("one")))[-2]
    assert agent.invoke(None, start.config)["messages"][-1].text == said
    assert (recorder.ledger.left, len(recorder.decisions())) == ((5 - budget,), 1)


def test_without_a_thread_and_in_an_event_loop() -> None:
    recorder = make_recorder(1)
    agent = build(recorder)

    async def run(text: str) -> str:
        return (await agent.ainvoke({"messages": [HumanMessage(text, id=text)]}))["messages"][-1].text

    assert [asyncio.run(run(text)) for text in "aba"] == ["powerful", "fast", "powerful"]


def test_what_is_classified_may_be_text_messages_or_json() -> None:
    recorder = make_recorder(9)
    router = SelfregRouter(recorder=recorder, labels=LABELS)
    for state in ("text", HumanMessage("one"), [HumanMessage("first"), HumanMessage("second")], {"a": 1}):
        router.invoke({"state": state, "questions": {"route": QUESTION}})
    assert [one.state for one in recorder.decisions()] == ["text", "one", "first\nsecond", '{"a": 1}']


@pytest.mark.parametrize(
    ("labels", "question", "words"),
    [
        (LABELS, Noul(instructions="Hard?"), "question 'route' is a Noul; expected a Choice"),
        (LABELS, Choice(instructions="Which?", criteria={"fast": ""}), "has no label 'powerful'; it has fast"),
        ({"nohelp": "fast"}, QUESTION, "no label for action 'strong'; labels has nohelp"),
    ],
)
def test_a_question_that_cannot_be_answered_pays_nothing(labels, question, words) -> None:
    recorder = make_recorder(1)
    with pytest.raises(ValueError, match=words):
        SelfregRouter(recorder=recorder, labels=labels).invoke({"state": "a", "questions": {"route": question}})
    assert recorder.ledger.left == (1,)
