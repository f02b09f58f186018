"""mini-swe-agent with help once: ``python examples/frameworks/mini_swe_agent.py FOLDER``.

It may be killed at any time; the next call starts the agent again, and finds the decisions that were made.
"""

from __future__ import annotations

import os
from typing import Any

os.environ["MSWEA_SILENT_STARTUP"] = "1"

from guess import QUESTION, TASKS, read_options, reply, report
from minisweagent.agents.default import DefaultAgent
from minisweagent.environments.local import LocalEnvironment
from minisweagent.models.test_models import DeterministicModel, make_output

from selfreg.integrations.mini_swe_agent import HelpModel

CHECK = 'if [ {0} = 7 ]; then echo "right"; else echo "error: wrong number"; fi'
DONE = "echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT; echo '{0}'"


class Scripted(DeterministicModel):
    """In the place of a real model."""

    def query(self, messages: list[dict[str, Any]], **options: Any) -> dict[str, Any]:
        said = reply(self.config.model_name, messages[-1]["content"])
        command = DONE.format(said) if isinstance(said, str) else CHECK.format(said)
        return make_output(str(said), [{"command": command}], cost=0.0)


def main() -> None:
    options = read_options()
    weak, strong = (Scripted(outputs=[], model_name=name) for name in ("weak", "strong"))
    answers = {}
    for task in TASKS:
        model = HelpModel(weak, strong, options.recorder, run=task)
        agent = DefaultAgent(model, LocalEnvironment(), system_template="Guess.", instance_template="{{task}}")
        answers[task] = agent.run(QUESTION)["submission"].strip()
    report(options.recorder, answers)


if __name__ == "__main__":
    main()
