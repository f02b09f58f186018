"""LiteLLM with its real router and mock responses: retries, streams, other groups, and the hooks of the proxy."""

from __future__ import annotations

import asyncio
import gc
import time
from contextlib import suppress
from typing import Any

import pytest

pytest.importorskip("litellm", reason="litellm is missing (extra 'litellm')")

import litellm
from conformance import WAIT, Models, make_recorder

from selfreg.decisions import Decision
from selfreg.integrations.litellm import SelfregLogger, SelfregPlugin
from selfreg.runtime import Ledger, Recorder

ASKED = [{"role": "user", "content": "2 + 2 = ?"}]


def deployment(group: str, model: str, said: str = "") -> dict[str, Any]:
    params = {"model": f"openai/{model}", "mock_response": said or model, "api_key": "none"}
    return {"model_name": group, "litellm_params": params}


def make(recorder: Any, **options: Any) -> Any:
    plugin = SelfregPlugin(recorder, strong="openai/strong")
    litellm.callbacks = [plugin]
    deployments = [deployment("agent", "weak"), deployment("agent", "strong"), deployment("other", "third")]
    return litellm.Router(deployments, plugins=[plugin], **{"num_retries": 0, **options})


def statuses(recorder: Any, wanted: list[str]) -> list[str]:
    """Of the ledger; logs of LiteLLM come a little later."""
    found: list[str] = []
    for _ in range(200):
        found = [one.status for one in recorder.ledger.entries()]
        if found == wanted:
            break
        time.sleep(0.02)
    return found


async def logged(recorder: Any) -> None:
    """Wait for the logs of LiteLLM, which has a task for them."""
    for _ in range(500):
        if not recorder.ledger.entries("reserved"):
            return
        await asyncio.sleep(0.02)


def test_a_stream_is_paid_at_its_end() -> None:
    recorder = make_recorder(1)
    router = make(recorder)

    async def read() -> str:
        stream = await router.acompletion("agent", ASKED, stream=True)
        said = []
        async for part in stream:
            said.append(part.choices[0].delta.content or "")
            assert recorder.ledger.entries()[0].status == "reserved"
        await logged(recorder)
        return "".join(said)

    assert asyncio.run(read()) == "strong"
    assert statuses(recorder, ["charged"]) == ["charged"]


def test_a_reader_who_leaves_has_paid_once_its_stream_is_gone() -> None:
    """LiteLLM says nothing where a stream is left."""
    recorder = make_recorder(1)
    router = make(recorder)

    async def leave() -> None:
        async for _ in await router.acompletion("agent", ASKED, stream=True):
            break
        assert statuses(recorder, ["reserved"]) == ["reserved"]
        gc.collect()
        await logged(recorder)

    asyncio.run(leave())
    assert statuses(recorder, ["charged"]) == ["charged"]
    reply = asyncio.run(router.acompletion("agent", ASKED))
    assert (reply.choices[0].message.content, statuses(recorder, ["charged"])) == ("strong", ["charged"])


def test_a_call_that_is_cancelled_before_it_is_sent_is_refunded() -> None:
    """The plugin has decided, and the call has no id yet."""

    class Slow(SelfregPlugin):
        async def async_pre_call_deployment_hook(self, kwargs: Any, call_type: Any) -> None:
            reached.set()
            await asyncio.Event().wait()

    recorder, reached = make_recorder(1), asyncio.Event()
    plugin = Slow(recorder, strong="openai/strong")
    litellm.callbacks = [plugin]
    router = litellm.Router([deployment("agent", "weak"), deployment("agent", "strong")], plugins=[plugin])

    async def cancel() -> None:
        task = asyncio.create_task(router.acompletion("agent", ASKED))
        await reached.wait()
        assert recorder.ledger.left == (0,)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())
    assert statuses(recorder, ["refunded"]) == ["refunded"]


def test_each_retry_is_an_attempt_of_its_own() -> None:
    """The router runs its plugins at every retry: the failed attempt is refunded before."""
    from driver_litellm import make_router

    recorder, models = make_recorder(1), Models(strong=(RuntimeError("overloaded"),))
    router = make_router(recorder, models, num_retries=1, retry_after=0)
    reply = asyncio.run(router.acompletion("agent", ASKED))
    assert reply.choices[0].message.content == "strong answered"
    assert models.calls == ["strong", "strong"]
    assert statuses(recorder, ["refunded", "charged"]) == ["refunded", "charged"]


def test_groups_without_a_strong_model_are_left_alone() -> None:
    recorder = make_recorder(1)
    reply = asyncio.run(make(recorder).acompletion("other", ASKED))
    assert (reply.choices[0].message.content, recorder.decisions()) == ("third", [])


