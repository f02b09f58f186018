"""Microsoft Agent Framework: tools and sessions, models by help type, and its traces."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

pytest.importorskip("agent_framework", reason="agent_framework is missing (extra 'adapters')")

from agent_framework import AgentSession, Content, tool
from conformance import Always, Models, make_recorder
from driver_agent_framework import make_agent

from selfreg.decisions import Decision
from selfreg.integrations.agent_framework import SelfregMiddleware
from selfreg.runtime import Budget, Ledger, Recorder


@tool(approval_mode="never_require")
def add(a: int, b: int) -> str:
    """Add two numbers."""
    return str(a + b)


def call_add() -> Content:
    return Content.from_function_call("call 1", "add", arguments={"a": 2, "b": 3})


def run(agent: Any, text: str, session: Any = None) -> str:
    return asyncio.run(agent.run(text, session=session or AgentSession(session_id="run"))).text


def statuses(recorder: Any) -> list[str]:
    return [entry.status for entry in recorder.ledger.entries()]


def test_each_call_of_a_model_is_a_step() -> None:
    recorder = make_recorder(1)
    models = Models(strong=(call_add(),))
    assert run(make_agent(recorder, models, tools=[add]), "2 + 3 = ?") == "weak answered"
    assert models.calls == ["strong", "weak"]
    assert [(one.state, one.decision.action) for one in recorder.decisions()] == [
        ("2 + 3 = ?", "strong"),
        ("add returned: 5", "nohelp"),
    ]


def test_a_session_that_is_loaded_again_goes_on() -> None:
    """Its messages are the same steps; new ones decide anew."""
    recorder, session = make_recorder(1), AgentSession(session_id="run")
    agent = make_agent(recorder, Models())
    assert run(agent, "first", session) == "strong answered"
    loaded = AgentSession.from_dict(session.to_dict())
    assert run(agent, "second", loaded) == "weak answered"
    assert run(agent, "first") == "strong answered"
    assert (statuses(recorder), len(recorder.decisions())) == (["charged"], 2)


def test_without_a_session() -> None:
    recorder = make_recorder(1)
    with pytest.raises(Exception, match="no session"):
        asyncio.run(make_agent(recorder, Models()).run("question"))
    assert recorder.decisions() == []


def test_a_model_for_each_help_type() -> None:
    class ByText(Always):
        def decide(self, steps: Any, budget_left: Any) -> Decision:
            return Decision(steps[-1].state)

    recorder = Recorder(ByText(), Ledger(9), costs={"large": 1, "person": 1})
    ours = SelfregMiddleware(recorder, strong={"large": "strong"})
    agent = make_agent(recorder, Models(), middleware=[ours])
    assert run(agent, "large") == "strong answered"
    with pytest.raises(Exception, match="no model for help type 'person'; strong has large"):
        run(agent, "person")
    assert statuses(recorder) == ["charged", "refunded"]


def test_keys_of_budgets() -> None:
    recorder = Recorder(Always(), Ledger(Budget(1, scope="task")), costs={"strong": 1})
    ours = SelfregMiddleware(recorder, strong="strong", keys=lambda context: {"task": context.session.session_id[0]})
    agent = make_agent(recorder, Models(), middleware=[ours])
    answers = [run(agent, "question", AgentSession(session_id=name)) for name in ("a1", "a2", "b1")]
    assert answers == ["strong answered", "weak answered", "strong answered"]


def test_a_decision_is_a_span_of_the_framework(monkeypatch: Any) -> None:
    from contextlib import nullcontext

    from selfreg.integrations import agent_framework

    class Tracer:
        spans: list[Any] = []  # noqa: RUF012

        def start_as_current_span(self, name: str, attributes: Any) -> Any:
            self.spans.append((name, attributes["selfreg.action"], attributes["selfreg.run_id"]))
            return nullcontext()

    monkeypatch.setattr(agent_framework, "get_tracer", Tracer)
    run(make_agent(make_recorder(1), Models()), "question")
    assert Tracer.spans == [("selfreg.decision", "strong", "run")]


def test_agents_of_one_session_pay_each() -> None:
    recorder, models = make_recorder(1), Models()
    agents = [make_agent(recorder, models, instructions=text) for text in ("Check.", "Solve.")]
    assert [run(one, "hello") for one in [*agents, agents[0]]] == [
        "strong answered",
        "weak answered",
        "strong answered",
    ]
    assert statuses(recorder) == ["charged"]


def test_states_are_those_of_the_traces_of_the_framework() -> None:
    """There, bytes are a blob, and what a model thinks is no action."""
    from agent_framework import Message
    from agent_framework.observability import _to_otel_part_latest_experimental as as_traced

    from selfreg.integrations._session import history_of
    from selfreg.integrations.agent_framework import _as_part

    messages = [
        Message("user", [Content.from_text("see"), Content.from_data(b"abc" * 9, "image/png")]),
        Message("assistant", [Content.from_text_reasoning(text="hm"), call_add()]),
        Message("tool", [Content.from_function_result("call 1", result="5")]),
        Message("user", [Content.from_uri("http://127.0.0.1/a.png", media_type="image/png")]),
    ]
    ours, theirs = (
        history_of([{"role": str(m.role), "parts": [*map(part, m.contents)]} for m in messages])
        for part in (_as_part, as_traced)
    )
    assert ours == theirs
    assert [one.state for one in ours] == ["see\n[blob]", "add returned: 5\n[uri]"]
