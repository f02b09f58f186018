"""Inspect: help by the model in the role "helper", questions to a person, and decisions in the log.

``react(model=help_agent(recorder))`` with ``eval(..., model_roles={"helper": strong})``. The reader of Inspect's logs
marks helped steps and has the propensities of decisions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from selfreg._util.extras import require_extra
from selfreg.data import Step
from selfreg.data.turns import Function, format_call
from selfreg.integrations._session import Event, HelpStep, Session, history_of, name_step
from selfreg.integrations._versions import check_version
from selfreg.runtime.ledger.budgets import Keys
from selfreg.runtime.recorder import Recorder

check_version("inspect-ai", "0.3.285", "0.4", "inspect")
with require_extra("inspect", "selfreg.integrations.inspect_ai"):
    from inspect_ai._control.eval_state import stable_task_id_for_eval
    from inspect_ai.agent import Agent, AgentState, agent
    from inspect_ai.approval import Approval, Approver, approver
    from inspect_ai.log import transcript
    from inspect_ai.log._samples import sample_active
    from inspect_ai.model import ChatMessage, execute_tools, get_model
    from inspect_ai.solver import Generate, Solver, TaskState, solver
    from inspect_ai.tool import Tool, ToolCall, ToolCallView, ToolChoice, ToolFunction

HELPER = "helper"  # the role that the reader of logs knows
SOURCE = "selfreg"


@agent  # type: ignore[untyped-decorator]
def help_agent(
    recorder: Recorder,
    *,
    run: str | None = None,
    keys: Callable[[], Keys] | None = None,
    trace: Callable[[HelpStep, Event], Any] | None = None,
) -> Agent:
    """An agent that makes one call of a model: of the role "helper" where help is requested. For ``react(model=...)``.

    The run is a sample, an epoch and an attempt: a sample that is retried after an error starts anew, so that its help
    is paid anew. `inspect eval-retry` goes on with the same runs. A step is known by its messages.

    Parameters
    ----------
    recorder : Recorder
    run : str, optional
        Name of the evaluation in the ledger; Inspect's id of the task by default, which a retry keeps.
    keys : callable, optional
        Scopes of the ledger's budgets for the sample at hand.
    trace : callable, optional
        Called as ``trace(step, event)``; see `selfreg.integrations._session.Session`. The decision is in Inspect's log
        anyway.

    Examples
    --------
    >>> from inspect_ai.agent import react
    >>> from selfreg import Ledger
    >>> from selfreg.decisions import Decision
    >>> from selfreg.integrations.inspect_ai import help_agent
    >>> from selfreg.runtime import Recorder
    >>> class Always:
    ...     def decide(self, steps, budget_left):
    ...         return Decision("strong")
    >>> solver = react(model=help_agent(Recorder(Always(), Ledger(1), costs={"strong": 1})))
    """
    session = Session(recorder, trace=trace)

    async def execute(state: AgentState, tools: list[Tool], tool_choice: ToolChoice | None = None) -> AgentState:
        """One call of a model.

        Args:
            state: Conversation.
            tools: Tools of the agent.
            tool_choice: Which of them must be called.
        """
        steps = _history(state.messages)
        prompts = [one.text for one in state.messages if one.role == "system"]  # of several agents in a sample
        key = name_step(steps, len(state.messages), *prompts)
        step = await session.decide_async(_run_id(run), key, steps, keys=keys() if keys else None)
        _write_decision(step, "step")
        async with step:
            model = get_model(role=HELPER, required=True) if step.helped else get_model()
            state.output = await model.generate(state.messages, tools, tool_choice)
        state.messages.append(state.output.message)
        return state

    return execute


@solver  # type: ignore[untyped-decorator]
def help_solver(recorder: Recorder, **options: Any) -> Solver:
    """In the place of ``generate()``: calls models and tools until no tool is called; parameters as of `help_agent`."""
    model = help_agent(recorder, **options)

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        choice = state.tool_choice
        while not state.completed:
            talk = await model(AgentState(messages=list(state.messages)), state.tools, choice)
            state.messages, state.output = talk.messages, talk.output
            if not talk.output.message.tool_calls:
                break
            messages, output = await execute_tools(state.messages, state.tools)
            state.messages = [*state.messages, *messages]
            state.output = output or state.output
            choice = "auto" if isinstance(choice, ToolFunction) else choice  # forced once, as by generate()
        return state

    return solve


@approver  # type: ignore[untyped-decorator]
def help_approver(
    recorder: Recorder,
    person: Approver,
    *,
    run: str | None = None,
    keys: Callable[[], Keys] | None = None,
    trace: Callable[[HelpStep, Event], Any] | None = None,
) -> Approver:
    """Approves calls of tools, but for those that a person must see: then `person` decides, such as `human_approver()`.

    The state is that in which the tool was called, and the call. Help is paid when the person has answered. Use it as
    ``ApprovalPolicy(help_approver(recorder, human_approver()), "*")``: a policy that matches some tools only rejects
    all others; give those an `auto_approver()` for "*" after it. Other parameters as of `help_agent`.
    """
    session = Session(recorder, trace=trace)

    async def approve(message: str, call: ToolCall, view: ToolCallView, history: list[ChatMessage]) -> Approval:
        steps = _history(history, format_call(Function(call.function, call.arguments)))
        key = f"{len(history)} {call.id}"
        step = session.decide_question(_run_id(run), key, steps, keys=keys() if keys else None)
        _write_decision(step, "call")
        if not step.helped:
            return Approval(decision="approve", explanation=f"No help was requested. {step.decision.reason}".strip())
        async with step:
            return await person(message, call, view, history)

    return approve


def _run_id(run: str | None) -> str:
    """The sample at hand; every attempt at it is a run."""
    sample = sample_active()
    if sample is None:
        raise RuntimeError("no sample is running; use the adapter inside of an evaluation of Inspect")
    name = run or stable_task_id_for_eval(sample.eval_id)
    attempt = f"/attempt {sample.retries + 1}" if sample.retries else ""
    return f"{name}/{sample.task}/{sample.sample.id}/{sample.epoch}{attempt}"


def _history(messages: list[ChatMessage], proposal: str | None = None) -> list[Step]:
    return history_of([one.model_dump(exclude_none=True, mode="json") for one in messages], proposal)


def _write_decision(step: HelpStep, kind: str) -> None:
    """The decision as an event of Inspect's log, from which our reader takes it."""
    stored = step.session.recorder.find(step.run_id, step.step_id)
    data = {
        **step.attributes(),
        "selfreg.kind": kind,
        "selfreg.propensity": stored and stored.propensity,
        "selfreg.explored": stored and stored.explored,
    }
    transcript().info(data, source=SOURCE)