def test_ids_of_the_metadata_and_hashes() -> None:
    recorder = make_recorder(9)
    router = make(recorder)
    ids = {"selfreg_run": "run 7", "selfreg_step": 3, "selfreg_task": "sums"}
    chat = [*ASKED, {"role": "assistant", "content": "5"}, {"role": "user", "content": "wrong"}]
    for messages, metadata in ((ASKED, ids), (ASKED, None), (chat, None), (chat, None)):
        asyncio.run(router.acompletion("agent", messages, **({"metadata": dict(metadata)} if metadata else {})))
    named, first, second = recorder.decisions()
    assert (named.run_id, named.step_id, named.keys) == ("run 7", 3, {"task": "sums"})
    assert first.run_id == second.run_id
    assert (first.state, second.state) == ("2 + 2 = ?", "wrong")


def proxy(recorder: Any, *broken: str) -> tuple[Any, Any]:
    logger = SelfregLogger(recorder, weak="agent", strong="agent-strong")
    litellm.callbacks = [logger]
    said = "litellm.InternalServerError" if broken else ""
    deployments = [deployment("agent", "weak"), deployment("agent-strong", "strong", said)]
    return logger, litellm.Router(deployments, num_retries=1, retry_after=0)


async def request(logger: Any, router: Any, **data: Any) -> str:
    """What LiteLLM's proxy does with a request, in its order; `test_litellm_proxy.py` has the proxy itself."""
    data = {"model": "agent", "messages": ASKED, **data}
    data = await logger.async_pre_call_hook(user_api_key_dict=None, cache=None, data=data, call_type="acompletion")
    try:
        reply = await router.acompletion(**data)
    except litellm.exceptions.InternalServerError as error:
        await logger.async_post_call_failure_hook(data, error, None)
        return "failed"
    if data.get("stream"):
        pieces = logger.async_post_call_streaming_iterator_hook(None, reply, data)
        return "".join([part.choices[0].delta.content or "" async for part in pieces])
    await logger.async_post_call_success_hook(data, None, reply)
    content: str = reply.choices[0].message.content
    return content


@pytest.mark.parametrize("options", [{}, {"stream": True}])
def test_the_proxy_sends_a_request_to_the_strong_group(options) -> None:
    recorder = make_recorder(1)
    logger, router = proxy(recorder)
    headers = {"X-Selfreg-Run": "run 7", "x-selfreg-step": "3"}
    data = {"proxy_server_request": {"headers": headers}, **options}
    assert asyncio.run(request(logger, router, **data)) == "strong"
    assert statuses(recorder, ["charged"]) == ["charged"]
    assert [(one.run_id, one.step_id) for one in recorder.ledger.entries()] == [("run 7", "3")]
    assert asyncio.run(request(logger, router, metadata={"selfreg_run": "run 8"})) == "weak"
    assert asyncio.run(request(logger, router, **data)) == "strong"  # executed again
    assert statuses(recorder, ["charged"]) == ["charged"]


def test_a_request_that_fails_for_good_is_refunded_once() -> None:
    """Its attempts belong to one step: none of them is free, and none is paid twice."""
    recorder = make_recorder(1)
    logger, router = proxy(recorder, "strong")
    assert asyncio.run(request(logger, router)) == "failed"
    assert statuses(recorder, ["refunded"]) == ["refunded"]
    logger, router = proxy(recorder)
    assert asyncio.run(request(logger, router)) == "strong"
    assert statuses(recorder, ["refunded", "charged"]) == ["refunded", "charged"]


def test_the_proxy_leaves_other_requests_alone() -> None:
    recorder = make_recorder(1)
    logger, _ = proxy(recorder)
    for data in ({"model": "other", "messages": ASKED}, {"model": "agent", "input": "text"}):
        same = asyncio.run(logger.async_pre_call_hook(None, None, dict(data), "acompletion"))
        assert (same, recorder.decisions()) == (data, [])


def test_a_help_type_without_a_model() -> None:
    recorder = make_recorder(1)
    logger = SelfregLogger(recorder, weak="agent", strong={"expert": "agent-expert"})
    with pytest.raises(ValueError, match="no model for help type 'strong'; strong has expert"):
        asyncio.run(logger.async_pre_call_hook(None, None, {"model": "agent", "messages": ASKED}, "acompletion"))
    assert statuses(recorder, ["refunded"]) == ["refunded"]


def scripted(recorder: Any, models: Models, **options: Any) -> litellm.Router:
    """A group of two scripted models, and another one to fall back to."""
    from driver_litellm import make_router

    models.scripts["third"] = []
    make_router(recorder, models)  # names the provider and the plugin
    names = [("agent", "weak"), ("agent", "strong"), ("backup", "third")]
    deployments = [{"model_name": group, "litellm_params": {"model": f"scripted/{name}"}} for group, name in names]
    return litellm.Router(deployments, plugins=litellm.callbacks, **{"num_retries": 0, **options})


