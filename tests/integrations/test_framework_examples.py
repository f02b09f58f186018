"""The examples run with the real frameworks: alone, helped once, killed in the middle and resumed, then refused."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "examples" / "frameworks"
# Example -> package that it needs.
EXAMPLES = {
    "inspect_task.py": "inspect_ai",
    "mini_swe_agent.py": "minisweagent",
    "microsoft_agent.py": "agent_framework",
    "openai_agent.py": "agents",
    "pydantic_agent.py": "pydantic_ai",
    "langchain_agent.py": "langgraph.checkpoint.sqlite",
    "mcp_agent.py": "mcp",
    "litellm_agent.py": "litellm",
}
ALONE = """\
task 1: I give up. 0 of 2 steps helped
task 2: I give up. 0 of 2 steps helped
left: 0
"""
HELPED = """\
task 1: It is 7. 1 of 3 steps helped
task 2: I give up. 0 of 2 steps helped
left: 0
"""


@pytest.fixture(params=EXAMPLES)
def run(request: pytest.FixtureRequest, tmp_path: Path):
    """Runs an example in a folder of its own."""
    pytest.importorskip(EXAMPLES[request.param], reason=f"{EXAMPLES[request.param]} is missing (extra 'adapters')")

    def run_example(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(FOLDER / request.param), str(tmp_path / "run"), *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=300, env={**os.environ, **environment}, cwd=tmp_path
        )

    return run_example


def test_the_task_fails_alone(run) -> None:
    done = run("--budget", "0")
    assert done.stdout == ALONE, done.stderr


def test_killed_in_the_middle_and_resumed(run) -> None:
    killed = run(GUESS_KILL="1")
    assert killed.returncode == -9, killed.stderr
    done = run()
    assert done.stdout == HELPED, done.stderr
    again = run()  # everything is done: nothing is paid, decided or said anew
    assert again.stdout == HELPED, again.stderr
