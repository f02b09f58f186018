"""The README's example prints what the README says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def test_library_example() -> None:
    code, printed = re.search(r"```python\n(.*?)```\n\n```\n(.*?)```", README.read_text(), re.DOTALL).groups()
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == printed
    assert len(code.strip().splitlines()) <= 16


def test_every_path_that_is_named_exists() -> None:
    root = README.parent
    for path in re.findall(r"\]\(([^)#:]+)\)", README.read_text()):
        assert (root / path).exists(), path
