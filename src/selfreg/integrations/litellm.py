"""LiteLLM: a plugin of `Router` and a logger of the proxy, which send a step to a stronger model where it needs help.

``router = Router(model_list, plugins=[plugin]); litellm.callbacks = [plugin]``: the router calls the plugin before each
attempt, and the callbacks settle.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from functools import partial
from typing import Any
from weakref import finalize, ref

from selfreg._util.extras import require_extra
from selfreg.data import Step
from selfreg.data.message_layouts import read_messages
from selfreg.data.turns import CONTEXT_ROLES
from selfreg.integrations._session import (
    Event,
    HelpStep,
    Session,
    history_of,
    name_step,
    run_once_in_thread,
    select_model,
)
from selfreg.integrations._versions import check_version
from selfreg.runtime.recorder import Recorder

check_version("litellm", "1.108", "2", "litellm")
with require_extra("litellm", "selfreg.integrations.litellm"):
    from litellm.integrations.custom_logger import CustomLogger

RUN, STEP, TASK = "selfreg_run", "selfreg_step", "selfreg_task"  # in the metadata of a request
CANDIDATES = "_routing_plugin_candidate_models"  # LiteLLM's own, in the metadata of a request
MOST_OPEN = 10_000  # calls whose end was never reported; the oldest are forgotten, and stay reserved


class _Deciding(CustomLogger):  # type: ignore[misc]
    """Decides requests, and remembers the step of each call until it is settled."""

    def __init__(
        self, recorder: Recorder, strong: str | Mapping[str, str], trace: Callable[[HelpStep, Event], Any] | None
    ) -> None:
        super().__init__()
        # LiteLLM takes two loggers of one class for the same one, unless a public attribute differs.
        self.name = f"selfreg {uuid.uuid4().hex}"
        self._session = Session(recorder, trace=trace)
        self._strong = strong
        self._open: dict[str, HelpStep] = {}
        self._unwatch: dict[Any, Callable[[], object]] = {}

    def _model(self, step: HelpStep) -> str:
        """The model of a help type."""
        try:
            return str(select_model(self._strong, step.action))
        except ValueError:
            step.refund()
            raise

    async def _decide(self, messages: Any, metadata: Mapping[str, Any]) -> HelpStep:
        run, step_id, steps = _ids(messages, metadata)
        keys = {"task": metadata[TASK]} if TASK in metadata else None
        return await self._session.decide_async(run, step_id, steps, keys=keys)

    def _remember(self, call: str, step: HelpStep) -> None:
        if len(self._open) >= MOST_OPEN:
            self._forget(next(iter(self._open)))
        self._open[call] = step

    def _forget(self, call: Any) -> HelpStep | None:
        self._stop_watching(call)
        return self._open.pop(call, None)

    def _watch(self, key: Any, cancelled: Callable[[], object]) -> None:
        """Call `cancelled` where the task at hand is: LiteLLM says nothing then."""

        def end(task: asyncio.Task[Any]) -> None:
            if self._unwatch.pop(key, None) is not None and task.cancelled():
                cancelled()

        task = asyncio.current_task()
        if task is not None:
            task.add_done_callback(end)
            self._unwatch[key] = partial(task.remove_done_callback, end)

    def _stop_watching(self, key: Any) -> None:
        unwatch = self._unwatch.pop(key, None)
        if unwatch is not None:
            unwatch()

    async def _end(self, call: Any, paid: bool) -> None:
        step = self._forget(call)
        if step is not None:
            await run_once_in_thread(step.settle if paid else step.refund)


class SelfregPlugin(_Deciding):
    """A routing plugin of `litellm.Router`, and the callback that settles.

    Weak and strong deployments have the same `model_name`; the plugin selects among them by `litellm_params.model`. It
    runs at every attempt: one that failed is refunded, the next one is decided and paid anew. Groups without a strong
    model are left alone. The router must be called asynchronously, as for every plugin.

    Parameters
    ----------
    recorder : Recorder
    strong : str or mapping of str to str
        `litellm_params.model` of the strong deployment, also by help type.
    trace : callable, optional
        As of `selfreg.integrations._session.Session`.

    Examples
    --------
    >>> import asyncio, os
    >>> os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # nothing is loaded from the network
    >>> import litellm
    >>> from selfreg import Ledger
    >>> from selfreg.decisions import Decision
    >>> from selfreg.integrations.litellm import SelfregPlugin
    >>> from selfreg.runtime import Recorder
    >>> class Always:
    ...     def decide(self, steps, budget_left):
    ...         return Decision("strong")
    >>> recorder = Recorder(Always(), Ledger(1), costs={"strong": 1})
    >>> plugin = SelfregPlugin(recorder, strong="openai/large")
    >>> def deployment(name):
    ...     params = {"model": f"openai/{name}", "mock_response": name, "api_key": "none"}
    ...     return {"model_name": "agent", "litellm_params": params}
    >>> router = litellm.Router([deployment("small"), deployment("large")], plugins=[plugin])
    >>> litellm.callbacks = [plugin]
    >>> async def say(text):
    ...     messages = [{"role": "user", "content": text}]
    ...     return (await router.acompletion("agent", messages)).choices[0].message.content
    >>> asyncio.run(say("2 + 2 = ?")), asyncio.run(say("3 + 3 = ?")), recorder.ledger.entries("charged")[0].cost
    ('large', 'small', (1,))
    """

    def __init__(
        self,
        recorder: Recorder,
        *,
        strong: str | Mapping[str, str],
        trace: Callable[[HelpStep, Event], Any] | None = None,
    ) -> None:
        super().__init__(recorder, strong, trace)
        self._unsent: dict[Any, HelpStep] = {}

    async def run(self, context: Any) -> Any:
        """Leave the models that may answer; LiteLLM calls it before every attempt."""
        self._refund_unsent(asyncio.current_task())
        helpers = {self._strong} if isinstance(self._strong, str) else set(self._strong.values())
        weak = [model for model in context.candidate_models if model not in helpers]
        if not weak or len(weak) == len(context.candidate_models):
            left = context.metadata.get(CANDIDATES)
            if isinstance(left, list):  # of the group that LiteLLM falls back from: it would look for them in this one
                left[:] = context.candidate_models
            return context
        step = await self._decide(context.structured_messages, context.metadata)
        task = asyncio.current_task()
        if step.helped and task is not None:
            self._unsent[task] = step
            task.add_done_callback(self._refund_unsent)
        context.signals.update(await asyncio.to_thread(step.attributes))  # part of the metadata in LiteLLM's logs
        context.candidate_models = [self._model(step)] if step.helped else weak
        return context

    async def async_pre_call_deployment_hook(self, kwargs: dict[str, Any], call_type: Any) -> None:
        """A deployment is selected: from here on, the call has an id."""
        step = self._take_unsent(asyncio.current_task())
        if step is not None:
            self._note(kwargs, step)

    async def async_post_call_failure_deployment_hook(
        self, request_data: Mapping[str, Any], exception: Exception, call_type: Any, fallback_depth: Any = None
    ) -> None:
        """An attempt has failed; this comes before the next attempt."""
        await self._end(request_data.get("litellm_call_id"), False)

    async def async_post_call_success_deployment_hook(
        self, request_data: dict[str, Any], response: Any, call_type: Any
    ) -> None:
        """A whole answer has come: pay for it, before it is returned."""
        await self._end(request_data.get("litellm_call_id"), True)

    async def async_log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        """A stream has come to its end."""
        if not kwargs.get("stream") or kwargs.get("async_complete_streaming_response") is not None:
            await self._end(kwargs.get("litellm_call_id"), True)

    async def async_log_failure_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        """A call, or a stream in its middle, has failed."""
        await self._end(kwargs.get("litellm_call_id"), False)

    def _take_unsent(self, task: Any) -> HelpStep | None:
        step = self._unsent.pop(task, None)
        if step is not None:
            task.remove_done_callback(self._refund_unsent)
        return step

    def _refund_unsent(self, task: Any) -> None:
        """Refund what this task decided and never sent: it was cancelled, or LiteLLM found no deployment."""
        step = self._take_unsent(task)
        if step is not None:
            step.refund()

    def _note(self, request: Mapping[str, Any], step: HelpStep) -> None:
        """Remember the step of a call."""
        call, log = request.get("litellm_call_id"), request.get("litellm_logging_obj")
        if not isinstance(call, str):
            step.refund()
            return
        self._remember(call, step)
        if log is not None:  # LiteLLM says nothing of a reader who left, and of a call whose time ran out
            left = partial(self._end_left, call, bool(request.get("stream")))
            finalize(log, _tell, asyncio.get_running_loop(), left).atexit = False
        begun = ref(log) if request.get("stream") and log is not None else lambda: None
        self._watch(call, partial(self._refund_cancelled, call, begun))

    def _refund_cancelled(self, call: str, log: Callable[[], Any]) -> None:
        """Refund a call that was cancelled, but for a stream whose beginning has come."""
        if getattr(log(), "completion_start_time", None) is None and (step := self._forget(call)) is not None:
            step.refund()

    def _end_left(self, call: str, stream: bool) -> None:
        """Pay for a stream whose reader has left, refund a call without an answer: their objects are gone."""
        step = self._forget(call)
        if step is not None:
            asyncio.get_running_loop().run_in_executor(None, step.settle if stream else step.refund)


class SelfregLogger(_Deciding):
    """A logger of LiteLLM's proxy: in its configuration ``callbacks: module.logger``.

    A request for `weak` goes to `strong` where help is requested; both are names of model groups. All attempts of one
    request are one step. Responses carry ``x-selfreg-action``; LiteLLM's logs have the decision in
    ``spend_logs_metadata``.

    Parameters
    ----------
    recorder : Recorder
    weak : str
        Model group that clients request.
    strong : str or mapping of str to str
        Model group that helps, also by help type.
    trace : callable, optional
        As of `SelfregPlugin`.
    """

    def __init__(
        self,
        recorder: Recorder,
        *,
        weak: str,
        strong: str | Mapping[str, str],
        trace: Callable[[HelpStep, Event], Any] | None = None,
    ) -> None:
        super().__init__(recorder, strong, trace)
        self._weak = weak

    def __init_subclass__(cls, **options: Any) -> None:
        """LiteLLM's proxy looks for hooks in the class of a logger only, and not in those that it inherits from."""
        super().__init_subclass__(**options)
        for name in [name for name in vars(SelfregLogger) if name.startswith("async_")]:
            setattr(cls, name, getattr(cls, name))

    async def async_pre_call_hook(
        self, user_api_key_dict: Any, cache: Any, data: dict[str, Any], call_type: Any
    ) -> dict[str, Any]:
        """Decide for a request of a client, and name the model group that answers."""
        if data.get("model") != self._weak or not data.get("messages"):
            return data
        place = "litellm_metadata" if "litellm_metadata" in data else "metadata"
        metadata = data[place] = dict(data.get(place) or {})
        step = await self._decide(data["messages"], {**_headers(data), **(data.get("metadata") or {}), **metadata})
        if step.helped:
            data["model"] = self._model(step)
            call = data.setdefault("litellm_call_id", uuid.uuid4().hex)
            self._remember(call, step)
            self._watch(call, partial(self._refund_cancelled, call))
        attributes = await asyncio.to_thread(step.attributes)
        metadata["spend_logs_metadata"] = {**(metadata.get("spend_logs_metadata") or {}), **attributes}
        return data

    def _refund_cancelled(self, call: str) -> None:
        step = self._forget(call)
        if step is not None:
            step.refund()

    async def async_post_call_success_hook(self, data: Mapping[str, Any], user_api_key_dict: Any, response: Any) -> Any:
        """A whole answer has come: pay for it, before the client has it."""
        await self._end(data.get("litellm_call_id"), True)

    async def async_post_call_streaming_iterator_hook(
        self, user_api_key_dict: Any, response: Any, request_data: Mapping[str, Any]
    ) -> AsyncGenerator[Any, None]:
        """Pay at the end of a stream, also for a client who leaves it; refund where it breaks, or has not begun."""
        step = self._forget(request_data.get("litellm_call_id"))
        if step is None:
            async for piece in response:
                yield piece
            return
        async with aclosing(step.stream_async(response)) as pieces:
            async for piece in pieces:
                yield piece

    async def async_post_call_failure_hook(
        self, request_data: Mapping[str, Any], original_exception: Exception, user_api_key_dict: Any, *_: Any, **__: Any
    ) -> None:
        """The request has failed for good."""
        await self._end(request_data.get("litellm_call_id"), False)

    async def async_post_call_response_headers_hook(
        self, data: Mapping[str, Any], user_api_key_dict: Any, response: Any, *_: Any, **__: Any
    ) -> dict[str, str]:
        """What the client sees of the decision."""
        found = (data.get("litellm_metadata") or data.get("metadata") or {}).get("spend_logs_metadata") or {}
        action = found.get("selfreg.action")
        return {} if action is None else {"x-selfreg-action": action.encode().decode("latin-1")}


