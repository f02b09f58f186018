"""An evaluation of Inspect with help once: ``python examples/frameworks/inspect_task.py FOLDER``.

It may be killed at any time; the next call retries the log that it left.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from guess import QUESTION, TASKS, read_options, reply, report, submit
from inspect_ai import Task, eval, eval_retry, task
from inspect_ai.dataset import Sample
from inspect_ai.log import list_eval_logs, read_eval_log
from inspect_ai.model import GenerateConfig, ModelAPI, ModelOutput, get_model, modelapi
from inspect_ai.scorer import includes
from inspect_ai.solver import use_tools
from inspect_ai.tool import Tool, tool

from selfreg.integrations.inspect_ai import help_solver


@modelapi("scripted")
class Scripted(ModelAPI):
    """In the place of a real model."""

    def __init__(self, model_name: str, **options: Any) -> None:
        super().__init__(model_name, config=GenerateConfig())

    async def generate(self, input: Any, tools: Any, tool_choice: Any, config: Any) -> ModelOutput:
        said = reply(self.model_name, input[-1].text)
        if isinstance(said, str):
            return ModelOutput.from_content(self.model_name, said)
        return ModelOutput.for_tool_call(self.model_name, "submit", {"number": said})


@tool(name="submit")
def submit_number() -> Tool:
    async def execute(number: int) -> str:
        """Submit a number.

        Args:
            number: The number.
        """
        return submit(number)

    return execute


@task
def guess_number() -> Task:
    samples = [Sample(QUESTION, target="It is 7.", id=name) for name in TASKS]
    options = read_options()
    return Task(dataset=samples, solver=[use_tools(submit_number()), help_solver(options.recorder)], scorer=includes())


def main() -> None:
    os.environ["INSPECT_DISPLAY"] = "none"
    options = read_options()
    logs = str(options.folder / "logs")
    left = list_eval_logs(logs) if Path(logs).exists() else []
    how: dict[str, Any] = {"log_dir": logs, "max_samples": 1, "model_roles": {"helper": "scripted/strong"}}
    if not left:
        (log,) = eval(guess_number(), model=get_model("scripted/weak"), **how)
    else:  # newest first
        log = read_eval_log(left[0])
        if log.status != "success":
            (log,) = eval_retry(left[0], log_dir=logs, max_samples=1)
    report(options.recorder, {str(one.id): one.output.completion for one in log.samples or ()})


if __name__ == "__main__":
    main()
