"""pydantic-ai: resumed conversations, and calls that a person must see."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

pytest.importorskip("pydantic_ai", reason="pydantic-ai is missing (extra 'adapters')")

from conformance import Models, make_recorder
from driver_pydantic_ai import agent, scripted
from pydantic_ai import Agent, BinaryContent, DeferredToolRequests, DeferredToolResults, RunContext, ToolDenied
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.messages import ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.fallback import FallbackModel
from pydantic_ai.models.function import FunctionModel
from pydantic_ai.settings import ModelSettings

from selfreg.decisions import Decision
from selfreg.integrations.pydantic_ai import SelfregHelp
from selfreg.runtime import Ledger, Recorder

done: list[str] = []


def test_a_resumed_conversation_has_new_steps() -> None:
    """The framework counts its steps from 1 again: by that count the second answer would cost nothing."""
    recorder, models = make_recorder(1), Models()
    first = asyncio.run(agent(recorder, models).run("next"))
    second = asyncio.run(agent(recorder, models).run("next", message_history=first.all_messages()))
    assert [first.output, second.output] == ["strong answered", "weak answered"]
    assert len({one.run_id for one in recorder.decisions()}) == 1


def test_all_attempts_at_a_request_are_one_step() -> None:
    """The model behind it falls back to another one; a decision for each of them would cost two."""
    recorder = make_recorder(2)
    broken = scripted("broken", models := Models())
    models.scripts["broken"] = [ModelHTTPError(503, "broken")]
    ours = SelfregHelp(recorder, strong=FallbackModel(broken, scripted("strong", models)))
    one = Agent(scripted("weak", models), capabilities=[ours])
    assert asyncio.run(one.run("question")).output == "strong answered"
    assert models.calls == ["broken", "strong"]
    assert (recorder.ledger.left, len(recorder.decisions())) == ((1,), 1)


class OnDelete:
    def decide(self, steps, budget_left):
        return Decision("person" if "delete(" in steps[-1].state else "nohelp")


def deletes(table: str, call: str) -> ToolCallPart:
    return ToolCallPart("delete", {"table": table}, tool_call_id=call)


def supervised(recorder: Recorder, *calls: Any) -> Agent[Any, Any]:
    script = tuple(deletes(one, one) if isinstance(one, str) else one for one in calls)
    ours = SelfregHelp(recorder, strong=scripted("strong", Models()))
    one = Agent(scripted("weak", Models(weak=script)), capabilities=[ours], output_type=[str, DeferredToolRequests])

    @one.tool
    def delete(ctx: RunContext, table: str) -> str:
        ours.require_approval(ctx)
        done.append(table)
        return "gone"

    done.clear()
    return one


@pytest.mark.parametrize("answer", [True, ToolDenied("no")])
def test_a_person_sees_one_call_within_the_budget(answer) -> None:
    """Resumed, the question is looked up: by what is left, a rejected call would be executed."""
    recorder = Recorder(OnDelete(), Ledger(1), costs={"person": 1})
    one = supervised(recorder, "users", "orders")
    result = asyncio.run(one.run("clean up", conversation_id="run"))
    assert [part.tool_call_id for part in result.output.approvals] == ["users"]
    assert recorder.ledger.left == (0,)
    answers = DeferredToolResults(approvals={"users": answer})
    result = asyncio.run(one.run(message_history=result.all_messages(), deferred_tool_results=answers))
    assert result.output == "weak answered"
    assert done == (["users"] if answer is True else []) + ["orders"]
    assert [entry.status for entry in recorder.ledger.entries()] == ["charged"]
    assert 'clean up\ndelete({"table":"users"})' in {one.state for one in recorder.decisions()}


def test_states_name_the_tool() -> None:
    recorder = Recorder(OnDelete(), Ledger(0), costs={"person": 1})
    asyncio.run(supervised(recorder, "users").run("clean up"))
    states = [one.state for one in recorder.decisions()]
    assert states == ["clean up", 'clean up\ndelete({"table":"users"})', "delete returned: gone"]


def test_calls_whose_ids_repeat_are_different_questions() -> None:
    """Some servers number the calls of each answer anew: the second one was asked of the person for free."""
    recorder = Recorder(OnDelete(), Ledger(1), costs={"person": 1})
    one = supervised(recorder, deletes("users", "1"), TextPart("kept"), deletes("orders", "1"))
    asked = asyncio.run(one.run("clean up", conversation_id="run"))
    answers = DeferredToolResults(approvals={"1": ToolDenied("no")})
    first = asyncio.run(one.run(message_history=asked.all_messages(), deferred_tool_results=answers))
    second = asyncio.run(one.run("and now", message_history=first.all_messages()))
    assert (first.output, second.output, done) == ("kept", "weak answered", ["orders"])
    assert [entry.status for entry in recorder.ledger.entries()] == ["charged"]


def test_agents_of_one_conversation_pay_each() -> None:
    recorder, models = make_recorder(1), Models()
    ours = SelfregHelp(recorder, strong=scripted("strong", models))
    prompts = [{"instructions": "Check."}, {"instructions": "Solve."}, {"system_prompt": "Solve."}]
    agents = [Agent(scripted("weak", models), capabilities=[ours], **prompt) for prompt in prompts]
    for one in [*agents, agents[0]]:
        asyncio.run(one.run("hello", conversation_id="chat"))
    assert models.calls == ["strong", "weak", "weak", "strong"]  # the last one is a replay


def test_what_is_no_text_is_named() -> None:
    recorder = make_recorder(1)
    asyncio.run(agent(recorder, Models()).run(["see", BinaryContent(b"abc" * 99, media_type="image/png")]))
    assert recorder.decisions()[0].state == "see\n[blob]"


def test_each_model_has_its_own_settings() -> None:
    """The strong model had those of the weak one, such as an effort that it does not know."""
    seen = []

    def model(name: str, **settings: Any) -> FunctionModel:
        def answer(messages: Any, info: Any) -> ModelResponse:
            seen.append((name, info.model_settings))
            return ModelResponse(parts=[TextPart(name)])

        return FunctionModel(answer, settings=ModelSettings(**settings))

    ours = SelfregHelp(make_recorder(1), strong=model("strong", temperature=0.9))
    one = Agent(model("weak", temperature=0.1, seed=7), capabilities=[ours], model_settings=ModelSettings(max_tokens=5))
    for _ in range(2):
        asyncio.run(one.run("question"))
    assert seen == [
        ("strong", {"temperature": 0.9, "max_tokens": 5}),
        ("weak", {"temperature": 0.1, "seed": 7, "max_tokens": 5}),
    ]