def test_another_group_answers_where_help_fails() -> None:
    """LiteLLM looked there for the strong model, that we had left for the group before; also while that one rests."""
    recorder, models = make_recorder(1), Models(strong=(litellm.RateLimitError("slow down", "scripted", "strong"),))
    router = scripted(recorder, models, fallbacks=[{"agent": ["backup"]}], allowed_fails=0, cooldown_time=60)

    async def ask() -> list[str]:
        said = []
        for _ in range(2):
            said.append((await router.acompletion("agent", ASKED)).choices[0].message.content)
            await asyncio.sleep(0.3)  # until LiteLLM has noted the failure
        return said

    assert asyncio.run(ask()) == ["third answered", "third answered"]
    assert models.calls == ["strong", "third", "third"]
    assert statuses(recorder, ["refunded", "refunded"]) == ["refunded", "refunded"]


def test_help_whose_deployment_rests_is_refunded() -> None:
    """LiteLLM finds no deployment, and calls no hook."""
    down = litellm.RateLimitError("slow down", "scripted", "strong")
    recorder, models = make_recorder(2), Models(strong=(down,))
    router = scripted(recorder, models, allowed_fails=0, cooldown_time=60)

    async def ask() -> None:
        for text in ("first", "second"):
            with pytest.raises((litellm.RateLimitError, ValueError)):
                await router.acompletion("agent", [{"role": "user", "content": text}])
            await asyncio.sleep(0.3)  # until LiteLLM has noted the failure

    asyncio.run(ask())
    assert statuses(recorder, ["refunded", "refunded"]) == ["refunded", "refunded"]
    assert models.calls == ["strong"]


def test_a_call_whose_time_is_over_is_refunded_while_its_task_goes_on() -> None:
    recorder, models = make_recorder(1), Models(strong=(WAIT,))
    router = scripted(recorder, models)

    async def go_on() -> list[str]:
        async def work() -> list[str]:
            with suppress(asyncio.CancelledError):
                await router.acompletion("agent", ASKED)
            gc.collect()
            await logged(recorder)
            return [one.status for one in recorder.ledger.entries()]

        task = asyncio.create_task(work())
        while not models.calls:
            await asyncio.sleep(0.01)
        task.cancel()
        return await task

    assert asyncio.run(go_on()) == ["refunded"]


@pytest.mark.parametrize(
    "ask",
    [
        lambda router: router.aresponses(model="agent", input="2 + 2 = ?", litellm_metadata={"selfreg_run": "r"}),
        lambda router: router.atext_completion("agent", prompt="2 + 2 = ?", metadata={"selfreg_run": "r"}),
        lambda router: router.aanthropic_messages(
            model="agent", messages=ASKED, max_tokens=9, litellm_metadata={"selfreg_run": "r"}
        ),
    ],
    ids=["responses", "text", "anthropic"],
)
def test_all_ways_of_the_router_are_paid(ask) -> None:
    """Their hooks have no messages, by which a step could be found again."""
    recorder = make_recorder(1)
    router = make(recorder)

    async def run() -> None:
        await ask(router)
        await logged(recorder)

    asyncio.run(run())
    (decision,) = recorder.decisions()
    assert (decision.run_id, decision.state) == ("r", "2 + 2 = ?")
    assert statuses(recorder, ["charged"]) == ["charged"]


def test_ids_that_are_0_are_ids() -> None:
    recorder = make_recorder(1)
    asyncio.run(make(recorder).acompletion("agent", ASKED, metadata={"selfreg_run": 0, "selfreg_step": 0}))
    assert [(one.run_id, one.step_id) for one in recorder.decisions()] == [(0, 0)]


def test_agents_of_one_run_with_prompts_of_their_own_pay_each() -> None:
    recorder = make_recorder(1)
    router = make(recorder)
    said = [
        asyncio.run(router.acompletion("agent", [prompt, *ASKED], metadata={"selfreg_run": "r"}))
        for prompt in ({"role": "system", "content": "Check."}, {"role": "system", "content": "Solve."})
    ]
    assert [one.choices[0].message.content for one in said] == ["strong", "weak"]
    assert statuses(recorder, ["charged"]) == ["charged"]


def test_headers_of_the_proxy_hold_text_in_any_script() -> None:
    """Servers read and write headers as Latin-1; what is in UTF-8 stopped the response, after it was paid."""
    recorder = Recorder(ByName("専門家"), Ledger(1), costs={"専門家": 1})
    logger = SelfregLogger(recorder, weak="agent", strong="strong")
    headers = {"x-selfreg-run": "Lauf ä 東".encode().decode("latin-1")}
    data = {"model": "agent", "messages": ASKED, "proxy_server_request": {"headers": headers}}
    data = asyncio.run(logger.async_pre_call_hook(None, None, data, "acompletion"))
    assert recorder.decisions()[0].run_id == "Lauf ä 東"
    sent = asyncio.run(logger.async_post_call_response_headers_hook(data, None, None))
    assert sent["x-selfreg-action"].encode("latin-1").decode() == "専門家"


class ByName:
    """Requests one help type."""

    def __init__(self, help: str) -> None:
        self.help = help

    def decide(self, steps: Any, budget_left: Any) -> Decision:
        return Decision(self.help)
