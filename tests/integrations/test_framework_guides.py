"""The code of docs/frameworks prints what the pages say."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "docs" / "frameworks"
# Page -> package that its code needs.
GUIDES = {
    "agent-framework.md": "agent_framework",
    "inspect.md": "inspect_ai",
    "langchain.md": "langchain",
    "litellm.md": "litellm",
    "mcp.md": "mcp",
    "mini-swe-agent.md": "minisweagent",
    "openai-agents.md": "agents",
    "pydantic-ai.md": "pydantic_ai",
    "opentelemetry.md": "opentelemetry.sdk",
}


@pytest.mark.parametrize("page", GUIDES)
def test_documented_code(page, tmp_path) -> None:
    pytest.importorskip(GUIDES[page], reason=f"{GUIDES[page]} is missing (extra 'adapters')")
    text = (FOLDER / page).read_text(encoding="utf-8")
    code, printed = re.search(r"```python\n(.*?)```\n\n```\n(.*?)```", text, re.DOTALL).groups()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=300)
    assert done.stdout == printed, done.stderr


@pytest.mark.parametrize("page", GUIDES)
def test_a_guide_is_one_screen(page) -> None:
    text = (FOLDER / page).read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 60
    code = re.search(r"```python\n(.*?)```", text, re.DOTALL).group(1)
    # The policy is the user's own; imports and blank lines aside, an agent with help has some 20 lines.
    assert len([line for line in code.splitlines() if line and not line.startswith(("from ", "import "))]) <= 22
