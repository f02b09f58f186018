"""LangChain and LangGraph: a stronger model for the steps of an agent that need help, and questions to a person.

``create_agent(weak, tools, middleware=[SelfregMiddleware(recorder, strong=...)])``. Put it last in the list, so that
middleware that retries or falls back calls it again.
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Annotated, Any

from selfreg._util.extras import require_extra
from selfreg.data import Step
from selfreg.data.turns import Function, format_call
from selfreg.integrations._session import Event, HelpStep, Session, history_of, name_step, select_model
from selfreg.integrations._versions import check_version
from selfreg.runtime.ledger.budgets import Keys
from selfreg.runtime.recorder import Recorder

check_version("langchain", "1.5", "2", "langchain")
with require_extra("langchain", "selfreg.integrations.langchain"):
    from langchain.agents.middleware import AgentMiddleware, AgentState, ModelRequest
    from langchain.agents.middleware.types import PrivateStateAttr, ToolCallRequest
    from langchain.chat_models import init_chat_model
    from langchain_core.callbacks import BaseCallbackHandler
    from langchain_core.messages import AIMessage, BaseMessage, ToolMessage, message_to_dict
    from langchain_core.runnables import RunnableLambda
    from langchain_core.tracers.context import register_configure_hook
    from langgraph.errors import GraphBubbleUp
    from typing_extensions import NotRequired


class _State(AgentState):  # type: ignore[misc]
    selfreg_run: NotRequired[Annotated[str, PrivateStateAttr]]  # type: ignore[valid-type]


class _Pieces(BaseCallbackHandler):  # type: ignore[misc]
    """Notes that a piece of the answer has come, for readers who leave in the middle of a stream."""

    run_inline = True  # in a thread it would come after the reader has the piece, and may have left

    def __init__(self, step: HelpStep) -> None:
        self.step = step

    def on_llm_new_token(self, token: Any, **kwargs: Any) -> None:
        self.step.see()


_pieces: ContextVar[_Pieces | None] = ContextVar("selfreg_pieces", default=None)
register_configure_hook(_pieces, inheritable=True)


class SelfregMiddleware(AgentMiddleware):  # type: ignore[misc]
    """Answers the steps of an agent for which the recorder requests help with a stronger model.

    The run is the thread of the checkpointer, or one call of the agent where there is none. A step is known by its
    messages and their ids, the system prompt and the names of the nodes: a resumed or replayed step finds its decision,
    a fork with another message decides anew, and agents that see the same messages pay each for its own help.

    Parameters
    ----------
    recorder : Recorder
    strong : chat model, its name, or mapping of help type to either
        Who helps. One model answers whatever help type is requested.
    keys : callable, optional
        From the runtime of LangGraph to the scopes of the ledger's budgets, such as ``{"task": ...}``.
    trace : callable, optional
        Called as ``trace(step, event)``; see `selfreg.integrations._session.Session`. A decision is a run named
        "selfreg.decision" in LangChain's own traces anyway.

    Examples
    --------
    >>> from langchain.agents import create_agent
    >>> from langchain_core.language_models.fake_chat_models import FakeListChatModel
    >>> from selfreg import Ledger
    >>> from selfreg.decisions import Decision
    >>> from selfreg.integrations.langchain import SelfregMiddleware
    >>> from selfreg.runtime import Recorder
    >>> class Always:
    ...     def decide(self, steps, budget_left):
    ...         return Decision("strong")
    >>> recorder = Recorder(Always(), Ledger(1), costs={"strong": 1})
    >>> weak, strong = FakeListChatModel(responses=["5"]), FakeListChatModel(responses=["4"])
    >>> agent = create_agent(weak, middleware=[SelfregMiddleware(recorder, strong=strong)])
    >>> [agent.invoke({"messages": "2 + 2 = ?"})["messages"][-1].content for _ in range(2)]
    ['4', '5']
    """

    state_schema = _State

    def __init__(
        self,
        recorder: Recorder,
        *,
        strong: Any,
        keys: Callable[[Any], Keys] | None = None,
        trace: Callable[[HelpStep, Event], Any] | None = None,
    ) -> None:
        super().__init__()
        self._session = Session(recorder, trace=trace, pauses=(GraphBubbleUp,))
        self._keys = keys
        by_type = isinstance(strong, Mapping)
        self._strong = {help: _load(model) for help, model in strong.items()} if by_type else _load(strong)

    # ---- which run, which step

    def before_agent(self, state: Any, runtime: Any) -> dict[str, Any] | None:
        """Name the run where no thread does."""
        info = runtime.execution_info
        return None if info is not None and info.thread_id is not None else {"selfreg_run": uuid.uuid4().hex}

    def _run(self, request: ModelRequest | ToolCallRequest) -> str:
        info = request.runtime.execution_info
        named = info.thread_id if info is not None else None
        return str(request.state.get("selfreg_run", "agent") if named is None else named)

    def _keys_of(self, request: ModelRequest | ToolCallRequest) -> Keys | None:
        return None if self._keys is None else self._keys(request.runtime)

    def _ids(self, request: ModelRequest) -> tuple[str, str, list[Step]]:
        steps = _history(request.messages)
        ids = [one.id for one in request.state["messages"]]
        return self._run(request), name_step(steps, *ids, *_agent_of(request)), steps

    # ---- a stronger model

    def wrap_model_call(self, request: ModelRequest, handler: Callable[[ModelRequest], Any]) -> Any:
        """Call the stronger model where help is requested."""
        self._settle_answers(request)
        with self._session.decide(*self._ids(request), keys=self._keys_of(request)) as step, _show(step):
            return handler(self._choose(request, step))

    async def awrap_model_call(self, request: ModelRequest, handler: Callable[[ModelRequest], Awaitable[Any]]) -> Any:
        """As `wrap_model_call`, in an event loop."""
        self._settle_answers(request)
        step = await self._session.decide_async(*self._ids(request), keys=self._keys_of(request))
        async with step:
            with _show(step):
                return await handler(self._choose(request, step))

    def _choose(self, request: ModelRequest, step: HelpStep) -> ModelRequest:
        return request.override(model=select_model(self._strong, step.action)) if step.helped else request

    # ---- a person

    def when(self, request: ToolCallRequest) -> bool:
        """Whether a person must see a call of a tool: for `HumanInTheLoopMiddleware`.

        ``{"delete": {"allowed_decisions": ["approve", "reject"], "when": middleware.when}}``. The state is that in
        which the tool was called, and the call. Help is paid when the person has answered.
        """
        call = request.tool_call
        proposal = format_call(Function(call["name"], call["args"]))
        messages = request.state["messages"]
        last = max((i for i, one in enumerate(messages) if isinstance(one, AIMessage)), default=len(messages) - 1)
        steps = _history(messages[: last + 1], proposal)
        key = _call_key(messages[last], call["id"])
        return self._session.decide_question(self._run(request), key, steps, keys=self._keys_of(request)).helped

    def wrap_tool_call(self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], Any]) -> Any:
        """Pay for the person who let a call pass."""
        try:
            result = handler(request)
        except GraphBubbleUp:
            raise
        except BaseException:
            self._settle_call(request)
            raise
        self._settle_call(request)
        return result

    async def awrap_tool_call(
        self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], Awaitable[Any]]
    ) -> Any:
        """As `wrap_tool_call`, in an event loop."""
        try:
            result = await handler(request)
        except GraphBubbleUp:
            raise
        except BaseException:
            self._settle_call(request)
            raise
        self._settle_call(request)
        return result

    def _settle_call(self, request: ToolCallRequest) -> None:
        messages = request.state["messages"]
        proposals = [one for one in messages if isinstance(one, AIMessage)]
        if proposals:
            self._settle_question(self._run(request), _call_key(proposals[-1], request.tool_call["id"]))

    def _settle_answers(self, request: ModelRequest) -> None:
        """Pay for calls that have an answer by now: those that a person rejected never reach a tool."""
        answers = []
        for message in reversed(request.state["messages"]):
            if isinstance(message, ToolMessage):
                answers.append(message.tool_call_id)
            elif answers and isinstance(message, AIMessage):
                for call in answers:
                    self._settle_question(self._run(request), _call_key(message, call))
                return
            elif not answers and isinstance(message, AIMessage):
                return

    def _settle_question(self, run: str, key: str) -> None:
        step = self._session.find_step(run, key)
        if step is not None and step.helped and step.status != "charged":
            step.settle()


def _agent_of(request: ModelRequest) -> list[Any]:
    """Which agent of the thread is at work: several may see the same messages. Nodes by name, as tasks have new ids."""
    info, prompt = request.runtime.execution_info, request.system_message
    nodes = [] if info is None else [node.split(":")[0] for node in info.checkpoint_ns.split("|")]
    return ["/".join(nodes), *([] if prompt is None else [prompt.content])]


def _load(model: Any) -> Any:
    return init_chat_model(model) if isinstance(model, str) else model


def _call_key(message: BaseMessage, call: str | None) -> str:
    """Some servers number the calls of each message anew, so that their ids alone repeat."""
    return f"{message.id} {call}"


def _history(messages: list[BaseMessage], proposal: str | None = None) -> list[Step]:
    return history_of([message_to_dict(one) for one in messages], proposal)


@contextmanager
def _show(step: HelpStep) -> Iterator[None]:
    """A decision as a run in LangChain's traces; then what the model says is watched."""
    RunnableLambda(lambda _: step.attributes(), name="selfreg.decision").invoke({"run_id": str(step.run_id)})
    token = _pieces.set(_Pieces(step) if step.helped else None)
    try:
        yield
    finally:
        _pieces.reset(token)
