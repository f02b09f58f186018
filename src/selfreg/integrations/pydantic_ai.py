"""pydantic-ai: a capability that selects the stronger model, and deferred approval of calls of tools.

``Agent(weak, capabilities=[SelfregHelp(recorder, strong=...)])``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from selfreg._util.extras import require_extra
from selfreg.data import Step
from selfreg.data.turns import Function, format_call
from selfreg.integrations._session import Event, HelpStep, Session, history_of, name_step, select_model
from selfreg.integrations._versions import check_version
from selfreg.runtime.ledger.budgets import Keys
from selfreg.runtime.recorder import Recorder

check_version("pydantic-ai-slim", "2.68", "3", "pydantic-ai")
with require_extra("pydantic-ai", "selfreg.integrations.pydantic_ai"):
    from pydantic_ai import ApprovalRequired, RunContext
    from pydantic_ai.capabilities import AbstractCapability
    from pydantic_ai.messages import (
        ModelMessage,
        ModelResponse,
        RetryPromptPart,
        SystemPromptPart,
        ToolCallPart,
        ToolReturnPart,
    )
    from pydantic_ai.models import infer_model
    from pydantic_ai.models.instrumented import InstrumentationSettings
    from pydantic_ai.models.wrapper import WrapperModel


class _Watched(WrapperModel):  # type: ignore[misc]
    """Notes pieces of an answer and their errors: a reader who leaves and an error both cancel the request."""

    def __init__(self, wrapped: Any, step: HelpStep) -> None:
        super().__init__(wrapped)
        self._step = step

    @asynccontextmanager
    async def request_stream(self, *arguments: Any, **options: Any) -> AsyncIterator[Any]:
        async with self.wrapped.request_stream(*arguments, **options) as response:
            events = response._get_event_iterator
            response._get_event_iterator = lambda: self._watch(events())
            yield response

    async def _watch(self, events: AsyncIterator[Any]) -> AsyncIterator[Any]:
        try:
            async for event in events:
                self._step.see()
                yield event
        except Exception:
            self._step.see(failed=True)
            raise


class SelfregHelp(AbstractCapability):  # type: ignore[misc]
    """Answers the steps for which the recorder requests help with a stronger model.

    The run is the conversation: a history that is passed on keeps it, and ``agent.run(..., conversation_id=...)`` names
    it. A step is known by its messages: the framework counts the steps of a resumed run from 1 again.

    Parameters
    ----------
    recorder : Recorder
    strong : Model, its name, or mapping of help type to either
        Who helps. One model answers whatever help type is requested.
    keys : callable, optional
        From the `RunContext` to the scopes of the ledger's budgets, such as ``{"task": ...}``.
    trace : callable, optional
        Called as ``trace(step, event)``; see `selfreg.integrations._session.Session`. A decision is a span named
        "selfreg.decision" of the run's own tracer anyway.

    Examples
    --------
    >>> import asyncio
    >>> from pydantic_ai import Agent
    >>> from pydantic_ai.models.test import TestModel
    >>> from selfreg import Ledger
    >>> from selfreg.decisions import Decision
    >>> from selfreg.integrations.pydantic_ai import SelfregHelp
    >>> from selfreg.runtime import Recorder
    >>> class Always:
    ...     def decide(self, steps, budget_left):
    ...         return Decision("strong")
    >>> recorder = Recorder(Always(), Ledger(1), costs={"strong": 1})
    >>> weak, strong = TestModel(custom_output_text="5"), TestModel(custom_output_text="4")
    >>> agent = Agent(weak, capabilities=[SelfregHelp(recorder, strong=strong)])
    >>> [asyncio.run(agent.run("2 + 2 = ?")).output for _ in range(2)]
    ['4', '5']
    """

    def __init__(
        self,
        recorder: Recorder,
        *,
        strong: Any,
        keys: Callable[[Any], Keys] | None = None,
        trace: Callable[[HelpStep, Event], Any] | None = None,
    ) -> None:
        self._session, self._keys = Session(recorder, trace=trace), keys
        by_type = isinstance(strong, Mapping)
        self._strong = {help: infer_model(model) for help, model in strong.items()} if by_type else infer_model(strong)

    # ---- a stronger model

    async def wrap_model_request(self, ctx: RunContext[Any], *, request_context: Any, handler: Any) -> Any:
        """Send the request to the stronger model where help is requested; all attempts at it are one step."""
        messages = request_context.messages
        self._settle_answers(ctx, messages)
        steps = _history(messages)
        keys = self._keys(ctx) if self._keys else None
        key = name_step(steps, len(messages), *_prompts(messages))
        step = await self._session.decide_async(_run_id(ctx), key, steps, keys=keys)
        with ctx.tracer.start_as_current_span("selfreg.decision", attributes=step.attributes()):
            pass
        async with step:
            if step.helped:
                model = _Watched(select_model(self._strong, step.action), step)
                request_context = replace(request_context, model=model, model_settings=_settings(request_context))
            return await handler(request_context)

    # ---- a person

    def require_approval(self, ctx: RunContext[Any]) -> None:
        """Raise `ApprovalRequired` where a person must see a call: the first line of the tool.

        The policy sees the state in which the tool was called, and the call. The person is paid when the tool runs, or
        when the model is told that it must not.
        """
        if ctx.tool_call_approved:
            self._settle_call(ctx, ctx.messages, str(ctx.tool_call_id))
            return
        last = max(i for i, one in enumerate(ctx.messages) if isinstance(one, ModelResponse))
        call = next(one for one in ctx.messages[last].parts if _is_call(one, ctx.tool_call_id))
        proposal = format_call(Function(call.tool_name, call.args_as_dict()))
        steps = _history(ctx.messages[: last + 1], proposal)
        keys = self._keys(ctx) if self._keys else None
        key = _call_key(ctx.messages, str(ctx.tool_call_id))
        step = self._session.decide_question(_run_id(ctx), key, steps, keys=keys)
        if step.helped:
            raise ApprovalRequired(metadata=step.attributes())

    def _settle_answers(self, ctx: RunContext[Any], messages: list[ModelMessage]) -> None:
        for part in messages[-1].parts if messages else ():
            if isinstance(part, ToolReturnPart | RetryPromptPart) and part.tool_call_id:
                self._settle_call(ctx, messages, part.tool_call_id)

    def _settle_call(self, ctx: RunContext[Any], messages: list[ModelMessage], call: str) -> None:
        step = self._session.find_step(_run_id(ctx), _call_key(messages, call))
        if step is not None and step.helped and step.status != "charged":
            step.settle()


def _is_call(part: Any, call: str | None) -> bool:
    return isinstance(part, ToolCallPart) and part.tool_call_id == call


def _settings(request_context: Any) -> Any:
    """Those of the agent and the run: the weak model's own are not for another one, which adds its own."""
    own, settings = request_context.model.settings or {}, request_context.model_settings or {}
    return {name: value for name, value in settings.items() if name not in own or own[name] != value} or None


def _call_key(messages: list[ModelMessage], call: str) -> str:
    """Some servers number the calls of each answer anew, so that their ids repeat."""
    times = sum(_is_call(part, call) for one in messages for part in one.parts)
    return call if times <= 1 else f"{call} {times}"


def _prompts(messages: list[ModelMessage]) -> list[Any]:
    """Of the agent at hand: several may have one conversation."""
    parts = [part.content for one in messages for part in one.parts if isinstance(part, SystemPromptPart)]
    return [*parts, getattr(messages[-1], "instructions", None) if messages else None]


def _run_id(ctx: RunContext[Any]) -> str:
    return str(ctx.conversation_id or ctx.run_id)


def _history(messages: list[ModelMessage], proposal: str | None = None) -> list[Step]:
    """By the framework's own form of traces, which our reader of spans knows."""
    return history_of(list(InstrumentationSettings().messages_to_otel_messages(messages)), proposal)
