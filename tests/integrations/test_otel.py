"""Decisions as spans, with the real SDK and its exporter in memory."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

pytest.importorskip("opentelemetry.sdk", reason="opentelemetry-sdk is missing (extra 'otel')")

from conformance import make_recorder
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from selfreg.data import Step
from selfreg.decisions import Decision
from selfreg.integrations import otel
from selfreg.integrations._session import Session
from selfreg.integrations.otel import SpanTrace
from selfreg.runtime import Ledger, Recorder

SECRET = [Step("a secret of the user")]


@pytest.fixture
def traced():
    """A provider, and what it exported."""
    provider, exporter = TracerProvider(), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider, exporter.get_finished_spans


class Sure:
    """Knows all that a decision can say."""

    costs = {"strong": 1}  # noqa: RUF012

    def decide(self, steps: Any, budget_left: Any) -> Decision:
        return Decision("strong", request_probability=0.75, price=(0.5, None), reason="It is worth it.")


def test_a_decision_is_a_child_of_the_open_span(traced) -> None:
    provider, spans = traced
    session = Session(Recorder(Sure(), Ledger(1)), trace=SpanTrace(provider, models={"strong": "large"}))
    with provider.get_tracer("agent").start_as_current_span("invoke_agent") as parent:
        session.decide("run", 3, SECRET)
    decision, _ = spans()
    assert decision.parent.span_id == parent.get_span_context().span_id
    assert dict(decision.attributes) == {
        "openinference.span.kind": "DECISION",
        "gen_ai.conversation.id": "run",
        "gen_ai.request.model": "large",
        "selfreg.action": "strong",
        "selfreg.request_probability": 0.75,
        "selfreg.budget.left": (1,),
        "selfreg.price": (0.5,),
        "selfreg.run_id": "run",
        "selfreg.step_id": "3",
        "selfreg.ledger.status": "reserved",
        "selfreg.extrapolated": False,
        "selfreg.reason": "It is worth it.",
    }
    assert decision.instrumentation_scope.name == "selfreg"


@pytest.mark.parametrize("fails", [False, True])
def test_a_settlement_points_to_its_decision(traced, fails) -> None:
    provider, spans = traced
    session = Session(make_recorder(1), trace=SpanTrace(provider))
    step = session.decide("run", 0, SECRET)
    step.end(RuntimeError("overloaded") if fails else None)
    decision, settled = spans()
    status = "refunded" if fails else "charged"
    assert (settled.name, settled.attributes["selfreg.ledger.status"]) == (f"selfreg.{status}", status)
    assert [link.context.span_id for link in settled.links] == [decision.context.span_id]


def test_no_help_is_a_decision_too(traced) -> None:
    provider, spans = traced
    Session(make_recorder(0), trace=SpanTrace(provider)).decide("run", 0, SECRET).end()
    (decision,) = spans()
    assert decision.attributes["selfreg.action"] == "nohelp"
    assert "selfreg.ledger.status" not in decision.attributes


def test_off_by_default_and_without_texts(traced) -> None:
    provider, spans = traced
    with provider.get_tracer("agent").start_as_current_span("invoke_agent"):
        Session(make_recorder(1)).decide("run", 0, SECRET).end()
    assert [one.name for one in spans()] == ["invoke_agent"]
    Session(make_recorder(1), trace=SpanTrace(provider)).decide("run", 0, SECRET).end()
    assert "secret" not in "".join(one.to_json() for one in spans())


def test_in_an_event_loop_the_parent_is_that_of_the_task(traced) -> None:
    provider, spans = traced
    session = Session(make_recorder(9), trace=SpanTrace(provider))

    async def work(run: str) -> None:
        with provider.get_tracer("agent").start_as_current_span(run):
            async with await session.decide_async(run, 0, SECRET):
                await asyncio.sleep(0.01)

    async def work_all() -> None:
        await asyncio.gather(*(work(f"run {i}") for i in range(4)))

    asyncio.run(work_all())
    parents = {one.context.span_id: one.name for one in spans() if one.name.startswith("run")}
    children = [one for one in spans() if one.name.startswith("selfreg")]
    assert len(children) == 8
    assert all(parents[one.parent.span_id] == one.attributes["selfreg.run_id"] for one in children)


def test_old_decisions_are_forgotten(traced, monkeypatch) -> None:
    monkeypatch.setattr(otel, "MOST_LINKED", 2)
    provider, spans = traced
    session = Session(make_recorder(3), trace=SpanTrace(provider))
    steps = [session.decide("run", i, SECRET) for i in range(3)]
    for step in steps:
        step.end()
    assert [len(one.links) for one in spans() if one.name == "selfreg.charged"] == [0, 1, 1]