def _tell(loop: asyncio.AbstractEventLoop, what: Callable[[], None]) -> None:
    """Call `what` in its loop: garbage is collected anywhere, maybe in a transaction."""
    with suppress(RuntimeError):  # the loop is closed; the step comes again, or expires
        loop.call_soon_threadsafe(what)


def _headers(data: Mapping[str, Any]) -> dict[str, str]:
    """Ids that a client of the proxy sent as headers: ``x-selfreg-run`` and so on."""
    headers = (data.get("proxy_server_request") or {}).get("headers") or {}
    names = {f"x-{name.replace('_', '-')}": name for name in (RUN, STEP, TASK)}
    return {names[key.lower()]: _decoded(value) for key, value in headers.items() if key.lower() in names}


def _decoded(header: str) -> str:
    """A header that was sent in UTF-8; servers read it as Latin-1."""
    try:
        return header.encode("latin-1").decode()
    except UnicodeError:
        return header


def _ids(messages: Any, metadata: Mapping[str, Any]) -> tuple[Any, Any, Sequence[Step]]:
    """Run and step of the metadata; else hashes of the beginning of the conversation, and of all of it."""
    steps = history_of(messages)
    run, step = (None if metadata.get(name) == "" else metadata.get(name) for name in (RUN, STEP))
    if run is None:
        run = f"chat {name_step([Step(steps[0].state)])}"
    if step is None:  # several agents of a run may see the same, with prompts of their own
        prompts = [one.said for one in read_messages(messages) if one.role in CONTEXT_ROLES]
        step = name_step(steps, *prompts)
    return run, step, steps
