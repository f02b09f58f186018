"""The guides to formats and to routing say what is so."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from selfreg.data.formats import BUILT_IN

DOCS = Path(__file__).parents[2] / "docs"
EXAMPLE = re.compile(r"```python\n(.*?)```\n\n```\n(.*?)```", re.DOTALL)


def test_the_guide_to_formats_lists_each() -> None:
    rows = re.findall(r"^\| `(\w+)` \|", (DOCS / "formats.md").read_text(), re.MULTILINE)
    assert sorted(rows) == sorted(BUILT_IN)


def test_the_examples_of_routing_print_what_they_say(shared_data) -> None:
    examples = EXAMPLE.findall((DOCS / "routing.md").read_text())
    assert len(examples) == 2
    for code, printed in examples:
        done = subprocess.run(
            [sys.executable, "-c", code],
            check=True,
            capture_output=True,
            text=True,
            cwd=shared_data / "router_arena",
            env=dict(os.environ),
        )
        assert done.stdout == printed
