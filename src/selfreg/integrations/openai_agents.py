"""OpenAI Agents SDK: a model that is two models, and questions to a person about calls of tools.

``Agent(model=HelpModel(weak, strong, recorder, run="ticket 7"))``.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from selfreg._util.extras import require_extra
from selfreg.data import Step
from selfreg.data.formats.codex import ResponseItems
from selfreg.data.turns import Function, format_call
from selfreg.integrations._session import Event, HelpStep, Session, history_of_turns, name_step
from selfreg.integrations._versions import check_version
from selfreg.runtime.ledger.budgets import Keys
from selfreg.runtime.recorder import Recorder

check_version("openai-agents", "0.24", "0.25", "openai-agents")
with require_extra("openai-agents", "selfreg.integrations.openai_agents"):
    from agents import RunContextWrapper, custom_span, get_current_trace
    from agents.models.interface import Model

ENDS = ("response.completed", "response.incomplete")
MOST_CALLS = 1000  # of tools, whose state is known


class HelpModel(Model):  # type: ignore[misc]
    """Answers with the stronger model where the recorder requests help.

    A step is known by the items of its input and the instructions. With `previous_response_id` or a stored conversation
    the input has the new items only, and the policy sees no more.

    Parameters
    ----------
    weak, strong : Model
        Of the SDK, such as ``OpenAIResponsesModel(...)``.
    recorder : Recorder
    run : str, int or callable, optional
        Name of the run, or what returns it: a model is not told which run it serves. By default the group of the
        current trace, else the trace, which is a new one after a crash.
    keys : mapping, optional
        Scopes of the ledger's budgets, such as ``{"task": ...}``.
    trace : callable, optional
        Called as ``trace(step, event)``; see `selfreg.integrations._session.Session`. A decision is a span named
        "selfreg.decision" in the SDK's own traces anyway.

    Raises
    ------
    ValueError
        At a step: there is neither `run` nor a trace.
    """

    def __init__(
        self,
        weak: Any,
        strong: Any,
        recorder: Recorder,
        *,
        run: str | int | Callable[[], str | int] | None = None,
        keys: Keys | None = None,
        trace: Callable[[HelpStep, Event], Any] | None = None,
    ) -> None:
        self._weak, self._strong, self._session = weak, strong, Session(recorder, trace=trace)
        self._run, self._keys = run, keys
        self._supervises, self._seen = False, dict[tuple[str | int, str], Any]()

    # ---- a stronger model

    async def get_response(self, system_instructions: str | None, input: Any, *rest: Any, **options: Any) -> Any:
        """One answer."""
        async with await self._decide(system_instructions, input, options) as step:
            response = await self._choose(step).get_response(system_instructions, input, *rest, **options)
        self._remember(input, response)
        return response

    async def stream_response(
        self, system_instructions: str | None, input: Any, *rest: Any, **options: Any
    ) -> AsyncIterator[Any]:
        """One answer in pieces; help that ends without a completed response is refunded."""
        step = await self._decide(system_instructions, input, options)
        events = self._choose(step).stream_response(system_instructions, input, *rest, **options)
        pieces = step.stream_async(_watch(step, events))
        try:
            async for event in pieces:
                if event.type in ENDS:
                    self._remember(input, event.response)
                yield event
        finally:
            await pieces.aclose()

    def get_retry_advice(self, request: Any) -> Any:
        """What a model says of its own error, for the retries of the SDK; each attempt is decided and paid anew."""
        return self._weak.get_retry_advice(request) or self._strong.get_retry_advice(request)

    async def close(self) -> None:
        """Close both models."""
        await self._weak.close()
        await self._strong.close()

    def _choose(self, step: HelpStep) -> Any:
        return self._strong if step.helped else self._weak

    async def _decide(self, prompt: str | None, input: Any, options: dict[str, Any]) -> HelpStep:
        items = _items(input)
        self._settle_answers(items)
        steps = _history(items)
        stored = options.get("previous_response_id"), options.get("conversation_id")
        key = name_step(steps, len(items), *stored, prompt)  # several agents of a run may have one input
        step = await self._session.decide_async(self._run_id(), key, steps, keys=self._keys)
        if get_current_trace() is not None:
            with custom_span("selfreg.decision", data=step.attributes()):
                pass
        return step

    def _run_id(self) -> str | int:
        if self._run is not None:
            return self._run() if callable(self._run) else self._run
        trace = get_current_trace()
        name = trace and (getattr(trace, "group_id", None) or trace.trace_id)
        if not name or name == "no-op":
            raise ValueError("no run: tracing is off and HelpModel has no run; give HelpModel(..., run=...)")
        return str(name)

    # ---- a person

    def needs_approval(self, tool: str) -> Callable[[Any, dict[str, Any], str], Awaitable[bool]]:
        """Whether a person must see a call: ``@function_tool(needs_approval=model.needs_approval("delete"))``.

        The policy sees the state in which the tool was called, and the call. The person is paid when the result of
        the call, or its rejection, is shown to this model.
        """

        self._supervises = True

        async def must_be_seen(context: RunContextWrapper, arguments: dict[str, Any], call_id: str) -> bool:
            run = self._run_id()
            items = self._seen.get((run, call_id), context.turn_input)
            steps = _history(_items(items), format_call(Function(tool, arguments)))
            return self._session.decide_question(run, call_id, steps, keys=self._keys).helped

        return must_be_seen

    def _remember(self, input: Any, response: Any) -> None:
        """What the model saw when it called tools: the context of a tool has the beginning of the run only."""
        for item in response.output if self._supervises else ():
            if call := getattr(item, "call_id", None):
                self._seen[self._run_id(), call] = input
        while len(self._seen) > MOST_CALLS:
            del self._seen[next(iter(self._seen))]

    def _settle_answers(self, items: list[dict[str, Any]]) -> None:
        for item in items:
            if str(item.get("type", "")).endswith("_output") and item.get("call_id"):
                step = self._session.find_step(self._run_id(), str(item["call_id"]))
                if step is not None and step.helped and step.status != "charged":
                    step.settle()


async def _watch(step: HelpStep, events: AsyncIterator[Any]) -> AsyncIterator[Any]:
    completed = False
    async for event in events:
        completed = completed or event.type in ENDS
        yield event
    if not completed:
        step.see(failed=True)


def _items(input: Any) -> list[dict[str, Any]]:
    if isinstance(input, str):
        return [{"role": "user", "content": input}]
    return [one if isinstance(one, dict) else one.model_dump(exclude_none=True) for one in input]


def _history(items: list[dict[str, Any]], proposal: str | None = None) -> list[Step]:
    read = ResponseItems()
    read.add_items(json.loads(json.dumps(items, default=str)))
    read.finish()
    return history_of_turns(read.turns, proposal)
