"""Inspect as a driver: an evaluation of one sample is a step; Inspect runs one evaluation at a time."""

from __future__ import annotations

import asyncio
import os
import tempfile
import threading
from typing import Any

from conformance import Driver, Models
from inspect_ai import Task, eval, eval_async
from inspect_ai.dataset import Sample
from inspect_ai.model import GenerateConfig, ModelAPI, ModelOutput, get_model, modelapi

from selfreg.integrations.inspect_ai import help_solver
from selfreg.runtime import Recorder

os.environ["INSPECT_DISPLAY"] = "none"
ONE_AT_A_TIME = threading.Lock()


@modelapi("scripted")
class Scripted(ModelAPI):
    """A model that answers by the script of `Models`."""

    def __init__(self, model_name: str, models: Models | None = None, **options: Any) -> None:
        super().__init__(model_name, config=GenerateConfig())
        self.models = models

    async def generate(self, input: Any, tools: Any, tool_choice: Any, config: Any) -> ModelOutput:
        said = await self.models.answer_async(self.model_name)
        return said if isinstance(said, ModelOutput) else ModelOutput.from_content(self.model_name, said)


def _arguments(recorder: Recorder, run: str, text: str, models: Models) -> dict[str, Any]:
    weak, strong = (get_model(f"scripted/{name}", models=models, memoize=False) for name in ("weak", "strong"))
    return {
        "tasks": Task(dataset=[Sample(text, id=run)], solver=help_solver(recorder, run=run)),
        "model": weak,
        "model_roles": {"helper": strong},
        "log_dir": tempfile.mkdtemp(),
        "log_model_api": False,
    }


def _answer(logs: Any) -> str:
    (log,) = logs
    if log.status != "success":
        raise RuntimeError(log.status if log.error is None else log.error.message)
    return log.samples[0].output.completion


def call(*arguments: Any) -> str:
    with ONE_AT_A_TIME:
        return _answer(eval(**_arguments(*arguments)))


async def call_async(*arguments: Any) -> str:
    while not ONE_AT_A_TIME.acquire(blocking=False):
        await asyncio.sleep(0.01)
    try:
        logs = await eval_async(**_arguments(*arguments))
        # In a thread: Inspect loads samples when they are read, and within a loop it then patches asyncio.
        return await asyncio.to_thread(_answer, logs)
    finally:
        ONE_AT_A_TIME.release()


DRIVER = Driver(call, call_async)
