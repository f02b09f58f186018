"""LiteLLM's `Router` with the plugin, and mock responses of LiteLLM itself, for the conformance suite."""

from __future__ import annotations

import threading
from typing import Any

import litellm
from conformance import Driver, Models

from selfreg.integrations.litellm import SelfregPlugin
from selfreg.runtime import Recorder

LOCK = threading.Lock()
ROUTERS: dict[str, tuple[Recorder, Models, litellm.Router]] = {}


class Scripted(litellm.CustomLLM):
    """A provider of LiteLLM whose models are scripted."""

    models: Models

    async def acompletion(self, model: str, *arguments: Any, **options: Any) -> litellm.ModelResponse:
        said = await self.models.answer_async(model)
        return litellm.ModelResponse(choices=[{"message": {"role": "assistant", "content": said}}])


def make_router(recorder: Recorder, models: Models, **options: Any) -> litellm.Router:
    provider = Scripted()
    provider.models = models
    litellm.custom_provider_map = [{"provider": "scripted", "custom_handler": provider}]
    litellm.utils.custom_llm_setup()
    plugin = SelfregPlugin(recorder, strong="scripted/strong")
    litellm.callbacks = [plugin]
    deployments = [
        {"model_name": "agent", "litellm_params": {"model": f"scripted/{name}"}} for name in ("weak", "strong")
    ]
    return litellm.Router(deployments, plugins=[plugin], **{"num_retries": 0, **options})


async def call_async(recorder: Recorder, run: str, text: str, models: Models) -> str:
    with LOCK:  # callbacks belong to the process
        if ROUTERS.get("used", (None, None))[:2] != (recorder, models):
            ROUTERS["used"] = recorder, models, make_router(recorder, models)
        router = ROUTERS["used"][2]
    messages = [{"role": "user", "content": text}]
    reply = await router.acompletion("agent", messages, metadata={"selfreg_run": run})
    content: str = reply.choices[0].message.content
    return content


DRIVER = Driver(call_async=call_async, error=(litellm.exceptions.APIConnectionError, litellm.exceptions.APIError))
