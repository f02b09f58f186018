"""The code of docs/runtime.md, docs/ledger.md and docs/people.md prints what the pages say."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
PAGES = {name: (DOCS / name).read_text(encoding="utf-8") for name in ("runtime.md", "ledger.md", "people.md")}
BLOCKS = {name: re.findall(r"```python\n(.*?)```\n\n```\n(.*?)```", page, re.DOTALL) for name, page in PAGES.items()}


@pytest.mark.parametrize(("code", "printed"), [block for blocks in BLOCKS.values() for block in blocks])
def test_documented_code(tmp_path, code, printed) -> None:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout == printed


def test_every_block_is_one_that_is_run() -> None:
    assert {name: len(blocks) for name, blocks in BLOCKS.items()} == {"runtime.md": 2, "ledger.md": 2, "people.md": 2}
