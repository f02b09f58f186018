"""The OpenAI Agents SDK: names of runs, streams that end early, and questions that are put again."""

from __future__ import annotations

import asyncio

import pytest

pytest.importorskip("agents", reason="openai-agents is missing (extra 'adapters')")

from agents import (
    Agent,
    ModelRetryAdvice,
    ModelRetrySettings,
    ModelSettings,
    RunConfig,
    Runner,
    RunState,
    function_tool,
    retry_policies,
)
from conformance import Models, make_recorder
from driver_openai_agents import QUIET, Scripted, agent, tool_call

from selfreg.decisions import Decision
from selfreg.integrations.openai_agents import HelpModel
from selfreg.runtime import Ledger, Recorder

done: list[str] = []


class OnDelete:
    def decide(self, steps, budget_left):
        return Decision("person" if "delete(" in steps[-1].state else "nohelp")


def supervised(recorder: Recorder, *calls: str):
    script = tuple(tool_call("delete", f'{{"table": "{one}"}}', one) for one in calls)
    model = HelpModel(Scripted("weak", Models(weak=script)), Scripted("strong", Models()), recorder, run="run")

    @function_tool(needs_approval=model.needs_approval("delete"))
    def delete(table: str) -> str:
        """Delete a table."""
        done.append(table)
        return "gone"

    done.clear()
    return Agent("a", model=model, tools=[delete])


def test_a_rejected_call_is_not_executed_after_the_budget_is_spent() -> None:
    recorder = Recorder(OnDelete(), Ledger(1), costs={"person": 1})

    async def run() -> str:
        one = supervised(recorder, "users", "orders")
        result = await Runner.run(one, "clean up", run_config=QUIET)
        assert recorder.ledger.left == (0,)
        assert len(result.interruptions) == 1
        text = result.to_state().to_string()
        state = await RunState.from_string(one, text)  # as another process would
        state.reject(state.get_interruptions()[0], rejection_message="no")
        result = await Runner.run(one, state, run_config=QUIET)
        assert result.interruptions == []
        return result.final_output

    assert asyncio.run(run()) == "weak answered"
    assert done == ["orders"]  # refused: nothing is left for a second question
    assert [entry.status for entry in recorder.ledger.entries()] == ["charged"]
    assert 'clean up\ndelete({"table":"users"})' in {one.state for one in recorder.decisions()}


def test_an_approved_call_is_executed() -> None:
    recorder = Recorder(OnDelete(), Ledger(1), costs={"person": 1})

    async def run() -> str:
        one = supervised(recorder, "users")
        result = await Runner.run(one, "clean up", run_config=QUIET)
        state = result.to_state()
        state.approve(state.get_interruptions()[0])
        return (await Runner.run(one, state, run_config=QUIET)).final_output

    assert asyncio.run(run()) == "weak answered"
    assert done == ["users"]
    assert [entry.status for entry in recorder.ledger.entries()] == ["charged"]


def test_a_stream_without_a_completed_response_is_refunded() -> None:
    recorder = make_recorder(1)
    model = HelpModel(Scripted("weak", Models()), Scripted("cut", models := Models()), recorder, run="run")
    models.scripts["cut"] = []

    async def read() -> int:
        events = model.stream_response(
            None, "a", None, [], None, [], None, previous_response_id=None, conversation_id=None, prompt=None
        )
        return len([event async for event in events])

    assert asyncio.run(read()) == 2
    assert [entry.status for entry in recorder.ledger.entries()] == ["refunded"]


def test_a_run_streams_and_is_paid() -> None:
    recorder = make_recorder(1)

    async def run() -> str:
        result = Runner.run_streamed(agent(recorder, "run", Models()), "a", run_config=QUIET)
        async for _ in result.stream_events():
            pass
        return result.final_output

    assert asyncio.run(run()) == "strong answered"
    assert [entry.status for entry in recorder.ledger.entries()] == ["charged"]


def test_the_group_of_the_trace_names_the_run() -> None:
    from agents import set_trace_processors

    set_trace_processors([])  # nothing is sent
    recorder = make_recorder(1)
    one = Agent("a", model=HelpModel(Scripted("weak", Models()), Scripted("strong", Models()), recorder))
    asyncio.run(Runner.run(one, "a", run_config=RunConfig(group_id="chat 7")))
    assert recorder.decisions()[0].run_id == "chat 7"
    with pytest.raises(ValueError, match=r"no run: tracing is off and HelpModel has no run"):
        asyncio.run(Runner.run(one, "a", run_config=QUIET))


def test_new_items_only_are_steps_of_their_own() -> None:
    """With the id of the response before, equal inputs are different steps."""
    recorder = make_recorder(1)
    model = agent(recorder, "run", Models()).model
    for previous in ("r1", "r2", "r2"):
        asyncio.run(
            model.get_response(
                None, "next", None, [], None, [], None, previous_response_id=previous, conversation_id=None, prompt=None
            )
        )
    assert [one.decision.action for one in recorder.decisions()] == ["strong", "nohelp"]


def test_a_person_sees_what_the_agent_saw() -> None:
    """The context of a tool has the beginning of the run only, and not what other tools returned since."""
    recorder = Recorder(OnDelete(), Ledger(1), costs={"person": 1})

    @function_tool
    def look() -> str:
        """Look."""
        return "two tables"

    one = supervised(recorder)
    one.tools.append(look)
    one.model._weak.models.scripts["weak"] = [tool_call("look", "{}", "1"), tool_call("delete", '{"table": "a"}', "2")]
    asyncio.run(Runner.run(one, "clean up", run_config=QUIET))
    assert recorder.decisions()[-1].state == 'look returned: two tables\ndelete({"table":"a"})'


def test_agents_of_one_run_with_instructions_of_their_own_pay_each() -> None:
    """Such as a guardrail, which gets the input of the agent that it guards."""
    recorder = make_recorder(1)
    model = agent(recorder, "run", Models()).model
    answers = [
        asyncio.run(Runner.run(Agent(name, instructions=name, model=model), "hello", run_config=QUIET)).final_output
        for name in ("guard", "solve", "guard")
    ]
    assert answers == ["strong answered", "weak answered", "strong answered"]  # the third one is a replay
    assert [entry.status for entry in recorder.ledger.entries()] == ["charged"]


def test_a_run_may_be_a_number() -> None:
    recorder = make_recorder(1)
    asyncio.run(Runner.run(agent(recorder, 7, Models()), "a", run_config=QUIET))
    assert recorder.decisions()[0].run_id == 7


def test_retries_of_the_sdk_pay_for_the_one_that_answers() -> None:
    """By the policy of the SDK, which asks the model whether its error is worth another try."""

    class Advising(Scripted):
        def get_retry_advice(self, request):
            return ModelRetryAdvice(suggested=True, retry_after=0.0, replay_safety="safe")

    recorder, models = make_recorder(1), Models(strong=(RuntimeError("overloaded"),))
    model = HelpModel(Scripted("weak", models), Advising("strong", models), recorder, run="run")
    settings = ModelSettings(retry=ModelRetrySettings(max_retries=1, policy=retry_policies.provider_suggested()))
    assert asyncio.run(Runner.run(Agent("a", model=model, model_settings=settings), "q", run_config=QUIET)).final_output
    assert models.calls == ["strong", "strong"]
    assert [entry.status for entry in recorder.ledger.entries()] == ["refunded", "charged"]
