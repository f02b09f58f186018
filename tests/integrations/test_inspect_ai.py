"""Inspect: samples that are retried pay anew, people approve, and the log comes back with the decisions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("inspect_ai", reason="inspect_ai is missing (extra 'adapters')")

from conformance import Always, Models, make_recorder
from driver_inspect_ai import Scripted  # noqa: F401  (registers the model)
from inspect_ai import Task, eval
from inspect_ai.agent import AgentState, react
from inspect_ai.approval import Approval, ApprovalPolicy, approver, auto_approver
from inspect_ai.dataset import Sample
from inspect_ai.model import ChatMessageSystem, ChatMessageUser, ModelOutput, get_model
from inspect_ai.scorer import includes
from inspect_ai.solver import solver, use_tools
from inspect_ai.tool import ToolFunction, tool

from selfreg.data import read_trajectories
from selfreg.decisions import Decision
from selfreg.integrations.inspect_ai import help_agent, help_approver, help_solver
from selfreg.runtime import Ledger, Recorder, logged_propensity


class Once:
    """Requests help where a tool has returned an error."""

    def decide(self, steps, budget_left):
        return Decision("strong" if "error" in steps[-1].state else "nohelp")


done: list[str] = []


@tool
def delete():
    async def execute(table: str) -> str:
        """Delete a table.

        Args:
            table: Its name.
        """
        done.append(table)
        return "error: locked"

    return execute


def outputs(*said: str) -> list[ModelOutput]:
    """A word is a call of `delete`; a sentence is an answer."""
    return [
        ModelOutput.from_content("scripted", one)
        if one.endswith(".")
        else ModelOutput.for_tool_call("scripted", "delete", {"table": one})
        for one in said
    ]


def mock(*said: str) -> Any:
    return get_model("scripted/weak", models=Models(weak=tuple(outputs(*said))), memoize=False)


def run(solver: Any, folder: Path, *, weak: Any, strong: Any = None, samples: int = 1, **options: Any) -> Any:
    done.clear()
    data = [Sample("clean up", target="All gone.", id=f"sample {i}") for i in range(samples)]
    roles = {} if strong is None else {"model_roles": {"helper": strong}}
    (log,) = eval(
        Task(dataset=data, solver=solver, scorer=includes()), model=weak, log_dir=str(folder), **roles, **options
    )
    return log


def test_the_log_comes_back_with_the_decisions(tmp_path) -> None:
    recorder = Recorder(Once(), Ledger(1), costs={"strong": 1}, explore=0.001, seed=1)
    solver = [use_tools(delete()), help_solver(recorder)]
    log = run(solver, tmp_path, weak=mock("users", "Pity."), strong=mock("All gone."))
    (read,) = read_trajectories(log.location)
    (stored,) = recorder.trajectories()
    assert [step.state for step in read.steps] == [step.state for step in stored.steps]
    assert [step.intervention for step in read.steps] == [step.intervention for step in stored.steps]
    assert read.steps[-1].intervention == "strong"
    assert read.outcome == 1.0
    for i in range(len(read.steps)):
        assert logged_propensity(read, i) == logged_propensity(stored, i)


def test_a_retried_sample_pays_anew(tmp_path) -> None:
    """It keeps its uuid and starts anew: without the attempt in the key its help would cost nothing."""
    recorder = make_recorder(2)
    models = Models(strong=("first", RuntimeError("crash")))
    strong = get_model("scripted/strong", models=models, memoize=False)

    log = run(_twice(recorder), tmp_path, weak=mock(), strong=strong, retry_on_error=1)
    assert log.status == "success"
    assert [entry.status for entry in recorder.ledger.entries()] == ["charged", "refunded", "charged"]
    assert recorder.ledger.left == (0,)
    assert len({one.run_id for one in recorder.decisions()}) == 2


def _twice(recorder: Recorder) -> Any:
    from inspect_ai.agent import AgentState
    from inspect_ai.model import ChatMessageUser
    from inspect_ai.solver import solver

    model = help_agent(recorder)

    @solver
    def twice():
        async def solve(state, generate):
            talk = await model(AgentState(messages=list(state.messages)), [])
            if "first" in talk.output.completion:
                await model(AgentState(messages=[*talk.messages, ChatMessageUser(content="and now?")]), [])
            return state

        return solve

    return twice()


def test_help_without_a_helper_is_an_error_and_costs_nothing(tmp_path) -> None:
    """Inspect would answer with the model of the evaluation."""
    recorder = make_recorder(1)
    log = run(help_solver(recorder), tmp_path, weak=mock("All gone."))
    assert log.status == "error"
    assert "helper" in log.error.message
    assert recorder.ledger.left == (1,)


def test_react_takes_the_agent(tmp_path) -> None:
    recorder = make_recorder(1)
    agent = react(model=help_agent(recorder), submit=False)
    log = run(agent, tmp_path, weak=mock("Never."), strong=mock("All gone."))
    assert log.samples[0].output.completion == "All gone."
    assert recorder.ledger.left == (0,)


def test_samples_at_once_share_a_budget(tmp_path) -> None:
    recorder = make_recorder(3)
    strong, weak = (get_model(f"scripted/{name}", models=Models(), memoize=False) for name in ("strong", "weak"))
    log = run(help_solver(recorder), tmp_path, weak=weak, strong=strong, samples=8, max_samples=8)
    answers = sorted(one.output.completion for one in log.samples)
    assert answers == ["strong answered"] * 3 + ["weak answered"] * 5


class OnDelete:
    def decide(self, steps, budget_left):
        return Decision("person" if "delete(" in steps[-1].state else "nohelp")


def person(decision: str, seen: list[Any]) -> Any:
    @approver
    def scripted_person():
        async def approve(message, call, view, history):
            seen.append(call.arguments["table"])
            return Approval(decision=decision)

        return approve

    return scripted_person()


@pytest.mark.parametrize("decision", ["approve", "reject"])
def test_a_person_sees_calls_within_the_budget(tmp_path, decision) -> None:
    recorder, seen = Recorder(OnDelete(), Ledger(1), costs={"person": 1}), []
    policies = [
        ApprovalPolicy(help_approver(recorder, person(decision, seen)), "delete"),
        ApprovalPolicy(auto_approver(), "*"),
    ]
    solver = [use_tools(delete()), react(tools=[delete()], submit=False)]
    log = run(solver, tmp_path, weak=mock("users", "orders", "Done."), approval=policies)
    assert log.status == "success", log.error
    assert seen == ["users"]
    assert done == (["users"] if decision == "approve" else []) + ["orders"]
    assert [entry.status for entry in recorder.ledger.entries()] == ["charged"]
    (read,) = read_trajectories(log.location)
    assert [step.intervention for step in read.steps] == ["person", None, None]
    assert recorder.decisions()[0].state == 'clean up\ndelete({"table":"users"})'


def test_outside_of_an_evaluation() -> None:
    import asyncio

    from inspect_ai.agent import AgentState

    with pytest.raises(RuntimeError, match="no sample is running"):
        asyncio.run(help_agent(Recorder(Always(), Ledger(1), costs={"strong": 1}))(AgentState(messages=[]), []))


def test_agents_of_one_sample_pay_each(tmp_path) -> None:
    """Two agents that get the same message, with prompts of their own."""
    recorder, models = make_recorder(1), Models()

    @solver
    def both():
        async def solve(state, generate):
            for prompt in ("Check.", "Solve."):
                messages = [ChatMessageSystem(content=prompt), ChatMessageUser(content="hello")]
                await help_agent(recorder)(AgentState(messages=messages), [])
            return state

        return solve

    names = {name: get_model(f"scripted/{name}", models=models, memoize=False) for name in ("weak", "strong")}
    run(both(), tmp_path, **names)
    assert models.calls == ["strong", "weak"]
    assert [entry.status for entry in recorder.ledger.entries()] == ["charged"]


def test_a_tool_that_must_be_called_is_forced_once(tmp_path) -> None:
    """As by Inspect's own `generate()`, in whose place the solver stands; the choice was lost."""
    solver = [use_tools(delete(), tool_choice=ToolFunction("delete")), help_solver(make_recorder(0))]
    log = run(solver, tmp_path, weak=mock("users", "All gone."))
    (sample,) = log.samples
    choices = [one.tool_choice for one in sample.events if one.event == "model"]
    assert choices == [ToolFunction(name="delete"), "auto"]
