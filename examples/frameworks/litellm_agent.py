"""An agent on LiteLLM's router with help once: ``python examples/frameworks/litellm_agent.py FOLDER``.

It may be killed at any time; the next call goes on where it was.
"""

from __future__ import annotations

import asyncio
import os
import re
from typing import Any

from guess import QUESTION, TASKS, read_options, reply, report, submit

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # nothing is loaded from the network

import litellm

from selfreg.integrations.litellm import SelfregPlugin


class Scripted(litellm.CustomLLM):
    """A provider of LiteLLM, in the place of a real one."""

    async def acompletion(self, model: str, messages: Any, *_: Any, **__: Any) -> litellm.ModelResponse:
        said = reply(model, messages[-1]["content"])
        content = said if isinstance(said, str) else f"submit {said}"
        return litellm.ModelResponse(choices=[{"message": {"role": "assistant", "content": content}}])


async def work(router: litellm.Router, task: str) -> str:
    """Works on a task until the model ends it."""
    messages = [{"role": "user", "content": QUESTION}]
    while True:
        answer = await router.acompletion("agent", messages, metadata={"selfreg_run": task})
        said = answer.choices[0].message.content
        if not (number := re.fullmatch(r"submit (\d+)", said)):
            return said
        messages += [{"role": "assistant", "content": said}, {"role": "user", "content": submit(int(number[1]))}]


async def main() -> None:
    options = read_options()
    litellm.custom_provider_map = [{"provider": "scripted", "custom_handler": Scripted()}]
    litellm.utils.custom_llm_setup()
    plugin = SelfregPlugin(options.recorder, strong="scripted/strong")
    litellm.callbacks = [plugin]
    deployments = [
        {"model_name": "agent", "litellm_params": {"model": f"scripted/{name}"}} for name in ("weak", "strong")
    ]
    router = litellm.Router(deployments, plugins=[plugin])
    answers = {}
    for task in TASKS:  # from the beginning, also after a crash: steps that were decided stay decided
        answers[task] = await work(router, task)
    report(options.recorder, answers)


if __name__ == "__main__":
    asyncio.run(main())
