"""Microsoft Agent Framework: ``Agent(client, middleware=[SelfregMiddleware(recorder, strong="large")])``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from selfreg._util.extras import require_extra
from selfreg.integrations._session import Event, HelpStep, Session, history_of, name_step, select_model
from selfreg.integrations._versions import check_version
from selfreg.runtime.ledger.budgets import Keys
from selfreg.runtime.recorder import Recorder

check_version("agent-framework-core", "1.23", "2", "agent-framework")
with require_extra("agent-framework", "selfreg.integrations.agent_framework"):
    from agent_framework import ChatContext, ChatMiddleware, Content, ResponseStream
    from agent_framework.observability import get_tracer


class SelfregMiddleware(ChatMiddleware):  # type: ignore[misc]
    """Names a stronger model of the same client for the steps where the recorder requests help.

    The run is the session. A step is known by its messages, so that a session that is loaded again goes on.

    Parameters
    ----------
    recorder, trace
        As of `selfreg.integrations._session.Session`. A decision is a span of the framework's traces anyway.
    strong : str or mapping of str to str
        Model that helps, also by help type.
    keys : callable, optional
        From the `ChatContext` to the scopes of the ledger's budgets, such as ``{"task": ...}``.
    """

    def __init__(
        self,
        recorder: Recorder,
        *,
        strong: str | Mapping[str, str],
        keys: Callable[[ChatContext], Keys] | None = None,
        trace: Callable[[HelpStep, Event], Any] | None = None,
    ) -> None:
        self._session, self._strong, self._keys = Session(recorder, trace=trace), strong, keys

    async def process(self, context: ChatContext, call_next: Callable[[], Awaitable[None]]) -> None:
        """One call of a model; a stream is paid at its end."""
        if context.session is None:
            raise ValueError("no session: give agent.run(..., session=agent.create_session(session_id=...))")
        steps = history_of([{"role": str(m.role), "parts": [*map(_as_part, m.contents)]} for m in context.messages])
        prompts = [one.text for one in context.messages if str(one.role) == "system"]  # of several agents in a session
        prompts.append(str((context.options or {}).get("instructions") or ""))
        key, keys = name_step(steps, len(context.messages), *prompts), self._keys(context) if self._keys else None
        step = await self._session.decide_async(context.session.session_id, key, steps, keys=keys)
        try:
            with get_tracer().start_as_current_span("selfreg.decision", attributes=step.attributes()):
                if step.helped:
                    context.options = {**(context.options or {}), "model": select_model(self._strong, step.action)}
            await call_next()
        except BaseException as error:
            step.end(error)
            raise
        if isinstance(answer := context.result, ResponseStream):
            pieces = step.stream_async(_pieces(answer))
            context.result = ResponseStream(pieces, finalizer=lambda _: answer.get_final_response())
        else:
            await step.end_async()


async def _pieces(answer: ResponseStream) -> AsyncIterator[Any]:
    async with answer:  # closes it behind a reader who leaves
        async for piece in answer:
            yield piece


def _as_part(content: Content) -> dict[str, Any]:
    """As in the framework's own traces, which our reader of spans knows."""
    if content.type == "function_call":
        return {"type": "tool_call", "id": content.call_id, "name": content.name, "arguments": content.arguments}
    if content.type == "function_result":
        return {"type": "tool_call_response", "id": content.call_id, "response": content.result or ""}
    if content.type in ("data", "text_reasoning"):  # bytes, and what no state has
        return {"type": "blob" if content.type == "data" else "reasoning"}
    return dict(content.to_dict(exclude_none=True))
